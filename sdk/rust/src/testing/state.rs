//! The state in memory, with the changes of the current call and how to take them back.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::limits::{
    self, MAX_STATE_KEY, MAX_STATE_KEYS, MAX_STATE_PAGE, MAX_STATE_PAGE_BYTES, MAX_STATE_VALUE,
    STATE_KEY_BYTES,
};
use super::quota::Quota;
use crate::bindings::state::ironloom::state::state::PackedResult as Packed;
use crate::state::{Error, Page, packed};

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

/// The keys of a call.
pub(super) enum Keys<'k> {
    These(Vec<&'k str>),
    /// Entities under a prefix.
    Rows(&'k str, Vec<&'k str>),
}

impl<'k> Keys<'k> {
    /// One on each line; the empty text is none.
    pub(super) fn lines(text: &'k str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::These(Vec::new()));
        }
        check_number(text.split('\n').count())?;
        Self::These(text.split('\n').collect()).checked()
    }

    /// Entities of a batch under a prefix: these lines of it.
    pub(super) fn rows(prefix: &'k str, entities: &[&'k str], lines: &[u32]) -> Result<Self, Error> {
        check_number(lines.len())?;
        if let Some(line) = lines.iter().find(|line| **line as usize >= entities.len()) {
            let text = format!("there is no line {line}: the batch has {} entities", entities.len());
            return Err(Error::Other(text));
        }
        Self::all_rows(prefix, lines.iter().map(|line| entities[*line as usize]).collect())
    }

    /// All entities of a batch under a prefix.
    pub(super) fn all_rows(prefix: &'k str, entities: Vec<&'k str>) -> Result<Self, Error> {
        if prefix.contains('\n') {
            return Err(Error::InvalidKey("a key must not contain a line feed".to_owned()));
        }
        check_number(entities.len())?;
        Self::Rows(prefix, entities).checked()
    }

    fn checked(self) -> Result<Self, Error> {
        match &self {
            Self::These(keys) => keys.iter().try_for_each(|key| check_length(key.len()))?,
            Self::Rows(prefix, entities) => {
                entities.iter().try_for_each(|entity| check_length(prefix.len() + entity.len()))?
            }
        }
        Ok(self)
    }

    fn len(&self) -> usize {
        match self {
            Self::These(keys) | Self::Rows(_, keys) => keys.len(),
        }
    }

    /// Shows each key with its place.
    fn each(&self, mut show: impl FnMut(usize, &str) -> Result<(), Error>) -> Result<(), Error> {
        match self {
            Self::These(keys) => keys.iter().enumerate().try_for_each(|(place, key)| show(place, key)),
            Self::Rows(prefix, entities) => {
                let mut key = (*prefix).to_owned();
                entities.iter().enumerate().try_for_each(|(place, entity)| {
                    key.truncate(prefix.len());
                    key.push_str(entity);
                    show(place, &key)
                })
            }
        }
    }
}

fn check(key: &str) -> Result<(), Error> {
    if key.contains('\n') {
        return Err(Error::InvalidKey("a key must not contain a line feed".to_owned()));
    }
    check_length(key.len())
}

fn check_length(bytes: usize) -> Result<(), Error> {
    match bytes {
        0 => Err(Error::InvalidKey("a key must not be empty".to_owned())),
        1..=MAX_STATE_KEY => Ok(()),
        bytes => {
            Err(Error::InvalidKey(format!("a key has {bytes} bytes; at most {MAX_STATE_KEY} are allowed")))
        }
    }
}

/// Checks that values are those of so many keys, and that their lengths add up.
fn check_values(values: &Packed, keys: usize) -> Result<(), Error> {
    if values.lengths.len() != keys {
        return Err(Error::Other(format!("there are {keys} keys and {} values", values.lengths.len())));
    }
    if let Some(length) = values.lengths.iter().find(|length| **length < -1) {
        return Err(Error::Other(format!("{length} is not the length of a value")));
    }
    let sum: u64 = values.lengths.iter().map(|length| u64::from(length.max(&0).unsigned_abs())).sum();
    if sum != values.bytes.len() as u64 {
        return Err(Error::Other(format!(
            "the lengths of the values add up to {sum} bytes, and there are {}",
            values.bytes.len()
        )));
    }
    Ok(())
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

    pub(super) fn get_many(&self, keys: &Keys<'_>) -> Result<Packed, Error> {
        let mut found = Packed { lengths: Vec::with_capacity(keys.len()), bytes: Vec::new() };
        keys.each(|_, key| {
            let value = self.places.get(key).and_then(|&place| self.values[place].value.as_ref());
            let room = self.memory - found.bytes.len() as u64;
            if value.is_some_and(|value| value.len() as u64 > room) {
                return Err(Error::Other(format!(
                    "the values together exceed the {} bytes of memory that the app has; get fewer at once",
                    self.memory
                )));
            }
            packed::push(&mut found, value.map(Vec::as_slice));
            Ok(())
        })?;
        Ok(found)
    }

    pub(super) fn set(&mut self, key: &str, value: Option<&[u8]>, quota: &mut Quota) -> Result<(), Error> {
        check(key)?;
        let keys = Keys::These(vec![key]);
        self.set_many(&keys, &packed::pack(std::iter::once(value)), quota)
    }

    /// Stores all, or on error none.
    pub(super) fn set_many(
        &mut self,
        keys: &Keys<'_>,
        values: &Packed,
        quota: &mut Quota,
    ) -> Result<(), Error> {
        check_values(values, keys.len())?;
        if values.lengths.iter().any(|length| *length > MAX_STATE_VALUE as i32) {
            return Err(Error::TooLarge(MAX_STATE_VALUE as u64));
        }
        self.all_or_none(quota, |state| {
            let (mut change, mut rest) = (Change::default(), values.bytes.as_slice());
            keys.each(|place, key| {
                let length = usize::try_from(values.lengths[place]).ok();
                let value = length.map(|length| rest.split_off(..length).unwrap_or_default());
                state.put(key, value, &mut change);
                Ok(())
            })?;
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
        Set(Vec<(u8, Option<Vec<u8>>)>),
        SetRows(Vec<(u8, Option<Vec<u8>>)>),
        Commit,
        RollBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        let value = || proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..4));
        prop_oneof![
            proptest::collection::vec((0..6_u8, value()), 0..4).prop_map(Step::Set),
            proptest::collection::vec((0..6_u8, value()), 0..4).prop_map(Step::SetRows),
            Just(Step::Commit),
            Just(Step::RollBack),
        ]
    }

    fn put(model: &mut BTreeMap<String, Vec<u8>>, key: u8, value: Option<Vec<u8>>) {
        match value {
            Some(value) => model.insert(format!("k{key}"), value),
            None => model.remove(&format!("k{key}")),
        };
    }

    proptest! {
        #[test]
        fn it_is_a_map_with_transactions(steps in proptest::collection::vec(step(), 0..40)) {
            let (mut state, mut model) = (State::default(), BTreeMap::new());
            let mut committed = model.clone();
            for step in steps {
                match step {
                    Step::Set(entries) => {
                        let keys: Vec<_> = entries.iter().map(|(key, _)| format!("k{key}")).collect();
                        let keys = keys.join("\n");
                        let values = packed::pack(entries.iter().map(|(_, value)| value.as_deref()));
                        state.set_many(&Keys::lines(&keys).unwrap(), &values, &mut Quota::default()).unwrap();
                        entries.into_iter().for_each(|(key, value)| put(&mut model, key, value));
                    }
                    Step::SetRows(rows) => {
                        let lines: Vec<_> = rows.iter().map(|(line, _)| u32::from(*line)).collect();
                        let values = packed::pack(rows.iter().map(|(_, value)| value.as_deref()));
                        let keys = Keys::rows("k", &["0", "1", "2", "3", "4", "5"], &lines).unwrap();
                        state.set_many(&keys, &values, &mut Quota::default()).unwrap();
                        rows.into_iter().for_each(|(key, value)| put(&mut model, key, value));
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
                // As the docs price an entry: 128 bytes, and what key and value hold.
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
        let keys = keys.join("\n");
        let values = packed::pack(std::iter::repeat_n(Some(&value[..]), 17));
        let result = state.set_many(&Keys::lines(&keys).unwrap(), &values, &mut quota);
        assert_eq!(result, Err(Error::QuotaExceeded(4 << 20)));
        assert_eq!(state.all().len(), 0);
        let long = vec![0; MAX_STATE_VALUE + 1];
        let values = packed::pack([Some(&value[..]), Some(&long)].into_iter());
        let result = state.set_many(&Keys::lines("a\nb").unwrap(), &values, &mut quota);
        assert_eq!(result, Err(Error::TooLarge(MAX_STATE_VALUE as u64)));
        assert_eq!(state.get("a"), Ok(None));
        assert!(matches!(state.get(&"k".repeat(513)), Err(Error::InvalidKey(_))));
        assert!(matches!(Keys::lines("a\n"), Err(Error::InvalidKey(_))));
        assert_eq!(state.changed, 0);
    }
}
