//! The routes of tenants.

use axum::extract::State;
use axum::response::Response;

use super::body::Json;
use super::facade::{TenantInfo, TenantQuotas, TenantRequest};
use super::params::{Params, TenantOf};
use super::problem::Problem;
use super::{Api, answers};

pub(super) async fn list(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.tenants(&params.page()?)).await
}

pub(super) async fn add(
    State(api): State<Api>,
    Json(request): Json<TenantRequest>,
) -> Result<Response, Problem> {
    let made: TenantInfo = api.node.set_tenant(request, false).await?;
    answers::created(&api, &format!("/v1/tenants/{}", made.name), &made).await
}

pub(super) async fn show(State(api): State<Api>, TenantOf(name): TenantOf) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.tenant(&name)?).await
}

pub(super) async fn change(
    State(api): State<Api>,
    TenantOf(name): TenantOf,
    Json(quotas): Json<TenantQuotas>,
) -> Result<Response, Problem> {
    answers::done(&api, &api.node.set_tenant(TenantRequest { name, quotas }, true).await?).await
}
