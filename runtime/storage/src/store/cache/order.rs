//! The dirty entries in key order, for scans. Whoever scans puts them in order, outside of the lock;
//! commits only leave their keys behind.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::RwLock;

use super::{Changes, StateCache, Stretch};

/// Keys that are read under one hold of the lock.
const STEP: usize = if cfg!(test) { 2 } else { 4_096 };
/// Keys that are put in order under one hold of the lock, where the others wait for it.
const LAST: usize = if cfg!(test) { 2 } else { 256 };

/// Dirty keys that are, or are being, put in order.
#[derive(Debug, Default)]
pub(in crate::store) struct Order {
    /// What was folded and moved when they were gathered: a fold or a move makes all of it void.
    as_of: Option<(Stretch, u64)>,
    /// How many of the places of all stretches are in it. A key that is written again has another place, and is in
    /// it once.
    places: usize,
    /// Not yet in order.
    gathered: Vec<(Box<str>, u32)>,
    pub(in crate::store) sorted: BTreeMap<Box<str>, u32>,
}

impl Order {
    pub(in crate::store) fn sort(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        if self.sorted.is_empty() {
            // Sorts once and builds the tree from below, far faster than one by one.
            self.sorted = gathered.into_iter().collect();
        } else {
            self.sorted.extend(gathered);
        }
    }
}

impl StateCache {
    /// At most `limit` of the entries that go before the store's: keys that begin with `prefix`, from the
    /// first one behind `after` on. To be taken before the store is read. The lock is held for moments only,
    /// however many entries there are: they are put in order outside of it.
    pub fn changes(state: &RwLock<Self>, prefix: &str, after: Option<&str>, limit: usize) -> Changes {
        {
            let state = state.read();
            if let Some(order) = state.ordered.as_ref().filter(|order| state.is_complete(order)) {
                return state.page(order, prefix, after, limit);
            }
        }
        // What an earlier scan put in order is gone on with; one that comes meanwhile begins anew.
        let mut order = state.write().ordered.take().unwrap_or_default();
        loop {
            let is_all = state.read().gather(&mut order, STEP);
            order.sort();
            if is_all {
                let mut state = state.write();
                // What was written meanwhile is little, or comes in another round.
                if state.gather(&mut order, LAST) {
                    order.sort();
                    let page = state.page(&order, prefix, after, limit);
                    state.ordered = Some(order);
                    return page;
                }
            }
        }
    }

    /// Takes up to `most` more dirty keys into an order. Whether that was all.
    pub(in crate::store) fn gather(&self, order: &mut Order, most: usize) -> bool {
        let as_of = Some((self.folded, self.moves));
        if order.as_of != as_of {
            *order = Order { as_of, ..Order::default() };
        }
        let mut begin = 0;
        let end = order.places + most;
        for written in &self.dirty {
            let next = order.places.saturating_sub(begin)..written.slots.len().min(end.saturating_sub(begin));
            for place in next {
                order.places += 1;
                let number = written.slots[place];
                let slot = self.slots.get(number as usize);
                if let Some(slot) = slot.filter(|slot| slot.is_at(written.stretch, place)) {
                    order.gathered.push((slot.key().into(), number));
                }
            }
            begin += written.slots.len();
        }
        order.places == begin
    }

    fn is_complete(&self, order: &Order) -> bool {
        let places: usize = self.dirty.iter().map(|written| written.slots.len()).sum();
        order.as_of == Some((self.folded, self.moves)) && order.places == places
    }

    fn page(&self, order: &Order, prefix: &str, after: Option<&str>, limit: usize) -> Changes {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut changes = Changes::default();
        let behind = order.sorted.range::<str, _>((start, Bound::Unbounded));
        for (key, &number) in behind.take_while(|(key, _)| key.starts_with(prefix)) {
            if changes.entries.len() == limit {
                changes.more = true;
                break;
            }
            let slot = &self.slots[number as usize];
            assert!(slot.written() > self.folded, "what is in order is dirty, so it was not evicted");
            changes.entries.push((key.clone(), slot.shared_value()));
        }
        changes
    }
}
