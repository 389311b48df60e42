//! What happens to answers on their way out.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::{PROBLEM_JSON, Problem};
use super::{Api, JSON_TYPE};
use crate::telemetry::Status;

/// Counts requests by status.
pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    api.metrics.requests.get_or_create(&Status { status: response.status().as_u16() }).inc();
    response
}

/// The longest refusal of the framework's own that is worth showing.
const MAX_TEXT: usize = 4_096;

/// Turns what the framework refuses by itself into problems as well.
pub(super) async fn as_problems(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let own = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == PROBLEM_JSON || kind == JSON_TYPE);
    if own || !(status.is_client_error() || status.is_server_error()) {
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

/// An answer as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => typed(status, JSON_TYPE, body),
        Err(error) => Problem::internal(format!("the answer can't be written: {error}")).into_response(),
    }
}

/// An answer as JSON with status 200.
pub(super) fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

/// An answer of this type.
pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = (status, body.into()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
