//! Whoever waits until an installation has dealt with readings: told by the fold when a commit passes them, or when the
//! installation stops.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Shared;
use super::durable::Durable;
use ironloom_types::ids::Sequence;
use ironloom_types::limits::MAX_WAITING_PUSHES;

/// What has become of readings in an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dealt {
    /// Their effects are durable, they were set aside as dead letters, or the lane was moved over them.
    With,
    /// They wait for the lane.
    NotYet,
    /// They wait for somebody who resumes it.
    Stopped,
    /// It is uninstalled.
    Gone,
}

/// The waits for each installation, by the sequence that they wait for.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    places: Mutex<Places>,
    next: AtomicU64,
}

/// The waits that there are.
#[derive(Debug, Default)]
struct Places {
    by_lane: HashMap<u32, BTreeMap<Wait, oneshot::Sender<()>>>,
    taken: usize,
}

/// The sequence, and a number so that several can wait for one.
type Wait = (Sequence, u64);

/// One wait, which ends when it is dropped.
struct Entered<'a> {
    waits: &'a Waits,
    lane: u32,
    wait: Wait,
}

impl Waits {
    /// Takes a place; `None` where as many wait for this lane as places are free. So one that takes long, however many
    /// wait for it, leaves as many to the others.
    fn enter(&self, lane: u32, through: Sequence) -> Option<(Entered<'_>, oneshot::Receiver<()>)> {
        let (tell, told) = oneshot::channel();
        let wait = (through, self.next.fetch_add(1, Ordering::Relaxed));
        let mut places = self.places.lock();
        let own = places.by_lane.get(&lane).map_or(0, BTreeMap::len);
        if own >= MAX_WAITING_PUSHES.saturating_sub(places.taken) {
            return None;
        }
        places.taken += 1;
        places.by_lane.entry(lane).or_default().insert(wait, tell);
        Some((Entered { waits: self, lane, wait }, told))
    }

    /// Takes out those that wait for nothing later.
    fn take(&self, lane: u32, through: Sequence) -> BTreeMap<Wait, oneshot::Sender<()>> {
        let mut places = self.places.lock();
        let Some(own) = places.by_lane.get_mut(&lane) else { return BTreeMap::new() };
        let later = own.split_off(&(through.next(), 0));
        let passed = std::mem::replace(own, later);
        if own.is_empty() {
            places.by_lane.remove(&lane);
        }
        places.taken -= passed.len();
        passed
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut places = self.waits.places.lock();
        let Some(own) = places.by_lane.get_mut(&self.lane) else { return };
        let is_there = own.remove(&self.wait).is_some();
        if own.is_empty() {
            places.by_lane.remove(&self.lane);
        }
        places.taken -= usize::from(is_there);
    }
}

impl Durable {
    /// What has become of its readings up to this sequence.
    pub(crate) fn dealt(&self, through: Sequence) -> Dealt {
        let waits = self.queue.lock().pending().is_some_and(|pending| pending <= through);
        match waits {
            false => Dealt::With,
            true if !self.is_stopped() => Dealt::NotYet,
            true if self.book().is_closed() => Dealt::Gone,
            true => Dealt::Stopped,
        }
    }
}

impl Shared {
    /// Waits until an installation has dealt with its readings up to this sequence, or stands still; not where too many
    /// wait for it.
    pub(crate) async fn dealt_with(&self, lane: &Durable, through: Sequence) -> Dealt {
        loop {
            // Entered first: what the fold does from here on is told.
            let entered = self.waits.enter(lane.number, through);
            let dealt = lane.dealt(through);
            let (Dealt::NotYet, Some((_entered, told))) = (dealt, entered) else { return dealt };
            // Told once in any case: its sender lives as long as the wait.
            let _ = told.await;
        }
    }

    /// Tells those who wait for what the lane has dealt with by now, or all if it stands still.
    pub(super) fn tell_waits(&self, lane: &Durable) {
        let is_stopped = lane.is_stopped();
        let pending = lane.queue.lock().pending().filter(|_| !is_stopped);
        let through = pending.map_or(Sequence(u64::MAX), |pending| Sequence(pending.0.saturating_sub(1)));
        for tell in self.waits.take(lane.number, through).into_values() {
            // Whoever waited may have gone.
            let _ = tell.send(());
        }
    }

    /// How many waits there are.
    #[cfg(test)]
    pub(super) fn waits_for_test(&self) -> usize {
        self.waits.places.lock().taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many, as far as there are places.
    fn enter(waits: &Waits, lane: u32, count: usize) -> Vec<Entered<'_>> {
        (0..count).filter_map(|_| waits.enter(lane, Sequence(7))).map(|(entered, _)| entered).collect()
    }

    #[test]
    fn an_app_that_takes_long_leaves_as_many_places_as_it_has() {
        let waits = Waits::default();
        let first = enter(&waits, 1, 1_000);
        assert_eq!(first.len(), 500);
        let second = enter(&waits, 2, 1_000);
        assert_eq!(second.len(), 250);
        assert_eq!(enter(&waits, 3, 100).len(), 100);
        // Those that are told, and those that give up, make room.
        assert_eq!(waits.take(1, Sequence(7)).len(), 500);
        drop((first, second));
        assert_eq!(waits.places.lock().taken, 0);
        assert_eq!(enter(&waits, 2, 1_000).len(), 500);
        assert_eq!(waits.places.lock().taken, 0);
        assert!(waits.places.lock().by_lane.is_empty());
    }
}
