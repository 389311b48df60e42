//! One step of a lane: choose what is due, run it, submit what came of it, wait until it is durable.

pub(crate) mod choose;
mod invoke;
mod settle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Lane;
use crate::fold::Shared;
use crate::fold::submission::Submission;
use ironloom_sandbox::Sandbox;
use ironloom_storage::log::{CommitterHandle, Room};

/// How much one invocation is offered at most.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Readings.
    pub readings: usize,
    /// Bytes of texts and blobs.
    pub bytes: usize,
}

/// How long a lane waits where the log or the store has no room for its commit.
const NO_ROOM: Duration = Duration::from_millis(20);
/// Chunks of the journal that a lane reads in one step: others have a turn after it.
const CHUNKS_AT_ONCE: usize = 1_024;
/// How long a lane waits where the host itself failed.
const HOST_FAULT: Duration = Duration::from_secs(5);

/// Runs the lanes.
pub struct Runner {
    shared: Arc<Shared>,
    sandbox: Arc<Sandbox>,
    committer: CommitterHandle<Submission>,
    limits: BatchLimits,
    places: Arc<Semaphore>,
    stopping: AtomicBool,
}

impl Runner {
    /// A runner with so many invocations side by side.
    pub fn new(
        shared: Arc<Shared>,
        sandbox: Arc<Sandbox>,
        committer: CommitterHandle<Submission>,
        limits: BatchLimits,
        places: usize,
    ) -> Self {
        let places = Arc::new(Semaphore::new(places));
        Self { shared, sandbox, committer, limits, places, stopping: AtomicBool::new(false) }
    }

    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>) {
        while !self.stopping.load(Ordering::Acquire) {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let lane = self.shared.scheduler.next(&self.shared.lanes).await;
            let runner = Arc::clone(&self);
            tokio::spawn(async move {
                let step = tokio::spawn(Arc::clone(&runner).step(Arc::clone(&lane), place));
                if step.await.is_err_and(|error| error.is_panic()) {
                    // A fault of the host's own: the other lanes go on, and this one is tried again.
                    tracing::error!(installation = %lane.id, "the host panicked in an invocation; it runs again");
                    lane.book.lock().back_off = Some(Instant::now() + HOST_FAULT);
                    runner.wake_later(&lane, HOST_FAULT);
                }
            });
        }
    }

    /// Starts no further invocation, and waits for those under way, at most so long.
    pub async fn stop(&self, patience: Duration) {
        self.stopping.store(true, Ordering::Release);
        let all = tokio::time::timeout(patience, async {
            for lane in self.shared.lanes.all() {
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
            self.shared.scheduler.wake(&lane);
        }
    }

    /// One invocation, where there is one to run. Says whether there may be more at once.
    async fn run_one(&self, lane: &Arc<Lane>, place: OwnedSemaphorePermit) -> bool {
        if self.stopping.load(Ordering::Acquire) || !lane.is_enabled() {
            return false;
        }
        let share = lane.revision.limits.share;
        let overdrawn = lane.bucket.lock().wait(share, Instant::now());
        let no_room = self.committer.room() == Room::None || !self.shared.has_room();
        if let Some(wait) = overdrawn.or(no_room.then_some(NO_ROOM)) {
            self.hold_back(lane, wait);
            return false;
        }
        if let Err(problem) = self.catch_up(lane).await {
            tracing::error!(installation = %lane.id, %problem, "the journal can't be read");
            self.wake_later(lane, HOST_FAULT);
            return false;
        }
        let work = match self.choose(lane).await {
            Ok(Some(work)) => work,
            Ok(None) => return lane.queue.lock().wants().is_some(),
            Err(problem) => {
                tracing::error!(installation = %lane.id, %problem, "a dead letter can't be read");
                self.wake_later(lane, HOST_FAULT);
                return false;
            }
        };
        let Some(app) = lane.app() else { return false };
        let report = self.invoke(lane, &app, &work).await;
        self.shared.scheduler.charge(lane, report.cpu);
        lane.bucket.lock().spend(report.cpu, share, Instant::now());
        // What follows waits for the disk, not for a processor.
        drop(place);
        self.conclude(lane, work, report).await;
        true
    }

    /// Has a lane wait that is woken with everything that comes for it: one waits, however often it is asked.
    fn hold_back(&self, lane: &Arc<Lane>, wait: Duration) {
        if lane.held_back.swap(true, Ordering::SeqCst) {
            return;
        }
        let (shared, lane) = (Arc::clone(&self.shared), Arc::clone(lane));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            lane.held_back.store(false, Ordering::SeqCst);
            shared.scheduler.wake(&lane);
        });
    }

    fn wake_later(&self, lane: &Arc<Lane>, after: Duration) {
        let (shared, lane) = (Arc::clone(&self.shared), Arc::clone(lane));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            shared.scheduler.wake(&lane);
        });
    }
}
