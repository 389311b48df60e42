//! `/v1/packages`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

use super::params::{self, Params};
use super::problem::Problem;
use super::{Api, PACKAGE_TYPE, answers, body, guard};
use ironloom_types::limits::MAX_PACKAGE;

/// Takes a package: 201, or 200 where it was known.
pub async fn add(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    guard::need_type(&headers, &[PACKAGE_TYPE])?;
    Params::of(&uri)?.finish()?;
    let taken = body::take(&api, &headers, body, MAX_PACKAGE).await?;
    let (package, new) = api.node.add_package(taken.bytes.clone()).await?;
    Ok(answers::json(if new { StatusCode::CREATED } else { StatusCode::OK }, &package))
}

/// Lists them.
pub async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut params = Params::of(&uri)?;
    let page = params.page()?;
    params.finish()?;
    Ok(answers::ok(&api.node.packages(page).await?))
}

/// Shows one.
pub async fn show(State(api): State<Api>, Path(digest): Path<String>) -> Result<Response, Problem> {
    Ok(answers::ok(&api.node.package(params::digest(&digest)?).await?))
}

/// Removes one.
pub async fn remove(State(api): State<Api>, Path(digest): Path<String>) -> Result<Response, Problem> {
    api.node.delete_package(params::digest(&digest)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
