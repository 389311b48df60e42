//! Lanes: each runs one installation's invocations one after the other, side by side with others.
//!
//! A lane pulls from its queue of notes, offers its app a batch, and submits what came of it as one
//! record. Its next invocation starts when that record is durable. Nothing that writes the log waits
//! for a lane.
//!
//! A lane has two halves. What the log decides is the fold's ([`Durable`]); what only this process knows,
//! such as back-offs, the size of the next offer and the app's code, is here.

pub(crate) mod app_log;
pub(crate) mod batch;
pub(crate) mod bucket;
pub(crate) mod context;
pub(crate) mod digest;
pub(crate) mod log_file;
pub(crate) mod outcome;
pub(crate) mod pace;
pub(crate) mod policy;
pub(crate) mod price;
pub(crate) mod rate;
pub(crate) mod rehearsal;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod scheduler;
pub(crate) mod targets;
pub(crate) mod work;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use self::app_log::{AppLogs, InstallationLog};
use self::batch::EntityNumbers;
use self::bucket::Bucket;
use self::pace::Pace;
use self::rate::Meter;
use self::scheduler::{Length, Scheduler};
use self::targets::Targets;
use crate::fold::durable::{Durable, Listener, Term};
use crate::fold::slab::Slab;
use crate::records::installation::Revision;
use ironloom_apps::binding::Target;
use ironloom_apps::manifest::{self, Manifest};
use ironloom_apps::pattern::Pattern;
use ironloom_apps::wiring::{Neighbour, Neighbours, Wiring};
use ironloom_sandbox::{AppContext, Interrupt, LoadedApp, OutputKind, OutputSlot};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, Generation, InstallationId, TenantId};
use ironloom_types::limits::Limits;

/// One installation at work: what is durable of it, and what this process adds.
pub(crate) struct Lane {
    durable: Arc<Durable>,
    /// Back-off and batch size.
    pub pace: Mutex<Pace>,
    /// Its app's log.
    pub log: InstallationLog,
    /// Ends the invocation under way.
    pub interrupt: Interrupt,
    /// Whoever holds this runs an invocation, or changes the lane between two of them.
    turn: Arc<tokio::sync::Semaphore>,
    /// The code of each revision's app, once it is loaded.
    apps: RwLock<BTreeMap<ids::Revision, App>>,
    /// The memory from one invocation under a revision to the next.
    entity_numbers: Mutex<Remembered<EntityNumbers>>,
    /// Measures what it does in each second.
    pub meter: Meter,
    /// The points of outputs.
    targets: Mutex<Remembered<Targets>>,
    /// What it has used so far by the scheduler's measure, in nanoseconds.
    used: AtomicU64,
    /// Nanoseconds that its invocations lately took at most.
    lately: AtomicU64,
    /// Says whether it is in the scheduler's list of ready lanes.
    queued: AtomicBool,
    /// Somebody wanted a turn while another had it.
    missed: AtomicBool,
    /// The CPU time that it has left.
    bucket: Mutex<Bucket>,
    /// It waits until there is room or CPU time for it again.
    held_back: AtomicBool,
    /// It waits for room.
    waits_for_room: AtomicBool,
    /// Its last step has read the journal.
    has_read: AtomicBool,
    /// Its readings wait for the end of a back-off, so that more of them change nothing.
    readings_wait: AtomicBool,
    /// A purge waits for those that read it: it adds nothing meanwhile.
    stands_still: AtomicBool,
    /// What it has stored is just brought into another version's form.
    migrates: AtomicBool,
}

/// The code of a lane's app.
#[derive(Clone)]
pub(crate) struct App {
    /// Linked and ready to be instantiated.
    pub code: Arc<LoadedApp>,
    /// The part of the revision that each invocation is given.
    pub context: Arc<AppContext>,
}

/// Makes the part of a revision that each invocation is given.
pub(crate) fn context_of(manifest: &Manifest, revision: &Revision, limits: &Limits) -> AppContext {
    let outputs = manifest.outputs.iter().map(|output| OutputSlot {
        name: output.name.clone(),
        kind: match output.kind {
            manifest::OutputKind::Derived => OutputKind::Derived,
            manifest::OutputKind::SetPoint => OutputKind::SetPoint,
        },
        value_type: output.value_type.tag(),
    });
    AppContext {
        outputs: outputs.collect(),
        alarms: manifest.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
        timers: manifest.timers.iter().map(|timer| timer.name.clone()).collect(),
        settings: Arc::clone(&revision.settings),
        limits: limits.clone(),
    }
}

/// The part that holds for one revision only.
struct Remembered<T> {
    of: ids::Revision,
    what: T,
}

impl<T> Remembered<T> {
    /// The memory of this revision; that of another is forgotten.
    fn of(&mut self, revision: ids::Revision, make: impl FnOnce() -> T) -> &mut T {
        if self.of != revision {
            *self = Self { of: revision, what: make() };
        }
        &mut self.what
    }
}

impl Deref for Lane {
    type Target = Durable;

    fn deref(&self) -> &Durable {
        &self.durable
    }
}

impl Lane {
    /// A lane without its app's code.
    pub(crate) fn new(durable: Arc<Durable>, log: InstallationLog) -> Self {
        let newest = durable.newest();
        let targets = no_targets(&newest);
        let entity_numbers = Remembered { of: newest.number(), what: EntityNumbers::default() };
        Self {
            durable,
            pace: Mutex::default(),
            log,
            interrupt: Interrupt::default(),
            turn: Arc::new(tokio::sync::Semaphore::new(1)),
            apps: RwLock::default(),
            entity_numbers: Mutex::new(entity_numbers),
            meter: Meter::default(),
            targets: Mutex::new(targets),
            used: AtomicU64::new(0),
            lately: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            bucket: Mutex::new(Bucket::full(Instant::now())),
            held_back: AtomicBool::new(false),
            waits_for_room: AtomicBool::new(false),
            has_read: AtomicBool::new(false),
            readings_wait: AtomicBool::new(false),
            stands_still: AtomicBool::new(false),
            migrates: AtomicBool::new(false),
        }
    }

    /// Forgets the points of outputs: some are gone.
    pub(crate) fn forget_targets(&self) {
        *self.targets.lock() = no_targets(&self.newest());
    }

    /// Gives it the code of a revision's app; from then on what that has to do runs. The code of revisions that are
    /// gone goes.
    pub(crate) fn set_app(&self, revision: ids::Revision, app: App) {
        let terms = self.terms();
        let mut apps = self.apps.write();
        apps.insert(revision, app);
        apps.retain(|revision, _| terms.all().iter().any(|term| term.number() == *revision));
    }

    /// The code of a revision's app, once it is loaded with the limits that hold.
    pub(crate) fn app(&self, term: &Term) -> Option<App> {
        let app = self.apps.read().get(&term.number()).cloned();
        app.filter(|app| app.context.limits == term.limits)
    }

    /// The revisions whose app isn't loaded, or can't be loaded again.
    pub(crate) fn without_app(&self) -> Vec<Arc<Term>> {
        let is_missing = |term: &&Arc<Term>| self.app(term).is_none_or(|app| app.code.is_lost());
        self.terms().all().iter().filter(is_missing).cloned().collect()
    }

    /// Says whether it has the code for what it does next.
    pub(crate) fn has_app(&self) -> bool {
        self.app(&self.term()).is_some()
    }

    /// Waits for its turn: no invocation runs while the permit is held.
    pub(crate) async fn turn(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.turn).acquire_owned().await.ok()
    }

    fn try_turn(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.turn).try_acquire_owned().ok()
    }

    /// Says whether it may run at all.
    pub(crate) fn is_enabled(&self) -> bool {
        let may = !self.is_stopped() && !self.stands_still.load(Ordering::SeqCst);
        may && !self.pace.lock().ended && self.has_app()
    }

    /// Says whether it begins nothing because log, store or disk have no room for what it writes.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.waits_for_room.load(Ordering::SeqCst)
    }

    /// Begins no invocation, or begins them again. Whoever ends it wakes the lane.
    pub(crate) fn stand_still(&self, still: bool) {
        self.stands_still.store(still, Ordering::SeqCst);
    }

    /// Says whether what it has stored is just brought into another version's form.
    pub(crate) fn migrates(&self) -> bool {
        self.migrates.load(Ordering::SeqCst)
    }

    /// Begins or ends that.
    pub(crate) fn set_migrates(&self, migrates: bool) {
        self.migrates.store(migrates, Ordering::SeqCst);
    }

    /// What it has used so far by the scheduler's measure.
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Says whether its app has asked for retries for so long that people must be told.
    pub(crate) fn is_stuck(&self, now: Timestamp) -> bool {
        let readings = policy::is_stuck(self.book().meta().trouble.retrying_since, now);
        readings || self.pace.lock().has_stuck_timer(now)
    }

    /// Notes what an invocation took. What an earlier one took more counts for less and less.
    fn ran(&self, cpu: Duration) {
        let cpu = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        let lately = self.lately.load(Ordering::Relaxed);
        self.lately.store(cpu.max(lately - lately / 8), Ordering::Relaxed);
    }

    /// About how long its next invocation takes.
    fn length(&self) -> Length {
        Length::of(self.lately.load(Ordering::Relaxed))
    }

    /// Takes the CPU time that it spent, or caused, out of its share.
    fn spend(&self, spent: Duration) {
        self.bucket.lock().spend(spent, self.newest().limits.share, Instant::now());
    }
}

/// No point of its outputs is known yet.
fn no_targets(term: &Term) -> Remembered<Targets> {
    Remembered { of: term.number(), what: Targets::new(term.revision.bindings.outputs.len()) }
}

/// All lanes, and which of them runs next.
pub(crate) struct Lanes {
    slab: RwLock<Slab<Lane>>,
    /// What they are bound to, for whoever plans another.
    wiring: RwLock<Wiring>,
    scheduler: Scheduler,
    logs: Arc<AppLogs>,
}

impl Lanes {
    /// No lanes yet; the logs of their apps go to this folder.
    pub(crate) fn new(app_logs: PathBuf) -> Self {
        Self {
            slab: RwLock::default(),
            wiring: RwLock::default(),
            scheduler: Scheduler::default(),
            logs: Arc::new(AppLogs::new(app_logs)),
        }
    }

    /// The lane with this number.
    pub(crate) fn get(&self, number: u32) -> Option<Arc<Lane>> {
        self.slab.read().get(number).cloned()
    }

    /// The lane of an installation.
    pub(crate) fn of(&self, id: &InstallationId) -> Option<Arc<Lane>> {
        self.slab.read().of(id).cloned()
    }

    /// The lane of a generation.
    pub(crate) fn of_generation(&self, generation: Generation) -> Option<Arc<Lane>> {
        self.slab.read().of_generation(generation).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Lane>> {
        self.slab.read().iter().cloned().collect()
    }

    /// The lanes of a tenant, in the order of their ids.
    pub(crate) fn of_tenant(&self, tenant: TenantId) -> Vec<Arc<Lane>> {
        self.slab.read().behind(tenant, None).cloned().collect()
    }

    /// The number of a tenant's lanes.
    pub(crate) fn count_of(&self, tenant: TenantId) -> usize {
        self.slab.read().count_of(tenant)
    }

    /// Lanes that wait for room, at most so many.
    pub(crate) fn waiting_for_room(&self, most: usize) -> Vec<Arc<Lane>> {
        let slab = self.slab.read();
        slab.iter().filter(|lane| lane.waits_for_room()).take(most).cloned().collect()
    }

    /// The lanes of a tenant whose ids come behind this text, in the order of their ids, at most so many.
    pub(crate) fn behind(&self, tenant: TenantId, id: Option<&str>, most: usize) -> Vec<Arc<Lane>> {
        self.slab.read().behind(tenant, id).take(most).cloned().collect()
    }

    /// Wakes a lane: there is, or may be, work for it.
    pub(crate) fn wake(&self, lane: &Lane) {
        self.scheduler.wake(lane);
    }

    /// The next lane that runs, once there is one, in a place for invocations of this length.
    async fn next(&self, most: Length) -> Arc<Lane> {
        self.scheduler.next(self, most).await
    }

    /// Charges a lane for what it spent, or caused: it comes out of its share, and others go first.
    fn charge(&self, lane: &Lane, spent: Duration) {
        self.scheduler.charge(lane, spent);
        lane.spend(spent);
    }

    /// Charges an installation for what was done on its behalf, all at once; see [`bucket::Bucket::bill`].
    fn bill(&self, lane: &Lane, spent: Duration) {
        self.scheduler.charge(lane, spent);
        lane.bucket.lock().bill(spent, lane.newest().limits.share, Instant::now());
    }
}

/// Each question is answered by itself: the fold waits for no plan.
impl Neighbours for Lanes {
    fn fed_by(&self, target: &Target) -> Vec<Neighbour> {
        self.wiring.read().fed_by(target)
    }

    fn writing(&self, pattern: &Pattern) -> Vec<Neighbour> {
        self.wiring.read().writing(pattern)
    }
}

impl Listener for Lanes {
    fn begun(&self, installation: &Arc<Durable>) {
        // Not by its generation: one that is adopted begins anew, while files of before are still being removed.
        let begun = installation.installation().begun;
        let log = InstallationLog::new(&self.logs, &format!("{}-{begun}", installation.id));
        let lane = Arc::new(Lane::new(Arc::clone(installation), log));
        self.wiring.write().insert(&lane.id, &lane.newest().revision.bindings);
        let (number, generation, id) = (lane.number, lane.generation, lane.id.clone());
        self.slab.write().insert(number, generation, &id, lane);
    }

    fn noted(&self, number: u32) {
        let Some(lane) = self.get(number) else { return };
        // It is woken at the end of its wait, and then finds everything noted in the meantime.
        if !lane.readings_wait.load(Ordering::SeqCst) && !lane.held_back.load(Ordering::SeqCst) {
            self.wake(&lane);
        }
    }

    fn wake(&self, number: u32) {
        if let Some(lane) = self.get(number) {
            self.wake(&lane);
        }
    }

    fn folded(&self, installation: &Durable, cpu: Duration) {
        if let Some(lane) = self.of_generation(installation.generation) {
            self.bill(&lane, cpu);
        }
    }

    fn revised(&self, installation: &Durable) {
        self.wiring.write().insert(&installation.id, &installation.newest().revision.bindings);
    }

    fn gone(&self, installation: &Durable) {
        self.wiring.write().remove(&installation.id);
        let lane = self.slab.write().remove(installation.number);
        if let Some(lane) = lane {
            // Others may hold the lane for a while; its code and its log go now.
            lane.apps.write().clear();
            lane.log.remove();
        }
    }
}
