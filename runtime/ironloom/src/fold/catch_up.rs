//! Reads the journal for lanes that are behind their notes, and lets lanes fall behind where notes take too much
//! memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use super::Shared;
use super::durable::Durable;
use super::journal::JournalError;
use super::queue::{RowNote, Slice};
use ironloom_apps::routing::Prepared;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, PointNumber, Sequence, SlotName, TenantId};
use ironloom_types::limits::MAX_HOPS;
use ironloom_types::work::Gap;

/// Points whose matches are looked at without giving way to the fold.
const POINTS_AT_ONCE: usize = 10_000;

/// Readings of one input that a lane will never see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    /// When the first and the last of them were recorded.
    pub first: Timestamp,
    pub last: Timestamp,
    pub count: u64,
}

impl Missed {
    fn at(time: Timestamp) -> Self {
        Self { first: time, last: time, count: 0 }
    }

    // Journal time may have been set back.
    fn add(&mut self, time: Timestamp) {
        (self.first, self.last) = (self.first.min(time), self.last.max(time));
        self.count += 1;
    }
}

impl Shared {
    /// Reads the journal's next chunk for a lane that is behind its notes, and notes which rows are its own.
    /// Returns how many rows were looked at.
    pub(crate) fn note_from_journal(&self, lane: &Durable, from: Sequence) -> Result<usize, JournalError> {
        let journal = self.journal.of(lane.id.tenant());
        let chunk = journal.chunk_from(from)?;
        let mut rows = Vec::new();
        let mut looked_at = 0;
        if let Some(chunk) = &chunk {
            let terms = lane.terms();
            let routing = self.routing.read();
            let first = chunk.row_after(Sequence(from.0 - 1));
            looked_at = chunk.len() - first;
            for row in first..chunk.len() {
                // Each by the bindings of its own time.
                let Some(term) = terms.of(chunk.sequence(row)) else { continue };
                for found in routing.matches(chunk.columns.points[row]) {
                    if found.lane() == term.route && chunk.run(row).hops <= MAX_HOPS {
                        rows.push(RowNote::new(row, *found));
                    }
                }
            }
        }
        self.relieve_notes(Some(lane.number));
        let mut queue = lane.queue.lock();
        // Asked with the queue locked: what is routed from here on is noted behind this.
        queue.caught_up(from, chunk.as_ref(), &rows, journal.last());
        drop(queue);
        // There may be nothing of its own in what it had to look at.
        self.tell_waits(lane);
        Ok(looked_at)
    }

    /// The readings that a lane may miss where a block can't be read: the last sequence of the block, and a gap without a count for each
    /// input that gets a point which the block may have. Nobody can say more.
    pub(crate) fn lost_with_block(&self, lane: &Durable, from: Sequence) -> (Sequence, Vec<Gap>) {
        let Some(entry) = self.journal.of(lane.id.tenant()).block(from) else { return (from, Vec::new()) };
        let terms = lane.terms();
        let mut slots: BTreeSet<SlotName> = BTreeSet::new();
        let given = self.points.names().given();
        for first in (0..given).step_by(POINTS_AT_ONCE) {
            let routing = self.routing.read();
            for point in (first..given.min(first + POINTS_AT_ONCE)).map(|number| PointNumber(number as u32)) {
                if !entry.points.may_have_any(&[point]) {
                    continue;
                }
                for found in routing.matches(point) {
                    if let Some(term) = terms.all().iter().find(|term| term.route == found.lane()) {
                        slots.insert(term.revision.bindings.inputs[usize::from(found.input())].name.clone());
                    }
                }
            }
        }
        let gap = |slot| Gap { slot, first: entry.first_time, last: entry.last_time, count: 0 };
        (entry.last_sequence(), slots.into_iter().map(gap).collect())
    }

    /// The readings of a tenant before this sequence that wait for its lanes, by lane and input; each lane is named with the first
    /// sequence that waits for it.
    pub(crate) fn missed(
        &self,
        tenant: TenantId,
        waiting: &BTreeMap<u32, Sequence>,
        before: Sequence,
    ) -> Result<BTreeMap<u32, BTreeMap<SlotName, Missed>>, JournalError> {
        let mut missed: BTreeMap<u32, BTreeMap<SlotName, Missed>> = BTreeMap::new();
        let Some(mut next) = waiting.values().min().copied() else { return Ok(missed) };
        let lanes = waiting.iter().filter_map(|(number, first)| Some((self.lanes.get(*number)?, *first)));
        let lanes: Vec<_> = lanes.map(|(lane, first)| (lane.number, lane.terms(), first)).collect();
        let mut routes: HashMap<u32, usize> = HashMap::new();
        for (place, (_, terms, _)) in lanes.iter().enumerate() {
            routes.extend(terms.all().iter().map(|term| (term.route, place)));
        }
        while next < before {
            let chunk = match self.journal.of(tenant).chunk_from(next) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                // Nobody can say for whom its readings were, and they go all the same.
                Err(JournalError::Block(error)) => {
                    let behind = self.journal.of(tenant).behind_block(next);
                    tracing::warn!(%error, from = %next, to = %behind, "readings that can't be read are past their retention: whoever misses some isn't told");
                    next = behind;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let routing = self.routing.read();
            for row in chunk.row_after(Sequence(next.0 - 1))..chunk.row_after(Sequence(before.0 - 1)) {
                let (sequence, run) = (chunk.sequence(row), chunk.run(row));
                for found in routing.matches(chunk.columns.points[row]) {
                    let Some((lane, terms, first)) = routes.get(&found.lane()).map(|place| &lanes[*place])
                    else {
                        continue;
                    };
                    let term = terms.of(sequence).filter(|term| term.route == found.lane());
                    let Some(term) = term.filter(|_| *first <= sequence && run.hops <= MAX_HOPS) else {
                        continue;
                    };
                    // Numbers are those of its own revision's inputs.
                    let input = &term.revision.bindings.inputs[usize::from(found.input())].name;
                    let of_lane = missed.entry(*lane).or_default();
                    match of_lane.get_mut(input) {
                        Some(missed) => missed.add(run.time),
                        None => {
                            of_lane.entry(input.clone()).or_insert_with(|| Missed::at(run.time)).add(run.time)
                        }
                    }
                }
            }
            next = chunk.next_sequence();
        }
        Ok(missed)
    }

    /// The rows of a tenant that these routes give between two sequences, both included. Waits for the disk.
    pub(crate) fn rows_between(
        &self,
        tenant: TenantId,
        routes: &Prepared,
        first: Sequence,
        last: Sequence,
    ) -> Result<Vec<Slice>, JournalError> {
        self.rows_within(tenant, routes, (first, last), usize::MAX).map(|(slices, _)| slices)
    }

    /// The same, up to the reading with which they take more than `most` bytes; and the last sequence that was looked at. Only
    /// the notes of the chunk that it stands in come on top.
    pub(crate) fn rows_within(
        &self,
        tenant: TenantId,
        routes: &Prepared,
        (first, last): (Sequence, Sequence),
        most: usize,
    ) -> Result<(Vec<Slice>, Sequence), JournalError> {
        let (mut slices, mut from) = (Vec::new(), first);
        let mut kept: usize = 0;
        while from <= last {
            let Some(chunk) = self.journal.of(tenant).chunk_from(from)? else { break };
            let (mut rows, mut values) = (Vec::new(), 0);
            let mut through = chunk.last_sequence().min(last);
            for row in chunk.row_after(Sequence(from.0.saturating_sub(1)))..chunk.len() {
                if chunk.sequence(row) > last {
                    break;
                }
                if chunk.run(row).hops > MAX_HOPS {
                    continue;
                }
                let before = rows.len();
                let found = routes.of(chunk.columns.points[row]);
                rows.extend(found.map(|found| RowNote::new(row, found)));
                values += (rows.len() - before) * chunk.columns.value_bytes(row);
                if kept.saturating_add(values) > most {
                    through = chunk.sequence(row);
                    break;
                }
            }
            if !rows.is_empty() {
                let slice = Slice::whole(&chunk, &rows);
                kept = kept.saturating_add(values.max(slice.note.bytes()));
                slices.push(slice);
            }
            if kept > most {
                return Ok((slices, through));
            }
            from = chunk.next_sequence();
        }
        Ok((slices, last))
    }

    /// An installation that has not dealt yet with all that this one has published.
    pub(crate) fn waits_for_outputs_of(&self, publisher: &InstallationId) -> Option<Arc<Durable>> {
        let own = self.points.names().of_outputs(publisher);
        self.waits_for_points(&own, Some(publisher))
    }

    /// An installation, but not this one, that has not dealt yet with all readings of these points: removing them would
    /// take away what waits there, since the journal is routed by today's points.
    pub(crate) fn waits_for_points(
        &self,
        points: &[PointNumber],
        but: Option<&InstallationId>,
    ) -> Option<Arc<Durable>> {
        let published =
            points.iter().filter_map(|point| Some((*point, self.points.latest(*point)?.0.sequence)));
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
        let mut others = readers.filter(|(lane, _)| Some(&lane.id) != but);
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
