//! Chooses the next lane: the one that has used least CPU time, so that a costly app gets no more of the machine
//! than its neighbours while all have work.
//!
//! What a lane has used is a *virtual* time. Whoever was idle begins where those are that run, so that nobody saves
//! up time; and a debt stays small, however long one invocation was. Within an invocation the sandbox's turns go on
//! by the same measure.
//!
//! Lanes wait in a line for each [`Length`] of their invocations, and some places take short ones only. Else as many
//! long invocations as there are places would keep all others out until one of them ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Lane, Lanes};

/// What a lane may be behind the others for what it used.
const MOST_DEBT: u64 = 1_000_000_000;

/// What a lane's invocations lately took at most, of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Length {
    /// Up to 2 ms.
    Short,
    /// Up to 20 ms: two ticks.
    Medium,
    Long,
}

impl Length {
    pub(crate) const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    pub(super) fn of(nanoseconds: u64) -> Self {
        match nanoseconds {
            0..=2_000_000 => Self::Short,
            2_000_001..=20_000_000 => Self::Medium,
            _ => Self::Long,
        }
    }
}

/// The list of lanes that have, or may have, something to do.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    ready: Mutex<Ready>,
    /// For each length: told when a lane comes whose invocations take that long at most.
    work: [Notify; Length::ALL.len()],
}

/// Lanes by what each had used when it was put here, then in the order in which they came; with the lane's number.
type Line = BTreeSet<(u64, u64, u32)>;

#[derive(Debug, Default)]
struct Ready {
    /// One for each length.
    lines: [Line; Length::ALL.len()],
    next: u64,
    /// The most that the lanes which were chosen had used by then: where those begin that were idle.
    floor: u64,
}

impl Ready {
    fn put(&mut self, lane: &Lane, length: Length) {
        let used = lane.used.fetch_max(self.floor, Ordering::Relaxed).max(self.floor);
        self.lines[length as usize].insert((used, self.next, lane.number));
        self.next += 1;
    }

    /// The line, of those up to this length, whose first lane has used least.
    fn least(&mut self, most: Length) -> Option<(Length, &mut Line)> {
        let lines = Length::ALL.into_iter().zip(&mut self.lines).filter(|(length, _)| *length <= most);
        lines.filter(|(_, line)| !line.is_empty()).min_by_key(|(_, line)| line.first().copied())
    }
}

impl Scheduler {
    /// Puts a lane into the list, if it isn't there.
    pub(crate) fn wake(&self, lane: &Lane) {
        if !lane.queued.swap(true, Ordering::AcqRel) {
            let length = lane.length();
            self.ready.lock().put(lane, length);
            self.tell(length);
        }
    }

    /// Tells whoever takes lanes of this length.
    fn tell(&self, length: Length) {
        self.work[length as usize..].iter().for_each(Notify::notify_one);
    }

    /// The next lane whose invocations take no longer than this, once there is one.
    pub(crate) async fn next(&self, lanes: &Lanes, most: Length) -> Arc<Lane> {
        loop {
            if let Some(lane) = self.pop(lanes, most) {
                // Anyone who finds it set from here on has noted the work before the lane looks for it.
                lane.queued.swap(false, Ordering::AcqRel);
                return lane;
            }
            self.work[most as usize].notified().await;
        }
    }

    fn pop(&self, lanes: &Lanes, most: Length) -> Option<Arc<Lane>> {
        let mut ready = self.ready.lock();
        loop {
            let (length, line) = ready.least(most)?;
            let (used, _, number) = line.pop_first()?;
            let is_last = ready.lines.iter().all(Line::is_empty);
            // One that is gone may have left its number to another, which is then looked at once more than it needs.
            let Some(lane) = lanes.get(number) else { continue };
            let (used_by_now, length_by_now) = (lane.used.load(Ordering::Relaxed), lane.length());
            // It ran while it waited here.
            if length_by_now > most || (used_by_now > used && !is_last) {
                ready.put(&lane, length_by_now);
                if length_by_now > length {
                    self.tell(length_by_now);
                }
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
            let lane = lanes.scheduler.pop(lanes, Length::Long).unwrap();
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
        lanes.scheduler.pop(&lanes, Length::Long).unwrap().queued.store(false, Ordering::SeqCst);
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
    fn a_place_for_short_invocations_takes_no_lane_of_long_ones() {
        let lanes = lanes_of(3);
        let all = lanes.all();
        let pop = |most| lanes.scheduler.pop(&lanes, most).map(|lane| lane.number);
        all[0].ran(MS * 150);
        all[1].ran(MS * 15);
        for lane in &all {
            lanes.wake(lane);
        }
        assert_eq!(pop(Length::Short), Some(2));
        assert_eq!(pop(Length::Short), None);
        assert_eq!(pop(Length::Medium), Some(1));
        assert_eq!(pop(Length::Medium), None);
        assert_eq!(pop(Length::Long), Some(0));
        // One that turns out to be long while it waits.
        all[2].queued.store(false, Ordering::SeqCst);
        lanes.wake(&all[2]);
        all[2].ran(MS * 150);
        assert_eq!(pop(Length::Short), None);
        assert_eq!(pop(Length::Long), Some(2));
    }

    #[test]
    fn a_lane_is_short_again_after_some_short_invocations() {
        let lane = lanes_of(1).get(0).unwrap();
        assert_eq!(lane.length(), Length::Short, "until it is known");
        lane.ran(MS * 200);
        let again = (1..).find(|_| {
            lane.ran(MS);
            lane.length() == Length::Short
        });
        // 200 ms × (7/8)^n ≤ 2 ms.
        assert_eq!(again, Some(35));
    }

    #[test]
    fn a_number_given_again_carries_no_debt() {
        let lanes = lanes_of(1);
        let gone = lanes.get(0).unwrap();
        lanes.slab.write().remove(0);
        lanes.scheduler.charge(&gone, MS * 900);
        let next = lanes_of(1).get(0).unwrap();
        lanes.slab.write().insert(0, next.generation, &next.id, Arc::clone(&next));
        lanes.wake(&next);
        assert_eq!(next.used.load(Ordering::SeqCst), 0);
    }
}
