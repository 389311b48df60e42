//! `/v1/connectors`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::body::{Json, Nothing, Optional};
use super::facade::{ConnectorTable, NumberedQuery, Order, Page};
use super::params::{Name, Params};
use super::problem::Problem;
use super::{Api, answers};

pub(super) async fn list(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &Page { items: api.node.connectors(), next: None }).await
}

/// Shows one of the connectors, with its connection.
pub(super) async fn show(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.connector(&name)?).await
}

/// Adds one, 201, or changes one that was added, 200.
pub(super) async fn set(
    State(api): State<Api>,
    Name(name): Name,
    Json(table): Json<ConnectorTable>,
) -> Result<Response, Problem> {
    let (status, is_new) = api.node.set_connector(name.clone(), table).await?;
    if is_new {
        answers::created(&api, &format!("/v1/connectors/{name}"), &status).await
    } else {
        answers::done(&api, &status).await
    }
}

pub(super) async fn remove(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    api.node.remove_connector(name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn stop(
    State(api): State<Api>,
    Name(name): Name,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.stop_connector(name, true).await?).await
}

pub(super) async fn start(
    State(api): State<Api>,
    Name(name): Name,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.stop_connector(name, false).await?).await
}

/// The messages that a connector has set aside: whoever asks wants to see the latest.
pub(super) async fn dead_letters(
    State(api): State<Api>,
    Name(name): Name,
    mut params: Params,
) -> Result<Response, Problem> {
    let order = params.value("order")?.unwrap_or(Order::Newest);
    let query = NumberedQuery { after: params.after()?, order, limit: params.limit()? };
    answers::page(&api, move |node| async move { node.connector_dead_letters(&name, query) }).await
}
