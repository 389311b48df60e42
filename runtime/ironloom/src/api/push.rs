//! `POST /v1/readings`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::facade::{Detail, Place, Push, Pushed, RETRY_SOON, RequestKey};
use super::params::Params;
use super::problem::Problem;
use super::readings::{Form, Mode, Parsed, parse};
use super::{Api, JSON_TYPE, KEY_HEADER, NDJSON_TYPE, answers, body, explain, guard};
use crate::aside::aside_if;
use ironloom_types::ids::Sequence;
use ironloom_types::limits::MAX_BODY;

const MAX_KEY: usize = 64;

/// Bodies longer than this are read aside: it takes milliseconds.
pub(super) const READ_ASIDE: usize = 256 << 10;

#[derive(Serialize)]
struct Accepted {
    accepted: u64,
    through: Sequence,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    /// With `?partial=true`: the number of bad lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    /// With `?partial=true`: the first bad lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<Detail>>,
}

/// Takes readings, and answers once they are durable.
pub(super) async fn push(
    State(api): State<Api>,
    mut params: Params,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    guard::need_type(&headers, &[NDJSON_TYPE, JSON_TYPE])?;
    let form = match guard::media_type(&headers).as_deref() {
        Some(JSON_TYPE) => Form::Json,
        _ => Form::Lines,
    };
    let mode = if params.flag("partial")? { Mode::PARTIAL } else { Mode::WHOLE };
    let key = idempotency_key(&headers)?;
    let body = body::take(&api.memory.readings, &headers, body, MAX_BODY).await?;
    let (mut parsed, key) = read(&api, body, form, mode, key.map(|key| (key.to_vec(), uri))).await?;
    let pushed = match (take(&api, &mut parsed, mode, key).await, key) {
        // What is refused now, or has nothing good in it now, may be what was taken before: the clock has been
        // set since, or the disk is full by now.
        (refused, Some(key)) if refused.as_ref().map_or(true, |pushed| pushed.accepted == 0) => {
            match api.node.find_push(key).await? {
                Some(before) => before,
                None => refused?,
            }
        }
        (taken, _) => taken?,
    };
    // A line that is bad now isn't one that was refused then.
    let bad = if pushed.duplicate { Vec::new() } else { parsed.bad };
    let refused = mode.partial.then(|| parsed.lines.saturating_sub(pushed.accepted));
    let accepted = Accepted {
        accepted: pushed.accepted,
        through: pushed.through,
        duplicate: pushed.duplicate,
        refused,
        errors: mode.partial.then_some(bad),
    };
    answers::ok(&api, &accepted).await
}

/// Hands readings over, if there are only good ones or `partial` allows others.
async fn take(
    api: &Api,
    parsed: &mut Parsed,
    mode: Mode,
    key: Option<RequestKey>,
) -> Result<Pushed, Problem> {
    if parsed.needs_clock {
        return Err(no_clock());
    }
    if parsed.bad_lines > 0 && !mode.partial {
        return Err(refusal(std::mem::take(&mut parsed.bad)));
    }
    // Where nothing can be taken, nothing is written that could remember the key, and the same request
    // again takes nothing again.
    let columns = std::mem::take(&mut parsed.columns);
    let new_points = std::mem::take(&mut parsed.new_points);
    api.node.submit(Push { columns, new_points, key, stream: None })?.await
}

pub(super) fn no_clock() -> Problem {
    let detail = "readings need an `at` of their own: the machine's clock is wrong or, under `clock = \"feed\"`, \
                  no reading has brought a time yet";
    Problem::unavailable("clock", detail, RETRY_SOON)
}

/// Reads the body, and hashes it where it has a key; a long one aside.
async fn read(
    api: &Api,
    body: Bytes,
    form: Form,
    mode: Mode,
    key: Option<(Vec<u8>, Uri)>,
) -> Result<(Parsed, Option<RequestKey>), Problem> {
    let node = Arc::clone(&api.node);
    let is_long = body.len() > READ_ASIDE;
    let work = move || {
        let parsed = parse(&body, form, node.ingest_rules(), || node.lookup(), mode);
        (parsed, key.map(|(key, uri)| request_key(&key, &uri, &body)))
    };
    let read = aside_if(is_long, work).await;
    read.map_err(|error| Problem::internal(format!("the body could not be read: {error}")))
}

const TAKE_THE_GOOD: &str = "With ?partial=true the valid lines are accepted.";

/// 403 where nothing else is wrong than that lines name reserved points, 422 where their points are too many.
pub(super) fn refusal(bad: Vec<Detail>) -> Problem {
    let first =
        bad.first().map_or(String::new(), |bad| match bad.place.as_ref().and_then(|place| place.line) {
            Some(line) => format!("line {line}: {}", bad.detail),
            None => bad.detail.clone(),
        });
    let more = if bad.len() > 1 {
        format!("; {} more are listed in `errors`", bad.len() - 1)
    } else {
        String::new()
    };
    let detail = format!("nothing was accepted; {first}{more}");
    let place = bad.first().and_then(|bad| bad.place.clone()).unwrap_or_default();
    let are_all = |kind: &str| bad.iter().all(|bad| bad.kind == kind);
    let problem = if are_all(explain::RESERVED) {
        Problem::forbidden(explain::RESERVED, detail)
    } else if are_all(explain::TOO_MANY_POINTS) {
        Problem::refused(explain::TOO_MANY_POINTS, detail).hint(TAKE_THE_GOOD)
    } else {
        Problem::malformed("bad-lines", detail).hint(TAKE_THE_GOOD)
    };
    problem.at(place).with(bad)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.as_bytes();
    if is_key(key) && values.next().is_none() {
        return Ok(Some(key));
    }
    let detail = format!("the Idempotency-Key must be 1 to {MAX_KEY} visible ASCII characters, once");
    Err(Problem::malformed("bad-key", detail).at(Place::field("Idempotency-Key")))
}

fn is_key(key: &[u8]) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
}

/// The key of a stream.
pub(super) fn stream_key(key: String) -> Result<Arc<str>, Problem> {
    if is_key(key.as_bytes()) {
        return Ok(key.into());
    }
    let detail = format!("the key of a stream must be 1 to {MAX_KEY} visible ASCII characters");
    Err(Problem::malformed("bad-key", detail).at(Place::field("key")))
}

pub(super) fn request_key(key: &[u8], uri: &Uri, body: &[u8]) -> RequestKey {
    let mut hash = Sha256::new();
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    for part in [Method::POST.as_str().as_bytes(), path.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    RequestKey { key: half(Sha256::digest(key).into()), request: half(hash.finalize().into()) }
}

fn half(digest: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}
