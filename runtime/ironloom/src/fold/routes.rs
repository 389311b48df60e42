//! Routes of installations that are about to be: matched to the points beside the fold, which nobody should wait for.

use std::collections::BTreeMap;

use super::Shared;
use ironloom_apps::binding::InputBinding;
use ironloom_apps::routing::Prepared;
use ironloom_types::ids::{Generation, PointNumber};

/// Points that are matched under one hold of their names: the fold waits for it.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 1_000 };

/// The routes of one installation, as of the points that there were.
pub(crate) struct PreparedRoutes {
    pub(super) routes: Prepared,
    /// The table's count of changes before a point was looked at.
    pub(super) changes: u64,
}

impl Shared {
    /// Matches points to these inputs. `find` gives, in their order, at least those that match among all with a lower
    /// number than the second value.
    pub(crate) fn prepare_routes(
        &self,
        inputs: &[InputBinding],
        find: impl FnOnce() -> (Vec<PointNumber>, PointNumber),
    ) -> PreparedRoutes {
        let changes = self.routing.read().changes();
        let mut routes = Prepared::new(inputs);
        let (found, seen) = find();
        for part in found.chunks(AT_ONCE) {
            let names = self.points.names();
            let known = part.iter().filter_map(|number| Some((*number, names.point(*number)?)));
            routes.add(known.map(|(number, point)| (number, &point.path, point.unit.as_deref())));
        }
        routes.skip_to(seen);
        PreparedRoutes { routes, changes }
    }

    /// Keeps routes for the fold until it begins the installations of these generations; those of others go.
    pub(crate) fn keep_routes(&self, routes: BTreeMap<Generation, PreparedRoutes>) {
        *self.prepared.lock() = routes;
    }
}
