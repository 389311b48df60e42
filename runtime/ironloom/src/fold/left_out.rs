//! Points that match an input of an installation but are left out: counted, with samples,
//! and reported at most once a minute, however many come.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::points::Names;
use ironloom_apps::routing::{LeftOut, WasLeftOut};
use ironloom_types::ids::{InstallationId, PointNumber, PointPath};

/// Samples that are kept for each installation.
const SAMPLES: usize = 10;

/// The points that are left out, by lane.
#[derive(Debug, Default)]
pub(crate) struct LeftOutPoints {
    lanes: Mutex<BTreeMap<u32, OfLane>>,
}

/// The points that an installation leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfInstallation {
    pub count: u64,
    /// The first of them.
    pub samples: Vec<Sample>,
}

/// A point that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub point: PointPath,
    number: PointNumber,
    /// The number of the input, in the order of the manifest.
    pub input: u16,
    /// The reason, for people.
    pub reason: String,
}

#[derive(Debug)]
struct OfLane {
    installation: InstallationId,
    points: OfInstallation,
    told: u64,
}

impl LeftOutPoints {
    /// Begins to count for a lane.
    pub(super) fn begin(&self, lane: u32, installation: &InstallationId) {
        let of_lane =
            OfLane { installation: installation.clone(), points: OfInstallation::default(), told: 0 };
        self.lanes.lock().insert(lane, of_lane);
    }

    /// The lane is gone.
    pub(super) fn end(&self, lane: u32) {
        self.lanes.lock().remove(&lane);
    }

    pub(super) fn note(&self, left_out: &[LeftOut], names: &Names) {
        let mut lanes = self.lanes.lock();
        for LeftOut { lane, input, point: number, reason } in left_out {
            let Some(OfLane { points, .. }) = lanes.get_mut(lane) else { continue };
            points.count += 1;
            if points.samples.len() < SAMPLES
                && let Some(point) = names.point(*number)
            {
                let (path, reason) = (point.path.clone(), reason.to_string());
                points.samples.push(Sample { point: path, number: *number, input: *input, reason });
            }
        }
    }

    /// These count no longer: they are matched now, or gone.
    pub(super) fn forget(&self, were_left_out: &[WasLeftOut]) {
        let mut lanes = self.lanes.lock();
        for WasLeftOut { lane, input, point } in were_left_out {
            let Some(OfLane { points, told, .. }) = lanes.get_mut(lane) else { continue };
            points.count = points.count.saturating_sub(1);
            points.samples.retain(|sample| (sample.number, sample.input) != (*point, *input));
            *told = points.count.min(*told);
        }
    }

    /// Returns the points that a lane leaves out.
    pub(crate) fn of(&self, lane: u32) -> OfInstallation {
        self.lanes.lock().get(&lane).map(|of_lane| of_lane.points.clone()).unwrap_or_default()
    }

    /// Says in the log for which installations there are more than at the last time.
    pub(super) fn tell(&self) {
        let news: Vec<_> = {
            let mut lanes = self.lanes.lock();
            let more = lanes.values_mut().filter(|of_lane| of_lane.points.count > of_lane.told);
            more.map(|of_lane| {
                let since = of_lane.points.count - std::mem::replace(&mut of_lane.told, of_lane.points.count);
                (of_lane.installation.clone(), since, of_lane.points.samples.first().cloned())
            })
            .collect()
        };
        for (installation, points, sample) in news {
            let (point, reason) = sample.map(|sample| (sample.point, sample.reason)).unzip();
            let point = point.as_ref().map_or("", PointPath::as_str);
            tracing::warn!(%installation, points, point, reason, "points match an input and are left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::points::Points;
    use super::*;
    use ironloom_apps::routing::LeftOutReason;
    use ironloom_apps::unit::NoConversion;
    use ironloom_types::ids::TenantId;
    use ironloom_types::readings::NewPoint;

    #[test]
    fn all_are_counted_few_are_kept_and_none_of_a_lane_that_is_gone() {
        let points = Points::default();
        let path = |number: u32| PointPath::new(TenantId::MAIN, &format!("a/{number}")).unwrap();
        let new = |number| (PointNumber(number), Some(NewPoint { path: path(number), unit: None }));
        points.add((0..100).map(new));
        let why = NoConversion::Unlike;
        let reason = LeftOutReason::Unit { point: "s".to_owned(), input: "kg".to_owned(), why };
        let left_out =
            |number| LeftOut { lane: 3, input: 1, point: PointNumber(number), reason: reason.clone() };
        let all: Vec<LeftOut> = (0..100).map(left_out).collect();
        let counted = LeftOutPoints::default();
        counted.begin(3, &InstallationId::new(TenantId::MAIN, "pigs").unwrap());
        counted.note(&all, &points.names());
        let of_lane = counted.of(3);
        assert_eq!((of_lane.count, of_lane.samples.len()), (100, SAMPLES));
        assert_eq!(of_lane.samples[1].point, path(1));
        assert_eq!(
            of_lane.samples[1].reason,
            "its unit is s, and the input's kg: they measure different things"
        );
        let was = |input, number| WasLeftOut { lane: 3, input, point: PointNumber(number) };
        counted.forget(&[was(1, 1), was(1, 50)]);
        let of_lane = counted.of(3);
        assert_eq!((of_lane.count, of_lane.samples.len()), (98, SAMPLES - 1));
        assert_eq!(of_lane.samples[1].point, path(2));
        counted.end(3);
        counted.note(&all, &points.names());
        assert_eq!(counted.of(3), OfInstallation::default());
    }
}
