//! From what an invocation did to what is durable, and to when the lane goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{HOST_FAULT, Runner};
use crate::fold::submission::{CommitSubmission, Refusal, Submission};
use crate::fold::{self, Shared};
use crate::lanes::Lane;
use crate::lanes::outcome::{self, Concluded, Stored, Work};
use crate::lanes::policy::{self, Verdict};
use crate::records::commit::InvocationKind;
use ironloom_sandbox::{Outcome, Report, StateReader as _};
use ironloom_storage::store::Lookup;
use ironloom_types::clock::host_time;
use ironloom_types::ids::Generation;

impl Runner {
    pub(super) async fn conclude(&self, lane: &Arc<Lane>, work: Work, mut report: Report) {
        let now = host_time();
        let (log, dropped) = (std::mem::take(&mut report.log), report.log_dropped);
        let fault = match &report.outcome {
            Outcome::HostFault(problem) => Some(problem.clone()),
            _ => None,
        };
        let metrics = &self.shared.metrics;
        metrics.invocation_cpu.observe(report.cpu);
        let outcome_name = outcome::kind_of(&report.outcome).map_or("host-fault", |(kind, _)| kind.name());
        metrics.invocations.get_or_create(&crate::telemetry::Outcome { outcome: outcome_name }).inc();
        let stored = match self.stored(lane, &work, &report).await {
            Ok(stored) => stored,
            Err(problem) => {
                tracing::error!(installation = %lane.id, %problem, "the store can't be read; the invocation runs again");
                self.hold(lane, &work, HOST_FAULT);
                return;
            }
        };
        let concluded = {
            let names = self.shared.points.names();
            let mut book = lane.book.lock();
            let attempt = book.meta.attempts + 1;
            let ordinal = book.meta.ordinal.next();
            let concluded = outcome::conclude(lane, &mut book, &work, report, &stored, &names, now);
            drop((book, names));
            lane.log.write(log, dropped, ordinal, attempt, now);
            concluded
        };
        let Some(concluded) = concluded else {
            tracing::error!(installation = %lane.id, problem = fault, "the host failed an invocation; it runs again");
            self.hold(lane, &work, HOST_FAULT);
            return;
        };
        let Concluded { head, state, encoded, new_points, derived, rows, verdict } = concluded;
        let quarantined = head.meta.quarantine.is_some();
        let (reply, durable) = oneshot::channel();
        let bound = encoded.len() + derived.bytes() + derived.len() * 4 + new_points.len() * 512 + 64;
        let kind = head.invocation.kind.clone();
        let commit = CommitSubmission { head, state, encoded, new_points, derived, reply };
        let committed =
            match self.committer.submit(Submission::Commit(Box::new(commit)), bound) {
                Ok(()) => durable.await.unwrap_or(Err(Refusal::UnknownOutcome)),
                Err(refused) => Err(Refusal::TooLarge { bytes: bound, max: self.committer.max_body() }
                    .or_stopped(&refused.error)),
            };
        if let Err(refusal) = committed {
            self.refused(lane, &work, &refusal);
            return;
        }
        if rows > 0 {
            lane.queue.lock().advance(rows);
        }
        let mut book = lane.book.lock();
        let attempts = book.meta.attempts;
        if let InvocationKind::Requeue(number) = kind {
            book.requeue.retain(|other| *other != number);
        }
        match (&work, verdict) {
            (Work::Timer { .. }, Verdict::BackOff(wait)) => {
                let attempt = book.timer_back_off.map_or(0, |(_, attempts)| attempts) + 1;
                let wait = spread(wait, lane.generation, attempt);
                book.timer_back_off = Some((Instant::now() + wait, attempt));
                drop(book);
                self.wake_later(lane, wait);
            }
            (Work::Timer { .. }, _) => book.timer_back_off = None,
            (Work::Readings(_), Verdict::BackOff(wait)) => {
                let wait = spread(wait, lane.generation, attempts);
                book.back_off = Some(Instant::now() + wait);
                drop(book);
                self.wake_later(lane, wait);
            }
            _ => {}
        }
        if quarantined {
            tracing::warn!(installation = %lane.id, "quarantined: an admin has to resume it");
        }
    }

    /// What the record depends on of what is stored.
    async fn stored(&self, lane: &Arc<Lane>, work: &Work, report: &Report) -> Result<Stored, String> {
        let may_drop = work.may_drop(report, lane.book.lock().meta.dead_letters_kept) as usize;
        let generation = lane.generation;
        let oldest = match may_drop {
            0 => Vec::new(),
            _ => {
                let oldest = move |shared: &Shared| shared.oldest_dead_letters(generation, may_drop);
                fold::aside(&self.shared, oldest).await?
            }
        };
        Ok(Stored { replaced: self.replaced(lane, report).await?, oldest })
    }

    /// The bytes of keys and values that an invocation's state changes take the place of. What the lane
    /// doesn't know of them the store does: an app writes many a key that it hasn't read.
    async fn replaced(&self, lane: &Arc<Lane>, report: &Report) -> Result<u64, String> {
        let size = |key: &str, value: &bytes::Bytes| (key.len() + value.len()) as u64;
        let mut replaced = 0;
        let mut unknown: Vec<Box<str>> = Vec::new();
        {
            let state = lane.state.read();
            for key in report.effects.state.keys() {
                match state.get(key) {
                    Lookup::Value(value) => replaced += size(key, value),
                    Lookup::Absent => {}
                    Lookup::AskStore(_) => unknown.push(key.clone()),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(replaced);
        }
        let context = self.context(lane, None);
        let found = context.load(&unknown).await.map_err(|error| error.to_string())?;
        let found = unknown.iter().zip(found).filter_map(|(key, value)| Some(size(key, &value?)));
        Ok(replaced + found.sum::<u64>())
    }

    /// Nothing like it is tried again before this has passed: otherwise it would be at once.
    fn hold(&self, lane: &Arc<Lane>, work: &Work, wait: Duration) {
        let until = Instant::now() + wait;
        let mut book = lane.book.lock();
        match work {
            Work::Readings(_) => book.back_off = Some(until),
            Work::Timer { .. } => {
                let attempts = book.timer_back_off.map_or(0, |(_, attempts)| attempts);
                book.timer_back_off = Some((until, attempts));
            }
            // Whoever asked for it may ask again.
            Work::Requeue(letter) => book.requeue.retain(|other| *other != letter.number),
        }
        drop(book);
        self.wake_later(lane, wait);
    }

    /// The record was not taken: nothing of the invocation happened.
    fn refused(&self, lane: &Arc<Lane>, work: &Work, refusal: &Refusal) {
        let mut book = lane.book.lock();
        match refusal {
            Refusal::Gone | Refusal::UnknownOutcome => book.closed = true,
            other => {
                tracing::warn!(installation = %lane.id, refusal = %other, "an invocation can't be committed");
                let ordinal = book.meta.ordinal.next();
                let kind = "refused".to_owned();
                let message = other.to_string();
                book.meta.last_error =
                    Some(crate::records::lane::LastError { at: host_time(), kind, message, ordinal });
                drop(book);
                self.hold(lane, work, policy::back_off(8));
            }
        }
    }
}

/// ± 20 %, the same for the same attempt.
fn spread(wait: Duration, generation: Generation, attempt: u32) -> Duration {
    let mixed = (generation.0 ^ u64::from(attempt).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    wait.mul_f64(0.8 + 0.4 * (mixed as f64 / (1u64 << 24) as f64))
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
