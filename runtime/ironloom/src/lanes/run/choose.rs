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
use ironloom_types::ids::SlotName;

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
            // The horizon first: what it has passed, the clock has too.
            let horizon = self.shared.horizon();
            let moment = Moment { horizon, clock: self.shared.clock.now(), now: Instant::now() };
            match choose(lane, moment, self.limits) {
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
                    match fold::read_aside(&self.shared, read).await {
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

/// The moment as of which a lane chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// All that was recorded before it is routed: timers that are due by it run.
    pub horizon: Timestamp,
    /// The site's clock. Readings are noted before the horizon follows their time, so some may already stand behind
    /// a timer that doesn't run yet.
    pub clock: Timestamp,
    pub now: Instant,
}

pub(crate) fn choose(lane: &Lane, moment: Moment, limits: BatchLimits) -> Choice {
    let mut pace = lane.pace.lock();
    if pace.not_before.is_some_and(|until| until > moment.now) {
        return Choice::Nothing;
    }
    pace.not_before = None;
    if let Some(number) = pace.requeue.first() {
        return Choice::Requeue(number);
    }
    let due = due(lane, &mut pace, moment, limits);
    match (due, pace.requeue.any()) {
        (Choice::Nothing, Some(number)) => Choice::Requeue(number),
        (due, _) => due,
    }
}

/// A timer or readings.
fn due(lane: &Lane, pace: &mut Pace, moment: Moment, limits: BatchLimits) -> Choice {
    let book = lane.book();
    if book.is_closed() {
        // The number may have been reused, so anything read from the journal may belong to the new lane.
        return Choice::Nothing;
    }
    let queue = lane.queue.lock();
    let readings_wait = pace.back_off.is_some_and(|until| until > moment.now);
    if !readings_wait {
        pace.back_off = None;
    }
    // Readings that were recorded from then on come after the timer.
    let mut until = earliest(&book, pace, moment.clock, moment.now);
    if let Some((name, due, repeating)) = due_timer(lane, &book, pace, moment) {
        // Those recorded before it was due go first, unless the lane is backing off.
        let earlier = queue.head_time().map_or(queue.is_behind(), |head| head < due);
        if !earlier || readings_wait {
            return Choice::Timer { name, due, repeating };
        }
        until = Some(due);
    }
    if readings_wait || queue.noted() == 0 {
        return Choice::Nothing;
    }
    let most = pace.effort.readings(&lane.revision.limits, limits.readings);
    let slices = queue.first(most, limits.bytes, until);
    if slices.is_empty() { Choice::Nothing } else { Choice::Readings(slices) }
}

/// The times of timers that are due by then and don't wait in back-off: one-shots and repeating ones.
fn due_by<'b>(
    book: &'b Book,
    pace: &'b Pace,
    time: Timestamp,
    now: Instant,
) -> (impl Iterator<Item = (&'b Box<str>, Timestamp)>, impl Iterator<Item = (&'b SlotName, Timestamp)>) {
    let runs = move |name: &str, due: Timestamp| {
        due <= time && pace.timers.get(name).is_none_or(|timer| timer.until <= now)
    };
    let one_shots = book.timers().iter().map(|(name, due)| (name, *due));
    let repeating = book.meta().cron_due.iter().map(|(name, due)| (name, *due));
    (
        one_shots.filter(move |(name, due)| runs(name, *due)),
        repeating.filter(move |(name, due)| runs(name.as_str(), *due)),
    )
}

/// The earliest time of a timer that is due by then.
fn earliest(book: &Book, pace: &Pace, time: Timestamp, now: Instant) -> Option<Timestamp> {
    let (one_shots, repeating) = due_by(book, pace, time, now);
    one_shots.map(|(_, due)| due).chain(repeating.map(|(_, due)| due)).min()
}

/// The earliest timer that is due by the horizon. All overdue times of a repeating one collapse into the last.
fn due_timer(
    lane: &Lane,
    book: &Book,
    pace: &Pace,
    Moment { horizon, now, .. }: Moment,
) -> Option<(Box<str>, Timestamp, Option<Timestamp>)> {
    let (one_shots, repeating) = due_by(book, pace, horizon, now);
    let one_shot = one_shots.min_by_key(|(_, due)| *due);
    match (one_shot, repeating.min_by_key(|(_, due)| *due)) {
        (Some((name, due)), other) if other.is_none_or(|(_, other)| due <= other) => {
            Some((name.clone(), due, None))
        }
        (_, Some((name, due))) => {
            let timer = lane.manifest.timer(name.as_str())?;
            let zone = lane.revision.zone();
            let before = Timestamp(due.0.saturating_sub(1));
            let due = timer.cron.last_due(before, horizon, &zone).unwrap_or(due);
            let next = timer.cron.next_after(due, &zone).unwrap_or(Timestamp(i64::MAX as u64));
            Some((name.as_str().into(), due, Some(next)))
        }
        _ => None,
    }
}
