//! The deeds of an app with a feed, one event after the other: as lines of JSON, and as lines for people.

use serde::{Deserialize, Serialize};

use crate::api::value::JsonValue;
use ironloom_types::clock::Timestamp;
use ironloom_types::readings::Quality;
use ironloom_types::text::clean;

/// Something that an app did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Event {
    Output(Output),
    SetPoint {
        #[serde(with = "short")]
        time: Timestamp,
        /// The output's name.
        set_point: String,
        entity: String,
        /// The value that was sent, or would have been.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<JsonValue>,
        /// The value that the app asked for, where that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<JsonValue>,
        /// The outcome, such as `accepted`.
        outcome: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Alarm {
        #[serde(with = "short")]
        time: Timestamp,
        alarm: String,
        entity: String,
        /// `raised`, `cleared` or, of one that stands, `told`: it has another message.
        state: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        severity: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    SetAside {
        #[serde(with = "short")]
        time: Timestamp,
        /// The point of the reading.
        set_aside: String,
        entity: String,
        value: JsonValue,
        #[serde(with = "short")]
        at: Timestamp,
        reason: String,
    },
    Failed {
        #[serde(with = "short")]
        time: Timestamp,
        /// The outcome, such as `trap`.
        failed: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timer: Option<String>,
        message: String,
    },
    Log {
        #[serde(with = "short")]
        time: Timestamp,
        /// The level of the line, such as `warn`.
        log: String,
        message: String,
    },
    State {
        /// The entry's key.
        state: String,
        /// Its value: JSON where it is some, else a text, else base64.
        value: serde_json::Value,
    },
}

/// A derived reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Output {
    #[serde(with = "short")]
    pub time: Timestamp,
    /// The output's name, or its point where no binding says which output it is of.
    pub output: String,
    pub entity: String,
    pub value: JsonValue,
    /// The time at its source, where that isn't `time`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "short_option")]
    pub at: Option<Timestamp>,
    /// Its quality, where that isn't good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

/// Times without zeros at the end: people read and write them here.
mod short {
    use super::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&at.to_jiff())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

mod short_option {
    use super::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::short::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(deserializer)
    }
}

impl Event {
    /// As a line of JSON, without its end.
    pub(crate) fn json(&self) -> String {
        // Names and values are texts and numbers: there is nothing that JSON lacks.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As a line for people, without its end. What apps write can't steer the terminal.
    pub(crate) fn text(&self) -> String {
        let line = |time: &Timestamp, kind: &str, rest: String| {
            format!("{}  {kind:<9} {}", time.to_jiff(), clean(&rest))
        };
        match self {
            Self::Output(Output { time, output, entity, value, at, quality }) => {
                let at = at.map_or(String::new(), |at| format!("  at {}", at.to_jiff()));
                let quality = quality.map_or(String::new(), |quality| format!("  {}", quality.name()));
                line(time, "output", format!("{} = {value}{quality}{at}", named(output, entity)))
            }
            Self::SetPoint { time, set_point, entity, value, asked, outcome, reason } => {
                let value = value.as_ref().map_or(String::new(), |value| format!(" = {value}"));
                let asked = asked.as_ref().map_or(String::new(), |asked| format!(", asked {asked}"));
                let reason = reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
                line(
                    time,
                    "set-point",
                    format!("{}{value}{asked}: {outcome}{reason}", named(set_point, entity)),
                )
            }
            Self::Alarm { time, alarm, entity, state, severity, message } => {
                let severity = severity.as_ref().map_or(String::new(), |severity| format!(" ({severity})"));
                let message = message.as_ref().map_or(String::new(), |message| format!(": {message}"));
                line(time, "alarm", format!("{} {state}{severity}{message}", named(alarm, entity)))
            }
            Self::SetAside { time, set_aside, value, at, reason, .. } => {
                line(time, "set aside", format!("{set_aside} = {value} at {}: {reason}", at.to_jiff()))
            }
            Self::Failed { time, failed, timer, message } => {
                let timer = timer.as_ref().map_or(String::new(), |timer| format!(" in timer {timer}"));
                line(time, "failed", format!("{failed}{timer}: {message}"))
            }
            Self::Log { time, log, message } => line(time, "log", format!("{log}: {message}")),
            Self::State { state, value } => {
                format!("state     {} = {}", clean(state), clean(&value.to_string()))
            }
        }
    }
}

fn named(name: &str, entity: &str) -> String {
    if entity.is_empty() { name.to_owned() } else { format!("{name} [{entity}]") }
}

/// The whole of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Readings of the feed.
    pub readings: u64,
    /// Those of them that the app's inputs took.
    pub taken: u64,
    pub invocations: u64,
    pub outputs: u64,
    /// Set-points that ended, safe values among them.
    pub set_points: u64,
    /// Alarms that were raised.
    pub alarms: u64,
    /// Readings that were set aside.
    pub set_aside: u64,
    /// Invocations that failed, each attempt counted.
    pub failed: u64,
    /// Timers that ran.
    pub timers: u64,
    /// Lines and cells of a CSV file that gave no reading.
    pub skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

impl Summary {
    /// Counts an event.
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::Output(_) => self.outputs += 1,
            Event::SetPoint { .. } => self.set_points += 1,
            Event::Alarm { state, .. } => self.alarms += u64::from(state == "raised"),
            Event::SetAside { .. } => self.set_aside += 1,
            Event::Failed { .. } => self.failed += 1,
            Event::Log { .. } | Event::State { .. } => {}
        }
    }
}
