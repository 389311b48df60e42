//! Routes of an installation that is about to be: matched to the points beside the fold, which nobody should wait for.

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
    /// Matches the points that there are to these inputs.
    pub(crate) fn prepare_routes(&self, inputs: &[InputBinding]) -> PreparedRoutes {
        let changes = self.routing.read().changes();
        let mut routes = Prepared::new(inputs);
        let mut from = 0;
        loop {
            let names = self.points.names();
            if from >= names.given() {
                return PreparedRoutes { routes, changes };
            }
            let points = names.iter_from(PointNumber(from as u32));
            let points = points.take_while(|(number, _)| (number.0 as usize) < from + AT_ONCE);
            routes.add(points.map(|(number, point)| (number, &point.path, point.unit.as_deref())));
            from += AT_ONCE;
        }
    }

    /// Keeps routes for the fold until it begins the installation of this generation; those of another go.
    pub(crate) fn keep_routes(&self, generation: Generation, routes: Option<PreparedRoutes>) {
        *self.prepared.lock() = routes.map(|routes| (generation, routes));
    }
}
