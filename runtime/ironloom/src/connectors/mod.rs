//! Protocol adapters that bring readings in. One file for each protocol, one variant of
//! [`ConnectorConfig`], and one life: configured, connected, run until told to stop.
//!
//! A connector hands over a record and waits until it is durable before it hands over the next, or
//! tells its source. What it needs to go on after a crash is its *receipt*, which stands in the same
//! record as the readings: so nothing is skipped, and nothing comes twice.

mod csv;
mod csv_config;
mod csv_file;
#[cfg(test)]
mod csv_tests;
mod set;
mod template;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::csv_config::CsvConfig;
pub use self::set::Connectors;
use crate::api::facade::ConnectorStatus;
use crate::config::reader::Section;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::{Columns, NewPoint};

/// The most bytes of a receipt.
pub const MAX_RECEIPT: usize = 64 << 10;

/// What a connector hands over: becomes one record of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The readings; points that the sink didn't know by a pending number.
    pub columns: Columns,
    /// The points behind the pending numbers.
    pub new_points: Vec<NewPoint>,
    /// What the connector goes on from after a restart, at most [`MAX_RECEIPT`] bytes.
    pub receipt: Vec<u8>,
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Not now: the same record may be handed over again.
    #[error("not taken for now: {0}")]
    Later(String),
    /// Never, as it stands: too many points, for example.
    #[error("refused: {0}")]
    Refused(String),
    /// The node stops.
    #[error("the server stops")]
    Stopping,
}

/// Whether a record became durable.
pub type Submitted<'a> = Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send + 'a>>;

/// Where connectors bring readings: the node.
pub trait Sink: Send + Sync {
    /// Hands over a record; ready once it is durable.
    fn submit<'a>(&'a self, connector: &'a str, record: Record) -> Submitted<'a>;
    /// Says that the source has come to this time, so that timers fire between readings under the
    /// feed's clock. Does nothing under the host's.
    fn tick(&self, at: Timestamp);
    /// The receipt of this connector's latest durable record.
    fn receipt(&self, connector: &str) -> Option<Vec<u8>>;
    /// The number of a point that is known.
    fn point(&self, path: &str) -> Option<PointNumber>;
    /// The latest `at` that is trusted; the quality of later ones is lowered.
    fn latest(&self) -> Timestamp;
}

/// How a connector is configured: `[connectors.NAME]`, told apart by `kind`.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectorConfig {
    /// `kind = "csv"`: replays a file.
    Csv(CsvConfig),
}

impl ConnectorConfig {
    /// Reads a section, with all of its errors.
    pub fn read(mut section: Section<'_, '_>) -> Option<Self> {
        let kinds = |kind: String| match kind.as_str() {
            "csv" => Ok(kind),
            _ => Err(format!("is {kind:?}, and there is only \"csv\"")),
        };
        section.checked_required("kind", kinds)?;
        CsvConfig::read(section).map(Self::Csv)
    }

    /// Its name in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
        }
    }

    /// Resolves file names that are relative to the configuration's folder.
    pub fn resolve(&mut self, folder: &std::path::Path) {
        match self {
            Self::Csv(config) => config.path = folder.join(&config.path),
        }
    }
}

/// A connector that runs.
#[derive(Debug)]
pub struct Running {
    /// How it goes.
    pub status: Arc<Status>,
    /// Ends once `shutdown` says so, or there is nothing more to read.
    pub task: tokio::task::JoinHandle<()>,
}

/// Starts a connector. It stops, its last record durable or dropped, when `shutdown` becomes true.
pub fn start(
    name: &str,
    config: ConnectorConfig,
    sink: Arc<dyn Sink>,
    shutdown: watch::Receiver<bool>,
) -> Running {
    let status = Arc::new(Status::new(name, config.kind()));
    let run = Run { sink, status: Arc::clone(&status), shutdown };
    let task = match config {
        ConnectorConfig::Csv(config) => tokio::spawn(csv::run(config, run)),
    };
    Running { status, task }
}

/// How a connector goes.
#[derive(Debug)]
pub struct Status {
    name: String,
    kind: &'static str,
    state: Mutex<(&'static str, Option<String>)>,
    readings: AtomicU64,
    lowered: AtomicU64,
}

impl Status {
    fn new(name: &str, kind: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            state: Mutex::new(("running", None)),
            readings: AtomicU64::new(0),
            lowered: AtomicU64::new(0),
        }
    }

    /// As the API shows it.
    pub fn show(&self) -> ConnectorStatus {
        let (state, last_error) = self.state.lock().clone();
        ConnectorStatus {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            state: state.to_owned(),
            readings: self.readings.load(Ordering::Relaxed),
            lowered: self.lowered.load(Ordering::Relaxed),
            last_error,
        }
    }

    /// Whether it does its work, or has done it.
    pub fn is_well(&self) -> bool {
        matches!(self.state.lock().0, "running" | "done")
    }

    fn set(&self, state: &'static str) {
        self.state.lock().0 = state;
    }

    fn failed(&self, state: &'static str, error: String) {
        tracing::warn!(connector = self.name, "{error}");
        *self.state.lock() = (state, Some(error));
    }

    fn noticed(&self, error: String) {
        self.state.lock().1 = Some(error);
    }

    fn took(&self, readings: usize) {
        self.readings.fetch_add(readings as u64, Ordering::Relaxed);
    }

    fn lowered(&self) {
        self.lowered.fetch_add(1, Ordering::Relaxed);
    }
}

/// What every connector runs with.
pub(crate) struct Run {
    sink: Arc<dyn Sink>,
    status: Arc<Status>,
    shutdown: watch::Receiver<bool>,
}

/// How long a connector waits before it hands over again what wasn't taken.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

impl Run {
    /// Waits for a while; `false` where the connector shall stop.
    async fn sleep(&mut self, time: std::time::Duration) -> bool {
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
