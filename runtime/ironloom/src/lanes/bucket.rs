//! How much CPU time an installation may take in the long run: a token bucket.

use std::time::{Duration, Instant};

use ironloom_types::limits::SHARE_BURST;

/// The longest that an installation waits for what was done on its behalf.
const MOST_DEBT: Duration = Duration::from_secs(2);

/// The CPU time that an installation has left. An invocation starts as long as there is any, however long it
/// then takes: what it takes too much is owed, and waited for before the next one.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// In seconds, as of `since`; below zero if the installation owes time. Not a whole number: an app that is
    /// woken all the time must not lose the fractions that come in between.
    left: f64,
    since: Instant,
}

impl Bucket {
    /// Returns a full bucket.
    pub(crate) fn full(now: Instant) -> Self {
        Self { left: SHARE_BURST.as_secs_f64(), since: now }
    }

    /// Takes out what an invocation took. `share` is what comes in each second, in nanoseconds.
    pub(crate) fn spend(&mut self, cpu: Duration, share: u64, now: Instant) {
        self.fill(share, now);
        self.left -= cpu.as_secs_f64();
    }

    /// Takes out what others did for it, such as a checkpoint: all at once, and for a time in which it ran. So it owes
    /// no more for that than comes in for [`MOST_DEBT`], beyond what it owed before.
    pub(crate) fn bill(&mut self, cpu: Duration, share: u64, now: Instant) {
        self.fill(share, now);
        let least = self.left.min(-MOST_DEBT.as_secs_f64() * per_second(share));
        self.left = (self.left - cpu.as_secs_f64()).max(least);
    }

    /// Returns the wait until time is left again; `None` if some is left.
    pub(crate) fn wait(&mut self, share: u64, now: Instant) -> Option<Duration> {
        self.fill(share, now);
        // A microsecond more, so that there is something left by then.
        (self.left <= 0.0).then(|| Duration::from_secs_f64(-self.left / per_second(share) + 1e-6))
    }

    fn fill(&mut self, share: u64, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (self.left + seconds * per_second(share)).min(SHARE_BURST.as_secs_f64());
        self.since = now;
    }
}

/// A share as a part of one core.
fn per_second(share: u64) -> f64 {
    share.max(1) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u64 = 500_000_000;

    proptest::proptest! {
        /// Whatever an installation does and however often it is asked, it takes no more than what comes in, what
        /// was saved up, and the end of its last invocation.
        #[test]
        fn no_more_is_taken_than_comes_in(
            costs in proptest::collection::vec(0u64..400, 1..200),
            share in 10_000_000u64..=1_000_000_000,
            asked_in_between in 0u32..5,
        ) {
            let begin = Instant::now();
            let (mut now, mut bucket, mut taken) = (begin, Bucket::full(begin), Duration::ZERO);
            for cost in costs {
                if let Some(wait) = bucket.wait(share, now) {
                    for part in 0..asked_in_between {
                        proptest::prop_assert!(bucket.wait(share, now + wait * part / 10).is_some());
                    }
                    now += wait;
                    proptest::prop_assert_eq!(bucket.wait(share, now), None);
                }
                let most = (now - begin).mul_f64(share as f64 / 1e9) + SHARE_BURST;
                proptest::prop_assert!(taken <= most + Duration::from_micros(10), "{taken:?} of {most:?}");
                let cpu = Duration::from_millis(cost);
                now += cpu;
                taken += cpu;
                bucket.spend(cpu, share, now);
            }
        }
    }

    #[test]
    fn after_a_burst_half_of_the_time_is_waited() {
        let begin = Instant::now();
        let mut bucket = Bucket::full(begin);
        // Nearly four seconds at full speed use what was saved up and what comes in meanwhile, but for the first
        // tenth, in which there was no room for more.
        let mut now = begin;
        for _ in 0..38 {
            assert_eq!(bucket.wait(HALF, now), None);
            now += Duration::from_millis(100);
            bucket.spend(Duration::from_millis(100), HALF, now);
        }
        bucket.spend(Duration::from_millis(100), HALF, now);
        let wait = bucket.wait(HALF, now).unwrap();
        assert!((wait.as_secs_f64() - 0.1).abs() < 1e-5, "{wait:?}");
        assert_eq!(bucket.wait(HALF, now + wait), None);
    }

    #[test]
    fn what_others_did_for_it_is_waited_for_two_seconds_at_most() {
        let begin = Instant::now();
        let mut bucket = Bucket::full(begin);
        bucket.bill(Duration::from_secs(60), HALF, begin);
        let wait = bucket.wait(HALF, begin).unwrap();
        assert!((wait.as_secs_f64() - 2.0).abs() < 1e-5, "{wait:?}");
        // What it owes for its own is owed all the same.
        bucket.spend(Duration::from_secs(3), HALF, begin);
        bucket.bill(Duration::from_secs(60), HALF, begin);
        let wait = bucket.wait(HALF, begin).unwrap();
        assert!((wait.as_secs_f64() - 8.0).abs() < 1e-5, "{wait:?}");
    }

    #[test]
    fn no_more_is_saved_up_than_the_burst() {
        let begin = Instant::now();
        let mut bucket = Bucket::full(begin);
        let now = begin + Duration::from_secs(3600);
        bucket.spend(SHARE_BURST + Duration::from_millis(50), HALF, now);
        let wait = bucket.wait(HALF, now).unwrap();
        assert!((wait.as_secs_f64() - 0.1).abs() < 1e-5, "{wait:?}");
    }
}
