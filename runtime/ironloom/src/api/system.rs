//! Alarms, connectors, health and metrics.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::facade::Page;
use super::params::Params;
use super::problem::Problem;
use super::{Api, answers, body};
use crate::telemetry::METRICS_TYPE;

/// The alarms that stand.
pub async fn alarms(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut params = Params::of(&uri)?;
    let (installation, page) = (params.value("installation")?, params.page()?);
    params.finish()?;
    Ok(answers::ok(&api.node.alarms(installation, page).await?))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Acknowledges an alarm.
pub async fn acknowledge(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Nothing {} = body::json(&api, &headers, body).await?;
    Ok(answers::ok(&api.node.acknowledge(id).await?))
}

/// The connectors.
pub async fn connectors(State(api): State<Api>) -> Response {
    answers::ok(&Page { items: api.node.connectors(), next: None })
}

/// Whether the process lives.
pub async fn health() -> Response {
    answers::ok(&json!({"alive": true}))
}

/// Whether it does its work.
pub async fn ready(State(api): State<Api>) -> Response {
    let readiness = api.node.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answers::json(status, &readiness)
}

/// The metrics.
pub async fn metrics(State(api): State<Api>) -> Response {
    answers::typed(StatusCode::OK, METRICS_TYPE, api.node.metrics())
}
