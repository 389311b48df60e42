//! `GET /v1/backup`: a backup as it is written.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;

use super::Api;
use super::facade::BackupStream;
use super::guard::refuse_other_sites;
use super::held::Held;
use super::params::Params;
use super::problem::Problem;
use crate::backup::BACKUP_TYPE;
use ironloom_apps::quantity::Bytes;
use ironloom_types::limits::MIB;

/// Bytes a second, where nobody asks for others: it leaves most of a disk to readings and apps.
const PACE: Bytes = Bytes(64 * MIB);
/// A slower one would hold the store for too long.
const LEAST_PACE: Bytes = Bytes(MIB);

/// Streams a backup. Its last part says that it is whole.
pub(super) async fn backup(
    State(api): State<Api>,
    method: Method,
    headers: HeaderMap,
    mut params: Params,
    held: Option<Extension<Held>>,
) -> Result<Response, Problem> {
    refuse_other_sites(&headers)?;
    let pace = params.value::<Bytes>("pace")?.unwrap_or(PACE);
    if pace < LEAST_PACE {
        let detail =
            format!("the parameter \"pace\": {pace} a second is too slow; it must be at least {LEAST_PACE}");
        return Err(Problem::malformed("bad-parameter", detail));
    }
    let body = if method == Method::HEAD {
        // Nobody would read it.
        Body::empty()
    } else {
        let BackupStream { mut chunks } = api.node.backup(pace.0).await?;
        let chunks = poll_fn(move |context| chunks.poll_recv(context));
        // Cut off without its last part, so that nobody takes it for whole.
        match held {
            Some(Extension(held)) => Body::from_stream(chunks.take_until(async move { held.lost().await })),
            None => Body::from_stream(chunks),
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(BACKUP_TYPE));
    Ok(response)
}
