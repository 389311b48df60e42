//! The state of one generation in memory, in front of the store.
//!
//! Commits arrive here once they are durable in the log, and are folded into the store later, by [stretches](Stretch)
//! of the log: the oldest first. There is one map. A value is *dirty* until a checkpoint has folded the stretch in
//! which it was last written, and *clean* from then on. A key that is written again before that moves to the later
//! stretch: the checkpoint of the earlier one leaves it out, since a replay writes it anyway. So what is written all
//! the time hardly ever gets to the store. Dirty values are never evicted. A deleted key stays as an entry without a
//! value, so that the store isn't believed.
//!
//! Whoever holds a `StateCache` puts a lock around it. While the store is read the lock is not held:
//! [`Ticket`] and the page of changes carry what is needed to join the answer with what happened meanwhile.

mod order;
mod room;

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
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

/// A part of the log between two records, by its number from 1. Checkpoints fold whole stretches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch(pub u64);

/// The state of one generation.
#[derive(Debug)]
pub struct StateCache {
    /// The index in `slots` of a key's entry.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Slot>,
    /// The lowest is used first, so that the last ones can be given back.
    free: BTreeSet<u32>,
    /// The last stretch that is folded of those in which something was written here.
    folded: Stretch,
    /// What no checkpoint has folded, the oldest stretch first.
    dirty: VecDeque<Written>,
    dirty_bytes: usize,
    /// Dirty entries in key order: made when somebody scans, dropped with a fold.
    ordered: Option<order::Order>,
    /// Counts the dirty entries that were given another slot.
    moves: u64,
    /// Whether the store may hold keys of this generation.
    stored: bool,
    /// Whether the store holds keys that have no entry here.
    incomplete: bool,
    clean: Clean,
    /// The place at which the search for entries to evict continues.
    hand: usize,
}

/// The slots that were written in one stretch.
#[derive(Debug)]
struct Written {
    stretch: Stretch,
    /// Some of them may have been written again in a later stretch, and count there.
    slots: Vec<u32>,
    /// The bytes of those that were not.
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    key: Box<str>,
    hash: u64,
    /// `None` where the key is deleted, or is known not to be in the store.
    value: Option<Bytes>,
    /// The stretch in which it was last written; 0 where it came from the store.
    written: Stretch,
    /// Where it is in the list of that stretch, if it is dirty.
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

    /// Whether it is dirty, and this is its place.
    fn is_at(&self, stretch: Stretch, place: usize) -> bool {
        self.in_use && self.written == stretch && self.place as usize == place
    }
}

fn weigh(key: &str, value: Option<&Bytes>) -> usize {
    ENTRY_BYTES + key.len() + value.map_or(0, Bytes::len)
}

/// The bytes of the entries of a cache, by what may become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheBytes {
    /// Not yet folded: counts towards `store.dirty`.
    pub dirty: usize,
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
    folded: Stretch,
}

impl StateCache {
    /// The cache of a new generation, of which the store holds nothing.
    pub fn of_new_generation(budget: &Arc<CacheBudget>) -> Self {
        Self {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            free: BTreeSet::new(),
            folded: Stretch(0),
            dirty: VecDeque::new(),
            dirty_bytes: 0,
            ordered: None,
            moves: 0,
            stored: false,
            incomplete: false,
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
        CacheBytes { dirty: self.dirty_bytes, clean: self.clean.bytes() }
    }

    /// Takes over a commit that is durable in the log, in this stretch of it.
    pub fn apply(&mut self, stretch: Stretch, changes: impl IntoIterator<Item = (Box<str>, Option<Bytes>)>) {
        for (key, value) in changes {
            self.write(stretch, key, value);
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
            self.insert(key.into(), value, Stretch(0));
        }
    }

    /// How many places [`Self::written`] has to look at for what was written through this stretch.
    pub fn places(&self, through: Stretch) -> usize {
        self.through(through).map(|written| written.slots.len()).sum()
    }

    /// Shows `f` the values that were last written through this stretch, in no order: `None` where the key is
    /// deleted. At the places from `from` up to but not including `to`: by parts, so that the lock is never held
    /// for long. What is written meanwhile belongs to a later stretch, and is left out.
    pub fn written(&self, through: Stretch, from: usize, to: usize, mut f: impl FnMut(&str, Option<&Bytes>)) {
        let mut begin = 0;
        for written in self.through(through) {
            let here = from.saturating_sub(begin)..to.saturating_sub(begin).min(written.slots.len());
            for place in here {
                let slot = self.slots.get(written.slots[place] as usize);
                if let Some(slot) = slot.filter(|slot| slot.is_at(written.stretch, place)) {
                    f(&slot.key, slot.value.as_ref());
                }
            }
            begin += written.slots.len();
        }
    }

    /// Ends a checkpoint once its position is on the disk: what was last written through this stretch becomes
    /// clean. What is returned may take long to drop: drop it without the lock.
    pub fn folded(&mut self, through: Stretch) -> impl Sized + use<> {
        let lists = self.dirty.partition_point(|written| written.stretch <= through);
        let folded: Vec<Written> = self.dirty.drain(..lists).collect();
        let last = folded.last()?;
        self.folded = last.stretch;
        let bytes = folded.iter().map(|written| written.bytes).sum();
        self.dirty_bytes -= bytes;
        self.clean.add(bytes);
        self.stored = true;
        Some((self.ordered.take(), folded))
    }

    fn through(&self, through: Stretch) -> impl Iterator<Item = &Written> {
        self.dirty.iter().take_while(move |written| written.stretch <= through)
    }

    fn ticket(&self) -> Ticket {
        Ticket { folded: self.folded }
    }

    fn find(&self, key: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&number| *self.slots[number as usize].key == *key).copied()
    }

    fn write(&mut self, stretch: Stretch, key: Box<str>, value: Option<Bytes>) {
        assert!(self.folded < stretch, "what is written comes after what is folded");
        let bytes = weigh(&key, value.as_ref());
        self.dirty_bytes += bytes;
        let place = self.list(stretch, bytes);
        let Some(number) = self.find(&key) else {
            let number = self.insert(key, value, stretch);
            self.put(number, place);
            return;
        };
        let slot = &mut self.slots[number as usize];
        let old_bytes = slot.bytes();
        slot.value = value;
        let written = std::mem::replace(&mut slot.written, stretch);
        if written <= self.folded {
            self.clean.remove(old_bytes);
        } else {
            self.dirty_bytes -= old_bytes;
            let list = self.dirty.iter_mut().rfind(|list| list.stretch == written);
            // A dirty slot is in the list of its stretch.
            if let Some(list) = list {
                list.bytes -= old_bytes;
            }
        }
        if written != stretch {
            self.put(number, place);
        }
    }

    /// The next place in the list of a stretch, in which so many bytes more are written.
    fn list(&mut self, stretch: Stretch, bytes: usize) -> u32 {
        if self.dirty.back().is_none_or(|last| last.stretch < stretch) {
            self.dirty.push_back(Written { stretch, slots: Vec::new(), bytes: 0 });
        }
        self.dirty.back_mut().map_or(0, |last| {
            assert!(last.stretch == stretch, "stretches come one after the other");
            last.bytes += bytes;
            last.slots.len() as u32
        })
    }

    fn put(&mut self, number: u32, place: u32) {
        self.slots[number as usize].place = place;
        if let Some(last) = self.dirty.back_mut() {
            last.slots.push(number);
        }
    }

    fn insert(&mut self, key: Box<str>, value: Option<Bytes>, written: Stretch) -> u32 {
        let hash = self.hasher.hash_one(&*key);
        let read = AtomicBool::new(written > Stretch(0));
        let slot = Slot { key, hash, value, written, place: 0, read, in_use: true };
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
