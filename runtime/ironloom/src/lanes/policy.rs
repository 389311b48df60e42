//! What follows a failure: the table of the failure rules as pure functions, without clock or lane.

use std::time::Duration;

use crate::records::commit::OutcomeKind;
use crate::records::lane::Trouble;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::limits::Limits;

#[cfg(test)]
mod tests;

/// Attempts with the same first reading before it is searched for the bad one.
pub(crate) const ATTEMPTS: u32 = 3;
/// Dead letters by trap in a row that stop the lane.
pub(crate) const TRAPS_IN_ROW: u32 = 5;
/// Failed attempts within [`FAILURE_WINDOW`] that stop the lane.
pub(crate) const FAILURES: usize = 20;
/// The period over which failures are counted.
pub(crate) const FAILURE_WINDOW: u64 = 600 * SECOND;
/// How long an app may ask for retries before people are told.
pub(crate) const STUCK_AFTER: u64 = 3600 * SECOND;

/// The size of a lane's next offer, and its search for a bad reading.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Effort {
    /// The known facts about a bad reading ahead.
    suspect: Option<Suspect>,
    /// Readings that an offer may have after a limit was hit; grows back.
    cap: usize,
    /// The last offer hit a limit.
    was_too_much: bool,
    /// The app's CPU time for a reading, as a moving estimate.
    nanos_each: f64,
}

/// The next `readings` contain a bad one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Suspect {
    readings: usize,
    by: Cause,
}

/// The reason for searching a bad reading.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cause {
    /// The app said so. A trap on the way is a failure like any other.
    Reject,
    /// It failed three times: failures during the search are part of that failure.
    Failure,
}

impl Default for Effort {
    fn default() -> Self {
        // The first offers are small: nobody knows yet what a reading costs.
        Self { suspect: None, cap: 256, was_too_much: false, nanos_each: 1_000.0 }
    }
}

/// The verdict on an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its effects take place and its readings are dealt with.
    Done,
    /// Its only reading becomes a dead letter.
    DeadLetter,
    /// Something smaller is offered at once.
    Again,
    /// The same is offered after this time.
    BackOff(Duration),
}

/// An invocation with readings, as far as the rules look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub outcome: OutcomeKind,
    /// The number of offered readings.
    pub readings: usize,
    /// Its CPU time.
    pub cpu: Duration,
    /// The machine's time.
    pub now: Timestamp,
}

/// The verdict on an invocation, and the facts to remember once its record is durable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judged<E = Effort> {
    pub verdict: Verdict,
    /// The lane's memory for its next offer.
    pub effort: E,
    /// The memory that the record carries on.
    pub trouble: Trouble,
    /// Says whether it counts as a failure.
    pub counted: bool,
}

impl Effort {
    /// The number of readings to offer: as many as fit half of the CPU budget, at most `most`.
    pub(crate) fn readings(&self, limits: &Limits, most: usize) -> usize {
        if let Some(suspect) = self.suspect {
            return (suspect.readings / 2).max(1);
        }
        let fits = limits.cpu as f64 / 2.0 / self.nanos_each.max(1.0);
        (fits as usize).clamp(1, most).min(self.cap)
    }

    /// The number of readings of a step to offer: all of them, whatever they cost, unless that was too much.
    pub(crate) fn of_a_step(&self, most: usize) -> usize {
        match self.suspect {
            Some(suspect) => (suspect.readings / 2).max(1),
            None if self.was_too_much => self.cap.clamp(1, most),
            None => most,
        }
    }

    /// The estimate after readings that took so long; small batches say little.
    fn learn(&mut self, run: &Run) {
        self.was_too_much = false;
        let each = run.cpu.as_nanos() as f64 / run.readings as f64;
        self.nanos_each += (each - self.nanos_each) * if run.readings >= 64 { 0.3 } else { 0.05 };
        self.cap = self.cap.saturating_mul(2).min(1 << 20);
    }

    /// Readings that are dealt with are suspected no longer.
    fn pass(&mut self, readings: usize) {
        self.suspect = self.suspect.and_then(|suspect| {
            let left = suspect.readings.saturating_sub(readings);
            (left > 0).then_some(Suspect { readings: left, ..suspect })
        });
    }
}

/// Judges an invocation with readings.
pub(crate) fn judge(effort: &Effort, trouble: &Trouble, run: Run) -> Judged {
    assert!(run.readings > 0, "an invocation with readings has some");
    let mut judged =
        Judged { verdict: Verdict::Again, effort: effort.clone(), trouble: trouble.clone(), counted: false };
    judged.verdict = match run.outcome {
        OutcomeKind::Ok => {
            judged.effort.learn(&run);
            Verdict::Done
        }
        OutcomeKind::Reject if run.readings == 1 => Verdict::DeadLetter,
        OutcomeKind::Reject => search(&mut judged.effort, run.readings, Cause::Reject),
        OutcomeKind::Retry => {
            judged.trouble.retries += 1;
            judged.trouble.retrying_since.get_or_insert(run.now);
            Verdict::BackOff(back_off(judged.trouble.retries))
        }
        outcome if is_limit(outcome) && run.readings > 1 => offer_less(&mut judged.effort, run.readings),
        _ => fail(&mut judged, run),
    };
    settle(&mut judged, run);
    judged
}

/// Looks for the bad one among these readings.
fn search(effort: &mut Effort, readings: usize, by: Cause) -> Verdict {
    effort.suspect = Some(Suspect { readings, by });
    Verdict::Again
}

/// A limit that several readings hit says nothing against any of them.
fn offer_less(effort: &mut Effort, readings: usize) -> Verdict {
    if let Some(suspect) = &mut effort.suspect {
        suspect.readings = suspect.readings.min(readings);
    }
    effort.cap = readings / 2;
    effort.was_too_much = true;
    effort.nanos_each *= 2.0;
    Verdict::Again
}

/// A trap, or a limit that a single reading hit.
fn fail(judged: &mut Judged, run: Run) -> Verdict {
    let is_search = judged.effort.suspect.is_some_and(|suspect| suspect.by == Cause::Failure);
    if !is_search {
        judged.counted = true;
        judged.trouble.attempts += 1;
        remember_failure(&mut judged.trouble, run.now);
        if judged.trouble.attempts < ATTEMPTS {
            return Verdict::BackOff(back_off(judged.trouble.attempts));
        }
    }
    match run.readings {
        1 => Verdict::DeadLetter,
        readings => search(&mut judged.effort, readings, Cause::Failure),
    }
}

/// Updates the memory by a verdict.
fn settle(judged: &mut Judged, run: Run) {
    let Judged { verdict, effort, trouble, .. } = judged;
    match verdict {
        Verdict::Again | Verdict::BackOff(_) => return,
        Verdict::Done => {
            if effort.suspect.is_none() {
                trouble.traps_in_row = 0;
            }
            effort.pass(run.readings);
        }
        Verdict::DeadLetter => {
            let by_trap = run.outcome != OutcomeKind::Reject;
            trouble.traps_in_row = if by_trap { trouble.traps_in_row + 1 } else { 0 };
            // That was the bad reading; those behind it are not suspected.
            effort.suspect = None;
        }
    }
    trouble.attempts = 0;
    trouble.retries = 0;
    trouble.retrying_since = None;
}

/// Whether an invocation used too much of something.
fn is_limit(outcome: OutcomeKind) -> bool {
    match outcome {
        OutcomeKind::CpuLimit
        | OutcomeKind::WallLimit
        | OutcomeKind::MemoryLimit
        | OutcomeKind::HostCallLimit
        | OutcomeKind::CommitLimit => true,
        OutcomeKind::Ok | OutcomeKind::Reject | OutcomeKind::Retry | OutcomeKind::Trap => false,
    }
}

/// Attempts at one run of a timer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TimerEffort {
    /// Invocations that failed, one after the other.
    pub attempts: u32,
    /// Invocations that asked for a retry, one after the other.
    pub retries: u32,
    /// Since when, by the machine's clock.
    pub retrying_since: Option<Timestamp>,
    /// It has asked for them for so long that people have heard of it.
    pub is_stuck: bool,
    /// The last invocation asked for one.
    pub asks: bool,
}

/// Judges a timer's run: a failure is repeated like one with readings, then given up.
pub(crate) fn judge_timer(
    effort: &TimerEffort,
    trouble: &Trouble,
    outcome: OutcomeKind,
    now: Timestamp,
) -> Judged<TimerEffort> {
    let mut judged =
        Judged { verdict: Verdict::Done, effort: effort.clone(), trouble: trouble.clone(), counted: false };
    judged.effort.asks = outcome == OutcomeKind::Retry;
    judged.verdict = match outcome {
        OutcomeKind::Ok => Verdict::Done,
        OutcomeKind::Reject => {
            judged.counted = true;
            Verdict::DeadLetter
        }
        OutcomeKind::Retry => {
            judged.effort.retries += 1;
            judged.effort.retrying_since.get_or_insert(now);
            judged.effort.is_stuck = is_stuck(judged.effort.retrying_since, now);
            Verdict::BackOff(back_off(judged.effort.retries))
        }
        _ => {
            judged.counted = true;
            judged.effort.attempts += 1;
            remember_failure(&mut judged.trouble, now);
            match judged.effort.attempts {
                ATTEMPTS.. => Verdict::DeadLetter,
                attempts => Verdict::BackOff(back_off(attempts)),
            }
        }
    };
    judged
}

pub(super) fn remember_failure(trouble: &mut Trouble, now: Timestamp) {
    // Those of a time to come are from before the clock was set back: they would stay for ever.
    trouble.failures.retain(|at| *at <= now && at.0 + FAILURE_WINDOW > now.0);
    trouble.failures.push(now);
    let most = trouble.failures.len().saturating_sub(FAILURES);
    trouble.failures.drain(..most);
}

/// Whether an app that has been asking for retries since then has done so for so long that people have to hear
/// of it.
pub(crate) fn is_stuck(retrying_since: Option<Timestamp>, now: Timestamp) -> bool {
    retrying_since.is_some_and(|since| since.plus(STUCK_AFTER) <= now)
}

/// Returns the rule that stops the lane now, if any.
pub(crate) fn quarantine(trouble: &Trouble) -> Option<String> {
    if trouble.traps_in_row >= TRAPS_IN_ROW {
        return Some(format!(
            "{TRAPS_IN_ROW} readings in a row became dead letters because of a trap or a limit"
        ));
    }
    (trouble.failures.len() >= FAILURES).then(|| {
        format!(
            "{FAILURES} failed attempts within 10 minutes; a reading or a timer's run is tried up to {ATTEMPTS} times"
        )
    })
}

/// 1 s, doubling to 5 min; the lane spreads it by ± 20 %.
pub(crate) fn back_off(attempt: u32) -> Duration {
    Duration::from_secs((1u64 << attempt.saturating_sub(1).min(9)).min(300))
}
