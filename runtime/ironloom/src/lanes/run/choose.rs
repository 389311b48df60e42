//! What a lane does next.

use std::sync::Arc;
use std::time::Instant;

use super::{BatchLimits, Runner};
use crate::fold::durable::Book;
use crate::fold::queue::Slice;
use crate::fold::{self, Shared};
use crate::lanes::Lane;
use crate::lanes::batch;
use crate::lanes::outcome::Work;
use crate::lanes::pace::Pace;
use crate::records::commit::DeadLetter;
use ironloom_types::clock::Timestamp;

/// The work that a lane could do.
#[derive(Debug)]
pub(crate) enum Choice {
    /// No work is due, or all due work waits.
    Nothing,
    /// Run a dead letter again.
    Requeue(u64),
    /// Run a timer; `repeating` has its next time.
    Timer {
        name: Box<str>,
        due: Timestamp,
        repeating: Option<Timestamp>,
    },
    Readings(Vec<Slice>),
}

impl Runner {
    /// Returns the lane's next work: a dead letter to run again, a due timer, or readings.
    pub(super) async fn choose(&self, lane: &Arc<Lane>) -> Option<Work> {
        loop {
            match choose(lane, self.shared.horizon(), Instant::now(), self.limits) {
                Choice::Nothing => return None,
                Choice::Timer { name, due, repeating } => return Some(Work::Timer { name, due, repeating }),
                Choice::Readings(slices) => {
                    let mut numbers = lane.entity_numbers.lock();
                    let inputs = &lane.revision.bindings.inputs;
                    let mut offer = batch::build(slices, inputs, &lane.entities, &mut numbers);
                    offer.time = self.present(offer.time);
                    return Some(Work::Readings(Box::new(offer)));
                }
                Choice::Requeue(number) => {
                    let generation = lane.generation;
                    let read = move |shared: &Shared| shared.dead_letter(generation, number);
                    match fold::aside(&self.shared, read).await {
                        Ok(Some(letter)) => {
                            let letter = DeadLetter { time: self.present(letter.time), ..letter };
                            return Some(Work::Requeue(Box::new(letter)));
                        }
                        // Deleted meanwhile, or dropped.
                        Ok(None) => {}
                        Err(problem) => {
                            tracing::error!(installation = %lane.id, number, %problem, "a dead letter can't be read; requeue it again");
                        }
                    }
                    lane.pace.lock().requeue.forget(number);
                }
            }
        }
    }

    /// A journal time that takes no lane back into a future that was left behind.
    fn present(&self, time: Timestamp) -> Timestamp {
        time.min(self.shared.clock.now())
    }
}

/// Chooses as of the horizon, before which all is routed.
pub(crate) fn choose(lane: &Lane, horizon: Timestamp, now: Instant, limits: BatchLimits) -> Choice {
    let mut pace = lane.pace.lock();
    if pace.not_before.is_some_and(|until| until > now) {
        return Choice::Nothing;
    }
    pace.not_before = None;
    if let Some(number) = pace.requeue.first() {
        return Choice::Requeue(number);
    }
    let due = due(lane, &mut pace, horizon, now, limits);
    match (due, pace.requeue.any()) {
        (Choice::Nothing, Some(number)) => Choice::Requeue(number),
        (due, _) => due,
    }
}

/// A timer or readings.
fn due(lane: &Lane, pace: &mut Pace, horizon: Timestamp, now: Instant, limits: BatchLimits) -> Choice {
    let book = lane.book();
    if book.is_closed() {
        // The number may have been reused, so anything read from the journal may belong to the new lane.
        return Choice::Nothing;
    }
    let queue = lane.queue.lock();
    let readings_wait = pace.back_off.is_some_and(|until| until > now);
    if !readings_wait {
        pace.back_off = None;
    }
    let timer = due_timer(lane, &book, pace, horizon, now);
    let until = match timer {
        None => None,
        Some((name, due, repeating)) => {
            // Readings recorded before the timer was due go first, unless the lane is backing off.
            let earlier = queue.head_time().map_or(queue.is_behind(), |head| head < due);
            if !earlier || readings_wait {
                return Choice::Timer { name, due, repeating };
            }
            Some(due)
        }
    };
    if readings_wait || queue.noted() == 0 {
        return Choice::Nothing;
    }
    let most = pace.effort.readings(&lane.revision.limits, limits.readings);
    let slices = queue.first(most, limits.bytes, until);
    if slices.is_empty() { Choice::Nothing } else { Choice::Readings(slices) }
}

/// The earliest timer that is due by now and doesn't wait in back-off. All overdue times of a repeating one
/// collapse into the last.
fn due_timer(
    lane: &Lane,
    book: &Book,
    pace: &Pace,
    horizon: Timestamp,
    now: Instant,
) -> Option<(Box<str>, Timestamp, Option<Timestamp>)> {
    let runs = |name: &str, due: Timestamp| {
        due <= horizon && pace.timers.get(name).is_none_or(|timer| timer.until <= now)
    };
    let one_shot = book.timers().iter().filter(|(name, due)| runs(name, **due)).min_by_key(|(_, due)| **due);
    let repeating = book.meta().cron_due.iter().filter(|(name, due)| runs(name.as_str(), *due));
    match (one_shot, repeating.min_by_key(|(_, due)| *due)) {
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
