//! The matches of a lane that has no number yet, worked out beside the table: a million points take a second, for
//! which nobody who routes should wait.

use std::sync::Arc;

use super::index::{Candidate, PatternIndex};
use super::{Entities, Lane, LeftOut, Match, patterns};
use crate::binding::{InputBinding, Known, convert};
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
    has_gone: bool,
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
            has_gone: false,
        }
    }

    /// Matches the next point, in the order of their numbers. Returns its matches.
    pub fn add(
        &mut self,
        number: PointNumber,
        path: &PointPath,
        unit: Option<&str>,
    ) -> &[(PointNumber, Match)] {
        assert!(self.next <= number, "points come in the order of their numbers");
        self.next = PointNumber(number.0 + 1);
        let before = self.matches.len();
        self.index.candidates(path, &mut self.candidates);
        for candidate in &self.candidates {
            match self.lane.accept(&mut self.entity, candidate, number, path, unit) {
                Ok(matched) => self.matches.push((number, matched)),
                Err(reason) => self.left_out.push(reason),
            }
        }
        &self.matches[before..]
    }

    /// Matches the next point, which is gone by now: another may have its path, and gives its entities then.
    pub fn add_gone(&mut self, number: PointNumber, path: &PointPath, unit: Option<&str>) {
        let before = self.matches.len();
        self.add(number, path, unit);
        self.has_gone = true;
        for (_, matched) in &self.matches[before..] {
            self.lane.free(*matched);
        }
    }

    /// Returns true where points are among them that are gone, so that an entity may have been given by several.
    pub fn has_gone(&self) -> bool {
        self.has_gone
    }

    /// Has the readings of this point's entities come in by its own unit from now on, whoever else gives them.
    pub fn convert_as(&self, point: PointNumber, unit: Option<&str>) {
        for matched in self.of(point) {
            let input = &self.lane.inputs[usize::from(matched.input())];
            if let Ok(conversion) = convert(&input.conversions, unit, input.unit.as_deref()) {
                self.lane.entities.convert(matched.input(), matched.entity(), conversion);
            }
        }
    }

    /// The matches so far, in the order of points and inputs.
    pub fn matches(&self) -> &[(PointNumber, Match)] {
        &self.matches
    }

    /// The matches of one of these points, in the order of inputs.
    pub fn of(&self, point: PointNumber) -> impl Iterator<Item = Match> + '_ {
        let first = self.matches.partition_point(|(number, _)| *number < point);
        let own = self.matches[first..].iter().take_while(move |(number, _)| *number == point);
        own.map(|(_, matched)| *matched)
    }

    /// The entities of the inputs.
    pub fn entities(&self) -> Arc<Entities> {
        Arc::clone(&self.lane.entities)
    }

    /// The points that were left out so far.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The conversions of an input's readings, in the order of units.
    pub fn conversions(&self, input: usize) -> Vec<Known> {
        let mut known = self.lane.inputs[input].conversions.clone();
        known.sort_unstable_by(|one, other| one.unit.cmp(&other.unit));
        known
    }

    /// The point that gives an entity of an input.
    pub fn point_of(&self, input: u16, entity: &str) -> Option<PointNumber> {
        let number = self.lane.entities.read().number(entity)?;
        let mut found = self.matches.iter();
        let found = found.find(|(_, matched)| matched.input() == input && matched.entity() == number);
        found.map(|(point, _)| *point)
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
