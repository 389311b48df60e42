//! The status of a connector: for people, and as lines of the server's log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::mqtt::{BrokerState, BrokerStatus};
use super::passed::{Passed, Reason, Tally};
use super::state::{Now, Part, State};
use super::{ConnectorTable, DeadLetters, Kept};
use crate::telemetry::events::What;
use crate::telemetry::{Metrics, Sparing};
use ironloom_types::ids::InstallationId;
use ironloom_types::text::{clean, shorten};

/// So many bad lines are logged as they come: whoever mends the source finds them by these.
const LOG_FIRST: u32 = 20;
/// Beyond: one in this time. Every line of a file may be bad.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The status of a connector, as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConnectorStatus {
    /// Its name in the configuration.
    pub name: String,
    pub kind: String,
    /// The state of what it brings in: `running`, `connecting`, `waiting` (to try again), `held` (until apps are there),
    /// `done` (nothing more to read) or `stopped`. `set_points` and `publish` have a state of their own.
    pub state: State,
    /// The place that has its keys.
    #[serde(default)]
    pub origin: Origin,
    /// True where somebody has stopped it: it stays so, also over a restart, until somebody starts it.
    #[serde(default)]
    pub stopped: bool,
    /// Readings that it brought since the start of the server.
    pub readings: u64,
    /// Readings whose quality was lowered since the start of the server.
    pub lowered: u64,
    /// Lines, cells and messages that gave no reading: they can't be read, or name no point that may be written. Of a
    /// file, all up to the place that it has come to, also before a restart.
    pub skipped: u64,
    /// Whatever became no reading since the start of the server, by reason: `unreadable`, `time`, `no-point`, `unit`, `type`,
    /// `too-long`, `missing` (a cell without a value), `duplicate`, `retained` and `refused` (by the log).
    #[serde(default)]
    pub passed_over: BTreeMap<String, u64>,
    /// Messages that became dead letters since the start of the server.
    pub dead_letters: u64,
    /// The latest error.
    pub last_error: Option<String>,
    /// Installations that it waits for before it begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub waits_for: Vec<InstallationId>,
    /// Its connection to a broker, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerStatus>,
    /// The status of its set-points, where it takes some to machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_points: Option<SetPointStatus>,
    /// The status of what it publishes, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishStatus>,
    /// A note for people about it, such as that the configuration file has a connector of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Its keys, where it is shown by itself and they came over the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<ConnectorTable>,
}

/// The place that has a connector's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// The configuration file.
    #[default]
    File,
    /// The log: somebody added it over the API.
    Api,
}

impl ConnectorStatus {
    /// The first of its parts that isn't well, with its state and error; what it brings in where all are.
    pub(crate) fn worst(&self) -> (Part, State, Option<&str>) {
        let readings = (Part::Readings, self.state, self.last_error.as_deref());
        let set_points = self.set_points.as_ref();
        let publish = self.publish.as_ref();
        let parts = [
            Some(readings),
            set_points.map(|part| (Part::SetPoints, part.state, part.last_error.as_deref())),
            publish.map(|part| (Part::Publishing, part.state, part.last_error.as_deref())),
        ];
        parts.into_iter().flatten().find(|(_, state, _)| !state.is_well()).unwrap_or(readings)
    }
}

/// The status of a connector's set-points. Numbers count since the connector was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SetPointStatus {
    /// `connecting`, `running` or `waiting` (to try again).
    pub state: State,
    /// Those that were sent, and what was answered.
    pub sent: u64,
    pub accepted: u64,
    pub rejected: u64,
    /// The latest error.
    pub last_error: Option<String>,
}

/// The status of what a connector publishes. Numbers count since the connector was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PublishStatus {
    /// `connecting`, `running` or `waiting` (to try again).
    pub state: State,
    pub sent: u64,
    /// Messages that the broker has taken.
    pub acknowledged: u64,
    /// Messages that the broker has refused. They aren't sent again.
    pub refused: u64,
    /// Readings, of whatever points, that were past their retention before they could be published, or in a damaged part of
    /// the journal; changes of alarms that were forgotten before that.
    pub missed: u64,
    /// The sequence of the journal through which everything was taken.
    pub through: u64,
    /// Readings of the journal behind it. Not all of them are to be published.
    pub behind: u64,
    /// Changes of alarms that weren't looked at yet.
    pub alarms_behind: u64,
    /// The latest error.
    pub last_error: Option<String>,
}

/// The status of a connector.
#[derive(Debug)]
pub(crate) struct Status {
    pub(super) name: String,
    kind: &'static str,
    readings: Mutex<Now>,
    skipped: AtomicU64,
    /// Lines of the log about what was read, and about failures.
    notices: Mutex<Sparing>,
    failures: Mutex<Sparing>,
    metrics: Metrics,
    letters: Arc<DeadLetters>,
    tally: Arc<Tally>,
    /// Installations that aren't there yet.
    waits_for: Mutex<Vec<InstallationId>>,
    broker: Mutex<Option<BrokerState>>,
    /// Each of those that it has, and its counts.
    set_points: Mutex<Option<(Now, SetPointStatus)>>,
    publish: Mutex<Option<(Now, PublishStatus)>>,
}

impl Status {
    pub(super) fn new(name: &str, kind: &'static str, kept: &Kept, metrics: &Metrics) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            readings: Mutex::new(Now::new(State::Running, None)),
            skipped: AtomicU64::new(0),
            notices: Mutex::new(Sparing::new(LOG_FIRST, LOG_EVERY)),
            failures: Mutex::new(Sparing::new(LOG_FIRST, LOG_EVERY)),
            metrics: metrics.clone(),
            letters: Arc::clone(&kept.letters),
            tally: Arc::clone(&kept.tally),
            waits_for: Mutex::default(),
            broker: Mutex::default(),
            set_points: Mutex::default(),
            publish: Mutex::default(),
        }
    }

    /// Returns the status in the API's form.
    pub(crate) fn show(&self) -> ConnectorStatus {
        let Now { state, last_error, .. } = self.readings.lock().clone();
        let set_points = self.set_points.lock().clone().map(|(now, counts)| SetPointStatus {
            state: now.state,
            last_error: now.last_error,
            ..counts
        });
        let publish = self.publish.lock().clone().map(|(now, counts)| PublishStatus {
            state: now.state,
            last_error: now.last_error,
            ..counts
        });
        ConnectorStatus {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            origin: Origin::File,
            stopped: false,
            state,
            readings: self.tally.readings.load(Ordering::Relaxed),
            lowered: self.tally.lowered.load(Ordering::Relaxed),
            skipped: self.count_skipped(),
            dead_letters: self.letters.count(),
            passed_over: self.tally.passed.show(),
            last_error,
            waits_for: self.waits_for.lock().clone(),
            broker: self.broker.lock().as_ref().map(BrokerState::show),
            set_points,
            publish,
            note: None,
            table: None,
        }
    }

    /// Notes how its connection to a broker is.
    pub(super) fn broker(&self, change: impl FnOnce(&mut BrokerState)) {
        change(self.broker.lock().get_or_insert_default());
    }

    /// Counts what it takes to machines.
    pub(super) fn driving(&self, change: impl FnOnce(&mut SetPointStatus)) {
        change(&mut self.set_points.lock().get_or_insert_default().1);
    }

    /// Counts what it publishes.
    pub(super) fn publishing(&self, change: impl FnOnce(&mut PublishStatus)) {
        change(&mut self.publish.lock().get_or_insert_default().1);
    }

    fn change<T>(&self, part: Part, change: impl FnOnce(&mut Now) -> T) -> T {
        match part {
            Part::Readings => change(&mut self.readings.lock()),
            Part::SetPoints => change(&mut self.set_points.lock().get_or_insert_default().0),
            Part::Publishing => change(&mut self.publish.lock().get_or_insert_default().0),
        }
    }

    pub(super) fn set(&self, part: Part, state: State) {
        if self.change(part, |now| now.set(state)).is_other_state {
            self.tell(part, state, None);
        }
    }

    /// Logged where it is new, and not too often: a part that waits fails again and again.
    pub(super) fn failed(&self, part: Part, state: State, error: &str) {
        let error = clean(error).into_owned();
        let changed = self.change(part, |now| now.failed(state, &error));
        // It stops once, and that is always told.
        if changed.is_new_error && (self.failures.lock().take() || state == State::Stopped) {
            tracing::warn!(connector = self.name, state = part.with(state), "{error}");
        }
        if changed.is_other_state {
            self.tell(part, state, Some(error));
        }
    }

    /// The state of one that doesn't run, and why, where nobody has asked for that.
    pub(super) fn rest(&self, error: Option<&str>) {
        let error = error.map(|error| clean(error).into_owned());
        *self.readings.lock() = Now::new(State::Stopped, error);
    }

    fn tell(&self, part: Part, state: State, error: Option<String>) {
        let (connector, part, state) = (self.name.clone(), part.name(), state.name().to_owned());
        self.metrics.events.tell_sparingly(What::Connector { connector, part, state, error });
    }

    /// The source goes on where so many lines and cells of it were skipped.
    pub(super) fn set_skipped(&self, skipped: u64) {
        self.skipped.store(skipped, Ordering::Relaxed);
    }

    /// The last state; what was passed over is logged once more, as a sum.
    pub(super) fn end(&self, state: State) {
        self.set(Part::Readings, state);
        let skipped = self.count_skipped();
        if skipped > 0 {
            tracing::warn!(
                connector = self.name,
                state = state.name(),
                skipped,
                "lines or cells were skipped"
            );
        }
    }

    /// Something is wrong with what came or went, and it goes on.
    pub(super) fn noticed(&self, part: Part, error: &str) {
        let error = clean(error).into_owned();
        if self.notices.lock().take() {
            tracing::warn!(
                connector = self.name,
                part = part.name(),
                skipped = self.count_skipped(),
                "{error}"
            );
        }
        self.change(part, |now| now.noticed(error));
    }

    /// A line or cell that gave no reading.
    pub(super) fn skipped(&self, reason: Reason, error: &str) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.metrics.skipped.inc();
        self.passed_over(reason, 1);
        self.noticed(Part::Readings, error);
    }

    /// A message that gave no reading: it is kept as a dead letter.
    pub(super) fn set_aside(&self, topic: &[u8], payload: &[u8], why: &Passed) {
        self.letters.put(topic, payload, &why.text);
        let topic = String::from_utf8_lossy(topic);
        self.skipped(why.reason, &format!("topic {:?}: {}", shorten(&topic, 100), why.text));
    }

    /// Counts what becomes no reading, for a reason that needs no line of the log.
    pub(super) fn passed_over(&self, reason: Reason, by: u64) {
        self.tally.passed.count(reason, by);
    }

    /// It waits for these installations; for none of them where it goes on.
    pub(super) fn waits_for(&self, missing: Vec<InstallationId>) {
        *self.waits_for.lock() = missing;
    }

    pub(super) fn count_skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(super) fn took(&self, readings: usize) {
        self.tally.readings.fetch_add(readings as u64, Ordering::Relaxed);
    }

    pub(super) fn lowered(&self) {
        self.tally.lowered.fetch_add(1, Ordering::Relaxed);
        self.metrics.lowered.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_is_logged_and_shown_without_what_could_deceive() {
        let status = Status::new("herd", "csv", &Kept::default(), &Metrics::default());
        status.noticed(Part::Readings, "line 2: a\u{202e}b\nc");
        assert_eq!(status.show().last_error.unwrap(), "line 2: a\\u{202e}b\\nc");
        status.failed(Part::Readings, State::Stopped, "has no column; it has a\u{202e}b\u{1b}[2J");
        assert_eq!(status.show().last_error.unwrap(), "has no column; it has a\\u{202e}b\\u{1b}[2J");
    }

    #[test]
    fn people_are_shown_the_part_that_is_not_well() {
        let status = Status::new("plant", "mqtt", &Kept::default(), &Metrics::default());
        status.set(Part::SetPoints, State::Running);
        status.noticed(Part::Readings, "a notice");
        assert_eq!(status.show().worst(), (Part::Readings, State::Running, Some("a notice")));
        status.failed(Part::Publishing, State::Waiting, "refused\u{1b}");
        assert_eq!(status.show().worst(), (Part::Publishing, State::Waiting, Some("refused\\u{1b}")));
        status.failed(Part::SetPoints, State::Waiting, "no route");
        assert_eq!(status.show().worst(), (Part::SetPoints, State::Waiting, Some("no route")));
        status.set(Part::SetPoints, State::Running);
        status.set(Part::Publishing, State::Running);
        assert_eq!(status.show().worst().1, State::Running);
    }
}
