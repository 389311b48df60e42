//! The state in memory, with the changes of the current call and how to take them back.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::limits::{
    self, MAX_STATE_KEY, MAX_STATE_KEYS, MAX_STATE_PAGE, MAX_STATE_PAGE_BYTES, MAX_STATE_VALUE,
    STATE_KEY_BYTES,
};
use super::quota::Quota;
use crate::state::{Error, Page};

pub(super) struct State {
    /// Bytes that keys and values may have.
    pub granted: u64,
    /// Bytes of memory that the app has: no call returns more.
    pub memory: u64,
    /// The index of a key's value. A key stays when its value is deleted.
    places: HashMap<Box<str>, usize>,
    values: Vec<Place>,
    bytes: u64,
    /// Counts the calls, from 1.
    call: u64,
    /// Keys that this call has set or deleted.
    changed: usize,
    /// The values before the call with their places, newest last.
    undo: Vec<(usize, Place)>,
    bytes_before: u64,
}

#[derive(Clone, Default)]
struct Place {
    value: Option<Vec<u8>>,
    /// The call that last set or deleted it.
    changed_by: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            granted: limits::STATE,
            memory: limits::MEMORY,
            places: HashMap::new(),
            values: Vec::new(),
            bytes: 0,
            call: 1,
            changed: 0,
            undo: Vec::new(),
            bytes_before: 0,
        }
    }
}

/// What one operation adds to the effects, and takes away from them.
#[derive(Default)]
struct Change {
    added: usize,
    removed: usize,
}

fn check(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::InvalidKey("a key must not be empty".to_owned())),
        1..=MAX_STATE_KEY => Ok(()),
        bytes => {
            Err(Error::InvalidKey(format!("a key has {bytes} bytes; at most {MAX_STATE_KEY} are allowed")))
        }
    }
}

fn check_number(keys: usize) -> Result<(), Error> {
    if keys > MAX_STATE_KEYS {
        let text = format!("a call names {keys} keys; at most {MAX_STATE_KEYS} are allowed");
        return Err(Error::Other(text));
    }
    Ok(())
}

fn cost(key: &str, value: Option<&[u8]>) -> usize {
    STATE_KEY_BYTES + key.len() + value.map_or(0, <[u8]>::len)
}

impl State {
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        check(key)?;
        Ok(self.places.get(key).and_then(|&place| self.values[place].value.clone()))
    }

    pub(super) fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        check_number(keys.len())?;
        let mut room = self.memory;
        let mut fit = |value: Option<Vec<u8>>| {
            room = room.checked_sub(value.as_ref().map_or(0, Vec::len) as u64).ok_or_else(|| {
                Error::Other(format!(
                    "the values together exceed the {} bytes of memory that the app has; get fewer at once",
                    self.memory
                ))
            })?;
            Ok(value)
        };
        keys.iter().map(|key| fit(self.get(key)?)).collect()
    }

    /// Stores all, or on error none.
    pub(super) fn set_many<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>,
        quota: &mut Quota,
    ) -> Result<(), Error> {
        check_number(entries.len())?;
        self.all_or_none(quota, |state| {
            let mut change = Change::default();
            for (key, value) in entries {
                check(key)?;
                if value.len() > MAX_STATE_VALUE {
                    return Err(Error::TooLarge(MAX_STATE_VALUE as u64));
                }
                state.put(key, Some(value), &mut change);
            }
            Ok(change)
        })
    }

    pub(super) fn delete_many(&mut self, keys: &[&str], quota: &mut Quota) -> Result<(), Error> {
        check_number(keys.len())?;
        self.all_or_none(quota, |state| {
            let mut change = Change::default();
            for key in keys {
                check(key)?;
                state.put(key, None, &mut change);
            }
            Ok(change)
        })
    }

    fn all_or_none(
        &mut self,
        quota: &mut Quota,
        write: impl FnOnce(&mut Self) -> Result<Change, Error>,
    ) -> Result<(), Error> {
        let (undo_before, bytes_before, changed_before) = (self.undo.len(), self.bytes, self.changed);
        let result = write(self).and_then(|change| {
            if self.changed > MAX_STATE_KEYS {
                return Err(Error::Other(format!(
                    "one invocation may change {MAX_STATE_KEYS} keys; with this call it would be {}",
                    self.changed
                )));
            }
            // What doesn't grow is taken, even where less was granted since.
            if self.bytes > self.granted.max(bytes_before) {
                return Err(Error::QuotaExceeded(self.granted));
            }
            quota.effect(change.added, change.removed).map_err(Error::Other)
        });
        if result.is_err() {
            self.take_back(undo_before, bytes_before, changed_before);
        }
        result
    }

    fn put(&mut self, key: &str, value: Option<&[u8]>, change: &mut Change) {
        let place = match self.places.get(key) {
            Some(&place) => place,
            None => {
                self.values.push(Place::default());
                self.places.insert(key.into(), self.values.len() - 1);
                self.values.len() - 1
            }
        };
        change.added += cost(key, value);
        self.bytes += value.map_or(0, |value| cost(key, Some(value)) as u64);
        let now = Place { value: value.map(<[u8]>::to_vec), changed_by: self.call };
        let before = std::mem::replace(&mut self.values[place], now);
        self.bytes -= before.value.as_ref().map_or(0, |value| cost(key, Some(value)) as u64);
        if before.changed_by == self.call {
            change.removed += cost(key, before.value.as_deref());
        } else {
            self.changed += 1;
        }
        self.undo.push((place, before));
    }

    pub(super) fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, Error> {
        if limit == 0 {
            return Err(Error::Other("the limit of a scan must be at least 1".to_owned()));
        }
        let limit = limit.min(MAX_STATE_PAGE) as usize;
        let mut room = MAX_STATE_PAGE_BYTES.min(usize::try_from(self.memory).unwrap_or(usize::MAX));
        let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
        for (key, value) in self.all() {
            if !key.starts_with(prefix) || after.is_some_and(|after| key.as_str() <= after) {
                continue;
            }
            if entries.len() == limit || room == 0 {
                return Ok(Page { next: entries.last().map(|(key, _)| key.clone()), entries });
            }
            room = room.saturating_sub(key.len() + value.len());
            entries.push((key, value));
        }
        Ok(Page { entries, next: None })
    }

    /// All entries, in the order of the keys' bytes.
    pub(super) fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let stored =
            self.places.iter().filter_map(|(key, &place)| Some((key, self.values[place].value.as_ref()?)));
        stored.map(|(key, value)| (key.to_string(), value.clone())).collect()
    }

    /// Puts all of it back to what it was.
    pub(super) fn replace(&mut self, with: BTreeMap<String, Vec<u8>>) {
        *self = Self { granted: self.granted, memory: self.memory, ..Self::default() };
        for (key, value) in with {
            self.bytes += cost(&key, Some(&value)) as u64;
            self.places.insert(key.into(), self.values.len());
            self.values.push(Place { value: Some(value), changed_by: 0 });
        }
        self.commit();
    }

    pub(super) fn commit(&mut self) {
        self.undo.clear();
        self.bytes_before = self.bytes;
        self.start_next();
    }

    pub(super) fn roll_back(&mut self) {
        self.take_back(0, self.bytes_before, 0);
        self.start_next();
    }

    fn start_next(&mut self) {
        self.call += 1;
        self.changed = 0;
    }

    fn take_back(&mut self, undo: usize, bytes: u64, changed: usize) {
        while self.undo.len() > undo
            && let Some((place, before)) = self.undo.pop()
        {
            self.values[place] = before;
        }
        (self.bytes, self.changed) = (bytes, changed);
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
                        let entries_of = entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
                        state.set_many(entries_of, &mut Quota::default()).unwrap();
                        model.extend(entries);
                    }
                    Step::Delete(keys) => {
                        let keys: Vec<_> = keys.into_iter().map(|key| format!("k{key}")).collect();
                        let names: Vec<_> = keys.iter().map(String::as_str).collect();
                        state.delete_many(&names, &mut Quota::default()).unwrap();
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
        let (mut state, mut quota) = (State { granted: 4 << 20, ..State::default() }, Quota::default());
        let value = vec![0; MAX_STATE_VALUE];
        let keys: Vec<_> = (0..17).map(|key| key.to_string()).collect();
        let entries = keys.iter().map(|key| (key.as_str(), value.as_slice()));
        assert_eq!(state.set_many(entries, &mut quota), Err(Error::QuotaExceeded(4 << 20)));
        assert_eq!(state.all().len(), 0);
        let long = vec![0; MAX_STATE_VALUE + 1];
        let entries = [("a", value.as_slice()), ("b", long.as_slice())];
        let result = state.set_many(entries.into_iter(), &mut quota);
        assert_eq!(result, Err(Error::TooLarge(MAX_STATE_VALUE as u64)));
        assert_eq!(state.get("a"), Ok(None));
        assert!(matches!(state.get(&"k".repeat(513)), Err(Error::InvalidKey(_))));
        assert!(matches!(state.delete_many(&["a", ""], &mut quota), Err(Error::InvalidKey(_))));
        assert_eq!(state.changed, 0);
    }
}
