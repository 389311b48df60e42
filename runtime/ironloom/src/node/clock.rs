//! The site's clock as people see it, and the way out of a wrong future: journal time that followed a clock which
//! was ahead goes back to the present.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::MutexGuard;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Node, Turn, problems};
use crate::api::FEED_CLOCK;
use crate::api::facade::{Answer, ClockStatus, Place, Problem, RETRY_SOON, SetTime, TimeSet};
use crate::fold::durable::Durable;
use crate::records::admin::{AdminRecord, LaneDue};
use ironloom_types::clock::{Clock, NOTABLE, Source, Step, Timestamp, host_time};
use ironloom_types::ids::Generation;

/// How long setting time waits for what is under way, which an invocation leaves at once. Nobody runs meanwhile.
const TO_STAND_STILL: Duration = Duration::from_secs(2);

/// How long people are told that the machine's clock went ahead: nobody knows whether it is right now.
const TOLD_FOR: Duration = Duration::from_secs(24 * 3600);

/// The last step of the machine's clock while the process ran.
#[derive(Debug, Default)]
pub(super) struct LastStep(Mutex<Option<(Step, std::time::Instant)>>);

impl LastStep {
    /// The clock was set just now.
    pub(super) fn take(&self, step: Step) {
        *self.0.lock() = Some((step, std::time::Instant::now()));
    }

    /// Returns a note about a clock that went ahead, which journal time has followed. One that was set back since is
    /// [behind](note).
    pub(super) fn note(&self, clock: &Clock) -> Option<String> {
        let (Step { from, to }, at) = (*self.0.lock())?;
        if to <= from || at.elapsed() > TOLD_FOR || clock.source() == Source::Feed || clock.host().is_err() {
            return None;
        }
        let ahead = jiff::SignedDuration::try_from(Duration::from_nanos(to.0 - from.0)).ok()?;
        Some(format!(
            "clock: it went ahead by {ahead:#} at once, from {from} to {to}, as it does where it is set or the machine \
             has slept; journal time has followed. Where it is wrong now, set it right, and then run `ironloom clock set`"
        ))
    }
}

/// Returns a note about a clock that is behind journal time.
pub(super) fn note(clock: &Clock) -> Option<String> {
    if let Some(fed) = clock.late_feed() {
        return Some(format!(
            "clock: the readings have come to {fed} since the start, and the last journal time is {}; it stands still, \
             and cron timers don't run, until they have passed it. To replay old data, start with a data folder of its \
             own",
            clock.last()
        ));
    }
    let behind = jiff::SignedDuration::try_from(clock.behind()?).ok()?;
    Some(format!(
        "clock: it stands {behind:#} before the last journal time; journal time stands still, and cron timers \
         don't run, until it has caught up. Where it was ahead before and is right now: `ironloom clock set`"
    ))
}

impl Node {
    pub(super) fn show_clock(&self) -> ClockStatus {
        let clock = &self.shared.clock;
        ClockStatus {
            source: clock.source(),
            machine: host_time(),
            journal: clock.last(),
            behind: clock.behind().map(|behind| behind.as_secs()),
        }
    }

    /// Sets journal time back to the present, or only says what that would do. No invocation runs and nothing is
    /// installed meanwhile: each would write a time of before.
    pub(super) async fn set_time(self: Arc<Self>, request: SetTime, dry_run: bool) -> Answer<TimeSet> {
        self.check_time(request.now)?;
        let _held = if dry_run { None } else { Some(self.stand_still().await?) };
        let (from, to) = (self.shared.clock.last(), self.check_time(request.now)?);
        let due: Vec<LaneDue> =
            self.shared.lanes.all().iter().filter_map(|lane| due_after(lane, from, to)).collect();
        let timers = due.iter().map(|due| due.cron.len() + due.timers.len()).sum();
        let set = TimeSet { from, to, installations: due.len(), timers };
        if !dry_run {
            self.change(AdminRecord::TimeSet { to, due }).await?;
            tracing::warn!(%from, %to, timers, "an admin has set journal time back");
        }
        Ok(set)
    }

    /// Takes the turns of all lanes, and keeps new ones from beginning. 503 where that takes too long: all that was
    /// taken is given back, since everybody waits for it.
    pub(super) async fn stand_still(&self) -> Answer<Standstill<'_>> {
        let until = Instant::now() + TO_STAND_STILL;
        let mut turns = Vec::new();
        self.take_turns(&mut turns, until).await?;
        let installing = timeout_at(until, self.admin.installing.lock()).await;
        let installing = installing.map_err(|_| too_busy("a change to the installations"))?;
        // Those that were installed meanwhile.
        self.take_turns(&mut turns, until).await?;
        Ok(Standstill { _turns: turns, _installing: installing })
    }

    /// Takes the turns that aren't among these yet, all at once: the invocations end side by side.
    async fn take_turns(&self, turns: &mut Vec<Turn>, until: Instant) -> Answer<()> {
        let mut waiting = JoinSet::new();
        let mut missing = BTreeSet::new();
        let held: BTreeSet<Generation> = turns.iter().map(|turn| turn.lane.generation).collect();
        for lane in self.lanes.all().into_iter().filter(|lane| !held.contains(&lane.generation)) {
            missing.insert(lane.id.clone());
            let lanes = Arc::clone(&self.lanes);
            waiting.spawn(async move {
                let _interrupting = lane.interrupt.raise();
                let permit = lane.turn().await;
                Turn { permit, lane, lanes }
            });
        }
        loop {
            match timeout_at(until, waiting.join_next()).await {
                Ok(Some(taken)) => {
                    let turn = taken.map_err(|error| problems::internal(&error))?;
                    missing.remove(&turn.lane.id);
                    turns.push(turn);
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    let busy = missing.first().map(|id| format!("installation {id}"));
                    return Err(too_busy(&busy.unwrap_or_default()));
                }
            }
        }
    }

    /// The present, where the machine's clock and the admin agree on it and journal time is far ahead of it.
    fn check_time(&self, named: Timestamp) -> Answer<Timestamp> {
        let clock = &self.shared.clock;
        if clock.source() == Source::Feed {
            let detail = "[site] clock = \"feed\": time comes from the readings, and isn't set";
            return Err(Problem::conflict(FEED_CLOCK, detail));
        }
        let now = clock.host().map_err(|fault| {
            let detail = format!("the machine's clock can't be right: {fault}");
            Problem::conflict("other-time", detail).hint("Set the machine's clock first.")
        })?;
        if Duration::from_nanos(now.0.abs_diff(named.0)) > NOTABLE {
            let detail =
                format!("the machine's clock shows {now}, which is not the time {named} of the request");
            return Err(Problem::conflict("other-time", detail)
                .at(Place::field("now"))
                .hint("Set the machine's clock first, and name the present time."));
        }
        if clock.behind().is_none() {
            let detail = format!(
                "the machine's clock shows {now}, and journal time is {}: it isn't ahead by more than 5 minutes, and \
                 goes on by itself",
                clock.last()
            );
            return Err(Problem::conflict("not-ahead", detail));
        }
        Ok(now)
    }
}

/// Nothing runs and nothing is installed as long as this is held.
pub(super) struct Standstill<'n> {
    _turns: Vec<Turn>,
    _installing: MutexGuard<'n, Generation>,
}

/// 503: not everything came to a stop.
fn too_busy(what: &str) -> Problem {
    let detail = format!(
        "{what} was under way for more than {} s; this is done only where nothing is",
        TO_STAND_STILL.as_secs()
    );
    Problem::unavailable("busy", detail, RETRY_SOON).hint("Nothing was changed; try again in a moment.")
}

/// When a lane's timers are due once time has gone back; `None` where none was due behind `to`. A repeating timer
/// follows the calendar. A one-shot was set so and so long ahead, by an app that saw the wrong time, and stays as
/// far ahead.
fn due_after(lane: &Durable, from: Timestamp, to: Timestamp) -> Option<LaneDue> {
    let book = lane.book();
    let later = |due: Timestamp| due > to;
    let moved = book.timers().iter().filter(|(_, set)| later(set.due));
    let timers: Vec<_> =
        moved.map(|(name, set)| (name.clone(), to.plus(set.due.0.saturating_sub(from.0)))).collect();
    let cron_due = &book.meta().cron_due;
    if timers.is_empty() && !cron_due.iter().any(|(_, due)| later(*due)) {
        return None;
    }
    let newest = lane.newest();
    let zone = newest.revision.zone();
    let next = |name: &str| newest.manifest.timer(name)?.cron.next_after(to, &zone);
    let cron = cron_due.iter().map(|(name, due)| {
        let next = next(name.as_str()).filter(|_| later(*due));
        (name.clone(), next.map_or(*due, |next| next.min(*due)))
    });
    Some(LaneDue { generation: lane.generation, cron: cron.collect(), timers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::durable::testing;
    use crate::lanes::tests::lane;
    use ironloom_types::clock::SECOND;
    use ironloom_types::ids::SlotName;

    const DAY: u64 = 24 * 3600 * SECOND;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn a_clock_that_went_ahead_is_told_until_it_is_set_back() {
        let last = LastStep::default();
        let (host, feed) = (Clock::new(Source::Host, host_time()), Clock::new(Source::Feed, host_time()));
        assert_eq!(last.note(&host), None);
        let (from, to) = (at("2026-11-28T12:00:00Z"), at("2026-11-28T20:30:00Z"));
        last.take(Step { from, to });
        let note = last.note(&host).unwrap();
        assert!(note.starts_with("clock: it went ahead by 8h 30m at once, from 2026-11-28T12"), "{note}");
        assert!(note.contains("`ironloom clock set`"), "{note}");
        assert_eq!(last.note(&feed), None, "time comes from elsewhere");
        last.take(Step { from: to, to: from });
        assert_eq!(last.note(&host), None);
    }

    #[test]
    fn cron_timers_follow_the_calendar_again_and_one_shots_stay_as_far_ahead() {
        let (lane, _) = lane();
        let (from, to) = (at("2027-11-28T12:00:00Z"), at("2026-11-28T12:00:00Z"));
        let daily = SlotName::new("daily").unwrap();
        let cron = |due: Timestamp| testing::change(&lane, |meta| meta.cron_due = vec![(daily.clone(), due)]);
        let due = || due_after(&lane, from, to);
        assert_eq!(due(), None, "it has no timers");
        // Due at six each morning, in UTC: behind `to` it is left as it is.
        cron(at("2026-11-28T06:00:00Z"));
        assert_eq!(due(), None);
        cron(at("2027-11-29T06:00:00Z"));
        let moved = due().unwrap();
        assert_eq!(moved.cron, [(daily.clone(), at("2026-11-29T06:00:00Z"))]);
        assert_eq!((moved.generation, moved.timers.len()), (lane.generation, 0));
        // One that is overdue, one a day ahead of the wrong time, and one that was overdue already at the right time.
        testing::set_timer(&lane, "overdue", Timestamp(from.0 - DAY));
        testing::set_timer(&lane, "ahead", Timestamp(from.0 + DAY));
        testing::set_timer(&lane, "old", Timestamp(to.0 - DAY));
        cron(at("2026-11-28T06:00:00Z"));
        let moved = due().unwrap();
        let timers = [("ahead".into(), Timestamp(to.0 + DAY)), ("overdue".into(), to)];
        assert_eq!(moved.timers, timers);
        assert_eq!(moved.cron, [(daily, at("2026-11-28T06:00:00Z"))], "what is due stays due");
    }
}
