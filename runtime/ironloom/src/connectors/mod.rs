//! Protocol adapters. They bring readings in, take set-points to machines, and publish what apps have derived. One file for
//! each protocol, one variant of [`ConnectorConfig`], and one life: configured, connected, run until told to stop.
//!
//! In: a connector hands over records in the order in which they follow each other ([`Sink`]), and waits until they are durable
//! before it tells its source. What it needs to go on after a crash is its *receipt*, which stands in the same record as the
//! readings: so nothing is skipped, and nothing comes twice that the source can tell by.
//!
//! Out: set-points come from the outbox and their outcomes go back to it ([`Commands`]); derived readings and alarms are read
//! behind a durable place ([`Outgoing`]).

mod cells;
mod commands;
mod conflicts;
mod csv;
mod dead_letters;
mod held;
mod making;
mod mqtt;
mod outgoing;
mod passed;
mod run;
mod set;
mod state;
mod status;
mod table;
mod template;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::watch;

pub(crate) use self::commands::Commands;
use self::commands::NoCommands;
pub(crate) use self::conflicts::conflicts;
pub(crate) use self::csv::CsvConfig;
pub(crate) use self::dead_letters::{DeadLetter, DeadLetters};
pub(crate) use self::mqtt::{BrokerStatus, Fate, MqttConfig, Seen, SeenReading};
use self::outgoing::NoOutgoing;
pub(crate) use self::outgoing::{Looked, OutAlarm, OutReading, Outgoing};
use self::passed::Tally;
use self::run::{RETRY, Run};
pub(crate) use self::set::{Connectors, Wanted};
pub(crate) use self::state::{Part, State};
pub(crate) use self::status::{ConnectorStatus, Origin, Status};
pub(crate) use self::table::ConnectorTable;
use crate::telemetry::Metrics;
use ironloom_apps::toml_section::{Field, Section};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, PointNumber, PointPath, TenantId};
use ironloom_types::limits::{MAX_CONNECTOR_NAME, MAX_POINTS};
use ironloom_types::readings::{Columns, NewPoint, Value};

/// Whose points connectors read and write.
pub(crate) const TENANT: TenantId = TenantId::MAIN;

/// The most bytes of a receipt.
pub(crate) const MAX_RECEIPT: usize = 256 << 10;

/// Readings from a connector, which become one record of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// The readings; points that the sink didn't know by a pending number.
    pub columns: Columns,
    /// The points behind the pending numbers.
    pub new_points: Vec<NewPoint>,
    /// Units of points that were known without one.
    pub units: Vec<(PointNumber, Arc<str>)>,
    /// The place from which the connector continues after a restart, at most [`MAX_RECEIPT`] bytes.
    pub receipt: Vec<u8>,
}

/// Bytes that a new point adds to a record, at most.
const POINT_BYTES: usize = 512;

impl Record {
    /// The bytes that it takes, about.
    fn bytes(&self) -> usize {
        let points = self.new_points.len() + self.units.len();
        self.columns.bytes() + points * POINT_BYTES
    }
}

/// A point that the site has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownPoint {
    pub number: PointNumber,
    pub unit: Option<Arc<str>>,
}

/// The reason why a record was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SinkError {
    /// Not now: the same record may be submitted again.
    #[error("not accepted for now: {0}")]
    Later(String),
    /// Never, as it stands: too many points, for example.
    #[error("refused: {0}")]
    Refused(String),
    /// The node stops.
    #[error("the server stops")]
    Stopping,
}

/// Whether a record that was handed over became durable; never [`SinkError::Later`].
pub(crate) type Submitted = Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send>>;

/// The receiver of connectors' readings: the node.
pub(crate) trait Sink: Send + Sync {
    /// Hands over a record, which comes after those that were handed over before. What it returns is ready once
    /// the record is durable. A record without new points is refused here or never.
    fn submit(&self, connector: &str, record: Record) -> Result<Submitted, SinkError>;
    /// Says that the source has come to this time, so that timers fire between readings under the
    /// feed's clock. Does nothing under the host's.
    fn tick(&self, at: Timestamp);
    /// The receipt of this connector's latest durable record.
    fn receipt(&self, connector: &str) -> Option<Vec<u8>>;
    /// A point that is known.
    fn point(&self, path: &str) -> Option<KnownPoint>;
    /// Returns true where this is the latest value of a point.
    fn has(&self, path: &str, value: &Value) -> bool;
    /// The time of a reading that has none; `None` where no clock says what it is.
    fn now(&self) -> Option<Timestamp>;
    /// The latest `at` that is trusted; the quality of later ones is lowered.
    fn latest(&self) -> Timestamp;
    /// Returns true where there is an installation of this id. Where apps come with the readings, nobody waits for one.
    fn is_installed(&self, _: &InstallationId) -> bool {
        true
    }
}

/// The configuration of a connector: `[connectors.NAME]`, tagged by `kind`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ConnectorConfig {
    /// `kind = "csv"`: replays a file.
    Csv(CsvConfig),
    /// `kind = "mqtt"`: takes what a broker sends, drives the machines behind it, and publishes.
    Mqtt(Box<MqttConfig>),
}

/// Reads the section of a kind of connector.
type Reader = fn(Section<'_, '_>, &TimeZone) -> Option<ConnectorConfig>;

impl ConnectorConfig {
    /// Reads a section, with all of its errors. `site` is the time zone of times that name none.
    pub(crate) fn read(mut section: Section<'_, '_>, site: &TimeZone) -> Option<Self> {
        let read: Reader = section.require("kind")?.parsed(|kind| match kind {
            "csv" => Ok::<Reader, _>(|section, site| CsvConfig::read(section, site).map(Self::Csv)),
            "mqtt" => Ok(|section, _| MqttConfig::read(section).map(|config| Self::Mqtt(Box::new(config)))),
            _ => Err(format!("{kind:?} is not a kind of connector; the kinds are csv, mqtt")),
        })?;
        read(section, site)
    }

    /// Its name in the configuration.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Mqtt(_) => "mqtt",
        }
    }

    /// Says what would keep it from reading its source now. May wait for a disk.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Csv(config) => csv::check(config),
            Self::Mqtt(config) => mqtt::check(config),
        }
    }

    /// Connects to its source as it would, and tells what it sees for so long, or until `tell` returns false. Nothing is
    /// written, and nothing is taken away from a server that runs.
    ///
    /// # Errors
    /// A sentence about the source.
    pub(crate) async fn try_out(&self, span: Duration, tell: impl FnMut(Seen) -> bool) -> Result<(), String> {
        match self {
            Self::Csv(_) => {
                Err("only connectors of kind mqtt can be tried; `ironloom serve --check` looks at a CSV file"
                    .to_owned())
            }
            Self::Mqtt(config) => mqtt::try_out(Arc::new((**config).clone()), span, tell).await,
        }
    }

    /// Returns true where it may bring readings of a point.
    pub(crate) fn may_write(&self, path: &PointPath) -> bool {
        if path.tenant() != TENANT {
            return false;
        }
        match self {
            Self::Csv(config) => config.mappings.iter().any(|mapping| mapping.point.may_give(path.as_str())),
            Self::Mqtt(config) => config.may_write(path.as_str()),
        }
    }

    /// Returns true where the set-points of a point go through it.
    pub(crate) fn drives(&self, path: &PointPath) -> bool {
        match self {
            Self::Csv(_) => false,
            Self::Mqtt(config) => config.drives(path),
        }
    }

    /// The most points that its mappings may name.
    pub(crate) fn most_points(&self) -> usize {
        match self {
            Self::Csv(config) => config.points,
            Self::Mqtt(config) => config.points,
        }
    }

    /// Returns true where its source isn't on this machine's disks, so that a look at files says little of it.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self, Self::Mqtt(_))
    }

    /// The installations that it waits for before it begins.
    fn wait_for(&self) -> &[InstallationId] {
        match self {
            Self::Csv(config) => &config.wait_for,
            Self::Mqtt(config) => &config.wait_for,
        }
    }

    /// Its source, for people.
    pub(crate) fn source(&self) -> String {
        match self {
            Self::Csv(config) => config.path.display().to_string(),
            Self::Mqtt(config) => config.broker.to_string(),
        }
    }

    /// Resolves file names that are relative to the configuration's folder.
    pub(crate) fn resolve(&mut self, folder: &std::path::Path) {
        match self {
            Self::Csv(config) => config.path = folder.join(&config.path),
            Self::Mqtt(config) => config.resolve(folder),
        }
    }
}

/// Reads the most points that a connector's mappings may name.
fn points(field: &Field<'_, '_>) -> Option<usize> {
    let points = usize::try_from(field.integer()?).ok().filter(|points| (1..=MAX_POINTS).contains(points));
    field.checked(points.ok_or_else(|| format!("must be a number of points from 1 to {MAX_POINTS}")))
}

/// Checks a name: it stands in the log's records, in metrics and in tables.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_CONNECTOR_NAME || !name.chars().all(is_word) {
        const _: () = assert!(MAX_CONNECTOR_NAME == 63, "the sentence names it");
        return Err("must be a name of 1 to 63 bytes of letters, digits, `-`, `_` and `.`");
    }
    Ok(())
}

/// The memory of a connector that outlasts its changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    letters: Arc<DeadLetters>,
    tally: Arc<Tally>,
    /// The filters that the broker's session has.
    subscriptions: Arc<mqtt::Subscriptions>,
}

/// The site, as connectors see it.
#[derive(Clone)]
pub(crate) struct Site {
    pub sink: Arc<dyn Sink>,
    pub commands: Arc<dyn Commands>,
    pub outgoing: Arc<dyn Outgoing>,
}

impl Site {
    /// One that only takes readings.
    pub(crate) fn of_sink(sink: Arc<dyn Sink>) -> Self {
        Self { sink, commands: Arc::new(NoCommands), outgoing: Arc::new(NoOutgoing) }
    }
}

/// A connector that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub status: Arc<Status>,
    /// Ends once `shutdown` says so, or there is nothing more to read.
    pub task: tokio::task::JoinHandle<()>,
}

/// Starts a connector. It stops, its last record durable or dropped, when `shutdown` becomes true.
pub(crate) fn start(
    name: &str,
    config: ConnectorConfig,
    site: Site,
    kept: &Kept,
    metrics: &Metrics,
    shutdown: watch::Receiver<bool>,
) -> Running {
    let status = Arc::new(Status::new(name, config.kind(), kept, metrics));
    // So that whoever asks right away sees it.
    held::is_held(config.wait_for(), &*site.sink, &status);
    let mut run = Run::new(site, kept.clone(), Arc::clone(&status), shutdown);
    let task = tokio::spawn(async move {
        if !held::wait(config.wait_for(), &mut run).await {
            return run.status.end(State::Stopped);
        }
        match config {
            ConnectorConfig::Csv(config) => csv::run(config, run).await,
            ConnectorConfig::Mqtt(config) => mqtt::run(*config, run).await,
        }
    });
    Running { status, task }
}
