//! The readings whose sources are slowed: those that an installation which is behind gets, and those of the apps whose
//! outputs it reads. All other sources go on.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::fold::Shared;
use crate::lanes::{Lane, Lanes};
use ironloom_apps::pattern::{Pattern, Segment};
use ironloom_apps::wiring::Neighbours as _;
use ironloom_types::ids::{InstallationId, PointNumber, RESERVED_SEGMENT};
use ironloom_types::readings::{Columns, NewPoint};

/// Readings that are looked up with one look at the routing table: the fold waits for it.
const LOOKS_AT_ONCE: usize = 4_096;
/// Patterns by which readings are told from those that nobody is behind with. Beyond: all sources are slowed.
const MOST_INPUTS: usize = 1_000;
/// New points and patterns that are matched for one push. Beyond: its source is slowed.
const MOST_MATCHED: usize = 1_000_000;

/// The readings whose sources are slowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sources {
    /// One of them may read what any app writes, so that any reading may become its own.
    All,
    Of(Bound),
}

/// Those of these lanes, and of new points that their inputs match.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    lanes: BTreeSet<u32>,
    inputs: Vec<Pattern>,
}

impl Sources {
    /// The readings that these lanes get, or that become such by other apps.
    pub(super) fn of(lanes: &Lanes, behind: &[Arc<Lane>]) -> Self {
        let mut of = Bound::default();
        let mut open = behind.to_vec();
        while let Some(lane) = open.pop() {
            if !of.lanes.insert(lane.newest().route) {
                continue;
            }
            for pattern in lane.newest().revision.bindings.inputs.iter().flat_map(|input| &input.patterns) {
                let writers = lanes.writing(pattern).into_iter().map(|writer| writer.id);
                open.extend(writers.filter_map(|id| lanes.of(&id)));
                match pattern.segments() {
                    [Segment::Literal(first), Segment::Literal(id), ..] if **first == *RESERVED_SEGMENT => {
                        open.extend(
                            InstallationId::new(pattern.tenant(), id).ok().and_then(|id| lanes.of(&id)),
                        );
                    }
                    [Segment::Literal(first), ..] if **first != *RESERVED_SEGMENT => {}
                    _ => return Self::All,
                }
                of.inputs.push(pattern.clone());
            }
            if of.inputs.len() > MOST_INPUTS {
                return Self::All;
            }
        }
        Self::Of(of)
    }

    /// The patterns that each new point is matched with.
    pub(super) fn inputs(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Of(bound) => bound.inputs.len(),
        }
    }

    /// The place of a reading among these; the one at `first` is looked at before the others.
    pub(super) fn find(
        &self,
        shared: &Shared,
        columns: &Columns,
        new_points: &[NewPoint],
        first: usize,
    ) -> Option<usize> {
        match self {
            Self::All => (!columns.is_empty()).then_some(0),
            Self::Of(bound) => bound.find(shared, columns, new_points, first),
        }
    }
}

impl Bound {
    fn find(
        &self,
        shared: &Shared,
        columns: &Columns,
        new_points: &[NewPoint],
        first: usize,
    ) -> Option<usize> {
        let points = &columns.points;
        let look = |places: Range<usize>| {
            let routing = shared.routing.read();
            let is_ours = |at: &usize| {
                let matches = routing.matches(points[*at]);
                matches.iter().any(|found| self.lanes.contains(&found.lane()))
            };
            places.into_iter().find(is_ours)
        };
        let first = first.min(points.len());
        let new = points.get(first).and_then(|point| new_points.get(point.pending_index()?));
        if new.is_some_and(|new| self.takes(new)) {
            return Some(first);
        }
        look(first..points.len().min(first + 1)).or_else(|| self.find_new(points, new_points)).or_else(|| {
            let starts = (0..points.len()).step_by(LOOKS_AT_ONCE);
            let mut parts = starts.map(|start| start..points.len().min(start + LOOKS_AT_ONCE));
            parts.find_map(look)
        })
    }

    /// The place of a new point that these lanes will get, or of any where that is too much to find out.
    fn find_new(&self, points: &[PointNumber], new_points: &[NewPoint]) -> Option<usize> {
        if new_points.len().saturating_mul(self.inputs.len()) > MOST_MATCHED {
            return Some(0);
        }
        let new = new_points.iter().position(|new| self.takes(new))?;
        let at = points.iter().position(|point| point.pending_index() == Some(new));
        Some(at.unwrap_or(0))
    }

    /// Nobody has matched a new point yet.
    fn takes(&self, new: &NewPoint) -> bool {
        self.inputs.iter().any(|pattern| pattern.matches(&new.path))
    }
}
