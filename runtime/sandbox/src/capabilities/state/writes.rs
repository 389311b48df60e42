//! The writes of an invocation, in the order of the keys' bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use ironloom_types::changes::StateChanges;

/// What was written, each key once. `None` deletes.
///
/// An app usually writes once, all that it has: such a batch is kept as the sorted list that the effects are. Few
/// keys after many go to a map beside it, so that many calls with one key each don't move the whole list each time.
#[derive(Debug, Default)]
pub(super) struct Writes {
    list: StateChanges,
    /// Newer than the list.
    late: BTreeMap<Box<str>, Option<Bytes>>,
    /// Keys that are in both.
    both: usize,
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.list.len() + self.late.len() - self.both
    }

    /// What was written under a key.
    pub(super) fn get(&self, key: &str) -> Option<Option<&[u8]>> {
        match self.late.get(key) {
            Some(late) => Some(late.as_deref()),
            None => Some(self.list.get(self.list.find(key)?).1),
        }
    }

    /// Adds what is written now. `batch` is sorted, and no key occurs twice.
    pub(super) fn add(&mut self, batch: StateChanges) {
        if batch.len() >= (self.list.len() + self.late.len()) / 8 {
            self.settle();
            self.list = std::mem::take(&mut self.list).merge(batch);
            return;
        }
        for (key, value) in batch.iter() {
            let in_list = self.list.find(key).is_some();
            if self.late.insert(key.into(), value.map(Bytes::copy_from_slice)).is_none() {
                self.both += usize::from(in_list);
            }
        }
    }

    /// All in one list.
    pub(super) fn settle(&mut self) -> &StateChanges {
        if !self.late.is_empty() {
            let late = std::mem::take(&mut self.late).into_iter().collect();
            self.list = std::mem::take(&mut self.list).merge(late);
            self.both = 0;
        }
        &self.list
    }

    /// Ends with what was written, in the order of the keys' bytes.
    pub(super) fn into_list(mut self) -> StateChanges {
        self.settle();
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Change = (String, Option<u8>);

    fn change() -> impl Strategy<Value = Change> {
        ("[ab]{1,3}|aaaaaaaa[ab]{0,2}|x?\u{0}{0,2}", proptest::option::of(any::<u8>()))
    }

    proptest! {
        #[test]
        fn it_is_a_map(batches in prop::collection::vec(prop::collection::vec(change(), 0..12), 0..12), settled in any::<bool>()) {
            let (mut writes, mut model) = (Writes::default(), BTreeMap::<Box<str>, Option<Bytes>>::new());
            for batch in batches {
                let bytes = |value: Option<u8>| value.map(|byte| Bytes::copy_from_slice(&[byte]));
                let batch = batch.into_iter().map(|(key, value)| (key.into_boxed_str(), bytes(value)));
                let batch: Vec<(Box<str>, Option<Bytes>)> = batch.collect();
                let mut changes: StateChanges = batch.iter().cloned().collect();
                model.extend(batch);
                changes.sort();
                writes.add(changes);
                prop_assert_eq!(writes.len(), model.len());
                for (key, value) in &model {
                    prop_assert_eq!(writes.get(key), Some(value.as_deref()));
                }
                prop_assert_eq!(writes.get("c"), None);
                if settled {
                    prop_assert_eq!(writes.settle().len(), model.len());
                }
            }
            prop_assert_eq!(writes.into_list(), model.into_iter().collect());
        }
    }

    #[test]
    fn single_keys_after_many_stay_beside_the_list() {
        let one = |n: u32| (format!("{n:03}"), None::<Bytes>);
        let mut writes = Writes::default();
        writes.add((0..100).map(one).collect());
        writes.add([one(7)].into_iter().collect());
        writes.add([one(200)].into_iter().collect());
        assert_eq!((writes.list.len(), writes.late.len(), writes.len()), (100, 2, 101));
    }
}
