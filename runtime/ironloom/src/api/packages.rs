//! `/v1/packages`.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::held::Held;
use super::params::{Package, Params};
use super::problem::Problem;
use super::{Api, PACKAGE_TYPE, answers, body, guard};
use ironloom_types::limits::MAX_PACKAGE;

/// Takes a package: 201, or 200 where it was known.
pub(super) async fn add(
    State(api): State<Api>,
    params: Params,
    headers: HeaderMap,
    held: Option<Extension<Held>>,
    body: Body,
) -> Result<Response, Problem> {
    guard::need_type(&headers, &[PACKAGE_TYPE])?;
    let tar = body::take(&api.memory.admin, held.as_deref(), &headers, body, MAX_PACKAGE).await?;
    let (package, new) = api.node.add_package(params.tenant(), tar).await?;
    if new {
        let path = format!("/v1/packages/{}", package.digest);
        answers::created(&api, &path, &package).await
    } else {
        answers::done(&api, &package).await
    }
}

pub(super) async fn list(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let (tenant, page) = (params.tenant(), params.page()?);
    answers::page(&api, move |node| async move { node.packages(tenant, page).await }).await
}

pub(super) async fn show(
    State(api): State<Api>,
    params: Params,
    Package(digest): Package,
) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.package(params.tenant(), digest).await?).await
}

/// A package's file, as it was sent.
pub(super) async fn file(
    State(api): State<Api>,
    params: Params,
    Package(digest): Package,
) -> Result<Response, Problem> {
    let file = api.node.package_file(params.tenant(), digest).await?;
    answers::text(&api, StatusCode::OK, PACKAGE_TYPE, file.into()).await
}

pub(super) async fn remove(
    State(api): State<Api>,
    params: Params,
    Package(digest): Package,
) -> Result<Response, Problem> {
    api.node.delete_package(params.tenant(), digest).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
