//! The entities of one lane, each with a number.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::{RwLock, RwLockReadGuard};

/// The entities of one lane, numbered from 0 in the order in which they appear. Routing adds them,
/// the lane reads them. The numbers live as long as the process and are written nowhere.
#[derive(Default)]
pub struct Entities(RwLock<Inner>);

#[derive(Default)]
struct Inner {
    /// All texts one after the other, so that a million of them is two allocations.
    heap: String,
    /// The end of each text in the heap.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Inner {
    fn text(&self, number: u32) -> &str {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.heap[start..self.ends[number]]
    }

    fn find(&self, text: &str) -> Option<u32> {
        self.numbers.find(self.hasher.hash_one(text), |&number| self.text(number) == text).copied()
    }
}

impl Entities {
    /// The number of an entity, given now where it has none.
    pub(super) fn intern(&self, text: &str) -> u32 {
        if let Some(number) = self.0.read().find(text) {
            return number;
        }
        let mut inner = self.0.write();
        // Only the routing table adds, so nobody has added this one in between.
        let number = inner.ends.len() as u32;
        inner.heap.push_str(text);
        let end = inner.heap.len();
        inner.ends.push(end);
        let Inner { heap, ends, numbers, hasher } = &mut *inner;
        let hash = |&number: &u32| {
            let start = if number == 0 { 0 } else { ends[number as usize - 1] };
            hasher.hash_one(&heap[start..ends[number as usize]])
        };
        numbers.insert_unique(hasher.hash_one(text), number, hash);
        number
    }

    /// Looks at them. New ones wait until what is returned is dropped.
    pub fn read(&self) -> EntitiesRead<'_> {
        EntitiesRead(self.0.read())
    }
}

/// A look at the entities of a lane.
pub struct EntitiesRead<'a>(RwLockReadGuard<'a, Inner>);

impl EntitiesRead<'_> {
    /// The text of an entity by its number, which must be one that a match of this lane had.
    pub fn text(&self, number: u32) -> &str {
        self.0.text(number)
    }

    /// The number of an entity, if a point has it.
    pub fn number(&self, text: &str) -> Option<u32> {
        self.0.find(text)
    }

    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }
}
