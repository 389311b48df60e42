//! Slows the sources of an installation that must keep up while it falls behind: those of its own readings, and of the
//! apps whose outputs it reads.
//!
//! How far one is behind is how long a reading that came now would wait for it: what is pending, at the speed at which
//! it takes readings; or as long as it has taken none. By the machine's clock, since the feed's knows nothing of it.

mod sources;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use self::sources::Sources;
use super::Node;
use crate::api::facade::{APPS_BEHIND, Problem, RETRY_SOON, Slowed};
use crate::config::Span;
use crate::lanes::Lane;
use crate::telemetry::Sparing;
use ironloom_types::ids::{Generation, InstallationId, TenantId};
use ironloom_types::readings::{Columns, NewPoint};

/// The interval at which lanes are looked at: what comes in between is the error.
const LOOK: Duration = Duration::from_millis(20);
/// The interval at which the lanes to be looked at are looked for.
const FIND: Duration = Duration::from_secs(1);
/// The time at work over which a lane's speed is measured, at least and, twice, at most.
const LEAST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(1);
/// Installations that are named.
const NAMED: usize = 3;
/// One log line of it a minute.
const TELL: Duration = Duration::from_secs(60);

/// The installations for which sources are slowed.
#[derive(Default)]
pub(super) struct KeepUp {
    any: AtomicBool,
    /// Each tenant's apart: nobody is slowed for another one's.
    behind: Mutex<BTreeMap<TenantId, Arc<Behind>>>,
}

/// Installations that are behind, and the readings that they get.
struct Behind {
    ids: Vec<InstallationId>,
    sources: Sources,
    /// When these were looked for.
    found: Instant,
}

impl KeepUp {
    fn set(&self, node: &Node, behind: &[Arc<Lane>]) {
        // Those that are slowed stay so while sources are looked for.
        let mut before = self.behind.lock().clone();
        let mut now = BTreeMap::new();
        let mut by_tenant: BTreeMap<TenantId, Vec<Arc<Lane>>> = BTreeMap::new();
        for lane in behind {
            by_tenant.entry(lane.id.tenant()).or_default().push(Arc::clone(lane));
        }
        for (tenant, lanes) in by_tenant {
            let ids = || lanes.iter().map(|lane| &lane.id);
            let is_known =
                |before: &Arc<Behind>| before.ids.iter().eq(ids()) && before.found.elapsed() < FIND;
            let found = before.remove(&tenant).filter(is_known).unwrap_or_else(|| {
                let sources = Sources::of(&node.lanes, &lanes);
                Arc::new(Behind { ids: ids().cloned().collect(), sources, found: Instant::now() })
            });
            now.insert(tenant, found);
        }
        *self.behind.lock() = now;
        self.any.store(!behind.is_empty(), Ordering::Release);
    }

    fn behind(&self, tenant: TenantId) -> Option<Arc<Behind>> {
        if self.any.load(Ordering::Acquire) { self.behind.lock().get(&tenant).cloned() } else { None }
    }

    /// Says for whom sources of the tenant `main` are slowed.
    pub(super) fn note(&self) -> Option<String> {
        self.behind(TenantId::MAIN).map(|behind| behind.note())
    }
}

impl Behind {
    fn note(&self) -> String {
        let mut names = self.ids.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if self.ids.len() > NAMED {
            names.push_str(&format!(" and {} more", self.ids.len() - NAMED));
        }
        format!("sources are slowed: {names} must keep up, and is behind by more than ingest.max_lag")
    }
}

impl Node {
    /// The readings of a tenant whose sources are slowed, while some app of it that must keep up is behind.
    pub(super) fn slowed(&self, tenant: TenantId) -> Option<Slowed> {
        let behind = self.keep_up.behind(tenant)?;
        let problem = Problem::unavailable(APPS_BEHIND, behind.note(), RETRY_SOON)
            .hint("A paused installation holds no source up: `ironloom pause`.");
        let (shared, inputs) = (Arc::clone(&self.shared), behind.sources.inputs());
        let find = move |columns: &Columns, new_points: &[NewPoint], first: usize| {
            behind.sources.find(&shared, columns, new_points, first)
        };
        Some(Slowed { problem, inputs, find: Arc::new(find) })
    }

    /// Slows the sources of these from now on, and of no others.
    fn tell_slowed(&self, behind: &[Arc<Lane>], keeping_up: i64) {
        self.telemetry.metrics.slowed_for.set(behind.len() as i64);
        self.telemetry.metrics.keeping_up.set(keeping_up);
        self.keep_up.set(self, behind);
    }
}

/// Looks at the installations that must keep up, while there is a limit.
pub(super) async fn watch(node: Weak<Node>) {
    let (start, mut found) = (Instant::now(), None::<Instant>);
    let mut lanes: Vec<(Arc<Lane>, Watch)> = Vec::new();
    // The journal's end at the last look, if nothing waited for any of them.
    let mut idle_at = None;
    let mut lines = Sparing::new(1, TELL);
    loop {
        let Some(node) = node.upgrade() else { return };
        let Some(max_lag) = node.config.load().max_lag.map(Span::duration) else {
            lanes.clear();
            (found, idle_at) = (None, None);
            node.tell_slowed(&[], 0);
            drop(node);
            tokio::time::sleep(FIND).await;
            continue;
        };
        if found.is_none_or(|found| found.elapsed() >= FIND) {
            found = Some(Instant::now());
            lanes = found_lanes(&node, lanes);
            idle_at = None;
        }
        let end = node.shared.journal.come();
        if idle_at == Some(end) {
            drop(node);
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let (mut behind, mut keeping_up, mut waits) = (Vec::new(), 0, false);
        for (lane, watch) in &mut lanes {
            if holds_nobody_up(lane) {
                *watch = Watch::default();
                continue;
            }
            let look = look(&node, lane, start.elapsed());
            waits |= look.pending > 0;
            if watch.is_behind(look, max_lag) {
                behind.push(Arc::clone(lane));
            }
            keeping_up += i64::from(watch.caught_up);
        }
        node.tell_slowed(&behind, keeping_up);
        idle_at = (!waits).then_some(end);
        if let Some(note) = node.keep_up.note()
            && lines.take()
        {
            tracing::warn!("{note}");
        }
        drop(node);
        tokio::time::sleep(LOOK).await;
    }
}

/// Says if a lane takes no readings for a reason that no slower source helps: people stopped it, or it failed. One that
/// waits for room in the store or for a timer's next attempt is as far behind as it is.
fn holds_nobody_up(lane: &Lane) -> bool {
    lane.is_stopped() || !lane.has_app() || lane.pace.lock().readings_wait(Instant::now())
}

fn look(node: &Node, lane: &Lane, at: Duration) -> Look {
    let (pending, _) = node.lag_readings(lane);
    let taken = lane.book().meta().counters.readings;
    let (noted, head) = {
        let queue = lane.queue.lock();
        (queue.noted() as u64, queue.head_time())
    };
    let waited = head.map_or(0, |head| node.shared.clock.now().0.saturating_sub(head.0));
    Look { at, pending, noted: noted.min(pending), waited: Duration::from_nanos(waited), taken }
}

/// The lanes that must keep up, with what is known of them.
fn found_lanes(node: &Node, before: Vec<(Arc<Lane>, Watch)>) -> Vec<(Arc<Lane>, Watch)> {
    let mut known: HashMap<Generation, Watch> =
        before.into_iter().map(|(lane, watch)| (lane.generation, watch)).collect();
    let wanted = node.lanes.all().into_iter().filter(|lane| lane.newest().revision.keep_up);
    wanted
        .map(|lane| {
            let watch = known.remove(&lane.generation).unwrap_or_default();
            (lane, watch)
        })
        .collect()
}

/// A lane at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Since the start.
    at: Duration,
    /// Readings that wait for it, at most: behind its notes those of others count as well.
    pending: u64,
    /// Those of them that are its own for sure.
    noted: u64,
    /// The time for which the first of these has waited, by the feed's clock.
    waited: Duration,
    /// Readings that it has ever dealt with.
    taken: u64,
}

/// Time that a lane was at work, and what it took.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    time: Duration,
    taken: u64,
}

/// What is known of a lane from looking at it.
#[derive(Debug, Default)]
struct Watch {
    last: Option<Look>,
    /// When it last took something, or had nothing to take.
    progress: Duration,
    /// Its work lately, and before that.
    work: [Work; 2],
    /// It was near the present once. One that begins with a backlog, after a pause for example, holds nobody up until
    /// then.
    caught_up: bool,
    is_behind: bool,
}

impl Watch {
    /// Says whether it is behind by more than this; from then on until it is behind by less than half of it.
    fn is_behind(&mut self, look: Look, max_lag: Duration) -> bool {
        let last = self.last.replace(look).unwrap_or(Look { pending: 0, ..look });
        let taken = look.taken.saturating_sub(last.taken);
        if taken > 0 || last.pending == 0 || look.pending == 0 {
            self.progress = look.at;
        }
        if last.pending > 0 {
            self.worked(Work { time: look.at - last.at, taken });
        }
        let stalled = look.at - self.progress;
        // Behind its notes it is known what waits at most, and at least.
        let least = self.needs(look.noted).unwrap_or_default().max(look.waited);
        let lag = match (look.pending, self.needs(look.pending).map(|most| most.min(least))) {
            (0, _) => Some(Duration::ZERO),
            (_, Some(needed)) => Some(needed.max(stalled)),
            (_, None) => (stalled > max_lag).then_some(stalled),
        };
        let Some(lag) = lag else { return self.is_behind };
        self.caught_up |= lag <= max_lag / 2;
        let most = if self.is_behind { max_lag / 2 } else { max_lag };
        self.is_behind = self.caught_up && lag > most;
        self.is_behind
    }

    fn worked(&mut self, work: Work) {
        let [lately, before] = &mut self.work;
        if lately.time >= MOST {
            *before = std::mem::take(lately);
        }
        lately.time += work.time;
        lately.taken += work.taken;
    }

    /// The time that so many readings take; `None` where that isn't known yet.
    fn needs(&self, pending: u64) -> Option<Duration> {
        let [lately, before] = self.work;
        let (time, taken) = (lately.time + before.time, lately.taken + before.taken);
        (time >= LEAST && taken > 0).then(|| time.mul_f64(pending as f64 / taken as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A lane that takes so many readings a second, looked at each 20 ms.
    struct Lane {
        watch: Watch,
        look: Look,
        speed: u64,
        /// Readings of others that it may have to look at.
        others: u64,
    }

    impl Lane {
        fn new(speed: u64, pending: u64) -> Self {
            let look = Look { at: Duration::ZERO, pending, noted: pending, waited: Duration::ZERO, taken: 0 };
            Self { watch: Watch::default(), look, speed, others: 0 }
        }

        /// For so long, while so many come in a second unless it is behind; returns for how long it was, and the most
        /// that waited.
        fn run(&mut self, time: Duration, incoming: u64) -> (Duration, u64) {
            let (mut behind, mut most) = (Duration::ZERO, 0);
            for _ in 0..time.as_millis() / LOOK.as_millis() {
                let pending = self.look.pending;
                let look = Look { pending: pending + self.others, noted: pending, ..self.look };
                let is_behind = self.watch.is_behind(look, SECOND);
                behind += if is_behind { LOOK } else { Duration::ZERO };
                let parts = 1_000 / LOOK.as_millis() as u64;
                self.look.pending += if is_behind { 0 } else { incoming / parts };
                let taken = (self.speed / parts).min(self.look.pending);
                self.look.pending -= taken;
                self.look.taken += taken;
                self.look.at += LOOK;
                most = most.max(self.look.pending);
            }
            (behind, most)
        }
    }

    #[test]
    fn what_waits_is_bounded_by_what_it_takes_in_the_time() {
        let mut lane = Lane::new(10_000, 0);
        let (behind, first) = lane.run(10 * SECOND, 1_000_000);
        // Until its speed is known, a quarter of a second's worth comes in.
        assert!(first <= 300_000, "{first}");
        assert!(behind >= 8 * SECOND, "{behind:?}");
        lane.run(60 * SECOND, 1_000_000);
        let (behind, most) = lane.run(30 * SECOND, 1_000_000);
        // A second's worth, and what comes between two looks.
        assert!(most <= 10_000 + 2 * 20_000, "{most}");
        assert!(behind > 15 * SECOND, "{behind:?}");
    }

    #[test]
    fn one_that_keeps_up_slows_nobody() {
        let mut lane = Lane::new(10_000, 0);
        assert_eq!(lane.run(10 * SECOND, 9_000).0, Duration::ZERO);
    }

    #[test]
    fn what_waits_for_others_makes_none_late() {
        let mut lane = Lane::new(10_000, 0);
        lane.run(SECOND, 9_000);
        (lane.others, lane.look.waited) = (1_000_000, SECOND / 20);
        assert_eq!(lane.run(10 * SECOND, 9_000).0, Duration::ZERO);
        // Its own are too many, or have waited too long.
        lane.look.waited = Duration::ZERO;
        assert!(lane.run(10 * SECOND, 100_000).0 > SECOND);
        lane.look.waited = 2 * SECOND;
        assert_eq!(lane.run(SECOND, 9_000).0, SECOND);
    }

    #[test]
    fn one_that_begins_with_a_backlog_slows_nobody_until_it_has_caught_up() {
        let mut lane = Lane::new(10_000, 100_000);
        assert_eq!(lane.run(15 * SECOND, 2_000).0, Duration::ZERO);
        assert!(lane.look.pending < 5_000);
        assert!(lane.run(10 * SECOND, 100_000).0 > SECOND);
    }

    #[test]
    fn one_that_stands_still_is_behind_after_that_time() {
        let mut lane = Lane::new(10_000, 0);
        lane.run(SECOND, 5_000);
        lane.speed = 0;
        let (behind, _) = lane.run(SECOND, 5_000);
        assert_eq!(behind, Duration::ZERO);
        let (behind, _) = lane.run(SECOND, 5_000);
        assert!(behind > SECOND / 2, "{behind:?}");
        lane.speed = 10_000;
        lane.run(20 * SECOND, 100);
        assert_eq!(lane.run(SECOND, 100).0, Duration::ZERO);
    }
}
