//! From what an invocation did to what is durable, and to when the lane goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{HOST_FAULT, Runner};
use crate::aside::aside_if;
use crate::fold::submission::{CommitSubmission, Refusal, Submission};
use crate::fold::{self, Shared};
use crate::lanes::Lane;
use crate::lanes::digest;
use crate::lanes::outcome::{self, Before, Concluded, Ended};
use crate::lanes::pace::TimerPace;
use crate::lanes::policy::{self, Verdict};
use crate::lanes::price;
use crate::lanes::work::{Next, Work};
use crate::records::commit::OutcomeKind;
use ironloom_sandbox::{BrokenOff, LogLine, MAX_LOADED_KEYS, Meter, Outcome, Report, StateReader as _};
use ironloom_storage::store::Lookup;
use ironloom_types::clock::host_time;
use ironloom_types::effects::state_cost;
use ironloom_types::ids::{Digest, Generation};
use ironloom_types::work::LastError;

/// Effects beyond this many bytes are hashed and encoded on a thread for that: it takes milliseconds.
const LARGE: usize = 256 << 10;

/// The reason why an invocation left no record.
enum Failed {
    Refused(Refusal),
    /// The host failed.
    Host(String),
}

impl From<BrokenOff> for Failed {
    fn from(error: BrokenOff) -> Self {
        Self::Host(error.to_string())
    }
}

impl Runner {
    /// Makes a record of what an invocation did, waits until it is durable, and says when the lane goes on.
    pub(super) async fn conclude(&self, lane: &Arc<Lane>, work: Work, mut report: Report) {
        let cpu = report.cpu;
        self.write_log(lane, std::mem::take(&mut report.log), report.log_dropped);
        if report.outcome == Outcome::Interrupted {
            // An admin ended it: nothing of it happened, and nothing was wrong.
            let interrupted = crate::telemetry::OutcomeLabel { outcome: "interrupted" };
            self.shared.metrics.invocations.get_or_create(&interrupted).inc();
            return;
        }
        let replaced = self.replaced(lane, &report).await;
        let ended = Ended::of(report);
        let name = ended.as_ref().map_or("host-fault", |ended| ended.outcome.name());
        let metrics = &self.shared.metrics;
        metrics.invocation_cpu.observe(cpu);
        metrics.invocations.get_or_create(&crate::telemetry::OutcomeLabel { outcome: name }).inc();
        let mut result = match (replaced, ended) {
            (Ok(replaced), Ok(ended)) => self.commit(lane, &work, ended, replaced).await,
            (Err(problem), _) | (_, Err(problem)) => Err(Failed::Host(problem)),
        };
        // Nothing of the invocation happened. What the log can never take is the app's failure, like a limit
        // that it hits: else it would be tried again for ever.
        if let Err(Failed::Refused(refusal @ (Refusal::TooLarge { .. } | Refusal::TooManyPoints { .. }))) =
            result
        {
            result = self.commit(lane, &work, Ended::not_committed(&refusal, cpu), 0).await;
        }
        match result {
            Ok(()) => {}
            Err(Failed::Refused(refusal)) => self.was_refused(lane, &work, &refusal),
            Err(Failed::Host(problem)) => {
                tracing::error!(installation = %lane.id, %problem, "the host failed an invocation; it runs again");
                self.retry_after(lane, &work, HOST_FAULT);
            }
        }
    }

    /// Lines are outside of every transaction: they are kept whatever becomes of the invocation, and paid for.
    fn write_log(&self, lane: &Lane, lines: Vec<LogLine>, dropped: u64) {
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

    /// One record, from effects to durable. Where it fails, nothing has changed but what was paid. `replaced` are the
    /// bytes of keys and values that the state changes take the place of.
    async fn commit(&self, lane: &Arc<Lane>, work: &Work, ended: Ended, replaced: u64) -> Result<(), Failed> {
        let (ended, digest) = self.digest(ended).await?;
        let mut before = {
            let pace = lane.pace.lock();
            Before::look(&lane.book(), &pace, work, &ended.effects)
        };
        before.replaced = replaced;
        let mut concluded = outcome::conclude(lane, &before, work, ended, digest, host_time());
        if let Some(excess) = concluded.letters_in_excess() {
            let (generation, gone) = (lane.generation, concluded.head.dead_letters_gone.clone());
            let find = move |shared: &Shared| shared.oldest_dead_letters(generation, excess, &gone);
            let oldest = fold::read_aside(&self.shared, find).await.map_err(Failed::Host)?;
            concluded.drop_letters(&oldest);
        }
        let (concluded, (encoded, of_head)) = aside_if(concluded.size() > LARGE, move || {
            let encoded = concluded.encode();
            (concluded, encoded)
        })
        .await?;
        self.lanes.charge(lane, concluded.bill(of_head).cost());
        let Concluded { head, state, new_points, derived, next, became_stuck } = concluded;
        if became_stuck {
            let reason = head.invocation.message.as_deref().unwrap_or_default();
            tracing::warn!(installation = %lane.id, %reason, "an app has asked for retries for more than an hour");
        }
        let points = (before.meta.points, head.meta.points);
        let quarantine = head.meta.quarantine.clone().filter(|_| before.meta.quarantine.is_none());
        let attempt = head.invocation.attempt;
        let changed: Vec<Box<str>> = head.timers.iter().map(|(name, _)| name.clone()).collect();
        let (reply, durable) = oneshot::channel();
        let commit = CommitSubmission { head, state, encoded, new_points, derived, reply };
        let commit = Submission::Commit(Box::new(commit));
        let bound = commit.max_len();
        match self.committer.submit(commit, bound) {
            Ok(()) => durable.await.unwrap_or(Err(Refusal::UnknownOutcome)).map_err(Failed::Refused)?,
            Err(refused) => {
                let too_large = Refusal::TooLarge { bytes: bound, max: self.committer.max_body() };
                return Err(Failed::Refused(too_large.or_stopped(&refused.error)));
            }
        }
        if let Some(quarantine) = quarantine {
            tracing::warn!(installation = %lane.id, reason = quarantine.reason, "quarantined: an admin has to resume it");
        }
        warn_of_points(lane, points);
        self.go_on(lane, work, next, attempt, &changed);
        Ok(())
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
        let wait = match next.verdict {
            Verdict::BackOff(wait) => Some(spread(wait, lane.generation, attempt)),
            Verdict::Done | Verdict::DeadLetter | Verdict::Again => None,
        };
        let until = wait.map(|wait| Instant::now() + wait);
        lane.pace.lock().follow(work, next, until, changed);
        if let Some(wait) = wait {
            self.wake_later(lane, wait);
        }
    }

    /// The bytes of keys and values that an invocation's state changes take the place of. Keys that aren't cached
    /// are looked up in the store; apps often write keys that they never read.
    async fn replaced(&self, lane: &Arc<Lane>, report: &Report) -> Result<u64, String> {
        let size = |key: &str, value: &bytes::Bytes| state_cost(key, value) as u64;
        let mut replaced = 0;
        let mut unknown: Vec<Box<str>> = Vec::new();
        {
            let state = lane.state.read();
            for (key, _) in &report.effects.state {
                match state.get(key) {
                    Lookup::Value(value) => replaced += size(key, value),
                    Lookup::Absent => {}
                    Lookup::AskStore(_) => unknown.push(key.clone()),
                }
            }
        }
        let (context, meter) = (self.context(lane, None), Meter::unlimited());
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
            Refusal::Gone | Refusal::UnknownOutcome => lane.pace.lock().ended = true,
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
fn warn_of_points(lane: &Lane, (before, now): (u64, u64)) {
    let limit = lane.revision.limits.points;
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
