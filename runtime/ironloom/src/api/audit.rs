//! The audit log: its entries and its checkpoints.

use axum::extract::State;
use axum::response::Response;

use super::facade::AuditQuery;
use super::params::Params;
use super::problem::Problem;
use super::{Api, answers};

pub(super) async fn list(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let query = AuditQuery {
        chain: params.value("chain")?,
        who: params.text("who"),
        action: params.text("action"),
        resource: params.text("resource"),
        result: params.value("result")?,
        from: params.value("from")?,
        to: params.value("to")?,
        order: params.order()?,
        page: params.page()?,
    };
    answers::page(&api, move |node| async move { node.audit_entries(query).await }).await
}

pub(super) async fn sign(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.sign_audit().await?).await
}

pub(super) async fn checkpoints(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let page = params.page()?;
    answers::page(&api, move |node| async move { node.audit_checkpoints(page).await }).await
}
