//! The matches of a lane that has no number yet, worked out beside the table: a million points take a second, for
//! which nobody who routes should wait.

use std::sync::Arc;

use super::entities::Entities;
use super::index::{Candidate, PatternIndex};
use super::{Lane, LeftOut, Match, Slot};
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
    last: Option<PointNumber>,
}

impl Prepared {
    /// Nothing is matched yet.
    pub fn new(inputs: &[InputBinding]) -> Self {
        Self::with(inputs, Arc::default())
    }

    pub(super) fn with(inputs: &[InputBinding], entities: Arc<Entities>) -> Self {
        let mut index = PatternIndex::default();
        for (input, binding) in inputs.iter().enumerate() {
            for (rank, pattern) in binding.patterns.iter().enumerate() {
                index.insert(Slot::new(0, input), rank, pattern);
            }
        }
        Self {
            lane: Lane::new(inputs, entities),
            matches: Vec::new(),
            left_out: Vec::new(),
            index,
            candidates: Vec::new(),
            entity: String::new(),
            last: None,
        }
    }

    /// Matches the next points, in the order of their numbers.
    pub fn add<'a>(
        &mut self,
        points: impl IntoIterator<Item = (PointNumber, &'a PointPath, Option<&'a str>)>,
    ) {
        for (number, path, unit) in points {
            assert!(self.last < Some(number), "points come in the order of their numbers");
            self.last = Some(number);
            self.index.candidates(path, &mut self.candidates);
            for candidate in &self.candidates {
                match self.lane.accept(&mut self.entity, candidate, number, path, unit) {
                    Ok(matched) => self.matches.push((number, matched)),
                    Err(reason) => self.left_out.push(reason),
                }
            }
        }
    }

    /// The number of the first point that isn't matched yet.
    pub fn next(&self) -> PointNumber {
        self.last.map_or(PointNumber(0), |last| PointNumber(last.0 + 1))
    }
}
