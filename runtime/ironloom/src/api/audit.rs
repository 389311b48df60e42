//! The audit log: its entries and its checkpoints.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use super::facade::{AuditQuery, Chains};
use super::params::Params;
use super::problem::Problem;
use super::{Api, answers};
use crate::access::{Action, Principal, Resource, authorize};

impl Chains {
    /// Those that somebody may read: of its tenant, and of the platform where that is `main`. Who administers the platform reads all.
    fn of(principal: &Principal) -> Self {
        let all = authorize(principal, Action::Administer, Resource::Platform).is_ok();
        Self { tenant: principal.tenant(), all }
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    mut params: Params,
) -> Result<Response, Problem> {
    let sees = Chains::of(&principal);
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
    answers::page(&api, move |node| async move { node.audit_entries(sees, query).await }).await
}

pub(super) async fn sign(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.sign_audit().await?).await
}

pub(super) async fn checkpoints(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    mut params: Params,
) -> Result<Response, Problem> {
    let sees = Chains::of(&principal);
    let page = params.page()?;
    answers::page(&api, move |node| async move { node.audit_checkpoints(sees, page).await }).await
}
