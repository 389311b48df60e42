//! The surroundings of an app in a test, and how the app's calls change them.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use serde::Deserialize;

use super::alarms::Alarms;
use super::batch::Datum;
use super::limits::{
    self, MAX_INTENTS, MAX_LOG_BYTES, MAX_LOG_LINES, MAX_TIMER_NAME, MAX_TIMERS, TIMER_SOONEST,
};
use super::publish;
use super::quota::Quota;
use super::state::State;
use crate::bindings::platform::ironloom::outputs::outputs as raw;
use crate::bindings::platform::ironloom::types::types::Batch;
use crate::invocation::Gap;
use crate::time::Timestamp;
use crate::value::{Column as _, Quality, Value};
use crate::{alarms, outputs, schedule};

/// A one-shot timer that an app has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetTimer {
    /// When it fires.
    pub due: Timestamp,
    /// The time that the app asked for, which the call is told.
    pub asked: Timestamp,
}

/// The type of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names of the manifest's types say it all")]
pub enum Type {
    Boolean,
    Integer,
    Real,
    Text,
    Blob,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
            Self::Blob => "blob",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OutputKind {
    Derived,
    SetPoint,
}

/// A derived reading that an app published.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The output, by its name in the manifest.
    pub output: String,
    /// The entity that it is about.
    pub entity: String,
    /// The time that the app gave it.
    pub at: Timestamp,
    /// How far its value can be trusted.
    pub quality: Quality,
    /// The value that was published.
    pub value: Datum,
}

/// A set-point that an app asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedIntent {
    /// The output, by its name in the manifest.
    pub output: String,
    /// The entity that it is about.
    pub entity: String,
    /// The value that was asked for.
    pub value: Datum,
    /// For how long it is worth carrying out, from the time of its invocation.
    pub time_to_live: Duration,
    /// The time of the invocation that asked for it.
    pub at: Timestamp,
    /// The call of `outputs::request` that it stands in, counted over all invocations. Those of one call are carried out
    /// in their order, each after the one before was accepted.
    pub list: u64,
}

/// A line that an app logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The level that the app logged it with.
    pub level: log::Level,
    /// The module that it came from.
    pub target: String,
    /// The text of the line.
    pub message: String,
}

pub(super) struct World {
    pub settings: BTreeMap<String, String>,
    /// The settings that the manifest declares, where there is one.
    pub declared_settings: Option<BTreeMap<String, Type>>,
    /// In the order of the manifest, which is that of frames.
    pub inputs: Vec<(String, Type)>,
    pub outputs: BTreeMap<String, (OutputKind, Type)>,
    /// Set-points that any value is granted for.
    pub granted: HashSet<String>,
    pub declared_timers: Vec<String>,
    pub schedule: bool,

    pub now: Timestamp,
    pub gaps: Vec<Gap>,
    pub state: State,
    pub alarms: Alarms,
    pub timers: BTreeMap<String, SetTimer>,
    pub published: Vec<Batch>,
    pub intents: Vec<RequestedIntent>,
    /// The number of calls that asked for set-points.
    lists: u64,
    pub logs: Vec<Log>,
    invocations: u64,
    /// The number of host calls in the current or last call, without log lines.
    pub host_calls: u64,

    /// Timers that this call set or cancelled. A change that nobody would see isn't there.
    timer_changes: BTreeMap<String, Option<SetTimer>>,
    /// Timers that are set, with these changes.
    timers_set: usize,
    /// The points that outputs have made, by output; those of this call, and how many they may be.
    points: HashMap<String, HashSet<Box<str>>>,
    points_made: u64,
    new_points: Vec<(String, Box<str>)>,
    pub max_points: u64,
    /// Bytes that this call carried over the boundary, and those of its effects.
    pub quota: Quota,
    /// Lines that this call logged and their bytes, and those that were too many.
    log_lines: usize,
    log_bytes: usize,
    /// The parts of `published` and `intents` from earlier calls, and the number of derived readings of this one.
    published_before: usize,
    intents_before: usize,
    derived: usize,
}

impl Default for World {
    fn default() -> Self {
        Self {
            settings: BTreeMap::new(),
            declared_settings: None,
            inputs: Vec::new(),
            outputs: BTreeMap::new(),
            granted: HashSet::new(),
            declared_timers: Vec::new(),
            schedule: false,
            now: Timestamp::default(),
            gaps: Vec::new(),
            state: State::default(),
            alarms: Alarms::default(),
            timers: BTreeMap::new(),
            published: Vec::new(),
            intents: Vec::new(),
            lists: 0,
            logs: Vec::new(),
            invocations: 0,
            host_calls: 0,
            timer_changes: BTreeMap::new(),
            timers_set: 0,
            points: HashMap::new(),
            points_made: 0,
            new_points: Vec::new(),
            max_points: limits::POINTS,
            quota: Quota::default(),
            log_lines: 0,
            log_bytes: 0,
            published_before: 0,
            intents_before: 0,
            derived: 0,
        }
    }
}

impl World {
    /// Begins a call.
    pub(super) fn begin(&mut self) {
        self.host_calls = 0;
        self.timers_set = self.timers.len();
    }

    /// Keeps what the call did, and gives where its part of `published` begins.
    pub(super) fn commit(&mut self) -> usize {
        let first = self.published_before;
        self.state.commit();
        self.alarms.commit(self.now);
        for (name, change) in std::mem::take(&mut self.timer_changes) {
            put(&mut self.timers, name, change);
        }
        self.new_points.clear();
        self.invocations += 1;
        self.gaps.clear();
        self.start_next();
        first
    }

    /// Takes back what the call did. Logs stay.
    pub(super) fn roll_back(&mut self) {
        self.state.roll_back();
        self.alarms.roll_back();
        self.timer_changes.clear();
        self.points_made -= self.new_points.len() as u64;
        for (output, entity) in self.new_points.drain(..) {
            if let Some(points) = self.points.get_mut(&output) {
                points.remove(&entity);
            }
        }
        self.published.truncate(self.published_before);
        self.intents.truncate(self.intents_before);
        self.start_next();
    }

    pub(super) fn start_next(&mut self) {
        self.published_before = self.published.len();
        self.intents_before = self.intents.len();
        self.derived = 0;
        self.quota = Quota::default();
        (self.log_lines, self.log_bytes) = (0, 0);
    }

    pub(super) fn id(&self) -> String {
        // An id that took no effect goes to the next invocation, as on the host.
        format!("test-{}", self.invocations + 1)
    }

    pub(super) fn output(&self, name: &str, kind: OutputKind) -> Result<Type, outputs::Error> {
        match self.outputs.get(name) {
            Some(&(declared, of)) if declared == kind => Ok(of),
            _ => Err(outputs::Error::UnknownOutput(name.to_owned())),
        }
    }

    pub(super) fn publish(&mut self, batch: Batch) -> Result<(), outputs::Error> {
        self.quota.carry(publish::carried(&batch));
        let checked = publish::check(self, &batch)?;
        self.quota.effect(checked.bytes, 0).map_err(outputs::Error::Other)?;
        self.derived += checked.readings;
        self.points_made += checked.new_points.len() as u64;
        for (output, entity) in checked.new_points {
            self.points.entry(output.clone()).or_default().insert(entity.clone());
            self.new_points.push((output, entity));
        }
        self.published.push(batch);
        Ok(())
    }

    /// Derived readings of this call so far.
    pub(super) fn derived(&self) -> usize {
        self.derived
    }

    /// Entities for which an output has a point.
    pub(super) fn points_of(&self, output: &str) -> Option<&HashSet<Box<str>>> {
        self.points.get(output)
    }

    /// Refuses more new points than the outputs may make.
    pub(super) fn check_room(&self, new: usize) -> Result<(), outputs::Error> {
        if self.points_made + new as u64 > self.max_points {
            return Err(outputs::Error::TooManyPoints(self.max_points));
        }
        Ok(())
    }

    pub(super) fn request(
        &mut self,
        intents: &[outputs::Intent],
    ) -> Result<Vec<outputs::Ticket>, outputs::Error> {
        self.quota.carry(intents.iter().map(|intent| intent.0.output.len() + intent.0.entity.len()).sum());
        if self.intents.len() - self.intents_before + intents.len() > MAX_INTENTS {
            return Err(outputs::Error::TooMany);
        }
        for outputs::Intent(intent) in intents {
            let declared = self.output(&intent.output, OutputKind::SetPoint)?;
            if !self.granted.contains(&intent.output) {
                return Err(outputs::Error::NotGranted(intent.output.clone()));
            }
            let is = Value::from(&intent.value).type_name();
            if declared.name() != is {
                let (output, declared) = (&intent.output, declared.name());
                return Err(outputs::Error::WrongType(format!("{output:?} is {declared}, not {is}")));
            }
            if intent.time_to_live == 0 {
                return Err(outputs::Error::Malformed("a time to live is zero".to_owned()));
            }
        }
        let mut tickets = Vec::with_capacity(intents.len());
        let list = self.lists;
        self.lists += 1;
        for outputs::Intent(intent) in intents {
            self.intents.push(RequestedIntent {
                output: intent.output.clone(),
                entity: intent.entity.clone(),
                value: Value::from(&intent.value).into(),
                time_to_live: std::time::Duration::from_nanos(intent.time_to_live),
                at: self.now,
                list,
            });
            let id = format!("{}-{}", self.id(), self.intents.len() - self.intents_before);
            tickets.push(outputs::Ticket(raw::Ticket { id, value: intent.value.clone() }));
        }
        Ok(tickets)
    }

    pub(super) fn raise(
        &mut self,
        alarm: &str,
        entity: &str,
        message: &str,
        since: Option<Timestamp>,
    ) -> Result<(), alarms::Error> {
        self.quota.carry(alarm.len() + entity.len() + message.len());
        self.alarms.raise(&mut self.quota, alarm, entity, message, since)
    }

    pub(super) fn clear(
        &mut self,
        alarm: &str,
        entity: &str,
        since: Option<Timestamp>,
    ) -> Result<(), alarms::Error> {
        self.quota.carry(alarm.len() + entity.len());
        self.alarms.clear(&mut self.quota, alarm, entity, since)
    }

    fn is_set(&self, timer: &str) -> bool {
        self.timer_changes.get(timer).map_or_else(|| self.timers.contains_key(timer), Option::is_some)
    }

    pub(super) fn set_timer(&mut self, timer: &str, due: Timestamp) -> Result<(), schedule::Error> {
        self.quota.carry(timer.len());
        if !self.schedule {
            // The host refuses such an app when it is installed.
            return Err(schedule::Error::Other("the manifest has no line `schedule = true`".to_owned()));
        }
        let declared = self.declared_timers.iter().any(|declared| declared == timer);
        if timer.is_empty() || timer.len() > MAX_TIMER_NAME || declared {
            return Err(schedule::Error::InvalidName);
        }
        let is_set = self.is_set(timer);
        if !is_set && self.timers_set >= MAX_TIMERS {
            return Err(schedule::Error::TooMany);
        }
        let before = if self.timer_changes.contains_key(timer) { timer_cost(timer) } else { 0 };
        self.quota.effect(timer_cost(timer), before).map_err(schedule::Error::Other)?;
        self.timers_set += usize::from(!is_set);
        let soonest = self.now.nanos().saturating_add(TIMER_SOONEST);
        let asked = due.nanos().min(i64::MAX as u64);
        let set =
            SetTimer { due: Timestamp::from_nanos(asked.max(soonest)), asked: Timestamp::from_nanos(asked) };
        self.timer_changes.insert(timer.to_owned(), Some(set));
        Ok(())
    }

    pub(super) fn cancel_timer(&mut self, timer: &str) -> Result<bool, schedule::Error> {
        self.quota.carry(timer.len());
        if !self.is_set(timer) {
            return Ok(false);
        }
        let before = if self.timer_changes.contains_key(timer) { timer_cost(timer) } else { 0 };
        if self.timers.contains_key(timer) {
            self.quota.effect(timer_cost(timer), before).map_err(schedule::Error::Other)?;
            self.timer_changes.insert(timer.to_owned(), None);
        } else {
            self.quota.effect(0, before).map_err(schedule::Error::Other)?;
            self.timer_changes.remove(timer);
        }
        self.timers_set -= 1;
        Ok(true)
    }

    /// The host keeps so many lines of a call, and counts the others.
    pub(super) fn log(&mut self, level: log::Level, target: &str, message: &str) {
        let room = MAX_LOG_BYTES.saturating_sub(self.log_bytes);
        if self.log_lines >= MAX_LOG_LINES || room == 0 {
            return;
        }
        let target = beginning(target, room);
        let message = beginning(message, room - target.len());
        self.log_lines += 1;
        self.log_bytes += target.len() + message.len() + 1;
        self.logs.push(Log { level, target: target.to_owned(), message: message.to_owned() });
    }
}

/// Bytes of a change in the record.
fn timer_cost(timer: &str) -> usize {
    timer.len() + size_of::<u64>()
}

/// The beginning of a text, at most so many bytes.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// The derived readings of some batches, one by one.
pub(super) fn rows(batches: &[Batch]) -> Vec<Output> {
    let mut rows = Vec::new();
    for batch in batches {
        let entities: Vec<&str> = batch.entities.split('\n').collect();
        for frame in &batch.frames {
            rows.extend((0..frame.at.len()).map(|i| Output {
                output: frame.slot.clone(),
                entity: entities[frame.entity[i] as usize].to_owned(),
                at: Timestamp::from_nanos(frame.at[i]),
                quality: frame.quality.as_ref().map_or(Quality::Good, |quality| quality[i]),
                value: frame.values.value(i).into(),
            }));
        }
    }
    rows
}
