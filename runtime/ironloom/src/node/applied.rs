//! Pushes that wait until apps have dealt with their readings.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::{Node, found_aside, problems};
use crate::api::facade::{Answer, Applied, Ended, Gone, Pushed, SetAside, StoppedInstallation, StoppedState};
use crate::aside::aside;
use crate::fold::durable::Durable;
use crate::fold::letters::Letters;
use crate::fold::waits::Dealt;
use crate::lanes::Lane;
use ironloom_types::ids::{InstallationId, PointNumber, Sequence, TenantId};

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

/// An installation that is bound to readings.
pub(super) struct Bound {
    pub(super) lane: Arc<Durable>,
    /// The first of them that it gets, and the last.
    pub(super) own: RangeInclusive<Sequence>,
}

/// All that are bound to a push.
struct AllBound {
    bound: Vec<Bound>,
    /// Some of its readings are no longer in the journal, so nobody knows who was bound to them.
    is_part: bool,
}

/// Points, each with its first reading and its last.
type PointsOf = HashMap<PointNumber, RangeInclusive<Sequence>>;

fn least_look(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + LEAST_LOOK)
}

impl Node {
    /// Waits until all installations that are bound to these readings have dealt with them, for no longer than this, and
    /// not once `ended` is ready: then it says how far they are. The readings are durable: a fault is no reason to refuse
    /// them, since the sender would bring them once more. It is logged, and the answer says what isn't known.
    pub(super) async fn applied(
        self: Arc<Self>,
        tenant: TenantId,
        pushed: Pushed,
        within: Duration,
        mut ended: Ended,
    ) -> Applied {
        let deadline = Instant::now() + within;
        let bound = tokio::select! {
            bound = self.bound_before(tenant, least_look(deadline), pushed) => bound.unwrap_or(None),
            () = &mut ended => None,
        };
        let Some(AllBound { bound, is_part }) = bound else {
            return Applied::default();
        };
        // Beyond: said as it is now.
        let most = u32::try_from(bound.len()).unwrap_or(u32::MAX);
        if let Ok(_waits) = self.waited_for.try_acquire_many(most) {
            let all = async {
                for Bound { lane, own } in &bound {
                    if self.shared.dealt_with(lane, *own.end()).await == Dealt::NotYet {
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
        let mut applied = self.as_of_now(tenant, &bound, is_part.then_some(pushed));
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
        bound.retain(|bound| bound.lane.book().meta().dead_letters_kept > 0);
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
        let found = bound.iter().enumerate().map(|(place, Bound { lane, .. })| {
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
    async fn bound_before(
        self: &Arc<Self>,
        tenant: TenantId,
        deadline: Instant,
        pushed: Pushed,
    ) -> Answer<Option<AllBound>> {
        let Some(look) = self.place_to_look(deadline).await else { return Ok(None) };
        let node = Arc::clone(self);
        found_aside(move || {
            // Its own: it goes on where nobody waits for it any more.
            let _look = look;
            node.bound_to(tenant, pushed, deadline)
        })
        .await
    }

    /// The installations that are bound to these readings, in the order of their ids; `None` once the time is over. The
    /// readings are read back: a request that comes again has others than those that were taken.
    fn bound_to(&self, tenant: TenantId, pushed: Pushed, deadline: Instant) -> Answer<Option<AllBound>> {
        let Some((points, count)) = self.points_of(tenant, pushed, deadline)? else { return Ok(None) };
        // Each point once, however many readings it has.
        let mut own = HashMap::<u32, RangeInclusive<Sequence>>::new();
        let mut points = points.into_iter().peekable();
        while points.peek().is_some() {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            let routing = self.shared.routing.read();
            let mut looked = 0;
            while looked < LOOKS_AT_ONCE
                && let Some((point, sequences)) = points.next()
            {
                let found = routing.matches(point);
                for found in found {
                    let own = own.entry(found.lane()).or_insert_with(|| sequences.clone());
                    *own = *sequences.start().min(own.start())..=*sequences.end().max(own.end());
                }
                looked += 1 + found.len();
            }
        }
        let bound = own.into_iter().filter_map(|(route, own)| {
            let lane = self.shared.lanes.get(route)?;
            // Those that another revision's inputs match are none of its own.
            let is_own = lane.terms().of(*own.end()).is_some_and(|term| term.route == route);
            is_own.then_some(Bound { lane, own })
        });
        let mut bound: Vec<Bound> = bound.collect();
        bound.sort_by(|a, b| a.lane.id.cmp(&b.lane.id));
        Ok(Some(AllBound { bound, is_part: count < pushed.accepted }))
    }

    /// The points of these readings, with the first reading of each and the last, and how many readings there are; `None`
    /// once the time is over.
    fn points_of(
        &self,
        tenant: TenantId,
        pushed: Pushed,
        deadline: Instant,
    ) -> Answer<Option<(PointsOf, u64)>> {
        let (mut points, mut count) = (PointsOf::new(), 0);
        let (mut from, through) = (pushed.first(), pushed.through);
        while from <= through {
            let chunk = self
                .shared
                .journal
                .of(tenant)
                .chunk_from(from)
                .map_err(|error| problems::internal(&error))?;
            let Some(chunk) = chunk else { break };
            let rows = chunk.row_after(Sequence(from.0.saturating_sub(1)))..chunk.len();
            for row in rows {
                let sequence = chunk.sequence(row);
                if sequence > through {
                    break;
                }
                count += 1;
                let own = points.entry(chunk.columns.points[row]).or_insert(sequence..=sequence);
                *own = *own.start()..=sequence;
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            from = chunk.next_sequence();
        }
        Ok(Some((points, count)))
    }

    /// The installations that were moved over some of these readings; where readings are gone, also those that may have been.
    fn lost(&self, tenant: TenantId, bound: &[Bound], part: Option<Pushed>) -> Vec<InstallationId> {
        let has_lost = |lane: &Durable, first, last| {
            lane.book().meta().has_skipped(first, last).then(|| lane.id.clone())
        };
        let own = bound.iter().filter_map(|Bound { lane, own }| has_lost(lane, *own.start(), *own.end()));
        let mut lost: BTreeSet<_> = own.collect();
        let gone = part.and_then(|pushed| {
            let last =
                Sequence(self.shared.journal.of(tenant).first().0.saturating_sub(1)).min(pushed.through);
            (pushed.first() <= last).then_some((pushed.first(), last))
        });
        if let Some((first, last)) = gone {
            let own = self.lanes.of_tenant(tenant);
            lost.extend(own.iter().filter_map(|lane| has_lost(lane, first, last)));
        }
        lost.into_iter().take(MAX_NAMED).collect()
    }

    /// Says how far they are; `part` is the push where some of its readings are gone.
    fn as_of_now(&self, tenant: TenantId, bound: &[Bound], part: Option<Pushed>) -> Applied {
        let mut applied = Applied { lost: self.lost(tenant, bound, part), ..Applied::default() };
        for Bound { lane, own } in bound {
            let is_there_again = self.lanes.of(&lane.id).is_some();
            let gone = StoppedState::Gone(if is_there_again { Gone::Replaced } else { Gone::Removed });
            let state = match lane.dealt(*own.end()) {
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
        applied.applied = applied.pending.is_empty() && applied.stopped.is_empty() && applied.lost.is_empty();
        applied.pending.truncate(MAX_NAMED);
        applied.stopped.truncate(MAX_NAMED);
        applied
    }
}
