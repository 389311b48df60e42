//! The one place where requests become entries of the audit log.
//!
//! A deed that changes the log has its entry in the record of the change, which the node sees to. Here is seen to the rest:
//! deeds that aren't in the log are told once they are done, and those that ended without success with the reason.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::Uri;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Frame;

use super::Api;
use super::operation::Operation;
use super::params::Params;
use super::problem::{Kind, Problem};
use crate::access::{Action, Deed, Principal, within};
use ironloom_trust::audit::{Chain, Outcome};
use ironloom_types::ids::TenantId;

/// The parameter of a request that only says what would happen.
const DRY_RUN: &str = "dry-run";

fn deed(operation: &Operation, request: &Request) -> Deed {
    let principal = request.extensions().get::<Principal>().unwrap_or(&Principal::Nobody);
    let is_understood = request.extensions().get::<Params>().is_some();
    let chain = match operation.needs {
        Action::Administer => Chain::Platform,
        _ => match principal.tenant() {
            TenantId::NOBODY => Chain::Tenant(TenantId::MAIN),
            tenant => Chain::Tenant(tenant),
        },
    };
    Deed::new(chain, principal, operation.id, resource(operation, request.uri(), is_understood))
}

/// The thing that a request is about: its path up to the last name in it, without the version, and with its query. Of a query
/// that isn't understood, only those parameters that there are: others may be anything, such as passwords.
fn resource(operation: &Operation, uri: &Uri, is_understood: bool) -> String {
    let template = operation.path;
    let mut parts = template.split('/').count();
    if let Some(last) = template.split('/').rev().position(|part| part.starts_with('{')) {
        parts -= last;
    }
    let named: Vec<&str> = uri.path().split('/').take(parts).collect();
    let named = named.join("/");
    let named = named.strip_prefix("/v1/").unwrap_or(&named);
    let Some(query) = uri.query() else { return named.to_owned() };
    if is_understood {
        return format!("{named}?{query}");
    }
    let is_known = |one: &&str| operation.query.contains(&one.split('=').next().unwrap_or_default());
    let known: Vec<&str> = query.split('&').filter(is_known).collect();
    if known.is_empty() { named.to_owned() } else { format!("{named}?{}", known.join("&")) }
}

/// Says if whoever sent a request may not do it.
fn is_denial(status: u16) -> bool {
    matches!(status, 401 | 403)
}

/// Says if a request only asks for what would happen, by its query as its handler reads it.
fn is_dry(request: &Request) -> bool {
    request.extensions().get::<Params>().is_some_and(|params| params.is_set(DRY_RUN))
}

/// Tells of a request that isn't admitted, where whoever sends it may not do it, or would have done something.
pub(super) fn refuse(api: &Api, operation: &Operation, request: &Request, problem: &Problem) {
    if !is_denial(problem.status) && (!operation.deed || is_dry(request)) {
        return;
    }
    let deed = deed(operation, request);
    api.node.audit_refused(deed.said(Outcome::Refused, &problem.kind, &problem.detail));
}

/// A request that is about to be answered.
pub(super) struct Audited {
    api: Api,
    deed: Arc<Deed>,
    is_dry: bool,
    /// The answer is there: nobody has hung up before.
    is_answered: bool,
}

impl Audited {
    /// Takes a request over, with its body on the way.
    pub(super) fn new(api: &Api, operation: &Operation, request: Request) -> (Self, Request) {
        let deed = Arc::new(deed(operation, &request));
        let is_dry = is_dry(&request);
        let heard = Arc::clone(&deed);
        let request = request.map(|body| {
            Body::new(body.map_frame(move |frame: Frame<Bytes>| {
                frame.data_ref().into_iter().for_each(|data| heard.add_to_body(data));
                frame
            }))
        });
        (Self { api: api.clone(), deed, is_dry, is_answered: false }, request)
    }

    /// Waits for the answer, and for the entry, if there is to be one.
    pub(super) async fn answer<E>(
        mut self,
        answer: impl Future<Output = Result<Response, E>>,
    ) -> Result<Response, E> {
        let response = within(Some(Arc::clone(&self.deed)), answer).await?;
        self.is_answered = true;
        let status = response.status();
        if self.is_dry && !is_denial(status.as_u16()) {
            return Ok(response);
        }
        let problem = response.extensions().get::<Kind>();
        let (kind, detail) = problem.map_or(("", ""), |Kind { kind, detail }| (kind, detail));
        if status.is_client_error() {
            self.api.node.audit_refused(self.deed.said(Outcome::Refused, kind, detail));
        } else if status.is_server_error() {
            self.api.node.audit_refused(self.deed.said(Outcome::Failed, kind, detail));
        } else if !self.deed.is_told() {
            // It has happened, and the answer says so even if the log fails now: that ends the process.
            let _ = self.api.node.audit(self.deed.said(Outcome::Done, "", "")).await;
        }
        Ok(response)
    }
}

/// Whoever hangs up doesn't keep a deed out of the audit log.
impl Drop for Audited {
    fn drop(&mut self) {
        if !self.is_answered && !self.is_dry {
            let detail = "nobody waited for the answer; what had begun went on";
            self.api.node.audit_refused(self.deed.said(Outcome::Failed, "hung-up", detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::PLAIN;
    use super::*;

    fn resource_of(operation: &Operation, uri: &str) -> String {
        let uri = uri.parse().unwrap();
        resource(operation, &uri, Params::of(&uri, operation.query).is_ok())
    }

    #[test]
    fn a_resource_is_the_path_up_to_its_last_name_with_the_query() {
        for (template, uri, expected) in [
            ("/v1/installations", "/v1/installations", "installations"),
            ("/v1/installations/{id}/pause", "/v1/installations/pigs/pause", "installations/pigs"),
            ("/v1/installations/{id}", "/v1/installations/pigs?purge=true", "installations/pigs?purge=true"),
            ("/v1/points/{path}/rename", "/v1/points/farm%2Fbarn/rename", "points/farm%2Fbarn"),
            (
                "/v1/installations/{id}/dead-letters/{number}/requeue",
                "/v1/installations/pigs/dead-letters/7/requeue",
                "installations/pigs/dead-letters/7",
            ),
            ("/metrics", "/metrics", "/metrics"),
        ] {
            let operation = Operation { path: template, query: &["purge"], ..PLAIN };
            assert_eq!(resource_of(&operation, uri), expected);
        }
    }

    #[test]
    fn of_a_query_that_is_refused_only_known_parameters_are_told() {
        let operation = Operation { path: "/v1/events", query: &["purge", "after"], ..PLAIN };
        for (query, expected) in [
            // Written in another way it counts all the same, so it is told.
            ("purg%65=true&after=7", "events?purg%65=true&after=7"),
            ("purge=true&access_token=secret&after=7", "events?purge=true&after=7"),
            ("password=secret", "events"),
            ("secret", "events"),
        ] {
            assert_eq!(resource_of(&operation, &format!("/v1/events?{query}")), expected);
        }
    }
}
