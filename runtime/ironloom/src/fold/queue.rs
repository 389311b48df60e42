//! What waits for a lane: notes of which rows of which records are its own. The fold adds them and, with
//! each commit, takes away those that are dealt with. Past a bound only "behind from here" is kept, and
//! the lane reads the journal.

mod note;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

pub(crate) use self::note::{Note, RowNote, Slice};
use ironloom_storage::journal::Chunk;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Sequence;

/// Rows that are noted for a lane at most. Beyond: it reads them from the journal.
const MOST_ROWS: usize = 128 * 1024;
/// Bytes of records that the notes of a lane keep in memory at most.
const MOST_BYTES: usize = 32 << 20;
/// Bytes of records that the notes of all lanes together keep in memory at most.
const MOST_BYTES_OF_ALL: usize = if cfg!(test) { 1 << 20 } else { 128 << 20 };
/// Rows, and bytes, that a lane may note whatever the others do: a batch, so that it never runs once a record.
const BATCH_ROWS: usize = 16 * 1024;
const BATCH_BYTES: usize = 4 << 20;

/// The bytes that the notes of all lanes share. Where they are used up, the lanes that hold most fall behind
/// ([`Shared::relieve_notes`](super::Shared::relieve_notes)).
#[derive(Debug)]
pub(crate) struct NoteBudget {
    used: AtomicUsize,
    most: usize,
}

impl Default for NoteBudget {
    fn default() -> Self {
        Self::new(MOST_BYTES_OF_ALL)
    }
}

impl NoteBudget {
    /// A budget of so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }

    /// Says whether nothing is left.
    pub(super) fn is_used_up(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.most
    }

    /// Says whether so much is left that it isn't used up again at once.
    pub(super) fn is_relieved(&self) -> bool {
        self.used.load(Ordering::Relaxed) <= self.most / 4 * 3
    }
}

/// A note with its part of the budget, which it gives back when it goes.
#[derive(Debug)]
struct Kept {
    note: Note,
    bytes: usize,
    budget: Arc<NoteBudget>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The queue of one lane.
#[derive(Debug)]
pub(crate) struct Queue {
    notes: VecDeque<Kept>,
    /// Rows of the first note that are dealt with.
    done: usize,
    rows: usize,
    bytes: usize,
    /// The first sequence that isn't noted, where the lane is behind its notes.
    behind: Option<Sequence>,
    /// From here on the journal couldn't be read: it isn't tried before this time, nor before what is noted is dealt with.
    unreadable: Option<(Sequence, Instant)>,
    /// Everything before this has been noted or dealt with.
    next: Sequence,
    budget: Arc<NoteBudget>,
}

impl Queue {
    /// A lane for which nothing up to this sequence waits, and which is told of what comes after it.
    pub(crate) fn after(cursor: Sequence, budget: &Arc<NoteBudget>) -> Self {
        Self {
            notes: VecDeque::new(),
            done: 0,
            rows: 0,
            bytes: 0,
            behind: None,
            unreadable: None,
            next: cursor.next(),
            budget: Arc::clone(budget),
        }
    }

    /// A lane that has to read the journal from behind this sequence on.
    pub(crate) fn behind(cursor: Sequence, budget: &Arc<NoteBudget>) -> Self {
        Self { behind: Some(cursor.next()), ..Self::after(cursor, budget) }
    }

    /// Notes rows of a chunk that has just been routed.
    pub(super) fn note(&mut self, chunk: &Arc<Chunk>, rows: &[RowNote]) {
        if self.behind.is_some() {
            return;
        }
        let unknown =
            rows.partition_point(|row| chunk.first_sequence.0 + u64::from(row.offset) < self.next.0);
        let Some(first) = rows.get(unknown) else { return };
        if self.rows >= MOST_ROWS || self.bytes >= MOST_BYTES || self.budget.is_used_up() {
            self.behind = Some(chunk.sequence(first.offset as usize));
            return;
        }
        self.push(chunk, &rows[unknown..]);
    }

    fn push(&mut self, chunk: &Arc<Chunk>, rows: &[RowNote]) {
        if rows.is_empty() {
            return;
        }
        let note = Note::of(chunk, rows);
        let bytes = note.bytes();
        self.rows += rows.len();
        self.bytes += bytes;
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.notes.push_back(Kept { note, bytes, budget: Arc::clone(&self.budget) });
    }

    /// Bytes that its notes keep in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the notes of a lane that is stopped, or holds most of them: it reads the journal again once it runs.
    pub(super) fn forget_notes(&mut self) {
        self.behind = self.pending();
        self.notes.clear();
        (self.done, self.rows, self.bytes) = (0, 0, 0);
        debug_assert!(self.is_sound());
    }

    /// Has the lane read all from this sequence on: what was noted was for other inputs.
    pub(super) fn begin_again(&mut self, from: Sequence) {
        self.forget_notes();
        (self.behind, self.next) = (Some(from), from);
    }

    /// Returns the place to read the journal from, if the lane is behind its notes and has room for more.
    pub(crate) fn wants(&self) -> Option<Sequence> {
        let has_room = self.rows < MOST_ROWS / 2 && self.bytes < MOST_BYTES / 2;
        let is_little = self.rows < BATCH_ROWS && self.bytes < BATCH_BYTES;
        let is_readable = self.unreadable.is_none_or(|(from, until)| {
            self.behind != Some(from) || (self.rows == 0 && until <= Instant::now())
        });
        self.behind.filter(|_| is_readable && has_room && (is_little || !self.budget.is_used_up()))
    }

    /// The journal can't be read at `from`, which `wants` said. It is tried again at `until`.
    pub(crate) fn not_read(&mut self, from: Sequence, until: Instant) {
        self.unreadable = Some((from, until));
    }

    /// Notes rows of the chunk that the journal has at `from`, which `wants` said; `None` at its end. `routed`
    /// is the last sequence that the fold had routed when this queue was locked.
    pub(crate) fn caught_up(
        &mut self,
        from: Sequence,
        chunk: Option<&Arc<Chunk>>,
        rows: &[RowNote],
        routed: Sequence,
    ) {
        // It may have forgotten its notes in the meantime: readings before `from` were not read.
        let Some(behind) = self.behind.filter(|behind| *behind >= from) else { return };
        let next = match chunk {
            Some(chunk) => {
                // A commit may have moved the lane on while the journal was read.
                let known =
                    rows.partition_point(|row| chunk.first_sequence.0 + u64::from(row.offset) < behind.0);
                self.push(chunk, &rows[known..]);
                chunk.next_sequence().max(behind)
            }
            None => behind,
        };
        self.next = next;
        self.behind = (next <= routed).then_some(next);
        debug_assert!(self.is_sound());
    }

    /// The number of waiting rows, as far as they are noted.
    pub(crate) fn noted(&self) -> usize {
        self.rows
    }

    /// Says whether the lane is behind its notes.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// From which sequence on it is behind its notes, if it is.
    pub(crate) fn behind_from(&self) -> Option<Sequence> {
        self.behind
    }

    /// The first sequence that waits, or may.
    pub(crate) fn pending(&self) -> Option<Sequence> {
        match self.notes.front() {
            Some(kept) => Some(kept.note.sequence(self.done)),
            None => self.behind,
        }
    }

    /// The journal time of the first row that waits.
    pub(crate) fn head_time(&self) -> Option<Timestamp> {
        self.notes.front().map(|kept| kept.note.time(self.done))
    }

    /// The first rows, without taking them: at most so many, of at most so many bytes of texts and blobs,
    /// and only those with a journal time before `until` and a sequence before `end`. At least one reading where the
    /// first is before both. A reading that several inputs take is never split: the cursor could not say where.
    pub(crate) fn first(
        &self,
        most: usize,
        most_bytes: usize,
        until: Option<Timestamp>,
        end: Option<Sequence>,
    ) -> Vec<Slice> {
        let (mut slices, mut rows, mut heap) = (Vec::new(), 0, 0);
        let mut from = self.done;
        for Kept { note, .. } in &self.notes {
            if until.is_some_and(|until| note.time(from) >= until) {
                break;
            }
            let mut to = note.rows.len().min(from.saturating_add(most - rows));
            if let Some(until) = until {
                // Time never goes back within a chunk.
                to = from
                    + note.rows[from..to].partition_point(|row| note.chunk.time(row.row as usize) < until);
            }
            if let Some(end) = end {
                to = from + note.rows[from..to].partition_point(|row| note.sequence_of(row) < end);
                if to == from {
                    break;
                }
            }
            let columns = &note.chunk.columns;
            if !columns.heap.is_empty() {
                let mut fits = from;
                while fits < to {
                    heap += columns.value_bytes(note.rows[fits].row as usize);
                    if heap > most_bytes && rows + fits > from {
                        break;
                    }
                    fits += 1;
                }
                to = fits;
            }
            to = note.whole_readings(from, to);
            if to > from {
                slices.push(Slice { note: note.clone(), from, to });
            }
            rows += to - from;
            if rows >= most || heap > most_bytes {
                break;
            }
            from = 0;
        }
        slices
    }

    /// Takes away what a commit has dealt with: everything up to its cursor.
    pub(super) fn advance(&mut self, cursor: Sequence) {
        while let Some(Kept { note, bytes, .. }) = self.notes.front() {
            let left = &note.rows[self.done..];
            let through = left.partition_point(|row| note.sequence_of(row) <= cursor);
            self.rows -= through;
            if through < left.len() {
                self.done += through;
                break;
            }
            self.done = 0;
            self.bytes -= bytes;
            self.notes.pop_front();
        }
        self.next = self.next.max(cursor.next());
        self.behind = self.behind.map(|behind| behind.max(cursor.next()));
        let is_empty = self.notes.is_empty();
        assert!(is_empty == (self.rows == 0), "rows are those of the notes");
        assert!(!is_empty || self.bytes == 0, "bytes are those of the notes");
        debug_assert!(self.is_sound());
    }

    /// Says whether rows and bytes are those of the notes, of which the first may be dealt with in part.
    fn is_sound(&self) -> bool {
        let rows: usize = self.notes.iter().map(|kept| kept.note.rows.len()).sum();
        let bytes: usize = self.notes.iter().map(|kept| kept.bytes).sum();
        let first = self.notes.front().map_or(1, |kept| kept.note.rows.len());
        self.rows + self.done == rows && self.bytes == bytes && self.done < first
    }

    /// Takes away what a commit has dealt with, for tests without a fold.
    #[cfg(test)]
    pub(crate) fn advance_for_test(&mut self, cursor: Sequence) {
        self.advance(cursor);
    }
}
