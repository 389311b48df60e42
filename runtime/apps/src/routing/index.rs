//! Finds the patterns that match a path without trying each.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::Slot;
use crate::pattern::{Pattern, Segment};
use ironloom_types::ids::{MAX_PATH_SEGMENTS, PointPath};

/// Patterns by shape (how many segments, which of them captures) and then by their literals. A site
/// has few shapes, so a path is looked up a few times, however many installations there are.
#[derive(Default)]
pub(super) struct PatternIndex {
    shapes: Vec<Shape>,
    hasher: DefaultHashBuilder,
}

struct Shape {
    segments: usize,
    /// Bit n: segment n is a literal.
    literals: u16,
    by_literals: HashMap<u64, Vec<Candidate>>,
}

/// A pattern of an input that may match.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) slot: Slot,
    /// The place of the pattern among those of its input.
    rank: usize,
    pub(super) pattern: Pattern,
}

impl PatternIndex {
    pub(super) fn insert(&mut self, slot: Slot, rank: usize, pattern: &Pattern) {
        let segments = pattern.segments().len();
        let mut literals = 0;
        let mut key = 0;
        for (at, segment) in pattern.segments().iter().enumerate() {
            if let Segment::Literal(literal) = segment {
                literals |= 1 << at;
                key = mix(key, self.hasher.hash_one(&**literal));
            }
        }
        let at =
            self.shapes.iter().position(|shape| shape.segments == segments && shape.literals == literals);
        let at = at.unwrap_or_else(|| {
            self.shapes.push(Shape { segments, literals, by_literals: HashMap::new() });
            self.shapes.len() - 1
        });
        let candidate = Candidate { slot, rank, pattern: pattern.clone() };
        self.shapes[at].by_literals.entry(key).or_default().push(candidate);
    }

    pub(super) fn remove(&mut self, lane: u32) {
        for shape in &mut self.shapes {
            shape.by_literals.retain(|_, candidates| {
                candidates.retain(|candidate| candidate.slot.lane() != lane);
                !candidates.is_empty()
            });
        }
        self.shapes.retain(|shape| !shape.by_literals.is_empty());
    }

    /// The first pattern of each input that matches, in the order of lanes and inputs.
    pub(super) fn candidates(&self, path: &PointPath, found: &mut Vec<Candidate>) {
        found.clear();
        let mut hashes = [0; MAX_PATH_SEGMENTS];
        let mut segments = 0;
        for part in path.segments() {
            hashes[segments] = self.hasher.hash_one(part);
            segments += 1;
        }
        for shape in self.shapes.iter().filter(|shape| shape.segments == segments) {
            let literals = (0..segments).filter(|at| shape.literals & 1 << at != 0);
            let key = literals.fold(0, |key, at| mix(key, hashes[at]));
            let Some(candidates) = shape.by_literals.get(&key) else { continue };
            // The key is a hash: the literals themselves decide.
            found.extend(candidates.iter().filter(|candidate| candidate.pattern.matches(path)).cloned());
        }
        found.sort_unstable_by_key(|candidate| (candidate.slot, candidate.rank));
        found.dedup_by_key(|candidate| candidate.slot);
    }
}

fn mix(key: u64, hash: u64) -> u64 {
    (key.rotate_left(23) ^ hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
