//! The units that the configuration gives to points: `[points."pattern"] unit`.

use std::sync::Arc;

use crate::config::PointUnit;
use crate::fold::points::{Names, Points};
use crate::fold::submission::{self, Submission};
use crate::records::admin::AdminRecord;
use ironloom_storage::log::CommitterHandle;
use ironloom_types::ids::{PointNumber, PointPath};

/// Points of one record.
const CHUNK: usize = 50_000;

/// The unit that the configuration gives to a point: that of the first pattern that matches.
pub(super) fn unit_of<'a>(units: &'a [PointUnit], path: &PointPath) -> Option<&'a Arc<str>> {
    units.iter().find(|of| of.pattern.matches(path)).map(|of| &of.unit)
}

/// At a start, gives units to points that came before the configuration named theirs. A point that has
/// another unit keeps it: readings in it are in the journal.
pub(super) fn give(points: &Points, units: &[PointUnit], committer: &CommitterHandle<Submission>) {
    if units.is_empty() {
        return;
    }
    let Compared { missing, differ } = compare(&points.names(), units);
    if let Some((point, unit, configured)) = &differ.sample {
        tracing::warn!(
            points = differ.count,
            %point, %unit, %configured,
            "points keep their unit; the configuration names a different one"
        );
    }
    for chunk in missing.chunks(CHUNK) {
        if !submit(committer, chunk.to_vec()) {
            tracing::warn!("points couldn't be given their units; the next start tries again");
            return;
        }
    }
}

/// Gives points their units, without waiting until it is durable. `false` where the server is stopping.
pub(super) fn submit(committer: &CommitterHandle<Submission>, units: Vec<(PointNumber, Arc<str>)>) -> bool {
    submission::submit(committer, AdminRecord::UnitsGiven(units), None).is_ok()
}

#[derive(Debug, Default, PartialEq)]
struct Compared {
    missing: Vec<(PointNumber, Arc<str>)>,
    differ: Differ,
}

#[derive(Debug, Default, PartialEq)]
struct Differ {
    count: usize,
    sample: Option<(PointPath, Arc<str>, Arc<str>)>,
}

fn compare(names: &Names, units: &[PointUnit]) -> Compared {
    let mut compared = Compared::default();
    for (number, point) in names.iter() {
        let Some(configured) = unit_of(units, &point.path) else { continue };
        match &point.unit {
            None => compared.missing.push((number, Arc::clone(configured))),
            Some(unit) if unit != configured => {
                compared.differ.count += 1;
                let sample = || (point.path.clone(), Arc::clone(unit), Arc::clone(configured));
                compared.differ.sample.get_or_insert_with(sample);
            }
            Some(_) => {}
        }
    }
    compared
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_apps::pattern::Pattern;
    use ironloom_types::ids::TenantId;
    use ironloom_types::readings::NewPoint;

    #[test]
    fn points_without_a_unit_get_the_first_that_matches_and_others_keep_theirs() {
        let points = Points::default();
        let new = |number, path, unit: Option<&str>| {
            let point =
                NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: unit.map(Into::into) };
            (PointNumber(number), Some(point))
        };
        let all = [
            new(0, "farm/a/weight", None),
            new(1, "farm/b/weight", Some("kg")),
            new(2, "farm/c/weight", Some("g")),
            new(3, "farm/c/feed", None),
        ];
        points.add_for_test(all);
        let unit = |pattern: &str, unit: &str| PointUnit {
            pattern: Pattern::new(TenantId::MAIN, pattern).unwrap(),
            unit: unit.into(),
        };
        let units = [unit("farm/{x}/weight", "kg"), unit("farm/a/{y}", "t")];
        let compared = compare(&points.names(), &units);
        assert_eq!(compared.missing, [(PointNumber(0), Arc::from("kg"))]);
        let sample =
            (PointPath::new(TenantId::MAIN, "farm/c/weight").unwrap(), Arc::from("g"), Arc::from("kg"));
        assert_eq!(compared.differ, Differ { count: 1, sample: Some(sample) });
    }
}
