//! Checkpoints: the fold's memory is written to blocks and store, and the log is freed.
//!
//! The order is what makes a crash between any two steps harmless: block files synced, then keys
//! durable, then the fold position durable, then memory is thinned out and segments are freed. A
//! checkpoint that was cut off is done again and, being made of absolute values, ends the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::durable::Durable;
use super::invocations::{InvocationsError, Summaries};
use super::journal::{JournalError, chunk_of};
use super::overlay::Changes;
use super::stored::encode;
use super::{FoldPosition, Shared};
use ironloom_storage::failpoint;
use ironloom_storage::journal::{Block, BlockBuilder, BlockError, Entry, FileError, NotDense, StoredBlock};
use ironloom_storage::log::{LogError, LogReader};
use ironloom_storage::store::{Applied, Change, Item, Key, Scope, StoreError};
use ironloom_types::ids::{Epoch, Generation, Position, Sequence, StreamId, TenantId};

/// Keys of one `apply`.
const KEYS: usize = 8_000;
/// Bytes of one `apply`, more by its last value at most: so much room the store asks for at once.
const BYTES: usize = 16 << 20;

/// The reason why a checkpoint failed. Each ends the process: all acknowledged data is in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A block file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The blocks have a hole.
    #[error(transparent)]
    NotDense(#[from] NotDense),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Summaries of invocations.
    #[error(transparent)]
    Invocations(#[from] InvocationsError),
    /// Another process has the store.
    #[error("another process has taken over the data folder; this one must not write any more")]
    Fenced,
}

impl CheckpointError {
    /// Whether there was no room on the disk, so that the same may succeed later.
    fn is_full(&self) -> bool {
        match self {
            Self::File(error) => error.is_full(),
            Self::Store(error) => error.is_full(),
            _ => false,
        }
    }
}

/// The time after which a checkpoint checks a full disk again.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });

/// Does what needs room on the disk, again and again until there is: what was acknowledged is in the log, and
/// ending the process would only hide what can still be read.
fn with_room<T>(
    shared: &Shared,
    step: impl Fn() -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    let mut waits: u64 = 0;
    loop {
        match step() {
            // The next start makes do with a short one.
            Err(error) if error.is_full() && shared.journal.log().give_last_back()? => {
                tracing::warn!(%error, "the log's last free segment is given back for the checkpoint");
            }
            Err(error) if error.is_full() && !shared.is_stopping() => {
                if waits.is_multiple_of(60) {
                    tracing::warn!(%error, "the checkpoint waits for room on the disk");
                }
                waits += 1;
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// The changes that a checkpoint writes: the fold as of one position.
pub(crate) struct Frozen {
    /// The value of the fold position.
    pub fold: FoldPosition,
    /// Keys that changed.
    pub changes: Arc<Changes>,
    /// Summaries of invocations.
    pub invocations: Arc<Summaries>,
    /// Lanes whose state is frozen.
    pub lanes: Vec<(Arc<Durable>, usize)>,
    /// Lanes that are gone: what they have in memory goes with this.
    pub _gone: Vec<Arc<Durable>>,
}

/// Freezes what is in memory. On the fold's thread, between two records.
pub(crate) fn freeze(shared: &Shared, position: Position, gone: Vec<Arc<Durable>>) -> Frozen {
    shared.frozen.store(shared.unfrozen(), Ordering::Release);
    let changes = shared.overlay.freeze();
    let invocations = shared.invocations.freeze();
    let mut lanes = Vec::new();
    let mut pending = Vec::new();
    let mut dirty = 0;
    let mut freeze = |lane: Arc<Durable>| {
        let mut state = lane.state.write();
        dirty += state.bytes().dirty;
        let keys = state.freeze();
        drop(state);
        lanes.push((lane, keys));
    };
    for lane in shared.lanes.all() {
        if let Some(first) = lane.queue.lock().pending() {
            pending.push((lane.generation, first));
        }
        freeze(lane);
    }
    let (purged, gone_lanes) = {
        let removed = shared.removed.lock();
        let is_purged =
            |lane: &&Arc<Durable>| removed.get(&lane.generation).is_some_and(|gone| gone.removed.purge);
        gone.iter().partition::<Vec<_>, _>(is_purged)
    };
    gone_lanes.into_iter().cloned().for_each(freeze);
    // Keys that are about to be deleted needn't be written before.
    dirty += purged.iter().map(|lane| lane.state.read().bytes().dirty).sum::<usize>();
    let counted = shared.dirty_state.swap(0, Ordering::Relaxed);
    assert!(counted == dirty, "{counted} dirty bytes were counted, and the lanes have {dirty}");
    let last = shared.journal.last();
    let fold = FoldPosition {
        position,
        folded_through: last,
        routed_through: last,
        // Not the clock's: the committer may have moved that on for records that never reach the disk.
        time: shared.horizon(),
        points: shared.points.names().given() as u32,
        generation: shared.last_generation(),
        pending,
    };
    Frozen { fold, changes, invocations, lanes, _gone: gone }
}

/// Writes what was frozen. On the checkpoint's thread; the fold goes on meanwhile.
pub(crate) fn write(
    shared: &Shared,
    log: &LogReader,
    frozen: Frozen,
    epoch: Epoch,
) -> Result<(), CheckpointError> {
    let started = Instant::now();
    let blocks = write_blocks(shared, log, &frozen.fold)?;
    failpoint("checkpoint-blocks-synced");
    let mut batch = Batch { shared, epoch, changes: Vec::new(), bytes: 0 };
    // Before the blocks: after a checkpoint that was cut off they hold the tombstones of its blocks, and
    // the first of those has the key of the first one here.
    for (key, value) in frozen.changes.iter() {
        batch.add(key.clone(), value.clone())?;
    }
    let checkpoint = frozen.fold.position;
    for entry in &blocks {
        let (tenant, stream) = (TenantId::MAIN, StreamId::MAIN);
        let value = StoredBlock { checkpoint, tenant, stream, entry: *entry };
        batch.add(Scope::MAIN.key(Item::Block(entry.first_sequence)), Some(value.encode().into()))?;
    }
    shared.invocations.pages(&frozen.invocations, |key, value| batch.add(key, value))?;
    for page in shared.points.take_dirty_pages() {
        batch.add(Scope::MAIN.key(Item::LatestPage(page)), Some(shared.points.page(page)))?;
    }
    for (lane, keys) in &frozen.lanes {
        write_state(&mut batch, lane, *keys)?;
    }
    batch.flush()?;
    failpoint("checkpoint-keys-durable");
    let position = Change::set(Key::folded(), encode(&frozen.fold));
    apply(shared, vec![position], epoch)?;
    failpoint("checkpoint-position-durable");
    shared.journal.fold(blocks)?;
    shared.overlay.folded();
    shared.invocations.folded();
    for (lane, _) in &frozen.lanes {
        // Dropped without the lock: it may be large.
        let thinned = lane.state.write().folded();
        drop(thinned);
    }
    shared.folded.store(frozen.fold.position.0, Ordering::Release);
    shared.frozen.store(0, Ordering::Release);
    failpoint("checkpoint-memory-thinned");
    log.free_through(frozen.fold.position)?;
    shared.journal.files().remove_left()?;
    shared.metrics.checkpoints.observe(started.elapsed());
    tracing::debug!(position = %frozen.fold.position, through = %frozen.fold.folded_through, took = ?started.elapsed(), "checkpoint");
    Ok(())
}

fn write_blocks(
    shared: &Shared,
    log: &LogReader,
    fold: &FoldPosition,
) -> Result<Vec<Entry>, CheckpointError> {
    let mut builder: Option<BlockBuilder> = None;
    let mut written = Vec::new();
    let files = shared.journal.files();
    let append = |block: Block| {
        Ok::<_, CheckpointError>(Entry::new(
            &block.header,
            with_room(shared, || Ok(files.append(&block.bytes)?))?,
        ))
    };
    let Some((from, to)) = shared.journal.tail_records(fold.folded_through) else { return Ok(written) };
    for record in log.records(from, to)? {
        let chunk = chunk_of(&record?)?;
        let first: Sequence = chunk.first_sequence;
        if builder.is_none() {
            // Before the fold position is written: afterwards the log would be gone.
            shared.journal.follows_blocks(first)?;
        }
        let builder = builder.get_or_insert_with(|| BlockBuilder::new(TenantId::MAIN, StreamId::MAIN, first));
        let Some(run) = chunk.runs.first().copied() else { continue };
        for block in builder.add(first, run.time, run.hops, run.origin, &chunk.columns)? {
            written.push(append(block)?);
        }
    }
    if let Some(mut builder) = builder {
        assert!(
            builder.next_sequence() == fold.folded_through.next(),
            "a checkpoint's blocks end where it says"
        );
        if let Some(block) = builder.finish()? {
            written.push(append(block)?);
        }
        failpoint("checkpoint-before-blocks-sync");
        files.sync()?;
    }
    Ok(written)
}

fn write_state(batch: &mut Batch<'_>, lane: &Durable, keys: usize) -> Result<(), CheckpointError> {
    let generation: Generation = lane.generation;
    let mut changes: Vec<(Box<str>, Option<Bytes>)> = Vec::with_capacity(keys);
    let mut from = 0;
    while from < keys {
        // In parts: the lane waits for this lock.
        let to = (from + 4_096).min(keys);
        lane.state.read().frozen(from, to, |key, value| changes.push((key.into(), value.cloned())));
        from = to;
    }
    changes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (key, value) in changes {
        batch.add(Scope::MAIN.key(Item::State(generation, &key)), value)?;
    }
    Ok(())
}

/// Gathers changes for the store.
struct Batch<'a> {
    shared: &'a Shared,
    epoch: Epoch,
    changes: Vec<Change>,
    bytes: usize,
}

impl Batch<'_> {
    fn add(&mut self, key: Key, value: Option<Bytes>) -> Result<(), CheckpointError> {
        self.bytes += key.as_bytes().len() + value.as_ref().map_or(0, Bytes::len);
        self.changes.push(Change { key, value });
        if self.changes.len() >= KEYS || self.bytes >= BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CheckpointError> {
        let changes = std::mem::take(&mut self.changes);
        self.bytes = 0;
        if changes.is_empty() { Ok(()) } else { apply(self.shared, changes, self.epoch) }
    }
}

/// Brings changes to the store's disk.
pub(crate) fn apply(shared: &Shared, changes: Vec<Change>, epoch: Epoch) -> Result<(), CheckpointError> {
    with_room(shared, || match shared.storage.apply(changes.clone(), epoch)? {
        Applied::Done => Ok(()),
        Applied::Fenced => Err(CheckpointError::Fenced),
    })
}
