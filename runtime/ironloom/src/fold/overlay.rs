//! Keys whose changes no checkpoint has folded, in front of the store: everything but apps' state
//! (which lanes keep) and what is in memory anyway.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::unfolded::Unfolded;
use ironloom_storage::store::{Key, KeyRange, Storage, StoreError, Stretch};
use ironloom_types::page::{Page, merge_page};

/// Changes in the order of their keys; `None` deletes.
pub(crate) type Changes = BTreeMap<Key, Option<Bytes>>;

/// The changes, and the store behind them.
pub(crate) struct Overlay {
    maps: Unfolded<Key, Option<Bytes>>,
    storage: Arc<dyn Storage>,
}

impl Overlay {
    /// Nothing changed yet.
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { maps: Unfolded::default(), storage }
    }

    /// Takes over changes of one record.
    pub(super) fn apply(&self, changes: impl IntoIterator<Item = (Key, Option<Bytes>)>) {
        let mut maps = self.maps.write();
        for (key, value) in changes {
            let (key_bytes, value_bytes) = (key.as_bytes().len(), value.as_ref().map_or(0, Bytes::len));
            // A lane's key is written with each of its commits, and is one key all the same.
            match maps.active.insert(key, value) {
                Some(before) => maps.bytes -= before.map_or(0, |before| before.len()),
                None => maps.bytes += key_bytes + 64,
            }
            maps.bytes += value_bytes;
        }
    }

    /// Takes over changes, for tests without a fold.
    #[cfg(test)]
    pub(crate) fn apply_for_test(&self, changes: impl IntoIterator<Item = (Key, Option<Bytes>)>) {
        self.apply(changes);
    }

    /// About how many bytes of changes no checkpoint has folded.
    pub(crate) fn bytes(&self) -> usize {
        self.maps.bytes()
    }

    /// Ends a stretch of the log: later changes belong to the next one.
    pub(super) fn end(&self, stretch: Stretch) {
        self.maps.end(stretch);
    }

    /// What changed through this stretch.
    pub(super) fn through(&self, stretch: Stretch) -> Arc<Changes> {
        self.maps.through(stretch)
    }

    /// Ends a checkpoint: the store has what changed through this stretch. Returns its bytes.
    pub(super) fn folded(&self, through: Stretch) -> usize {
        self.maps.folded(through)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        {
            let maps = self.maps.read();
            if let Some(value) = maps.all().rev().find_map(|map| map.get(key)) {
                return Ok(value.clone());
            }
        }
        let found = self.storage.get_many(std::slice::from_ref(key))?;
        Ok(found.into_iter().next().flatten())
    }

    /// At most `limit` entries of a range in its order, from the first that comes after `after` on, and whether
    /// there may be more.
    pub(crate) fn scan(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<(Vec<(Key, Bytes)>, bool), StoreError> {
        if range.is_reversed() {
            self.scan_by::<Reverse<Key>>(range, after, limit)
        } else {
            self.scan_by::<Key>(range, after, limit)
        }
    }

    fn scan_by<K: Placed>(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<(Vec<(Key, Bytes)>, bool), StoreError> {
        let mut entries = Vec::new();
        let mut after = after.cloned();
        loop {
            // Taken before the store is read, so that what is folded meanwhile is in one of the two.
            let changes = self.changed::<K>(range, after.as_ref(), limit);
            let page = self.storage.scan(range, after.as_ref(), limit)?;
            let placed = page.entries.into_iter().map(|(key, value)| (K::of(key), value));
            let page = Page { entries: placed.collect(), more: page.more };
            let merged = merge_page(changes, page, limit - entries.len());
            entries.extend(merged.entries.into_iter().map(|(key, value)| (key.key(), value)));
            match merged.next {
                None => return Ok((entries, false)),
                Some(_) if entries.len() >= limit => return Ok((entries, true)),
                Some(next) => after = Some(next.key()),
            }
        }
    }

    /// Changes of a range that come after `after`: at most `limit` of each map, up to the end of either.
    fn changed<K: Placed>(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        limit: usize,
    ) -> Page<K, Option<Bytes>> {
        if range.is_empty_after(after) {
            return Page::default();
        }
        let mut changed: BTreeMap<K, Option<Bytes>> = BTreeMap::new();
        let mut end: Option<K> = None;
        let maps = self.maps.read();
        let (start, before) = range.bounds(after);
        for map in maps.all() {
            let found = range.in_order(map.range::<[u8], _>((start, Bound::Excluded(before))));
            for (taken, (key, value)) in found.enumerate() {
                let key = K::of(key.clone());
                changed.insert(key.clone(), value.clone());
                if taken + 1 == limit {
                    end = Some(end.map_or_else(|| key.clone(), |end| end.min(key.clone())));
                    break;
                }
            }
        }
        let known = changed.into_iter().take_while(|(key, _)| end.as_ref().is_none_or(|end| key <= end));
        Page { entries: known.collect(), more: end.is_some() }
    }
}

/// A key that stands in the order of a range.
trait Placed: Ord + Clone {
    fn of(key: Key) -> Self;
    fn key(self) -> Key;
}

impl Placed for Key {
    fn of(key: Key) -> Self {
        key
    }
    fn key(self) -> Key {
        self
    }
}

impl Placed for Reverse<Key> {
    fn of(key: Key) -> Self {
        Self(key)
    }
    fn key(self) -> Key {
        self.0
    }
}
