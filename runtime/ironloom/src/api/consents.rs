//! `/v1/consents`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::body::Json;
use super::condition::Tag;
use super::facade::ConsentGiven;
use super::params::{Id, Params};
use super::problem::Problem;
use super::{Api, answers};

pub(super) async fn list(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let (tenant, page) = (params.tenant(), params.page()?);
    answers::page(&api, move |node| async move { node.consents(tenant, page).await }).await
}

pub(super) async fn show(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.consent(id).await?).await
}

/// Consents, and begins the revision that waited.
pub(super) async fn accept(
    State(api): State<Api>,
    Id(id): Id,
    Json(given): Json<ConsentGiven>,
) -> Result<Response, Problem> {
    let revised = api.node.accept_consent(id, given).await?;
    let answer = answers::done(&api, &revised).await?;
    Ok(Tag::put(&revised.installation, answer))
}

pub(super) async fn refuse(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    api.node.refuse_consent(id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
