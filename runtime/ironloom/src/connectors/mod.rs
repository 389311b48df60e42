//! Protocol adapters that bring readings in. One file for each protocol, one variant of
//! [`ConnectorConfig`], and one life: configured, connected, run until told to stop.
//!
//! A connector hands over a record and waits until it is durable before it hands over the next, or
//! tells its source. What it needs to go on after a crash is its *receipt*, which stands in the same
//! record as the readings: so nothing is skipped, and nothing comes twice.

mod csv;
mod set;
mod template;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use self::csv::CsvConfig;
pub(crate) use self::set::Connectors;
use crate::telemetry::Metrics;
use ironloom_apps::toml_section::Section;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::{Columns, NewPoint};

/// The most bytes of a receipt.
pub(crate) const MAX_RECEIPT: usize = 64 << 10;

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

/// Whether a record became durable.
pub(crate) type Submitted<'a> = Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send + 'a>>;

/// The receiver of connectors' readings: the node.
pub(crate) trait Sink: Send + Sync {
    /// Hands over a record; ready once it is durable.
    fn submit<'a>(&'a self, connector: &'a str, record: Record) -> Submitted<'a>;
    /// Says that the source has come to this time, so that timers fire between readings under the
    /// feed's clock. Does nothing under the host's.
    fn tick(&self, at: Timestamp);
    /// The receipt of this connector's latest durable record.
    fn receipt(&self, connector: &str) -> Option<Vec<u8>>;
    /// A point that is known.
    fn point(&self, path: &str) -> Option<KnownPoint>;
    /// The latest `at` that is trusted; the quality of later ones is lowered.
    fn latest(&self) -> Timestamp;
}

/// The configuration of a connector: `[connectors.NAME]`, tagged by `kind`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ConnectorConfig {
    /// `kind = "csv"`: replays a file.
    Csv(CsvConfig),
}

impl ConnectorConfig {
    /// Reads a section, with all of its errors. `site` is the time zone of times that name none.
    pub(crate) fn read(mut section: Section<'_, '_>, site: &TimeZone) -> Option<Self> {
        section.require("kind")?.parsed(|kind| match kind {
            "csv" => Ok(()),
            _ => Err(format!("{kind:?} is not a kind of connector; there is only \"csv\"")),
        })?;
        CsvConfig::read(section, site).map(Self::Csv)
    }

    /// Its name in the configuration.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
        }
    }

    /// Resolves file names that are relative to the configuration's folder.
    pub(crate) fn resolve(&mut self, folder: &std::path::Path) {
        match self {
            Self::Csv(config) => config.path = folder.join(&config.path),
        }
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
    sink: Arc<dyn Sink>,
    metrics: &Metrics,
    shutdown: watch::Receiver<bool>,
) -> Running {
    let status = Arc::new(Status::new(name, config.kind(), metrics));
    let run = Run { sink, status: Arc::clone(&status), shutdown };
    let task = match config {
        ConnectorConfig::Csv(config) => tokio::spawn(csv::run(config, run)),
    };
    Running { status, task }
}

/// The interval at which a connector logs bad lines: every line of a file may be bad.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The status of a connector, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectorStatus {
    /// Its name in the configuration.
    pub name: String,
    pub kind: String,
    /// `running`, `waiting` (to try again), `done` (nothing more to read) or `stopped`.
    pub state: String,
    /// Readings that it brought since the start of the server.
    pub readings: u64,
    /// Readings whose quality was lowered.
    pub lowered: u64,
    /// Lines and cells that gave no reading: they can't be read, or name no point that may be written.
    pub skipped: u64,
    /// The latest error.
    pub last_error: Option<String>,
}

/// The status of a connector.
#[derive(Debug)]
pub(crate) struct Status {
    name: String,
    kind: &'static str,
    state: Mutex<(&'static str, Option<String>)>,
    readings: AtomicU64,
    lowered: AtomicU64,
    skipped: AtomicU64,
    /// The time of the last log line about bad lines.
    logged: Mutex<Option<Instant>>,
    metrics: Metrics,
}

impl Status {
    fn new(name: &str, kind: &'static str, metrics: &Metrics) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            state: Mutex::new(("running", None)),
            readings: AtomicU64::new(0),
            lowered: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            logged: Mutex::new(None),
            metrics: metrics.clone(),
        }
    }

    /// Returns the status in the API's form.
    pub(crate) fn show(&self) -> ConnectorStatus {
        let (state, last_error) = self.state.lock().clone();
        ConnectorStatus {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            state: state.to_owned(),
            readings: self.readings.load(Ordering::Relaxed),
            lowered: self.lowered.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            last_error,
        }
    }

    /// Whether it is running, or has finished.
    pub(crate) fn is_well(&self) -> bool {
        matches!(self.state.lock().0, "running" | "done")
    }

    fn set(&self, state: &'static str) {
        self.state.lock().0 = state;
    }

    /// The last state; what was passed over is logged once more, as a sum.
    fn end(&self, state: &'static str) {
        self.set(state);
        let skipped = self.skipped.load(Ordering::Relaxed);
        if skipped > 0 {
            tracing::warn!(connector = self.name, state, skipped, "lines or cells were skipped");
        }
    }

    /// Logged where it is new: a connector that waits fails again and again.
    fn failed(&self, state: &'static str, error: String) {
        let mut now = self.state.lock();
        if now.0 != state || now.1.as_ref() != Some(&error) {
            tracing::warn!(connector = self.name, state, "{error}");
        }
        *now = (state, Some(error));
    }

    /// Something is wrong with what was read.
    fn noticed(&self, error: String) {
        let mut logged = self.logged.lock();
        if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *logged = Some(Instant::now());
            let skipped = self.skipped.load(Ordering::Relaxed);
            tracing::warn!(connector = self.name, skipped, "{error}");
        }
        self.state.lock().1 = Some(error);
    }

    /// A line or cell that gave no reading.
    fn skipped(&self, error: String) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.metrics.skipped.inc();
        self.noticed(error);
    }

    fn took(&self, readings: usize) {
        self.readings.fetch_add(readings as u64, Ordering::Relaxed);
    }

    fn lowered(&self) {
        self.lowered.fetch_add(1, Ordering::Relaxed);
        self.metrics.lowered.inc();
    }
}

/// The surroundings of every connector.
pub(crate) struct Run {
    sink: Arc<dyn Sink>,
    status: Arc<Status>,
    shutdown: watch::Receiver<bool>,
}

/// The time that a connector waits before it submits a refused record again.
const RETRY: Duration = Duration::from_millis(500);

impl Run {
    /// Waits for a while; `false` where the connector shall stop.
    async fn sleep(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            _ = self.shutdown.wait_for(|stop| *stop) => false,
        }
    }

    fn stopping(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// Hands over a record until it is taken; `false` where the connector shall stop.
    async fn submit(&mut self, record: &Record) -> bool {
        loop {
            if self.stopping() {
                return false;
            }
            match self.sink.submit(&self.status.name, record.clone()).await {
                Ok(()) => {
                    self.status.took(record.columns.len());
                    self.status.set("running");
                    return true;
                }
                Err(error @ SinkError::Later(_)) => self.status.failed("waiting", error.to_string()),
                Err(error @ SinkError::Refused(_)) => {
                    self.status.failed("stopped", error.to_string());
                    return false;
                }
                Err(SinkError::Stopping) => return false,
            }
            if !self.sleep(RETRY).await {
                return false;
            }
        }
    }
}
