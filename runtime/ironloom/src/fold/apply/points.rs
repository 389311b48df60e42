//! Points that come, get a unit or go, with their routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Applier;
use crate::records::NumberedPoint;
use crate::records::admin::{PointRenamed, PointSet, PointsRetired};
use ironloom_apps::routing::Replaced;
use ironloom_types::ids::{Generation, InstallationId, PointNumber};
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

    /// Takes over what people say of a point, and matches it anew where its unit is another one.
    pub(super) fn set_point(&self, PointSet { number, unit, description }: PointSet) {
        self.shared.points.set(number, unit, description.map(Arc::from));
        let mut routing = self.shared.routing.write();
        let names = self.shared.points.names();
        let Some(point) = names.point(number) else { return };
        let (path, unit) = (&point.path, point.unit.as_deref());
        let anew = [Replaced { number, path, unit, is_removed: false }];
        let rematched = routing.replace_points(anew, |number| names.routed(number));
        drop((routing, names));
        self.shared.note_rematched(&rematched);
    }

    /// Purges generations that are gone, with the points of their outputs where `points` says so.
    pub(super) fn purge_kept(&mut self, id: &InstallationId, generations: &[Generation], points: bool) {
        if points {
            self.remove_points(id);
        }
        self.purge(|generation, _| generations.contains(&generation));
        self.drop_copies(generations);
    }

    /// Removes the points of a purged installation's outputs.
    pub(super) fn remove_points(&self, installation: &InstallationId) {
        let numbers = self.shared.points.names().of_outputs(installation);
        self.take_out(&numbers, false);
    }

    /// Removes points. Their readings may stay, under the paths that they had.
    pub(super) fn retire_points(&self, PointsRetired { numbers, readings, made }: PointsRetired) {
        self.take_out(&numbers, readings);
        let mut changes = Vec::new();
        for (generation, points) in made {
            let Some(lane) = self.shared.lanes.of_generation(generation) else { continue };
            lane.set_points(points);
            changes.push(self.lane_value(&lane.id, generation, lane.book().meta()));
        }
        self.shared.overlay.apply(changes);
    }

    /// A point goes on as another one, with the readings and the words that it had.
    pub(super) fn rename_point(&self, renamed: PointRenamed) {
        let PointRenamed { from, mut earlier, number, path, unit, description, latest } = renamed;
        self.take_out(&[from], true);
        earlier.push(from);
        self.shared.points.move_retired(&earlier, &path);
        self.add_points(&[NumberedPoint { number, point: NewPoint { path, unit: unit.clone() } }]);
        self.shared.points.set(number, unit, description.map(Arc::from));
        if let Some(latest) = latest {
            self.shared.points.carry(number, &latest);
        }
    }

    fn take_out(&self, numbers: &[PointNumber], readings: bool) {
        if numbers.is_empty() {
            return;
        }
        let gone: Vec<_> = {
            let names = self.shared.points.names();
            let point = |number: &PointNumber| Some((*number, names.point(*number)?.path.clone()));
            numbers.iter().filter_map(point).collect()
        };
        self.shared.points.retire(numbers, readings);
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
