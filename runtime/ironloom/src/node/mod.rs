//! The node: wires the parts together, and is the only place that knows them all.

mod alarms;
mod facade;
mod ingest;
mod installations;
mod packages;
mod problems;
mod sink;
mod start;
mod views;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};

pub use self::start::start;
use crate::api::facade::{Answer, Problem, RETRY_SOON};
use crate::config::Config;
use crate::connectors::Connectors;
use crate::fold::Shared;
use crate::fold::run::Threads;
use crate::fold::submission::{AdminSubmission, Refusal, Submission};
use crate::lanes::run::Runner;
use crate::lanes::{Lane, Lanes};
use crate::records::admin::AdminRecord;
use crate::telemetry::Telemetry;
use ironloom_apps::pattern::Pattern;
use ironloom_sandbox::Sandbox;
use ironloom_storage::log::CommitterHandle;
use ironloom_storage::store::{DataLock, Files};
use ironloom_types::clock::Timestamp;

/// No clock that shows an earlier time can be right: this binary was not built yet.
const BUILT_AFTER: Timestamp = Timestamp(1_793_491_200_000_000_000);

/// A node that runs.
pub struct Node {
    config: Config,
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    committer: CommitterHandle<Submission>,
    sandbox: Arc<Sandbox>,
    runner: Arc<Runner>,
    packages: Arc<Files>,
    /// Units that the configuration gives to points.
    units: Vec<(Pattern, Arc<str>)>,
    /// Admin's changes come one after the other.
    admin: tokio::sync::Mutex<()>,
    connectors: Mutex<Option<Connectors>>,
    threads: Mutex<Option<Threads>>,
    stopping: AtomicBool,
    /// The disk has less than `store.reserve` free.
    full: Arc<AtomicBool>,
    failure: watch::Receiver<Option<String>>,
    telemetry: Arc<Telemetry>,
    /// What the log had done when the metrics were last shown.
    shown: Mutex<Shown>,
    insecure_bind: bool,
    _lock: DataLock,
}

/// What the log had done at some time: groups, records and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    groups: u64,
    records: u64,
    bytes: u64,
}

impl Node {
    /// Writes a change by an admin and waits until it is durable and applied.
    async fn change(&self, record: AdminRecord) -> Answer<()> {
        let (reply, durable) = tokio::sync::oneshot::channel();
        let bound = 64 * 1024 + ironloom_apps::manifest::MAX_MANIFEST_BYTES * 2;
        let submission = Submission::Admin(Box::new(AdminSubmission { record, reply }));
        if self.committer.submit(submission, bound).is_err() {
            return Err(stopping());
        }
        match durable.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(problems::refused(&refusal)),
            Err(_) => Err(problems::refused(&Refusal::UnknownOutcome)),
        }
    }

    /// Waits for a lane's turn: no invocation of it runs while this is held.
    async fn turn(&self, lane: &Arc<Lane>) -> Turn {
        Turn { permit: lane.turn().await, lane: Arc::clone(lane), lanes: Arc::clone(&self.lanes) }
    }

    /// Refuses installs and the like while the disk is nearly full.
    fn check_space(&self) -> Answer<()> {
        if self.full.load(std::sync::atomic::Ordering::Acquire) {
            return Err(problems::full(self.config.store.reserve.0));
        }
        Ok(())
    }
}

/// A lane's turn in the node's hands. Whatever came for the lane meanwhile found it busy: it is woken
/// at the end.
struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    lane: Arc<Lane>,
    lanes: Arc<Lanes>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.lanes.wake(&self.lane);
    }
}

/// 503: the server stops.
fn stopping() -> Problem {
    Problem::unavailable("stopping", "the server is stopping", RETRY_SOON)
}
