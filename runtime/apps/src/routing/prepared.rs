//! The matches of a lane that has no number yet, worked out beside the table: a million points take a second, for
//! which nobody who routes should wait.

use super::index::{Candidate, PatternIndex};
use super::{Lane, LeftOut, Match, patterns};
use crate::binding::InputBinding;
use ironloom_types::ids::{PointNumber, PointPath};

/// The matches of a lane's inputs among the first points.
pub struct Prepared {
    pub(super) lane: Lane,
    pub(super) matches: Vec<(PointNumber, Match)>,
    pub(super) left_out: Vec<LeftOut>,
    index: PatternIndex,
    candidates: Vec<Candidate>,
    entity: String,
    next: PointNumber,
}

impl Prepared {
    /// Nothing is matched yet.
    pub fn new(inputs: &[InputBinding]) -> Self {
        let mut index = PatternIndex::default();
        for (slot, rank, pattern) in patterns(0, inputs) {
            index.insert(slot, rank, pattern);
        }
        Self {
            lane: Lane::new(inputs),
            matches: Vec::new(),
            left_out: Vec::new(),
            index,
            candidates: Vec::new(),
            entity: String::new(),
            next: PointNumber(0),
        }
    }

    /// Matches the next points, in the order of their numbers.
    pub fn add<'a>(
        &mut self,
        points: impl IntoIterator<Item = (PointNumber, &'a PointPath, Option<&'a str>)>,
    ) {
        for (number, path, unit) in points {
            assert!(self.next <= number, "points come in the order of their numbers");
            self.next = PointNumber(number.0 + 1);
            self.index.candidates(path, &mut self.candidates);
            for candidate in &self.candidates {
                match self.lane.accept(&mut self.entity, candidate, number, path, unit) {
                    Ok(matched) => self.matches.push((number, matched)),
                    Err(reason) => self.left_out.push(reason),
                }
            }
        }
    }

    /// Passes over the points before this one: they are known to match nothing.
    pub fn skip_to(&mut self, next: PointNumber) {
        self.next = self.next.max(next);
    }

    /// The number of the first point that isn't matched yet.
    pub fn next(&self) -> PointNumber {
        self.next
    }
}
