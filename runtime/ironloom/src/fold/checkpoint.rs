//! Checkpoints: the fold's memory is written to blocks and store, and the log is freed.
//!
//! The order is what makes a crash between any two steps harmless: block files synced, then keys
//! durable, then the fold position durable, then memory is thinned out and segments are freed. A
//! checkpoint that was cut off is done again and, being made of absolute values, ends the same.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::durable::Durable;
use super::invocations::InvocationsError;
use super::journal::{JournalError, chunk_of};
use super::stored::encode;
use super::stretches::Frozen;
use super::{FoldPosition, Shared};
use ironloom_storage::failpoint;
use ironloom_storage::journal::{Block, BlockBuilder, BlockError, Entry, FileError, NotDense, StoredBlock};
use ironloom_storage::log::{LogError, LogReader};
use ironloom_storage::store::{Applied, Change, Item, Key, Scope, StoreError, Stretch};
use ironloom_types::ids::{Epoch, Generation, Sequence, StreamId, TenantId};

/// Keys of one `apply`.
const KEYS: usize = 8_000;
/// Places of an app's state that are looked at under one hold of its lock.
const PLACES: usize = 4_096;
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

/// Writes what was frozen. On the checkpoint's thread; the fold goes on meanwhile.
pub(crate) fn write(
    shared: &Shared,
    log: &LogReader,
    frozen: Frozen,
    epoch: Epoch,
) -> Result<(), CheckpointError> {
    let started = Instant::now();
    let Frozen { through, mut fold, lanes, purged, .. } = frozen;
    let blocks = write_blocks(shared, log, &fold)?;
    failpoint("checkpoint-blocks-synced");
    let mut batch = Batch { shared, epoch, changes: Vec::new(), bytes: 0 };
    // Before the blocks: after a checkpoint that was cut off they hold the tombstones of its blocks, and
    // the first of those has the key of the first one here.
    for (key, value) in shared.overlay.through(through).iter() {
        batch.add(key.clone(), value.clone())?;
    }
    for entry in &blocks {
        let (tenant, stream) = (TenantId::MAIN, StreamId::MAIN);
        let value = StoredBlock { checkpoint: fold.position, tenant, stream, entry: *entry };
        batch.add(Scope::MAIN.key(Item::Block(entry.first_sequence)), Some(value.encode().into()))?;
    }
    let invocations = shared.invocations.through(through);
    shared.invocations.pages(&invocations, |key, value| batch.add(key, value))?;
    // As they are by now: where a page is ahead of the fold position, the log behind it says the same again.
    for page in shared.points.take_dirty_names() {
        batch.add(Scope::MAIN.key(Item::PointPage(page)), Some(shared.points.page_of_names(page)))?;
    }
    shared.points.take_pages(fold.folded_through, |page, value| {
        batch.add(Scope::MAIN.key(Item::LatestPage(page)), Some(value))
    })?;
    for lane in &lanes {
        write_state(&mut batch, lane, through)?;
    }
    batch.flush()?;
    // What was left out is in a record that was applied by now.
    fold.witness = fold.position.max(shared.applied());
    failpoint("checkpoint-keys-durable");
    let position = Change::set(Key::folded(), encode(&fold));
    apply(shared, vec![position], epoch)?;
    failpoint("checkpoint-position-durable");
    shared.journal.fold(blocks)?;
    shared.overlay.folded(through);
    shared.invocations.folded(through);
    for lane in &lanes {
        let mut state = lane.state.write();
        let dirty = state.bytes().dirty;
        let garbage = state.folded(through);
        shared.dirty_state.fetch_sub(dirty - state.bytes().dirty, Ordering::Relaxed);
        // Dropped without the lock: it may be large.
        drop(state);
        drop(garbage);
    }
    for lane in &purged {
        shared.dirty_state.fetch_sub(lane.state.read().bytes().dirty, Ordering::Relaxed);
    }
    shared.folded.store(fold.position.0, Ordering::Release);
    failpoint("checkpoint-memory-thinned");
    log.free_through(fold.position)?;
    shared.journal.files().remove_left()?;
    shared.metrics.checkpoints.observe(started.elapsed());
    tracing::debug!(position = %fold.position, through = %fold.folded_through, took = ?started.elapsed(), "checkpoint");
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

fn write_state(batch: &mut Batch<'_>, lane: &Durable, through: Stretch) -> Result<(), CheckpointError> {
    let generation: Generation = lane.generation;
    let places = lane.state.read().places(through);
    let mut changes: Vec<(Box<str>, Option<Bytes>)> = Vec::new();
    for from in (0..places).step_by(PLACES) {
        // In parts: the lane waits for this lock.
        let take = |key: &str, value: Option<&Bytes>| changes.push((key.into(), value.cloned()));
        lane.state.read().written(through, from, from + PLACES, take);
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
