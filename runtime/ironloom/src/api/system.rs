//! The clock, health and metrics.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::body::{Json, Nothing, Optional};
use super::facade::{Health, SetLogLevel, SetTime, UsageQuery};
use super::params::Params;
use super::problem::Problem;
use super::{Api, answers};
use crate::access::{Action, Principal, Resource, authorize};
use crate::telemetry::METRICS_TYPE;

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
    answers::done(&api, &api.node.set_time(request, dry_run).await?).await
}

/// The log lines that are written.
pub(super) async fn log_level(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.log_level()).await
}

/// Writes other log lines.
pub(super) async fn set_log_level(
    State(api): State<Api>,
    Json(request): Json<SetLogLevel>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.set_log_level(request.level)?).await
}

/// Takes a changed configuration.
pub(super) async fn reload(
    State(api): State<Api>,
    mut params: Params,
    Optional(Nothing {}): Optional<Nothing>,
) -> Result<Response, Problem> {
    let dry_run = params.flag("dry-run")?;
    answers::done(&api, &api.node.reload(dry_run).await?).await
}

/// Answers who and what takes how much.
pub(super) async fn usage(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let query = UsageQuery { sort: params.value("sort")?.unwrap_or_default(), limit: params.limit()? };
    let usage = api.node.usage(query).await?;
    answers::long(&api, StatusCode::OK, usage).await
}

/// Answers how the server is.
pub(super) async fn status(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.status().await?).await
}

/// Answers whether the process is alive.
pub(super) async fn health(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &Health { alive: true, version: env!("CARGO_PKG_VERSION").to_owned() }).await
}

/// Answers whether the server is ready; why not, and how it is, only to whoever may read: that names what runs here.
pub(super) async fn ready(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    let of = |ready| if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if authorize(&principal, Action::Read, Resource::Platform).is_ok() {
        let readiness = api.node.readiness().await?;
        return answers::json(&api, of(readiness.ready), &readiness).await;
    }
    let ready = api.node.is_ready();
    answers::json(&api, of(ready), &Ready { ready }).await
}

/// All that strangers are told.
#[derive(Serialize)]
struct Ready {
    ready: bool,
}

pub(super) async fn metrics(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    let of_all = authorize(&principal, Action::Administer, Resource::Platform).is_ok();
    answers::text(&api, StatusCode::OK, METRICS_TYPE, api.node.metrics(of_all).into_bytes()).await
}
