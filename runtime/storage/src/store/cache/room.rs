//! The memory of clean entries: a budget that all caches share, what goes where it is used up, and slots that go
//! back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Indexed, StateCache};

/// Slots that are looked at to make room for one entry.
const LOOKED_AT: usize = 16;
/// So few slots are never given back.
const FEW: usize = if cfg!(test) { 4 } else { 1_024 };

/// What all caches together keep of what is in the store: `store.cache`.
#[derive(Debug)]
pub struct CacheBudget {
    most: AtomicUsize,
    clean: AtomicUsize,
    caches: AtomicUsize,
}

impl CacheBudget {
    /// A budget of so many bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: AtomicUsize::new(most),
            clean: AtomicUsize::new(0),
            caches: AtomicUsize::new(0),
        })
    }

    /// Sets how many bytes there are.
    pub fn set(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// The bytes that are in use. A cache is never kept from its own share, so that it may be up to twice the
    /// budget where others have more than theirs.
    pub fn clean(&self) -> usize {
        self.clean.load(Relaxed)
    }

    /// What is in use beyond the budget.
    pub fn excess(&self) -> usize {
        self.clean().saturating_sub(self.most.load(Relaxed))
    }

    /// The share of one cache, which it may use whatever others do.
    pub fn share(&self) -> usize {
        self.most.load(Relaxed) / self.caches.load(Relaxed).max(1)
    }
}

/// The clean bytes of one cache, counted towards the budget of all.
#[derive(Debug)]
pub(super) struct Clean {
    budget: Arc<CacheBudget>,
    bytes: usize,
}

impl Clean {
    pub(super) fn none(budget: &Arc<CacheBudget>) -> Self {
        budget.caches.fetch_add(1, Relaxed);
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.clean.fetch_add(bytes, Relaxed);
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.clean.fetch_sub(bytes, Relaxed);
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.budget.clean() + bytes <= self.budget.most.load(Relaxed)
            || self.bytes + bytes <= self.budget.share()
    }
}

impl Drop for Clean {
    fn drop(&mut self) {
        self.budget.clean.fetch_sub(self.bytes, Relaxed);
        self.budget.caches.fetch_sub(1, Relaxed);
    }
}

impl StateCache {
    /// Evicts clean entries, those not read for longest first, until at most this many bytes are clean; looks
    /// at no more than `slots` slots, so that the lock is never held for long. Whether it is done.
    pub fn shrink_to(&mut self, clean_bytes: usize, slots: usize) -> bool {
        for _ in 0..slots {
            if self.clean.bytes() <= clean_bytes {
                return true;
            }
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[self.hand];
            let is_clean = slot.is_in_use() && slot.written() <= self.folded;
            if is_clean && !slot.take_read() {
                self.evict(self.hand);
            }
        }
        self.clean.bytes() <= clean_bytes
    }

    /// Whether an answer of the store may be kept. That a key is absent takes the place of nothing.
    pub(super) fn make_room(&mut self, bytes: usize, is_value: bool) -> bool {
        if self.clean.has_room(bytes) {
            return true;
        }
        let own = self.clean.bytes();
        is_value && own >= bytes && self.shrink_to(own - bytes, LOOKED_AT)
    }

    fn evict(&mut self, at: usize) {
        let number = at as u32;
        let hash = self.hash(self.slots[at].key());
        let slot = &mut self.slots[at];
        self.clean.remove(slot.bytes());
        // A key without a value isn't in the store either: nothing is forgotten with it.
        self.incomplete |= slot.value().is_some();
        if let Ok(entry) = self.index.find_entry(Indexed::spread(hash), |entry| entry.number == number) {
            entry.remove();
        }
        slot.clear();
        self.free.insert(number);
    }

    /// Whether most slots are free, so that memory is to be had from [`StateCache::compact`].
    pub fn is_sparse(&self) -> bool {
        self.slots.len() > FEW && self.free.len() > self.slots.len() / 2
    }

    /// Gives free slots back: the last ones take the places of the first free ones. Moves at most `slots` of them, so
    /// that the lock is never held for long. Whether it is done. A checkpoint that reads meanwhile finds each dirty
    /// slot where it was in its list.
    pub fn compact(&mut self, slots: usize) -> bool {
        for _ in 0..slots {
            let Some(last) = self.slots.pop() else { break };
            let from = self.slots.len() as u32;
            if !last.is_in_use() {
                self.free.remove(&from);
                continue;
            }
            let Some(to) = self.free.pop_first() else {
                self.slots.push(last);
                break;
            };
            let hash = Indexed::spread(self.hash(last.key()));
            if let Some(entry) = self.index.find_mut(hash, |entry| entry.number == from) {
                entry.number = to;
            }
            if last.written() > self.folded {
                let list = self.dirty.iter_mut().rfind(|list| list.stretch == last.written());
                if let Some(list) = list {
                    list.slots[last.place as usize] = to;
                }
                self.moves += 1;
            }
            self.slots[to as usize] = last;
        }
        if !self.free.is_empty() {
            return false;
        }
        self.slots.shrink_to(self.slots.len() + self.slots.len() / 4);
        self.index.shrink_to(self.slots.len(), |entry| Indexed::spread(entry.hash));
        true
    }
}
