//! A point gets another path. It goes on as another point, so that each reading is routed by the path that it came with,
//! now and in a replay of the log; the readings of before are found under the new path.

use std::sync::Arc;

use super::retire::check_kept;
use super::{Node, found_aside, no_such_point};
use crate::api::facade::{Answer, Place, Problem, RenamePoint, RenamedPoint};
use crate::node::units::unit_of;
use crate::records::admin::{AdminRecord, CarriedReading, PointRenamed};
use ironloom_types::ids::{PointNumber, PointPath};

/// Points of its path that were retired before, at most: all of them are renamed with it.
const MOST_EARLIER: usize = 1_000;

impl Node {
    /// Gives a point another path: nobody may write it meanwhile, and all that read it must have dealt with its readings.
    pub(in crate::node) async fn rename_point(
        self: Arc<Self>,
        from: PointPath,
        request: RenamePoint,
    ) -> Answer<RenamedPoint> {
        let path = target(&from, &request)?;
        let number = self.point_or_404(&from)?;
        self.check_free(&path)?;
        let _place = self.place_to_retire()?;
        let point = {
            let names = self.shared.points.names();
            names.point(number).ok_or_else(|| no_such_point(&from))?.clone()
        };
        let record = || async {
            self.check_free(&path)?;
            self.record_of(number, &from, &path).await
        };
        self.retire(&[(number, point)], record).await?;
        let node = Arc::clone(&self);
        found_aside(move || {
            let (still_written_by, _) = node.writers(&from);
            Ok(RenamedPoint { from: from.to_arc(), point: node.show_point(&path)?, still_written_by })
        })
        .await
    }

    /// Looks if a point may get this path.
    fn check_free(&self, path: &PointPath) -> Answer<()> {
        let names = self.shared.points.names();
        if names.number(path).is_some() {
            let detail = format!("there is a point {path} already");
            return Err(Problem::conflict("exists", detail)
                .at(Place::field("to"))
                .hint("Retire it first, or choose another path."));
        }
        check_kept(names.retired().len(), 1)
    }

    /// The record, as of now: nobody writes the point.
    async fn record_of(
        self: &Arc<Self>,
        from: PointNumber,
        before: &PointPath,
        path: &PointPath,
    ) -> Answer<AdminRecord> {
        let (node, before, path) = (Arc::clone(self), before.clone(), path.clone());
        found_aside(move || {
            // Its value may have to be read in the journal.
            let latest = node.point_item(from).map(|item| CarriedReading {
                sequence: item.sequence,
                at: item.at,
                quality: item.quality,
                value: item.value.0,
            });
            let names = node.shared.points.names();
            let unit = names.point(from).ok_or_else(|| no_such_point(&before))?.unit.clone();
            let unit = unit.or_else(|| unit_of(&node.config.load().points, &path).cloned());
            let description = names.description(from).map(|text| Box::from(&**text));
            let of_path = names.retired().filter(|(_, retired)| **retired == before);
            let earlier: Vec<_> = of_path.map(|(number, _)| number).collect();
            drop(names);
            if earlier.len() > MOST_EARLIER {
                let detail = format!(
                    "{} points of the path {before} were retired before, and their readings are kept; at most {MOST_EARLIER} \
                     can be renamed at once",
                    earlier.len()
                );
                return Err(Problem::conflict("too-many-points", detail));
            }
            // The committer gives the number.
            let number = PointNumber(0);
            let renamed = PointRenamed { from, earlier, number, path, unit, description, latest };
            Ok(AdminRecord::PointRenamed(Box::new(renamed)))
        })
        .await
    }
}

/// The path that is asked for. What belongs to the runtime keeps its path.
fn target(from: &PointPath, request: &RenamePoint) -> Answer<PointPath> {
    let place = || Place::field("to");
    let path = PointPath::new(from.tenant(), &request.to).map_err(|error| {
        Problem::malformed("bad-field", format!("{:?} is not a point's path: {error}", request.to))
            .at(place())
    })?;
    if from.is_reserved() {
        let detail =
            format!("{from} belongs to the output of an app; its binding says where its readings go");
        return Err(Problem::forbidden("reserved-point", detail));
    }
    if path.is_reserved() {
        let detail = format!("{path} lies under `apps/`, which belongs to the runtime");
        return Err(Problem::forbidden("reserved-point", detail).at(place()));
    }
    if path == *from {
        return Err(Problem::malformed("bad-field", format!("{from} is its path already")).at(place()));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::TenantId;

    #[test]
    fn what_belongs_to_the_runtime_keeps_its_path() {
        let target = |from: &str, to: &str| {
            let (from, request) =
                (PointPath::new(TenantId::MAIN, from).unwrap(), RenamePoint { to: to.to_owned() });
            match super::target(&from, &request) {
                Ok(path) => path.to_string(),
                Err(problem) => problem.kind.to_string(),
            }
        };
        for (from, to, expected) in [
            ("a/1", "b/1", "b/1"),
            ("a/1", "b//1", "bad-field"),
            ("a/1", "a/1", "bad-field"),
            ("a/1", "apps/pigs/gain", "reserved-point"),
            ("apps/pigs/gain/7", "b/1", "reserved-point"),
        ] {
            assert_eq!(target(from, to), expected, "{from} to {to}");
        }
    }
}
