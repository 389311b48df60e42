//! The surroundings of an app in a test, and how the app's calls change them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use serde::Deserialize;

use super::batch::Datum;
use super::publish;
use super::state::State;
use crate::bindings::platform::ironloom::outputs::outputs as raw;
use crate::bindings::platform::ironloom::types::types::Batch;
use crate::invocation::Gap;
use crate::time::Timestamp;
use crate::value::{Column as _, Quality, Value};
use crate::{alarms, outputs, schedule};

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
    /// For how long it is worth carrying out.
    pub time_to_live: Duration,
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

/// The host's limits, as far as an app's test can meet them.
const MAX_ENTITY: usize = 512;
const MAX_ALARM_MESSAGE: usize = 1_024;
const MAX_ALARMS: usize = 10_000;
const MAX_TIMER_NAME: usize = 256;
const MAX_TIMERS: usize = 1_000;
/// The earliest due time of a timer, counted from the time of the call that sets it.
const SOONEST: Duration = Duration::from_secs(1);
const MAX_INTENTS: usize = 1_000;

pub(super) type AlarmKey = (String, String);

/// The undo of one change.
enum Undo {
    Alarm(AlarmKey, Option<String>),
    Timer(String, Option<Timestamp>),
}

#[derive(Default)]
pub(super) struct World {
    pub settings: BTreeMap<String, String>,
    /// The settings that the manifest declares, where there is one.
    pub declared_settings: Option<BTreeMap<String, Type>>,
    pub inputs: BTreeMap<String, Type>,
    pub outputs: BTreeMap<String, (OutputKind, Type)>,
    pub declared_alarms: Vec<String>,
    pub declared_timers: Vec<String>,
    pub schedule: bool,

    pub now: Timestamp,
    pub gaps: Vec<Gap>,
    pub state: State,
    pub alarms: BTreeMap<AlarmKey, String>,
    pub timers: BTreeMap<String, Timestamp>,
    pub published: Vec<Batch>,
    pub intents: Vec<RequestedIntent>,
    pub logs: Vec<Log>,
    invocations: u64,
    /// The number of host calls in the current or last call, without log lines.
    pub host_calls: u64,

    undo: Vec<Undo>,
    /// The parts of `published` and `intents` from earlier calls, and the number of derived readings of this one.
    published_before: usize,
    intents_before: usize,
    derived: usize,
}

impl World {
    /// Keeps what the call did, and gives where its part of `published` begins.
    pub(super) fn commit(&mut self) -> usize {
        let first = self.published_before;
        self.state.commit();
        self.undo.clear();
        self.invocations += 1;
        self.gaps.clear();
        self.start_next();
        first
    }

    /// Takes back what the call did. Logs stay.
    pub(super) fn roll_back(&mut self) {
        self.state.roll_back();
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Alarm(key, before) => put(&mut self.alarms, key, before),
                Undo::Timer(name, before) => put(&mut self.timers, name, before),
            };
        }
        self.published.truncate(self.published_before);
        self.intents.truncate(self.intents_before);
        self.start_next();
    }

    pub(super) fn start_next(&mut self) {
        self.published_before = self.published.len();
        self.intents_before = self.intents.len();
        self.derived = 0;
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
        self.derived += publish::check(self, &batch, self.derived)?;
        self.published.push(batch);
        Ok(())
    }

    pub(super) fn request(
        &mut self,
        intents: &[outputs::Intent],
    ) -> Result<Vec<outputs::Ticket>, outputs::Error> {
        if self.intents.len() - self.intents_before + intents.len() > MAX_INTENTS {
            return Err(outputs::Error::TooMany);
        }
        for outputs::Intent(intent) in intents {
            let declared = self.output(&intent.output, OutputKind::SetPoint)?;
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
        for outputs::Intent(intent) in intents {
            self.intents.push(RequestedIntent {
                output: intent.output.clone(),
                entity: intent.entity.clone(),
                value: Value::from(&intent.value).into(),
                time_to_live: std::time::Duration::from_nanos(intent.time_to_live),
            });
            let id = format!("{}-{}", self.id(), self.intents.len() - self.intents_before);
            tickets.push(outputs::Ticket(raw::Ticket { id, value: intent.value.clone() }));
        }
        Ok(tickets)
    }

    fn known_alarm(&self, alarm: &str, entity: &str) -> Result<(), alarms::Error> {
        if !self.declared_alarms.iter().any(|declared| declared == alarm) {
            return Err(alarms::Error::UnknownAlarm(alarm.to_owned()));
        }
        if entity.len() > MAX_ENTITY {
            return Err(alarms::Error::TooLong);
        }
        if entity.chars().any(char::is_control) {
            return Err(alarms::Error::Other(format!("the entity {entity:?} has a control character")));
        }
        Ok(())
    }

    pub(super) fn raise(&mut self, alarm: &str, entity: &str, message: &str) -> Result<(), alarms::Error> {
        self.known_alarm(alarm, entity)?;
        if message.len() > MAX_ALARM_MESSAGE {
            return Err(alarms::Error::TooLong);
        }
        let standing = self.alarms.len();
        let key = (alarm.to_owned(), entity.to_owned());
        let before = match self.alarms.entry(key.clone()) {
            Entry::Occupied(mut before) => Some(before.insert(message.to_owned())),
            Entry::Vacant(_) if standing >= MAX_ALARMS => return Err(alarms::Error::TooMany),
            Entry::Vacant(place) => {
                place.insert(message.to_owned());
                None
            }
        };
        self.undo.push(Undo::Alarm(key, before));
        Ok(())
    }

    pub(super) fn clear(&mut self, alarm: &str, entity: &str) -> Result<(), alarms::Error> {
        self.known_alarm(alarm, entity)?;
        let key = (alarm.to_owned(), entity.to_owned());
        if let Some(before) = self.alarms.remove(&key) {
            self.undo.push(Undo::Alarm(key, Some(before)));
        }
        Ok(())
    }

    pub(super) fn set_timer(&mut self, timer: &str, due: Timestamp) -> Result<(), schedule::Error> {
        if !self.schedule {
            // The host refuses such an app when it is installed.
            return Err(schedule::Error::Other("the manifest has no line `schedule = true`".to_owned()));
        }
        let declared = self.declared_timers.iter().any(|declared| declared == timer);
        if timer.is_empty() || timer.len() > MAX_TIMER_NAME || declared {
            return Err(schedule::Error::InvalidName);
        }
        if self.timers.len() >= MAX_TIMERS && !self.timers.contains_key(timer) {
            return Err(schedule::Error::TooMany);
        }
        let before = self.timers.insert(timer.to_owned(), due.max(self.now + SOONEST));
        self.undo.push(Undo::Timer(timer.to_owned(), before));
        Ok(())
    }

    pub(super) fn cancel_timer(&mut self, timer: &str) -> bool {
        let before = self.timers.remove(timer);
        if before.is_some() {
            self.undo.push(Undo::Timer(timer.to_owned(), before));
        }
        before.is_some()
    }

    pub(super) fn log(&mut self, level: log::Level, target: &str, message: &str) {
        self.logs.push(Log { level, target: target.to_owned(), message: message.to_owned() });
    }
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
