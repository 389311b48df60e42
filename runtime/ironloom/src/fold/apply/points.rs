//! Points that come, get a unit or go, with their routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Applier;
use crate::records::NumberedPoint;
use ironloom_apps::routing::Replaced;
use ironloom_types::ids::{InstallationId, PointNumber};
use ironloom_types::readings::NewPoint;

impl Applier {
    pub(super) fn add_points(&self, new: &[NumberedPoint]) {
        if new.is_empty() {
            return;
        }
        let given = self.shared.points.names().given();
        let fresh = || new.iter().filter(|new| new.number.0 as usize >= given);
        self.shared.points.add(fresh().map(|new| (new.number, Some(new.point.clone()))));
        let mut left_out = Vec::new();
        {
            let mut routing = self.shared.routing.write();
            for NumberedPoint { number, point } in fresh() {
                left_out.append(&mut routing.add_point(*number, &point.path, point.unit.as_deref()));
            }
        }
        self.shared.note_left_out(&left_out);
        self.shared.metrics.points.set(self.shared.points.names().count() as i64);
    }

    /// Gives units to points that have none, and matches them anew.
    pub(super) fn set_units(&self, units: &[(PointNumber, Arc<str>)]) {
        self.shared.points.set_units(units);
        let mut routing = self.shared.routing.write();
        let names = self.shared.points.names();
        // In the order of their numbers.
        let changed: BTreeMap<PointNumber, &NewPoint> =
            units.iter().filter_map(|(number, _)| Some((*number, names.point(*number)?))).collect();
        let anew = changed.iter().map(|(number, point)| Replaced {
            number: *number,
            path: &point.path,
            unit: point.unit.as_deref(),
            is_removed: false,
        });
        let rematched = routing.replace_points(anew, |number| names.routed(number));
        drop((routing, names));
        self.shared.note_rematched(&rematched);
    }

    /// Removes the points of a purged installation's outputs.
    pub(super) fn remove_points(&self, installation: &InstallationId) {
        let (numbers, gone) = {
            let names = self.shared.points.names();
            let numbers = names.of_outputs(installation);
            let point = |number: &PointNumber| Some((*number, names.point(*number)?.path.clone()));
            let gone: Vec<_> = numbers.iter().filter_map(point).collect();
            (numbers, gone)
        };
        if numbers.is_empty() {
            return;
        }
        self.shared.points.remove(&numbers);
        let removed = gone.iter().map(|(number, path)| Replaced {
            number: *number,
            path,
            unit: None,
            is_removed: true,
        });
        let mut routing = self.shared.routing.write();
        let names = self.shared.points.names();
        let rematched = routing.replace_points(removed, |number| names.routed(number));
        drop((routing, names));
        self.shared.note_rematched(&rematched);
        self.shared.metrics.points.set(self.shared.points.names().count() as i64);
    }
}
