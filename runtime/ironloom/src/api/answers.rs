//! The forms of answers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::facade::{Answer, Facade, MAX_PAGE_BYTES, Page};
use super::memory::{PATIENCE, Share};
use super::problem::{PROBLEM_JSON, Problem};
use super::{Api, JSON_TYPE};
use crate::aside::aside;

/// All long answers in transfer, and so the longest one.
pub(super) const MAX_ANSWER: usize = 64 << 20;
/// The longest refusal of the framework's own that is worth showing.
const MAX_TEXT: usize = 4_096;

/// Turns what the framework refuses by itself into a problem as well.
pub(super) async fn as_problem(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let own = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == PROBLEM_JSON || kind == JSON_TYPE);
    if own {
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_TEXT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let problem = match status {
        StatusCode::BAD_REQUEST => Problem::malformed("malformed", text),
        StatusCode::NOT_FOUND => Problem::not_found(text),
        StatusCode::METHOD_NOT_ALLOWED => Problem::method_not_allowed(text),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(text),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::unsupported_type(text),
        _ if status.is_client_error() => {
            let mut problem = Problem::malformed("malformed", text);
            problem.status = status.as_u16();
            problem
        }
        _ => Problem::internal(text),
    };
    let mut answer = problem.into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allow.clone());
    }
    answer
}

/// Turns a handler's panic into an answer; the panic hook has logged its place.
pub(super) fn of_panic() -> Response {
    Problem::internal("a part of the server failed while it worked on this request").into_response()
}

/// An answer as JSON. A long one takes its share of the memory for answers.
pub(super) async fn json(api: &Api, status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    let body = write(value)?;
    text(api, status, JSON_TYPE, body).await
}

/// An answer as JSON with status 200.
pub(super) async fn ok(api: &Api, value: &impl Serialize) -> Result<Response, Problem> {
    json(api, StatusCode::OK, value).await
}

/// An answer as JSON that may be long: it is written aside.
pub(super) async fn long(
    api: &Api,
    status: StatusCode,
    value: impl Serialize + Send + 'static,
) -> Result<Response, Problem> {
    text(api, status, JSON_TYPE, written_aside(value).await?).await
}

/// The long answer to something that is done: see [`told`].
pub(super) async fn done_long(
    api: &Api,
    status: StatusCode,
    value: impl Serialize + Send + 'static,
) -> Result<Response, Problem> {
    Ok(told(api, status, written_aside(value).await?).await)
}

async fn written_aside(value: impl Serialize + Send + 'static) -> Result<Vec<u8>, Problem> {
    aside(move || write(&value)).await.map_err(|error| failed(&error))?
}

/// An answer as JSON, for which a share was taken before.
pub(super) fn within(
    mut share: Share,
    status: StatusCode,
    value: &impl Serialize,
) -> Result<Response, Problem> {
    let body = write(value)?;
    share.fit(body.len());
    Ok(typed(status, JSON_TYPE, share.with(body)))
}

/// The answer to something that is done, as JSON: see [`told`].
pub(super) async fn done(api: &Api, value: &impl Serialize) -> Result<Response, Problem> {
    Ok(told(api, StatusCode::OK, write(value)?).await)
}

/// 201: something new, and where it is.
pub(super) async fn created(api: &Api, path: &str, value: &impl Serialize) -> Result<Response, Problem> {
    let mut response = told(api, StatusCode::CREATED, write(value)?).await;
    // Ids and digests are plain ASCII; a connector of a name that isn't has no such header.
    if let Ok(path) = HeaderValue::try_from(path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
    Ok(response)
}

/// An answer of this type.
pub(super) async fn text(
    api: &Api,
    status: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
) -> Result<Response, Problem> {
    if body.len() > MAX_ANSWER {
        let bytes = body.len();
        let detail = format!("the answer would have {bytes} bytes; at most {MAX_ANSWER} are possible");
        return Err(Problem::refused("answer-too-large", detail).hint("Ask for less of it."));
    }
    let mut share = api.memory.answers.share();
    share.grow(body.len()).await?;
    Ok(typed(status, kind, share.with(body)))
}

/// The answer to a deed. It goes out although others hold all the memory for long answers: whoever were refused it, would do it
/// once more.
pub(super) async fn told(api: &Api, status: StatusCode, body: Vec<u8>) -> Response {
    let mut share = api.memory.answers.share();
    let has_share = share.grow(body.len()).await.is_ok();
    if !has_share {
        tracing::warn!(
            bytes = body.len(),
            "other answers hold all the memory for them; this one goes out beside it"
        );
    }
    typed(status, JSON_TYPE, share.with(body))
}

/// A page of a list as JSON.
pub(super) async fn page<T, F>(
    api: &Api,
    find: impl FnOnce(Arc<dyn Facade>) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    T: Serialize + Send + 'static,
    F: Future<Output = Answer<Page<T>>> + Send + 'static,
{
    let (body, ()) = build(api, PATIENCE, find, |page| Ok((write(&page)?, ()))).await?;
    Ok(typed(StatusCode::OK, JSON_TYPE, body))
}

/// Finds and writes a page aside. Its share of the memory for pages at work is taken before it is begun, and
/// belongs to the work: a caller that hangs up and asks again can't have more of them built than there is
/// memory. It waits for that share as long as the caller's `patience` goes, since work ends by itself.
///
/// What was written needs a share of the memory for answers, where it is long. That is held until the peer
/// has read it, so nobody waits for it with a page in hand: a short page is never behind unread long ones.
pub(super) async fn build<T, F, U>(
    api: &Api,
    patience: Duration,
    find: impl FnOnce(Arc<dyn Facade>) -> F + Send + 'static,
    write: impl FnOnce(T) -> Result<(Vec<u8>, U), Problem> + Send + 'static,
) -> Result<(Bytes, U), Problem>
where
    T: Send + 'static,
    U: Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    let mut work = api.memory.pages.share();
    // What is found, and what is written of it.
    work.grow_within(2 * MAX_PAGE_BYTES, patience).await?;
    let mut share = api.memory.answers.share();
    let node = Arc::clone(&api.node);
    let building = tokio::spawn(async move {
        let found = find(node).await?;
        let written = aside(move || write(found)).await;
        let (bytes, rest) = written.map_err(|error| failed(&error))??;
        share.grow_within(bytes.len(), Duration::ZERO).await?;
        drop(work);
        Ok((share.with(bytes), rest))
    });
    building.await.map_err(|error| failed(&error))?
}

fn failed(error: &dyn std::fmt::Display) -> Problem {
    Problem::internal(format!("the answer could not be built: {error}"))
}

pub(super) fn write(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value)
        .map_err(|error| Problem::internal(format!("the answer can't be written: {error}")))
}

/// An answer of this type, whose bytes hold their share of the memory.
pub(super) fn typed(status: StatusCode, kind: &'static str, body: Bytes) -> Response {
    let mut response = (status, Body::from(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
