//! What the table of routes says of an operation.

use axum::routing::MethodRouter;
use serde_json::Value;

use super::shapes::Shape;
use super::{Api, JSON_TYPE};
use crate::access::Action;

/// One method of one path.
pub(super) struct Operation {
    /// In lower case.
    pub method: &'static str,
    /// With names in braces.
    pub path: &'static str,
    /// Its name for programs: `operationId`.
    pub id: &'static str,
    /// A description for people.
    pub summary: &'static str,
    /// The kind of deed that somebody must be allowed to.
    pub needs: Action,
    pub whose: Whose,
    /// It does something that the audit log tells of.
    pub deed: bool,
    /// The query's parameters. Others are refused.
    pub query: &'static [&'static str],
    /// Those of them that aren't what their names mean in other operations.
    pub own: &'static [Parameter],
    /// The headers that it reads, but for those that every request may have.
    pub headers: &'static [Parameter],
    /// The media types of its body; none where it has none.
    pub body: &'static [&'static str],
    /// All that its body says may be left out, and the body with it.
    pub may_be_bare: bool,
    /// The shape of its body, where that is JSON.
    pub takes: Option<Shape>,
    /// The shape of its answers, where they are JSON.
    pub gives: Option<Shape>,
    /// Its answers but for problems.
    pub answers: &'static [Success],
    /// Its answers have the `ETag` of a revision, but for those to dry runs.
    pub tagged: bool,
    pub pace: Pace,
    /// Moves much data, so that it isn't served on the connections that are kept for admins.
    pub bulk: bool,
    pub handler: fn() -> MethodRouter<Api>,
}

/// Whose the thing is that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The tenant's of whoever sends the request, and of no other.
    Tenant,
    Platform,
}

/// The way in which its requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pace {
    /// Not at all: they have to come through.
    Unbounded,
    /// As pushes, which the log slows anyway.
    Pushes,
    Requests,
}

/// A header or a parameter of the query.
pub(super) struct Parameter {
    pub name: &'static str,
    pub is_required: bool,
    pub schema: fn() -> Value,
}

/// An answer that is no problem.
pub(super) struct Success {
    pub status: u16,
    /// The case in which this is the answer.
    pub when: &'static str,
    /// The media types that it can have; none where it is empty.
    pub types: &'static [&'static str],
}

pub(super) const OK: &[Success] = &[Success { status: 200, when: "Done", types: &[JSON_TYPE] }];
pub(super) const EMPTY: &[Success] = &[Success { status: 204, when: "Done", types: &[] }];

/// What most operations have in common.
pub(super) const PLAIN: Operation = Operation {
    method: "get",
    path: "",
    id: "",
    summary: "",
    needs: Action::Read,
    whose: Whose::Tenant,
    deed: false,
    query: &[],
    own: &[],
    headers: &[],
    body: &[],
    may_be_bare: false,
    takes: None,
    gives: None,
    answers: OK,
    tagged: false,
    pace: Pace::Requests,
    bulk: false,
    handler: MethodRouter::new,
};
/// As most of those that change something. Who may is to be said by each; else it is an admin of the platform.
pub(super) const POST: Operation =
    Operation { method: "post", body: &[JSON_TYPE], needs: Action::Administer, deed: true, ..PLAIN };
/// As those that take something away.
pub(super) const DELETE: Operation =
    Operation { method: "delete", answers: EMPTY, needs: Action::Administer, deed: true, ..PLAIN };
