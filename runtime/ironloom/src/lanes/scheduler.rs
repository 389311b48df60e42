//! Chooses the next lane: the one that has used least CPU time, so that a costly app gets no more of the machine
//! than its neighbours while all have work.
//!
//! What a lane has used is a *virtual* time. Whoever was idle begins where those are that run, so that nobody saves
//! up time; and a debt stays small, however long one invocation was. Within an invocation the sandbox's turns go on
//! by the same measure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Lane, Lanes};

/// What a lane may be behind the others for what it used.
const MOST_DEBT: u64 = 1_000_000_000;

/// The list of lanes that have, or may have, something to do.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    ready: Mutex<Ready>,
    work: Notify,
}

#[derive(Debug, Default)]
struct Ready {
    /// By what each had used when it was put here, then in the order in which they came; with the lane's number.
    line: BTreeSet<(u64, u64, u32)>,
    next: u64,
    /// The most that the lanes which were chosen had used by then: where those begin that were idle.
    floor: u64,
}

impl Ready {
    fn put(&mut self, lane: &Lane) {
        let used = lane.used.fetch_max(self.floor, Ordering::Relaxed).max(self.floor);
        self.line.insert((used, self.next, lane.number));
        self.next += 1;
    }
}

impl Scheduler {
    /// Puts a lane into the list, if it isn't there.
    pub(crate) fn wake(&self, lane: &Lane) {
        if !lane.queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().put(lane);
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
            let (used, _, number) = ready.line.pop_first()?;
            // One that is gone may have left its number to another, which is then looked at once more than it needs.
            let Some(lane) = lanes.get(number) else { continue };
            let used_by_now = lane.used.load(Ordering::Relaxed);
            if used_by_now > used && !ready.line.is_empty() {
                // Charged while it waited.
                ready.put(&lane);
                continue;
            }
            ready.floor = ready.floor.max(used_by_now);
            return Some(lane);
        }
    }

    /// Charges a lane for what it spent.
    pub(crate) fn charge(&self, lane: &Lane, cpu: Duration) {
        let spent = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        let most = self.ready.lock().floor.saturating_add(MOST_DEBT);
        let add = |used: u64| Some(used.saturating_add(spent).min(most).max(used));
        let _ = lane.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::tests::lanes_of;

    const MS: Duration = Duration::from_millis(1);

    /// Runs the lanes, each of which costs so much and has always work; returns how often each ran.
    fn run(lanes: &Lanes, costs: &[u64], rounds: usize) -> Vec<u32> {
        let mut ran = vec![0; costs.len()];
        for _ in 0..rounds {
            let lane = lanes.scheduler.pop(lanes).unwrap();
            lane.queued.store(false, Ordering::SeqCst);
            let number = lane.number as usize;
            ran[number] += 1;
            lanes.scheduler.charge(&lane, MS * costs[number] as u32);
            lanes.wake(&lane);
        }
        ran
    }

    #[test]
    fn a_costly_lane_has_the_same_time_as_a_cheap_one() {
        let lanes = lanes_of(2);
        lanes.all().iter().for_each(|lane| lanes.wake(lane));
        let ran = run(&lanes, &[10, 1], 1_100);
        assert!((995..=1_005).contains(&ran[1]) && (95..=105).contains(&ran[0]), "{ran:?}");
    }

    #[test]
    fn nobody_saves_up_time_and_no_debt_is_longer_than_a_second() {
        let lanes = lanes_of(3);
        let all = lanes.all();
        lanes.wake(&all[0]);
        // Alone it owes nobody: ten minutes are no debt when another comes.
        run(&lanes, &[600_000], 1);
        lanes.scheduler.pop(&lanes).unwrap().queued.store(false, Ordering::SeqCst);
        all.iter().take(2).for_each(|lane| lanes.wake(lane));
        let ran = run(&lanes, &[1, 1], 100);
        assert!(ran.iter().all(|ran| (45..=55).contains(ran)), "{ran:?}");
        // One that was idle for all of this begins where they are.
        lanes.wake(&all[2]);
        let ran = run(&lanes, &[1, 1, 1], 90);
        assert!(ran.iter().all(|ran| (25..=35).contains(ran)), "{ran:?}");
        // A long one waits for a second of the others, and no longer.
        lanes.scheduler.charge(&all[0], MS * 60_000);
        let ran = run(&lanes, &[1, 1, 1], 1_900);
        assert!(ran[0] <= 1, "{ran:?}");
        let ran = run(&lanes, &[1, 1, 1], 300);
        assert!(ran[0] >= 30, "{ran:?}");
    }

    #[test]
    fn a_number_given_again_carries_no_debt() {
        let lanes = lanes_of(1);
        let gone = lanes.get(0).unwrap();
        lanes.slab.write().remove(0);
        lanes.scheduler.charge(&gone, MS * 900);
        let next = lanes_of(1).get(0).unwrap();
        lanes.slab.write().insert(0, next.generation, Arc::clone(&next));
        lanes.wake(&next);
        assert_eq!(next.used.load(Ordering::SeqCst), 0);
    }
}
