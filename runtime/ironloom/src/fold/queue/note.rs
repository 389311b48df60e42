//! The rows of one record, or of one block, that are for a lane.

use std::sync::Arc;

use ironloom_apps::routing::Match;
use ironloom_storage::journal::{Chunk, Run};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Sequence;
use ironloom_types::readings::Columns;

/// A lane that wants fewer of a chunk's rows than one in so many gets a copy of them: the chunk would stay in
/// memory for their sake.
const SPARSE: usize = 8;

/// One row that is for this lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowNote {
    /// The row among the columns of the note's chunk.
    pub row: u32,
    /// The distance of its sequence from the chunk's first.
    pub offset: u32,
    /// The entity among those of the lane.
    pub entity: u32,
    /// The input among those of the manifest.
    pub input: u16,
}

impl RowNote {
    /// The note of a chunk's row that goes to an input.
    pub(crate) fn new(row: usize, found: Match) -> Self {
        Self { row: row as u32, offset: row as u32, entity: found.entity(), input: found.input() }
    }
}

/// The rows of one chunk that are for this lane, in order.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    /// The readings: all of the record or block, or a copy of the rows that were noted.
    pub chunk: Arc<Chunk>,
    /// Which of them.
    pub rows: Arc<[RowNote]>,
}

impl Note {
    /// Notes rows of a chunk; copies them where they are few among many.
    pub(super) fn of(chunk: &Arc<Chunk>, rows: &[RowNote]) -> Self {
        if rows.len().saturating_mul(SPARSE) > chunk.len() {
            return Self { chunk: Arc::clone(chunk), rows: rows.into() };
        }
        let mut columns = Columns::with_capacity(rows.len());
        let mut runs: Vec<Run> = Vec::new();
        let mut own = Vec::with_capacity(rows.len());
        for (at, note) in rows.iter().enumerate() {
            columns.push_row(&chunk.columns, note.row as usize);
            let run = Run { end: at as u32 + 1, ..*chunk.run(note.row as usize) };
            match runs.last_mut() {
                Some(last) if Run { end: run.end, ..*last } == run => last.end = run.end,
                _ => runs.push(run),
            }
            own.push(RowNote { row: at as u32, ..*note });
        }
        let chunk = Chunk { tenant: chunk.tenant, first_sequence: chunk.first_sequence, columns, runs };
        Self { chunk: Arc::new(chunk), rows: own.into() }
    }

    /// Bytes that it keeps in memory.
    pub(in crate::fold) fn bytes(&self) -> usize {
        self.chunk.columns.bytes()
            + self.chunk.runs.len() * size_of::<Run>()
            + self.rows.len() * size_of::<RowNote>()
    }

    /// The sequence of one of its rows.
    pub(crate) fn sequence_of(&self, row: &RowNote) -> Sequence {
        self.chunk.sequence(row.offset as usize)
    }

    /// The sequence of its row of this index.
    pub(crate) fn sequence(&self, index: usize) -> Sequence {
        self.sequence_of(&self.rows[index])
    }

    /// The journal time of its row of this index.
    pub(crate) fn time(&self, index: usize) -> Timestamp {
        self.chunk.time(self.rows[index].row as usize)
    }

    /// Returns the end of `from..to` such that its last reading is complete.
    pub(super) fn whole_readings(&self, from: usize, mut to: usize) -> usize {
        while to > from && to < self.rows.len() && self.rows[to].offset == self.rows[to - 1].offset {
            to += 1;
        }
        to
    }
}

/// Some of a note's rows.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub note: Note,
    /// The first row of it.
    pub from: usize,
    /// The one after the last.
    pub to: usize,
}

impl Slice {
    /// All of these rows of a chunk.
    pub(in crate::fold) fn whole(chunk: &Arc<Chunk>, rows: &[RowNote]) -> Self {
        Self { note: Note::of(chunk, rows), from: 0, to: rows.len() }
    }

    pub(crate) fn rows(&self) -> &[RowNote] {
        &self.note.rows[self.from..self.to]
    }
}
