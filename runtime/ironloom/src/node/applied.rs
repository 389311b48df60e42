//! Pushes that wait until apps have dealt with their readings.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::{Node, problems};
use crate::api::facade::{Answer, Applied, Ended, Gone, Pushed, SetAside, StoppedInstallation, StoppedState};
use crate::aside::aside;
use crate::fold::durable::Durable;
use crate::fold::letters::Letters;
use crate::fold::waits::Dealt;
use crate::lanes::Lane;
use ironloom_types::ids::{PointNumber, Sequence};

/// Installations of which an answer has the names.
const MAX_NAMED: usize = 100;
/// Installations whose dead letters an answer looks at.
const MAX_LOOKED_AT: usize = 1_000;
/// Installations that all waiting pushes together may wait for.
pub(super) const MAX_WAITED_FOR: usize = 1 << 20;
/// Points and their matches that are read with one look at the routing table: the fold waits for it.
const LOOKS_AT_ONCE: usize = 16_384;
/// Pushes whose installations, or their dead letters, are looked for at the same time.
pub(super) const MAX_BOUND_LOOKS: usize = 2;
/// The time that there is at least to look for either: a push that doesn't wait asks how far they are.
const LEAST_LOOK: Duration = Duration::from_secs(1);

/// An installation that is bound to readings, and the last of them that it gets.
type Bound = (Arc<Durable>, Sequence);

fn least_look(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + LEAST_LOOK)
}

impl Node {
    /// Waits until all installations that are bound to these readings have dealt with them, for no longer than this, and
    /// not once `ended` is ready: then it says how far they are. The readings are durable: a fault is no reason to refuse
    /// them, since the sender would bring them once more. It is logged, and the answer says what isn't known.
    pub(super) async fn applied(
        self: Arc<Self>,
        pushed: Pushed,
        within: Duration,
        mut ended: Ended,
    ) -> Applied {
        let deadline = Instant::now() + within;
        let bound = tokio::select! {
            bound = self.bound_before(least_look(deadline), pushed) => bound.unwrap_or(None),
            () = &mut ended => None,
        };
        let Some(bound) = bound else {
            return Applied::default();
        };
        // Beyond: said as it is now.
        let most = u32::try_from(bound.len()).unwrap_or(u32::MAX);
        if let Ok(_waits) = self.waited_for.try_acquire_many(most) {
            let all = async {
                for (lane, last) in &bound {
                    if self.shared.dealt_with(lane, *last).await == Dealt::NotYet {
                        // Too many wait for it.
                        return;
                    }
                }
            };
            tokio::select! {
                _ = timeout_at(deadline, all) => {}
                // It stays so, and is asked once more.
                () = &mut ended => ended = Box::pin(std::future::ready(())),
            }
        }
        let mut applied = self.as_of_now(&bound);
        applied.set_aside = self.set_aside(bound, pushed, least_look(deadline), ended).await;
        applied
    }

    /// The installations that have dead letters of these readings, or may have some since they were not looked at in
    /// time. Those that have none at all need no look.
    pub(super) async fn set_aside(
        self: &Arc<Self>,
        mut bound: Vec<Bound>,
        pushed: Pushed,
        deadline: Instant,
        mut ended: Ended,
    ) -> Vec<SetAside> {
        bound.retain(|(lane, _)| lane.book().meta().dead_letters_kept > 0);
        if bound.is_empty() {
            return Vec::new();
        }
        let look = tokio::select! {
            biased;
            () = &mut ended => None,
            look = self.place_to_look(deadline) => look,
        };
        let Some(look) = look else {
            return self.set_aside_by(&bound, pushed, || true);
        };
        // Nobody waits for the answer once this is gone.
        let wanted = Arc::new(());
        let (node, asked) = (Arc::clone(self), Arc::downgrade(&wanted));
        let is_over = move || asked.strong_count() == 0 || Instant::now() >= deadline;
        let found = aside(move || {
            let _look = look;
            node.set_aside_by(&bound, pushed, is_over)
        });
        let mut found = pin!(found);
        let found = tokio::select! {
            found = &mut found => found,
            () = &mut ended => {
                drop(wanted);
                found.await
            }
        };
        found.unwrap_or_else(|error| {
            tracing::error!(%error, "the dead letters of a push could not be looked for");
            Vec::new()
        })
    }

    fn set_aside_by(&self, bound: &[Bound], pushed: Pushed, is_over: impl Fn() -> bool) -> Vec<SetAside> {
        let first = pushed.first();
        let has_failed = Cell::new(false);
        let found = bound.iter().enumerate().map(|(place, (lane, _))| {
            let is_over = || is_over() || has_failed.get() || place >= MAX_LOOKED_AT;
            let letters = self.shared.letters_of(lane, first..=pushed.through, is_over);
            let letters = letters.unwrap_or_else(|error| {
                tracing::error!(%error, installation = %lane.id, "the dead letters of a push could not be read");
                has_failed.set(true);
                Letters::UNKNOWN
            });
            SetAside { id: lane.id.clone(), readings: letters.count, at_least: letters.at_least }
        });
        found.filter(|found| found.readings > 0 || found.at_least).take(MAX_NAMED).collect()
    }

    /// A place to look from; `None` where others have all of them for too long.
    async fn place_to_look(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        timeout_at(deadline, Arc::clone(&self.bound_looks).acquire_owned()).await.ok()?.ok()
    }

    /// The installations that are bound to these readings, where they are found in time: few look for theirs at once.
    async fn bound_before(self: &Arc<Self>, deadline: Instant, pushed: Pushed) -> Answer<Option<Vec<Bound>>> {
        let Some(look) = self.place_to_look(deadline).await else { return Ok(None) };
        let node = Arc::clone(self);
        let found = aside(move || {
            // Its own: it goes on where nobody waits for it any more.
            let _look = look;
            node.bound_to(pushed, deadline)
        })
        .await;
        found.map_err(|error| problems::internal(&error))?
    }

    /// The installations that are bound to these readings, in the order of their ids; `None` once the time is over. The
    /// readings are read back: a request that comes again has others than those that were taken.
    fn bound_to(&self, pushed: Pushed, deadline: Instant) -> Answer<Option<Vec<Bound>>> {
        let Some(points) = self.points_of(pushed, deadline)? else { return Ok(None) };
        // Each point once, however many readings it has.
        let mut last = HashMap::<u32, Sequence>::new();
        let mut points = points.into_iter().peekable();
        while points.peek().is_some() {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            let routing = self.shared.routing.read();
            let mut looked = 0;
            while looked < LOOKS_AT_ONCE
                && let Some((point, sequence)) = points.next()
            {
                let found = routing.matches(point);
                for found in found {
                    let last = last.entry(found.lane()).or_default();
                    *last = sequence.max(*last);
                }
                looked += 1 + found.len();
            }
        }
        let bound = last.into_iter().filter_map(|(route, last)| {
            let lane = self.shared.lanes.get(route)?;
            // Those that another revision's inputs match are none of its own.
            let is_own = lane.terms().of(last).is_some_and(|term| term.route == route);
            is_own.then_some((lane, last))
        });
        let mut bound: Vec<Bound> = bound.collect();
        bound.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        Ok(Some(bound))
    }

    /// The points of these readings, and the last reading of each; `None` once the time is over.
    fn points_of(&self, pushed: Pushed, deadline: Instant) -> Answer<Option<HashMap<PointNumber, Sequence>>> {
        let mut last = HashMap::new();
        let (mut from, through) = (pushed.first(), pushed.through);
        while from <= through {
            let chunk = self.shared.journal.chunk_from(from).map_err(|error| problems::internal(&error))?;
            let Some(chunk) = chunk else { break };
            let rows = chunk.row_after(Sequence(from.0.saturating_sub(1)))..chunk.len();
            for row in rows {
                let sequence = chunk.sequence(row);
                if sequence > through {
                    break;
                }
                last.insert(chunk.columns.points[row], sequence);
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            from = chunk.next_sequence();
        }
        Ok(Some(last))
    }

    fn as_of_now(&self, bound: &[Bound]) -> Applied {
        let mut applied = Applied::default();
        for (lane, last) in bound {
            let is_there_again = self.lanes.of(&lane.id).is_some();
            let gone = StoppedState::Gone(if is_there_again { Gone::Replaced } else { Gone::Removed });
            let state = match lane.dealt(*last) {
                Dealt::With => continue,
                Dealt::NotYet => {
                    applied.pending.push(lane.id.clone());
                    continue;
                }
                Dealt::Gone => gone,
                Dealt::Stopped => {
                    let lane: Option<Arc<Lane>> = self.lanes.get(lane.number);
                    lane.map_or(gone, |lane| StoppedState::Is(self.state_of(&lane)))
                }
            };
            applied.stopped.push(StoppedInstallation { id: lane.id.clone(), state });
        }
        applied.applied = applied.pending.is_empty() && applied.stopped.is_empty();
        applied.pending.truncate(MAX_NAMED);
        applied.stopped.truncate(MAX_NAMED);
        applied
    }
}
