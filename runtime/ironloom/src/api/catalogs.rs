//! `/v1/catalogs` and `/v1/apps`.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::access::need;
use super::body::{Json, Optional};
use super::facade::{CatalogRequest, CatalogTrust, FetchRequest, OfferQuery, Page, RefreshRequest};
use super::params::{App, Name, Params};
use super::problem::Problem;
use super::{Api, answers};
use crate::access::{Action, Principal};

pub(super) async fn list(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &Page { items: api.node.catalogs(), next: None }).await
}

pub(super) async fn show(State(api): State<Api>, Name(name): Name) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.catalog(&name)?).await
}

pub(super) async fn add(
    State(api): State<Api>,
    Json(request): Json<CatalogRequest>,
) -> Result<Response, Problem> {
    let catalog = api.node.add_catalog(request).await?;
    answers::created(&api, &format!("/v1/catalogs/{}", catalog.name), &catalog).await
}

pub(super) async fn refresh(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Name(name): Name,
    Optional(request): Optional<RefreshRequest>,
) -> Result<Response, Problem> {
    // Where a catalog is read from is said by whoever may add one.
    if request.source.is_some() {
        need(&principal, Action::Administer)?;
    }
    answers::done(&api, &api.node.refresh_catalog(name, request).await?).await
}

pub(super) async fn remove(
    State(api): State<Api>,
    Name(name): Name,
    mut params: Params,
) -> Result<Response, Problem> {
    let forget = params.flag("forget")?;
    api.node.remove_catalog(name, forget).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The trust file: what was seen of all catalogs.
pub(super) async fn trust(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.catalog_trust()).await
}

pub(super) async fn take_trust(
    State(api): State<Api>,
    Json(file): Json<CatalogTrust>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.take_catalog_trust(file).await?).await
}

/// Looks through all catalogs.
pub(super) async fn find(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let query = OfferQuery {
        words: params.text("words").unwrap_or_default(),
        category: params.text("category"),
        catalog: params.text("catalog"),
        page: params.page()?,
    };
    answers::page(&api, move |node| async move { node.offers(query).await }).await
}

/// One app, as each catalog offers it.
pub(super) async fn offer(State(api): State<Api>, App(id): App) -> Result<Response, Problem> {
    answers::page(&api, move |node| async move { node.offers_of(id).await }).await
}

/// Brings a package here: 201, or 200 where it was known.
pub(super) async fn fetch(
    State(api): State<Api>,
    params: Params,
    App(id): App,
    Optional(request): Optional<FetchRequest>,
) -> Result<Response, Problem> {
    let (package, is_new) = api.node.fetch_package(params.tenant(), id, request).await?;
    if is_new {
        answers::created(&api, &format!("/v1/packages/{}", package.digest), &package).await
    } else {
        answers::done(&api, &package).await
    }
}
