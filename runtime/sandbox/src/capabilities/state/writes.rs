//! The writes of an invocation, in the order of the keys' bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use ironloom_types::effects::StateChange;

/// What was written, each key once. `None` deletes.
///
/// An app usually writes once, all that it has: such a batch is kept as the sorted list that the effects are. Few
/// keys after many go to a map beside it, so that many calls with one key each don't move the whole list each time.
#[derive(Debug, Default)]
pub(super) struct Writes {
    list: Vec<StateChange>,
    /// Newer than the list.
    late: BTreeMap<Box<str>, Option<Bytes>>,
    /// Keys that are in both.
    both: usize,
}

/// Brings changes into the order of their keys. Of those of one key the last one counts.
pub(super) fn sort(changes: &mut Vec<StateChange>) {
    if changes.is_sorted_by(|a, b| a.0 < b.0) {
        return;
    }
    // Compared by eight bytes at once: those behind what all keys begin with mostly decide.
    let common = changes.iter().fold(changes[0].0.len(), |common, (key, _)| {
        let same = key.bytes().zip(changes[0].0.bytes()).take(common);
        same.take_while(|(a, b)| a == b).count()
    });
    let mut order: Vec<(u64, u32)> =
        (0..).zip(&*changes).map(|(n, (key, _))| (head(key, common), n)).collect();
    let key = |place: u32| &*changes[place as usize].0;
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))).then(a.1.cmp(&b.1)));
    let mut unsorted = std::mem::take(changes);
    changes.reserve(unsorted.len());
    for (_, place) in order {
        let change = std::mem::take(&mut unsorted[place as usize]);
        match changes.last_mut() {
            Some(last) if last.0 == change.0 => *last = change,
            _ => changes.push(change),
        }
    }
}

/// Eight bytes of a key from a place on, as a number that is ordered as they are.
fn head(key: &str, from: usize) -> u64 {
    let bytes = &key.as_bytes()[from..];
    match bytes.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(head)
        }
    }
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
    pub(super) fn get(&self, key: &str) -> Option<&Option<Bytes>> {
        self.late.get(key).or_else(|| Some(&self.list[self.find(key)?].1))
    }

    fn find(&self, key: &str) -> Option<usize> {
        self.list.binary_search_by(|(other, _)| (**other).cmp(key)).ok()
    }

    /// Adds what is written now. `batch` is sorted, and no key occurs twice.
    pub(super) fn add(&mut self, batch: Vec<StateChange>) {
        if batch.len() >= (self.list.len() + self.late.len()) / 8 {
            self.settle();
            self.list = merge(std::mem::take(&mut self.list), batch);
            return;
        }
        for (key, value) in batch {
            let in_list = self.find(&key).is_some();
            if self.late.insert(key, value).is_none() {
                self.both += usize::from(in_list);
            }
        }
    }

    /// All in one list.
    pub(super) fn settle(&mut self) -> &[StateChange] {
        if !self.late.is_empty() {
            let late = std::mem::take(&mut self.late).into_iter().collect();
            self.list = merge(std::mem::take(&mut self.list), late);
            self.both = 0;
        }
        &self.list
    }

    /// Ends with what was written, in the order of the keys' bytes.
    pub(super) fn into_list(mut self) -> Vec<StateChange> {
        self.settle();
        self.list
    }
}

/// Two sorted lists in one; where both have a key, the new one counts.
fn merge(old: Vec<StateChange>, new: Vec<StateChange>) -> Vec<StateChange> {
    if old.is_empty() {
        return new;
    }
    let mut all = Vec::with_capacity(old.len() + new.len());
    let mut old = old.into_iter().peekable();
    for change in new {
        while let Some(earlier) = old.next_if(|(key, _)| *key < change.0) {
            all.push(earlier);
        }
        let _replaced = old.next_if(|(key, _)| *key == change.0);
        all.push(change);
    }
    all.extend(old);
    all
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
                let mut batch: Vec<StateChange> = batch.into_iter().map(|(key, value)| (key.into(), bytes(value))).collect();
                model.extend(batch.iter().cloned());
                sort(&mut batch);
                writes.add(batch);
                prop_assert_eq!(writes.len(), model.len());
                for (key, value) in &model {
                    prop_assert_eq!(writes.get(key), Some(value));
                }
                prop_assert_eq!(writes.get("c"), None);
                if settled {
                    prop_assert_eq!(writes.settle().len(), model.len());
                }
            }
            prop_assert_eq!(writes.into_list(), model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn single_keys_after_many_stay_beside_the_list() {
        let one = |n: u32| (format!("{n:03}").into_boxed_str(), None);
        let mut writes = Writes::default();
        writes.add((0..100).map(one).collect());
        writes.add(vec![one(7)]);
        writes.add(vec![one(200)]);
        assert_eq!((writes.list.len(), writes.late.len(), writes.len()), (100, 2, 101));
    }
}
