//! Reads the journal for lanes that are behind their notes.

use super::Shared;
use super::durable::Durable;
use super::journal::JournalError;
use super::queue::RowNote;
use ironloom_types::ids::Sequence;
use ironloom_types::limits::MAX_HOPS;

impl Shared {
    /// Reads the journal's next chunk for a lane that is behind its notes, and notes which rows are its own.
    /// Returns how many rows were looked at.
    pub(crate) fn note_from_journal(&self, lane: &Durable, from: Sequence) -> Result<usize, JournalError> {
        let chunk = self.journal.chunk_from(from)?;
        let mut rows = Vec::new();
        let mut looked_at = 0;
        if let Some(chunk) = &chunk {
            let routing = self.routing.read();
            let first = chunk.row_after(Sequence(from.0 - 1));
            looked_at = chunk.len() - first;
            for row in first..chunk.len() {
                for found in routing.matches(chunk.columns.points[row]) {
                    if found.lane() == lane.number && chunk.run(row).hops <= MAX_HOPS {
                        rows.push(RowNote::new(row, *found));
                    }
                }
            }
        }
        let mut queue = lane.queue.lock();
        // Asked with the queue locked: what is routed from here on is noted behind this.
        queue.caught_up(from, chunk.as_ref(), &rows, self.journal.last());
        Ok(looked_at)
    }
}
