//! Routing: which lanes want the readings of a point.
//!
//! A point's matches are worked out once, when it appears or bindings change, so that routing a
//! reading costs one look-up by number, whatever the number of installations. The list of all
//! matches lies in one piece: points are numbered in the order in which they appear, so a new one
//! goes at its end; only a change of bindings writes it anew.

mod entities;
mod index;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::binding::{InputBinding, unit_fits};
use ironloom_types::ids::{PointNumber, PointPath};

pub use entities::{Entities, EntitiesRead};
use index::{Candidate, PatternIndex};

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

/// The most lanes of a table.
pub const MAX_LANES: u32 = 1 << 24;

/// A point that matches an input and is left out all the same: for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub lane: u32,
    /// The number of its input.
    pub input: u16,
    pub point: PointNumber,
    pub reason: LeftOutReason,
}

/// The reason why a matching point is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOutReason {
    /// An earlier point gives the same entity by another pattern of the input.
    SameEntity { entity: String },
    /// The units differ.
    Unit { point: String, input: String },
}

impl fmt::Display for LeftOutReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameEntity { entity } => {
                write!(f, "another point is already the entity {entity:?} of this input")
            }
            Self::Unit { point, input } => write!(f, "its unit is {point}, and the input's {input}"),
        }
    }
}

struct Lane {
    inputs: Vec<LaneInput>,
    entities: Arc<Entities>,
}

struct LaneInput {
    unit: Option<Arc<str>>,
    /// The entities that points give so far. Kept only where the input has several patterns: two
    /// paths that match one pattern always differ in what it captures.
    taken: Option<HashSet<u32>>,
}

/// The table of one stream.
pub struct RoutingTable {
    /// For point n, `list[offsets[n]..offsets[n + 1]]`.
    offsets: Vec<u32>,
    list: Vec<Match>,
    index: PatternIndex,
    lanes: HashMap<u32, Lane>,
    /// Used again and again while one point is matched.
    candidates: Vec<Candidate>,
    entity: String,
}

impl Default for RoutingTable {
    fn default() -> Self {
        Self::new()
    }
}

impl RoutingTable {
    /// A table without points and lanes.
    pub fn new() -> Self {
        Self {
            offsets: vec![0],
            list: Vec::new(),
            index: PatternIndex::default(),
            lanes: HashMap::new(),
            candidates: Vec::new(),
            entity: String::new(),
        }
    }

    /// The inputs that take the readings of a point, by lane and input. Empty for points that were
    /// not added.
    #[inline]
    pub fn matches(&self, point: PointNumber) -> &[Match] {
        let number = point.0 as usize;
        match self.offsets.get(number..number + 2) {
            Some(&[start, end]) => &self.list[start as usize..end as usize],
            _ => &[],
        }
    }

    /// The entities of a lane, shared with it; the numbers stay valid when its bindings change.
    pub fn entities(&self, lane: u32) -> Option<Arc<Entities>> {
        self.lanes.get(&lane).map(|lane| Arc::clone(&lane.entities))
    }

    /// The number of points, including gaps.
    pub fn points(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Adds a point that has just appeared. Points come in the order of their numbers; numbers that
    /// are passed over stand for nothing. Returns where it was left out.
    pub fn add_point(&mut self, number: PointNumber, path: &PointPath, unit: Option<&str>) -> Vec<LeftOut> {
        assert!(number.pending_index().is_none(), "a point is routed once it has its number");
        assert!(number.0 as usize >= self.points(), "points are added once, in the order of their numbers");
        let end = self.end();
        self.offsets.resize(number.0 as usize + 1, end);
        let mut left_out = Vec::new();
        let mut candidates = std::mem::take(&mut self.candidates);
        self.index.candidates(path, &mut candidates);
        for candidate in &candidates {
            match accept(&mut self.lanes, &mut self.entity, candidate, number, path, unit) {
                Ok(found) => self.list.push(found),
                Err(reason) => left_out.push(reason),
            }
        }
        self.candidates = candidates;
        let end = self.end();
        self.offsets.push(end);
        left_out
    }

    /// Sets the inputs of a lane, new or not, and goes over all points once, in the order of their
    /// numbers; points that were not added yet are left to `add_point`. At a start it is cheaper to
    /// set all lanes without points and to add the points then. Returns what was left out.
    pub fn set_lane<'a>(
        &mut self,
        lane: u32,
        inputs: &[InputBinding],
        points: impl IntoIterator<Item = (PointNumber, &'a PointPath, Option<&'a str>)>,
    ) -> Vec<LeftOut> {
        let entities = self.lanes.remove(&lane).map(|lane| lane.entities).unwrap_or_default();
        self.index.remove(lane);
        let own = inputs
            .iter()
            .map(|input| LaneInput {
                unit: input.unit.clone(),
                taken: (input.patterns.len() > 1).then(HashSet::new),
            })
            .collect();
        self.lanes.insert(lane, Lane { inputs: own, entities });
        let mut alone = PatternIndex::default();
        for (input, binding) in inputs.iter().enumerate() {
            for (rank, pattern) in binding.patterns.iter().enumerate() {
                self.index.insert(Slot::new(lane, input), rank, pattern);
                alone.insert(Slot::new(lane, input), rank, pattern);
            }
        }

        let mut found = Vec::new();
        let mut left_out = Vec::new();
        let mut candidates = Vec::new();
        let mut last = None;
        for (number, path, unit) in points {
            assert!(last < Some(number), "points come in the order of their numbers");
            last = Some(number);
            if number.0 as usize >= self.points() {
                break;
            }
            alone.candidates(path, &mut candidates);
            for candidate in &candidates {
                match accept(&mut self.lanes, &mut self.entity, candidate, number, path, unit) {
                    Ok(matched) => found.push((number, matched)),
                    Err(reason) => left_out.push(reason),
                }
            }
        }
        self.rewrite(lane, &found);
        left_out
    }

    /// Forgets a lane.
    pub fn remove_lane(&mut self, lane: u32) {
        if self.lanes.remove(&lane).is_some() {
            self.index.remove(lane);
            self.rewrite(lane, &[]);
        }
    }

    /// Matches points anew whose unit has changed, or forgets those that were removed (`None`): the entities
    /// that they had are free for others. Points come in the order of their numbers. Returns where they are
    /// left out.
    pub fn replace_points<'a>(
        &mut self,
        points: impl IntoIterator<Item = (PointNumber, Option<(&'a PointPath, Option<&'a str>)>)>,
    ) -> Vec<LeftOut> {
        let old = std::mem::take(&mut self.list);
        let old_offsets = std::mem::take(&mut self.offsets);
        let mut offsets = Vec::with_capacity(old_offsets.len());
        let mut left_out = Vec::new();
        let mut candidates = Vec::new();
        let mut points = points.into_iter().peekable();
        for (number, ends) in old_offsets.windows(2).enumerate() {
            offsets.push(self.end());
            let number = PointNumber(number as u32);
            let before = &old[ends[0] as usize..ends[1] as usize];
            let Some((_, point)) = points.next_if(|(next, _)| *next == number) else {
                self.list.extend_from_slice(before);
                continue;
            };
            for Match { slot, entity } in before {
                let lane = self.lanes.get_mut(&slot.lane());
                let taken = lane.and_then(|lane| lane.inputs[usize::from(slot.input())].taken.as_mut());
                taken.map(|taken| taken.remove(entity));
            }
            let Some((path, unit)) = point else { continue };
            self.index.candidates(path, &mut candidates);
            for candidate in &candidates {
                match accept(&mut self.lanes, &mut self.entity, candidate, number, path, unit) {
                    Ok(found) => self.list.push(found),
                    Err(reason) => left_out.push(reason),
                }
            }
        }
        assert!(points.next().is_none(), "points are there, and come in the order of their numbers");
        offsets.push(self.end());
        self.offsets = offsets;
        left_out
    }

    fn end(&self) -> u32 {
        assert!(self.list.len() < u32::MAX as usize, "a table has fewer than 2^32 matches");
        self.list.len() as u32
    }

    /// Writes the list anew with these matches of the lane, in the order of points, in place of the
    /// ones it had.
    fn rewrite(&mut self, lane: u32, matches: &[(PointNumber, Match)]) {
        let old = std::mem::take(&mut self.list);
        let mut offsets = Vec::with_capacity(self.offsets.len());
        self.list.reserve_exact(old.len() + matches.len());
        let mut own = matches.iter().peekable();
        for number in 0..self.points() {
            offsets.push(self.end());
            let (start, end) = (self.offsets[number] as usize, self.offsets[number + 1] as usize);
            let others = &old[start..end];
            // Both parts are sorted, and a lane's matches stand side by side.
            let before = others.iter().filter(|one| one.lane() < lane);
            self.list.extend(before);
            while let Some((_, matched)) = own.next_if(|(point, _)| point.0 as usize == number) {
                self.list.push(*matched);
            }
            self.list.extend(others.iter().filter(|one| one.lane() > lane));
        }
        offsets.push(self.end());
        self.offsets = offsets;
    }
}

/// Checks unit and entity of a match.
fn accept(
    lanes: &mut HashMap<u32, Lane>,
    entity: &mut String,
    candidate: &Candidate,
    point: PointNumber,
    path: &PointPath,
    unit: Option<&str>,
) -> Result<Match, LeftOut> {
    let slot = candidate.slot;
    let (lane, input) = (slot.lane(), slot.input());
    let refuse = |reason| LeftOut { lane, input, point, reason };
    // The index holds patterns of known lanes only, so the entry is there.
    let lane = lanes.entry(lane).or_insert_with(|| Lane { inputs: Vec::new(), entities: Arc::default() });
    let wanted = &mut lane.inputs[usize::from(input)];
    if !unit_fits(unit, wanted.unit.as_deref()) {
        let text = |unit: Option<&str>| unit.unwrap_or_default().to_owned();
        return Err(refuse(LeftOutReason::Unit { point: text(unit), input: text(wanted.unit.as_deref()) }));
    }
    entity.clear();
    candidate.pattern.write_entity(path, entity);
    let number = lane.entities.intern(entity);
    if wanted.taken.as_mut().is_some_and(|taken| !taken.insert(number)) {
        return Err(refuse(LeftOutReason::SameEntity { entity: entity.clone() }));
    }
    Ok(Match { slot, entity: number })
}
