//! What the table of routes says of an operation.

use axum::routing::MethodRouter;

use super::Api;

/// One method of one path.
pub(super) struct Operation {
    /// In lower case.
    pub method: &'static str,
    /// With names in braces.
    pub path: &'static str,
    /// A description for people.
    pub summary: &'static str,
    /// The query's parameters. Others are refused.
    pub query: &'static [&'static str],
    /// The media types of its body; none where it has none.
    pub body: &'static [&'static str],
    /// Its answers but for problems.
    pub answers: &'static [Success],
    /// Moves much data, so that it isn't served on the connections that are kept for admins.
    pub bulk: bool,
    pub handler: fn() -> MethodRouter<Api>,
}

/// An answer that is no problem.
pub(super) struct Success {
    pub status: u16,
    /// The case in which this is the answer.
    pub when: &'static str,
    /// The media types that it can have; none where it is empty.
    pub types: &'static [&'static str],
}
