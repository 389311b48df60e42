//! A store in memory, on the simulated disk.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Random, SimDisk};
use crate::store::{Applied, Change, Key, KeyRange, PAGE_BYTES, Page, Snapshot, Storage, StoreError};
use ironloom_types::ids::Epoch;

/// Keeps keys in memory. What `apply` answered with `Done` outlives everything; of the changes of one that did
/// not end, each may be there or not, whatever came before or after it.
pub struct SimStore {
    disk: SimDisk,
    state: Mutex<State>,
    applies: AtomicU64,
}

struct State {
    random: Random,
    keys: BTreeMap<Key, Bytes>,
    epoch: Epoch,
}

impl SimStore {
    /// An empty store, whose process dies with the disk's.
    pub fn new(disk: &SimDisk, seed: u64) -> Self {
        let state = State { random: Random::new(seed), keys: BTreeMap::new(), epoch: Epoch(0) };
        Self { disk: disk.clone(), state: Mutex::new(state), applies: AtomicU64::new(0) }
    }

    /// How often anything was applied.
    pub fn applies(&self) -> u64 {
        self.applies.load(Ordering::SeqCst)
    }
}

impl State {
    fn make(&mut self, Change { key, value }: Change) {
        match value {
            Some(value) => self.keys.insert(key, value),
            None => self.keys.remove(&key),
        };
    }
}

fn failed(source: io::Error) -> StoreError {
    StoreError::Io { what: "writing the simulated store".to_owned(), source }
}

/// A store in whose moment nobody applies anything.
pub struct AtRest<'s>(pub &'s dyn Storage);

impl Snapshot for AtRest<'_> {
    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        self.0.scan(range, after, limit)
    }
}

impl Storage for SimStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError> {
        Ok(Box::new(AtRest(self)))
    }

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let state = self.state.lock();
        Ok(keys.iter().map(|key| state.keys.get(key).cloned()).collect())
    }

    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        if limit == 0 || range.is_empty_after(after) {
            return Ok(Page { entries: Vec::new(), more: limit == 0 });
        }
        let state = self.state.lock();
        let (start, end) = range.bounds(after);
        let (mut page, mut bytes) = (Page::default(), 0);
        for (key, value) in range.in_order(state.keys.range::<[u8], _>((start, Bound::Excluded(end)))) {
            if page.entries.len() >= limit || bytes >= PAGE_BYTES {
                page.more = true;
                break;
            }
            bytes += key.as_bytes().len() + value.len();
            page.entries.push((key.clone(), value.clone()));
        }
        Ok(page)
    }

    fn apply(&self, changes: Vec<Change>, epoch: Epoch) -> Result<Applied, StoreError> {
        let mut state = self.state.lock();
        if epoch < state.epoch {
            return Ok(Applied::Fenced);
        }
        self.applies.fetch_add(1, Ordering::SeqCst);
        let ended = self.disk.other_operation().and_then(|()| self.disk.other_sync());
        if let Err(error) = ended {
            let chance = state.random.below(4);
            for change in changes {
                if state.random.below(4) < chance {
                    state.make(change);
                }
            }
            if state.random.chance(2) {
                state.epoch = epoch;
            }
            return Err(failed(error));
        }
        changes.into_iter().for_each(|change| state.make(change));
        state.epoch = epoch;
        Ok(Applied::Done)
    }

    fn epoch(&self) -> Epoch {
        self.state.lock().epoch
    }
}
