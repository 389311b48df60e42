//! One step of a lane: choose what is due, run it, submit what came of it, wait until it is durable.

pub(crate) mod choose;
mod damage;
mod invoke;
mod migrate;
mod rehearse;
mod replay;
mod room;
mod settle;

pub(in crate::lanes) use self::invoke::{invocation_id, seed};
pub(crate) use self::migrate::{MigrateError, Migrated};
pub(in crate::lanes) use self::migrate::{Migration, migrate_all};
pub(crate) use self::rehearse::Rehearsed;
pub(in crate::lanes) use self::replay::MOST_CPU;
pub(crate) use self::replay::{Again, Captured, PastStages, ReplayError, Stage};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::room::RoomQueue;
use super::scheduler::Length;
use super::{Lane, Lanes};
use crate::aside::{aside, thread_cpu};
use crate::fold::Shared;
use crate::fold::journal::JournalError;
use crate::fold::submission::Submission;
use ironloom_sandbox::Sandbox;
use ironloom_storage::log::{CommitterHandle, Room};
use ironloom_types::ids::Sequence;
use ironloom_types::limits::MAX_BLOCK_READINGS;

/// The largest offer to one invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub readings: usize,
    /// Bytes of texts and blobs.
    pub bytes: usize,
}

/// By what lanes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pacing {
    /// By what readings have cost so far, and by the machine's time.
    Measured,
    /// By the steps of whoever feeds the node: all of one is offered at once, and a timer that asks for a retry waits
    /// until it is told to run.
    BySteps,
}

/// Chunks of the journal that a lane reads in one step: others have a turn after it. A chunk of the log's tail is
/// one record, and may be a single reading.
const CHUNKS_AT_ONCE: usize = 1_024;
/// Rows of the journal that a lane looks at in one step: those of 32 blocks, some 30 ms of CPU time.
const ROWS_AT_ONCE: usize = 32 * MAX_BLOCK_READINGS;
/// Places for each core, for invocations up to each length: so many are under way at one time. Those that wait for the
/// store, or for their turn to run, hold a place; longer ones take none of the first two kinds, so that a short one
/// waits for short ones only. The sandbox has memory for [`ironloom_sandbox::PLACES_PER_CORE`].
const PLACES_PER_CORE: [usize; Length::ALL.len()] = [1, 1, 4];
const _: () = assert!(
    PLACES_PER_CORE[0] + PLACES_PER_CORE[1] + PLACES_PER_CORE[2] < ironloom_sandbox::PLACES_PER_CORE as usize,
    "one is left for an instance on its way out, a replay or a migration"
);
/// The wait of a lane after a fault of the host.
const HOST_FAULT: Duration = Duration::from_secs(5);

/// Runs the lanes.
pub(crate) struct Runner {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    sandbox: Arc<Sandbox>,
    committer: CommitterHandle<Submission>,
    limits: RwLock<BatchLimits>,
    pacing: Pacing,
    /// Invocations under way at one time. How many of them run, and which, is the sandbox's business.
    places: [Arc<Semaphore>; Length::ALL.len()],
    /// Lanes that read the journal at one time, beside those that run.
    readers: Semaphore,
    no_room: Arc<RoomQueue>,
    stopping: AtomicBool,
}

impl Runner {
    /// A runner for so many cores.
    pub(crate) fn new(
        shared: Arc<Shared>,
        lanes: Arc<Lanes>,
        sandbox: Arc<Sandbox>,
        committer: CommitterHandle<Submission>,
        limits: BatchLimits,
        pacing: Pacing,
        cores: usize,
    ) -> Self {
        Self {
            shared,
            lanes,
            sandbox,
            committer,
            limits: RwLock::new(limits),
            pacing,
            places: PLACES_PER_CORE.map(|places| Arc::new(Semaphore::new(places * cores))),
            readers: Semaphore::new(cores),
            no_room: Arc::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Offers so much from now on.
    pub(crate) fn set_limits(&self, limits: BatchLimits) {
        *self.limits.write() = limits;
    }

    fn limits(&self) -> BatchLimits {
        *self.limits.read()
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self: Arc<Self>) {
        let [short, medium, long] = Length::ALL.map(|length| Arc::clone(&self).fill(length));
        tokio::join!(short, medium, long);
    }

    /// Fills the places for invocations of this length.
    async fn fill(self: Arc<Self>, length: Length) {
        let places = &self.places[length as usize];
        while !self.stopping.load(Ordering::Acquire) {
            let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
            let lane = self.lanes.next(length).await;
            let runner = Arc::clone(&self);
            tokio::spawn(async move {
                let step = tokio::spawn(Arc::clone(&runner).step(Arc::clone(&lane), place));
                if step.await.is_err_and(|error| error.is_panic()) {
                    // A fault of the host's own: the other lanes go on, and this one is tried again.
                    tracing::error!(installation = %lane.id, "the host panicked in an invocation; it runs again");
                    runner.rest(&lane, HOST_FAULT);
                }
            });
        }
    }

    /// Starts no further invocation, and waits for those under way, at most so long.
    pub(crate) async fn stop(&self, patience: Duration) {
        self.stopping.store(true, Ordering::Release);
        let all = tokio::time::timeout(patience, async {
            for lane in self.lanes.all() {
                if let Some(turn) = lane.turn().await {
                    turn.forget();
                }
            }
        });
        if all.await.is_err() {
            tracing::warn!("invocations were still running when the server stopped; they will run again");
        }
    }

    async fn step(self: Arc<Self>, lane: Arc<Lane>, place: OwnedSemaphorePermit) {
        // Before the turn is tried: whoever has it sees this when it gives it back, and wakes the lane.
        lane.missed.store(true, Ordering::SeqCst);
        let Some(turn) = lane.try_turn() else { return };
        lane.missed.store(false, Ordering::SeqCst);
        let more = self.run_one(&lane, place).await;
        drop(turn);
        if more || lane.missed.swap(false, Ordering::SeqCst) {
            self.lanes.wake(&lane);
        }
    }

    /// One invocation, where there is one to run. Says whether there may be more at once.
    async fn run_one(&self, lane: &Arc<Lane>, place: OwnedSemaphorePermit) -> bool {
        if self.stopping.load(Ordering::Acquire) || !lane.is_enabled() {
            return false;
        }
        let share = lane.newest().limits.share;
        let overdrawn = lane.bucket.lock().wait(share, Instant::now());
        if let Some(wait) = overdrawn {
            self.hold_back(lane, wait);
            return false;
        }
        if !has_room(&self.committer, &self.shared, lane) {
            self.wait_for_room(lane);
            return false;
        }
        if self.is_to_catch_up(lane) {
            // Reading needs no place: others run meanwhile.
            drop(place);
            let more = self.catch_up(lane).await;
            lane.has_read.store(more, Ordering::Relaxed);
            return more;
        }
        // Before the lane looks: what is noted from here on wakes it again.
        lane.readings_wait.store(false, Ordering::SeqCst);
        let Some((term, work)) = self.choose(lane).await else {
            // Readings that come while it waits out a back-off change nothing: it is woken at the end of that.
            let waits = lane.pace.lock().back_off.is_some();
            lane.readings_wait.store(waits, Ordering::SeqCst);
            return false;
        };
        let Some(app) = lane.app(&term) else { return false };
        let report = self.invoke(lane, &term, &app, &work).await;
        lane.ran(report.cpu);
        self.lanes.charge(lane, report.cpu + report.loading);
        // The rest waits for the disk, not for a processor.
        drop(place);
        self.conclude(lane, &term, work, report).await;
        true
    }

    /// Says whether the lane is behind its notes and has less than a whole batch of them. With each other step it runs what
    /// it has found: its own readings may be few among many.
    fn is_to_catch_up(&self, lane: &Lane) -> bool {
        let has_read = lane.has_read.swap(false, Ordering::Relaxed);
        let queue = lane.queue.lock();
        queue.wants().is_some() && queue.noted() < if has_read { 1 } else { self.limits().readings }
    }

    /// Notes chunks of the journal until a whole batch is noted, or the step has done enough. Charges what it took.
    async fn catch_up(&self, lane: &Arc<Lane>) -> bool {
        let Ok(_reader) = self.readers.acquire().await else { return false };
        let (shared, reading, most) = (Arc::clone(&self.shared), Arc::clone(lane), self.limits().readings);
        let read = aside(move || {
            let started = thread_cpu();
            let read = note_from_journal(&shared, &reading, most);
            (read, thread_cpu().saturating_sub(started))
        });
        match read.await {
            Ok((read, cpu)) => {
                self.lanes.charge(lane, cpu);
                let Err((from, error)) = read else { return true };
                self.not_read(lane, from, &error).await
            }
            Err(error) => {
                tracing::error!(installation = %lane.id, %error, "the host panicked while it read the journal; it reads again");
                self.rest(lane, HOST_FAULT);
                false
            }
        }
    }

    /// Puts a lane to sleep that is woken with everything that comes for it. It has at most one such sleep pending;
    /// further calls do nothing.
    fn hold_back(&self, lane: &Arc<Lane>, wait: Duration) {
        if lane.held_back.swap(true, Ordering::SeqCst) {
            return;
        }
        let (lanes, lane) = (Arc::clone(&self.lanes), Arc::clone(lane));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            lane.held_back.store(false, Ordering::SeqCst);
            lanes.wake(&lane);
        });
    }

    /// Puts a lane to sleep until log and store have room for its commits, and those of others that have less there.
    fn wait_for_room(&self, lane: &Arc<Lane>) {
        if lane.held_back.swap(true, Ordering::SeqCst) {
            return;
        }
        lane.waits_for_room.store(true, Ordering::SeqCst);
        let (committer, shared, lanes) =
            (self.committer.clone(), Arc::clone(&self.shared), Arc::clone(&self.lanes));
        let has_room = move |lane: &Lane| has_room(&committer, &shared, lane);
        self.no_room.wait(lane, has_room, move |lane| {
            lane.waits_for_room.store(false, Ordering::SeqCst);
            lane.held_back.store(false, Ordering::SeqCst);
            lanes.wake(lane);
        });
    }

    /// Runs nothing of a lane for a while: the host failed.
    fn rest(&self, lane: &Arc<Lane>, wait: Duration) {
        lane.pace.lock().not_before = Some(Instant::now() + wait);
        self.wake_later(lane, wait);
    }

    fn wake_later(&self, lane: &Arc<Lane>, after: Duration) {
        let (lanes, lane) = (Arc::clone(&self.lanes), Arc::clone(lane));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            lanes.wake(&lane);
        });
    }
}

/// Whether there is room for a commit of this lane.
fn has_room(committer: &CommitterHandle<Submission>, shared: &Shared, lane: &Lane) -> bool {
    committer.room() != Room::None && shared.has_room_for(lane)
}

/// One step of a lane that reads the journal. Where it can't be read: from where on.
fn note_from_journal(shared: &Shared, lane: &Lane, most: usize) -> Result<(), (Sequence, JournalError)> {
    let mut looked_at = 0;
    for _ in 0..CHUNKS_AT_ONCE {
        let from = {
            let queue = lane.queue.lock();
            queue.wants().filter(|_| queue.noted() < most && looked_at < ROWS_AT_ONCE)
        };
        let Some(from) = from else { break };
        looked_at += shared.note_from_journal(lane, from).map_err(|error| (from, error))?;
    }
    Ok(())
}
