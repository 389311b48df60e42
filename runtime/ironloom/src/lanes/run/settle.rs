//! From what an invocation did to what is durable, and to when the lane goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{HOST_FAULT, Pacing, Runner};
use crate::aside::{aside_if, thread_cpu};
use crate::fold::durable::Term;
use crate::fold::new_points::{self, Maker, Ready, Weighed};
use crate::fold::submission::{self, CommitSubmission, Refusal, Submission};
use crate::fold::{self, Shared};
use crate::lanes::Lane;
use crate::lanes::digest;
use crate::lanes::outcome::{self, Before, Concluded, Ended, Used};
use crate::lanes::pace::TimerPace;
use crate::lanes::policy::{self, Verdict};
use crate::lanes::price;
use crate::lanes::work::{Next, Work};
use crate::records::commit::{self, OutcomeKind};
use ironloom_sandbox::{BrokenOff, LogLine, MAX_LOADED_KEYS, Meter, Outcome, Report, StateReader as _};
use ironloom_storage::log::Reserved;
use ironloom_types::clock::host_time;
use ironloom_types::effects::state_cost;
use ironloom_types::ids::{Digest, Generation};
use ironloom_types::readings::{Columns, NewPoint};
use ironloom_types::work::LastError;

/// Effects beyond this many bytes are hashed and encoded on a thread for that: it takes milliseconds.
const LARGE: usize = 256 << 10;
/// The wait of a timer that is told when to run again: as good as for ever.
const UNTIL_TOLD: Duration = Duration::from_secs(1 << 32);

/// The reason why an invocation left no record.
enum Failed {
    Refused(Refusal),
    /// The host failed.
    Host(String),
    /// An admin wants the lane's turn, while it waited for a place of its new points.
    Interrupted,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<BrokenOff> for Failed {
    fn from(error: BrokenOff) -> Self {
        Self::Host(error.to_string())
    }
}

impl Runner {
    /// Makes a record of what an invocation did, waits until it is durable, and says when the lane goes on.
    pub(super) async fn conclude(&self, lane: &Arc<Lane>, term: &Arc<Term>, work: Work, mut report: Report) {
        let used = Used::of(&report);
        self.write_log(lane, std::mem::take(&mut report.log), report.log_dropped);
        if report.outcome == Outcome::Interrupted {
            // An admin ended it: nothing of it happened, and nothing was wrong.
            let interrupted = crate::telemetry::OutcomeLabel { outcome: "interrupted" };
            self.shared.metrics.invocations.get_or_create(&interrupted).inc();
            return;
        }
        let replaced = self.replaced(lane, term, &report).await;
        let ended = Ended::of(report, used);
        let name = ended.as_ref().map_or("host-fault", |ended| ended.outcome.name());
        let metrics = &self.shared.metrics;
        metrics.invocation_cpu.observe(used.cpu);
        metrics.invocations.get_or_create(&crate::telemetry::OutcomeLabel { outcome: name }).inc();
        let points = lane.book().meta().points;
        let mut result = match (replaced, ended) {
            (Ok(replaced), Ok(ended)) => self.commit(lane, term, &work, ended, replaced).await,
            (Err(problem), _) | (_, Err(problem)) => Err(Failed::Host(problem)),
        };
        // Nothing of the invocation happened. What the log can never take is the app's failure, like a limit
        // that it hits: else it would be tried again for ever.
        if let Err(Failed::Refused(refusal @ (Refusal::TooLarge { .. } | Refusal::TooManyPoints { .. }))) =
            result
        {
            result = self.commit(lane, term, &work, Ended::not_committed(&refusal, used), 0).await;
        }
        warn_of_points(lane, term.limits.points, points, lane.book().meta().points);
        match result {
            // Nothing of it happened: it runs again.
            Ok(()) | Err(Failed::Interrupted) => {}
            Err(Failed::Refused(refusal)) => self.was_refused(lane, &work, &refusal),
            Err(Failed::Host(problem)) => {
                tracing::error!(installation = %lane.id, %problem, "the host failed an invocation; it runs again");
                self.retry_after(lane, &work, HOST_FAULT);
            }
        }
    }

    /// Lines are outside of every transaction: they are kept whatever becomes of the invocation, and paid for.
    pub(super) fn write_log(&self, lane: &Lane, lines: Vec<LogLine>, dropped: u64) {
        if lines.is_empty() && dropped == 0 {
            return;
        }
        let bytes = lines.iter().map(|line| line.context.len() + line.message.len()).sum();
        let (ordinal, attempt) = {
            let book = lane.book();
            (book.meta().ordinal.next(), book.meta().attempts + 1)
        };
        self.lanes.charge(lane, price::log(lines.len() + dropped as usize, bytes));
        lane.log.write(lines, dropped, ordinal, attempt, host_time());
    }

    /// Searches the store for what has to go, at the lane's cost.
    async fn searched<T: Send + 'static>(
        &self,
        lane: &Lane,
        find: impl FnOnce(&Shared) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Failed> {
        let found = fold::read_aside(&self.shared, move |shared| {
            let started = thread_cpu();
            let found = find(shared)?;
            Ok::<_, String>((found, thread_cpu().saturating_sub(started)))
        });
        let (found, cpu) = found.await.map_err(Failed::Host)?;
        self.lanes.charge(lane, cpu);
        Ok(found)
    }

    /// One record, from effects to durable. Where it fails, nothing has changed but what was paid. `replaced` are the
    /// bytes of keys and values that the state changes take the place of.
    async fn commit(
        &self,
        lane: &Arc<Lane>,
        term: &Arc<Term>,
        work: &Work,
        ended: Ended,
        replaced: u64,
    ) -> Result<(), Failed> {
        let (ended, digest) = self.digest(ended).await?;
        let mut before = {
            let pace = lane.pace.lock();
            Before::look(&lane.book(), &pace, work, &ended.effects)
        };
        before.replaced = replaced;
        let mut concluded = outcome::conclude(lane, term, &before, work, ended, digest, host_time());
        if let Some(excess) = concluded.letters_in_excess() {
            let (generation, gone) = (lane.generation, concluded.head.dead_letters_gone.clone());
            let mut gone_through = lane.pace.lock().letters_gone_through;
            let find = move |shared: &Shared| {
                let oldest = shared.oldest_dead_letters(generation, &mut gone_through, excess, &gone)?;
                Ok::<_, String>((oldest, gone_through))
            };
            let (oldest, gone_through) = self.searched(lane, find).await?;
            lane.pace.lock().letters_gone_through = gone_through;
            concluded.drop_letters(&oldest);
        }
        if let Some(kept) = concluded.episodes_in_excess() {
            let (generation, gone_through) = (lane.generation, lane.book().episodes_gone_through());
            let find = move |shared: &Shared| shared.oldest_episodes(generation, gone_through, kept);
            let oldest = self.searched(lane, find).await?;
            concluded.drop_episodes(&oldest);
        }
        let (concluded, (encoded, of_head)) = aside_if(concluded.size() > LARGE, move || {
            let encoded = concluded.encode();
            (concluded, encoded)
        })
        .await?;
        let mut bill = concluded.bill(of_head);
        let Concluded { head, state, new_points, derived, next, became_stuck } = concluded;
        let reserved = self.reserve(&encoded, &new_points, &derived)?;
        let weighed = Weighed::of(&self.shared, new_points).await?;
        bill.matches = weighed.matches();
        self.lanes.charge(lane, bill.cost());
        if became_stuck {
            let reason = head.invocation.message.as_deref().unwrap_or_default();
            tracing::warn!(installation = %lane.id, %reason, "an app has asked for retries for more than an hour");
        }
        let quarantine = head.meta.quarantine.clone().filter(|_| before.meta.quarantine.is_none());
        let attempt = head.invocation.attempt;
        let changed: Vec<Box<str>> = head.timers.iter().map(|(name, _)| name.clone()).collect();
        let maker = Maker::Outputs { generation: lane.generation, before: before.meta.points };
        let may_go_on = || if lane.interrupt.is_raised() { Err(Failed::Interrupted) } else { Ok(()) };
        let made = new_points::make(&self.shared, &self.committer, weighed, derived, maker, may_go_on);
        let Ready { new_points, columns: derived, place } = made.await?;
        let (reply, durable) = oneshot::channel();
        let commit = CommitSubmission { head, state, encoded, new_points, derived, place, reply };
        let commit = Submission::Commit(Box::new(commit));
        let bound = commit.max_len();
        self.committer
            .submit(commit, bound)
            .map_err(|refused| submission::too_large(&self.committer, bound, &refused.error))?;
        drop(reserved);
        durable.await.unwrap_or(Err(Refusal::UnknownOutcome))?;
        if let Some(quarantine) = quarantine {
            tracing::warn!(installation = %lane.id, reason = quarantine.reason, "quarantined: an admin has to resume it");
        }
        self.go_on(lane, work, next, attempt, &changed);
        Ok(())
    }

    /// Keeps room in the log for a record that may wait for its new points, if there are any.
    fn reserve(
        &self,
        encoded: &[u8],
        new_points: &[NewPoint],
        derived: &Columns,
    ) -> Result<Option<Reserved>, Refusal> {
        if new_points.is_empty() {
            return Ok(None);
        }
        let bound = encoded.len() + commit::readings_max_len(new_points, derived);
        let reserved = self.committer.reserve(bound);
        reserved.map(Some).map_err(|error| submission::too_large(&self.committer, bound, &error))
    }

    /// The digest of what an invocation did; zeros where nothing of it happened.
    async fn digest(&self, ended: Ended) -> Result<(Ended, Digest), Failed> {
        if ended.outcome != OutcomeKind::Ok {
            return Ok((ended, Digest([0; 32])));
        }
        let all = Arc::clone(&self.shared.points);
        let hashed = aside_if(outcome::size(&ended.effects) > LARGE, move || {
            let points = digest::Points::of(&ended.effects);
            // The names are held no longer than this takes: the fold waits to add new ones.
            let paths = points.paths(&ended.effects, &all.names());
            let digest = digest::of(&ended.effects, &points, &paths);
            (ended, digest)
        });
        Ok(hashed.await?)
    }

    /// The record is durable: what was learned holds, and the lane goes on, now or after a back-off.
    fn go_on(&self, lane: &Arc<Lane>, work: &Work, next: Next, attempt: u32, changed: &[Box<str>]) {
        let is_told_when =
            self.pacing == Pacing::BySteps && matches!(work, Work::Timer { .. }) && next.timer.asks;
        let wait = match next.verdict {
            Verdict::BackOff(_) if is_told_when => Some(UNTIL_TOLD),
            Verdict::BackOff(wait) => Some(spread(wait, lane.generation, attempt)),
            Verdict::Done | Verdict::DeadLetter | Verdict::Again => None,
        };
        let until = wait.map(|wait| Instant::now() + wait);
        lane.pace.lock().follow(work, next, until, changed);
        if let Some(wait) = wait.filter(|_| !is_told_when) {
            self.wake_later(lane, wait);
        }
    }

    /// The bytes of keys and values that an invocation's state changes take the place of. Keys that aren't cached
    /// are looked up in the store; apps often write keys that they never read.
    async fn replaced(&self, lane: &Arc<Lane>, term: &Arc<Term>, report: &Report) -> Result<u64, String> {
        let size = |key: &str, value: &[u8]| state_cost(key, value) as u64;
        let mut unknown: Vec<Box<str>> = Vec::new();
        let mut replaced =
            lane.state.read().costs(&report.effects.state, size, |key| unknown.push(key.into()));
        let (context, meter) = (self.context(lane, term, None), Meter::unlimited());
        let mut left = &unknown[..];
        while !left.is_empty() {
            let part = &left[..left.len().min(MAX_LOADED_KEYS)];
            let found = context.load(part, &meter).await.map_err(|error| error.to_string())?;
            left = &left[found.len()..];
            let found = part.iter().zip(found).filter_map(|(key, value)| Some(size(key, &value?)));
            replaced += found.sum::<u64>();
        }
        self.lanes.charge(lane, meter.cpu());
        Ok(replaced)
    }

    /// Delays the next attempt of this kind of work; without it the lane would retry immediately.
    fn retry_after(&self, lane: &Arc<Lane>, work: &Work, wait: Duration) {
        let until = Instant::now() + wait;
        {
            let mut pace = lane.pace.lock();
            match work {
                Work::Readings(_) => pace.back_off = Some(until),
                Work::Timer { name, .. } => {
                    let effort = pace.timer(name);
                    pace.timers.insert(name.clone(), TimerPace { until, effort });
                }
                // The requester may ask again.
                Work::Requeue(letter) => pace.requeue.forget(letter.number),
            }
        }
        self.wake_later(lane, wait);
    }

    /// The record was not taken, and not for what the app did.
    fn was_refused(&self, lane: &Arc<Lane>, work: &Work, refusal: &Refusal) {
        match refusal {
            Refusal::Gone | Refusal::UnknownOutcome | Refusal::Stopped => lane.pace.lock().ended = true,
            other => {
                tracing::warn!(installation = %lane.id, refusal = %other, "an invocation can't be committed");
                let ordinal = lane.book().meta().ordinal.next();
                let (kind, message) = ("refused".to_owned(), other.to_string());
                lane.pace.lock().trouble = Some(LastError { at: host_time(), kind, message, ordinal });
                self.retry_after(lane, work, policy::back_off(8));
            }
        }
    }
}

/// ± 20 %, the same for the same attempt.
fn spread(wait: Duration, generation: Generation, attempt: u32) -> Duration {
    let mixed = (generation.0 ^ u64::from(attempt).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    wait.mul_f64(0.8 + 0.4 * (mixed as f64 / (1u64 << 24) as f64))
}

/// Says once that an app has made nine tenths of the points that its outputs may make.
fn warn_of_points(lane: &Lane, limit: u64, before: u64, now: u64) {
    let nearly = limit - limit / 10;
    if before < nearly && now >= nearly {
        tracing::warn!(
            installation = %lane.id, points = now, limit,
            "its outputs have nearly as many points as they may make (limits.points); readings beyond become dead letters"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_offs_spread_by_a_fifth_each_way() {
        for attempt in 1..200 {
            let wait = spread(Duration::from_secs(10), Generation(7), attempt).as_secs_f64();
            assert!((8.0..=12.0).contains(&wait), "{wait}");
        }
        let waits: std::collections::BTreeSet<_> =
            (1..200).map(|attempt| spread(Duration::from_secs(10), Generation(7), attempt)).collect();
        assert!(waits.len() > 100);
    }
}
