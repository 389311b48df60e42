//! From what an invocation did to the record that it leaves: a pure function of lane and report.

use bytes::Bytes;

use super::batch::Offer;
use super::digest;
use super::policy::{self, Verdict};
use super::{Book, Lane};
use crate::fold::points::Names;
use crate::records::commit::{
    self, AlarmRecord, AlarmState, CommitHead, DeadLetter, DeadValue, Invocation, InvocationKind,
    OutcomeKind, StateChange,
};
use crate::records::lane::{LastError, Quarantine};
use ironloom_sandbox::{Outcome, Report};
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::Effects;
use ironloom_types::ids::{Digest, Ordinal, Sequence, SlotName};
use ironloom_types::limits::MAX_DEAD_LETTERS;
use ironloom_types::readings::{Columns, NewPoint, ValueRef};

/// What was asked of the app.
#[derive(Debug)]
pub enum Work {
    /// Readings.
    Readings(Box<Offer>),
    /// A dead letter, once more.
    Requeue(Box<DeadLetter>),
    /// A timer; `repeating` has its next time.
    Timer {
        /// Its name.
        name: Box<str>,
        /// When it was due.
        due: Timestamp,
        /// For one of the manifest's: when it is due next.
        repeating: Option<Timestamp>,
    },
}

impl Work {
    fn kind(&self) -> InvocationKind {
        match self {
            Self::Readings(offer) if offer.batch.frames.is_empty() => InvocationKind::Skip,
            Self::Readings(_) => InvocationKind::Readings,
            Self::Requeue(letter) => InvocationKind::Requeue(letter.number),
            Self::Timer { name, .. } => InvocationKind::Timer(name.clone()),
        }
    }

    fn range(&self) -> (Sequence, Sequence, u32) {
        match self {
            Self::Readings(offer) => (offer.first, offer.last, offer.rows as u32),
            Self::Requeue(letter) => (letter.sequence, letter.sequence, 1),
            Self::Timer { .. } => (Sequence(0), Sequence(0), 0),
        }
    }

    /// How many dead letters may have to go for those that come of this report, where so many are kept.
    pub fn may_drop(&self, report: &Report, kept: u64) -> u64 {
        let makes = match self {
            // A failure makes one of the last reading that is left.
            Self::Readings(offer) => {
                let failed = usize::from(report.outcome != Outcome::Ok);
                offer.unfit.len() + report.effects.refused.len() + failed
            }
            // One that fails again takes its own place.
            Self::Requeue(_) | Self::Timer { .. } => 0,
        };
        (kept + makes as u64).saturating_sub(MAX_DEAD_LETTERS).min(kept)
    }

    /// The invocation's time, never less than that of the one before.
    pub fn time(&self, before: Timestamp) -> Timestamp {
        let own = match self {
            Self::Readings(offer) => offer.time,
            Self::Requeue(letter) => letter.time,
            Self::Timer { due, .. } => *due,
        };
        own.max(before)
    }
}

/// What is stored, as far as a record depends on it.
#[derive(Debug, Default)]
pub struct Stored {
    /// How many bytes of keys and values the state changes take the place of.
    pub replaced: u64,
    /// The numbers of the oldest dead letters, as many as [`Work::may_drop`] says.
    pub oldest: Vec<u64>,
}

/// What becomes of the lane, besides the record.
#[derive(Debug)]
pub struct Concluded {
    /// What the record says.
    pub head: CommitHead,
    /// State changes.
    pub state: Vec<StateChange>,
    /// Head and state changes, encoded.
    pub encoded: Vec<u8>,
    /// Points that are new.
    pub new_points: Vec<NewPoint>,
    /// Derived readings.
    pub derived: Columns,
    /// Rows of the queue that are dealt with once the record is durable.
    pub rows: usize,
    /// What follows.
    pub verdict: Verdict,
}

/// The kind of an outcome, with the app's or the runtime's words.
pub fn kind_of(outcome: &Outcome) -> Option<(OutcomeKind, Option<String>)> {
    let said = |kind, text: &str| Some((kind, Some(text.to_owned())));
    match outcome {
        Outcome::Ok => Some((OutcomeKind::Ok, None)),
        Outcome::Reject(text) => said(OutcomeKind::Reject, text),
        Outcome::Retry(text) => said(OutcomeKind::Retry, text),
        Outcome::Trap(text) => said(OutcomeKind::Trap, text),
        Outcome::CpuLimit => said(OutcomeKind::CpuLimit, &outcome.to_string()),
        Outcome::WallLimit => said(OutcomeKind::WallLimit, &outcome.to_string()),
        Outcome::MemoryLimit => said(OutcomeKind::MemoryLimit, &outcome.to_string()),
        Outcome::HostCallLimit => said(OutcomeKind::HostCallLimit, &outcome.to_string()),
        Outcome::HostFault(_) => None,
    }
}

/// Judges a report and makes the record of it. `None` where the host itself failed: that is no
/// business of the app's, and leaves no record. `now` is the machine's time.
pub fn conclude(
    lane: &Lane,
    book: &mut Book,
    work: &Work,
    report: Report,
    stored: &Stored,
    names: &Names,
    now: Timestamp,
) -> Option<Concluded> {
    let (outcome, message) = kind_of(&report.outcome)?;
    let mut meta = book.meta.clone();
    let (first, last, readings) = work.range();
    let time = work.time(meta.time);
    let ordinal = meta.ordinal.next();
    let verdict = match work {
        Work::Readings(offer) => book.effort.judge(&mut meta.trouble, outcome, offer.rows, report.cpu, now),
        Work::Requeue(_) if outcome == OutcomeKind::Ok => Verdict::Done,
        Work::Requeue(_) => Verdict::DeadLetter,
        Work::Timer { .. } => {
            let mut attempts = book.timer_back_off.map_or(0, |(_, attempts)| attempts);
            policy::judge_timer(&mut meta.trouble, &mut attempts, outcome, now)
        }
    };
    let done = matches!(verdict, Verdict::Done | Verdict::DeadLetter);
    let effects = if outcome == OutcomeKind::Ok { report.effects } else { Effects::default() };
    let digest = if outcome == OutcomeKind::Ok { digest::of(&effects, names) } else { Digest([0; 32]) };

    meta.counters.invocations += 1;
    if !matches!(outcome, OutcomeKind::Ok | OutcomeKind::Retry) {
        let failures_before = book.meta.trouble.failures.len();
        let counted = meta.trouble.failures.len() > failures_before
            || meta.trouble.failures.last() != book.meta.trouble.failures.last();
        meta.counters.failures += u64::from(counted || matches!(work, Work::Timer { .. } | Work::Requeue(_)));
    }
    match &message {
        None => meta.last_error = None,
        Some(message) => {
            let stuck = policy::is_stuck(&meta.trouble, now);
            let kind = if stuck { "stuck" } else { outcome.name() }.to_owned();
            if stuck {
                tracing::warn!(installation = %lane.id, message, "an app has asked for retries for more than an hour");
            }
            meta.last_error = Some(LastError { at: now, kind, message: message.clone(), ordinal });
        }
    }

    let mut letters = Letters::new(lane, ordinal, &mut meta);
    let mut gone = Vec::new();
    let mut rows = 0;
    if done {
        match work {
            Work::Readings(offer) => {
                rows = offer.rows;
                letters.of_offer(offer, &effects, outcome, message.as_deref());
                meta.cursor = offer.last;
                meta.counters.readings += offer.rows as u64;
            }
            Work::Requeue(letter) => {
                gone.push(letter.number);
                letters.again(letter, &effects, outcome, message.as_deref());
            }
            Work::Timer { .. } => {}
        }
    }
    let mut dead_letters = std::mem::take(&mut letters.made);
    meta.counters.dead_letters += dead_letters.len() as u64;
    letters.drop_oldest(&mut meta, &stored.oldest, &mut gone, &mut dead_letters);

    let mut timers = Vec::new();
    if let (true, Work::Timer { name, due, repeating }) = (done, work) {
        match repeating {
            Some(next) => set_repeating(&mut meta.cron_due, name, *next),
            // Set anew within its own run, it stays.
            None if book.timers.get(name) == Some(due) => timers.push((name.clone(), None)),
            None => {}
        }
    }
    for (name, due) in &effects.timers {
        timers.retain(|(other, _)| other != name);
        timers.push((name.clone(), *due));
    }
    let gone_timers =
        timers.iter().filter(|(name, due)| due.is_none() && book.timers.contains_key(name)).count();
    let new_timers =
        timers.iter().filter(|(name, due)| due.is_some() && !book.timers.contains_key(name)).count();
    meta.timers_set = (book.timers.len() + new_timers - gone_timers) as u32;

    let alarms = change_alarms(book, &mut meta, &effects, time);
    let state: Vec<StateChange> = effects.state.into_iter().collect();
    let written =
        state.iter().filter_map(|(key, value)| Some(key.len() + value.as_ref()?.len())).sum::<usize>();
    meta.state_bytes = (meta.state_bytes + written as u64).saturating_sub(stored.replaced);
    meta.counters.derived += effects.derived.len() as u64;
    meta.time = time;
    if done {
        meta.ordinal = ordinal;
    }
    if meta.quarantine.is_none()
        && let Some(reason) = policy::quarantine(&meta.trouble)
    {
        meta.quarantine = Some(Quarantine { at: now, reason });
    }

    let hops = match work {
        Work::Readings(offer) => offer.hops + 1,
        Work::Requeue(_) | Work::Timer { .. } => 1,
    };
    let attempt = meta.attempts + 1;
    meta.attempts = if done { 0 } else { attempt };
    let invocation = Invocation {
        ordinal,
        attempt,
        kind: work.kind(),
        first,
        last,
        readings,
        time,
        revision: lane.revision.number,
        outcome,
        message: message.map(Into::into),
        digest,
    };
    let head = CommitHead {
        installation: lane.id.clone(),
        generation: lane.generation,
        invocation,
        meta,
        timers,
        alarms,
        dead_letters,
        dead_letters_gone: gone,
        hops,
    };
    let mut encoded = Vec::with_capacity(
        512 + state
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len) + 8)
            .sum::<usize>(),
    );
    commit::encode_effects(&head, state.iter().map(|(key, value)| (&**key, value.as_deref())), &mut encoded);
    let (new_points, derived) = (effects.new_points, effects.derived);
    Some(Concluded { head, state, encoded, new_points, derived, rows, verdict })
}

fn set_repeating(cron_due: &mut [(SlotName, Timestamp)], name: &str, next: Timestamp) {
    if let Some(timer) = cron_due.iter_mut().find(|(timer, _)| timer.as_str() == name) {
        timer.1 = next;
    }
}

fn change_alarms(
    book: &Book,
    meta: &mut crate::records::lane::LaneMeta,
    effects: &Effects,
    time: Timestamp,
) -> Vec<AlarmRecord> {
    let mut changed = Vec::new();
    for ((code, entity), message) in &effects.alarms {
        let standing = book.alarms.get(&(code.clone(), entity.clone()));
        match (standing, message) {
            (Some(alarm), Some(message)) if alarm.state.stands() => {
                changed.push(AlarmRecord { message: message.clone(), ..alarm.clone() });
            }
            (_, Some(message)) => {
                let number = meta.next_alarm;
                meta.next_alarm += 1;
                meta.alarms_standing += 1;
                changed.push(AlarmRecord {
                    code: code.clone(),
                    entity: entity.clone(),
                    number,
                    state: AlarmState::Unacknowledged,
                    message: message.clone(),
                    raised: time,
                    acknowledged: None,
                    cleared: None,
                });
            }
            (Some(alarm), None) if alarm.state.stands() => {
                meta.alarms_standing -= 1;
                let state = match alarm.state {
                    AlarmState::Acknowledged => AlarmState::Normal,
                    _ => AlarmState::ReturnedToNormal,
                };
                changed.push(AlarmRecord { state, cleared: Some(time), ..alarm.clone() });
            }
            (_, None) => {}
        }
    }
    changed
}

/// Makes dead letters, with their numbers.
struct Letters<'a> {
    lane: &'a Lane,
    ordinal: Ordinal,
    next: u64,
    made: Vec<DeadLetter>,
}

impl<'a> Letters<'a> {
    fn new(lane: &'a Lane, ordinal: Ordinal, meta: &mut crate::records::lane::LaneMeta) -> Self {
        Self { lane, ordinal, next: meta.next_dead_letter.max(1), made: Vec::new() }
    }

    fn of_offer(&mut self, offer: &Offer, effects: &Effects, outcome: OutcomeKind, message: Option<&str>) {
        let mut bad: Vec<(u32, String)> = offer.unfit.clone();
        if outcome == OutcomeKind::Ok {
            for refused in &effects.refused {
                if let Some(row) = offer.row(refused.frame, refused.reading) {
                    bad.push((row, format!("refused: {}", refused.reason)));
                }
            }
        } else {
            // The only reading that was left of the offer.
            let known = bad.len();
            bad.extend(
                (0..offer.rows as u32).filter(|row| !offer.unfit.iter().any(|(unfit, _)| unfit == row)).map(
                    |row| (row, format!("{}: {}", outcome.name(), message.unwrap_or("no reason given"))),
                ),
            );
            assert!(bad.len() <= known + 1, "only a single reading becomes a dead letter for a failure");
        }
        bad.sort_by_key(|(row, _)| *row);
        bad.dedup_by_key(|(row, _)| *row);
        for (row, reason) in bad {
            self.add(offer, row, reason, !matches!(outcome, OutcomeKind::Ok | OutcomeKind::Reject));
        }
    }

    /// A dead letter that failed again: a new one takes its place, with the new reason.
    fn again(&mut self, letter: &DeadLetter, effects: &Effects, outcome: OutcomeKind, message: Option<&str>) {
        let reason = match (outcome, effects.refused.first()) {
            (OutcomeKind::Ok, None) => return,
            (OutcomeKind::Ok, Some(refused)) => format!("refused: {}", refused.reason),
            (outcome, _) => format!("{}: {}", outcome.name(), message.unwrap_or("no reason given")),
        };
        self.made.push(DeadLetter {
            number: self.next,
            reason: reason.into(),
            by_trap: !matches!(outcome, OutcomeKind::Ok | OutcomeKind::Reject | OutcomeKind::Retry),
            ordinal: self.ordinal,
            revision: self.lane.revision.number,
            ..letter.clone()
        });
        self.next += 1;
    }

    fn add(&mut self, offer: &Offer, row: u32, reason: String, by_trap: bool) {
        let Some((slice, note)) = offer.at(row) else { return };
        let (chunk, row) = (&slice.note.chunk, note.row as usize);
        let reading = chunk.row(row);
        let input = &self.lane.revision.bindings.inputs[note.input as usize];
        let value = match reading.value {
            ValueRef::Missing => DeadValue::Missing,
            ValueRef::Boolean(value) => DeadValue::Boolean(value),
            ValueRef::Integer(value) => DeadValue::Integer(value),
            ValueRef::Real(value) => DeadValue::Real(value.to_bits()),
            ValueRef::Text(text) => DeadValue::Text(text.into()),
            ValueRef::Blob(bytes) => DeadValue::Blob(bytes.to_vec()),
        };
        self.made.push(DeadLetter {
            number: self.next,
            input: input.name.clone(),
            entity: self.lane.entities.read().text(note.entity).into(),
            point: reading.point,
            sequence: reading.sequence,
            time: reading.time,
            at: reading.at,
            quality: reading.quality,
            value,
            reason: reason.into(),
            by_trap,
            ordinal: self.ordinal,
            revision: self.lane.revision.number,
        });
        self.next += 1;
    }

    /// Keeps the newest 10,000. `gone` are those that are gone already.
    fn drop_oldest(
        &self,
        meta: &mut crate::records::lane::LaneMeta,
        oldest: &[u64],
        gone: &mut Vec<u64>,
        made: &mut Vec<DeadLetter>,
    ) {
        meta.next_dead_letter = self.next;
        let kept = (meta.dead_letters_kept + made.len() as u64).saturating_sub(gone.len() as u64);
        let too_many = kept.saturating_sub(MAX_DEAD_LETTERS);
        meta.dead_letters_kept = kept - too_many;
        meta.counters.dead_letters_dropped += too_many;
        let before = (too_many as usize).min(oldest.len());
        gone.extend_from_slice(&oldest[..before]);
        // Of more than are kept at once the first are never written.
        made.drain(..(too_many as usize - before).min(made.len()));
    }
}
