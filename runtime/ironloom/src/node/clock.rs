//! The site's clock as people see it, and the way out of a wrong future: journal time that followed a clock which
//! was ahead goes back to the present.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use parking_lot::Mutex;
use tokio::sync::MutexGuard;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Node, Turn, problems};
use crate::api::FEED_CLOCK;
use crate::api::facade::{Answer, ClockStatus, Place, Problem, RETRY_SOON, SetTime, TimeSet};
use crate::fold::durable::Durable;
use crate::lanes::Lane;
use crate::records::admin::{AdminRecord, LaneDue};
use ironloom_types::clock::{Clock, NOTABLE, Source, Step, Timestamp, host_time};
use ironloom_types::ids::{Generation, LastGenerations};

/// The time that whoever has everything stand still waits for what is under way. Nobody runs meanwhile.
const TO_STAND_STILL: Duration = Duration::from_secs(2);
/// The time that all wait for the invocations of some, where nothing is interrupted. For those that take longer only they
/// themselves wait.
const SHORT: Duration = Duration::from_millis(100);
/// The longest that these are waited for: as much as the most CPU time that a grant can give.
const LONG: Duration = Duration::from_secs(10);
/// The least time between two of those who interrupt nothing.
const LEAST_BETWEEN: Duration = Duration::from_millis(50);
/// The time that setting time waits for another that has everything stand still.
const TO_BE_ALONE: Duration = Duration::from_secs(15);
const _: () = assert!(
    TO_BE_ALONE.as_millis() > SHORT.as_millis() + LONG.as_millis() + TO_STAND_STILL.as_millis(),
    "it gets its turn after the one that waits for an invocation"
);

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
        let ahead = SignedDuration::try_from(Duration::from_nanos(to.0 - from.0)).ok()?;
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
    let behind = SignedDuration::try_from(clock.behind()?).ok()?;
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

    /// Takes the turns of all lanes, and keeps new ones from beginning. What runs is interrupted. 503 where that takes too
    /// long: all that was taken is given back, since everybody waits for it.
    pub(super) async fn stand_still(&self) -> Answer<Standstill<'_>> {
        let line = self.admin.still.lock();
        let line = timeout_at(Instant::now() + TO_BE_ALONE, line).await;
        let line = line.map_err(|_| too_busy("a change of points", TO_BE_ALONE))?;
        let alone = Alone { line, began: Instant::now() };
        self.all_turns(alone, Vec::new(), Manner::AtOnce).await
    }

    /// As [`Self::stand_still`], and nothing is interrupted. Invocations that take long are waited for first, while the
    /// others go on. `None` where another has everything stand still, or had just before: between two of them the lanes have
    /// as much time as one took, so that each of them gets on. 503 where a lane is brought into another version's form, which
    /// may take a minute.
    pub(super) async fn stand_still_between(&self) -> Answer<Option<Standstill<'_>>> {
        let Ok(line) = self.admin.still.try_lock() else { return Ok(None) };
        let began = Instant::now();
        if line.is_some_and(|not_before| began < not_before) {
            return Ok(None);
        }
        none_migrates(&self.lanes.all())?;
        let alone = Alone { line, began };
        let mut turns = Vec::new();
        let long = self.take_turns(self.lanes.all(), &mut turns, began + SHORT, Manner::Between).await?;
        if !long.is_empty() {
            turns.clear();
            none_migrates(&long)?;
            let patience = long.iter().map(|lane| lane.newest().limits.wall()).max();
            let patience = patience.unwrap_or_default().min(LONG);
            let until = Instant::now() + patience;
            let missing = self.take_turns(long, &mut turns, until, Manner::Between).await?;
            none_migrates(&missing)?;
            none_is_missing(&missing, patience)?;
        }
        self.all_turns(alone, turns, Manner::Between).await.map(Some)
    }

    /// Takes all turns but these, which were taken before.
    async fn all_turns<'n>(
        &'n self,
        alone: Alone<'n>,
        mut turns: Vec<Turn>,
        manner: Manner,
    ) -> Answer<Standstill<'n>> {
        let until = Instant::now() + TO_STAND_STILL;
        let missing = self.take_turns(self.without(&turns), &mut turns, until, manner).await?;
        none_is_missing(&missing, TO_STAND_STILL)?;
        let installing = timeout_at(until, self.admin.installing.lock()).await;
        let installing = installing.map_err(|_| too_busy("a change to the installations", TO_STAND_STILL))?;
        // Those that were installed meanwhile.
        let missing = self.take_turns(self.without(&turns), &mut turns, until, manner).await?;
        none_is_missing(&missing, TO_STAND_STILL)?;
        Ok(Standstill { _turns: turns, _installing: installing, _alone: alone })
    }

    /// The lanes whose turns aren't among these.
    fn without(&self, turns: &[Turn]) -> Vec<Arc<Lane>> {
        let held: BTreeSet<Generation> = turns.iter().map(|turn| turn.lane.generation).collect();
        self.lanes.all().into_iter().filter(|lane| !held.contains(&lane.generation)).collect()
    }

    /// Takes the turns of these lanes, all at once: their invocations end side by side. Returns those whose turn wasn't had
    /// in time.
    async fn take_turns(
        &self,
        of: Vec<Arc<Lane>>,
        turns: &mut Vec<Turn>,
        until: Instant,
        manner: Manner,
    ) -> Answer<Vec<Arc<Lane>>> {
        let mut waiting = JoinSet::new();
        let mut missing = BTreeMap::new();
        for lane in of {
            missing.insert(lane.generation, Arc::clone(&lane));
            let lanes = Arc::clone(&self.lanes);
            waiting.spawn(async move {
                let _interrupting = matches!(manner, Manner::AtOnce).then(|| lane.interrupt.raise());
                Turn::of(lane, lanes).await
            });
        }
        while let Ok(Some(taken)) = timeout_at(until, waiting.join_next()).await {
            let turn = taken.map_err(|error| problems::internal(&error))?;
            missing.remove(&turn.lane.generation);
            turns.push(turn);
        }
        Ok(missing.into_values().collect())
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

/// The way in which lanes come to stand still.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// An invocation under way is interrupted: it runs again afterwards.
    AtOnce,
    /// It is waited for.
    Between,
}

/// Nothing runs and nothing is installed as long as this is held.
pub(super) struct Standstill<'n> {
    _turns: Vec<Turn>,
    _installing: MutexGuard<'n, LastGenerations>,
    _alone: Alone<'n>,
}

/// Nobody else has everything stand still as long as this is held.
struct Alone<'n> {
    /// The time before which the next one for points doesn't begin.
    line: MutexGuard<'n, Option<Instant>>,
    began: Instant,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed().clamp(LEAST_BETWEEN, TO_STAND_STILL);
        *self.line = Some(Instant::now() + took);
    }
}

/// 503: not everything came to a stop.
fn too_busy(what: &str, waited: Duration) -> Problem {
    let waited = SignedDuration::try_from(waited).unwrap_or(SignedDuration::MAX);
    let detail = format!("{what} was under way for more than {waited:#}; this is done only where nothing is");
    Problem::unavailable("busy", detail, RETRY_SOON).hint("Try again in a moment.")
}

/// 503 where turns weren't had.
fn none_is_missing(missing: &[Arc<Lane>], waited: Duration) -> Answer<()> {
    match missing.iter().map(|lane| &lane.id).min() {
        None => Ok(()),
        Some(id) => Err(too_busy(&format!("installation {id}"), waited)),
    }
}

/// 503 where the state of one of these is being migrated.
fn none_migrates(lanes: &[Arc<Lane>]) -> Answer<()> {
    let Some(lane) = lanes.iter().find(|lane| lane.migrates()) else { return Ok(()) };
    let detail = format!(
        "a new version of installation {} brings its state into its form, and points stay as they are meanwhile",
        lane.id
    );
    Err(Problem::unavailable("busy", detail, RETRY_SOON).hint("Try again once it is no longer `upgrading`."))
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
