//! One step of a lane: choose what is due, run it, submit what came of it, wait until it is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::batch::{self, Offer};
use super::context::LaneContext;
use super::outcome::{self, Concluded, Work};
use super::policy::{self, Verdict};
use super::queue::RowNote;
use super::{App, Lane};
use crate::clock::{Timestamp, host_time};
use crate::fold::Shared;
use crate::fold::journal::JournalError;
use crate::fold::submission::{CommitSubmission, Refusal, Submission};
use crate::ids::{Generation, Ordinal, Sequence, TenantId};
use crate::limits::MAX_HOPS;
use crate::log::records::commit::{DeadLetter, DeadValue, InvocationKind};
use crate::log::{CommitterHandle, Room};
use crate::readings::ValueRef;
use crate::sandbox::{Batch, Call, Env, Outcome, Report, Sandbox, StateReader};
use crate::store::Lookup;

/// How much one invocation is offered at most.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Readings.
    pub readings: usize,
    /// Bytes of texts and blobs.
    pub bytes: usize,
}

/// How long a lane waits where the log or the store has no room for its commit.
const NO_ROOM: Duration = Duration::from_millis(20);
/// Chunks of the journal that a lane reads in one step: others have a turn after it.
const CHUNKS_AT_ONCE: usize = 1_024;
/// How long a lane waits where the host itself failed.
const HOST_FAULT: Duration = Duration::from_secs(5);

/// Runs the lanes.
pub struct Runner {
    shared: Arc<Shared>,
    sandbox: Arc<Sandbox>,
    committer: CommitterHandle<Submission>,
    limits: BatchLimits,
    places: Arc<Semaphore>,
    stopping: AtomicBool,
}

impl Runner {
    /// A runner with so many invocations side by side.
    pub fn new(
        shared: Arc<Shared>,
        sandbox: Arc<Sandbox>,
        committer: CommitterHandle<Submission>,
        limits: BatchLimits,
        places: usize,
    ) -> Self {
        let places = Arc::new(Semaphore::new(places));
        Self { shared, sandbox, committer, limits, places, stopping: AtomicBool::new(false) }
    }

    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>) {
        while !self.stopping.load(Ordering::Acquire) {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let lane = self.shared.scheduler.next(&self.shared.lanes).await;
            let runner = Arc::clone(&self);
            tokio::spawn(async move {
                let step = tokio::spawn(Arc::clone(&runner).step(Arc::clone(&lane), place));
                if step.await.is_err_and(|error| error.is_panic()) {
                    // A fault of the host's own: the other lanes go on, and this one is tried again.
                    tracing::error!(installation = %lane.id, "the host panicked in an invocation; it runs again");
                    lane.book.lock().back_off = Some(Instant::now() + HOST_FAULT);
                    runner.wake_later(&lane, HOST_FAULT);
                }
            });
        }
    }

    /// Starts no further invocation, and waits for those under way, at most so long.
    pub async fn stop(&self, patience: Duration) {
        self.stopping.store(true, Ordering::Release);
        let all = tokio::time::timeout(patience, async {
            for lane in self.shared.lanes.all() {
                if let Some(turn) = lane.turn().await {
                    turn.forget();
                }
            }
        });
        if all.await.is_err() {
            tracing::warn!("invocations were still running when the server stopped; they will run again");
        }
    }

    async fn step(self: Arc<Self>, lane: Arc<Lane>, place: OwnedSemaphorePermit) {
        // Before the turn is tried: whoever has it sees this when it gives it back, and wakes the lane.
        lane.missed.store(true, Ordering::SeqCst);
        let Some(turn) = lane.try_turn() else { return };
        lane.missed.store(false, Ordering::SeqCst);
        let more = self.run_one(&lane, place).await;
        drop(turn);
        if more || lane.missed.swap(false, Ordering::SeqCst) {
            self.shared.scheduler.wake(&lane);
        }
    }

    /// One invocation, where there is one to run. Says whether there may be more at once.
    async fn run_one(&self, lane: &Arc<Lane>, place: OwnedSemaphorePermit) -> bool {
        if self.stopping.load(Ordering::Acquire) || !lane.is_enabled() {
            return false;
        }
        let share = lane.revision.limits.share;
        let overdrawn = lane.bucket.lock().wait(share, Instant::now());
        let no_room = self.committer.room() == Room::None || !self.shared.has_room();
        if let Some(wait) = overdrawn.or(no_room.then_some(NO_ROOM)) {
            self.hold_back(lane, wait);
            return false;
        }
        if let Err(problem) = self.catch_up(lane).await {
            tracing::error!(installation = %lane.id, %problem, "the journal can't be read");
            self.wake_later(lane, HOST_FAULT);
            return false;
        }
        let work = match self.choose(lane).await {
            Ok(Some(work)) => work,
            Ok(None) => return lane.queue.lock().wants().is_some(),
            Err(problem) => {
                tracing::error!(installation = %lane.id, %problem, "a dead letter can't be read");
                self.wake_later(lane, HOST_FAULT);
                return false;
            }
        };
        let Some(app) = lane.app() else { return false };
        let report = self.invoke(lane, &app, &work).await;
        self.shared.scheduler.charge(lane, report.cpu);
        lane.bucket.lock().spend(report.cpu, share, Instant::now());
        // What follows waits for the disk, not for a processor.
        drop(place);
        self.conclude(lane, work, report).await;
        true
    }

    /// Has a lane wait that is woken with everything that comes for it: one waits, however often it is asked.
    fn hold_back(&self, lane: &Arc<Lane>, wait: Duration) {
        if lane.held_back.swap(true, Ordering::SeqCst) {
            return;
        }
        let (shared, lane) = (Arc::clone(&self.shared), Arc::clone(lane));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            lane.held_back.store(false, Ordering::SeqCst);
            shared.scheduler.wake(&lane);
        });
    }

    fn wake_later(&self, lane: &Arc<Lane>, after: Duration) {
        let (shared, lane) = (Arc::clone(&self.shared), Arc::clone(lane));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            shared.scheduler.wake(&lane);
        });
    }

    /// Notes chunks of the journal, where the lane is behind its notes, until a whole batch is noted: a
    /// chunk of the log's tail is one record, and may be a single reading.
    async fn catch_up(&self, lane: &Arc<Lane>) -> Result<(), String> {
        if lane.queue.lock().wants().is_none() {
            return Ok(());
        }
        let (shared, lane, most) = (Arc::clone(&self.shared), Arc::clone(lane), self.limits.readings);
        let read = tokio::task::spawn_blocking(move || {
            for _ in 0..CHUNKS_AT_ONCE {
                let from = {
                    let queue = lane.queue.lock();
                    queue.wants().filter(|_| queue.noted() < most)
                };
                let Some(from) = from else { break };
                note_from_journal(&shared, &lane, from)?;
            }
            Ok::<(), JournalError>(())
        });
        read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// What the lane does next: a dead letter to run again, a timer that is due, or readings.
    async fn choose(&self, lane: &Arc<Lane>) -> Result<Option<Work>, String> {
        loop {
            let requeue = lane.book.lock().requeue.front().copied();
            let Some(number) = requeue else { break };
            if let Some(letter) = self.shared.dead_letter(lane.generation, number).await? {
                return Ok(Some(Work::Requeue(Box::new(letter))));
            }
            // Deleted meanwhile, or dropped.
            lane.book.lock().requeue.retain(|other| *other != number);
        }
        let now = Instant::now();
        let horizon = self.shared.horizon();
        let mut book = lane.book.lock();
        if book.closed {
            // Its number may be another lane's by now, and what it read from the journal that one's.
            return Ok(None);
        }
        let queue = lane.queue.lock();
        let readings_wait_out = book.back_off.is_some_and(|until| until > now);
        if !readings_wait_out {
            book.back_off = None;
        }
        let timers_wait_out = book.timer_back_off.is_some_and(|(until, _)| until > now);
        let timer = if timers_wait_out { None } else { self.due_timer(lane, &book, horizon) };
        if let Some((name, due, repeating)) = timer {
            // Readings of before its time come first, unless they wait in back-off.
            let earlier = queue.head_time().map_or(queue.is_behind(), |head| head < due);
            if !earlier || readings_wait_out {
                return Ok(Some(Work::Timer { name, due, repeating }));
            }
            if queue.noted() == 0 {
                return Ok(None);
            }
            let rows = book.effort.rows(&lane.revision.limits, self.limits.readings);
            let slices = queue.first(rows, self.limits.bytes, Some(due));
            drop((book, queue));
            return Ok(self.offer(lane, slices));
        }
        if readings_wait_out || queue.noted() == 0 {
            return Ok(None);
        }
        let rows = book.effort.rows(&lane.revision.limits, self.limits.readings);
        let slices = queue.first(rows, self.limits.bytes, None);
        drop((book, queue));
        Ok(self.offer(lane, slices))
    }

    fn offer(&self, lane: &Lane, slices: Vec<super::queue::Slice>) -> Option<Work> {
        if slices.is_empty() {
            return None;
        }
        let mut numbers = lane.entity_numbers.lock();
        let offer: Offer = batch::build(slices, &lane.revision.bindings.inputs, &lane.entities, &mut numbers);
        Some(Work::Readings(Box::new(offer)))
    }

    /// The earliest timer that is due by now. All overdue times of a repeating one collapse into the last.
    fn due_timer(
        &self,
        lane: &Lane,
        book: &super::Book,
        horizon: Timestamp,
    ) -> Option<(Box<str>, Timestamp, Option<Timestamp>)> {
        let one_shot = book.timers.iter().min_by_key(|(_, due)| **due).filter(|(_, due)| **due <= horizon);
        let repeating =
            book.meta.cron_due.iter().min_by_key(|(_, due)| *due).filter(|(_, due)| *due <= horizon);
        match (one_shot, repeating) {
            (Some((name, due)), other) if other.is_none_or(|(_, other)| due <= other) => {
                Some((name.clone(), *due, None))
            }
            (_, Some((name, due))) => {
                let timer = lane.manifest.timer(name.as_str())?;
                let zone = lane.revision.zone();
                let before = Timestamp(due.0.saturating_sub(1));
                let due = timer.cron.last_due(before, horizon, &zone).unwrap_or(*due);
                let next = timer.cron.next_after(due, &zone).unwrap_or(Timestamp(i64::MAX as u64));
                Some((name.as_str().into(), due, Some(next)))
            }
            _ => None,
        }
    }

    fn context(&self, lane: &Arc<Lane>, firing: Option<Box<str>>) -> LaneContext {
        LaneContext {
            lane: Arc::clone(lane),
            storage: Arc::clone(&self.shared.storage),
            points: Arc::clone(&self.shared.points),
            firing,
        }
    }

    async fn invoke(&self, lane: &Arc<Lane>, app: &App, work: &Work) -> Report {
        let (ordinal, before, state_bytes) = {
            let book = lane.book.lock();
            (book.meta.ordinal.next(), book.meta.time, book.meta.state_bytes)
        };
        let firing = match work {
            Work::Timer { name, repeating: None, .. } => Some(name.clone()),
            _ => None,
        };
        let context = Arc::new(self.context(lane, firing));
        let env = Env {
            id: format!("{}-{}", lane.generation, ordinal),
            now: work.time(before),
            seed: seed(lane.generation, ordinal),
            gaps: Vec::new(),
            context: Arc::clone(&app.context),
            state: context.clone(),
            state_bytes,
            outputs: context.clone(),
            standing: context,
        };
        match work {
            Work::Readings(offer) if offer.batch.frames.is_empty() => without_call(Outcome::Ok),
            Work::Readings(offer) => self.sandbox.invoke(&app.code, Call::Readings(&offer.batch), env).await,
            Work::Requeue(letter) => match batch_of(lane, letter) {
                Ok(batch) => self.sandbox.invoke(&app.code, Call::Readings(&batch), env).await,
                Err(problem) => without_call(Outcome::Reject(problem)),
            },
            Work::Timer { name, due, .. } => {
                self.sandbox.invoke(&app.code, Call::Timer { name, due: *due }, env).await
            }
        }
    }

    async fn conclude(&self, lane: &Arc<Lane>, work: Work, mut report: Report) {
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
        let replaced = match self.replaced(lane, &report).await {
            Ok(replaced) => replaced,
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
            let concluded = outcome::conclude(lane, &mut book, &work, report, replaced, &names, now);
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
                    Some(super::meta::LastError { at: host_time(), kind, message, ordinal });
                drop(book);
                self.hold(lane, work, policy::back_off(8));
            }
        }
    }
}

/// Reads the journal's next chunk for a lane that is behind its notes, and notes which rows are its own.
pub(crate) fn note_from_journal(shared: &Shared, lane: &Lane, from: Sequence) -> Result<(), JournalError> {
    let chunk = shared.journal.chunk_from(from)?;
    let mut rows = Vec::new();
    if let Some(chunk) = &chunk {
        let routing = shared.routing.read();
        for row in chunk.row_after(Sequence(from.0 - 1))..chunk.len() {
            for found in routing.matches(chunk.columns.points[row]) {
                if found.lane() == lane.number && chunk.run(row).hops <= MAX_HOPS {
                    rows.push(RowNote { row: row as u32, entity: found.entity(), input: found.input() });
                }
            }
        }
    }
    let mut queue = lane.queue.lock();
    // Asked with the queue locked: what is routed from here on is noted behind this.
    queue.caught_up(chunk.as_ref(), &rows, shared.journal.last());
    Ok(())
}

/// ± 20 %, the same for the same attempt.
fn spread(wait: Duration, generation: Generation, attempt: u32) -> Duration {
    let mixed = (generation.0 ^ u64::from(attempt).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    wait.mul_f64(0.8 + 0.4 * (mixed as f64 / (1u64 << 24) as f64))
}

/// The key of an invocation's random numbers.
fn seed(generation: Generation, ordinal: Ordinal) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"ironloom/random/1");
    hash.update(TenantId::MAIN.0.to_le_bytes());
    hash.update(generation.0.to_le_bytes());
    hash.update(ordinal.0.to_le_bytes());
    hash.finalize().into()
}

/// The report of an invocation that need not reach the app.
fn without_call(outcome: Outcome) -> Report {
    Report {
        outcome,
        effects: crate::effects::Effects::default(),
        cpu: Duration::ZERO,
        wall: Duration::ZERO,
        peak_memory: 0,
        log: Vec::new(),
        log_dropped: 0,
    }
}

/// A dead letter as a batch, converted as it would be now.
fn batch_of(lane: &Lane, letter: &DeadLetter) -> Result<Batch, String> {
    let Some((_, input)) = lane.revision.bindings.input(letter.input.as_str()) else {
        return Err(format!("there is no input {} any more", letter.input));
    };
    let value = match &letter.value {
        DeadValue::Missing => ValueRef::Missing,
        DeadValue::Boolean(value) => ValueRef::Boolean(*value),
        DeadValue::Integer(value) => ValueRef::Integer(*value),
        DeadValue::Real(bits) => ValueRef::Real(f64::from_bits(*bits)),
        DeadValue::Text(text) => ValueRef::Text(text),
        DeadValue::Blob(bytes) => ValueRef::Blob(bytes),
    };
    batch::single(input, &letter.entity, letter.at, letter.quality, value)
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

    #[test]
    fn every_invocation_has_random_numbers_of_its_own() {
        assert_ne!(seed(Generation(1), Ordinal(2)), seed(Generation(2), Ordinal(1)));
        assert_eq!(seed(Generation(1), Ordinal(2)), seed(Generation(1), Ordinal(2)));
    }
}
