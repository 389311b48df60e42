//! From what an invocation did to the record that it leaves: pure functions of what was before and of the
//! report. No lock is held while they run, and nothing is changed by them: the record is what changes things.

mod alarms;
mod letters;

use std::collections::BTreeMap;
use std::time::Duration;

use self::letters::Letters;
use super::pace::Pace;
use super::policy::{self, Effort, Judged, Run, TimerEffort, Verdict};
use super::price::{Bill, KEY_BYTES};
use super::work::{Next, Work};
use crate::fold::durable::{Book, Durable, Term};
use crate::fold::episodes::OldEpisode;
use crate::fold::letters::{Excess, Oldest};
use crate::records::alarm::AlarmRecord;
use crate::records::columns;
use crate::records::commit::{
    self, CommitHead, DeadLetter, Invocation, InvocationKind, OutcomeKind, StateChanges,
};
use crate::records::lane::{Episodes, LaneMeta, Published, Quarantine};
use ironloom_sandbox::{Outcome, Report};
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmAct, AlarmKey, Effects, OneShot, state_cost};
use ironloom_types::ids::{Digest, Ordinal, Revision, SlotName};
use ironloom_types::readings::{Columns, NewPoint};
use ironloom_types::work::{Counters, LastError, TimerError};

/// The kind of a failure where the app has asked for retries for too long.
const STUCK: &str = "stuck";

/// The end of an invocation, as far as it concerns the app.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The kind of its outcome.
    pub outcome: OutcomeKind,
    /// The app's or the runtime's words, where it isn't ok.
    pub message: Option<String>,
    /// Its effects; none unless it is ok.
    pub effects: Effects,
    /// The part of the machine that it took.
    pub used: Used,
}

/// The use that an invocation made of the machine, whatever came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// The thread's CPU time, of guest and host calls.
    pub cpu: Duration,
    /// The most bytes of its memories and tables.
    pub memory: u64,
    /// Lines of its log, those that were dropped included.
    pub log_lines: u64,
}

impl Ended {
    /// Splits a report into the app's outcome and a fault of the host, which isn't the app's fault.
    pub(crate) fn of(report: Report, used: Used) -> Result<Self, String> {
        let said = |kind, text: &str| Ok((kind, Some(text.to_owned())));
        let words = report.outcome.to_string();
        let kind = match report.outcome {
            Outcome::Ok => Ok((OutcomeKind::Ok, None)),
            Outcome::Reject(text) => said(OutcomeKind::Reject, &text),
            Outcome::Retry(text) => said(OutcomeKind::Retry, &text),
            Outcome::Trap(text) => said(OutcomeKind::Trap, &text),
            Outcome::CpuLimit => said(OutcomeKind::CpuLimit, &words),
            Outcome::WallLimit => said(OutcomeKind::WallLimit, &words),
            Outcome::MemoryLimit => said(OutcomeKind::MemoryLimit, &words),
            Outcome::HostCallLimit => said(OutcomeKind::HostCallLimit, &words),
            Outcome::Interrupted => Err("an admin interrupted it".to_owned()),
            Outcome::HostFault(problem) => Err(problem),
        };
        let (outcome, message) = kind?;
        let effects = if outcome == OutcomeKind::Ok { report.effects } else { Effects::default() };
        Ok(Self { outcome, message, effects, used })
    }

    /// The same invocation without effects, since the log can't take them.
    pub(crate) fn not_committed(refusal: &dyn std::fmt::Display, used: Used) -> Self {
        let (outcome, message) = (OutcomeKind::CommitLimit, Some(refusal.to_string()));
        Self { outcome, message, effects: Effects::default(), used }
    }
}

impl Used {
    /// The use that a call has made; its lines are counted before they are taken away.
    pub(crate) fn of(report: &Report) -> Self {
        let log_lines = report.log.len() as u64 + report.log_dropped;
        Self { cpu: report.cpu, memory: report.peak_memory, log_lines }
    }

    fn count(self, counters: &mut Counters) {
        counters.cpu_nanos = counters.cpu_nanos.saturating_add(self.cpu.as_nanos() as u64);
        counters.peak_memory = counters.peak_memory.max(self.memory);
        counters.log_lines += self.log_lines;
    }
}

/// The state of a lane before an invocation, as far as its record depends on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    /// Cursor, counters and more.
    pub meta: LaneMeta,
    /// Its one-shot timers that the invocation may change.
    pub timers: BTreeMap<Box<str>, OneShot>,
    /// Its alarms that the invocation may change.
    pub alarms: BTreeMap<AlarmKey, AlarmRecord>,
    /// The room of its alarms, taken and in all, and the oldest ones that aren't active, as many as may have to go.
    pub alarms_kept: alarms::Kept,
    pub waiting_alarms: Vec<AlarmRecord>,
    /// The size of the next offer.
    pub effort: Effort,
    /// The attempts at the timer that ran.
    pub timer: TimerEffort,
    /// Bytes of keys and values that the state changes replace.
    pub replaced: u64,
}

impl Before {
    /// Looks at a lane's book and pace; `effects` are what the invocation did.
    pub(crate) fn look(book: &Book, pace: &Pace, work: &Work, effects: &Effects) -> Self {
        let firing = match work {
            Work::Timer { name, .. } => Some(name),
            _ => None,
        };
        let timers = effects.timers.keys().chain(firing);
        let timers = timers.filter_map(|name| Some((name.clone(), *book.timers().get(name)?)));
        Self {
            meta: book.meta().clone(),
            timers: timers.collect(),
            alarms: alarms::touched(book, effects),
            alarms_kept: alarms::Kept::of(book),
            waiting_alarms: alarms::oldest_waiting(book, effects),
            effort: pace.effort.clone(),
            timer: firing.map(|name| pace.timer(name)).unwrap_or_default(),
            replaced: 0,
        }
    }
}

/// The result of an invocation.
#[derive(Debug)]
pub(crate) struct Concluded {
    /// The head of the record.
    pub head: CommitHead,
    pub state: StateChanges,
    /// Points that are new.
    pub new_points: Vec<NewPoint>,
    pub derived: Columns,
    /// The consequences for the lane, once the record is durable.
    pub next: Next,
    /// The app has just been asking for retries for so long that people have to hear of it.
    pub became_stuck: bool,
}

/// About how many bytes the digest and the record of effects are made of.
pub(crate) fn size(effects: &Effects) -> usize {
    let state = effects.state.iter().map(|(key, value)| state_cost(key, value.unwrap_or_default()));
    state.sum::<usize>() + effects.derived.bytes()
}

impl Concluded {
    /// About how many bytes are encoded.
    pub(crate) fn size(&self) -> usize {
        let state = self.state.iter();
        let state = state.map(|(key, value)| state_cost(key, value.unwrap_or_default())).sum::<usize>();
        state + self.head.dead_letters.iter().map(DeadLetter::cost).sum::<u64>() as usize
    }

    /// By how much the dead letters would be more than are kept: older ones have to go before it is encoded.
    pub(crate) fn letters_in_excess(&self) -> Option<Excess> {
        letters::excess(&self.head.meta)
    }

    /// Drops dead letters until what is left may be kept, first of all the oldest of those that were kept so far.
    pub(crate) fn drop_letters(&mut self, oldest: &[Oldest]) {
        letters::drop_oldest(&mut self.head, oldest);
    }

    /// The history of alarms, if it is longer than is kept: older episodes have to go before it is encoded.
    pub(crate) fn episodes_in_excess(&self) -> Option<Episodes> {
        let episodes = self.head.meta.episodes;
        episodes.are_too_many().then_some(episodes)
    }

    /// Drops episodes until what is left may be kept, first of all the oldest of those that were kept so far.
    pub(crate) fn drop_episodes(&mut self, oldest: &[OldEpisode]) {
        alarms::drop_episodes(&mut self.head, oldest);
    }

    /// Head and state changes, as the record has them, and the length of the head.
    pub(crate) fn encode(&self) -> (Vec<u8>, usize) {
        let values = self.state.iter().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len) + 8);
        let mut encoded = Vec::with_capacity(512 + values.sum::<usize>());
        let of_head = commit::encode_effects(&self.head, &self.state, &mut encoded);
        (encoded, of_head)
    }

    /// Returns its price; `of_head` is the length of the encoded head.
    pub(crate) fn bill(&self, of_head: usize) -> Bill {
        let beyond = |(key, value): (&str, Option<&[u8]>)| {
            (key.len() + value.map_or(0, <[u8]>::len)).saturating_sub(KEY_BYTES)
        };
        Bill {
            keys: self.state.len(),
            state_bytes: self.state.iter().map(beyond).sum(),
            derived: self.derived.len(),
            new_points: self.new_points.len(),
            // Where they are looked up.
            matches: 0,
            dead_letters: self.head.dead_letters.len() + self.head.dead_letters_gone.len(),
            timers: self.head.timers.len(),
            alarms: self.head.alarms.len() + self.head.episodes_gone.len(),
            intents: self.head.intents.len(),
            bytes: of_head + self.derived.heap.len(),
        }
    }
}

/// Counts what is published. What was before is held back.
fn publish(meta: &mut LaneMeta, effects: &mut Effects, is_held: bool) {
    if is_held {
        meta.counters.held_back += (effects.derived.len() + effects.intents.len()) as u64;
        (effects.derived, effects.new_points, effects.intents) = Default::default();
    }
    if !effects.derived.is_empty() {
        meta.counters.derived += effects.derived.len() as u64;
        meta.counters.derived_bytes += columns::encoded_len(&effects.derived) as u64;
    }
    meta.counters.intents += effects.intents.len() as u64;
    meta.points += effects.new_points.len() as u64;
}

/// Judges how an invocation under a revision ended and says what its record is. `digest` is that of the effects, `now` the
/// machine's time.
pub(crate) fn conclude(
    lane: &Durable,
    term: &Term,
    before: &Before,
    work: &Work,
    ended: Ended,
    digest: Digest,
    now: Timestamp,
) -> Concluded {
    let Ended { outcome, message, mut effects, used } = ended;
    let mut meta = before.meta.clone();
    let (next, counted) = judge(before, &mut meta, work, outcome, used.cpu, now);
    let done = matches!(next.verdict, Verdict::Done | Verdict::DeadLetter);
    let (time, ordinal) = (work.time(meta.time), meta.ordinal.next());
    meta.counters.invocations += 1;
    meta.counters.failures += u64::from(counted);
    keep_known(&mut effects, term, &lane.newest());
    let is_held = before.meta.published.is_some_and(|span| was_published(&span, work));
    publish(&mut meta, &mut effects, is_held);
    used.count(&mut meta.counters);
    let failed = failure(&meta, &next, work, outcome, message.as_deref(), now);
    let became_stuck = note_error(&mut meta, before, &next, work, failed);
    let mut letters = Letters::new(term, ordinal, meta.next_dead_letter);
    if done {
        letters.of(work, &effects, outcome, message.as_deref());
    }
    if let (true, Work::Readings(offer)) = (done, work) {
        assert!(offer.first > meta.cursor, "no reading is dealt with twice");
        meta.cursor = offer.last;
        meta.counters.readings += offer.rows as u64;
    }
    let (dead_letters, dead_letters_gone) = letters.finish(&mut meta);
    let timers = timers(before, &mut meta, work, done, &effects, time);
    let mut alarms = alarms::change(term, before, &mut meta, &effects, time);
    let episodes_gone = if is_held { alarms::pass_over(&mut meta, &mut alarms) } else { Vec::new() };
    let state = effects.state;
    meta.state_bytes = (meta.state_bytes + written(&state)).saturating_sub(before.replaced);
    meta.time = time;
    let attempt = meta.attempts + 1;
    (meta.attempts, meta.ordinal) = if done { (0, ordinal) } else { (attempt, meta.ordinal) };
    // Until a call has gone well, the next one is told of them too.
    if outcome == OutcomeKind::Ok && work.kind() != InvocationKind::Skip {
        meta.gaps.clear();
    }
    if meta.quarantine.is_none() {
        let reason = policy::quarantine(&meta.trouble);
        meta.quarantine = reason.map(|reason| Quarantine { at: now, reason });
    }
    let facts = (ordinal, attempt, time, digest);
    let invocation = invocation(term.number(), work, facts, outcome, message.map(Into::into));
    let hops = match work {
        Work::Readings(offer) => offer.hops + 1,
        Work::Requeue(_) | Work::Timer { .. } => 1,
    };
    let head = CommitHead {
        installation: lane.id.clone(),
        generation: lane.generation,
        invocation,
        meta,
        timers,
        alarms,
        episodes_gone,
        dead_letters,
        dead_letters_gone,
        hops,
        intents: effects.intents,
    };
    let (new_points, derived) = (effects.new_points, effects.derived);
    Concluded { head, state, new_points, derived, next, became_stuck }
}

/// Returns the summary of the invocation, which is kept as long as the journal.
fn invocation(
    revision: Revision,
    work: &Work,
    (ordinal, attempt, time, digest): (Ordinal, u32, Timestamp, Digest),
    outcome: OutcomeKind,
    message: Option<Box<str>>,
) -> Invocation {
    let (first, last, readings) = work.range();
    let kind = work.kind();
    Invocation { ordinal, attempt, kind, first, last, readings, time, revision, outcome, message, digest }
}

/// The verdict of the failure rules, and whether a failure is counted.
fn judge(
    before: &Before,
    meta: &mut LaneMeta,
    work: &Work,
    outcome: OutcomeKind,
    cpu: Duration,
    now: Timestamp,
) -> (Next, bool) {
    let (effort, timer) = (before.effort.clone(), before.timer.clone());
    match work {
        Work::Readings(offer) => {
            let run = Run { outcome, readings: offer.readings, cpu, now };
            let Judged { verdict, effort, trouble, counted } = policy::judge(&effort, &meta.trouble, run);
            meta.trouble = trouble;
            (Next { verdict, effort, timer }, counted)
        }
        Work::Timer { .. } => {
            let Judged { verdict, effort: timer, trouble, counted } =
                policy::judge_timer(&timer, &meta.trouble, outcome, now);
            meta.trouble = trouble;
            (Next { verdict, effort, timer }, counted)
        }
        Work::Requeue(_) => {
            let verdict = if outcome == OutcomeKind::Ok { Verdict::Done } else { Verdict::DeadLetter };
            let counted = !matches!(outcome, OutcomeKind::Ok | OutcomeKind::Retry);
            (Next { verdict, effort, timer }, counted)
        }
    }
}

/// Notes the last failure for people. Readings and timers have one each, since neither's success says anything of
/// the other; a dead letter that fails again has its reason itself. Returns whether the app has become stuck by it.
fn note_error(
    meta: &mut LaneMeta,
    before: &Before,
    next: &Next,
    work: &Work,
    failed: Option<LastError>,
) -> bool {
    match (work.kind(), failed) {
        (InvocationKind::Readings, failed) => {
            let is_stuck = |error: &Option<LastError>| error.as_ref().is_some_and(|last| last.kind == STUCK);
            let was_stuck = is_stuck(&meta.last_error);
            meta.last_error = failed;
            is_stuck(&meta.last_error) && !was_stuck
        }
        (InvocationKind::Timer(name), Some(error)) => {
            meta.last_timer_error = Some(TimerError { timer: name.into(), error });
            next.timer.is_stuck && !before.timer.is_stuck
        }
        (InvocationKind::Timer(name), None) => {
            meta.last_timer_error.take_if(|last| *last.timer == *name);
            false
        }
        _ => false,
    }
}

/// A failure in words for people.
fn failure(
    meta: &LaneMeta,
    next: &Next,
    work: &Work,
    outcome: OutcomeKind,
    message: Option<&str>,
    now: Timestamp,
) -> Option<LastError> {
    let is_stuck = match work {
        Work::Timer { .. } => next.timer.is_stuck,
        Work::Readings(_) | Work::Requeue(_) => policy::is_stuck(meta.trouble.retrying_since, now),
    };
    let kind = if outcome == OutcomeKind::Retry && is_stuck { STUCK } else { outcome.name() };
    let (kind, message) = (kind.to_owned(), message?.to_owned());
    Some(LastError { at: now, kind, message, ordinal: meta.ordinal.next() })
}

/// Says whether an earlier generation has published what comes of this work.
fn was_published(span: &Published, work: &Work) -> bool {
    match work {
        // No batch crosses an edge of it.
        Work::Readings(offer) => span.has(offer.last),
        Work::Requeue(letter) => span.has(letter.sequence),
        Work::Timer { due, .. } => span.has_time(*due),
    }
}

/// Leaves out what the newest version of the app could never end: alarms that it doesn't have, and one-shot timers where
/// it sets none. Readings of the time of an older version may still raise and set them.
fn keep_known(effects: &mut Effects, term: &Term, newest: &Term) {
    if term.number() == newest.number() {
        return;
    }
    if !newest.manifest.schedule {
        effects.timers.retain(|_, due| due.is_none());
    }
    effects.alarms.retain(|change| {
        matches!(change.act, AlarmAct::Clear { .. }) || newest.manifest.alarm(change.key.0.as_str()).is_some()
    });
}

/// The one-shot timers that change, and the next time of a repeating one that ran.
fn timers(
    before: &Before,
    meta: &mut LaneMeta,
    work: &Work,
    done: bool,
    effects: &Effects,
    time: Timestamp,
) -> Vec<(Box<str>, Option<OneShot>)> {
    let mut changes: BTreeMap<&str, Option<OneShot>> = BTreeMap::new();
    if let (true, Work::Timer { name, due, repeating }) = (done, work) {
        match repeating {
            Some(next) => set_repeating(&mut meta.cron_due, name, *next),
            // Set anew meanwhile, it stays.
            None if before.timers.get(name).is_some_and(|set| set.due == *due) => {
                changes.insert(name, None);
            }
            None => {}
        }
    }
    for (name, due) in &effects.timers {
        changes.insert(name, due.map(|asked| OneShot::set(asked, time)));
    }
    changes.into_iter().map(|(name, due)| (name.into(), due)).collect()
}

fn set_repeating(cron_due: &mut [(SlotName, Timestamp)], name: &str, next: Timestamp) {
    if let Some(timer) = cron_due.iter_mut().find(|(timer, _)| timer.as_str() == name) {
        timer.1 = next;
    }
}

/// The bytes of keys and values that are set.
fn written(state: &StateChanges) -> u64 {
    state.iter().filter_map(|(key, value)| Some(state_cost(key, value?) as u64)).sum()
}
