//! What follows a failure: the table of the failure rules as pure functions, without clock or lane.

use std::time::Duration;

use crate::records::commit::OutcomeKind;
use crate::records::lane::Trouble;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::limits::Limits;

/// Attempts with the same first reading before it is searched for the bad one.
pub const ATTEMPTS: u32 = 3;
/// Dead letters by trap in a row that stop the lane.
pub const TRAPS_IN_ROW: u32 = 5;
/// Failures within [`FAILURE_WINDOW`] that stop the lane.
pub const FAILURES: usize = 20;
/// How far back failures are counted.
pub const FAILURE_WINDOW: u64 = 600 * SECOND;
/// How long an app may ask for retries before people hear of it.
pub const STUCK_AFTER: u64 = 3600 * SECOND;

/// How much a lane offers next, and whether it is searching for a bad reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// Rows from the first one on among which there is a bad one; 0: none is known of.
    suspect: usize,
    /// Rows that an offer may have after a limit was hit; grows back.
    cap: usize,
    /// The app's CPU time for a row, as a moving estimate.
    nanos_per_row: f64,
}

impl Default for Effort {
    fn default() -> Self {
        // The first offers are small: nobody knows yet what a row costs.
        Self { suspect: 0, cap: 256, nanos_per_row: 1_000.0 }
    }
}

/// What follows an invocation with readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its effects take place and its readings are dealt with.
    Done,
    /// Its only reading becomes a dead letter.
    DeadLetter,
    /// Something smaller is offered at once.
    Again,
    /// The same is offered after this time.
    BackOff(Duration),
}

impl Effort {
    /// How many rows to offer: what fits half of the CPU budget, at most `most`.
    pub fn rows(&self, limits: &Limits, most: usize) -> usize {
        if self.suspect > 0 {
            return (self.suspect / 2).max(1);
        }
        let fits = limits.cpu as f64 / 2.0 / self.nanos_per_row.max(1.0);
        (fits as usize).clamp(1, most).min(self.cap)
    }

    /// Judges an invocation with `rows` readings that took `cpu`, and updates what is remembered.
    pub fn judge(
        &mut self,
        trouble: &mut Trouble,
        outcome: OutcomeKind,
        rows: usize,
        cpu: Duration,
        now: Timestamp,
    ) -> Verdict {
        assert!(rows > 0, "an invocation with readings has some");
        let verdict = match outcome {
            OutcomeKind::Ok => {
                let each = cpu.as_nanos() as f64 / rows as f64;
                self.nanos_per_row += (each - self.nanos_per_row) * if rows >= 64 { 0.3 } else { 0.05 };
                self.cap = self.cap.saturating_mul(2).min(1 << 20);
                Verdict::Done
            }
            OutcomeKind::Reject if rows == 1 => Verdict::DeadLetter,
            OutcomeKind::Reject => {
                self.suspect = rows;
                Verdict::Again
            }
            OutcomeKind::Retry => {
                trouble.retries += 1;
                trouble.retrying_since.get_or_insert(now);
                return Verdict::BackOff(back_off(trouble.retries));
            }
            OutcomeKind::CpuLimit
            | OutcomeKind::WallLimit
            | OutcomeKind::MemoryLimit
            | OutcomeKind::HostCallLimit
                if rows > 1 =>
            {
                if self.suspect > 0 {
                    self.suspect = self.suspect.min(rows);
                }
                self.cap = rows / 2;
                self.nanos_per_row *= 2.0;
                return Verdict::Again;
            }
            // A trap, or a limit that a single reading hit.
            _ if self.suspect > 0 && rows == 1 => Verdict::DeadLetter,
            _ if self.suspect > 0 => {
                self.suspect = rows;
                Verdict::Again
            }
            _ => {
                trouble.attempts += 1;
                remember_failure(trouble, now);
                if trouble.attempts < ATTEMPTS {
                    return Verdict::BackOff(back_off(trouble.attempts));
                }
                if rows == 1 {
                    Verdict::DeadLetter
                } else {
                    self.suspect = rows;
                    Verdict::Again
                }
            }
        };
        match verdict {
            Verdict::Done => {
                if self.suspect == 0 {
                    trouble.traps_in_row = 0;
                }
                self.passed(trouble, rows);
            }
            Verdict::DeadLetter => {
                let by_trap = outcome != OutcomeKind::Reject;
                trouble.traps_in_row = if by_trap { trouble.traps_in_row + 1 } else { 0 };
                // It was the bad one; the rows behind it are as good as any.
                self.suspect = 0;
                self.passed(trouble, rows);
            }
            Verdict::Again | Verdict::BackOff(_) => {}
        }
        verdict
    }

    fn passed(&mut self, trouble: &mut Trouble, rows: usize) {
        self.suspect = self.suspect.saturating_sub(rows);
        trouble.attempts = 0;
        trouble.retries = 0;
        trouble.retrying_since = None;
    }
}

/// Judges a timer's run: a failure is repeated like one with readings, then given up.
pub fn judge_timer(
    trouble: &mut Trouble,
    attempts: &mut u32,
    outcome: OutcomeKind,
    now: Timestamp,
) -> Verdict {
    match outcome {
        OutcomeKind::Ok => Verdict::Done,
        OutcomeKind::Reject => Verdict::DeadLetter,
        OutcomeKind::Retry => {
            *attempts += 1;
            Verdict::BackOff(back_off(*attempts))
        }
        _ => {
            *attempts += 1;
            remember_failure(trouble, now);
            if *attempts < ATTEMPTS { Verdict::BackOff(back_off(*attempts)) } else { Verdict::DeadLetter }
        }
    }
}

fn remember_failure(trouble: &mut Trouble, now: Timestamp) {
    trouble.failures.retain(|at| at.0 + FAILURE_WINDOW > now.0);
    trouble.failures.push(now);
    let most = trouble.failures.len().saturating_sub(FAILURES);
    trouble.failures.drain(..most);
}

/// Whether the app has been asking for retries for so long that people have to hear of it.
pub fn is_stuck(trouble: &Trouble, now: Timestamp) -> bool {
    trouble.retrying_since.is_some_and(|since| since.plus(STUCK_AFTER) <= now)
}

/// Which rule stops the lane now, if any.
pub fn quarantine(trouble: &Trouble) -> Option<String> {
    if trouble.traps_in_row >= TRAPS_IN_ROW {
        return Some(format!("{TRAPS_IN_ROW} readings in a row became dead letters by a trap or a limit"));
    }
    (trouble.failures.len() >= FAILURES).then(|| format!("{FAILURES} failures within 10 minutes"))
}

/// 1 s, doubling to 5 min; the lane spreads it by ± 20 %.
pub fn back_off(attempt: u32) -> Duration {
    Duration::from_secs((1u64 << attempt.saturating_sub(1).min(9)).min(300))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000 * SECOND);

    /// Runs a feed of readings, of which some are bad, through the rules, and returns the dead letters,
    /// the runs, and the back-offs.
    fn run(bad: &[usize], total: usize, outcome: OutcomeKind) -> (Vec<usize>, usize, usize, Trouble) {
        let (mut effort, mut trouble) = (Effort::default(), Trouble::default());
        let (mut at, mut dead, mut runs, mut back_offs) = (0, Vec::new(), 0, 0);
        while at < total {
            runs += 1;
            assert!(runs < 10_000, "the feed goes on");
            let rows = effort.rows(&Limits::default(), 16_384).min(total - at);
            let fails = bad.iter().any(|&bad| (at..at + rows).contains(&bad));
            let outcome = if fails { outcome } else { OutcomeKind::Ok };
            match effort.judge(&mut trouble, outcome, rows, Duration::from_micros(rows as u64), NOW) {
                Verdict::Done => at += rows,
                Verdict::DeadLetter => {
                    assert_eq!(rows, 1);
                    dead.push(at);
                    at += 1;
                }
                Verdict::Again => {}
                Verdict::BackOff(_) => back_offs += 1,
            }
        }
        (dead, runs, back_offs, trouble)
    }

    proptest::proptest! {
        #[test]
        fn exactly_the_bad_readings_become_dead_letters(
            bad in proptest::collection::btree_set(0usize..600, 0..6),
            trap: bool,
        ) {
            let bad: Vec<usize> = bad.into_iter().collect();
            let outcome = if trap { OutcomeKind::Trap } else { OutcomeKind::Reject };
            let (dead, runs, back_offs, _) = run(&bad, 600, outcome);
            proptest::prop_assert_eq!(&dead, &bad);
            // Each is found by halving: at most 2 log2(600) runs and two back-offs before.
            proptest::prop_assert!(runs <= 20 + bad.len() * 24, "{} runs", runs);
            proptest::prop_assert_eq!(back_offs, if trap { 2 * bad.len() } else { 0 });
        }
    }

    #[test]
    fn a_reject_is_no_failure_and_a_bisection_by_trap_counts_once() {
        assert_eq!(run(&[300], 600, OutcomeKind::Reject).3.failures.len(), 0);
        // Three attempts failed; the runs that searched are part of the third.
        assert_eq!(run(&[300], 600, OutcomeKind::Trap).3.failures.len(), 3);
    }

    #[test]
    fn a_limit_hit_by_many_readings_halves_the_offer_and_counts_nothing() {
        let (mut effort, mut trouble) = (Effort::default(), Trouble::default());
        let verdict = effort.judge(&mut trouble, OutcomeKind::CpuLimit, 256, Duration::from_millis(200), NOW);
        assert_eq!(verdict, Verdict::Again);
        assert_eq!(effort.rows(&Limits::default(), 16_384), 128);
        assert_eq!(trouble, Trouble::default());
        let verdict = effort.judge(&mut trouble, OutcomeKind::CpuLimit, 1, Duration::from_millis(200), NOW);
        assert_eq!(verdict, Verdict::BackOff(Duration::from_secs(1)));
        assert_eq!(trouble.failures.len(), 1);
    }

    #[test]
    fn five_traps_in_a_row_or_twenty_failures_stop_the_lane() {
        let (dead, _, _, trouble) = run(&[0, 1, 2, 3, 4], 5, OutcomeKind::Trap);
        assert_eq!(dead.len(), 5);
        assert!(quarantine(&trouble).is_some_and(|reason| reason.contains("in a row")));
        let mut trouble = Trouble::default();
        for n in 0..20 {
            assert_eq!(quarantine(&trouble), None, "after {n}");
            remember_failure(&mut trouble, NOW);
        }
        assert!(quarantine(&trouble).is_some_and(|reason| reason.contains("20 failures")));
        remember_failure(&mut trouble, Timestamp(NOW.0 + FAILURE_WINDOW));
        assert_eq!(quarantine(&trouble), None, "the window moved on");
    }

    #[test]
    fn retries_count_no_failure_and_are_stuck_after_an_hour() {
        let (mut effort, mut trouble) = (Effort::default(), Trouble::default());
        for attempt in 1..5 {
            let verdict = effort.judge(&mut trouble, OutcomeKind::Retry, 8, Duration::ZERO, NOW);
            assert_eq!(verdict, Verdict::BackOff(back_off(attempt)));
        }
        assert!(trouble.failures.is_empty());
        assert!(!is_stuck(&trouble, NOW.plus(STUCK_AFTER - 1)));
        assert!(is_stuck(&trouble, NOW.plus(STUCK_AFTER)));
        effort.judge(&mut trouble, OutcomeKind::Ok, 8, Duration::ZERO, NOW);
        assert!(!is_stuck(&trouble, NOW.plus(STUCK_AFTER)), "it went on");
    }

    #[test]
    fn back_off_doubles_from_a_second_to_five_minutes() {
        let seconds: Vec<u64> = (1..=11).map(|attempt| back_off(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }
}
