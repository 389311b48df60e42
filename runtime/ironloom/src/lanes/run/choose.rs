//! What a lane does next.

use std::sync::Arc;
use std::time::Instant;

use super::{BatchLimits, Pacing, Runner};
use crate::fold::durable::{Book, Term};
use crate::fold::queue::Slice;
use crate::fold::{self, Shared};
use crate::lanes::Lane;
use crate::lanes::batch::{self, EntityNumbers};
use crate::lanes::pace::Pace;
use crate::lanes::work::Work;
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
    /// Returns the lane's next work: a dead letter to run again, a due timer, or readings; with the revision that it
    /// runs under.
    pub(super) async fn choose(&self, lane: &Arc<Lane>) -> Option<(Arc<Term>, Work)> {
        loop {
            // The horizon first: what it has passed, the clock has too.
            let horizon = self.shared.horizon();
            let moment = Moment { horizon, clock: self.shared.clock.now(), now: Instant::now() };
            let (term, choice) = choose(lane, moment, self.limits(), self.pacing);
            match choice {
                Choice::Nothing => return None,
                Choice::Timer { name, due, repeating } => {
                    return Some((term, Work::Timer { name, due, repeating }));
                }
                Choice::Readings(slices) => {
                    let mut numbers = lane.entity_numbers.lock();
                    let numbers = numbers.of(term.number(), EntityNumbers::default);
                    let inputs = &term.revision.bindings.inputs;
                    let mut offer = batch::build(slices, inputs, &term.entities, numbers);
                    offer.time = self.present(offer.time);
                    return Some((term, Work::Readings(Box::new(offer))));
                }
                Choice::Requeue(number) => {
                    let generation = lane.generation;
                    let read = move |shared: &Shared| shared.dead_letter(generation, number);
                    match fold::read_aside(&self.shared, read).await {
                        Ok(Some(letter)) => {
                            let letter = DeadLetter { time: self.present(letter.time), ..letter };
                            return Some((term, Work::Requeue(Box::new(letter))));
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

/// The choice of a lane, and the revision that it runs under: that of the first reading that waits, for all else as well.
pub(crate) fn choose(
    lane: &Lane,
    moment: Moment,
    limits: BatchLimits,
    pacing: Pacing,
) -> (Arc<Term>, Choice) {
    let mut pace = lane.pace.lock();
    let term = lane.term();
    if pace.not_before.is_some_and(|until| until > moment.now) {
        return (term, Choice::Nothing);
    }
    pace.not_before = None;
    if let Some(number) = pace.requeue.first() {
        return (term, Choice::Requeue(number));
    }
    let due = due(lane, &term, &mut pace, moment, limits, pacing);
    match (due, pace.requeue.any()) {
        (Choice::Nothing, Some(number)) => (term, Choice::Requeue(number)),
        (due, _) => (term, due),
    }
}

/// A timer or readings. No batch has readings of another revision.
fn due(
    lane: &Lane,
    term: &Term,
    pace: &mut Pace,
    moment: Moment,
    limits: BatchLimits,
    pacing: Pacing,
) -> Choice {
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
    let mut until = None;
    if let Some(first) = earliest(&book, term, pace, moment) {
        // Readings that were recorded from then on come after the timer.
        until = Some(first.due);
        let run = (first.due <= moment.horizon).then(|| run_of(lane, term, first, moment.horizon)).flatten();
        if let Some((due, repeating)) = run {
            // Those recorded before it was due go first, unless the lane is backing off.
            let earlier = queue.head_time().map_or(queue.is_behind(), |head| head < due);
            if !earlier || readings_wait {
                return Choice::Timer { name: first.name.into(), due, repeating };
            }
            until = Some(due);
        }
    }
    if readings_wait || queue.noted() == 0 {
        return Choice::Nothing;
    }
    let terms = lane.terms();
    let (now, end) = terms.now(queue.pending());
    if now.number() != term.number() {
        // What it was about to do ended meanwhile, with nothing of its own: it looks again at once.
        return Choice::Nothing;
    }
    // Nor does a batch mix readings whose effects were published before with others.
    let pending = queue.pending();
    let edges = book.meta().published.into_iter().flat_map(|span| [span.after, span.through]);
    let edges =
        edges.map(|edge| edge.sequence.next()).filter(|edge| pending.is_some_and(|first| first < *edge));
    let end = end.into_iter().chain(edges).min();
    let most = match pacing {
        Pacing::Measured => pace.effort.readings(&term.limits, limits.readings),
        Pacing::BySteps => pace.effort.of_a_step(limits.readings),
    };
    let slices = queue.first(most, limits.bytes, until, end);
    if slices.is_empty() { Choice::Nothing } else { Choice::Readings(slices) }
}

/// A timer, with its next time.
#[derive(Clone, Copy)]
struct Due<'b> {
    due: Timestamp,
    /// It is the manifest's.
    repeats: bool,
    name: &'b str,
}

/// The earliest timer that is due by the clock and doesn't wait in back-off; of several a one-shot. One that only a
/// later version of the app has waits for that.
fn earliest<'b>(
    book: &'b Book,
    term: &Term,
    pace: &Pace,
    Moment { horizon, clock, now }: Moment,
) -> Option<Due<'b>> {
    let one_shots = book.timers().iter().map(|(name, set)| Due { due: set.due, repeats: false, name });
    let known = |(name, _): &&(SlotName, Timestamp)| term.manifest.timer(name.as_str()).is_some();
    let repeating = book.meta().cron_due.iter().filter(known);
    let repeating = repeating.map(|(name, due)| Due { due: *due, repeats: true, name: name.as_str() });
    let by = clock.max(horizon);
    one_shots
        .chain(repeating)
        .filter(|timer| {
            timer.due <= by && pace.timers.get(timer.name).is_none_or(|failed| failed.until <= now)
        })
        .min_by_key(|timer| (timer.due, timer.repeats))
}

/// The time of a timer's run, and its next one if it repeats. All overdue times of a repeating one collapse into the
/// last.
fn run_of(
    lane: &Lane,
    term: &Term,
    timer: Due<'_>,
    horizon: Timestamp,
) -> Option<(Timestamp, Option<Timestamp>)> {
    if !timer.repeats {
        return Some((timer.due, None));
    }
    // Timers follow the newest revision at once, in its zone.
    let newest = lane.newest();
    let zone = newest.revision.zone();
    let declared = newest.manifest.timer(timer.name).or_else(|| term.manifest.timer(timer.name));
    let cron = &declared?.cron;
    let before = Timestamp(timer.due.0.saturating_sub(1));
    let due = cron.last_due(before, horizon, &zone).unwrap_or(timer.due);
    let next = cron.next_after(due, &zone).unwrap_or(Timestamp(i64::MAX as u64));
    Some((due, Some(next)))
}
