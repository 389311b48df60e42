//! Readings on their way to latest values, the journal and the lanes.

use std::sync::Arc;

use super::Applier;
use crate::fold::queue::RowNote;
use ironloom_storage::journal::Chunk;
use ironloom_storage::log::RecordRef;
use ironloom_types::limits::MAX_HOPS;

/// Notes that are collected before the lanes get them: a record may have many rows, and each goes to any number of lanes.
const NOTES_AT_ONCE: usize = if cfg!(test) { 256 } else { 1 << 20 };
/// Notes of each lane for which room is kept: beyond, it is no allocation that counts.
const ROWS_KEPT: usize = 64;

impl Applier {
    /// Takes readings into latest values and journal, and notes for each lane which are its own.
    pub(super) fn readings(&mut self, chunk: &Arc<Chunk>, at: Option<RecordRef>) {
        if chunk.is_empty() {
            return;
        }
        self.shared.points.observe(chunk.first_sequence, &chunk.columns);
        if let Some(at) = at {
            // Before the notes: a lane that catches up has to find it.
            self.shared.journal.append(chunk, at);
        }
        if chunk.runs.iter().any(|run| run.hops > MAX_HOPS) {
            if !self.replaying {
                self.too_far.note(chunk.columns.len());
            }
            return;
        }
        // At a restart as well: commits that come later in the log take away what they dealt with, so that
        // what is left then is what waits, however many installations there are.
        let mut row = 0;
        while row < chunk.len() {
            row = self.route(chunk, row);
            self.hand_over(chunk);
        }
    }

    /// Collects notes for rows of a chunk from this one on, as many as may be there at once; returns the next row.
    fn route(&mut self, chunk: &Chunk, from: usize) -> usize {
        let routing = self.shared.routing.read();
        let mut notes = 0;
        for (row, point) in chunk.columns.points.iter().enumerate().skip(from) {
            if notes >= NOTES_AT_ONCE {
                return row;
            }
            for found in routing.matches(*point) {
                let lane = found.lane() as usize;
                if self.rows.len() <= lane {
                    self.rows.resize_with(lane + 1, Vec::new);
                }
                if self.rows[lane].is_empty() {
                    self.touched.push(found.lane());
                }
                self.rows[lane].push(RowNote::new(row, *found));
                notes += 1;
            }
        }
        chunk.len()
    }

    /// Hands the notes that were collected to their lanes, which have bounds of their own.
    fn hand_over(&mut self, chunk: &Arc<Chunk>) {
        for number in self.touched.drain(..) {
            let rows = &mut self.rows[number as usize];
            if let Some(lane) = self.shared.lanes.get(number) {
                lane.terms().keep_routed(number, chunk, rows);
                if !rows.is_empty() {
                    self.shared.relieve_notes(None);
                    lane.note(chunk, rows);
                    self.shared.listener.noted(lane.number);
                }
            }
            rows.clear();
            rows.shrink_to(ROWS_KEPT);
        }
    }
}
