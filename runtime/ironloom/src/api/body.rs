//! Takes request bodies in, within their limits.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use super::facade::{Place, RETRY_SOON};
use super::problem::Problem;
use super::{Api, JSON_TYPE, guard};

/// The longest a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// The longest JSON body that isn't readings.
const MAX_JSON: usize = 1 << 20;

/// A body, and its share of the memory for all bodies.
pub struct Taken<'a> {
    /// The bytes.
    pub bytes: Bytes,
    _share: SemaphorePermit<'a>,
}

/// Reads the whole body.
pub async fn take<'a>(
    api: &'a Api,
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<Taken<'a>, Problem> {
    let too_large = || Problem::too_large(format!("the body may have at most {most} bytes"));
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let arrival = async {
        let mut body = body;
        if announced.is_some_and(|length| length > most) {
            discard(&mut body, most).await;
            return Err(too_large());
        }
        let share = api.bodies.acquire_many(Api::kib(announced.unwrap_or(most))).await;
        let share = share.map_err(|_| Problem::unavailable("stopping", "the server stops", RETRY_SOON))?;
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| Problem::malformed("body", format!("the body broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > most {
                discard(&mut body, most).await;
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Taken { bytes: bytes.into(), _share: share })
    };
    let late = |_| Problem::too_slow(format!("the body must arrive within {} s", ARRIVAL.as_secs()));
    tokio::time::timeout(ARRIVAL, arrival).await.map_err(late)?
}

/// Reads on for a while without keeping anything: most callers read the answer only once they have
/// sent all, and a connection that is closed before takes the answer with it.
async fn discard(body: &mut Body, most: usize) {
    let mut seen = 0;
    while seen <= most {
        match body.frame().await {
            Some(Ok(frame)) => seen += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}

/// Reads a body of JSON; an empty one is the default.
pub async fn json<T: DeserializeOwned + Default>(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    guard::need_type(headers, &[JSON_TYPE])?;
    let taken = take(api, headers, body, MAX_JSON).await?;
    if taken.bytes.is_empty() {
        return Ok(T::default());
    }
    parse(&taken.bytes)
}

/// Reads a body of JSON that must be there.
pub async fn required_json<T: DeserializeOwned>(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    guard::need_type(headers, &[JSON_TYPE])?;
    let taken = take(api, headers, body, MAX_JSON).await?;
    parse(&taken.bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place =
            Place { line: Some(error.line() as u64), column: Some(error.column() as u64), field: None };
        let kind = if error.is_data() { "bad-field" } else { "not-json" };
        Problem::malformed(kind, format!("the body can't be read: {error}")).at(place)
    })
}
