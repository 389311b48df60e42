//! What a lane does next, and the notes that it chooses from.

use std::sync::Arc;
use std::time::Instant;

use super::{CHUNKS_AT_ONCE, Runner};
use crate::fold::journal::JournalError;
use crate::fold::{self, Shared};
use crate::lanes::batch::{self, Offer};
use crate::lanes::outcome::Work;
use crate::lanes::queue::{RowNote, Slice};
use crate::lanes::{Book, Lane};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Sequence;
use ironloom_types::limits::MAX_HOPS;

impl Runner {
    /// Notes chunks of the journal, where the lane is behind its notes, until a whole batch is noted: a
    /// chunk of the log's tail is one record, and may be a single reading.
    pub(super) async fn catch_up(&self, lane: &Arc<Lane>) -> Result<(), String> {
        if lane.queue.lock().wants().is_none() {
            return Ok(());
        }
        let (shared, lane, most) = (Arc::clone(&self.shared), Arc::clone(lane), self.limits.readings);
        let read = tokio::task::spawn_blocking(move || {
            for _ in 0..CHUNKS_AT_ONCE {
                let from = {
                    let queue = lane.queue.lock();
                    queue.wants().filter(|_| queue.noted() < most)
                };
                let Some(from) = from else { break };
                note_from_journal(&shared, &lane, from)?;
            }
            Ok::<(), JournalError>(())
        });
        read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// What the lane does next: a dead letter to run again, a timer that is due, or readings.
    pub(super) async fn choose(&self, lane: &Arc<Lane>) -> Result<Option<Work>, String> {
        loop {
            let requeue = lane.book.lock().requeue.front().copied();
            let Some(number) = requeue else { break };
            let generation = lane.generation;
            let letter =
                fold::aside(&self.shared, move |shared| shared.dead_letter(generation, number)).await?;
            if let Some(letter) = letter {
                return Ok(Some(Work::Requeue(Box::new(letter))));
            }
            // Deleted meanwhile, or dropped.
            lane.book.lock().requeue.retain(|other| *other != number);
        }
        let now = Instant::now();
        let horizon = self.shared.horizon();
        let mut book = lane.book.lock();
        if book.closed {
            // Its number may be another lane's by now, and what it read from the journal that one's.
            return Ok(None);
        }
        let queue = lane.queue.lock();
        let readings_wait_out = book.back_off.is_some_and(|until| until > now);
        if !readings_wait_out {
            book.back_off = None;
        }
        let timers_wait_out = book.timer_back_off.is_some_and(|(until, _)| until > now);
        let timer = if timers_wait_out { None } else { self.due_timer(lane, &book, horizon) };
        if let Some((name, due, repeating)) = timer {
            // Readings of before its time come first, unless they wait in back-off.
            let earlier = queue.head_time().map_or(queue.is_behind(), |head| head < due);
            if !earlier || readings_wait_out {
                return Ok(Some(Work::Timer { name, due, repeating }));
            }
            if queue.noted() == 0 {
                return Ok(None);
            }
            let rows = book.effort.rows(&lane.revision.limits, self.limits.readings);
            let slices = queue.first(rows, self.limits.bytes, Some(due));
            drop((book, queue));
            return Ok(self.offer(lane, slices));
        }
        if readings_wait_out || queue.noted() == 0 {
            return Ok(None);
        }
        let rows = book.effort.rows(&lane.revision.limits, self.limits.readings);
        let slices = queue.first(rows, self.limits.bytes, None);
        drop((book, queue));
        Ok(self.offer(lane, slices))
    }

    fn offer(&self, lane: &Lane, slices: Vec<Slice>) -> Option<Work> {
        if slices.is_empty() {
            return None;
        }
        let mut numbers = lane.entity_numbers.lock();
        let offer: Offer = batch::build(slices, &lane.revision.bindings.inputs, &lane.entities, &mut numbers);
        Some(Work::Readings(Box::new(offer)))
    }

    /// The earliest timer that is due by now. All overdue times of a repeating one collapse into the last.
    fn due_timer(
        &self,
        lane: &Lane,
        book: &Book,
        horizon: Timestamp,
    ) -> Option<(Box<str>, Timestamp, Option<Timestamp>)> {
        let one_shot = book.timers.iter().min_by_key(|(_, due)| **due).filter(|(_, due)| **due <= horizon);
        let repeating =
            book.meta.cron_due.iter().min_by_key(|(_, due)| *due).filter(|(_, due)| *due <= horizon);
        match (one_shot, repeating) {
            (Some((name, due)), other) if other.is_none_or(|(_, other)| due <= other) => {
                Some((name.clone(), *due, None))
            }
            (_, Some((name, due))) => {
                let timer = lane.manifest.timer(name.as_str())?;
                let zone = lane.revision.zone();
                let before = Timestamp(due.0.saturating_sub(1));
                let due = timer.cron.last_due(before, horizon, &zone).unwrap_or(*due);
                let next = timer.cron.next_after(due, &zone).unwrap_or(Timestamp(i64::MAX as u64));
                Some((name.as_str().into(), due, Some(next)))
            }
            _ => None,
        }
    }
}

/// Reads the journal's next chunk for a lane that is behind its notes, and notes which rows are its own.
pub(crate) fn note_from_journal(shared: &Shared, lane: &Lane, from: Sequence) -> Result<(), JournalError> {
    let chunk = shared.journal.chunk_from(from)?;
    let mut rows = Vec::new();
    if let Some(chunk) = &chunk {
        let routing = shared.routing.read();
        for row in chunk.row_after(Sequence(from.0 - 1))..chunk.len() {
            for found in routing.matches(chunk.columns.points[row]) {
                if found.lane() == lane.number && chunk.run(row).hops <= MAX_HOPS {
                    rows.push(RowNote { row: row as u32, entity: found.entity(), input: found.input() });
                }
            }
        }
    }
    let mut queue = lane.queue.lock();
    // Asked with the queue locked: what is routed from here on is noted behind this.
    queue.caught_up(chunk.as_ref(), &rows, shared.journal.last());
    Ok(())
}
