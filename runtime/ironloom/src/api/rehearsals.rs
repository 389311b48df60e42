//! `/v1/installations/{id}/rehearsals`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::body::Json;
use super::facade::{Page, RehearsalRequest};
use super::params::{Id, Number, Params};
use super::problem::Problem;
use super::{Api, answers};

/// Begins a rehearsal, which goes on by itself.
pub(super) async fn start(
    State(api): State<Api>,
    Id(id): Id,
    Json(request): Json<RehearsalRequest>,
) -> Result<Response, Problem> {
    let begun = api.node.rehearse(id, request).await?;
    let path = format!("/v1/installations/{}/rehearsals/{}", begun.installation, begun.number);
    answers::created(&api, &path, &begun).await
}

/// Those of an installation, the newest first.
pub(super) async fn list(State(api): State<Api>, Id(id): Id, _: Params) -> Result<Response, Problem> {
    answers::ok(&api, &Page { items: api.node.rehearsals(&id)?, next: None }).await
}

pub(super) async fn show(
    State(api): State<Api>,
    Id(id): Id,
    Number(number): Number,
) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.rehearsal(&id, number)?).await
}

/// Ends one that is under way, and forgets it.
pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id,
    Number(number): Number,
) -> Result<Response, Problem> {
    api.node.cancel_rehearsal(&id, number)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
