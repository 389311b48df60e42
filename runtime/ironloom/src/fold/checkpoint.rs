//! Checkpoints: the fold's memory is written to blocks and store, and the log is freed.
//!
//! The order is what makes a crash between any two steps harmless: block files synced, then keys
//! durable, then the fold position durable, then memory is thinned out and segments are freed. A
//! checkpoint that was cut off is done again and, being made of absolute values, ends the same.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::durable::Durable;
use super::invocations::InvocationsError;
use super::journal::{JournalError, chunk_of};
use super::overlay::Changes;
use super::run::copy_rests;
use super::stored::encode;
use super::stretches::Frozen;
use super::{FoldPosition, Shared};
use crate::aside::thread_cpu;
use ironloom_storage::failpoint;
use ironloom_storage::journal::{Block, BlockBuilder, BlockError, Entry, FileError, NotDense, StoredBlock};
use ironloom_storage::log::{LogError, LogReader};
use ironloom_storage::store::{AT_ONCE, Applied, Change, Item, Key, StoreError, Stretch};
use ironloom_types::changes::StateChanges;
use ironloom_types::ids::{Digest, Epoch, Generation, Ordinal, StreamId, TenantId};

/// Keys of one `apply`.
const KEYS: usize = 8_000;
/// Places of an app's state that are looked at under one hold of its lock.
const PLACES: usize = 4_096;
/// Places of which the keys are sorted at once.
const SORTED: usize = 256 * PLACES;
/// The bytes of a value that take as long as a key with nothing in it, about.
const PAID_WITH_KEY: usize = 256;
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
    /// Fails nothing: it is as if the process had ended here, and the log has all that isn't in the store.
    #[error("the server stops, and its last checkpoint had no more time")]
    OutOfTime,
}

impl CheckpointError {
    /// Says whether there was no room on the disk, so that the same may succeed later.
    pub(super) fn is_full(&self) -> bool {
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
    let Frozen { through, mut fold, lanes, purged, is_paid, .. } = frozen;
    let blocks = write_blocks(shared, log, &fold, epoch)?;
    failpoint("checkpoint-blocks-synced");
    let changed = shared.overlay.through(through);
    let batch = Batch { is_paid, is_checkpoint: true, ..Batch::new(shared, epoch) };
    fold.packages_gone = write_all_keys(shared, batch, &fold, &blocks, &lanes, (&changed, through))?;
    // What was left out is in a record that was applied by now.
    fold.witness = fold.position.max(shared.applied());
    failpoint("checkpoint-keys-durable");
    let position = Change::set(Key::folded(), encode(&fold));
    apply(shared, vec![position], epoch)?;
    failpoint("checkpoint-position-durable");
    let gone = fold.packages_gone.iter().map(|package| Change::delete(Item::Package(*package).key()));
    let gone: Vec<_> = gone.collect();
    if !gone.is_empty() {
        apply(shared, gone, epoch)?;
    }
    let places = shared.journal.fold(blocks)?;
    let given_back = places + shared.overlay.folded(through) + shared.invocations.folded(through);
    shared.give_back(given_back);
    let state_is_folded = |bytes| {
        shared.dirty_state.fetch_sub(bytes, Ordering::Relaxed);
        shared.give_back(bytes);
    };
    for lane in &lanes {
        let mut state = lane.state.write();
        let dirty = state.bytes().dirty;
        let garbage = state.folded(through);
        state_is_folded(dirty - state.bytes().dirty);
        // Dropped without the lock: it may be large.
        drop(state);
        drop(garbage);
    }
    purged.iter().for_each(|lane| state_is_folded(lane.state.read().bytes().dirty));
    shared.folded.store(fold.position.0, Ordering::Release);
    failpoint("checkpoint-memory-thinned");
    log.free_through(fold.position)?;
    shared.journal.files().remove_left()?;
    shared.journal.remove_emptied(fold.position);
    shared.metrics.checkpoints.observe(started.elapsed());
    tracing::debug!(position = %fold.position, took = ?started.elapsed(), "checkpoint");
    Ok(())
}

/// Writes the keys of a checkpoint, all but the fold position and those of the packages that go, which it returns: these
/// keys stay until the fold position is behind the records that name them. A start after a checkpoint that was cut off
/// reads those records again.
fn write_all_keys(
    shared: &Shared,
    mut batch: Batch<'_>,
    fold: &FoldPosition,
    blocks: &[(TenantId, Entry)],
    lanes: &[Arc<Durable>],
    (changed, through): (&Changes, Stretch),
) -> Result<Vec<Digest>, CheckpointError> {
    // Before the blocks: after a checkpoint that was cut off they hold the tombstones of its blocks, and
    // the first of those has the key of the first one here.
    let (mut revisions, mut installations, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut packages_gone = Vec::new();
    for (key, value) in changed {
        match (key.parse(), value) {
            (Some(Item::Revision(..)), Some(_)) => revisions.push((key, value)),
            (Some(Item::Revision(..)), None) => ends.push((key, value)),
            (Some(Item::Installation(..)), _) => installations.push((key, value)),
            (Some(Item::Package(package)), None) => packages_gone.push(package),
            _ => batch.add(key.clone(), value.clone())?,
        }
    }
    for (tenant, entry) in blocks {
        let (tenant, stream) = (*tenant, StreamId::MAIN);
        let value = StoredBlock { checkpoint: fold.position, tenant, stream, entry: *entry };
        batch.add(Item::Block(tenant, entry.first_sequence).key(), Some(value.encode().into()))?;
    }
    let invocations = shared.invocations.through(through);
    // As of now: the record behind it that says so is in the log.
    let gone = |generation| {
        let lane = shared.lanes.of_generation(generation);
        lane.map_or(Ordinal(0), |lane| lane.book().meta().invocations_gone)
    };
    shared.invocations.pages(&invocations, gone, |key, value| batch.add(key, value))?;
    // As they are by now: where a page is ahead of the fold position, the log behind it says the same again.
    for page in shared.points.take_dirty_names() {
        batch.add(Item::PointPage(page).key(), Some(shared.points.page_of_names(page)))?;
    }
    shared.points.take_pages(&fold.folded_through, |page, value| {
        batch.add(Item::LatestPage(page).key(), Some(value))
    })?;
    // What is nobody's own goes before, so that nobody pays for it.
    batch.flush()?;
    for lane in lanes {
        write_state(&mut batch, lane, through, None)?;
    }
    batch.flush()?;
    // Behind the states: where a start after a checkpoint that was cut off finds no lane for a generation that ends in
    // what it replays, all that it wrote is here, for whoever adopts it.
    for (key, value) in revisions.into_iter().chain(installations) {
        batch.add(key.clone(), value.clone())?;
    }
    batch.flush()?;
    // Last, once the others are on the disk: such a start finds no installation without its revision, unless another of
    // its id has come since.
    for (key, value) in ends {
        batch.add(key.clone(), value.clone())?;
    }
    batch.flush()?;
    Ok(packages_gone)
}

fn write_blocks(
    shared: &Shared,
    log: &LogReader,
    fold: &FoldPosition,
    epoch: Epoch,
) -> Result<Vec<(TenantId, Entry)>, CheckpointError> {
    let mut builders: BTreeMap<TenantId, BlockBuilder> = BTreeMap::new();
    let mut written = Vec::new();
    let files = shared.journal.files();
    let append = |block: Block| {
        let location = with_room(shared, || Ok(files.append(&block.bytes)?))?;
        Ok::<_, CheckpointError>((block.header.tenant, Entry::new(&block.header, location)))
    };
    let Some((from, to)) = shared.journal.tail_records(fold.position) else { return Ok(written) };
    for record in log.records(from, to)? {
        in_time(shared)?;
        copy_rests(shared, epoch)?;
        let chunk = chunk_of(&record?)?;
        let (tenant, first) = (chunk.tenant, chunk.first_sequence);
        let Some(run) = chunk.runs.first().copied() else { continue };
        let builder = match builders.entry(tenant) {
            btree_map::Entry::Occupied(builder) => builder.into_mut(),
            btree_map::Entry::Vacant(place) => {
                // Before the fold position is written: afterwards the log would be gone.
                shared.journal.of(tenant).follows_blocks(first)?;
                place.insert(BlockBuilder::new(tenant, StreamId::MAIN, first))
            }
        };
        for block in builder.add(first, run.time, run.hops, run.origin, &chunk.columns)? {
            written.push(append(block)?);
        }
    }
    for (tenant, mut builder) in builders {
        assert!(
            builder.next_sequence() == fold.folded_through.of(tenant).next(),
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

/// Writes what no checkpoint has written of a state into another generation. The lane stands still, so this doesn't wait
/// for room.
pub(super) fn write_unfolded(
    shared: &Shared,
    lane: &Arc<Durable>,
    to: Generation,
    epoch: Epoch,
) -> Result<(), CheckpointError> {
    let mut batch = Batch::new(shared, epoch);
    write_state(&mut batch, lane, Stretch(u64::MAX), Some(to))?;
    batch.flush()
}

/// Writes the state through this stretch, or brings it `to` another generation.
fn write_state(
    batch: &mut Batch<'_>,
    lane: &Arc<Durable>,
    through: Stretch,
    to: Option<Generation>,
) -> Result<(), CheckpointError> {
    let places = lane.state.read().places(through);
    for first in (0..places).step_by(SORTED) {
        // Keys alone: all values at once may be much of what the machine has.
        let mut due = StateChanges::default();
        for from in (first..places.min(first + SORTED)).step_by(PLACES) {
            // In parts: the lane waits for this lock.
            let note = |key: &str, spot| due.push_row("", key, None, spot);
            lane.state.read().written(through, from, from + PLACES, note);
        }
        due.sort();
        // Nobody pays for looking at what was written again: those whose keys wait in the batch are others.
        batch.paid_up_to = thread_cpu();
        write_keys(batch, lane, through, &due, to)?;
    }
    Ok(())
}

/// Writes those of these keys that no later stretch has written again.
fn write_keys(
    batch: &mut Batch<'_>,
    lane: &Arc<Durable>,
    through: Stretch,
    due: &StateChanges,
    to: Option<Generation>,
) -> Result<(), CheckpointError> {
    let mut values = Vec::with_capacity(AT_ONCE);
    for from in (0..due.len()).step_by(AT_ONCE) {
        batch.let_copies_in()?;
        // A copy that is being made of it follows, until its rest is copied.
        let follower = to.is_none().then(|| batch.shared.copies.follower_of(lane.generation)).flatten();
        let to = [Some(to.unwrap_or(lane.generation)), follower];
        {
            let state = lane.state.read();
            let part = due.with_spots(from).take(AT_ONCE);
            values.extend(part.map(|(key, _, spot)| state.value_written(through, spot, key)));
        }
        for ((key, _), value) in due.iter_from(from).zip(values.drain(..)) {
            // What was written again meanwhile is behind the position.
            if let Some(value) = value {
                batch.pays(lane, PAID_WITH_KEY + key.len() + value.as_ref().map_or(0, Bytes::len));
                for generation in to.into_iter().flatten() {
                    batch.add_state(Item::State(generation, key).key(), value.clone())?;
                }
            }
        }
    }
    Ok(())
}

/// Gathers changes for the store.
struct Batch<'a> {
    shared: &'a Shared,
    epoch: Epoch,
    changes: Vec<Change>,
    bytes: usize,
    /// Whose state is among the changes, if they pay for it, and the parts by which they share what it costs.
    payers: Vec<(Arc<Durable>, usize)>,
    is_paid: bool,
    /// It waits for room, and copies whose lanes stand still don't wait for its end.
    is_checkpoint: bool,
    /// The thread's CPU time up to which all is paid.
    paid_up_to: Duration,
}

impl<'a> Batch<'a> {
    /// One that nobody pays for, and that doesn't wait for room or let copies in.
    fn new(shared: &'a Shared, epoch: Epoch) -> Self {
        Self {
            shared,
            epoch,
            changes: Vec::new(),
            bytes: 0,
            payers: Vec::new(),
            is_paid: false,
            is_checkpoint: false,
            paid_up_to: thread_cpu(),
        }
    }

    /// Notes who pays for the next change.
    fn pays(&mut self, lane: &Arc<Durable>, part: usize) {
        if !self.is_paid {
            return;
        }
        match self.payers.last_mut().filter(|(last, _)| Arc::ptr_eq(last, lane)) {
            Some((_, parts)) => *parts += part,
            None => self.payers.push((Arc::clone(lane), part)),
        }
    }

    fn add(&mut self, key: Key, value: Option<Bytes>) -> Result<(), CheckpointError> {
        if self.gathers(key, value) { self.flush() } else { Ok(()) }
    }

    /// As [`Self::add`], while more values of the same state are held that will be added: no copy comes in before these.
    fn add_state(&mut self, key: Key, value: Option<Bytes>) -> Result<(), CheckpointError> {
        if self.gathers(key, value) { self.write() } else { Ok(()) }
    }

    /// Gathers a change, and says whether it is time to write them.
    fn gathers(&mut self, key: Key, value: Option<Bytes>) -> bool {
        self.bytes += key.as_bytes().len() + value.as_ref().map_or(0, Bytes::len);
        self.changes.push(Change { key, value });
        self.changes.len() >= KEYS || self.bytes >= BYTES
    }

    /// Has a copy whose lane stands still get what no checkpoint has written of it, if one waits: behind all that is
    /// gathered, which may be older.
    fn let_copies_in(&mut self) -> Result<(), CheckpointError> {
        if self.is_checkpoint && self.shared.copies.has_rest() { self.flush() } else { Ok(()) }
    }

    /// Writes what is gathered, and lets copies in. Whoever calls this holds no value that will be added.
    fn flush(&mut self) -> Result<(), CheckpointError> {
        self.write()?;
        if self.is_checkpoint {
            copy_rests(self.shared, self.epoch)?;
            self.paid_up_to = thread_cpu();
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), CheckpointError> {
        let changes = std::mem::take(&mut self.changes);
        self.bytes = 0;
        if changes.is_empty() {
            return Ok(());
        }
        in_time(self.shared)?;
        if self.is_checkpoint {
            apply(self.shared, changes, self.epoch)?;
        } else {
            apply_at_once(self.shared, changes, self.epoch)?;
        }
        self.charge();
        Ok(())
    }

    /// Bills the CPU time since the last call to the installations that caused it.
    fn charge(&mut self) {
        let now = thread_cpu();
        let spent = now.saturating_sub(std::mem::replace(&mut self.paid_up_to, now));
        let parts = self.payers.iter().map(|(_, part)| part).sum::<usize>();
        for (lane, part) in self.payers.drain(..) {
            self.shared.listener.folded(&lane, spent.mul_f64(part as f64 / parts as f64));
        }
    }
}

/// Ends a checkpoint between two steps where the process has to end: whoever stops it kills it soon.
fn in_time(shared: &Shared) -> Result<(), CheckpointError> {
    if shared.is_over() { Err(CheckpointError::OutOfTime) } else { Ok(()) }
}

/// Brings changes to the store's disk.
pub(crate) fn apply(shared: &Shared, changes: Vec<Change>, epoch: Epoch) -> Result<(), CheckpointError> {
    with_room(shared, || apply_at_once(shared, changes.clone(), epoch))
}

/// As [`apply`], but fails on a full disk.
pub(super) fn apply_at_once(
    shared: &Shared,
    changes: Vec<Change>,
    epoch: Epoch,
) -> Result<(), CheckpointError> {
    match shared.storage.apply(changes, epoch)? {
        Applied::Done => Ok(()),
        Applied::Fenced => Err(CheckpointError::Fenced),
    }
}
