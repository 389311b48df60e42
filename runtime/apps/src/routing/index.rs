//! Finds the patterns that match a path without trying each.

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::{RoutingTable, Slot};
use crate::binding::Bindings;
use crate::pattern::{Pattern, Segment};
use ironloom_types::ids::{MAX_PATH_SEGMENTS, PointPath};
use ironloom_types::limits::MAX_SHAPES;

/// Looks at shapes that take as long as one match.
const LOOKS_PER_MATCH: usize = 16;

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

/// The shapes of a site's patterns. A new point is looked up once for each that has as many segments.
#[derive(Debug)]
pub struct Shapes(pub(super) BTreeSet<(usize, u16)>);

impl Shapes {
    /// Takes over those of more inputs; `false` where they would be too many.
    pub fn take(&mut self, bindings: &Bindings) -> bool {
        let before = self.0.len();
        let patterns = bindings.inputs.iter().flat_map(|input| &input.patterns);
        self.0.extend(patterns.map(|pattern| (pattern.segments().len(), literals(pattern))));
        self.0.len() == before || self.0.len() <= MAX_SHAPES
    }
}

/// Which segments of a pattern are literals.
fn literals(pattern: &Pattern) -> u16 {
    let is_literal = |(_, segment): &(usize, &Segment)| matches!(segment, Segment::Literal(_));
    pattern.segments().iter().enumerate().filter(is_literal).fold(0, |all, (at, _)| all | 1 << at)
}

impl PatternIndex {
    pub(super) fn shapes(&self) -> impl Iterator<Item = (usize, u16)> {
        self.shapes.iter().map(|shape| (shape.segments, shape.literals))
    }

    /// Looks that a path of a point costs beside its matches, in matches.
    pub(super) fn looks(&self) -> usize {
        self.shapes.len() / LOOKS_PER_MATCH
    }

    pub(super) fn insert(&mut self, slot: Slot, rank: usize, pattern: &Pattern) {
        let (literals, key) = self.key(pattern);
        let segments = pattern.segments().len();
        let at = self.place(segments, literals).unwrap_or_else(|| {
            self.shapes.push(Shape { segments, literals, by_literals: HashMap::new() });
            self.shapes.len() - 1
        });
        let candidate = Candidate { slot, rank, pattern: pattern.clone() };
        // Mostly it is the only one.
        self.shapes[at].by_literals.entry(key).or_insert_with(|| Vec::with_capacity(1)).push(candidate);
    }

    /// Takes out a pattern of an input.
    pub(super) fn remove(&mut self, slot: Slot, pattern: &Pattern) {
        let (literals, key) = self.key(pattern);
        let Some(at) = self.place(pattern.segments().len(), literals) else { return };
        let by_literals = &mut self.shapes[at].by_literals;
        let Some(candidates) = by_literals.get_mut(&key) else { return };
        candidates.retain(|candidate| candidate.slot != slot || candidate.pattern != *pattern);
        if candidates.is_empty() {
            by_literals.remove(&key);
        }
        if by_literals.is_empty() {
            self.shapes.swap_remove(at);
        }
    }

    /// Which segments of a pattern are literals, and the hash of these and of its tenant.
    fn key(&self, pattern: &Pattern) -> (u16, u64) {
        let tenant = u64::from(pattern.tenant().0);
        let key = pattern.segments().iter().fold(tenant, |key, segment| match segment {
            Segment::Literal(literal) => mix(key, self.hasher.hash_one(&**literal)),
            Segment::Capture(_) => key,
        });
        (literals(pattern), key)
    }

    fn place(&self, segments: usize, literals: u16) -> Option<usize> {
        self.shapes.iter().position(|shape| shape.segments == segments && shape.literals == literals)
    }

    /// The first pattern of each input that matches, in the order of lanes and inputs.
    pub(super) fn candidates(&self, path: &PointPath, found: &mut Vec<Candidate>) {
        found.clear();
        self.each_alike(path, |candidates| {
            // Their key is a hash: the literals themselves decide.
            found.extend(candidates.iter().filter(|candidate| candidate.pattern.matches(path)).cloned());
        });
        found.sort_unstable_by_key(|candidate| (candidate.slot, candidate.rank));
        found.dedup_by_key(|candidate| candidate.slot);
    }

    /// About as many patterns as match a path, without a look at each.
    pub(super) fn count(&self, path: &PointPath) -> usize {
        let mut count = 0;
        self.each_alike(path, |candidates| count += candidates.len());
        count
    }

    /// Shows `see` the patterns that match a path, those with the same literals in the same places together.
    fn each_alike(&self, path: &PointPath, mut see: impl FnMut(&[Candidate])) {
        let mut hashes = [0; MAX_PATH_SEGMENTS];
        let mut segments = 0;
        for part in path.segments() {
            hashes[segments] = self.hasher.hash_one(part);
            segments += 1;
        }
        for shape in self.shapes.iter().filter(|shape| shape.segments == segments) {
            let literals = (0..segments).filter(|at| shape.literals & 1 << at != 0);
            let key = literals.fold(u64::from(path.tenant().0), |key, at| mix(key, hashes[at]));
            shape.by_literals.get(&key).into_iter().for_each(|candidates| see(candidates));
        }
    }
}

impl RoutingTable {
    /// The shapes of all patterns.
    pub fn shapes(&self) -> Shapes {
        Shapes(self.index.shapes().collect())
    }

    /// About as many matches as a point with this path gets: an input with several patterns that match counts each of them,
    /// and so do some shapes of patterns.
    pub fn about(&self, path: &PointPath) -> usize {
        self.index.count(path) + self.index.looks()
    }
}

fn mix(key: u64, hash: u64) -> u64 {
    (key.rotate_left(23) ^ hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
