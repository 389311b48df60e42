//! The whole journal for its readers: blocks up to the last checkpoint, and behind them the log. Each tenant's readings are a
//! stream of their own, and are read through [`Journal::of`] alone.

mod one;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

pub(crate) use self::one::OneJournal;
use super::damage::Damage;
use crate::records::{BodyError, commit, readings};
use ironloom_storage::journal::{self, BlockError, BlockFiles, BlockIndex, Chunk, Entry, ReadError};
use ironloom_storage::log::{LogError, LogReader, Record, RecordKind, RecordRef};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, LastSequences, Position, Sequence, StreamId, TenantId};

/// Chunks that are kept for the lanes that come after, since several often catch up together.
const CACHED: usize = 16;

/// The reason why a part of the journal can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record of the log.
    #[error("record {position} of the log: {error}")]
    Body { position: ironloom_types::ids::Position, error: BodyError },
    #[error(transparent)]
    Block(#[from] ReadError),
}

impl JournalError {
    /// Says whether a block's bytes are wrong. A file that is missing, or on a disk that fails, may come back.
    pub(crate) fn is_for_good(&self) -> bool {
        let Self::Block(ReadError::Block { error, .. }) = self else { return false };
        !matches!(error, BlockError::Unsupported { .. })
    }
}

/// Readings of a record that isn't in a block yet.
#[derive(Clone, Copy, Debug)]
struct Tail {
    first: Sequence,
    count: u32,
    time: Timestamp,
    at: RecordRef,
}

#[derive(Default)]
struct Inner {
    blocks: BlockIndex,
    tails: BTreeMap<TenantId, VecDeque<Tail>>,
    /// Files without a block that counts, each with the record that took the last one away.
    emptied: VecDeque<(Position, u32)>,
}

/// Block files of which the blocks are dropped by one record.
const FILES_AT_ONCE: u32 = 8;

/// Limits of the journal as of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Readings of before this time go.
    pub before: Option<Timestamp>,
    /// The oldest go where block files take more bytes.
    pub max_bytes: Option<u64>,
}

pub(crate) struct Journal {
    files: Arc<BlockFiles>,
    inner: RwLock<Inner>,
    log: LogReader,
    /// The last sequences that are in the journal and routed. For whoever doesn't wait for what is read.
    last: RwLock<LastSequences>,
    cache: Mutex<VecDeque<Arc<Chunk>>>,
    damage: Damage,
    /// The block file that was looked at last; 0 before the first.
    looked_at: AtomicU32,
    /// Readings that came since the start.
    come: AtomicU64,
    /// Entries of `tails`, for whoever doesn't wait for them.
    in_log: AtomicUsize,
    /// The sequences before which records of this process or of the log that it has read have dropped blocks.
    dropped_before: Mutex<LastSequences>,
}

impl Journal {
    /// The journal that these blocks are, without anything of the log yet.
    pub(super) fn new(
        files: Arc<BlockFiles>,
        blocks: BlockIndex,
        log: LogReader,
        last: LastSequences,
    ) -> Self {
        Self {
            files,
            inner: RwLock::new(Inner { blocks, ..Inner::default() }),
            log,
            last: RwLock::new(last),
            cache: Mutex::default(),
            damage: Damage::default(),
            looked_at: AtomicU32::new(0),
            come: AtomicU64::new(0),
            in_log: AtomicUsize::new(0),
            dropped_before: Mutex::default(),
        }
    }

    /// That of a tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> OneJournal<'_> {
        OneJournal::new(self, tenant)
    }

    /// Readings that came since the start, whosever they are.
    pub(crate) fn come(&self) -> u64 {
        self.come.load(Ordering::Relaxed)
    }

    /// The last sequences there are.
    pub(super) fn last_sequences(&self) -> LastSequences {
        self.last.read().clone()
    }

    /// The files of its blocks.
    pub(crate) fn files(&self) -> &BlockFiles {
        &self.files
    }

    /// The parts of it that can't be read, for people.
    pub(crate) fn damage(&self) -> Vec<String> {
        self.damage.told()
    }

    /// Looks whether the next block files are there, at most so many, and begins again behind the last one.
    pub(crate) fn look_at_files(&self, most: usize) {
        let after = self.looked_at.load(Ordering::Relaxed);
        let files = self.inner.read().blocks.files_after(after, most);
        for (file, need) in &files {
            let looked = self.files.look(*file, *need);
            if looked.is_ok() || self.has_file(*file) {
                self.damage.looked(*file, &looked);
            }
        }
        let last = files.last().map(|(file, _)| *file).filter(|_| files.len() == most);
        self.looked_at.store(last.unwrap_or(0), Ordering::Relaxed);
    }

    fn has_file(&self, file: u32) -> bool {
        let inner = self.inner.read();
        inner.blocks.has_file(file)
    }

    /// The bytes in use of each block file.
    pub(crate) fn bytes_by_file(&self) -> BTreeMap<u32, u64> {
        self.inner.read().blocks.used_files()
    }

    /// The bytes of the block files that are in use.
    #[cfg(test)]
    pub(super) fn files_bytes(&self) -> u64 {
        self.inner.read().blocks.used_files().values().sum()
    }

    /// The first sequence that each tenant keeps where retention drops what is due, of those that lose something.
    pub(crate) fn due_to_go(&self, retention: Retention) -> LastSequences {
        let inner = self.inner.read();
        let mut through = None;
        if let Some(most) = retention.max_bytes {
            let files = inner.blocks.used_files();
            let mut bytes: u64 = files.values().sum();
            for (file, used) in &files {
                if bytes <= most {
                    break;
                }
                bytes -= used;
                through = Some(*file);
            }
        }
        // What is more than a few files goes the next time.
        let end = inner.blocks.first_file().map_or(0, |file| file.saturating_add(FILES_AT_ONCE));
        let due = |(tenant, stream)| {
            let entries = inner.blocks.entries(tenant, stream);
            // With all that was recorded before it: time may have been set back from a wrong future.
            let last_old = |before| entries.iter().rposition(|entry| entry.last_time < before);
            let old = retention.before.and_then(last_old).map_or(0, |last| last + 1);
            let behind = |file| entries.partition_point(|entry| entry.location.file <= file);
            let going = old.max(through.map_or(0, behind));
            let most = entries.partition_point(|entry| entry.location.file < end);
            // The newest block stays in any case.
            let going = going.min(most).min(entries.len().saturating_sub(1));
            (going > 0).then(|| (tenant, entries[going].first_sequence))
        };
        inner.blocks.streams().filter_map(due).collect()
    }

    /// Says whether files wait for a checkpoint to be removed.
    pub(super) fn has_emptied(&self) -> bool {
        !self.inner.read().emptied.is_empty()
    }

    /// Notes files of which a record up to this position has dropped all blocks.
    pub(super) fn note_emptied(&self, files: impl IntoIterator<Item = u32>, position: Position) {
        self.inner.write().emptied.extend(files.into_iter().map(|file| (position, file)));
    }

    /// Removes the files of which the store has forgotten every block, as of a checkpoint through this position. One that can't be
    /// removed is put aside by the next start.
    pub(super) fn remove_emptied(&self, through: Position) {
        loop {
            let file = {
                let mut inner = self.inner.write();
                match inner.emptied.front() {
                    Some((position, _)) if *position <= through => inner.emptied.pop_front(),
                    _ => None,
                }
            };
            let Some((_, file)) = file else { return };
            if let Err(error) = self.files.remove(file) {
                tracing::warn!(%error, "a file of the journal that is past its retention could not be removed");
            }
        }
    }

    /// Takes over the readings of a record that is on the disk.
    pub(super) fn append(&self, chunk: &Arc<Chunk>, at: RecordRef) {
        if chunk.is_empty() {
            return;
        }
        let (tenant, first, count) = (chunk.tenant, chunk.first_sequence, chunk.len() as u32);
        assert!(first == self.of(tenant).last().next(), "sequences are dense within the stream");
        let tail = Tail { first, count, time: chunk.time(0), at };
        self.inner.write().tails.entry(tenant).or_default().push_back(tail);
        self.in_log.fetch_add(1, Ordering::Relaxed);
        self.come.fetch_add(u64::from(count), Ordering::Relaxed);
        self.last.write().set(tenant, chunk.last_sequence());
    }

    /// The log that holds what is behind the blocks.
    pub(super) fn log(&self) -> &LogReader {
        &self.log
    }

    /// Bytes of memory that the places of readings in the log take.
    pub(super) fn tail_bytes(&self) -> usize {
        self.in_log.load(Ordering::Relaxed) * size_of::<Tail>()
    }

    /// Takes over the blocks of a checkpoint: up to their end the log is no longer read. Returns the bytes of memory that
    /// the places of their records took.
    pub(super) fn fold(&self, blocks: Vec<(TenantId, Entry)>) -> Result<usize, journal::NotDense> {
        let mut inner = self.inner.write();
        let mut folded = 0;
        for (tenant, entry) in blocks {
            let through = entry.last_sequence();
            inner.blocks.push(tenant, StreamId::MAIN, entry)?;
            let Some(tail) = inner.tails.get_mut(&tenant) else { continue };
            let before = tail.len();
            while tail.front().is_some_and(|tail| tail.first <= through) {
                tail.pop_front();
            }
            folded += before - tail.len();
            // What a rush has made it grow to isn't needed for ever.
            if tail.len() < tail.capacity() / 8 {
                tail.shrink_to(2 * tail.len());
            }
        }
        inner.tails.retain(|_, tail| !tail.is_empty());
        self.in_log.fetch_sub(folded, Ordering::Relaxed);
        Ok(folded * size_of::<Tail>())
    }

    /// The first and the last record of the log, up to this one, that hold readings behind the blocks.
    pub(super) fn tail_records(&self, through: Position) -> Option<(Position, Position)> {
        let inner = self.inner.read();
        let firsts = inner.tails.values().filter_map(|tail| tail.front()).map(|tail| tail.at.position);
        let first = firsts.min().filter(|first| *first <= through)?;
        let lasts = inner.tails.values().filter_map(|tail| {
            let end = tail.partition_point(|tail| tail.at.position <= through);
            Some(tail.get(end.checked_sub(1)?)?.at.position)
        });
        Some((first, lasts.max()?))
    }
}

/// The readings of a record, as a chunk; an empty one for a record without any.
pub(crate) fn chunk_of(record: &Record) -> Result<Chunk, JournalError> {
    let (header, position) = (&record.header, record.header.position);
    let body = |error| JournalError::Body { position, error };
    let (columns, hops, origin) = match header.kind {
        RecordKind::Readings => {
            (readings::decode(header.version, &record.body).map_err(body)?.columns, 0, Generation(0))
        }
        RecordKind::Commit => {
            let commit = commit::decode(header.version, &record.body).map_err(body)?;
            (commit.derived, commit.head.hops, commit.head.generation)
        }
        RecordKind::Admin | RecordKind::Mark => {
            return Ok(Chunk::empty(header.tenant, header.first_sequence));
        }
    };
    Ok(Chunk::of_record(header.tenant, header.first_sequence, header.journal_time, hops, origin, columns))
}
