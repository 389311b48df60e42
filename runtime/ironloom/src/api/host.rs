//! Start and stop of a node, for `serve`.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use super::facade::Facade;
use crate::config::Config;
use crate::telemetry::Telemetry;

/// The exit code after a failure of log or store: a supervisor should start the server again.
pub(crate) const STORAGE_FAILED: u8 = 75;

/// The options for starting a node.
#[derive(Debug)]
pub(crate) struct NodeOptions {
    /// The configuration, checked, its file names resolved.
    pub config: Config,
    /// The data folder, created if it doesn't exist.
    pub data: PathBuf,
    /// Listens on more than loopback: `/readyz` keeps saying so.
    pub exposed: bool,
    pub telemetry: Arc<Telemetry>,
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

/// A node that runs.
pub(crate) trait Host: Facade {
    /// Takes nothing more, ends what is under way within 10 s, and makes durable what can be. Requests
    /// that wait are answered. Comes once. Returns what went wrong with log or store.
    fn stop(&self) -> Soon<'_, Result<(), String>>;
    /// Ready, with the reason, when log or store have failed: the process must end.
    fn failed(&self) -> Soon<'_, String>;
    /// This node, as the API sees it.
    fn facade(self: Arc<Self>) -> Arc<dyn Facade>;
}
