//! The whole journal of the stream for its readers: blocks up to the last checkpoint, and behind
//! them the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::damage::Damage;
use crate::records::{BodyError, commit, readings};
use ironloom_storage::journal::{
    self, BlockError, BlockFiles, BlockIndex, Chunk, Entry, Filter, NotDense, ReadError, Selection,
};
use ironloom_storage::log::{LogError, LogReader, Record, RecordKind, RecordRef};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, Position, Sequence, StreamId, TenantId};

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
    tail: VecDeque<Tail>,
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
    /// The last sequence that is in the journal and routed.
    last: AtomicU64,
    cache: Mutex<VecDeque<Arc<Chunk>>>,
    damage: Damage,
    /// The block file that was looked at last; 0 before the first.
    looked_at: AtomicU32,
    /// Entries of `tail`, for whoever doesn't wait for it.
    in_log: AtomicUsize,
    /// The sequence before which records of this process or of the log that it has read have dropped blocks.
    dropped_before: AtomicU64,
}

impl Journal {
    /// The journal that these blocks are, without anything of the log yet.
    pub(super) fn new(files: Arc<BlockFiles>, blocks: BlockIndex, log: LogReader, last: Sequence) -> Self {
        Self {
            files,
            inner: RwLock::new(Inner { blocks, ..Inner::default() }),
            log,
            last: AtomicU64::new(last.0),
            cache: Mutex::default(),
            damage: Damage::default(),
            looked_at: AtomicU32::new(0),
            in_log: AtomicUsize::new(0),
            dropped_before: AtomicU64::new(0),
        }
    }

    /// The sequence before which blocks were dropped, as far as the records say that were applied here.
    pub(super) fn dropped_before(&self) -> Sequence {
        Sequence(self.dropped_before.load(Ordering::SeqCst))
    }

    /// The last sequence there is.
    pub(crate) fn last(&self) -> Sequence {
        Sequence(self.last.load(Ordering::SeqCst))
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
        let files = self.inner.read().blocks.files_after(TenantId::MAIN, StreamId::MAIN, after, most);
        for (file, need) in &files {
            let looked = self.files.look(*file, *need);
            if looked.is_ok() || self.has_file(*file) {
                self.damage.looked(*file, &looked);
            }
        }
        let last = files.last().map(|(file, _)| *file).filter(|_| files.len() == most);
        self.looked_at.store(last.unwrap_or(0), Ordering::Relaxed);
    }

    /// Reads of a block; `None` where it was dropped in the meantime.
    fn read_of<T>(
        &self,
        entry: &Entry,
        read: impl FnOnce() -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let read = read();
        if read.is_err() && entry.first_sequence < self.first() {
            return Ok(None);
        }
        self.damage.read(entry.location, &read);
        read.map(Some)
    }

    fn read(&self, entry: &Entry) -> Result<Option<Chunk>, ReadError> {
        self.read_of(entry, || journal::read(&self.files, entry))
    }

    fn has_file(&self, file: u32) -> bool {
        let inner = self.inner.read();
        inner
            .blocks
            .files_after(TenantId::MAIN, StreamId::MAIN, file - 1, 1)
            .first()
            .is_some_and(|(found, _)| *found == file)
    }

    /// The journal time of the reading of this sequence, or of one before it in the same block; `None` at the end.
    pub(crate) fn time_about(&self, sequence: Sequence) -> Option<Timestamp> {
        match self.place(&Filter::after(Sequence(sequence.0.saturating_sub(1)))) {
            Place::Block(entry) => Some(entry.first_time),
            Place::Log(tail) => Some(tail.time),
            Place::End => None,
        }
    }

    /// The block file that holds a sequence; `None` where it is in the log.
    pub(crate) fn file_of(&self, sequence: Sequence) -> Option<u32> {
        self.block(sequence).map(|entry| entry.location.file)
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

    /// The first sequence that is kept where retention drops what is due; `None` where nothing is.
    pub(crate) fn due_to_go(&self, retention: Retention) -> Option<Sequence> {
        let inner = self.inner.read();
        let entries = inner.blocks.entries(TenantId::MAIN, StreamId::MAIN);
        // With all that was recorded before it: time may have been set back from a wrong future.
        let last_old = |before| entries.iter().rposition(|entry| entry.last_time < before);
        let mut going = retention.before.and_then(last_old).map_or(0, |last| last + 1);
        if let Some(most) = retention.max_bytes {
            let files = inner.blocks.used_files();
            let mut bytes: u64 = files.values().sum();
            for (file, used) in files {
                if bytes <= most {
                    break;
                }
                bytes -= used;
                going = going.max(entries.partition_point(|entry| entry.location.file <= file));
            }
        }
        // The newest block stays in any case, and what is more than a few files goes the next time.
        let most = entries.first().map_or(0, |first| {
            entries.partition_point(|entry| {
                entry.location.file < first.location.file.saturating_add(FILES_AT_ONCE)
            })
        });
        let going = going.min(most).min(entries.len().saturating_sub(1));
        (going > 0).then(|| entries[going].first_sequence)
    }

    /// The sequence behind the block that holds this one, or is the next one.
    pub(crate) fn behind_block(&self, sequence: Sequence) -> Sequence {
        self.block(sequence).map_or(sequence, |entry| entry.last_sequence()).next()
    }

    /// The block that holds a sequence, or is the next one.
    pub(super) fn block(&self, sequence: Sequence) -> Option<Entry> {
        let inner = self.inner.read();
        let before = Sequence(sequence.0.saturating_sub(1));
        inner.blocks.after(TenantId::MAIN, StreamId::MAIN, before).first().copied()
    }

    /// The last sequence of the block that `find` would read; `None` where that isn't in a block.
    pub(crate) fn end_of_found(&self, filter: &Filter) -> Option<Sequence> {
        match self.place(filter) {
            Place::Block(entry) => Some(entry.last_sequence()),
            Place::Log(_) | Place::End => None,
        }
    }

    /// Says whether files wait for a checkpoint to be removed.
    pub(super) fn has_emptied(&self) -> bool {
        !self.inner.read().emptied.is_empty()
    }

    /// Notes files of which a record up to this position has dropped all blocks.
    pub(super) fn note_emptied(&self, files: impl IntoIterator<Item = u32>, position: Position) {
        self.inner.write().emptied.extend(files.into_iter().map(|file| (position, file)));
    }

    /// Drops the blocks before `from`, which the record of this position says. Returns the first sequences of those
    /// that are gone: their keys have to go with the next checkpoint, and their files behind it.
    pub(super) fn drop_before(&self, from: Sequence, position: Position) -> Vec<Sequence> {
        self.dropped_before.fetch_max(from.0, Ordering::SeqCst);
        let mut inner = self.inner.write();
        let gone = inner.blocks.drop_before(TenantId::MAIN, StreamId::MAIN, from);
        let kept =
            inner.blocks.entries(TenantId::MAIN, StreamId::MAIN).first().map(|entry| entry.location.file);
        let mut emptied: Vec<u32> = gone.iter().map(|entry| entry.location.file).collect();
        emptied.dedup();
        emptied.retain(|file| kept.is_none_or(|kept| *file < kept));
        inner.emptied.extend(emptied.into_iter().map(|file| (position, file)));
        drop(inner);
        if let Some(kept) = kept {
            self.damage.forget_before(kept);
        }
        self.cache.lock().retain(|chunk| chunk.next_sequence() > from);
        gone.into_iter().map(|entry| entry.first_sequence).collect()
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
        let (first, count) = (chunk.first_sequence, chunk.len() as u32);
        assert!(first == self.last().next(), "sequences are dense within the stream");
        self.inner.write().tail.push_back(Tail { first, count, time: chunk.time(0), at });
        self.in_log.fetch_add(1, Ordering::Relaxed);
        self.last.store(first.0 + u64::from(count) - 1, Ordering::SeqCst);
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
    pub(super) fn fold(&self, blocks: Vec<Entry>) -> Result<usize, journal::NotDense> {
        let mut inner = self.inner.write();
        let before = inner.tail.len();
        for entry in blocks {
            let through = entry.last_sequence();
            inner.blocks.push(TenantId::MAIN, StreamId::MAIN, entry)?;
            while inner.tail.front().is_some_and(|tail| tail.first <= through) {
                inner.tail.pop_front();
            }
        }
        let left = inner.tail.len();
        // What a rush has made it grow to isn't needed for ever.
        if left < inner.tail.capacity() / 8 {
            inner.tail.shrink_to(2 * left);
        }
        self.in_log.store(left, Ordering::Relaxed);
        Ok((before - left) * size_of::<Tail>())
    }

    /// The first and the last record of the log that hold readings behind the blocks and up to this sequence.
    pub(super) fn tail_records(&self, through: Sequence) -> Option<(Position, Position)> {
        let inner = self.inner.read();
        let end = inner.tail.partition_point(|tail| tail.first <= through);
        let last = inner.tail.get(end.checked_sub(1)?)?;
        Some((inner.tail.front()?.at.position, last.at.position))
    }

    /// Checks that a block that begins with this sequence would follow the last one.
    pub(super) fn follows_blocks(&self, first: Sequence) -> Result<(), NotDense> {
        let (tenant, stream) = (TenantId::MAIN, StreamId::MAIN);
        let span = self.inner.read().blocks.span(tenant, stream);
        let expected = span.map_or(Sequence(1), |(_, last)| last.next());
        if first == expected { Ok(()) } else { Err(NotDense { tenant, stream, expected, found: first }) }
    }

    /// The sequence from which on all readings have this journal time or a later one; the one after the last where
    /// none has. Where time was set back, readings of the time that was left behind may come before it.
    pub(crate) fn first_since(&self, time: Timestamp) -> Result<Sequence, JournalError> {
        let entry = {
            let inner = self.inner.read();
            if let Some(tail) = inner.tail.iter().rfind(|tail| tail.time < time) {
                return Ok(Sequence(tail.first.0 + u64::from(tail.count)));
            }
            inner.blocks.last_before(TenantId::MAIN, StreamId::MAIN, time).copied()
        };
        let Some(entry) = entry else { return Ok(self.first()) };
        // Where it was dropped meanwhile, all that is left came later.
        let Some(chunk) = self.read(&entry)? else { return Ok(self.first()) };
        let rows = chunk.runs.iter().rfind(|run| run.time < time).map_or(0, |run| run.end);
        Ok(Sequence(chunk.first_sequence.0 + u64::from(rows)))
    }

    /// The first sequence that is kept.
    pub(crate) fn first(&self) -> Sequence {
        let inner = self.inner.read();
        let span = inner.blocks.span(TenantId::MAIN, StreamId::MAIN).map(|(first, _)| first);
        span.or_else(|| inner.tail.front().map(|tail| tail.first)).unwrap_or(self.last().next())
    }

    /// The chunk that holds this sequence, or the next one that there is; `None` at the end.
    pub(crate) fn chunk_from(&self, from: Sequence) -> Result<Option<Arc<Chunk>>, JournalError> {
        self.find(&Filter::after(Sequence(from.0.saturating_sub(1))))
    }

    /// At most so many of the next readings that pass the filter, perhaps none yet; `None` at the end. Where few points
    /// are wanted, a block is searched for them and doesn't take the place in the cache of one that lanes read.
    pub(crate) fn select(&self, filter: &Filter, most: usize) -> Result<Option<Selection>, JournalError> {
        while filter.is_narrow()
            && self.cached(filter).is_none()
            && let Place::Block(entry) = self.place(filter)
        {
            let select = || journal::select(&self.files, &entry, filter, most);
            if let Some(selected) = self.read_of(&entry, select)? {
                return Ok(Some(selected));
            }
        }
        Ok(self.find(filter)?.map(|chunk| Selection::of(&chunk, filter, most)))
    }

    fn cached(&self, filter: &Filter) -> Option<Arc<Chunk>> {
        self.cache.lock().iter().find(|chunk| holds(chunk, filter.after.next())).cloned()
    }

    /// The next chunk that may hold readings that pass the filter; `None` at the end.
    pub(crate) fn find(&self, filter: &Filter) -> Result<Option<Arc<Chunk>>, JournalError> {
        loop {
            let known = self.cached(filter);
            if known.is_some() {
                return Ok(known);
            }
            let chunk = match self.place(filter) {
                Place::End => return Ok(None),
                Place::Block(entry) => match self.read(&entry)? {
                    Some(chunk) => Arc::new(chunk),
                    None => continue,
                },
                Place::Log(tail) => {
                    let record = match self.log.read(tail.at) {
                        // Folded since: it is in a block now.
                        Err(LogError::Freed { .. }) => continue,
                        read => read?,
                    };
                    Arc::new(chunk_of(&record)?)
                }
            };
            let mut cache = self.cache.lock();
            cache.push_back(Arc::clone(&chunk));
            if cache.len() > CACHED {
                cache.pop_front();
            }
            return Ok(Some(chunk));
        }
    }

    /// The journal time of the reading of this sequence, or of the next one that there is; `None` at the end. A block
    /// is read only where its readings differ.
    pub(crate) fn time_from(&self, from: Sequence) -> Result<Option<Timestamp>, JournalError> {
        let before = Sequence(from.0.saturating_sub(1));
        match self.place(&Filter::after(before)) {
            Place::End => Ok(None),
            Place::Log(tail) => Ok(Some(tail.time)),
            Place::Block(entry) if entry.first_time == entry.last_time => Ok(Some(entry.first_time)),
            Place::Block(_) => {
                let chunk = self.chunk_from(from)?;
                Ok(chunk.map(|chunk| chunk.time(chunk.row_after(before).min(chunk.len() - 1))))
            }
        }
    }

    fn place(&self, filter: &Filter) -> Place {
        let inner = self.inner.read();
        let blocks = inner.blocks.after(TenantId::MAIN, StreamId::MAIN, filter.after);
        if let Some(entry) = blocks.iter().find(|entry| filter.may_match(entry)) {
            return Place::Block(*entry);
        }
        let next =
            inner.tail.partition_point(|tail| tail.first.0 + u64::from(tail.count) <= filter.after.next().0);
        inner.tail.get(next).map_or(Place::End, |tail| Place::Log(*tail))
    }
}

enum Place {
    Block(Entry),
    Log(Tail),
    End,
}

fn holds(chunk: &Chunk, sequence: Sequence) -> bool {
    chunk.first_sequence <= sequence && sequence < chunk.next_sequence()
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
        RecordKind::Admin | RecordKind::Mark => return Ok(Chunk::empty(header.first_sequence)),
    };
    Ok(Chunk::of_record(header.first_sequence, header.journal_time, hops, origin, columns))
}
