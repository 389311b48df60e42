//! `/v1/installations` and what lies below each.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::facade::{Backlog, InstallRequest, OutputsQuery, Page, StateItem};
use super::journal::readings_query;
use super::params::{self, Params};
use super::problem::Problem;
use super::{Api, answers, body};
use ironloom_types::ids::Ordinal;

/// Installs: 201, or 200 for a dry run.
pub async fn install(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut params = Params::of(&uri)?;
    let dry_run = params.flag("dry-run")?;
    params.finish()?;
    let request: InstallRequest = body::required_json(&api, &headers, body).await?;
    let installed = api.node.install(request, dry_run).await?;
    Ok(answers::json(if dry_run { StatusCode::OK } else { StatusCode::CREATED }, &installed))
}

/// Lists them.
pub async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut params = Params::of(&uri)?;
    let page = params.page()?;
    params.finish()?;
    Ok(answers::ok(&api.node.installations(page).await?))
}

/// Shows one.
pub async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    Ok(answers::ok(&api.node.installation(params::installation(&id)?).await?))
}

/// Uninstalls one.
pub async fn uninstall(
    State(api): State<Api>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = params::installation(&id)?;
    let mut params = Params::of(&uri)?;
    let purge = params.flag("purge")?;
    params.finish()?;
    api.node.uninstall(id, purge).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Resume {
    backlog: Backlog,
}

/// Pauses one.
pub async fn pause(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = params::installation(&id)?;
    let Nothing {} = body::json(&api, &headers, body).await?;
    Ok(answers::ok(&api.node.pause(id).await?))
}

/// Resumes one.
pub async fn resume(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = params::installation(&id)?;
    let Resume { backlog } = body::json(&api, &headers, body).await?;
    Ok(answers::ok(&api.node.resume(id, backlog).await?))
}

/// What its outputs gave.
pub async fn outputs(State(api): State<Api>, Path(id): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let id = params::installation(&id)?;
    let mut params = Params::of(&uri)?;
    let query = OutputsQuery { output: params.value("output")?, readings: readings_query(&mut params)? };
    params.finish()?;
    Ok(answers::ok(&api.node.outputs(id, query).await?))
}

#[derive(Serialize)]
struct Base64 {
    base64: String,
}

#[derive(Serialize)]
struct StateEntry {
    key: Box<str>,
    value: Base64,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Box<RawValue>>,
}

impl From<StateItem> for StateEntry {
    fn from(item: StateItem) -> Self {
        // Shown as it stands, so that its numbers aren't changed on the way.
        let json = std::str::from_utf8(&item.value)
            .ok()
            .and_then(|text| RawValue::from_string(text.to_owned()).ok());
        Self { key: item.key, value: Base64 { base64: BASE64.encode(&item.value) }, json }
    }
}

/// A page of its state.
pub async fn state(State(api): State<Api>, Path(id): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let id = params::installation(&id)?;
    let mut params = Params::of(&uri)?;
    let prefix = params.text("prefix").unwrap_or_default();
    let page = params.page()?;
    params.finish()?;
    let Page { items, next } = api.node.state(id, prefix, page).await?;
    let items: Vec<StateEntry> = items.into_iter().map(StateEntry::from).collect();
    Ok(answers::ok(&Page { items, next }))
}

/// Its log.
pub async fn logs(State(api): State<Api>, Path(id): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let id = params::installation(&id)?;
    let mut params = Params::of(&uri)?;
    let (after, limit) = (params.value("after")?, params.limit()?);
    params.finish()?;
    Ok(answers::ok(&api.node.logs(id, after, limit).await?))
}

/// Its invocations.
pub async fn invocations(
    State(api): State<Api>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = params::installation(&id)?;
    let mut params = Params::of(&uri)?;
    let (after, limit) = (params.value("after")?.unwrap_or(0), params.limit()?);
    params.finish()?;
    Ok(answers::ok(&api.node.invocations(id, Ordinal(after), limit).await?))
}

/// Its dead letters.
pub async fn dead_letters(
    State(api): State<Api>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = params::installation(&id)?;
    let mut params = Params::of(&uri)?;
    let (after, limit) = (params.value("after")?.unwrap_or(0), params.limit()?);
    params.finish()?;
    Ok(answers::ok(&api.node.dead_letters(id, after, limit).await?))
}

/// Runs a dead letter again.
pub async fn requeue(
    State(api): State<Api>,
    Path((id, number)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (id, number) = (params::installation(&id)?, params::number(&number)?);
    let Nothing {} = body::json(&api, &headers, body).await?;
    api.node.requeue(id, number).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Deletes a dead letter.
pub async fn delete_dead_letter(
    State(api): State<Api>,
    Path((id, number)): Path<(String, String)>,
) -> Result<Response, Problem> {
    api.node.delete_dead_letter(params::installation(&id)?, params::number(&number)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
