//! The log's fold in memory: points, latest values, the journal's tail, lanes, and the keys
//! that changed. One thread applies what the committer has flushed, in order; a checkpoint writes it
//! to the store behind.
//!
//! Live and at a restart the same code applies the same records.

pub(crate) mod alarm_news;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod catch_up;
pub(crate) mod checkpoint;
pub(crate) mod copies;
mod damage;
mod due;
pub(crate) mod durable;
pub(crate) mod episodes;
pub(crate) mod expired;
pub(crate) mod interner;
pub(crate) mod invocations;
pub(crate) mod journal;
mod kept;
pub(crate) mod left_out;
pub(crate) mod letters;
pub(crate) mod moment;
pub(crate) mod new_points;
pub(crate) mod open;
pub(crate) mod overlay;
pub(crate) mod past;
pub(crate) mod points;
mod published;
pub(crate) mod queue;
pub(crate) mod requests;
mod retired;
mod room;
pub(crate) mod routes;
pub(crate) mod run;
pub(crate) mod sealer;
pub(crate) mod slab;
pub(crate) mod sources;
pub(crate) mod stored;
pub(crate) mod streams;
pub(crate) mod stretches;
pub(crate) mod submission;
pub(crate) mod tenants;
pub(crate) mod tokens;
mod unfolded;
pub(crate) mod waits;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use self::alarm_news::NewsCount;
use self::copies::Copies;
use self::due::Due;
use self::durable::{Durable, Durables, Listener};
use self::interner::Interner;
use self::invocations::Invocations;
use self::journal::Journal;
pub(crate) use self::journal::Retention;
pub(crate) use self::kept::OneShots;
use self::left_out::LeftOutPoints;
use self::overlay::Overlay;
use self::points::Points;
use self::queue::NoteBudget;
use self::retired::RetiredPoints;
use self::routes::PreparedRoutes;
use self::sources::Sources;
pub(crate) use self::stored::{BELIEVED_AFTER, FoldPosition, Removed};
use self::streams::Streams;
use self::waits::Waits;
use crate::outbox::Outbox;
use crate::records::admin::PackageRecord;
use crate::records::catalog::CatalogRecord;
use crate::records::connector::ConnectorRecord;
use crate::records::consent::ConsentRecord;
use crate::records::installation::Revision;
use crate::records::owner::AppOwner;
use crate::telemetry::Metrics;
use crate::telemetry::events::What;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::{LeftOut, Rematched, RoutingTable};
use ironloom_storage::store::{CacheBudget, Storage};
use ironloom_types::clock::{Clock, Timestamp};
use ironloom_types::ids::{AppId, Digest, Generation, InstallationId, LastGenerations, Position, TenantId};

/// The state of the fold that everybody sees.
pub(crate) struct Shared {
    /// The clock that gives journal time.
    pub clock: Arc<Clock>,
    /// Paths, units and latest values.
    pub points: Arc<Points>,
    /// Counts of what sources have brought since the start.
    pub sources: Sources,
    /// Points that readings on their way may still have.
    pub retired: RetiredPoints,
    /// For new points on their way.
    point_places: new_points::Places,
    pub journal: Journal,
    /// The lanes that want each point.
    pub routing: RwLock<RoutingTable>,
    /// Routes of the installations that are about to begin.
    prepared: Mutex<BTreeMap<Generation, PreparedRoutes>>,
    /// Points that match an input and are left out.
    pub left_out: LeftOutPoints,
    /// The installations: the durable half of each lane.
    pub lanes: Durables,
    /// Whoever runs their invocations.
    listener: Arc<dyn Listener>,
    /// What the state of all installations may keep in memory of what is in the store.
    pub cache: Arc<CacheBudget>,
    /// Bytes that notes of what waits may keep in memory.
    note_budget: Arc<NoteBudget>,
    /// Whoever waits until installations have dealt with readings.
    waits: Waits,
    /// Keys whose changes no checkpoint has folded.
    pub overlay: Overlay,
    /// The count of the changes of alarms.
    pub alarm_news: NewsCount,
    /// Summaries of invocations.
    pub invocations: Invocations,
    /// The store that the checkpoints write.
    pub storage: Arc<dyn Storage>,
    /// The packages there are.
    pub packages: RwLock<BTreeMap<Digest, Arc<KnownPackage>>>,
    /// Which packages each tenant has.
    pub holdings: RwLock<BTreeSet<(TenantId, Digest)>>,
    /// The connectors' notes of how far they have come.
    pub receipts: RwLock<BTreeMap<Box<str>, Bytes>>,
    /// The connectors that people added or stopped, by name.
    pub connectors: RwLock<BTreeMap<Box<str>, ConnectorRecord>>,
    /// The catalogs that people added, by name.
    pub catalogs: RwLock<BTreeMap<Box<str>, CatalogRecord>>,
    /// The ends of the audit log's chains.
    pub audit: audit::AuditLog,
    /// The tenants that were added.
    pub tenants: RwLock<tenants::Tenants>,
    /// The tokens of people and machines.
    pub tokens: RwLock<tokens::Tokens>,
    /// The upgrades that wait for consent, by installation.
    pub consents: RwLock<BTreeMap<InstallationId, ConsentRecord>>,
    /// Whose each app id is that was installed in a tenant.
    pub owners: RwLock<BTreeMap<(TenantId, AppId), AppOwner>>,
    /// The streams with a key, with their progress.
    pub streams: RwLock<Streams>,
    /// Generations of installations that are gone, of which something is still kept.
    pub removed: Mutex<BTreeMap<Generation, Gone>>,
    /// Copies of generations: those that are kept, and those that are made.
    pub copies: Copies,
    /// Requests to the checkpoint thread.
    wishes: run::Wishes,
    pub metrics: Arc<Metrics>,
    /// Set-points on their way to machines.
    pub outbox: Outbox,
    /// Everything with an earlier journal time is routed.
    horizon: AtomicU64,
    /// Lanes by when their next timer is due.
    due: Mutex<Due>,
    /// The last generation of each tenant that is installed, or was.
    generations: Mutex<LastGenerations>,
    /// Bytes of lanes' state that no checkpoint has folded, of lanes that are gone as well.
    dirty_state: AtomicUsize,
    /// Bytes that wait for a checkpoint, as of the last count.
    dirty: AtomicUsize,
    /// `store.dirty`: the bytes that may.
    dirty_limit: AtomicUsize,
    /// Bytes that waited, and that checkpoints have given back.
    given_back: AtomicU64,
    /// Installations that are gone, until their clean state is forgotten: nobody reads it any more.
    leaving: Mutex<Vec<Weak<Durable>>>,
    /// The last position that a checkpoint has brought to the store.
    folded: AtomicU64,
    /// The last position of which something may be applied.
    applied: AtomicU64,
    /// Says whether the disk is nearly full, so that no lane may start.
    disk_full: AtomicBool,
    /// Set where the process is about to end, so that nothing waits for room on the disk: when no checkpoint goes on.
    ends: OnceLock<Instant>,
}

/// A package with its manifest.
#[derive(Debug)]
pub(crate) struct KnownPackage {
    /// As the log and the store keep it.
    pub record: PackageRecord,
    /// The manifest that it carries.
    pub manifest: Arc<Manifest>,
    /// The settings that its installations have.
    settings: Mutex<Interner<BTreeMap<String, String>>>,
}

impl KnownPackage {
    pub(crate) fn new(record: PackageRecord, manifest: Arc<Manifest>) -> Self {
        Self { record, manifest, settings: Mutex::default() }
    }

    /// The same revision, with what it has in common with others in memory once: many installations of an app have
    /// the same settings, and all have the names of its manifest.
    pub(crate) fn share(&self, revision: &mut Revision) {
        revision.settings = self.settings.lock().one(Arc::clone(&revision.settings));
        // One that comes from a plan has the names already, and is shared with it.
        if let Some(bindings) = Arc::get_mut(&mut revision.bindings) {
            bindings.share_names(&self.manifest);
        }
    }
}

/// An installation that is gone, of which something is still kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Its id, which another may have by now.
    pub installation: InstallationId,
    pub removed: Removed,
    /// The package that an installation which adopts it can go on with; `None` once it is to be purged.
    pub package: Option<Digest>,
}

/// Reads the store on a thread that may wait for the disk.
pub(crate) async fn read_aside<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    shared: &Arc<Shared>,
    read: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    let shared = Arc::clone(shared);
    let read = crate::aside::aside(move || read(&shared)).await;
    read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

impl Shared {
    /// Sends whoever waits for a place of new points away, and whoever would have to wait from here on.
    pub(crate) fn close_point_places(&self) {
        self.point_places.close();
    }

    /// The fold as of a fold position, before points and lanes are brought in.
    fn new(
        clock: Arc<Clock>,
        journal: Journal,
        storage: Arc<dyn Storage>,
        fold: &FoldPosition,
        metrics: Arc<Metrics>,
        listener: Arc<dyn Listener>,
    ) -> Self {
        Self {
            clock,
            points: Arc::new(Points::default()),
            sources: Sources::default(),
            retired: RetiredPoints::default(),
            point_places: new_points::Places::default(),
            journal,
            routing: RwLock::new(RoutingTable::new()),
            prepared: Mutex::default(),
            left_out: LeftOutPoints::default(),
            // As much as there is, until the threads are started.
            cache: CacheBudget::new(usize::MAX),
            lanes: Durables::default(),
            listener,
            note_budget: Arc::default(),
            waits: Waits::default(),
            overlay: Overlay::new(Arc::clone(&storage)),
            invocations: Invocations::new(Arc::clone(&storage)),
            storage,
            packages: RwLock::default(),
            alarm_news: NewsCount::default(),
            holdings: RwLock::default(),
            receipts: RwLock::default(),
            connectors: RwLock::default(),
            catalogs: RwLock::default(),
            audit: audit::AuditLog::default(),
            tenants: RwLock::default(),
            tokens: RwLock::default(),
            consents: RwLock::default(),
            owners: RwLock::default(),
            streams: RwLock::new(Streams::new()),
            removed: Mutex::default(),
            copies: Copies::default(),
            wishes: run::Wishes::default(),
            metrics,
            outbox: Outbox::default(),
            horizon: AtomicU64::new(fold.time.0),
            due: Mutex::default(),
            generations: Mutex::new(fold.generations.clone()),
            dirty_state: AtomicUsize::new(0),
            dirty: AtomicUsize::new(0),
            // Any, until the threads are started.
            dirty_limit: AtomicUsize::new(usize::MAX),
            given_back: AtomicU64::new(0),
            leaving: Mutex::default(),
            folded: AtomicU64::new(fold.position.0),
            applied: AtomicU64::new(fold.position.0),
            disk_full: AtomicBool::new(false),
            ends: OnceLock::new(),
        }
    }

    /// Everything with an earlier journal time is routed.
    pub(crate) fn horizon(&self) -> Timestamp {
        Timestamp(self.horizon.load(Ordering::SeqCst))
    }

    /// The earliest time behind the horizon at which a timer of any lane is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.lock().next()
    }

    /// Says whether the disk is nearly full.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Acquire)
    }

    /// Says whether the disk is nearly full.
    pub(crate) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Release);
    }

    /// Ends waiting for room on the disk, and checkpoints once this time is over.
    pub(crate) fn stop(&self, within: Duration) {
        let _ = self.ends.set(Instant::now() + within);
    }

    /// Says if the process is about to end and checkpoints have had their time.
    fn is_over(&self) -> bool {
        self.ends.get().is_some_and(|ends| *ends <= Instant::now())
    }

    /// Says whether the process is about to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.ends.get().is_some()
    }

    /// The last position of which something may be applied.
    fn applied(&self) -> Position {
        Position(self.applied.load(Ordering::Acquire))
    }

    /// Bytes that wait for a checkpoint.
    #[cfg(test)]
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.load(Ordering::Acquire)
    }

    /// The last generation of a tenant that is installed, or was.
    pub(crate) fn last_generation(&self, tenant: TenantId) -> Generation {
        self.generations.lock().of(tenant)
    }

    fn last_generations(&self) -> LastGenerations {
        self.generations.lock().clone()
    }

    /// Counts points that match an input and are left out.
    fn note_left_out(&self, left_out: &[LeftOut]) {
        if left_out.is_empty() {
            return;
        }
        self.left_out.note(left_out, &self.points.names());
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for one in left_out {
            *counts.entry(one.lane).or_default() += 1;
        }
        for (number, count) in counts {
            if let Some(lane) = self.lanes.get(number) {
                let installation = lane.id.clone();
                self.metrics.events.tell_sparingly(What::PointsLeftOut { installation, count });
            }
        }
    }

    /// Counts anew the points that were left out and those that are now.
    fn note_rematched(&self, rematched: &Rematched) {
        self.left_out.forget(&rematched.were_left_out);
        self.note_left_out(&rematched.left_out);
    }

    /// Notes when a lane's next timer is due.
    fn note_due(&self, lane: &Durable) {
        let next = lane.book().next_due_after(self.horizon());
        self.due.lock().set(lane.number, next);
    }

    /// Moves the horizon on, and wakes the lanes whose timers become due by it. Each hears of it once: one that
    /// can't run then looks again by itself when it can.
    fn advance(&self, time: Timestamp) {
        self.horizon.fetch_max(time.0, Ordering::SeqCst);
        let come = self.due.lock().take(time);
        for lane in come.into_iter().filter_map(|number| self.lanes.get(number)) {
            self.note_due(&lane);
            self.listener.wake(lane.number);
        }
    }
}
