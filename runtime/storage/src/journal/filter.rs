//! A filter for readings.

use super::chunk::Chunk;
use super::index::Entry;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, Sequence};

/// The most points of a filter that a block is searched for.
const NARROW: usize = 16;

/// A choice of readings; everything that is left out lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these points, in the order of their numbers. See [`Filter::of_points`].
    points: Option<Vec<PointNumber>>,
    /// Only readings whose sequence is greater.
    pub after: Sequence,
    /// Only readings whose `at` is not before this.
    pub from: Option<Timestamp>,
    /// Only readings whose `at` is before this.
    pub to: Option<Timestamp>,
}

impl Filter {
    /// All readings after this sequence.
    pub fn after(after: Sequence) -> Self {
        Self { after, ..Self::default() }
    }

    /// Only readings whose `at` is in this range.
    #[must_use]
    pub fn between(mut self, from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    /// Only readings of these points.
    #[must_use]
    pub fn of_points(mut self, points: impl IntoIterator<Item = PointNumber>) -> Self {
        let mut points: Vec<_> = points.into_iter().collect();
        points.sort_unstable();
        points.dedup();
        self.points = Some(points);
        self
    }

    /// Whether a block can have such readings: `false` is certain, `true` isn't.
    pub fn may_match(&self, entry: &Entry) -> bool {
        entry.last_sequence() > self.after
            && self.from.is_none_or(|from| entry.greatest_at >= from)
            && self.to.is_none_or(|to| entry.least_at < to)
            && self.points.as_ref().is_none_or(|points| entry.points.may_have_any(points))
    }

    /// Returns `true` where so few points are wanted that a block is better searched for them than decoded whole.
    pub fn is_narrow(&self) -> bool {
        self.points.as_ref().is_some_and(|points| points.len() <= NARROW)
    }

    /// Returns `true` where readings of this point are wanted.
    pub(super) fn wants(&self, point: PointNumber) -> bool {
        self.points.as_ref().is_none_or(|points| match points.as_slice() {
            [only] => *only == point,
            many => many.binary_search(&point).is_ok(),
        })
    }

    /// Returns `true` where a reading of this point with this `at` is wanted, if its sequence is.
    pub(super) fn passes(&self, point: PointNumber, at: Timestamp) -> bool {
        self.wants(point) && self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }

    /// The first `limit` rows of a chunk that are wanted, in order.
    pub fn rows(&self, chunk: &Chunk, limit: usize) -> Vec<usize> {
        (chunk.row_after(self.after)..chunk.len())
            .filter(|&row| self.passes(chunk.columns.points[row], chunk.columns.at[row]))
            .take(limit)
            .collect()
    }
}
