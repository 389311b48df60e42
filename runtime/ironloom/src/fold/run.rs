//! The threads behind the committer: the fold, and the checkpoints.

mod copying;
mod purging;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

pub(super) use self::copying::{copy_rests, copy_step};
#[cfg(test)]
pub(super) use self::purging::OF_GENERATIONS;
use self::purging::Purging;
pub(super) use self::purging::purge_step;
use super::Shared;
use super::apply::Applier;
use super::checkpoint::{self, CheckpointError};
use super::durable::Durable;
use super::room::is_much;
use super::sealer::{Stamped, ToFold};
use super::stretches::{Extent, Frozen};
use crate::telemetry::Sparing;
use ironloom_storage::log::{Flushed, LogReader, Room};
use ironloom_types::ids::{Epoch, Generation, Position};

/// On a disk that is nearly full a checkpoint begins when this much waits for it: it gives room back, since what is
/// written takes less than what is counted for it before.
const EARLY: u64 = 16 << 20;
/// Slots of a state cache that are looked at under one hold of its lock.
const SLOTS: usize = 4_096;
/// Stretches of the log that wait for a checkpoint, about. The more there are, the more often what was written in the
/// oldest was written again since.
const STRETCHES: u64 = 4;
/// Groups after which the bytes that wait are counted again.
const COUNT_EVERY: u32 = 16;
/// The interval at which an idle fold counts: it may be idle because the log is full.
const LOOK: Duration = Duration::from_secs(1);
/// The interval at which people are told of points that are left out.
const TELL: Duration = Duration::from_secs(60);
/// The interval at which a stop says how much is left to fold.
const TELL_LEFT: Duration = Duration::from_secs(5);
/// The time that copies have between two checkpoints.
const COPIES: Duration = Duration::from_millis(200);
/// The interval at which caches are thinned out though no checkpoint is made.
const THIN_OUT: Duration = Duration::from_secs(60);

/// The thresholds for making a checkpoint, and for making lanes wait for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    /// `log.checkpoint`: bytes of the log since the last one, counted in records or in files.
    pub log_bytes: u64,
    /// `store.dirty`: bytes in memory that no checkpoint has folded. Three quarters of it begin one.
    pub dirty_bytes: usize,
    /// `store.cache`: bytes of state that are kept though they are in the store.
    pub cache_bytes: usize,
    /// After this long one is made of however little there is, so that a restart has little to do.
    pub at_least_every: Duration,
    /// The time that those at a stop have. A start reads in the log what they leave.
    pub at_stop: Duration,
}

/// Handles of the fold's and the checkpoints' threads.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    fold: JoinHandle<()>,
    checkpoints: JoinHandle<Result<(), CheckpointError>>,
    to_fold: Sender<ToFold>,
    /// The time of the last checkpoints.
    at_stop: Duration,
}

impl Threads {
    /// Makes the last checkpoints, and waits until both threads have ended. The committer must have ended
    /// before.
    pub(crate) fn join(self) -> Result<(), CheckpointError> {
        self.shared.stop(self.at_stop);
        self.shared.wishes.stop();
        // The fold must be there for the last checkpoint. A panic of either was reported when it happened.
        let made = self.checkpoints.join().unwrap_or(Ok(()));
        let _ = self.to_fold.send(ToFold::End);
        let _ = self.fold.join();
        made
    }
}

/// The parts that the threads need.
pub(crate) struct Parts {
    /// The state that everybody sees.
    pub shared: Arc<Shared>,
    /// Applies what comes.
    pub applier: Applier,
    /// Reads the log, and frees it.
    pub log: LogReader,
    /// The store's fold position.
    pub folded: Position,
    /// The last record that was applied.
    pub applied: Position,
    pub epoch: Epoch,
    /// The thresholds for checkpoints.
    pub thresholds: Thresholds,
    /// Called where a checkpoint failed.
    pub on_failure: Box<dyn Fn(&CheckpointError) + Send>,
}

/// Starts both threads. `to_fold` and `inbox` are the two ends of the fold's channel.
pub(crate) fn start(
    parts: Parts,
    to_fold: &Sender<ToFold>,
    inbox: Receiver<ToFold>,
) -> std::io::Result<Threads> {
    let Parts { shared, applier, log, folded, applied, epoch, thresholds, on_failure } = parts;
    shared.cache.set(thresholds.cache_bytes);
    shared.set_dirty_limit(thresholds.dirty_bytes);
    let fold = Fold::new(Arc::clone(&shared), applier, log.clone(), folded, applied, thresholds);
    let fold = std::thread::Builder::new().name("fold".into()).spawn(move || fold.run(&inbox))?;
    let to = to_fold.clone();
    let checkpoints = Checkpoints {
        shared: Arc::clone(&shared),
        log,
        epoch,
        to_fold: to,
        thinned_out: Instant::now(),
        purging: Purging::default(),
    };
    let checkpoints = std::thread::Builder::new()
        .name("checkpoint".into())
        .spawn(move || checkpoints.run().inspect_err(|error| on_failure(error)))?;
    Ok(Threads { shared, fold, checkpoints, to_fold: to_fold.clone(), at_stop: thresholds.at_stop })
}

/// The requests to the checkpoint thread.
#[derive(Default)]
pub(super) struct Wishes {
    wish: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Wish {
    checkpoint: bool,
    stop: bool,
    /// There is something to do between checkpoints.
    work: bool,
}

impl Wishes {
    pub(super) fn ask(&self) {
        self.wish.lock().checkpoint = true;
        self.changed.notify_one();
    }

    pub(super) fn wake(&self) {
        self.wish.lock().work = true;
        self.changed.notify_one();
    }

    /// What was wished for before a freeze, that checkpoint does.
    fn fulfil(&self) {
        self.wish.lock().checkpoint = false;
    }

    fn stop(&self) {
        self.wish.lock().stop = true;
        self.changed.notify_one();
    }

    /// Takes the wish, and waits for one at most this long.
    fn take(&self, wait: Duration) -> Wish {
        let mut wish = self.wish.lock();
        if !wish.checkpoint && !wish.stop && !wish.work && !wait.is_zero() {
            self.changed.wait_for(&mut wish, wait);
        }
        let taken = *wish;
        (wish.checkpoint, wish.work) = (false, false);
        taken
    }
}

struct Fold {
    shared: Arc<Shared>,
    applier: Applier,
    log: LogReader,
    /// The last record that was applied.
    last: Position,
    thresholds: Thresholds,
    /// A checkpoint was wished for and hasn't begun.
    asked: bool,
    /// A checkpoint is under way.
    folding: bool,
    /// The position of the last checkpoint that was begun, and when that was.
    frozen_at: Position,
    frozen_when: Instant,
    /// The position at which the current stretch began, and the bytes that had ever waited by then: what waits now
    /// falls with each checkpoint.
    began_at: Position,
    began_with: u64,
    since_count: u32,
    lines: Sparing,
}

impl Fold {
    fn new(
        shared: Arc<Shared>,
        applier: Applier,
        log: LogReader,
        folded: Position,
        applied: Position,
        thresholds: Thresholds,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            applier,
            log,
            last: applied,
            thresholds,
            asked: false,
            folding: false,
            frozen_at: folded,
            frozen_when: now,
            began_at: folded,
            began_with: 0,
            since_count: 0,
            lines: Sparing::new(1, TELL),
        }
    }

    fn run(mut self, inbox: &Receiver<ToFold>) {
        // The log that a restart found may already leave no room for new records.
        self.count();
        loop {
            match inbox.recv_timeout(LOOK) {
                Ok(ToFold::Group(group)) => self.group(group),
                Ok(ToFold::Freeze(extent, reply)) => {
                    // Nobody asks twice: where the asker is gone, the process ends.
                    let _ = reply.send(self.freeze(extent));
                }
                Ok(ToFold::Folded) => self.folded(),
                Err(RecvTimeoutError::Timeout) => self.count(),
                Ok(ToFold::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn freeze(&mut self, extent: Option<Extent>) -> Frozen {
        let wanted = || self.wanted_checkpoint(self.log.bytes_since(self.frozen_at), self.shared.unfolded());
        let extent = extent.or_else(wanted).unwrap_or(Extent::Oldest);
        let frozen = self.applier.freeze(extent, self.last);
        if frozen.is_all {
            self.begin_stretch();
        }
        self.asked = false;
        self.folding = true;
        self.shared.wishes.fulfil();
        self.frozen_at = frozen.fold.position;
        self.frozen_when = Instant::now();
        frozen
    }

    fn folded(&mut self) {
        self.folding = false;
        // Lanes that wait for room write nothing that would make us count.
        self.count();
    }

    fn begin_stretch(&mut self) {
        self.began_at = self.last;
        self.began_with = self.shared.ever_dirty();
    }

    fn group(&mut self, group: Vec<Flushed<Stamped>>) {
        let wanted = self.applier.wants_gone_folded();
        for Flushed { record, sealed } in group {
            if let Some(at) = record {
                self.last = at.position;
            }
            self.applier.apply(record, sealed);
        }
        self.since_count += 1;
        self.shared.count_dirty();
        let is_wanted = self.applier.wants_gone_folded() && !wanted;
        if self.since_count >= COUNT_EVERY || self.shared.is_crowded() || is_wanted {
            self.count();
        }
    }

    /// Counts the bytes that wait for a checkpoint, and wishes for one where it is time.
    fn count(&mut self) {
        self.since_count = 0;
        let dirty = self.shared.count_dirty();
        self.shared.metrics.store_dirty.set(dirty as i64);
        let unfolded = self.log.bytes_since(self.frozen_at);
        self.shared.metrics.log_unfolded.set(unfolded as i64);
        let is_long = self.log.bytes_since(self.began_at) >= self.thresholds.log_bytes / STRETCHES
            || self.shared.ever_dirty().saturating_sub(self.began_with)
                >= self.thresholds.dirty_bytes as u64 / (2 * STRETCHES);
        if is_long && self.last > self.began_at {
            self.applier.end_stretch(self.last);
            self.begin_stretch();
        }
        if !self.asked && !self.folding && self.wanted_checkpoint(unfolded, dirty).is_some() {
            self.asked = true;
            self.shared.wishes.ask();
        }
        if self.lines.take() {
            self.shared.left_out.tell();
        }
    }

    /// The checkpoint that it is time for. Where much waits, the oldest of it goes: what is written all the time
    /// is then left out. Where room is wanted, all.
    fn wanted_checkpoint(&self, unfolded: u64, dirty: usize) -> Option<Extent> {
        let gives_room = unfolded + dirty as u64 >= EARLY || self.shared.journal.has_emptied();
        let is_scarce = self.shared.is_disk_full() && gives_room;
        // While pushes are refused nothing comes that would make it more. After a checkpoint at most the
        // active segment is used: the configuration's limits see to it that pushes have room then.
        let is_overdue = self.last > self.frozen_at
            && (self.log.room() != Room::All || self.frozen_when.elapsed() >= self.thresholds.at_least_every);
        if is_scarce || is_overdue || self.wants_files_back(unfolded) || self.applier.wants_gone_folded() {
            return Some(Extent::All);
        }
        let much = unfolded >= self.thresholds.log_bytes || is_much(dirty, self.thresholds.dirty_bytes);
        much.then_some(Extent::Oldest)
    }

    /// Whether the log's files take too much of the disk beyond the records that wait in them: each start begins one.
    /// The one that is written doesn't count, since no checkpoint frees it.
    fn wants_files_back(&self, unfolded: u64) -> bool {
        let files = self.log.files_since(self.frozen_at);
        files > 0 && (files >= unfolded + self.thresholds.log_bytes || self.shared.is_disk_full())
    }
}

struct Checkpoints {
    shared: Arc<Shared>,
    log: LogReader,
    epoch: Epoch,
    to_fold: Sender<ToFold>,
    /// When caches were last thinned out.
    thinned_out: Instant,
    purging: Purging,
}

impl Checkpoints {
    /// Makes checkpoints as they are wished for, and between them removes what generations that are gone
    /// have kept, a bounded step at a time: neither a checkpoint nor a stop waits for more than one, and for copies no longer
    /// than they have.
    fn run(mut self) -> Result<(), CheckpointError> {
        match self.work() {
            Err(CheckpointError::OutOfTime) => {
                tracing::info!(
                    "what the last checkpoint had no time for is read from the log at the next start"
                );
                Ok(())
            }
            result => result,
        }
    }

    fn work(&mut self) -> Result<(), CheckpointError> {
        let mut copies = true;
        loop {
            let is_idle = !self.removed_is_due() && self.purging.first().is_none() && !copies;
            let wish = self.shared.wishes.take(if is_idle { THIN_OUT } else { Duration::ZERO });
            if wish.stop {
                self.shared.end_copies();
                return self.fold_the_rest();
            }
            let all = self.removed_is_due().then_some(Extent::All);
            let is_due = wish.checkpoint || all.is_some();
            if is_due {
                self.make(all)?;
            }
            // Not after each step of a purge: it looks at all lanes.
            if is_due || self.thinned_out.elapsed() >= THIN_OUT {
                thin_out(&self.shared);
                self.thinned_out = Instant::now();
            }
            self.purge_step()?;
            copies = self.copy_for_a_while()?;
        }
    }

    /// Goes on with copies: under load there is one checkpoint after the other, and a copy would take hours of one step for
    /// each. Whether there was something to copy.
    fn copy_for_a_while(&self) -> Result<bool, CheckpointError> {
        let began = Instant::now();
        while copy_step(&self.shared, self.epoch)? {
            if began.elapsed() >= COPIES {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Folds all that is left before a stop, until its time is over.
    fn fold_the_rest(&mut self) -> Result<(), CheckpointError> {
        let left = |log: &LogReader, shared: &Shared| log.bytes_since(shared.folded()) >> 20;
        let mut told = Instant::now();
        tracing::info!(mib = left(&self.log, &self.shared), "the last checkpoints fold the log");
        // The oldest first, one after the other: what is folded when the time is over stays folded.
        while !self.make(Some(Extent::Oldest))? {
            if told.elapsed() >= TELL_LEFT {
                told = Instant::now();
                tracing::info!(mib = left(&self.log, &self.shared), "the last checkpoints go on");
            }
        }
        tracing::info!("all of the log is folded: the next start has nothing to read");
        Ok(())
    }

    /// Makes one checkpoint, of as much as the fold wants where nothing else is said. Whether nothing is left.
    fn make(&mut self, extent: Option<Extent>) -> Result<bool, CheckpointError> {
        // Before the freeze: what went before it has its last state in the store after a checkpoint of all.
        let due = self.due();
        let (reply, frozen) = oneshot::channel();
        if self.to_fold.send(ToFold::Freeze(extent, reply)).is_err() {
            return Ok(true);
        }
        let Ok(frozen) = frozen.blocking_recv() else { return Ok(true) };
        let is_all = frozen.is_all;
        checkpoint::write(&self.shared, &self.log, frozen, self.epoch)?;
        let _ = self.to_fold.send(ToFold::Folded);
        if is_all {
            self.purging.add(due);
        }
        Ok(is_all)
    }

    /// The generations whose state has to go by now.
    fn due(&self) -> Vec<Generation> {
        let removed = self.shared.removed.lock();
        let due = removed.iter().filter(|(_, gone)| gone.removed.purge);
        due.map(|(generation, _)| *generation).collect()
    }

    /// Says whether there is a generation to purge whose last state no checkpoint has written for certain. Copies, of which
    /// that is certain, get in line.
    fn removed_is_due(&mut self) -> bool {
        let removed = self.shared.removed.lock();
        self.purging.add(self.shared.copies.take_gone());
        let mut due = removed.iter().filter(|(_, gone)| gone.removed.purge);
        due.any(|(generation, _)| !self.purging.has(*generation))
    }

    /// Removes a part of what the first generation in line has kept.
    fn purge_step(&mut self) -> Result<(), CheckpointError> {
        let Some(generation) = self.purging.first() else { return Ok(()) };
        if purge_step(&self.shared, generation, self.epoch)? {
            self.purging.end_first();
        }
        Ok(())
    }
}

/// Keeps the clean state of all lanes together within `store.cache`: those that have more than their share
/// give up the same part of what they have more. Those that are gone give up all. Then gives back slots that are mostly
/// free.
pub(super) fn thin_out(shared: &Shared) {
    let leaving = std::mem::take(&mut *shared.leaving.lock());
    let leaving: Vec<_> = leaving.iter().filter_map(Weak::upgrade).collect();
    for lane in &leaving {
        while !lane.state.write().shrink_to(0, SLOTS) {}
    }
    let lanes = shared.lanes.all();
    let share = shared.cache.share();
    let beyond = |lane: &Durable| lane.state.read().bytes().clean.saturating_sub(share);
    let excess = shared.cache.excess();
    if excess > 0 {
        let all = lanes.iter().map(|lane| beyond(lane)).sum::<usize>();
        let part = (excess as f64 / all.max(1) as f64).min(1.0);
        for lane in &lanes {
            let left = share + (beyond(lane) as f64 * (1.0 - part)) as usize;
            // Step by step: the lane waits for this lock.
            while !lane.state.write().shrink_to(left, SLOTS) {}
        }
    }
    for lane in lanes.iter().chain(&leaving).filter(|lane| lane.state.read().is_sparse()) {
        while !lane.state.write().compact(SLOTS) {}
    }
}

#[cfg(test)]
mod tests;
