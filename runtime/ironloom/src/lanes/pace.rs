//! When a lane goes on, and with how much: the half of its bookkeeping that lives as long as the process.

use std::collections::VecDeque;
use std::time::Instant;

use hashbrown::HashMap;

use super::policy::{self, Effort, TimerEffort};
use super::work::{Next, Work};
use ironloom_types::clock::Timestamp;
use ironloom_types::work::LastError;

/// What a lane waits for, and what it tries next.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// No work runs before this time: the host failed.
    pub not_before: Option<Instant>,
    /// No readings are offered before this.
    pub back_off: Option<Instant>,
    /// The size of the next offer.
    pub effort: Effort,
    /// Timers that failed and run again, by name.
    pub timers: HashMap<Box<str>, TimerPace>,
    /// Dead letters to be run again.
    pub requeue: Requeue,
    /// A failure outside any record, for people.
    pub trouble: Option<LastError>,
    /// The log takes nothing from it any more.
    pub ended: bool,
    /// Up to this number no dead letter is left.
    pub letters_gone_through: u64,
}

/// A timer that failed.
#[derive(Clone, Debug)]
pub(crate) struct TimerPace {
    /// The time before which it doesn't run.
    pub until: Instant,
    /// Its attempts so far.
    pub effort: TimerEffort,
}

/// Dead letters that people want to have run again.
#[derive(Debug, Default)]
pub(crate) struct Requeue {
    waiting: VecDeque<u64>,
    /// The last invocation ran one: what else is due goes first, so that many of them hold nothing up.
    others_first: bool,
}

impl Pace {
    /// Forgets all waits and what was learned of the app: an admin has looked at it.
    pub(crate) fn begin_anew(&mut self) {
        let requeue = std::mem::take(&mut self.requeue);
        *self = Self { requeue, ended: self.ended, ..Self::default() };
    }

    /// Takes over what follows from an invocation whose record is durable. `until` is the end of the wait, where
    /// there is one; `changed` are the one-shot timers that the record sets, cancels or ends: whatever has such a
    /// name from now on has failed in nothing.
    pub(crate) fn follow(&mut self, work: &Work, next: Next, until: Option<Instant>, changed: &[Box<str>]) {
        self.trouble = None;
        self.effort = next.effort;
        match (work, until) {
            (Work::Timer { name, .. }, Some(until)) => {
                self.timers.insert(name.clone(), TimerPace { until, effort: next.timer });
            }
            (Work::Timer { name, .. }, None) => {
                self.timers.remove(name);
            }
            (Work::Readings(_), until) => self.back_off = until,
            (Work::Requeue(letter), _) => self.requeue.forget(letter.number),
        }
        for name in changed {
            self.timers.remove(name);
        }
        self.requeue.took_turn(matches!(work, Work::Requeue(_)));
    }

    /// Until when the lane waits after a failure, if it does.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        let timers = self.timers.values().map(|timer| timer.until);
        timers.chain(self.back_off).chain(self.not_before).max()
    }

    /// No readings are offered now, after a failure. They are while a timer waits.
    pub(crate) fn readings_wait(&self, now: Instant) -> bool {
        self.back_off.max(self.not_before).is_some_and(|until| until > now)
    }

    /// The attempts at a timer, and the time since when it has asked for retries.
    pub(crate) fn timer(&self, name: &str) -> TimerEffort {
        self.timers.get(name).map(|timer| timer.effort.clone()).unwrap_or_default()
    }

    /// The timers whose last run asked for a retry.
    pub(crate) fn retrying(&self) -> impl Iterator<Item = &str> {
        self.timers.iter().filter(|(_, timer)| timer.effort.asks).map(|(name, _)| &**name)
    }

    /// Ends the wait of these timers.
    pub(crate) fn retry(&mut self, timers: &[String], now: Instant) {
        for timer in timers {
            if let Some(waiting) = self.timers.get_mut(timer.as_str()) {
                waiting.until = now;
            }
        }
    }

    /// Says whether a timer waits for whatever it has asked to be run again for.
    pub(crate) fn is_asking(&self, timer: &str, now: Instant) -> bool {
        self.timers.get(timer).is_some_and(|waiting| waiting.effort.asks && waiting.until > now)
    }

    /// Says whether a timer has asked for retries for so long that people must be told.
    pub(crate) fn has_stuck_timer(&self, now: Timestamp) -> bool {
        self.timers.values().any(|timer| policy::is_stuck(timer.effort.retrying_since, now))
    }
}

impl Requeue {
    /// Adds a dead letter, once.
    pub(crate) fn add(&mut self, number: u64) {
        if !self.waiting.contains(&number) {
            self.waiting.push_back(number);
        }
    }

    /// Says whether a dead letter waits to run again.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.waiting.contains(&number)
    }

    /// Drops a dead letter: it ran, or is gone.
    pub(crate) fn forget(&mut self, number: u64) {
        self.waiting.retain(|other| *other != number);
    }

    /// The next one, where it is its turn before all else.
    pub(crate) fn first(&self) -> Option<u64> {
        self.waiting.front().copied().filter(|_| !self.others_first)
    }

    /// The next one, where nothing else is due.
    pub(crate) fn any(&self) -> Option<u64> {
        self.waiting.front().copied()
    }

    /// Says whether the invocation that was just chosen runs one.
    pub(crate) fn took_turn(&mut self, is_letter: bool) {
        self.others_first = is_letter;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lanes::policy::Verdict;

    fn timer(name: &str) -> Work {
        Work::Timer { name: name.into(), due: Timestamp(0), repeating: None }
    }

    fn next(verdict: Verdict, attempts: u32) -> Next {
        let timer = TimerEffort { attempts, ..TimerEffort::default() };
        Next { verdict, effort: Effort::default(), timer }
    }

    #[test]
    fn readings_wait_for_no_timer() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let wait = Duration::from_secs(9);
        pace.follow(&timer("failed"), next(Verdict::BackOff(wait), 2), Some(now + wait), &[]);
        assert!(pace.waits_until().is_some() && !pace.readings_wait(now));
        for (back_off, not_before) in [(Some(now + wait), None), (None, Some(now + wait))] {
            (pace.back_off, pace.not_before) = (back_off, not_before);
            assert!(pace.readings_wait(now) && !pace.readings_wait(now + wait));
        }
    }

    #[test]
    fn a_timer_that_is_set_anew_or_cancelled_waits_out_no_old_back_off() {
        let (mut pace, soon) = (Pace::default(), Instant::now() + Duration::from_secs(9));
        let wait = Duration::from_secs(9);
        for name in ["again", "cancelled", "kept"] {
            pace.follow(&timer(name), next(Verdict::BackOff(wait), 2), Some(soon), &[]);
            assert_eq!(pace.timer(name).attempts, 2);
        }
        // Another timer's run changes two of them.
        let changed = ["again".into(), "cancelled".into()];
        pace.follow(&timer("other"), next(Verdict::Done, 0), None, &changed);
        assert_eq!(pace.timer("again"), TimerEffort::default());
        assert_eq!(pace.timers.keys().map(|name| &**name).collect::<Vec<_>>(), ["kept"]);
    }

    #[test]
    fn a_timer_that_asks_for_a_retry_is_told_when_and_one_that_failed_is_not() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let soon = now + Duration::from_secs(9);
        let asking = Next {
            timer: TimerEffort { retries: 1, asks: true, ..TimerEffort::default() },
            ..next(Verdict::BackOff(Duration::from_secs(9)), 0)
        };
        pace.follow(&timer("asks"), asking, Some(soon), &[]);
        pace.follow(&timer("failed"), next(Verdict::BackOff(Duration::from_secs(9)), 1), Some(soon), &[]);
        assert!(pace.is_asking("asks", now) && !pace.is_asking("failed", now));
        assert_eq!(pace.retrying().collect::<Vec<_>>(), ["asks"]);
        pace.retry(&["asks".to_owned()], now);
        assert!(!pace.is_asking("asks", now), "it may run");
    }
}
