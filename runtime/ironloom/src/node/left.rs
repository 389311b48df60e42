//! The work that a node has left: a feed that is tried goes on once that is nothing.

use std::sync::Arc;
use std::time::Instant;

use super::Node;
use crate::api::host::Left;
use crate::lanes::Lane;
use ironloom_types::clock::Timestamp;

impl Node {
    /// The work that is left of the readings and timers through this time.
    pub(super) fn left(&self, through: Timestamp) -> Left {
        if self.shared.horizon() < through {
            return Left::Work;
        }
        let mut left = Left::Nothing;
        for lane in self.lanes.all() {
            let is_due = {
                let (pace, now) = (lane.pace.lock(), Instant::now());
                let book = lane.book();
                // One that asks for a retry may wait for a reading that is still to come.
                book.all_due().any(|(name, due)| due <= through && !pace.is_asking(name, now))
            };
            if !is_due && lane.queue.lock().pending().is_none() {
                continue;
            }
            if !lane.is_stopped() {
                return Left::Work;
            }
            let quarantine = lane.book().meta().quarantine.as_ref().map(|why| why.reason.clone());
            let why = quarantine.map_or("it is paused".to_owned(), |why| format!("it is quarantined: {why}"));
            left = Left::Stopped(why);
        }
        left
    }

    /// The timers that have asked for a retry and wait.
    pub(super) fn retrying(&self) -> Vec<String> {
        let of = |lane: &Arc<Lane>| lane.pace.lock().retrying().map(str::to_owned).collect::<Vec<_>>();
        self.lanes.all().iter().flat_map(of).collect()
    }

    /// Lets these timers run again now.
    pub(super) fn retry(&self, timers: &[String]) {
        for lane in self.lanes.all() {
            lane.pace.lock().retry(timers, Instant::now());
            self.lanes.wake(&lane);
        }
    }
}
