//! Lanes: each runs one installation's invocations one after the other, side by side with others.
//!
//! A lane pulls from its queue of notes, offers its app a batch, and submits what came of it as one
//! record. Its next invocation starts when that record is durable. Nothing that writes the log waits
//! for a lane.

pub mod app_log;
pub mod batch;
pub mod bucket;
pub mod context;
pub mod digest;
pub mod log_file;
pub mod outcome;
pub mod policy;
pub mod queue;
pub mod run;
pub mod scheduler;
pub mod targets;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use self::app_log::AppLog;
use self::batch::EntityNumbers;
use self::bucket::Bucket;
use self::policy::Effort;
use self::queue::Queue;
use self::targets::Targets;
use crate::records::commit::AlarmRecord;
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::lane::LaneMeta;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::Entities;
use ironloom_sandbox::{AppContext, LoadedApp};
use ironloom_storage::store::StateCache;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, SlotName};

/// One installation at work.
pub struct Lane {
    /// Its place in the slab, and its number in the routing table.
    pub number: u32,
    /// Its installation.
    pub id: InstallationId,
    /// The generation whose state it works on.
    pub generation: Generation,
    /// What is installed, as the admin's last change left it.
    pub installation: ArcSwap<Installation>,
    /// The revision it runs under.
    pub revision: Arc<Revision>,
    /// The app's manifest.
    pub manifest: Arc<Manifest>,
    /// What waits for it.
    pub queue: Mutex<Queue>,
    /// Its app's state, as of its last commit.
    pub state: RwLock<StateCache>,
    /// Everything else that its commits change.
    pub book: Mutex<Book>,
    /// Its app's log.
    pub log: AppLog,
    /// Whoever holds this runs an invocation, or changes the lane between two of them.
    turn: Arc<tokio::sync::Semaphore>,
    /// The app's code, once it is loaded.
    app: RwLock<Option<App>>,
    /// The entities of its inputs, shared with the routing table.
    entities: Arc<Entities>,
    entity_numbers: Mutex<EntityNumbers>,
    /// Where outputs go.
    targets: Mutex<Targets>,
    /// Whether it is in the scheduler's list of ready lanes.
    queued: std::sync::atomic::AtomicBool,
    /// Somebody wanted a turn while another had it.
    missed: std::sync::atomic::AtomicBool,
    /// The CPU time that it has left.
    bucket: Mutex<Bucket>,
    /// It waits, and is woken when there is room or CPU time for it again.
    held_back: std::sync::atomic::AtomicBool,
}

/// The code of a lane's app.
#[derive(Clone)]
pub struct App {
    /// Linked and ready to be instantiated.
    pub code: Arc<LoadedApp>,
    /// What each invocation is given of the revision.
    pub context: Arc<AppContext>,
}

/// What a lane's commits change, besides state and queue.
#[derive(Debug, Default)]
pub struct Book {
    /// Cursor, counters and more, as of the last commit.
    pub meta: LaneMeta,
    /// One-shot timers that are set.
    pub timers: BTreeMap<Box<str>, Timestamp>,
    /// Alarms that stand, or wait for somebody.
    pub alarms: BTreeMap<(SlotName, Box<str>), AlarmRecord>,
    /// The installation is gone.
    pub closed: bool,
    /// No readings are offered before this.
    pub back_off: Option<Instant>,
    /// No timer runs before this, with the attempts so far.
    pub timer_back_off: Option<(Instant, u32)>,
    /// How much is offered.
    pub effort: Effort,
    /// Dead letters to be run again.
    pub requeue: VecDeque<u64>,
}

impl Lane {
    /// A lane without its app's code.
    pub fn new(number: u32, begin: Begin, entities: Arc<Entities>, log: AppLog) -> Self {
        let Begin { installation, revision, manifest, meta, state, queue, timers, alarms } = begin;
        let targets = Targets::new(revision.bindings.outputs.len());
        Self {
            number,
            id: installation.id.clone(),
            generation: installation.generation,
            installation: ArcSwap::from_pointee(installation),
            revision: Arc::new(revision),
            manifest,
            queue: Mutex::new(queue),
            state: RwLock::new(state),
            book: Mutex::new(Book { meta, timers, alarms, ..Book::default() }),
            log,
            turn: Arc::new(tokio::sync::Semaphore::new(1)),
            app: RwLock::new(None),
            entities,
            entity_numbers: Mutex::default(),
            targets: Mutex::new(targets),
            queued: std::sync::atomic::AtomicBool::new(false),
            missed: std::sync::atomic::AtomicBool::new(false),
            bucket: Mutex::new(Bucket::full(Instant::now())),
            held_back: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Gives it its app's code; from then on it runs.
    pub fn set_app(&self, app: App) {
        *self.app.write() = Some(app);
    }

    /// Forgets its app's code: its installation is gone.
    pub fn drop_app(&self) {
        *self.app.write() = None;
    }

    /// Its app's code, once loaded.
    pub fn app(&self) -> Option<App> {
        self.app.read().clone()
    }

    /// Waits for its turn: no invocation runs while the permit is held.
    pub async fn turn(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.turn).acquire_owned().await.ok()
    }

    fn try_turn(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.turn).try_acquire_owned().ok()
    }

    /// Whether it may run at all.
    pub fn is_enabled(&self) -> bool {
        let paused = self.installation.load().standing != Standing::Running;
        let book = self.book.lock();
        !paused && !book.closed && book.meta.quarantine.is_none() && self.app.read().is_some()
    }

    /// When its next timer is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.book.lock().next_due()
    }
}

impl Book {
    /// When the next timer is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        let repeating = self.meta.cron_due.iter().map(|(_, due)| *due);
        repeating.chain(self.timers.values().copied()).min()
    }
}

/// What a lane begins with.
pub struct Begin {
    /// What is installed.
    pub installation: Installation,
    /// The revision it runs under.
    pub revision: Revision,
    /// The app's manifest.
    pub manifest: Arc<Manifest>,
    /// Where it begins.
    pub meta: LaneMeta,
    /// Its state.
    pub state: StateCache,
    /// What waits for it.
    pub queue: Queue,
    /// One-shot timers.
    pub timers: BTreeMap<Box<str>, Timestamp>,
    /// Alarms.
    pub alarms: BTreeMap<(SlotName, Box<str>), AlarmRecord>,
}

/// All lanes: a slab, so that a number finds its lane without hashing.
#[derive(Default)]
pub struct Lanes {
    slab: RwLock<Slab>,
}

#[derive(Default)]
struct Slab {
    lanes: Vec<Option<Arc<Lane>>>,
    /// Each commit is looked up by its generation.
    generations: HashMap<Generation, u32>,
}

impl Slab {
    fn get(&self, number: u32) -> Option<Arc<Lane>> {
        self.lanes.get(number as usize)?.clone()
    }
}

impl Lanes {
    /// The number that the next lane gets.
    pub fn free_number(&self) -> u32 {
        let lanes = &self.slab.read().lanes;
        lanes.iter().position(Option::is_none).unwrap_or(lanes.len()) as u32
    }

    /// Puts a lane into its place.
    pub fn insert(&self, lane: Arc<Lane>) {
        let mut slab = self.slab.write();
        let place = lane.number as usize;
        if slab.lanes.len() <= place {
            slab.lanes.resize(place + 1, None);
        }
        let before = slab.generations.insert(lane.generation, lane.number);
        assert!(before.is_none(), "a generation is one life of one installation");
        slab.lanes[place] = Some(lane);
    }

    /// Takes a lane out.
    pub fn remove(&self, number: u32) -> Option<Arc<Lane>> {
        let mut slab = self.slab.write();
        let lane = slab.lanes.get_mut(number as usize)?.take()?;
        slab.generations.remove(&lane.generation);
        Some(lane)
    }

    /// The lane with this number.
    pub fn get(&self, number: u32) -> Option<Arc<Lane>> {
        self.slab.read().get(number)
    }

    /// The lane of an installation.
    pub fn of(&self, id: &InstallationId) -> Option<Arc<Lane>> {
        self.slab.read().lanes.iter().flatten().find(|lane| lane.id == *id).cloned()
    }

    /// The lane of a generation.
    pub fn of_generation(&self, generation: Generation) -> Option<Arc<Lane>> {
        let slab = self.slab.read();
        slab.get(*slab.generations.get(&generation)?)
    }

    /// All lanes.
    pub fn all(&self) -> Vec<Arc<Lane>> {
        self.slab.read().lanes.iter().flatten().cloned().collect()
    }
}
