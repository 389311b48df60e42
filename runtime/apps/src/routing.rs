//! Routing: which lanes want the readings of a point.
//!
//! A point's matches are worked out once, when it appears or bindings change, so that routing a
//! reading costs one look-up by number, whatever the number of installations. A new lane adds its own matches
//! and touches no others. To match a million points takes long, so a new lane's matches can be worked out
//! before, on another thread ([`Prepared`]).

mod by_text;
mod entities;
mod index;
mod matches;
mod prepared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::binding::{InputBinding, Known, convert};
use crate::pattern::Pattern;
use crate::unit::{Conversion, NoConversion};
use ironloom_types::ids::{PointNumber, PointPath};

pub use by_text::NumbersByText;
pub use entities::{Entities, EntitiesRead};
pub use index::Shapes;
use index::{Candidate, PatternIndex};
use matches::Matches;
pub use prepared::Prepared;

/// One input that takes the readings of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    slot: Slot,
    entity: u32,
}

impl Match {
    pub fn lane(self) -> u32 {
        self.slot.lane()
    }

    /// The number of its input, in the order of the manifest.
    pub fn input(self) -> u16 {
        self.slot.input()
    }

    /// The number of the entity among those of the lane.
    pub fn entity(self) -> u32 {
        self.entity
    }
}

/// A lane's input in 32 bits, so that a match takes 8 bytes: lane × 256 + input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot(u32);

impl Slot {
    fn new(lane: u32, input: usize) -> Self {
        assert!(lane < MAX_LANES, "lanes are numbered below {MAX_LANES}");
        assert!(input < crate::manifest::MAX_SLOTS, "a manifest has at most 256 inputs");
        Self(lane << 8 | input as u32)
    }

    fn lane(self) -> u32 {
        self.0 >> 8
    }

    fn input(self) -> u16 {
        (self.0 & 0xff) as u16
    }
}

/// The most lanes of a table. The numbers from here on mean that a point has no match, or several.
pub const MAX_LANES: u32 = (1 << 24) - 1;

/// A point that matches an input and is left out all the same: for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub lane: u32,
    /// The number of its input.
    pub input: u16,
    pub point: PointNumber,
    pub reason: LeftOutReason,
}

/// A point that was left out and isn't any more, or isn't for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WasLeftOut {
    pub lane: u32,
    /// The number of the input.
    pub input: u16,
    pub point: PointNumber,
}

/// A point that is to be matched anew, or forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Replaced<'a> {
    pub number: PointNumber,
    pub path: &'a PointPath,
    /// Its unit now.
    pub unit: Option<&'a str>,
    /// The point is gone.
    pub is_removed: bool,
}

/// The outcome for points that were matched anew, and of those that wait for their entities.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rematched {
    /// Those that were left out before.
    pub were_left_out: Vec<WasLeftOut>,
    /// Those that are now.
    pub left_out: Vec<LeftOut>,
}

/// The reason why a matching point is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOutReason {
    /// An earlier point gives the same entity by another pattern of the input.
    SameEntity { entity: String },
    /// The units differ, and one can't be had in the other.
    Unit { point: String, input: String, why: NoConversion },
}

impl fmt::Display for LeftOutReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameEntity { entity } => {
                write!(f, "another point is already the entity {entity:?} of this input")
            }
            Self::Unit { point, input, why } => {
                write!(f, "its unit is {point}, and the input's {input}: {why}")
            }
        }
    }
}

struct Lane {
    inputs: Vec<LaneInput>,
    entities: Arc<Entities>,
    /// For each entity, by how many points' matches it is used. What a point has lost by its unit counts for ever:
    /// readings of before may wait.
    uses: Vec<u32>,
}

struct LaneInput {
    unit: Option<Arc<str>>,
    /// Those of the binding, and then those of each unit that has come.
    conversions: Vec<Known>,
    /// Kept only where the input has several patterns: two paths that match one pattern always differ in what
    /// it captures.
    taken: Option<Taken>,
}

/// The most units of an input whose conversions are kept. Others are worked out for each of their points.
const MAX_KNOWN: usize = 64;

impl LaneInput {
    fn convert(&mut self, unit: Option<&str>) -> Result<Option<Conversion>, NoConversion> {
        let conversion = convert(&self.conversions, unit, self.unit.as_deref())?;
        if let (Some(unit), Some(conversion)) = (unit, conversion)
            && self.conversions.len() < MAX_KNOWN
            && self.conversions.iter().all(|known| *known.unit != *unit)
        {
            self.conversions.push(Known { unit: unit.into(), conversion });
        }
        Ok(conversion)
    }
}

/// The entities of an input that points give so far.
#[derive(Default)]
struct Taken {
    entities: HashSet<u32>,
    /// The points that wait for an entity that another point gives. It is always the first that has it.
    waiting: HashMap<u32, BTreeSet<PointNumber>>,
}

impl Taken {
    /// Returns whether the entity was free, so that it is this point's now.
    fn take(&mut self, entity: u32, point: PointNumber) -> bool {
        let is_free = self.entities.insert(entity);
        if !is_free {
            self.waiting.entry(entity).or_default().insert(point);
        }
        is_free
    }

    fn leave(&mut self, entity: u32, point: PointNumber) {
        if let Some(waiting) = self.waiting.get_mut(&entity) {
            waiting.remove(&point);
            if waiting.is_empty() {
                self.waiting.remove(&entity);
            }
        }
    }

    /// The first point that waits for an entity that is free.
    fn next(&self, entity: u32) -> Option<PointNumber> {
        let waiting = self.waiting.get(&entity).filter(|_| !self.entities.contains(&entity))?;
        waiting.first().copied()
    }
}

/// The table of one stream.
#[derive(Default)]
pub struct RoutingTable {
    matches: Matches,
    index: PatternIndex,
    lanes: HashMap<u32, Lane>,
    /// The number of times that points were matched anew or forgotten.
    changes: u64,
    /// Used again and again while one point is matched.
    candidates: Vec<Candidate>,
    accepted: Vec<Match>,
    entity: String,
}

impl RoutingTable {
    /// A table without points and lanes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The inputs that take the readings of a point, by lane and input. Empty for points that were
    /// not added.
    #[inline]
    pub fn matches(&self, point: PointNumber) -> &[Match] {
        self.matches.of(point)
    }

    /// The entities of a lane, shared with it.
    pub fn entities(&self, lane: u32) -> Option<Arc<Entities>> {
        self.lanes.get(&lane).map(|lane| Arc::clone(&lane.entities))
    }

    /// The number of points, including gaps.
    pub fn points(&self) -> usize {
        self.matches.points()
    }

    /// Adds a point that has just appeared. Points come in the order of their numbers; numbers that
    /// are passed over stand for nothing. Returns where it was left out.
    pub fn add_point(&mut self, number: PointNumber, path: &PointPath, unit: Option<&str>) -> Vec<LeftOut> {
        assert!(number.pending_index().is_none(), "a point is routed once it has its number");
        assert!(number.0 as usize >= self.points(), "points are added once, in the order of their numbers");
        self.matches.grow(number.0 as usize + 1);
        let mut left_out = Vec::new();
        let mut candidates = std::mem::take(&mut self.candidates);
        self.index.candidates(path, &mut candidates);
        self.accept(&candidates, number, path, unit, &mut left_out);
        self.candidates = candidates;
        left_out
    }

    /// The number of times that points were matched anew or forgotten. What was prepared before the last time is of no use.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Sets the inputs of a new lane and goes over these points once, in the order of their numbers; points that
    /// were not added yet are left to `add_point`. At a start it is cheaper to set all lanes without points and to
    /// add the points then. Returns what was left out.
    pub fn set_lane<'a>(
        &mut self,
        lane: u32,
        inputs: &[InputBinding],
        points: impl IntoIterator<Item = (PointNumber, &'a PointPath, Option<&'a str>)>,
    ) -> Vec<LeftOut> {
        self.put_lane(lane, inputs, Prepared::new(inputs), points)
    }

    /// As [`Self::set_lane`] for inputs of which a part of the points is matched already: `points` are the others.
    pub fn put_lane<'a>(
        &mut self,
        lane: u32,
        inputs: &[InputBinding],
        mut prepared: Prepared,
        points: impl IntoIterator<Item = (PointNumber, &'a PointPath, Option<&'a str>)>,
    ) -> Vec<LeftOut> {
        assert!(!self.lanes.contains_key(&lane), "a lane is removed before its number is given again");
        for (slot, rank, pattern) in patterns(lane, inputs) {
            self.index.insert(slot, rank, pattern);
        }
        let added = self.points();
        for (number, path, unit) in points.into_iter().take_while(|(number, ..)| (number.0 as usize) < added)
        {
            prepared.add(number, path, unit);
        }
        let Prepared { lane: own, matches, mut left_out, .. } = prepared;
        self.lanes.insert(lane, own);
        left_out.iter_mut().for_each(|one| one.lane = lane);
        for (point, matched) in matches {
            // A lane that was prepared has had no number yet.
            self.matches
                .insert(point, Match { slot: Slot::new(lane, usize::from(matched.input())), ..matched });
        }
        left_out
    }

    /// Forgets a lane, which has these inputs.
    pub fn remove_lane(&mut self, lane: u32, inputs: &[InputBinding]) {
        if self.lanes.remove(&lane).is_some() {
            for (slot, _, pattern) in patterns(lane, inputs) {
                self.index.remove(slot, pattern);
            }
            self.matches.remove_lane(lane);
        }
    }

    /// Matches points anew whose unit has changed, or forgets those that were removed. An entity that they had goes
    /// to the first point that waits for it, so that the table is as if it were made anew; `known` shows such a
    /// point. Points come in the order of their numbers. Of those that are removed no lane may have a reading left to
    /// read: an entity that no other point has is forgotten.
    pub fn replace_points<'a>(
        &mut self,
        points: impl IntoIterator<Item = Replaced<'a>>,
        known: impl Fn(PointNumber) -> Option<(&'a PointPath, Option<&'a str>)>,
    ) -> Rematched {
        self.changes += 1;
        let mut rematched = Rematched::default();
        // Points that wait for an entity that has become free: each is behind the one that had it.
        let mut next = BTreeSet::new();
        let mut left: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let mut points = points.into_iter().peekable();
        loop {
            let waiting: Option<PointNumber> = next.first().copied();
            let changed = points.next_if(|point| waiting.is_none_or(|waiting| point.number <= waiting));
            let point = match (changed, waiting) {
                (Some(point), _) => point,
                (None, Some(number)) => match known(number) {
                    Some((path, unit)) => Replaced { number, path, unit, is_removed: false },
                    None => {
                        next.remove(&number);
                        continue;
                    }
                },
                (None, None) => break,
            };
            next.remove(&point.number);
            assert!(
                (point.number.0 as usize) < self.points(),
                "only points that were added are matched anew"
            );
            self.rematch(point, &mut next, &mut left, &mut rematched);
        }
        // Only now: points that have waited for one use it by now.
        for (lane, entities) in &left {
            self.lanes.get(lane).into_iter().for_each(|lane| lane.forget(entities));
        }
        rematched
    }

    /// Matches one point anew, or forgets it. The points that have waited for its entities are `next`; those that
    /// nobody else uses are `left`, by lane.
    fn rematch(
        &mut self,
        point: Replaced<'_>,
        next: &mut BTreeSet<PointNumber>,
        left: &mut BTreeMap<u32, BTreeSet<u32>>,
        rematched: &mut Rematched,
    ) {
        let before = self.matches.of(point.number).to_vec();
        let mut candidates = std::mem::take(&mut self.candidates);
        self.index.candidates(point.path, &mut candidates);
        for candidate in &candidates {
            let slot = candidate.slot;
            let (lane, input) = (slot.lane(), slot.input());
            let Some(of_lane) = self.lanes.get_mut(&lane) else { continue };
            let taken = of_lane.inputs[usize::from(input)].taken.as_mut();
            if let Some(matched) = before.iter().find(|matched| matched.slot == slot) {
                taken.map(|taken| taken.entities.remove(&matched.entity));
                continue;
            }
            rematched.were_left_out.push(WasLeftOut { lane, input, point: point.number });
            if let Some(taken) = taken {
                self.entity.clear();
                candidate.pattern.write_entity(point.path, &mut self.entity);
                let entity = of_lane.entities.read().number(&self.entity);
                entity.into_iter().for_each(|entity| taken.leave(entity, point.number));
            }
        }
        if point.is_removed {
            self.matches.set(point.number, &[]);
        } else {
            self.accept(&candidates, point.number, point.path, point.unit, &mut rematched.left_out);
        }
        self.candidates = candidates;
        for matched in before {
            let Match { slot, entity } = matched;
            let Some(lane) = self.lanes.get_mut(&slot.lane()) else { continue };
            let is_counted_anew = !point.is_removed && self.accepted.contains(&matched);
            if (point.is_removed || is_counted_anew) && lane.leave(entity) {
                left.entry(slot.lane()).or_default().insert(entity);
            }
            let taken = lane.inputs[usize::from(slot.input())].taken.as_ref();
            next.extend(taken.and_then(|taken| taken.next(entity)));
        }
    }

    /// Makes a point's matches anew.
    fn accept(
        &mut self,
        candidates: &[Candidate],
        number: PointNumber,
        path: &PointPath,
        unit: Option<&str>,
        left_out: &mut Vec<LeftOut>,
    ) {
        self.accepted.clear();
        for candidate in candidates {
            // The index holds patterns of known lanes only.
            let Some(lane) = self.lanes.get_mut(&candidate.slot.lane()) else { continue };
            match lane.accept(&mut self.entity, candidate, number, path, unit) {
                Ok(found) => self.accepted.push(found),
                Err(reason) => left_out.push(reason),
            }
        }
        self.matches.set(number, &self.accepted);
    }
}

/// The patterns of a lane's inputs, each with its slot and its place among those of the input.
fn patterns(lane: u32, inputs: &[InputBinding]) -> impl Iterator<Item = (Slot, usize, &Pattern)> {
    inputs.iter().enumerate().flat_map(move |(input, binding)| {
        let ranked = binding.patterns.iter().enumerate();
        ranked.map(move |(rank, pattern)| (Slot::new(lane, input), rank, pattern))
    })
}

impl Lane {
    fn new(inputs: &[InputBinding]) -> Self {
        let input = |input: &InputBinding| LaneInput {
            unit: input.unit.clone(),
            conversions: input.conversions.clone(),
            taken: (input.patterns.len() > 1).then(Taken::default),
        };
        Self { inputs: inputs.iter().map(input).collect(), entities: Arc::default(), uses: Vec::new() }
    }

    /// Checks unit and entity of a match.
    fn accept(
        &mut self,
        entity: &mut String,
        candidate: &Candidate,
        point: PointNumber,
        path: &PointPath,
        unit: Option<&str>,
    ) -> Result<Match, LeftOut> {
        let slot = candidate.slot;
        let (lane, input) = (slot.lane(), slot.input());
        let refuse = |reason| LeftOut { lane, input, point, reason };
        let wanted = &mut self.inputs[usize::from(input)];
        let conversion = match wanted.convert(unit) {
            Ok(conversion) => conversion,
            Err(why) => {
                let text = |unit: Option<&str>| unit.unwrap_or_default().to_owned();
                let (point, input) = (text(unit), text(wanted.unit.as_deref()));
                return Err(refuse(LeftOutReason::Unit { point, input, why }));
            }
        };
        entity.clear();
        candidate.pattern.write_entity(path, entity);
        let number = self.entities.intern(entity);
        if wanted.taken.as_mut().is_some_and(|taken| !taken.take(number, point)) {
            return Err(refuse(LeftOutReason::SameEntity { entity: entity.clone() }));
        }
        self.entities.convert(input, number, conversion);
        let at = number as usize;
        if at >= self.uses.len() {
            self.uses.resize(at + 1, 0);
        }
        self.uses[at] += 1;
        Ok(Match { slot, entity: number })
    }

    /// Lets another point give the entity of a match that stays.
    fn free(&mut self, matched: Match) {
        if let Some(taken) = &mut self.inputs[usize::from(matched.input())].taken {
            taken.entities.remove(&matched.entity());
        }
    }

    /// Counts one use less of an entity. Returns whether it was the last.
    fn leave(&mut self, entity: u32) -> bool {
        let uses = &mut self.uses[entity as usize];
        assert!(*uses > 0, "each match was counted");
        *uses -= 1;
        *uses == 0
    }

    /// Forgets those of these entities that no point uses.
    fn forget(&self, entities: &BTreeSet<u32>) {
        let unused = entities.iter().copied().filter(|entity| self.uses[*entity as usize] == 0);
        self.entities.forget(unused);
    }
}
