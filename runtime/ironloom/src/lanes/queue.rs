//! What waits for a lane: notes of which rows of which records are its own. The fold adds them, the
//! lane takes them; past the bound only "behind from here" is kept, and the lane reads the journal.

use std::collections::VecDeque;
use std::sync::Arc;

use ironloom_storage::journal::Chunk;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Sequence;

/// Rows that are noted for a lane at most. Beyond: it reads them from the journal.
const MOST_ROWS: usize = 128 * 1024;
/// Bytes of the records that a lane's notes keep in memory at most.
const MOST_BYTES: usize = 32 << 20;

/// One row that is for this lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowNote {
    /// The row of the chunk.
    pub row: u32,
    /// The entity among those of the lane.
    pub entity: u32,
    /// The input among those of the manifest.
    pub input: u16,
}

/// The rows of one chunk that are for this lane, in order.
#[derive(Clone, Debug)]
pub struct Note {
    /// The readings.
    pub chunk: Arc<Chunk>,
    /// Which of them.
    pub rows: Arc<[RowNote]>,
}

/// Some of a note's rows.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The note.
    pub note: Note,
    /// The first row of it.
    pub from: usize,
    /// The one after the last.
    pub to: usize,
}

impl Slice {
    /// The rows.
    pub fn rows(&self) -> &[RowNote] {
        &self.note.rows[self.from..self.to]
    }
}

/// The queue of one lane.
#[derive(Debug, Default)]
pub struct Queue {
    notes: VecDeque<Note>,
    /// Rows of the first note that are dealt with.
    done: usize,
    rows: usize,
    bytes: usize,
    /// The first sequence that isn't noted, where the lane is behind its notes.
    behind: Option<Sequence>,
    /// Everything before this has been noted or dealt with, where the journal was read.
    next: Sequence,
}

impl Queue {
    /// A lane whose notes begin behind this sequence: it is behind from there.
    pub fn behind(cursor: Sequence) -> Self {
        Self { behind: Some(cursor.next()), ..Self::default() }
    }

    /// Notes rows of a chunk that the fold has just routed.
    pub fn note(&mut self, chunk: &Arc<Chunk>, rows: &[RowNote]) {
        let Some(first) = rows.first() else { return };
        if self.behind.is_some() {
            return;
        }
        if self.rows >= MOST_ROWS || self.bytes >= MOST_BYTES {
            self.behind = Some(chunk.sequence(first.row as usize));
            return;
        }
        let known = chunk.row_after(Sequence(self.next.0.saturating_sub(1)));
        let unknown = rows.partition_point(|note| (note.row as usize) < known);
        self.push(chunk, &rows[unknown..]);
    }

    fn push(&mut self, chunk: &Arc<Chunk>, rows: &[RowNote]) {
        if rows.is_empty() {
            return;
        }
        self.rows += rows.len();
        self.bytes += chunk.columns.bytes();
        self.notes.push_back(Note { chunk: Arc::clone(chunk), rows: rows.into() });
    }

    /// Where the journal has to be read from: the lane is behind its notes and has room for more.
    pub fn wants(&self) -> Option<Sequence> {
        self.behind.filter(|_| self.rows < MOST_ROWS / 2 && self.bytes < MOST_BYTES / 2)
    }

    /// Notes rows of a chunk that was read from the journal, from `wants` on. `routed` is the last
    /// sequence that the fold had routed when this queue was locked.
    pub fn caught_up(&mut self, chunk: Option<&Arc<Chunk>>, rows: &[RowNote], routed: Sequence) {
        let Some(behind) = self.behind else { return };
        let next = match chunk {
            Some(chunk) => {
                self.push(chunk, rows);
                chunk.next_sequence().max(behind)
            }
            None => behind,
        };
        self.next = next;
        self.behind = (next <= routed).then_some(next);
    }

    /// How many rows wait, as far as they are noted.
    pub fn noted(&self) -> usize {
        self.rows
    }

    /// Whether nothing waits, noted or not.
    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.behind.is_none()
    }

    /// Whether the lane is behind its notes.
    pub fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// From which sequence on it is behind its notes, if it is.
    pub fn behind_from(&self) -> Option<Sequence> {
        self.behind
    }

    /// The first sequence that waits, or may.
    pub fn pending(&self) -> Option<Sequence> {
        match self.notes.front() {
            Some(note) => Some(note.chunk.sequence(note.rows[self.done].row as usize)),
            None => self.behind,
        }
    }

    /// The journal time of the first row that waits.
    pub fn head_time(&self) -> Option<Timestamp> {
        self.notes.front().map(|note| note.chunk.time(note.rows[self.done].row as usize))
    }

    /// The first rows, without taking them: at most so many, of at most so many bytes of texts and blobs,
    /// and only those with a journal time before `until`. At least one row where the first is before `until`.
    pub fn first(&self, most: usize, most_bytes: usize, until: Option<Timestamp>) -> Vec<Slice> {
        let (mut slices, mut rows, mut heap) = (Vec::new(), 0, 0);
        let mut from = self.done;
        for note in &self.notes {
            if until.is_some_and(|until| note.chunk.time(note.rows[from].row as usize) >= until) {
                break;
            }
            let mut to = note.rows.len().min(from.saturating_add(most - rows));
            if let Some(until) = until {
                // Time never goes back within a chunk.
                to = from
                    + note.rows[from..to].partition_point(|row| note.chunk.time(row.row as usize) < until);
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

    /// Takes the first rows away: they are dealt with.
    pub fn advance(&mut self, mut rows: usize) {
        assert!(rows <= self.rows, "a commit deals only with rows that wait");
        self.rows -= rows;
        while rows > 0 {
            let Some(note) = self.notes.front() else { return };
            let left = note.rows.len() - self.done;
            if rows < left {
                self.done += rows;
                return;
            }
            rows -= left;
            self.done = 0;
            self.bytes -= note.chunk.columns.bytes();
            self.notes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::{Generation, PointNumber};
    use ironloom_types::readings::{Columns, Quality, ValueRef};

    fn chunk(first: u64, rows: u64, time: u64) -> Arc<Chunk> {
        let mut columns = Columns::default();
        for row in 0..rows {
            columns.push(PointNumber(0), Timestamp(row), Quality::Good, ValueRef::Real(1.0));
        }
        Arc::new(Chunk::of_record(Sequence(first), Timestamp(time), 0, Generation(0), columns))
    }

    fn notes(rows: &[u32]) -> Vec<RowNote> {
        rows.iter().map(|&row| RowNote { row, entity: 0, input: 0 }).collect()
    }

    fn sequences(slices: &[Slice]) -> Vec<u64> {
        slices
            .iter()
            .flat_map(|slice| slice.rows().iter().map(|row| slice.note.chunk.sequence(row.row as usize).0))
            .collect()
    }

    #[test]
    fn rows_come_in_order_and_only_once() {
        let mut queue = Queue::default();
        queue.note(&chunk(1, 5, 10), &notes(&[0, 2, 4]));
        queue.note(&chunk(6, 5, 20), &notes(&[1, 3]));
        assert_eq!(sequences(&queue.first(4, 1000, None)), [1, 3, 5, 7]);
        assert_eq!(sequences(&queue.first(9, 1000, Some(Timestamp(20)))), [1, 3, 5]);
        assert_eq!(queue.pending(), Some(Sequence(1)));
        queue.advance(2);
        assert_eq!(queue.pending(), Some(Sequence(5)));
        queue.advance(1);
        assert_eq!(queue.head_time(), Some(Timestamp(20)));
        assert_eq!(sequences(&queue.first(9, 1000, None)), [7, 9]);
        queue.advance(2);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_lane_that_fell_behind_catches_up_without_loss_or_repetition() {
        let mut queue = Queue::behind(Sequence(0));
        // The fold routes 1..=5 and then 6..=10; the lane reads the journal meanwhile.
        let (first, second) = (chunk(1, 5, 10), chunk(6, 5, 20));
        queue.note(&first, &notes(&[0]));
        assert_eq!(queue.wants(), Some(Sequence(1)));
        queue.caught_up(Some(&first), &notes(&[0]), Sequence(10));
        assert_eq!(queue.wants(), Some(Sequence(6)));
        queue.caught_up(Some(&second), &notes(&[1]), Sequence(10));
        assert_eq!(queue.wants(), None);
        // The fold had counted the second as routed, and notes it only now.
        queue.note(&second, &notes(&[1]));
        queue.note(&chunk(11, 1, 30), &notes(&[0]));
        assert_eq!(sequences(&queue.first(99, 1000, None)), [1, 7, 11]);
    }

    #[test]
    fn past_the_bound_only_the_place_is_kept() {
        let mut queue = Queue::default();
        let rows: Vec<u32> = (0..1024).collect();
        for n in 0..(MOST_ROWS as u64 / 1024 + 3) {
            queue.note(&chunk(1 + n * 1024, 1024, n), &notes(&rows));
        }
        assert_eq!(queue.noted(), MOST_ROWS);
        assert!(queue.is_behind());
        assert_eq!(queue.wants(), None, "there is no room yet");
        queue.advance(MOST_ROWS);
        assert_eq!(queue.wants(), Some(Sequence(MOST_ROWS as u64 + 1)));
        assert_eq!(queue.pending(), queue.wants());
    }
}
