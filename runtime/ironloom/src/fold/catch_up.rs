//! Reads the journal for lanes that are behind their notes, and lets lanes fall behind where notes take too much
//! memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::durable::Durable;
use super::journal::JournalError;
use super::queue::RowNote;
use ironloom_types::ids::{InstallationId, Sequence};
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
        self.relieve_notes(Some(lane.number));
        let mut queue = lane.queue.lock();
        // Asked with the queue locked: what is routed from here on is noted behind this.
        queue.caught_up(from, chunk.as_ref(), &rows, self.journal.last());
        Ok(looked_at)
    }

    /// An installation that has not dealt yet with all that this one has published: removing the points of its
    /// outputs would take away what waits there, since the journal is routed by today's points.
    pub(crate) fn waits_for_outputs_of(&self, publisher: &InstallationId) -> Option<Arc<Durable>> {
        let own = self.points.names().of_outputs(publisher);
        let published =
            own.into_iter().filter_map(|point| Some((point, self.points.latest(point)?.0.sequence)));
        let published: Vec<_> = published.collect();
        let mut last: BTreeMap<u32, Sequence> = BTreeMap::new();
        let routing = self.routing.read();
        for (point, sequence) in published {
            for found in routing.matches(point) {
                last.entry(found.lane()).and_modify(|last| *last = sequence.max(*last)).or_insert(sequence);
            }
        }
        drop(routing);
        let readers = last.into_iter().filter_map(|(lane, last)| Some((self.lanes.get(lane)?, last)));
        let mut others = readers.filter(|(lane, _)| lane.id != *publisher);
        let waits = |lane: &Durable, last| lane.queue.lock().pending().is_some_and(|pending| pending <= last);
        others.find(|(lane, last)| waits(lane, *last)).map(|(lane, _)| lane)
    }

    /// Where the notes of all lanes have used up their memory, lets those that hold most fall behind until a part
    /// of it is free: a lane that can't run, or asks for retries for days, must not keep it from those that do. The
    /// lane that is about to run is left alone.
    pub(super) fn relieve_notes(&self, but: Option<u32>) {
        if !self.note_budget.is_used_up() {
            return;
        }
        let others = self.lanes.all().into_iter().filter(|lane| Some(lane.number) != but);
        let mut holders: Vec<_> = others
            .map(|lane| {
                let bytes = lane.queue.lock().bytes();
                (bytes, lane)
            })
            .collect();
        holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        for (_, lane) in holders {
            if self.note_budget.is_relieved() {
                return;
            }
            lane.queue.lock().forget_notes();
        }
    }
}
