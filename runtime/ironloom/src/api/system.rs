//! Alarms, connectors, health and metrics.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::body::{Json, Nothing, Optional};
use super::facade::{Page, SetTime};
use super::params::{AlarmId, Params};
use super::problem::Problem;
use super::{Api, answers};
use crate::telemetry::METRICS_TYPE;

/// The alarms that stand.
pub(super) async fn alarms(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let (installation, page) = (params.value("installation")?, params.page()?);
    answers::page(&api, move |node| async move { node.alarms(installation, page).await }).await
}

/// Acknowledges an alarm.
pub(super) async fn acknowledge(
    State(api): State<Api>,
    AlarmId(id): AlarmId,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.acknowledge(id).await?).await
}

/// The site's clock.
pub(super) async fn clock(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.clock()).await
}

/// Sets journal time back to the present.
pub(super) async fn set_time(
    State(api): State<Api>,
    mut params: Params,
    Json(request): Json<SetTime>,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry-run")?;
    answers::ok(&api, &api.node.set_time(request, dry_run).await?).await
}

pub(super) async fn connectors(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &Page { items: api.node.connectors(), next: None }).await
}

/// Answers whether the process is alive.
pub(super) async fn health(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &json!({"alive": true, "version": env!("CARGO_PKG_VERSION")})).await
}

/// Answers whether the server is ready.
pub(super) async fn ready(State(api): State<Api>) -> Result<Response, Problem> {
    let readiness = api.node.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answers::json(&api, status, &readiness).await
}

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    answers::text(&api, StatusCode::OK, METRICS_TYPE, api.node.metrics().into_bytes()).await
}
