//! The deeds of two versions, held against each other: what apps show outside, and at the end what they have.

use std::collections::{BTreeMap, BTreeSet};

use crate::lanes::replay::Replica;
use ironloom_sandbox::Batch;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmAct, Effects};
use ironloom_types::ids::{Digest, Ordinal};
use ironloom_types::readings::{Quality, Value, ValueRef};
use ironloom_types::rehearsal::{
    Compared, DifferenceKind, MAX_DIFFERENCES, RehearsalDifference, StateCompared,
};

/// Readings of outputs that are held back until both versions are done with the same.
const MOST_HELD: usize = 200_000;
/// Characters of a text that a difference shows.
const MAX_TEXT: usize = 80;
/// Keys of the state that are named.
const MAX_SAMPLES: usize = 10;

/// The deeds of one version since both were done with the same readings.
#[derive(Debug, Default)]
pub(super) struct Facts {
    effects: Vec<Effects>,
    /// Readings that it could not take: input, entity and time, with the reason.
    letters: Vec<(String, String)>,
    /// Timers whose run failed for good, with the reason.
    timers: Vec<(String, String)>,
    derived: usize,
}

impl Facts {
    /// Takes what an invocation did.
    pub(super) fn effects(&mut self, effects: Effects, batch: Option<&Batch>) {
        for refused in &effects.refused {
            let what = batch.map(|batch| place(batch, refused.frame as usize, refused.reading as usize));
            self.letters.push((what.unwrap_or_default(), refused.reason.clone()));
        }
        self.derived += effects.derived.len();
        self.effects.push(effects);
    }

    /// Takes a reading that was set aside: the only one of a batch.
    pub(super) fn letter(&mut self, batch: &Batch, reason: String) {
        self.letters.push((place(batch, 0, 0), reason));
    }

    /// Takes a timer whose run failed for good.
    pub(super) fn timer(&mut self, name: &str, reason: String) {
        self.timers.push((name.to_owned(), reason));
    }

    /// Too much to hold back any longer.
    pub(super) fn is_much(&self) -> bool {
        self.derived > MOST_HELD
    }
}

/// A reading in words: its input, its entity and its time.
fn place(batch: &Batch, frame: usize, reading: usize) -> String {
    let Some(frame) = batch.frames.get(frame) else { return String::new() };
    let number = frame.entity.get(reading).copied().unwrap_or_default() as usize;
    let entity = batch.entities.split('\n').nth(number).unwrap_or_default();
    let at = frame.at.get(reading).map_or(String::new(), |at| Timestamp(*at).to_jiff().to_string());
    format!("{} of {entity} at {at}", frame.slot)
}

/// The differences so far.
#[derive(Debug)]
pub(super) struct Comparison {
    tolerance: f64,
    pub kinds: BTreeMap<DifferenceKind, Compared>,
    pub differences: Vec<RehearsalDifference>,
    /// A change of the state that differs was found.
    state_differs: bool,
    /// The states have the same form.
    compares_state: bool,
}

/// One thing that a version did.
struct Deed {
    value: Value,
    /// All of it, for people.
    words: String,
    /// The part that is compared besides the value.
    rest: String,
}

type Deeds = BTreeMap<(String, u64, u32), Deed>;

impl Comparison {
    pub(super) fn new(tolerance: f64, compares_state: bool) -> Self {
        let (kinds, differences) = (BTreeMap::new(), Vec::new());
        Self { tolerance, kinds, differences, state_differs: false, compares_state }
    }

    /// The differences of all kinds.
    pub(super) fn different(&self) -> u64 {
        self.kinds.values().map(|compared| compared.different).sum()
    }

    pub(super) fn has_different(&self, kind: DifferenceKind) -> bool {
        self.kinds.get(&kind).is_some_and(|compared| compared.different > 0)
    }

    /// Compares what both did up to an invocation.
    pub(super) fn look(&mut self, old: &Facts, new: &Facts, at: (Ordinal, Timestamp)) {
        let pairs = || old.effects.iter().zip(&new.effects);
        let as_many = old.effects.len() == new.effects.len();
        if self.compares_state && !self.state_differs && as_many {
            let changed = pairs().find_map(|(old, new)| first_change(old, new));
            if let Some((what, old, new)) = changed {
                self.state_differs = true;
                self.note(DifferenceKind::State, what, old, new, at);
            }
        }
        if as_many && pairs().all(|(old, new)| shows_the_same(old, new)) {
            for effects in &old.effects {
                let both = [
                    (DifferenceKind::Derived, effects.derived.len()),
                    (DifferenceKind::SetPoint, effects.intents.len()),
                    (DifferenceKind::Alarm, effects.alarms.len()),
                ];
                for (kind, count) in both.into_iter().filter(|(_, count)| *count > 0) {
                    self.count(kind, count as u64, count as u64);
                }
            }
        } else {
            self.deeds(DifferenceKind::Derived, derived(&old.effects), derived(&new.effects), at);
            self.deeds(DifferenceKind::SetPoint, set_points(&old.effects), set_points(&new.effects), at);
            self.deeds(DifferenceKind::Alarm, alarms(&old.effects), alarms(&new.effects), at);
        }
        for (kind, old, new) in [
            (DifferenceKind::DeadLetter, &old.letters, &new.letters),
            (DifferenceKind::Timer, &old.timers, &new.timers),
        ] {
            if old == new && old.is_empty() {
                continue;
            }
            self.deeds(kind, words(old), words(new), at);
        }
    }

    fn count(&mut self, kind: DifferenceKind, old: u64, new: u64) -> &mut Compared {
        let compared = self.kinds.entry(kind).or_default();
        compared.old += old;
        compared.new += new;
        compared
    }

    fn note(
        &mut self,
        kind: DifferenceKind,
        what: String,
        old: Option<String>,
        new: Option<String>,
        (ordinal, time): (Ordinal, Timestamp),
    ) {
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(RehearsalDifference { ordinal, time, kind, what, old, new });
        }
    }

    /// Compares deeds one by one.
    fn deeds(&mut self, kind: DifferenceKind, old: Deeds, mut new: Deeds, at: (Ordinal, Timestamp)) {
        if old.is_empty() && new.is_empty() {
            return;
        }
        self.count(kind, old.len() as u64, new.len() as u64);
        let mut found = Vec::new();
        for ((what, time, count), old) in old {
            let Some(new) = new.remove(&(what.clone(), time, count)) else {
                found.push((what, Some(old.words), None));
                continue;
            };
            let share = apart(&old.value, &new.value);
            if let Some(share) = share.filter(|share| *share > 0.0) {
                let largest = &mut self.kinds.entry(kind).or_default().largest;
                *largest = Some(largest.unwrap_or(0.0).max(share));
            }
            let is_near =
                old.value == new.value || share.is_some_and(|share| share > 0.0 && share <= self.tolerance);
            if !is_near || old.rest != new.rest {
                found.push((what, Some(old.words), Some(new.words)));
            }
        }
        found.extend(new.into_iter().map(|((what, ..), new)| (what, None, Some(new.words))));
        self.kinds.entry(kind).or_default().different += found.len() as u64;
        for (what, old, new) in found {
            self.note(kind, what, old, new, at);
        }
    }

    /// Compares what both have at the end.
    pub(super) fn end(&mut self, old: &Replica, new: &Replica, at: (Ordinal, Timestamp)) -> StateCompared {
        let timers = |replica: &Replica| {
            let words = replica.timers().iter().map(|(name, set)| (name.to_string(), set.due.to_jiff()));
            words.map(|(name, due)| (name, format!("set for {due}"))).collect::<Vec<_>>()
        };
        self.deeds(DifferenceKind::Timer, words(&timers(old)), words(&timers(new)), at);
        let mut found = StateCompared { migrated: !self.compares_state, ..StateCompared::default() };
        let keys: BTreeSet<&str> = old.state().keys().chain(new.state().keys()).map(|key| &**key).collect();
        for key in keys {
            match (old.state().get(key), new.state().get(key)) {
                (Some(old), Some(new)) if old == new => {
                    found.same += 1;
                    continue;
                }
                (Some(_), Some(_)) => found.different += 1,
                (Some(_), None) => found.only_old += 1,
                _ => found.only_new += 1,
            }
            if found.samples.len() < MAX_SAMPLES {
                found.samples.push(key.to_owned());
            }
        }
        if self.compares_state {
            let different = found.different + found.only_old + found.only_new;
            let compared =
                self.count(DifferenceKind::State, old.state().len() as u64, new.state().len() as u64);
            compared.different += different;
            if different > 0 && !self.state_differs {
                let what = found.samples.first().cloned().unwrap_or_default();
                let value = |replica: &Replica| replica.state().get(&*what).map(|value| bytes(value));
                let (old, new) = (value(old), value(new));
                self.note(DifferenceKind::State, what, old, new, at);
            }
        }
        found
    }
}

/// Says if two invocations look the same from outside. Where a reading goes is compared by its place among the points,
/// which both name in full.
fn shows_the_same(old: &Effects, new: &Effects) -> bool {
    old.derived == new.derived
        && old.new_points == new.new_points
        && old.alarms == new.alarms
        && old.intents == new.intents
}

/// The first change of the state that only one of them makes, or makes otherwise.
fn first_change(old: &Effects, new: &Effects) -> Option<(String, Option<String>, Option<String>)> {
    let shown = |value: Option<&[u8]>| Some(value.map_or("deleted".to_owned(), bytes));
    let (mut old, mut new) = (old.state.iter().peekable(), new.state.iter().peekable());
    loop {
        match (old.peek().copied(), new.peek().copied()) {
            (None, None) => return None,
            (Some(same), Some(other)) if same == other => {
                old.next();
                new.next();
            }
            (Some((key, value)), Some((other, changed))) if key == other => {
                return Some((key.to_owned(), shown(value), shown(changed)));
            }
            (Some((key, value)), other) if other.is_none_or(|(other, _)| key < other) => {
                return Some((key.to_owned(), shown(value), None));
            }
            (_, Some((key, value))) => return Some((key.to_owned(), None, shown(value))),
            (Some((key, value)), None) => return Some((key.to_owned(), shown(value), None)),
        }
    }
}

/// Counts those of the same name and time, so that each has a place of its own.
#[derive(Default)]
struct Placed {
    deeds: Deeds,
    counts: BTreeMap<(String, u64), u32>,
}

impl Placed {
    fn add(&mut self, what: String, time: u64, value: Value, words: String, rest: String) {
        let count = self.counts.entry((what.clone(), time)).or_default();
        self.deeds.insert((what, time, *count), Deed { value, words, rest });
        *count += 1;
    }
}

fn derived(all: &[Effects]) -> Deeds {
    let mut placed = Placed::default();
    for effects in all {
        let columns = &effects.derived;
        for row in 0..columns.len() {
            let index = columns.points[row].pending_index();
            let point = index.and_then(|index| effects.new_points.get(index));
            let point = point.map_or_else(String::new, |point| point.path.to_string());
            let (value, quality, at) = (columns.value(row), columns.quality(row), columns.at[row]);
            let words = format!("{} at {}", shown(value, quality), at.to_jiff());
            let rest = quality.name().to_owned();
            placed.add(point, at.0, value.into(), words, rest);
        }
    }
    placed.deeds
}

fn set_points(all: &[Effects]) -> Deeds {
    let mut placed = Placed::default();
    for intent in all.iter().flat_map(|effects| &effects.intents) {
        let words = format!(
            "{} for {} s, as output {}",
            shown(intent.value.as_ref(), Quality::Good),
            intent.time_to_live as f64 / 1e9,
            intent.output
        );
        let rest = format!("{} {} {}", intent.output, intent.entity, intent.time_to_live);
        placed.add(intent.point.to_string(), 0, intent.value.clone(), words, rest);
    }
    placed.deeds
}

fn alarms(all: &[Effects]) -> Deeds {
    let mut placed = Placed::default();
    for change in all.iter().flat_map(|effects| &effects.alarms) {
        let since = |since: &Option<Timestamp>| {
            since.map_or(String::new(), |since| format!(", since {}", since.to_jiff()))
        };
        let (words, rest) = match &change.act {
            AlarmAct::Raise { message, since: from } => {
                let since = since(from);
                (format!("raised: {}{since}", shortened(message)), format!("{message}{since}"))
            }
            AlarmAct::Clear { since: from } => (format!("cleared{}", since(from)), String::new()),
        };
        let rest = format!("{words} {rest}");
        placed.add(format!("{} of {}", change.key.0, change.key.1), 0, Value::Missing, words, rest);
    }
    placed.deeds
}

fn words(all: &[(String, String)]) -> Deeds {
    let mut placed = Placed::default();
    for (what, words) in all {
        placed.add(what.clone(), 0, Value::Missing, shortened(words), words.clone());
    }
    placed.deeds
}

/// The difference of two numbers, as a share of the larger one; `None` where they can't be compared so.
fn apart(old: &Value, new: &Value) -> Option<f64> {
    let number = |value: &Value| match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Real(value) => Some(*value),
        _ => None,
    };
    let (old, new) = (number(old)?, number(new)?);
    let share = (old - new).abs() / old.abs().max(new.abs());
    // Two zeros, or two of the same infinity, are as near as can be.
    if old.to_bits() == new.to_bits() || old == new { Some(0.0) } else { share.is_finite().then_some(share) }
}

fn shown(value: ValueRef<'_>, quality: Quality) -> String {
    let value = match value {
        ValueRef::Missing => "nothing".to_owned(),
        ValueRef::Boolean(value) => value.to_string(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Text(text) => format!("{:?}", shortened(text)),
        ValueRef::Blob(blob) => bytes(blob),
    };
    if quality == Quality::Good { value } else { format!("{value} ({})", quality.name()) }
}

/// Bytes as a text where they are one.
fn bytes(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{:?}", shortened(text)),
        _ => {
            let digest = Digest::of(value);
            format!("{} bytes, {}", value.len(), &digest.hex()[..16])
        }
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_TEXT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
