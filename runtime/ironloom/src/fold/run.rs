//! The threads behind the committer: the fold, and the checkpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::apply::Applier;
use super::checkpoint::{self, CheckpointError};
use super::sealer::{Stamped, ToFold};
use super::{Removed, Shared};
use ironloom_storage::log::{Flushed, LogReader};
use ironloom_storage::store::{Change, Item, Kind, Scope};
use ironloom_types::clock::{SECOND, host_time};
use ironloom_types::ids::{Epoch, Generation, Position};

/// How long the state of an installation that is gone is kept, unless it is purged.
const KEPT: u64 = 7 * 24 * 3600 * SECOND;
/// Keys that are removed in one step.
const STEP: usize = 1_000;
/// Slots of a state cache that are looked at under one hold of its lock.
const SLOTS: usize = 4_096;
/// Groups after which the bytes that wait are counted again.
const COUNT_EVERY: u32 = 16;

/// When checkpoints are made, and when lanes have to wait for one.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// `log.checkpoint`: bytes of the log since the last one.
    pub log_bytes: u64,
    /// `store.dirty`: bytes in memory that no checkpoint has written. Half of it begins one.
    pub dirty_bytes: usize,
    /// `store.cache`: bytes of state that are kept though they are in the store.
    pub cache_bytes: usize,
}

/// Both threads.
pub struct Threads {
    shared: Arc<Shared>,
    fold: JoinHandle<()>,
    checkpoints: JoinHandle<()>,
    wanted: SyncSender<()>,
    to_fold: Sender<ToFold>,
}

impl Threads {
    /// Waits until both have ended. The committer must have ended before: the fold ends with it.
    pub fn join(self) {
        self.shared.stop();
        // The checkpoints end when nobody can wish for one any more.
        let _ = self.to_fold.send(ToFold::End);
        drop(self.wanted);
        // A panic of theirs was reported when it happened.
        let _ = self.fold.join();
        let _ = self.checkpoints.join();
    }
}

/// What the threads need.
pub struct Parts {
    /// What everybody sees.
    pub shared: Arc<Shared>,
    /// Applies what comes.
    pub applier: Applier,
    /// Reads the log, and frees it.
    pub log: LogReader,
    /// The store's fold position.
    pub position: Position,
    /// This process.
    pub epoch: Epoch,
    /// When checkpoints are made.
    pub thresholds: Thresholds,
    /// Called where a checkpoint failed.
    pub on_failure: Box<dyn Fn(&CheckpointError) + Send>,
}

/// Starts both threads. `to_fold` and `inbox` are the two ends of the fold's channel.
pub fn start(parts: Parts, to_fold: &Sender<ToFold>, inbox: Receiver<ToFold>) -> std::io::Result<Threads> {
    let Parts { shared, applier, log, position, epoch, thresholds, on_failure } = parts;
    let (wanted, wishes) = sync_channel::<()>(1);
    let fold = Fold {
        shared: Arc::clone(&shared),
        applier,
        log: log.clone(),
        last: log.flushed().max(position),
        thresholds,
        wanted: wanted.clone(),
        frozen_at: position,
        frozen_gone: 0,
        since_count: 0,
    };
    let fold = std::thread::Builder::new().name("fold".into()).spawn(move || fold.run(&inbox))?;
    let maker = Checkpoints { shared: Arc::clone(&shared), log, epoch, thresholds, to_fold: to_fold.clone() };
    let checkpoints = std::thread::Builder::new().name("checkpoint".into()).spawn(move || {
        while wishes.recv().is_ok() {
            if let Err(error) = maker.make() {
                on_failure(&error);
                return;
            }
        }
    })?;
    Ok(Threads { shared, fold, checkpoints, wanted, to_fold: to_fold.clone() })
}

struct Fold {
    shared: Arc<Shared>,
    applier: Applier,
    log: LogReader,
    last: Position,
    thresholds: Thresholds,
    wanted: SyncSender<()>,
    /// The position of the last checkpoint that was begun.
    frozen_at: Position,
    /// How many of the lanes that are gone it takes.
    frozen_gone: usize,
    since_count: u32,
}

impl Fold {
    fn run(mut self, inbox: &Receiver<ToFold>) {
        while let Ok(message) = inbox.recv() {
            match message {
                ToFold::Group(group) => self.group(group),
                ToFold::Freeze(reply) => {
                    let frozen = checkpoint::freeze(&self.shared, self.last, &self.applier.gone);
                    self.frozen_at = self.last;
                    self.frozen_gone = frozen.gone;
                    // What is frozen waits no longer: lanes go on until as much again does.
                    self.shared.full.store(false, Ordering::Release);
                    // Nobody asks twice: where the asker is gone, the process ends.
                    let _ = reply.send(frozen);
                }
                ToFold::Folded { gone } => {
                    drop(self.applier.gone.drain(..gone));
                    self.frozen_gone = 0;
                    // Lanes that wait for room write nothing that would make us count.
                    self.count();
                }
                ToFold::End => return,
            }
        }
    }

    fn group(&mut self, group: Vec<Flushed<Stamped>>) {
        let gone = self.applier.gone.len();
        for Flushed { record, sealed: Stamped { time, sealed } } in group {
            if let Some(at) = record {
                self.last = at.position;
            }
            self.applier.apply(record, time, sealed);
        }
        self.since_count += 1;
        if self.since_count >= COUNT_EVERY || !self.shared.has_room() || self.applier.gone.len() > gone {
            self.count();
        }
    }

    /// Counts the bytes that wait for a checkpoint, and wishes for one where there are many. What is
    /// frozen waits no longer: the checkpoint under way takes it.
    fn count(&mut self) {
        self.since_count = 0;
        let lanes = self.shared.lanes.all();
        let of_lanes: usize = lanes.iter().map(|lane| lane.state.read().bytes().dirty).sum();
        let dirty = self.shared.overlay.bytes() + of_lanes;
        self.shared.dirty.store(dirty, Ordering::Release);
        self.shared.full.store(dirty >= self.thresholds.dirty_bytes, Ordering::Release);
        self.shared.metrics.store_dirty.set(dirty as i64);
        let unfolded = self.log.bytes_since(self.frozen_at);
        self.shared.metrics.log_unfolded.set(unfolded as i64);
        let purge = {
            let removed = self.shared.removed.lock();
            let gone = &self.applier.gone[self.frozen_gone..];
            gone.iter().any(|lane| removed.get(&lane.generation).is_some_and(|removed| removed.purge))
        };
        if unfolded >= self.thresholds.log_bytes || dirty >= self.thresholds.dirty_bytes / 2 || purge {
            match self.wanted.try_send(()) {
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => tracing::debug!("the checkpoints have ended"),
            }
        }
    }
}

struct Checkpoints {
    shared: Arc<Shared>,
    log: LogReader,
    epoch: Epoch,
    thresholds: Thresholds,
    to_fold: Sender<ToFold>,
}

impl Checkpoints {
    /// Makes one checkpoint.
    fn make(&self) -> Result<(), CheckpointError> {
        // Before the freeze: what went before it has its last state in the store after this checkpoint.
        let removed = self.shared.removed.lock().clone();
        let (reply, frozen) = oneshot::channel();
        if self.to_fold.send(ToFold::Freeze(reply)).is_err() {
            return Ok(());
        }
        let Ok(frozen) = frozen.blocking_recv() else { return Ok(()) };
        let gone = frozen.gone;
        checkpoint::write(&self.shared, &self.log, frozen, self.epoch)?;
        let _ = self.to_fold.send(ToFold::Folded { gone });
        self.thin_out();
        for (generation, removed) in removed {
            if removed.purge || removed.at.plus(KEPT) <= host_time() {
                self.purge(generation)?;
            }
        }
        Ok(())
    }

    /// Keeps the clean state of all lanes together within `store.cache`, each in proportion.
    fn thin_out(&self) {
        let lanes = self.shared.lanes.all();
        let clean: usize = lanes.iter().map(|lane| lane.state.read().bytes().clean).sum();
        if clean <= self.thresholds.cache_bytes {
            return;
        }
        for lane in lanes {
            let share = {
                let state = lane.state.read();
                state.bytes().clean as f64 / clean as f64 * self.thresholds.cache_bytes as f64
            };
            // Step by step: the lane waits for this lock.
            while !lane.state.write().shrink_to(share as usize, SLOTS) {}
        }
    }

    /// Removes what a generation kept, in steps; its own key last, so that it is begun again after a crash.
    fn purge(&self, generation: Generation) -> Result<(), CheckpointError> {
        for kind in [Kind::State, Kind::Timer, Kind::Alarm, Kind::DeadLetter, Kind::Invocation] {
            let range = Scope::MAIN.generation(kind, generation);
            loop {
                let page = self.shared.storage.scan(&range, None, STEP)?;
                if page.entries.is_empty() {
                    break;
                }
                let changes = page.entries.into_iter().map(|(key, _)| Change::delete(key)).collect();
                checkpoint::apply(&self.shared, changes, self.epoch)?;
            }
        }
        self.shared.overlay.apply([(Scope::MAIN.key(Item::Lane(generation)), None)]);
        let gone: Option<Removed> = self.shared.removed.lock().remove(&generation);
        tracing::info!(%generation, purged = gone.is_some_and(|gone| gone.purge), "the state of an installation that is gone was removed");
        Ok(())
    }
}
