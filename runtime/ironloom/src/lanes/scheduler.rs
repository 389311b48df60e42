//! Chooses the next lane: deficit round robin, charged in CPU time, so that a costly app gets no more
//! of the machine than its neighbours while all have work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Lane, Lanes};

/// CPU time that a lane may spend before the next has its turn, in nanoseconds.
const QUANTUM: i64 = 10_000_000;

/// The list of lanes that have, or may have, something to do.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    ready: Mutex<Ready>,
    work: Notify,
}

#[derive(Debug, Default)]
struct Ready {
    round: VecDeque<u32>,
    /// CPU time that each may still spend; those that aren't here have spent nothing.
    deficit: HashMap<u32, i64>,
}

impl Scheduler {
    /// Puts a lane into the list, if it isn't there.
    pub(crate) fn wake(&self, lane: &Lane) {
        if !lane.queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().round.push_back(lane.number);
            self.work.notify_one();
        }
    }

    /// The next lane, once there is one.
    pub(crate) async fn next(&self, lanes: &Lanes) -> Arc<Lane> {
        loop {
            if let Some(lane) = self.pop(lanes) {
                // Anyone who finds it set from here on has noted the work before the lane looks for it.
                lane.queued.swap(false, Ordering::AcqRel);
                return lane;
            }
            self.work.notified().await;
        }
    }

    fn pop(&self, lanes: &Lanes) -> Option<Arc<Lane>> {
        let mut ready = self.ready.lock();
        loop {
            let number = ready.round.pop_front()?;
            let Some(lane) = lanes.get(number) else {
                ready.deficit.remove(&number);
                continue;
            };
            let alone = ready.round.is_empty();
            let deficit = ready.deficit.entry(number).or_insert(QUANTUM);
            if *deficit <= 0 && !alone {
                *deficit += QUANTUM;
                ready.round.push_back(number);
                continue;
            }
            // Alone it owes nobody: an old debt must not hold it up when others come.
            if alone {
                *deficit = (*deficit).max(QUANTUM);
            }
            return Some(lane);
        }
    }

    /// Charges a lane for what it spent.
    pub(crate) fn charge(&self, lane: &Lane, cpu: Duration) {
        let spent = i64::try_from(cpu.as_nanos()).unwrap_or(i64::MAX);
        let mut ready = self.ready.lock();
        let deficit = ready.deficit.entry(lane.number).or_insert(QUANTUM);
        // A debt is paid within a few rounds, however long one invocation was.
        *deficit = (*deficit - spent).max(-100 * QUANTUM);
    }
}
