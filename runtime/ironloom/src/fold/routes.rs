//! Routes of installations that are about to be, and of revisions that are gone: matched to the points beside the fold,
//! which nobody should wait for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::queue::RowNote;
use ironloom_apps::routing::{Prepared, RoutingTable};
use ironloom_types::ids::{Generation, PointNumber};

/// The routes of one installation, as of the points that there were.
pub(crate) struct PreparedRoutes {
    pub(crate) routes: Prepared,
    /// The table's count of changes before a point was looked at.
    pub(crate) changes: u64,
}

/// The way from points to the inputs of a revision.
#[derive(Clone)]
pub(crate) enum Route {
    /// In the table, under this number.
    Table(u32),
    /// Matched beside it, for a revision under which nothing runs any more.
    Beside(Arc<Prepared>),
}

impl Route {
    /// Adds the rows of a point's reading.
    pub(super) fn note(&self, table: &RoutingTable, point: PointNumber, row: usize, rows: &mut Vec<RowNote>) {
        match self {
            Self::Table(route) => {
                let own = table.matches(point).iter().filter(|found| found.lane() == *route);
                rows.extend(own.map(|found| RowNote::new(row, *found)));
            }
            Self::Beside(prepared) => rows.extend(prepared.of(point).map(|found| RowNote::new(row, found))),
        }
    }
}

impl Shared {
    /// Keeps routes for the fold until it begins the installations of these generations; those of others go.
    pub(crate) fn keep_routes(&self, routes: BTreeMap<Generation, PreparedRoutes>) {
        *self.prepared.lock() = routes;
    }
}
