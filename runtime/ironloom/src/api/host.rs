//! Start and stop of a node, for `serve`.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use super::capsule::{Capsule, Rerun};
use super::facade::{Facade, Later, Pushed};
use super::tls::Tls;
use crate::config::{Config, Source};
use crate::telemetry::Telemetry;
use ironloom_sandbox::Compiled;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::SlotName;
use ironloom_types::readings::Value;

/// The exit code after a failure of log or store: a supervisor should start the server again.
pub(crate) const STORAGE_FAILED: u8 = 75;

/// The options for starting a node.
#[derive(Debug)]
pub(crate) struct NodeOptions {
    /// The configuration, checked, its file names resolved.
    pub config: Config,
    /// The data folder, created if it doesn't exist.
    pub data: PathBuf,
    /// Things that `/readyz` keeps saying of the way it was started.
    pub warnings: Vec<String>,
    /// The token that the start makes.
    pub admin_token: AdminToken,
    /// The data goes with the process: nothing is synced to the disk.
    pub throwaway: bool,
    /// Whoever feeds it does so step by step: an app is offered all of a step at once, whatever that costs, and a timer
    /// that asks for a retry waits until it is told to. So nothing depends on how fast the machine is.
    pub by_steps: bool,
    /// The form in which apps are compiled.
    pub compiled: Compiled,
    pub telemetry: Arc<Telemetry>,
    /// The certificate of the API, which a reload reads anew.
    pub tls: Option<Arc<Tls>>,
    /// The source of the configuration, for who asks for it again.
    pub source: Source,
}

/// The token of a platform-admin that a start makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminToken {
    /// One where there is none that is valid.
    Missing,
    /// In any case: whoever had the one before has lost it.
    Anew,
    /// None: nobody else ever speaks to this node.
    Never,
}

/// Why a node didn't start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StartError {
    /// It can't start on this folder: another process has it, it is damaged, or from a newer version.
    #[error("{0}")]
    Refused(String),
    /// The disk failed: it is worth another try.
    #[error("{0}")]
    Storage(String),
}

/// Starts a node. Comes from the one place that knows all parts.
pub(crate) type Start = fn(NodeOptions) -> Result<Arc<dyn Host>, StartError>;

/// A future without a result that can fail.
pub(crate) type Soon<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The work that a node has left of all that came through a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// Invocations, now or after a back-off.
    Work,
    /// Work of an installation that stands still, and why.
    Stopped(String),
}

/// The end of a set-point, where no machine stands behind the node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SetPointEnd {
    pub time: Timestamp,
    pub output: SlotName,
    pub entity: Arc<str>,
    /// The value that was sent, or would have been, and the one that the app asked for; `None` where its point isn't known.
    pub value: Option<Value>,
    pub asked: Option<Value>,
    pub outcome: &'static str,
    /// Words for people.
    pub reason: Option<String>,
}

/// The ends of set-points, and the readings that they became.
pub(crate) type Obeyed = (Vec<SetPointEnd>, Option<Pushed>);

/// A node that runs.
pub(crate) trait Host: Facade {
    /// Moves the feed's clock on to this time, though no reading has brought it.
    fn tick(&self, at: Timestamp);
    /// The earliest time to come at which a timer is due.
    fn next_due(&self) -> Option<Timestamp>;
    /// The work that is left of the readings and timers through this time.
    fn left(&self, through: Timestamp) -> Left;
    /// The timers that have asked for a retry and wait.
    fn retrying(&self) -> Vec<String>;
    /// Lets these run again now.
    fn retry(&self, timers: &[String]);
    /// Has every set-point accepted at once that may be sent, as by machines that always obey, and records what ended since the
    /// last time; only of a node that is fed by steps. Returns that, and the readings that it became.
    fn obey(&self) -> Soon<'_, Result<Obeyed, String>>;
    /// Runs the invocations of a capsule again, with the installation of its id.
    fn run_capsule(&self, capsule: Capsule) -> Later<'_, Vec<Rerun>>;
    /// Takes nothing more, ends what is under way within 10 s, and makes durable what can be. Requests
    /// that wait are answered. Comes once. Returns what went wrong with log or store.
    fn stop(&self) -> Soon<'_, Result<(), String>>;
    /// Ready, with the reason, when log or store have failed: the process must end.
    fn failed(&self) -> Soon<'_, String>;
    /// This node, as the API sees it.
    fn facade(self: Arc<Self>) -> Arc<dyn Facade>;
}
