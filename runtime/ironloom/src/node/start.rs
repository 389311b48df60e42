//! Starts and stops a node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::facade::NodeFacade;
use super::{Node, units};
use crate::api::capsule::{Capsule, Rerun};
use crate::api::facade::{Facade, Later};
use crate::api::host::{AdminToken, Host, Left, NodeOptions, Obeyed, STORAGE_FAILED, Soon, StartError};
use crate::aside::aside;
use crate::backup::refuse_cut_off;
use crate::config::Config;
use crate::connectors::Connectors;
use crate::fold::open::{self, Disks, OpenConfig, OpenError, Opened};
use crate::fold::run::{self, Threads, Thresholds};
use crate::fold::sealer::Numberer;
use crate::fold::submission::Submission;
use crate::fold::{Shared, requests};
use crate::lanes::Lanes;
use crate::lanes::run::{BatchLimits, Pacing, Runner};
use crate::outbox::Machine;
use crate::telemetry::Telemetry;
use crate::telemetry::events::What;
use ironloom_sandbox::{Compiled, Sandbox, SandboxConfig};
use ironloom_storage::journal;
use ironloom_storage::log::{self, CommitterHandle, LogError};
use ironloom_storage::store::{self, DataLock, Files};
use ironloom_trust::key::SecretKey;
use ironloom_types::clock::{Clock, Source, Step, StepWatch, Timestamp, host_time};

/// The interval at which due timers are checked.
const TICK: Duration = Duration::from_millis(50);
/// The longest time between two checkpoints, however little there is to write.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(3600);
/// The time that running invocations have when the server stops.
const LAST_INVOCATIONS: Duration = Duration::from_secs(10);

/// Threads without which nothing can be acknowledged any more.
const VITAL: [&str; 3] = ["log-committer", "fold", "checkpoint"];

/// Ends the process where a vital thread panics: what was acknowledged is in the log, and a start
/// recovers it. Going on without that thread would leave everybody waiting.
fn end_with_vital_threads() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if std::thread::current().name().is_some_and(|name| VITAL.contains(&name)) {
            std::process::exit(i32::from(STORAGE_FAILED));
        }
    }));
}

/// Opens the data folder and starts everything. Blocks; called within a tokio runtime, on a thread
/// that may block.
pub(crate) fn start(options: NodeOptions) -> Result<Arc<dyn Host>, StartError> {
    end_with_vital_threads();
    super::descriptors::raise_limit();
    start_node(options).map(|node| Arc::new(NodeFacade(node)) as _)
}

/// Opens the data folder and starts everything, as [`start`] does, and leaves the process as it is.
pub(super) fn start_node(options: NodeOptions) -> Result<Arc<Node>, StartError> {
    let NodeOptions {
        config,
        data,
        warnings,
        admin_token,
        throwaway,
        by_steps,
        compiled,
        telemetry,
        tls,
        source,
    } = options;
    let folders = Folders::prepare(&data, &config, compiled)?;
    let lanes = Arc::new(Lanes::new(data.join("app-logs")));
    let opened = open_data(&data, throwaway, &config, &telemetry, &lanes)?;
    sweep_packages(&folders.packages, &opened.shared);
    warn_of_clock(&opened.shared.clock);
    let core = Core::start(opened, &config)?;
    let audit_key = prepare(&core, (&lanes, &config), &data, admin_token)?;
    let kill_switch = super::halt::KillSwitch::open(&data, &core.shared);
    let folder = source.folder().to_owned();
    let catalogs = super::catalogs::Catalogs::open(folders.catalogs, &core.shared.catalogs.read());
    let node = Arc::new(Node {
        runner: Arc::new(runner(&core, &lanes, &folders.sandbox, &config, by_steps)),
        config: ArcSwap::from_pointee(config),
        source: tokio::sync::Mutex::new(source),
        shared: core.shared,
        lanes,
        committer: core.committer,
        sandbox: folders.sandbox,
        packages: folders.packages,
        catalogs,
        mapped: super::mapped::Mapped::default(),
        paths: super::paths::PathOrder::default(),
        admin: super::Admin::default(),
        streams: super::streams::OpenStreams::default(),
        waited_for: tokio::sync::Semaphore::new(super::applied::MAX_WAITED_FOR),
        bound_looks: Arc::new(tokio::sync::Semaphore::new(super::applied::MAX_BOUND_LOOKS)),
        replays: Arc::new(tokio::sync::Semaphore::new(1)),
        rehearsals: super::rehearsals::Rehearsals::new(compiled),
        keep_up: super::keep_up::KeepUp::default(),
        expiring: super::retention_warnings::Expiring::default(),
        connectors: Mutex::new(Some(Connectors::default())),
        wanted: ArcSwap::default(),
        threads: Mutex::new(Some(core.threads)),
        stopping: AtomicBool::new(false),
        full: Arc::new(AtomicBool::new(false)),
        failure: core.failure,
        telemetry,
        tls,
        shown: Mutex::default(),
        clock_step: Arc::default(),
        warnings,
        data: std::path::absolute(&data).unwrap_or_else(|_| data.clone()),
        kill_switch,
        auditing: super::audit::Auditing::new(audit_key),
        confirming: tokio::sync::Mutex::default(),
        recorded: watch::Sender::new(0),
        backups: Arc::new(tokio::sync::Semaphore::new(1)),
        was_ready: super::platform::WasReady::default(),
        started: super::status::Started::now(),
        growth: Mutex::default(),
        _lock: folders.lock,
    });
    super::halt::watch(&node).map_err(start_error)?;
    node.wanted.store(node.wanted_connectors(&node.config.load(), &folder));
    start_tasks(&node, by_steps);
    Ok(node)
}

/// Gives points their units and people their first token, and tells of what is out of date. Returns the key of the audit log.
fn prepare(
    core: &Core,
    (lanes, config): (&Lanes, &Config),
    data: &Path,
    admin_token: AdminToken,
) -> Result<SecretKey, StartError> {
    units::give(&core.shared.points, &config.points, &core.committer);
    super::outdated::tell(lanes, config);
    super::access::make_first_token(data, &core.shared, &core.committer, admin_token)?;
    super::audit::key(data).map_err(start_error)
}

/// The parts of the data folder that know nothing of the log.
struct Folders {
    lock: DataLock,
    sandbox: Arc<Sandbox>,
    packages: Arc<Files>,
    catalogs: Files,
}

impl Folders {
    /// Makes the folder where it isn't there, and keeps other processes out of it.
    fn prepare(data: &Path, config: &Config, compiled: Compiled) -> Result<Self, StartError> {
        ironloom_storage::folders::make(data)
            .map_err(|source| OpenError::Io {
                what: "make the data folder",
                path: data.display().to_string(),
                source,
            })
            .map_err(start_error)?;
        if ironloom_storage::folders::is_open_to_all(data).unwrap_or(false) {
            tracing::warn!(
                folder = %data.display(),
                "every user of this machine can read the data folder; `chmod o-rwx` closes it"
            );
        }
        let lock = DataLock::acquire(data).map_err(start_error)?;
        refuse_cut_off(data).map_err(start_error)?;
        // The running binary, even if another version has replaced its file: the engine that compiles is then the
        // engine that loads the code.
        let worker = PathBuf::from("/proc/self/exe");
        let sandbox = SandboxConfig {
            code: config.sandbox.code.0,
            allocator: config.sandbox.allocator,
            compiled,
            ..SandboxConfig::new(data.join("code"), worker)
        };
        let sandbox = Sandbox::new(sandbox).map_err(start_error)?;
        let packages = Files::open(&data.join("packages")).map_err(start_error)?;
        let catalogs = Files::open(&data.join("catalogs")).map_err(start_error)?;
        Ok(Self { lock, sandbox: Arc::new(sandbox), packages: Arc::new(packages), catalogs })
    }
}

/// Opens store and log, and folds what the store lacks.
fn open_data(
    data: &Path,
    throwaway: bool,
    config: &Config,
    telemetry: &Telemetry,
    lanes: &Arc<Lanes>,
) -> Result<Opened, StartError> {
    super::space::make_room(data).map_err(start_error)?;
    let storage =
        store::open(config.store.engine, &data.join("store"), engine_cache(config)).map_err(start_error)?;
    let begun = Instant::now();
    let open_config = OpenConfig {
        log: log_config(config),
        clock: config.site.clock,
        request_keys: requests::MOST,
        block_file_bytes: journal::FILE_BYTES,
    };
    let metrics = Arc::new(telemetry.metrics.clone());
    let opened = Disks::of_folder(data, storage, throwaway)
        .and_then(|disks| open::open(disks, &open_config, metrics, Arc::clone(lanes) as _))
        .map_err(start_error)?;
    tracing::info!(records = opened.replayed, took = ?begun.elapsed(), "the data folder is open");
    Ok(opened)
}

fn log_config(config: &Config) -> log::Config {
    log::Config { segment_bytes: config.log.segment.0, max_bytes: config.log.max.0, ..log::Config::default() }
}

/// The part of `store.cache` that is the engine's own: an eighth, which the inner pages of a few million keys take; the
/// system caches its file as well. The rest holds the apps' state.
fn engine_cache(config: &Config) -> u64 {
    config.store.cache.0 / 8
}

/// The threads that write the log, fold it and make checkpoints, and what others need of them.
struct Core {
    shared: Arc<Shared>,
    committer: CommitterHandle<Submission>,
    threads: Threads,
    /// The error of the log or a checkpoint, if one failed.
    failure: watch::Receiver<Option<String>>,
}

impl Core {
    fn start(opened: Opened, config: &Config) -> Result<Self, StartError> {
        let (failed, failure) = watch::channel(None);
        let checkpoint_failed = failed.clone();
        let (to_fold, inbox) = channel();
        let shared = opened.shared;
        let numberer = Numberer::new(
            Arc::clone(&shared.clock),
            Arc::clone(&shared.points),
            opened.numbers,
            to_fold.clone(),
            shared.metrics.log_sync.clone(),
            Box::new(move |error: &LogError| {
                failed.send_replace(Some(error.to_string()));
            }),
        );
        let committer = opened.log.start(numberer).map_err(start_error)?;
        let parts = run::Parts {
            shared: Arc::clone(&shared),
            applier: opened.applier,
            log: committer.reader(),
            folded: opened.fold.position,
            applied: opened.position,
            epoch: opened.epoch,
            thresholds: Thresholds {
                log_bytes: config.log.checkpoint.0,
                dirty_bytes: bytes(config.store.dirty.0),
                cache_bytes: bytes(config.store.cache.0 - engine_cache(config)),
                at_least_every: CHECKPOINT_EVERY,
                at_stop: config.log.fold_at_stop.duration(),
            },
            on_failure: Box::new(move |error| {
                checkpoint_failed.send_replace(Some(error.to_string()));
            }),
        };
        let threads = run::start(parts, &to_fold, inbox).map_err(start_error)?;
        Ok(Self { shared, committer, threads, failure })
    }
}

/// The most that one invocation is offered.
pub(super) fn batch_limits(config: &Config) -> BatchLimits {
    BatchLimits { readings: config.batch.max_readings as usize, bytes: bytes(config.batch.max_bytes.0) }
}

fn runner(
    core: &Core,
    lanes: &Arc<Lanes>,
    sandbox: &Arc<Sandbox>,
    config: &Config,
    by_steps: bool,
) -> Runner {
    let pacing = if by_steps { Pacing::BySteps } else { Pacing::Measured };
    let limits = batch_limits(config);
    let cores = ironloom_sandbox::cores();
    let shared = Arc::clone(&core.shared);
    Runner::new(shared, Arc::clone(lanes), Arc::clone(sandbox), core.committer.clone(), limits, pacing, cores)
}

/// Starts what runs beside the threads: lanes, timers, the watch over the disk, connectors.
fn start_tasks(node: &Arc<Node>, by_steps: bool) {
    let runtime = Handle::current();
    runtime.spawn(Arc::clone(&node.runner).run());
    let (shared, clock_step) = (Arc::clone(&node.shared), Arc::clone(&node.clock_step));
    runtime.spawn(watch_timers(shared, node.committer.clone(), clock_step));
    runtime.spawn(super::space::watch(Arc::downgrade(node)));
    runtime.spawn(super::keep_up::watch(Arc::downgrade(node)));
    runtime.spawn(super::purge::watch_weeks(Arc::downgrade(node)));
    runtime.spawn(super::copies::watch(Arc::downgrade(node)));
    runtime.spawn(super::rollback::watch(Arc::downgrade(node)));
    runtime.spawn(super::retention::watch(Arc::downgrade(node)));
    runtime.spawn(super::loading::keep_loaded(Arc::downgrade(node)));
    runtime.spawn(super::unused::drop_unused(Arc::downgrade(node)));
    runtime.spawn(super::status::watch_growth(Arc::downgrade(node)));
    runtime.spawn(super::usage::watch(Arc::downgrade(node)));
    runtime.spawn(super::audit::watch(Arc::downgrade(node)));
    if !by_steps {
        runtime.spawn(super::drive::write_ends(Arc::downgrade(node)));
        runtime.spawn(super::drive::watch_lives(Arc::downgrade(node)));
    }
    let _guard = runtime.enter();
    node.start_connectors();
    if by_steps {
        node.route_to_obedient();
    }
}

/// A size of the configuration as memory counts it.
fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// What the system refused may come right by itself or with room on the disk: it is worth another start. What is
/// wrong in the data folder or in the configuration isn't.
fn start_error<E: std::error::Error + 'static>(error: E) -> StartError {
    use std::io::ErrorKind;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(found) = cause {
        let io = found.downcast_ref::<std::io::Error>();
        let io = io.or_else(|| found.downcast_ref::<Arc<std::io::Error>>().map(|io| &**io));
        match io.map(std::io::Error::kind) {
            None => cause = found.source(),
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                return StartError::Storage(format!(
                    "{error}. Free space on the disk of the data folder; the files in its `code` may be removed now."
                ));
            }
            Some(
                ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::AlreadyExists
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidData
                | ErrorKind::UnexpectedEof,
            ) => return StartError::Refused(error.to_string()),
            Some(_) => return StartError::Storage(error.to_string()),
        }
    }
    StartError::Refused(error.to_string())
}

/// Removes package files of which no record tells: an upload was cut off before its record, or a removal after it.
fn sweep_packages(files: &Files, shared: &Shared) {
    let known: std::collections::BTreeSet<String> =
        shared.packages.read().values().map(|known| known.record.file_name()).collect();
    match files.keep_only(|name| known.contains(name)) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "package files that nothing refers to are gone"),
        Err(error) => tracing::warn!(%error, "package files that nothing refers to could not be removed"),
    }
}

/// Tells the lanes when time has come to a timer though no record has. Under the feed's clock time
/// moves with the feed alone, and whoever moves it tells.
async fn watch_timers(
    shared: Arc<Shared>,
    committer: CommitterHandle<Submission>,
    clock_step: Arc<super::clock::LastStep>,
) {
    let mut every = tokio::time::interval(TICK);
    let mut steps = StepWatch::new(host_time(), Instant::now());
    loop {
        every.tick().await;
        if let Some(step) = steps.look(host_time(), Instant::now()) {
            let Step { from, to } = step;
            tracing::warn!(%from, %to, "the machine's clock was set");
            shared.metrics.events.tell(What::Clock { state: "stepped" });
            clock_step.take(step);
            warn_of_clock(&shared.clock);
        }
        let now = shared.clock.now();
        let due = shared.next_due().is_some_and(|due| due <= now);
        if due && committer.submit(Submission::Tick(now), 0).is_err() {
            return;
        }
    }
}

/// Says once what is wrong with the machine's clock; `/readyz` goes on saying it.
fn warn_of_clock(clock: &Clock) {
    match (clock.source(), clock.host()) {
        (Source::Host, Err(fault)) => {
            tracing::warn!(%fault, "the machine's clock can't be right; readings without `at` are refused")
        }
        _ => {
            if let Some(note) = super::clock::note(clock) {
                tracing::warn!("{note}");
            }
        }
    }
}

impl Host for NodeFacade {
    fn tick(&self, at: Timestamp) {
        // If the committer has stopped, there is no clock to move.
        let _ = self.0.committer.submit(Submission::Tick(at), 0);
    }

    fn run_capsule(&self, capsule: Capsule) -> Later<'_, Vec<Rerun>> {
        Box::pin(self.0.run_capsule(capsule))
    }

    fn next_due(&self) -> Option<Timestamp> {
        // By the lanes' own books: what is kept of their times follows a moment later.
        let horizon = self.0.shared.horizon();
        let timers = self.0.lanes.all().iter().filter_map(|lane| lane.book().next_due_after(horizon)).min();
        let lives = self.0.shared.outbox.look(Machine::next_deadline).filter(|at| *at > horizon);
        timers.into_iter().chain(lives).min()
    }

    fn left(&self, through: Timestamp) -> Left {
        self.0.left(through)
    }

    fn obey(&self) -> Soon<'_, Result<Obeyed, String>> {
        Box::pin(async { self.0.obey().await.map_err(|not_taken| not_taken.words()) })
    }

    fn retrying(&self) -> Vec<String> {
        self.0.retrying()
    }

    fn retry(&self, timers: &[String]) {
        self.0.retry(timers);
    }

    fn stop(&self) -> Soon<'_, Result<(), String>> {
        Box::pin(async {
            let node = &self.0;
            node.stopping.store(true, Ordering::Release);
            // Connectors and invocations that wait there would hold up their end.
            node.shared.close_point_places();
            let connectors = node.connectors.lock().take();
            if let Some(connectors) = connectors {
                connectors.stop().await;
            }
            node.runner.stop(LAST_INVOCATIONS).await;
            let (committer, threads) = (node.committer.clone(), node.threads.lock().take());
            let ended = aside(move || {
                let log = committer.stop().map_err(|error| format!("the log did not end cleanly: {error}"));
                let folded = threads.map_or(Ok(()), Threads::join);
                let folded = folded.map_err(|error| format!("the last checkpoint failed: {error}"));
                log.and(folded)
            });
            let ended = ended.await.unwrap_or_else(|error| Err(error.to_string()));
            ended.inspect_err(|problem| tracing::error!(problem, "the next start recovers what is durable"))
        })
    }

    fn failed(&self) -> Soon<'_, String> {
        Box::pin(async {
            let mut failure = self.0.failure.clone();
            let reason = failure.wait_for(Option::is_some).await.map(|reason| reason.clone());
            match reason {
                Ok(reason) => reason.unwrap_or_default(),
                // Its sender went with the threads: the end was asked for.
                Err(_) => std::future::pending().await,
            }
        })
    }

    fn facade(self: Arc<Self>) -> Arc<dyn Facade> {
        self
    }
}

#[cfg(test)]
mod tests;
