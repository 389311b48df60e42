//! What many have in common, in memory once.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::sync::{Arc, Weak};

use hashbrown::HashTable;

/// At fewer values than these it isn't looked for those that nobody has any more.
const FEW: usize = 16;

/// Values by what they are, each for as long as somebody has it.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    known: HashTable<(u64, Weak<T>)>,
    hasher: RandomState,
    /// The number of values at which those that nobody has go: twice as many as were left the last time.
    most: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { known: HashTable::new(), hasher: RandomState::new(), most: FEW }
    }
}

impl<T: Hash + Eq> Interner<T> {
    /// The same value as somebody has it already, else this one.
    pub(crate) fn one(&mut self, value: Arc<T>) -> Arc<T> {
        let hash = self.hasher.hash_one(&*value);
        let mut same = None;
        self.known.find(hash, |(known_hash, known)| {
            if *known_hash == hash {
                same = known.upgrade().filter(|known| **known == *value);
            }
            same.is_some()
        });
        if let Some(same) = same {
            return same;
        }
        if self.known.len() >= self.most {
            self.known.retain(|(_, known)| known.strong_count() > 0);
            self.most = FEW.max(2 * self.known.len());
        }
        self.known.insert_unique(hash, (hash, Arc::downgrade(&value)), |(hash, _)| *hash);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_there_once_and_those_that_nobody_has_go() {
        let mut interner = Interner::default();
        let one = |interner: &mut Interner<u32>, value| interner.one(Arc::new(value));
        let held: Vec<_> = (0..10).map(|value| one(&mut interner, value)).collect();
        // In turn, as installations of several kinds come.
        for round in 0..1_000 {
            let same = one(&mut interner, round % 10);
            assert!(Arc::ptr_eq(&same, &held[round as usize % 10]));
            one(&mut interner, 1_000 + round);
        }
        assert!(interner.known.len() <= 20, "{} are remembered", interner.known.len());
        drop(held);
        assert_eq!(*one(&mut interner, 3), 3);
    }
}
