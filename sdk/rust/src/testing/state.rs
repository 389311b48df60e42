//! The state in memory, with the changes of the current call and how to take them back.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::state::{Error, Page};

/// The host's limits.
const MAX_KEY: usize = 512;
const MAX_VALUE: usize = 256 << 10;
const MAX_BYTES: u64 = 64 << 20;
const MAX_PAGE: u32 = 1_000;
/// Bytes that a key counts besides its own and those of its value.
const KEY_BYTES: usize = 128;

pub(super) struct State {
    /// Bytes that keys and values may have.
    pub granted: u64,
    /// The index of a key's value. A key stays when its value is deleted.
    places: HashMap<Box<str>, usize>,
    values: Vec<Option<Vec<u8>>>,
    bytes: u64,
    /// The values before the call with their places, newest last.
    undo: Vec<(usize, Option<Vec<u8>>)>,
    bytes_before: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            granted: MAX_BYTES,
            places: HashMap::new(),
            values: Vec::new(),
            bytes: 0,
            undo: Vec::new(),
            bytes_before: 0,
        }
    }
}

fn check(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::InvalidKey("a key must not be empty".to_owned())),
        1..=MAX_KEY => Ok(()),
        bytes => Err(Error::InvalidKey(format!("a key has {bytes} bytes; at most {MAX_KEY} are allowed"))),
    }
}

impl State {
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        check(key)?;
        Ok(self.places.get(key).and_then(|&place| self.values[place].clone()))
    }

    /// Stores all, or on error none.
    pub(super) fn set_many<'a>(
        &mut self,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(), Error> {
        let (undo_before, bytes_before) = (self.undo.len(), self.bytes);
        let result = self.try_set_many(entries, bytes_before);
        if result.is_err() {
            self.take_back(undo_before, bytes_before);
        }
        result
    }

    fn try_set_many<'a>(
        &mut self,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
        bytes_before: u64,
    ) -> Result<(), Error> {
        for (key, value) in entries {
            check(key)?;
            if value.len() > MAX_VALUE {
                return Err(Error::TooLarge(MAX_VALUE as u64));
            }
            let place = match self.places.get(key) {
                Some(&place) => place,
                None => {
                    self.values.push(None);
                    self.places.insert(key.into(), self.values.len() - 1);
                    self.values.len() - 1
                }
            };
            self.put(place, key.len(), Some(value.to_vec()));
        }
        let granted = self.granted;
        // What doesn't grow is taken, even where less was granted since.
        if self.bytes > granted.max(bytes_before) { Err(Error::QuotaExceeded(granted)) } else { Ok(()) }
    }

    pub(super) fn delete_many(&mut self, keys: &[&str]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| check(key))?;
        for key in keys {
            if let Some(&place) = self.places.get(*key) {
                self.put(place, key.len(), None);
            }
        }
        Ok(())
    }

    fn put(&mut self, place: usize, key_length: usize, value: Option<Vec<u8>>) {
        let size = |value: &Option<Vec<u8>>| {
            value.as_ref().map_or(0, |value| (KEY_BYTES + key_length + value.len()) as u64)
        };
        self.bytes += size(&value);
        let before = std::mem::replace(&mut self.values[place], value);
        self.bytes -= size(&before);
        self.undo.push((place, before));
    }

    pub(super) fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, Error> {
        if limit == 0 {
            return Err(Error::Other("the limit of a scan must be at least 1".to_owned()));
        }
        let all = self.all();
        let mut left = all
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after))
            .map(|(key, value)| (key.clone(), value.clone()));
        let entries: Vec<_> = left.by_ref().take(limit.min(MAX_PAGE) as usize).collect();
        let next = if left.next().is_some() { entries.last().map(|(key, _)| key.clone()) } else { None };
        Ok(Page { entries, next })
    }

    /// All entries, in the order of the keys' bytes.
    pub(super) fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let stored = self.places.iter().filter_map(|(key, &place)| Some((key, self.values[place].as_ref()?)));
        stored.map(|(key, value)| (key.to_string(), value.clone())).collect()
    }

    /// Puts all of it back to what it was.
    pub(super) fn replace(&mut self, with: BTreeMap<String, Vec<u8>>) {
        *self = Self { granted: self.granted, ..Self::default() };
        for (key, value) in with {
            self.bytes += (KEY_BYTES + key.len() + value.len()) as u64;
            self.places.insert(key.into(), self.values.len());
            self.values.push(Some(value));
        }
        self.commit();
    }

    pub(super) fn commit(&mut self) {
        self.undo.clear();
        self.bytes_before = self.bytes;
    }

    pub(super) fn roll_back(&mut self) {
        self.take_back(0, self.bytes_before);
    }

    fn take_back(&mut self, undo: usize, bytes: u64) {
        while self.undo.len() > undo
            && let Some((place, before)) = self.undo.pop()
        {
            self.values[place] = before;
        }
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(Vec<(u8, Vec<u8>)>),
        Delete(Vec<u8>),
        Commit,
        RollBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        let value = proptest::collection::vec(any::<u8>(), 0..4);
        prop_oneof![
            proptest::collection::vec((0..6_u8, value), 0..4).prop_map(Step::Set),
            proptest::collection::vec(0..6_u8, 0..4).prop_map(Step::Delete),
            Just(Step::Commit),
            Just(Step::RollBack),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_with_transactions(steps in proptest::collection::vec(step(), 0..40)) {
            let (mut state, mut model) = (State::default(), BTreeMap::new());
            let mut committed = model.clone();
            for step in steps {
                match step {
                    Step::Set(entries) => {
                        let entries: Vec<_> = entries.into_iter().map(|(key, value)| (format!("k{key}"), value)).collect();
                        state.set_many(entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))).unwrap();
                        model.extend(entries);
                    }
                    Step::Delete(keys) => {
                        let keys: Vec<_> = keys.into_iter().map(|key| format!("k{key}")).collect();
                        state.delete_many(&keys.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
                        keys.iter().for_each(|key| drop(model.remove(key)));
                    }
                    Step::Commit => {
                        state.commit();
                        committed = model.clone();
                    }
                    Step::RollBack => {
                        state.roll_back();
                        model = committed.clone();
                    }
                }
                prop_assert_eq!(state.all(), model.clone());
                // As the README prices an entry: 128 bytes, and what key and value hold.
                let bytes: usize = model.iter().map(|(key, value)| 128 + key.len() + value.len()).sum();
                prop_assert_eq!(state.bytes, bytes as u64);
                for key in 0..6 {
                    let key = format!("k{key}");
                    prop_assert_eq!(state.get(&key).unwrap(), model.get(&key).cloned());
                }
            }
        }
    }

    #[test]
    fn too_much_is_refused_whole() {
        let mut state = State::default();
        let value = vec![0; MAX_VALUE];
        let keys: Vec<_> = (0..257).map(|key| key.to_string()).collect();
        let entries = keys.iter().map(|key| (key.as_str(), value.as_slice()));
        assert_eq!(state.set_many(entries), Err(Error::QuotaExceeded(MAX_BYTES)));
        assert_eq!(state.all().len(), 0);
        let long = vec![0; MAX_VALUE + 1];
        let entries = [("a", value.as_slice()), ("b", long.as_slice())];
        assert_eq!(state.set_many(entries.into_iter()), Err(Error::TooLarge(MAX_VALUE as u64)));
        assert_eq!(state.get("a"), Ok(None));
        assert!(matches!(state.get(&"k".repeat(513)), Err(Error::InvalidKey(_))));
        assert!(matches!(state.delete_many(&["a", ""]), Err(Error::InvalidKey(_))));
    }
}
