//! Set-points on their way to machines, and the kill switch.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::body::{Nothing, Optional};
use super::facade::{HaltRequest, IntentDeed};
use super::params::{Id, Intent, Params};
use super::problem::Problem;
use super::{Api, answers};

/// The points that an installation's set-points go to.
pub(super) async fn list(
    State(api): State<Api>,
    Id(id): Id,
    mut params: Params,
) -> Result<Response, Problem> {
    let page = params.page()?;
    answers::page(&api, move |node| async move { node.intents(id, page).await }).await
}

pub(super) async fn confirm(
    State(api): State<Api>,
    Id(id): Id,
    Intent(intent): Intent,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    api.node.change_intent(id, intent, IntentDeed::Confirm).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn dismiss(
    State(api): State<Api>,
    Id(id): Id,
    Intent(intent): Intent,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    api.node.change_intent(id, intent, IntentDeed::Dismiss).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The kill switch.
pub(super) async fn halted(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.halted(params.tenant())).await
}

/// Turns the kill switch on.
pub(super) async fn halt(
    State(api): State<Api>,
    params: Params,
    Optional(request): Optional<HaltRequest>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.halt(params.tenant(), request).await?).await
}

/// Turns the kill switch off.
pub(super) async fn release(
    State(api): State<Api>,
    params: Params,
    Optional(request): Optional<HaltRequest>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.release(params.tenant(), request).await?).await
}
