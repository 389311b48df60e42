//! Routes of installations that are about to be: matched to the points beside the fold, which nobody should wait for.

use std::collections::BTreeMap;

use super::Shared;
use ironloom_apps::routing::Prepared;
use ironloom_types::ids::Generation;

/// The routes of one installation, as of the points that there were.
pub(crate) struct PreparedRoutes {
    pub(crate) routes: Prepared,
    /// The table's count of changes before a point was looked at.
    pub(crate) changes: u64,
}

impl Shared {
    /// Keeps routes for the fold until it begins the installations of these generations; those of others go.
    pub(crate) fn keep_routes(&self, routes: BTreeMap<Generation, PreparedRoutes>) {
        *self.prepared.lock() = routes;
    }
}
