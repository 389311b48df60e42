//! The node: wires the parts together, and is the only place that knows them all.

mod access;
mod alarms;
mod applied;
mod audit;
mod backup;
mod capsule;
mod catalogs;
mod clock;
mod connectors;
mod consents;
mod contexts;
mod copies;
mod dead_letters;
mod descriptors;
mod drive;
mod facade;
mod figures;
mod halt;
mod histories;
mod ingest;
mod install;
mod installations;
mod intents;
mod keep_up;
mod kept;
mod left;
mod loading;
mod mapped;
mod never_used;
mod obedient;
mod outdated;
mod outgoing;
mod packages;
mod pages;
mod paths;
mod platform;
mod points;
mod problems;
mod purge;
mod rehearsals;
mod reload;
mod replay;
mod reset;
mod retention;
mod retention_warnings;
mod revise;
mod rollback;
mod sink;
mod space;
mod standing;
mod start;
mod state;
mod status;
mod streams;
mod tenants;
#[cfg(test)]
mod tests;
mod told;
mod trust;
mod units;
mod unused;
mod usage;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::paths::PathOrder;
pub(crate) use self::start::start;
use self::streams::OpenStreams;
use crate::access::{Deed, current};
use crate::api::facade::{Answer, Problem, RETRY_SOON};
use crate::api::tls::Tls;
use crate::aside::aside;
use crate::config::{Config, Source};
use crate::connectors::{Connectors, Wanted};
use crate::fold::Shared;
use crate::fold::routes::PreparedRoutes;
use crate::fold::run::Threads;
use crate::fold::submission::{self, LookSubmission, Refusal, Submission};
use crate::lanes::run::Runner;
use crate::lanes::{Lane, Lanes};
use crate::records::admin::{AdminRecord, Ended};
use crate::records::installation::Installation;
use crate::telemetry::Telemetry;
use ironloom_sandbox::Sandbox;
use ironloom_storage::log::CommitterHandle;
use ironloom_storage::store::{DataLock, Files};
use ironloom_trust::audit::Outcome;
use ironloom_types::ids::{Generation, InstallationId, LastGenerations};

/// A node that runs.
pub(crate) struct Node {
    /// As it is now; a reload puts another one in its place.
    config: ArcSwap<Config>,
    /// Its source. Held while it is read again.
    source: tokio::sync::Mutex<Source>,
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    committer: CommitterHandle<Submission>,
    sandbox: Arc<Sandbox>,
    runner: Arc<Runner>,
    packages: Arc<Files>,
    catalogs: catalogs::Catalogs,
    /// Points that connectors may write.
    mapped: mapped::Mapped,
    /// The points by path: for lists, and for what an installation is bound to.
    paths: PathOrder,
    admin: Admin,
    /// Streams of readings, and which connection has each.
    streams: OpenStreams,
    /// Installations that pushes wait for.
    waited_for: Semaphore,
    /// Pushes whose installations are looked for.
    bound_looks: Arc<Semaphore>,
    replays: Arc<Semaphore>,
    rehearsals: rehearsals::Rehearsals,
    /// The installations for which sources are slowed.
    keep_up: keep_up::KeepUp,
    expiring: retention_warnings::Expiring,
    connectors: Mutex<Option<Connectors>>,
    /// Those that are to be there: the file's and the log's.
    wanted: ArcSwap<BTreeMap<String, Wanted>>,
    threads: Mutex<Option<Threads>>,
    stopping: AtomicBool,
    /// The disk has less than `store.reserve` free besides what is owed to what was accepted.
    full: Arc<AtomicBool>,
    failure: watch::Receiver<Option<String>>,
    telemetry: Arc<Telemetry>,
    tls: Option<Arc<Tls>>,
    /// The log's figures when the metrics were last shown.
    shown: Mutex<Shown>,
    /// How the machine's clock was last set.
    clock_step: Arc<clock::LastStep>,
    /// It listens on more than loopback.
    warnings: Vec<String>,
    /// The data folder, from the root.
    data: PathBuf,
    /// Held by whoever confirms or dismisses an intent.
    confirming: tokio::sync::Mutex<()>,
    /// Ends of intents that are recorded, since the start.
    recorded: tokio::sync::watch::Sender<u64>,
    kill_switch: halt::KillSwitch,
    auditing: audit::Auditing,
    backups: Arc<Semaphore>,
    was_ready: platform::WasReady,
    started: status::Started,
    /// Bytes that the data folder took at earlier times.
    growth: Mutex<status::Growth>,
    _lock: DataLock,
}

/// The connectors that are to be there, by name.
type WantedConnectors = Arc<BTreeMap<String, Wanted>>;

/// The state that changes by admins need besides the lanes.
struct Admin {
    /// Held for the last check and the record of whatever adds or removes packages and installations,
    /// never while something is compiled, planned or counted. Holds the last generations that were given.
    installing: tokio::sync::Mutex<LastGenerations>,
    /// Installs at a time from the plan to the record: each holds the matches of its inputs.
    planning: Arc<Semaphore>,
    /// Held while an app brings its state into another form: two copies of it are in memory.
    migrating: tokio::sync::Mutex<()>,
    /// Copies that are made at a time.
    copying: Semaphore,
    /// Upgrades that have a copy made or wait for that, at a time: each holds what it has planned.
    upgrading: Semaphore,
    /// Those that are made, and those that upgrades under way will name.
    copies: Arc<Mutex<copies::UnderWay>>,
    /// Held for reading from the rest of a copy to the record that it is whole, and for writing while a backup's moment is
    /// taken: what a copy has is in no record, so no such record comes between that moment's store and its log.
    becoming_whole: tokio::sync::RwLock<()>,
    /// Held for reading from the compilation to the record that names its code.
    compiled: tokio::sync::RwLock<()>,
    loading: loading::Loading,
    contexts: contexts::Contexts,
    last_use: Arc<unused::LastUse>,
    /// The ids of which something is being purged.
    purging: Mutex<BTreeSet<InstallationId>>,
    /// Upgrades that the host could neither roll back nor commit.
    stuck: rollback::Stuck,
    /// Held by the one that has everything stand still. Has the time before which nobody does so for points.
    still: tokio::sync::Mutex<Option<tokio::time::Instant>>,
    /// Retires and renames that are under way.
    retiring: Semaphore,
    /// Held by the one that waits for `points` next to say something of a point, so that nobody stands still for a queue.
    saying: tokio::sync::Mutex<()>,
    /// Held for the record of points that are retired or renamed, from their last check on, or of what somebody says of one.
    points: tokio::sync::Mutex<()>,
    /// Held for the record of a tenant.
    tenants: tokio::sync::Mutex<()>,
    /// Held for the record of a token that is made or taken back.
    tokens: tokio::sync::Mutex<()>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            installing: tokio::sync::Mutex::default(),
            planning: Arc::new(Semaphore::new(2)),
            migrating: tokio::sync::Mutex::default(),
            copying: Semaphore::new(copies::AT_ONCE),
            upgrading: Semaphore::new(copies::UPGRADES),
            copies: Arc::default(),
            becoming_whole: tokio::sync::RwLock::new(()),
            compiled: tokio::sync::RwLock::new(()),
            loading: loading::Loading::default(),
            contexts: contexts::Contexts::default(),
            last_use: Arc::default(),
            purging: Mutex::default(),
            stuck: Mutex::default(),
            still: tokio::sync::Mutex::default(),
            retiring: Semaphore::new(points::MOST_RETIRING),
            saying: tokio::sync::Mutex::default(),
            points: tokio::sync::Mutex::default(),
            tenants: tokio::sync::Mutex::default(),
            tokens: tokio::sync::Mutex::default(),
        }
    }
}

/// The log's figures at some time: groups, records and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    groups: u64,
    records: u64,
    bytes: u64,
}

impl Node {
    /// As [`Self::change`], with the routes of the installations that it begins: none is left, whatever comes of it.
    async fn change_with(
        &self,
        record: AdminRecord,
        routes: BTreeMap<Generation, PreparedRoutes>,
    ) -> Answer<()> {
        self.shared.keep_routes(routes);
        let written = self.change(record).await;
        self.shared.keep_routes(BTreeMap::new());
        written
    }

    /// Writes a change by an admin and waits until it is durable and applied.
    async fn change(&self, record: AdminRecord) -> Answer<()> {
        self.hand_in(record)?.done().await.map_err(|refusal| problems::change_refused(&refusal))
    }

    /// Gives a change by an admin to the committer.
    fn hand_in(&self, record: AdminRecord) -> Answer<HandedIn> {
        let told = self.told_with_before(told::told(&record), &record);
        let deed = current().filter(|_| !audit::is_preparation(&record));
        let said = match &deed {
            Some(deed) => Some(audit::before::named(deed.said(Outcome::Done, "", &told), &record)),
            None => audit::of_the_host(&record, &told),
        };
        let durable = submission::submit(&self.committer, record, said);
        let durable = durable.map_err(|refusal| problems::change_refused(&refusal))?;
        Ok(HandedIn { told, deed, durable })
    }

    /// Waits until all that was submitted is applied.
    async fn pass(&self) -> Answer<()> {
        let (reply, passed) = tokio::sync::oneshot::channel();
        let look = Submission::Look(LookSubmission { request: None, reply });
        self.committer.submit(look, 0).map_err(|_| stopping())?;
        match passed.await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(stopping()),
        }
    }

    /// Waits for the turn of an installation's lane: no invocation of it runs while this is held.
    /// 404 where it is uninstalled meanwhile.
    async fn turn_of(&self, id: &InstallationId) -> Answer<Turn> {
        let turn = Turn::of(self.lane(id)?, Arc::clone(&self.lanes)).await;
        let now = self.lane(id)?;
        if Arc::ptr_eq(&now, &turn.lane) {
            Ok(turn)
        } else {
            Err(Problem::conflict("gone", "it was installed again in the meantime"))
        }
    }

    /// As [`Self::turn_of`], but ends a running invocation at once, without effect.
    async fn interrupt(&self, id: &InstallationId) -> Answer<Turn> {
        let _interrupting = self.lane(id)?.interrupt.raise();
        self.turn_of(id).await
    }

    /// Refuses installs and the like while the disk is nearly full.
    fn check_space(&self) -> Answer<()> {
        if self.full.load(std::sync::atomic::Ordering::Acquire) {
            return Err(problems::full(self.config.load().store.reserve.0));
        }
        Ok(())
    }
}

/// A change on its way to the disk.
struct HandedIn {
    told: String,
    deed: Option<Arc<Deed>>,
    durable: tokio::sync::oneshot::Receiver<Result<(), Refusal>>,
}

impl HandedIn {
    /// Waits until it is durable and applied.
    async fn done(self) -> Result<(), Refusal> {
        self.durable.await.unwrap_or(Err(Refusal::UnknownOutcome))?;
        self.deed.iter().for_each(|deed| deed.set_told());
        tracing::info!("{}", self.told);
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

impl Turn {
    /// Waits for a lane's turn. Whoever waits no longer wakes the lane as well: the turn may just have been handed over, and
    /// the lane found it taken.
    async fn of(lane: Arc<Lane>, lanes: Arc<Lanes>) -> Self {
        let mut turn = Self { permit: None, lane, lanes };
        turn.permit = turn.lane.turn().await;
        turn
    }

    /// Its generation, as it would end now: nothing else changes it while the turn is held.
    fn ended(&self) -> Ended {
        let meta = self.lane.book().meta().clone();
        Ended { installation: Installation::clone(&self.lane.installation()), meta }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.lanes.wake(&self.lane);
    }
}

/// Finds an answer aside.
async fn found_aside<T: Send + 'static>(find: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    aside(find).await.map_err(|error| problems::internal(&error))?
}

/// 503: the server stops.
fn stopping() -> Problem {
    Problem::unavailable("stopping", "the server is stopping", RETRY_SOON)
}
