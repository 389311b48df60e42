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
mod slot;

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use ironloom_types::changes::{Spot, StateChanges};
use ironloom_types::page::Page;

use self::room::Clean;
use self::slot::{INLINE, Slot};

#[cfg(test)]
pub(super) use self::order::Order;
pub use self::room::CacheBudget;

/// What an entry costs besides the bytes of key and value: its slot, its place in the table and in a list.
const ENTRY_BYTES: usize = 96;
/// What it costs more where key and value stand outside of the slot: two allocations and what points to them.
const LONG_BYTES: usize = 64;

/// Keys that are looked for at once: their slots together fill half of a processor's first cache.
pub const AT_ONCE: usize = 256;

/// Some of the entries that go before those of the store; `None` where the key is deleted.
pub type Changes = Page<Box<str>, Option<Bytes>>;

/// A part of the log between two records, by its number from 1. Checkpoints fold whole stretches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch(pub u64);

/// The state of one generation.
#[derive(Debug)]
pub struct StateCache {
    /// The entries by the hashes of their keys.
    index: HashTable<Indexed>,
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

/// The index of an entry in `slots`, with a part of its key's hash: so few slots are looked at in vain, and none when
/// the table grows.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    hash: u32,
    number: u32,
}

impl Indexed {
    /// The hash that its place in the table goes by.
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

/// Where a key is looked at, of several that are looked for at once.
#[derive(Clone, Copy, Debug)]
pub struct Sought {
    hash: u32,
    spot: Spot,
    /// Fetched with those of all others, so that the processor waits for their slots once.
    _fetched: u32,
}

fn weigh(key: usize, value: Option<&[u8]>) -> usize {
    let bytes = key + value.map_or(0, <[u8]>::len);
    ENTRY_BYTES + bytes + if bytes > INLINE { LONG_BYTES } else { 0 }
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
    Value(&'a [u8]),
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
        self.lookup(self.find(self.hash(key), key))
    }

    /// Looks for some keys at once, about [`AT_ONCE`]: far faster than one by one, since where they are is spread over
    /// all of the memory. What is found is good until the next change.
    pub fn seek<'k>(&self, keys: impl IntoIterator<Item = &'k str>, sought: &mut Vec<Sought>) {
        sought.clear();
        sought.extend(keys.into_iter().map(|key| self.sought(key, Spot::NONE)));
        self.fetch(sought);
    }

    fn seek_changes(&self, changes: &StateChanges, from: usize, sought: &mut Vec<Sought>) {
        sought.clear();
        let part = changes.with_spots(from).take(AT_ONCE);
        sought.extend(part.map(|(key, _, spot)| self.sought(key, spot)));
        self.fetch(sought);
    }

    /// The value of a key that was [sought](Self::seek), and where it is.
    pub fn at(&self, sought: &Sought, key: &str) -> (Lookup<'_>, Spot) {
        let number = self.resolve(sought, key);
        (self.lookup(number), number.map_or(Spot::NONE, Spot))
    }

    fn lookup(&self, number: Option<u32>) -> Lookup<'_> {
        let Some(number) = number else {
            return match self.incomplete {
                true => Lookup::AskStore(self.ticket()),
                false => Lookup::Absent,
            };
        };
        let slot = &self.slots[number as usize];
        slot.touch();
        slot.value().map_or(Lookup::Absent, Lookup::Value)
    }

    fn sought(&self, key: &str, spot: Spot) -> Sought {
        Sought { hash: if spot == Spot::NONE { self.hash(key) } else { 0 }, spot, _fetched: 0 }
    }

    /// Fetches the index's entries of those whose spot isn't known, and then the slots of all.
    fn fetch(&self, sought: &mut [Sought]) {
        for Sought { hash, spot, .. } in sought.iter_mut().filter(|sought| sought.spot == Spot::NONE) {
            let found = self.index.find(Indexed::spread(*hash), |entry| entry.hash == *hash);
            *spot = found.map_or(Spot::NONE, |entry| Spot(entry.number));
        }
        for Sought { spot, _fetched, .. } in sought {
            *_fetched = self.slots.get(spot.0 as usize).map_or(0, |slot| slot.place);
        }
    }

    /// The number of the slot of a key that was sought.
    fn resolve(&self, sought: &Sought, key: &str) -> Option<u32> {
        match self.slots.get(sought.spot.0 as usize) {
            Some(slot) if slot.is(key) => Some(sought.spot.0),
            // Another one with the same hash, or that stands where this one stood: or it came up since.
            _ => self.find(self.hash(key), key),
        }
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
    pub fn apply(&mut self, stretch: Stretch, changes: &StateChanges) {
        let mut sought = Vec::with_capacity(AT_ONCE.min(changes.len()));
        for from in (0..changes.len()).step_by(AT_ONCE) {
            self.seek_changes(changes, from, &mut sought);
            for (sought, (key, value)) in sought.iter().zip(changes.iter_from(from)) {
                let number = self.resolve(sought, key);
                self.write(stretch, number, key, value);
            }
        }
    }

    /// The bytes that the values of keys count where they are there, by `cost`; the keys that only the store knows go
    /// to `unknown`.
    pub fn costs<'c>(
        &self,
        changes: &'c StateChanges,
        cost: impl Fn(&str, &[u8]) -> u64,
        mut unknown: impl FnMut(&'c str),
    ) -> u64 {
        let (mut sum, mut sought) = (0, Vec::with_capacity(AT_ONCE.min(changes.len())));
        for from in (0..changes.len()).step_by(AT_ONCE) {
            self.seek_changes(changes, from, &mut sought);
            for (sought, (key, _)) in sought.iter().zip(changes.iter_from(from)) {
                match self.lookup(self.resolve(sought, key)) {
                    Lookup::Value(value) => sum += cost(key, value),
                    Lookup::Absent => {}
                    Lookup::AskStore(_) => unknown(key),
                }
            }
        }
        sum
    }

    /// Takes over what the store answered, if nothing was folded since it was asked and the budget has room for
    /// it. An entry that is here already stays.
    pub fn fill(&mut self, ticket: Ticket, key: &str, value: Option<&[u8]>) {
        if ticket != self.ticket() || self.find(self.hash(key), key).is_some() {
            return;
        }
        let bytes = weigh(key.len(), value);
        if self.make_room(bytes, value.is_some()) {
            self.clean.add(bytes);
            self.insert(key, value, Stretch(0));
        }
    }

    /// How many places [`Self::written`] has to look at for what was written through this stretch.
    pub fn places(&self, through: Stretch) -> usize {
        self.through(through).map(|written| written.slots.len()).sum()
    }

    /// Shows `f` the keys that were last written through this stretch, in no order, and where they are. At the places
    /// from `from` up to but not including `to`: by parts, so that the lock is never held for long. What is written
    /// meanwhile belongs to a later stretch, and is left out.
    pub fn written(&self, through: Stretch, from: usize, to: usize, mut f: impl FnMut(&str, Spot)) {
        let mut begin = 0;
        for written in self.through(through) {
            let here = from.saturating_sub(begin)..to.saturating_sub(begin).min(written.slots.len());
            for place in here {
                let number = written.slots[place];
                let slot = self.slots.get(number as usize);
                if let Some(slot) = slot.filter(|slot| slot.is_at(written.stretch, place)) {
                    f(slot.key(), Spot(number));
                }
            }
            begin += written.slots.len();
        }
    }

    /// The value, `None` where it is deleted, of a key that was [shown](Self::written) there; nothing where it was
    /// written again since, in a later stretch.
    pub fn value_written(&self, through: Stretch, spot: Spot, key: &str) -> Option<Option<Bytes>> {
        let slot = self.slots.get(spot.0 as usize).filter(|slot| slot.is(key));
        let slot = match slot {
            Some(slot) => slot,
            // It was given another slot.
            None => &self.slots[self.find(self.hash(key), key)? as usize],
        };
        (self.folded < slot.written() && slot.written() <= through).then(|| slot.shared_value())
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

    fn hash(&self, key: &str) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn find(&self, hash: u32, key: &str) -> Option<u32> {
        let is_it = |entry: &Indexed| entry.hash == hash && self.slots[entry.number as usize].is(key);
        self.index.find(Indexed::spread(hash), is_it).map(|entry| entry.number)
    }

    fn write(&mut self, stretch: Stretch, number: Option<u32>, key: &str, value: Option<&[u8]>) {
        assert!(self.folded < stretch, "what is written comes after what is folded");
        if value.is_none() && number.is_none() && !self.incomplete {
            // Neither here nor in the store: a delete changes nothing, and an entry for it would only cost.
            return;
        }
        let bytes = weigh(key.len(), value);
        self.dirty_bytes += bytes;
        let place = self.list(stretch, bytes);
        let Some(number) = number else {
            let number = self.insert(key, value, stretch);
            self.put(number, place);
            return;
        };
        let slot = &mut self.slots[number as usize];
        let (old_bytes, written) = (slot.bytes(), slot.written());
        slot.write(key, value, stretch);
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

    fn insert(&mut self, key: &str, value: Option<&[u8]>, written: Stretch) -> u32 {
        let hash = self.hash(key);
        let slot = Slot::new(key, value, written);
        let number = match self.free.pop_first() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                assert!(
                    self.slots.len() < Spot::NONE.0 as usize,
                    "so many entries are far more than memory holds"
                );
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let hash_of = |entry: &Indexed| Indexed::spread(entry.hash);
        self.index.insert_unique(Indexed::spread(hash), Indexed { hash, number }, hash_of);
        number
    }
}
