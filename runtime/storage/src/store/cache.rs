//! The state of one generation in memory, in front of the store.
//!
//! Commits arrive here once they are durable in the log, and are folded into the store later. There is one
//! map. A value is *dirty* until a checkpoint has folded it, and *clean* from then on; while a checkpoint
//! is under way, the values that it folds are *frozen*: a later write puts the frozen value aside first, so
//! that the checkpoint writes the state as of its position. Which of the three a value is follows from two
//! numbers, that of the checkpoint before which it was written and that of the last one folded: so that
//! beginning and ending a checkpoint cost the same however much is dirty. Dirty and frozen values are never
//! evicted. A deleted key stays as an entry without a value, so that the store isn't believed.
//!
//! Whoever holds a `StateCache` puts a lock around it. While the store is read the lock is not held:
//! [`Ticket`] and the page of changes carry what is needed to join the answer with what happened meanwhile.

mod order;
mod room;

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use ironloom_types::page::Page;

use self::room::Clean;

#[cfg(test)]
pub(super) use self::order::Order;
pub use self::room::CacheBudget;

/// What an entry costs besides the bytes of key and value: its slot, its place in the table and in a list,
/// and what the allocator adds to two small allocations.
const ENTRY_BYTES: usize = 128;

/// Some of the entries that go before those of the store; `None` where the key is deleted.
pub type Changes = Page<Box<str>, Option<Bytes>>;

/// The state of one generation.
#[derive(Debug)]
pub struct StateCache {
    /// The index in `slots` of a key's entry.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Slot>,
    /// The lowest is used first, so that the last ones can be given back.
    free: BTreeSet<u32>,
    /// The number of the checkpoint that will fold what is written now, from 1.
    next: u64,
    /// The number of the last checkpoint that is folded. `next - 1`, or `next - 2` while one is under way.
    folded: u64,
    /// The slots written before checkpoint `next`, and those of the one under way.
    dirty: Vec<u32>,
    frozen: Vec<u32>,
    /// Frozen values that were overwritten since.
    aside: HashMap<u32, Option<Bytes>>,
    aside_bytes: usize,
    /// Dirty and frozen entries in key order: made when somebody scans, dropped with a fold.
    ordered: Option<order::Order>,
    /// Counts the dirty entries that were given another slot.
    moves: u64,
    /// Whether the store may hold keys of this generation.
    stored: bool,
    /// Whether the store holds keys that have no entry here.
    incomplete: bool,
    dirty_bytes: usize,
    frozen_bytes: usize,
    clean: Clean,
    /// The place at which the search for entries to evict continues.
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    key: Box<str>,
    hash: u64,
    /// `None` where the key is deleted, or is known not to be in the store.
    value: Option<Bytes>,
    /// The checkpoint before which it was last written; 0 where it came from the store.
    written: u64,
    /// Where it is in the list of dirty slots, if it is dirty.
    place: u32,
    /// Read, or written, since the search for entries to evict last came by. What was read from the store once
    /// makes room before what was read again.
    read: AtomicBool,
    in_use: bool,
}

impl Slot {
    fn bytes(&self) -> usize {
        weigh(&self.key, self.value.as_ref())
    }
}

fn weigh(key: &str, value: Option<&Bytes>) -> usize {
    ENTRY_BYTES + key.len() + value.map_or(0, Bytes::len)
}

/// The bytes of the entries of a cache, by what may become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheBytes {
    /// Not yet folded nor frozen: counts towards `store.dirty`.
    pub dirty: usize,
    pub frozen: usize,
    /// Can be evicted: counts towards `store.cache`, a [`CacheBudget`].
    pub clean: usize,
}

/// The cache's knowledge of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    Value(&'a Bytes),
    /// It has no value.
    Absent,
    /// Only the store knows. The answer may be handed to [`StateCache::fill`] with this ticket.
    AskStore(Ticket),
}

/// When the store was asked. What it answers is of no use once a checkpoint was folded in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    folded: u64,
}

impl StateCache {
    /// The cache of a new generation, of which the store holds nothing.
    pub fn of_new_generation(budget: &Arc<CacheBudget>) -> Self {
        Self {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            free: BTreeSet::new(),
            next: 1,
            folded: 0,
            dirty: Vec::new(),
            frozen: Vec::new(),
            aside: HashMap::new(),
            aside_bytes: 0,
            ordered: None,
            moves: 0,
            stored: false,
            incomplete: false,
            dirty_bytes: 0,
            frozen_bytes: 0,
            clean: Clean::none(budget),
            hand: 0,
        }
    }

    /// The cache of a generation of which the store may hold something.
    pub fn of_stored_generation(budget: &Arc<CacheBudget>) -> Self {
        Self { stored: true, incomplete: true, ..Self::of_new_generation(budget) }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Lookup<'_> {
        let Some(slot) = self.find(key) else {
            return match self.incomplete {
                true => Lookup::AskStore(self.ticket()),
                false => Lookup::Absent,
            };
        };
        let slot = &self.slots[slot as usize];
        if !slot.read.load(Ordering::Relaxed) {
            slot.read.store(true, Ordering::Relaxed);
        }
        slot.value.as_ref().map_or(Lookup::Absent, Lookup::Value)
    }

    /// Whether the store may hold keys of this generation. Where it doesn't, a scan is of the changes alone.
    pub fn may_be_stored(&self) -> bool {
        self.stored
    }

    /// The bytes of the entries.
    pub fn bytes(&self) -> CacheBytes {
        CacheBytes { dirty: self.dirty_bytes, frozen: self.frozen_bytes, clean: self.clean.bytes() }
    }

    /// Takes over a commit that is durable in the log.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = (Box<str>, Option<Bytes>)>) {
        for (key, value) in changes {
            self.write(key, value);
        }
    }

    /// Takes over what the store answered, if nothing was folded since it was asked and the budget has room for
    /// it. An entry that is here already stays.
    pub fn fill(&mut self, ticket: Ticket, key: &str, value: Option<Bytes>) {
        if ticket != self.ticket() || self.find(key).is_some() {
            return;
        }
        let bytes = weigh(key, value.as_ref());
        if self.make_room(bytes, value.is_some()) {
            self.clean.add(bytes);
            self.insert(key.into(), value, 0);
        }
    }

    /// Begins a checkpoint: what is dirty now is frozen, later writes belong to the next one. Returns how
    /// many keys are frozen.
    pub fn freeze(&mut self) -> usize {
        assert!(self.folded + 1 == self.next, "a checkpoint begins when the one before is folded");
        self.next += 1;
        self.frozen = std::mem::take(&mut self.dirty);
        self.frozen_bytes = std::mem::take(&mut self.dirty_bytes);
        self.frozen.len()
    }

    /// Shows `f` the frozen values with numbers from `from` up to but not including `to`, in no order:
    /// `None` where the key is deleted. By parts, so that the lock is never held for long.
    pub fn frozen(&self, from: usize, to: usize, mut f: impl FnMut(&str, Option<&Bytes>)) {
        let to = to.min(self.frozen.len());
        for number in self.frozen.get(from..to).unwrap_or_default() {
            let slot = &self.slots[*number as usize];
            let value = self.aside.get(number).unwrap_or(&slot.value);
            f(&slot.key, value.as_ref());
        }
    }

    /// Ends a checkpoint once its position is on the disk: what is frozen becomes clean. What is returned
    /// may take long to drop: drop it without the lock.
    pub fn folded(&mut self) -> impl Sized + use<> {
        assert!(self.folded + 2 == self.next, "only a checkpoint that was begun can be folded");
        self.folded += 1;
        let frozen = std::mem::take(&mut self.frozen);
        let aside = std::mem::take(&mut self.aside);
        self.clean.add(std::mem::take(&mut self.frozen_bytes) - std::mem::take(&mut self.aside_bytes));
        self.stored |= !frozen.is_empty();
        (frozen, aside, self.ordered.take())
    }

    fn ticket(&self) -> Ticket {
        Ticket { folded: self.folded }
    }

    fn find(&self, key: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&number| *self.slots[number as usize].key == *key).copied()
    }

    fn write(&mut self, key: Box<str>, value: Option<Bytes>) {
        self.dirty_bytes += weigh(&key, value.as_ref());
        let Some(number) = self.find(&key) else {
            let number = self.insert(key, value, self.next);
            self.make_dirty(number);
            return;
        };
        let slot = &mut self.slots[number as usize];
        let old_bytes = slot.bytes();
        let old = std::mem::replace(&mut slot.value, value);
        let written = std::mem::replace(&mut slot.written, self.next);
        if written == self.next {
            self.dirty_bytes -= old_bytes;
            return;
        }
        if written <= self.folded {
            self.clean.remove(old_bytes);
        } else {
            self.aside.insert(number, old);
            self.aside_bytes += old_bytes;
        }
        self.make_dirty(number);
    }

    fn make_dirty(&mut self, number: u32) {
        self.slots[number as usize].place = self.dirty.len() as u32;
        self.dirty.push(number);
    }

    fn insert(&mut self, key: Box<str>, value: Option<Bytes>, written: u64) -> u32 {
        let hash = self.hasher.hash_one(&*key);
        let slot =
            Slot { key, hash, value, written, place: 0, read: AtomicBool::new(written > 0), in_use: true };
        let number = match self.free.pop_first() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                assert!(
                    self.slots.len() < u32::MAX as usize,
                    "so many entries are far more than memory holds"
                );
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert_unique(hash, number, |&number| self.slots[number as usize].hash);
        number
    }
}
