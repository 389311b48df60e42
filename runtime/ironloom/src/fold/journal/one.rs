//! The journal of one tenant: its blocks, and behind them its records of the log.

use std::sync::Arc;

use super::{CACHED, Journal, JournalError, Tail, chunk_of};
use ironloom_storage::journal::{self, Chunk, Entry, Filter, NotDense, ReadError, Selection};
use ironloom_storage::log::LogError;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Position, Sequence, StreamId, TenantId};

/// The journal of one tenant.
#[derive(Clone, Copy)]
pub(crate) struct OneJournal<'j> {
    all: &'j Journal,
    tenant: TenantId,
}

impl<'j> OneJournal<'j> {
    pub(super) fn new(all: &'j Journal, tenant: TenantId) -> Self {
        Self { all, tenant }
    }

    /// The sequence before which blocks were dropped, as far as the records say that were applied here.
    pub(in crate::fold) fn dropped_before(self) -> Sequence {
        self.all.dropped_before.lock().of(self.tenant)
    }

    /// The last sequence there is.
    pub(crate) fn last(self) -> Sequence {
        self.all.last.read().of(self.tenant)
    }

    /// Reads of a block; `None` where it was dropped in the meantime.
    fn read_of<T>(
        self,
        entry: &Entry,
        read: impl FnOnce() -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let read = read();
        if read.is_err() && entry.first_sequence < self.first() {
            return Ok(None);
        }
        self.all.damage.read(entry.location, &read);
        read.map(Some)
    }

    fn read(self, entry: &Entry) -> Result<Option<Chunk>, ReadError> {
        self.read_of(entry, || journal::read(&self.all.files, self.tenant, entry))
    }

    /// The journal time of the reading of this sequence, or of one before it in the same block; `None` at the end.
    pub(crate) fn time_about(self, sequence: Sequence) -> Option<Timestamp> {
        match self.place(&Filter::after(Sequence(sequence.0.saturating_sub(1)))) {
            Place::Block(entry) => Some(entry.first_time),
            Place::Log(tail) => Some(tail.time),
            Place::End => None,
        }
    }

    /// The block file that holds a sequence; `None` where it is in the log.
    pub(crate) fn file_of(self, sequence: Sequence) -> Option<u32> {
        self.block(sequence).map(|entry| entry.location.file)
    }

    /// The sequence behind the block that holds this one, or is the next one.
    pub(crate) fn behind_block(self, sequence: Sequence) -> Sequence {
        self.block(sequence).map_or(sequence, |entry| entry.last_sequence()).next()
    }

    /// The block that holds a sequence, or is the next one.
    pub(in crate::fold) fn block(self, sequence: Sequence) -> Option<Entry> {
        let inner = self.all.inner.read();
        let before = Sequence(sequence.0.saturating_sub(1));
        inner.blocks.after(self.tenant, StreamId::MAIN, before).first().copied()
    }

    /// The last sequence of the block that `find` would read; `None` where that isn't in a block.
    pub(crate) fn end_of_found(self, filter: &Filter) -> Option<Sequence> {
        match self.place(filter) {
            Place::Block(entry) => Some(entry.last_sequence()),
            Place::Log(_) | Place::End => None,
        }
    }

    /// Drops the blocks before `from`, which the record of this position says. Returns the first sequences of those
    /// that are gone: their keys have to go with the next checkpoint, and their files behind it.
    pub(in crate::fold) fn drop_before(self, from: Sequence, position: Position) -> Vec<Sequence> {
        {
            let mut dropped = self.all.dropped_before.lock();
            let before = dropped.of(self.tenant);
            dropped.set(self.tenant, from.max(before));
        }
        let mut inner = self.all.inner.write();
        let gone = inner.blocks.drop_before(self.tenant, StreamId::MAIN, from);
        let kept = inner.blocks.first_file();
        let mut emptied: Vec<u32> = gone.iter().map(|entry| entry.location.file).collect();
        emptied.dedup();
        // Others may have blocks in the same files.
        emptied.retain(|file| !inner.blocks.has_file(*file));
        inner.emptied.extend(emptied.into_iter().map(|file| (position, file)));
        drop(inner);
        if let Some(kept) = kept {
            self.all.damage.forget_before(kept);
        }
        self.all.cache.lock().retain(|chunk| chunk.tenant != self.tenant || chunk.next_sequence() > from);
        gone.into_iter().map(|entry| entry.first_sequence).collect()
    }

    /// Checks that a block that begins with this sequence would follow the last one.
    pub(in crate::fold) fn follows_blocks(self, first: Sequence) -> Result<(), NotDense> {
        let (tenant, stream) = (self.tenant, StreamId::MAIN);
        let span = self.all.inner.read().blocks.span(tenant, stream);
        let expected = span.map_or(Sequence(1), |(_, last)| last.next());
        if first == expected { Ok(()) } else { Err(NotDense { tenant, stream, expected, found: first }) }
    }

    /// The sequence from which on all readings have this journal time or a later one; the one after the last where
    /// none has. Where time was set back, readings of the time that was left behind may come before it.
    pub(crate) fn first_since(self, time: Timestamp) -> Result<Sequence, JournalError> {
        let entry = {
            let inner = self.all.inner.read();
            let mut tail = inner.tails.get(&self.tenant).into_iter().flatten();
            if let Some(tail) = tail.rfind(|tail| tail.time < time) {
                return Ok(Sequence(tail.first.0 + u64::from(tail.count)));
            }
            inner.blocks.last_before(self.tenant, StreamId::MAIN, time).copied()
        };
        let Some(entry) = entry else { return Ok(self.first()) };
        // Where it was dropped meanwhile, all that is left came later.
        let Some(chunk) = self.read(&entry)? else { return Ok(self.first()) };
        let rows = chunk.runs.iter().rfind(|run| run.time < time).map_or(0, |run| run.end);
        Ok(Sequence(chunk.first_sequence.0 + u64::from(rows)))
    }

    /// The first sequence that is kept.
    pub(crate) fn first(self) -> Sequence {
        let inner = self.all.inner.read();
        let span = inner.blocks.span(self.tenant, StreamId::MAIN).map(|(first, _)| first);
        span.or_else(|| inner.tails.get(&self.tenant)?.front().map(|tail| tail.first))
            .unwrap_or(self.last().next())
    }

    /// The chunk that holds this sequence, or the next one that there is; `None` at the end.
    pub(crate) fn chunk_from(self, from: Sequence) -> Result<Option<Arc<Chunk>>, JournalError> {
        self.find(&Filter::after(Sequence(from.0.saturating_sub(1))))
    }

    /// At most so many of the next readings that pass the filter, perhaps none yet; `None` at the end. Where few points
    /// are wanted, a block is searched for them and doesn't take the place in the cache of one that lanes read.
    pub(crate) fn select(self, filter: &Filter, most: usize) -> Result<Option<Selection>, JournalError> {
        while filter.is_narrow()
            && self.cached(filter).is_none()
            && let Place::Block(entry) = self.place(filter)
        {
            let select = || journal::select(&self.all.files, self.tenant, &entry, filter, most);
            if let Some(selected) = self.read_of(&entry, select)? {
                return Ok(Some(selected));
            }
        }
        Ok(self.find(filter)?.map(|chunk| Selection::of(&chunk, filter, most)))
    }

    fn cached(self, filter: &Filter) -> Option<Arc<Chunk>> {
        let is_it = |chunk: &&Arc<Chunk>| chunk.tenant == self.tenant && holds(chunk, filter.after.next());
        self.all.cache.lock().iter().find(is_it).cloned()
    }

    /// The next chunk that may hold readings that pass the filter; `None` at the end.
    pub(crate) fn find(self, filter: &Filter) -> Result<Option<Arc<Chunk>>, JournalError> {
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
                    let record = match self.all.log.read(tail.at) {
                        // Folded since: it is in a block now.
                        Err(LogError::Freed { .. }) => continue,
                        read => read?,
                    };
                    let chunk = chunk_of(&record)?;
                    assert!(chunk.tenant == self.tenant, "a record of the log is its tenant's");
                    Arc::new(chunk)
                }
            };
            let mut cache = self.all.cache.lock();
            cache.push_back(Arc::clone(&chunk));
            if cache.len() > CACHED {
                cache.pop_front();
            }
            return Ok(Some(chunk));
        }
    }

    /// The journal time of the reading of this sequence, or of the next one that there is; `None` at the end. A block
    /// is read only where its readings differ.
    pub(crate) fn time_from(self, from: Sequence) -> Result<Option<Timestamp>, JournalError> {
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

    fn place(self, filter: &Filter) -> Place {
        let inner = self.all.inner.read();
        let blocks = inner.blocks.after(self.tenant, StreamId::MAIN, filter.after);
        if let Some(entry) = blocks.iter().find(|entry| filter.may_match(entry)) {
            return Place::Block(*entry);
        }
        let Some(tail) = inner.tails.get(&self.tenant) else { return Place::End };
        let next = tail.partition_point(|tail| tail.first.0 + u64::from(tail.count) <= filter.after.next().0);
        tail.get(next).map_or(Place::End, |tail| Place::Log(*tail))
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
