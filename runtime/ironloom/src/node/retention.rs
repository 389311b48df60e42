//! Retention: readings that are older than `journal.max_age`, or more than `journal.max_bytes` holds, go, and so do old
//! parts of installations' histories (`histories.rs`).
//!
//! First each lane that still waits for some of them is moved on, by a record that says what it misses. Then one
//! record drops the blocks, and their files go with the next checkpoint. An old reading may stay for as long as
//! a newer one is in its block.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::histories::Looks;
use super::retention_warnings::Limits;
use super::{Node, Turn, problems};
use crate::api::facade::Answer;
use crate::fold::catch_up::Missed;
use crate::fold::{BELIEVED_AFTER, Retention, read_aside};
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use ironloom_types::clock::{Source, Timestamp};
use ironloom_types::ids::{Generation, Revision, Sequence, TenantId};
use ironloom_types::work::Gap;

/// The interval at which blocks that are due are looked for.
const LOOK: Duration = Duration::from_secs(10);

/// Drops now and then what is due.
pub(super) async fn watch(node: Weak<Node>) {
    let (began, mut looks) = (Instant::now(), Looks::default());
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            if let Err(problem) = node.drop_what_is_due(began.elapsed()).await {
                tracing::warn!(%problem, "readings past the journal's retention could not be dropped; it is tried again");
            }
            node.drop_old_histories(began.elapsed(), &mut looks).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Node {
    async fn drop_what_is_due(self: &Arc<Self>, up: Duration) -> Answer<()> {
        let before = self.oldest_kept(up);
        let (age, bytes) = {
            let journal = &self.config.load().journal;
            (journal.max_age, journal.max_bytes)
        };
        let age = before.zip(age).map(|(before, age)| (before.plus(age.0), age.0));
        self.warn_of_what_expires(Limits { age, bytes: bytes.map(|bytes| bytes.0) });
        let retention =
            Retention { before, max_bytes: self.config.load().journal.max_bytes.map(|bytes| bytes.0) };
        for (tenant, before) in self.shared.journal.due_to_go(retention).iter() {
            self.drop_before(tenant, before).await?;
        }
        Ok(())
    }

    /// Drops a tenant's readings before this sequence, once those who miss some know it.
    async fn drop_before(self: &Arc<Self>, tenant: TenantId, before: Sequence) -> Answer<()> {
        loop {
            let waiting = self.waiting(tenant, before);
            let missed = self.missed(tenant, &waiting, before).await?;
            for (lane, gaps) in &missed {
                if let Some(counted) = waiting.get(lane) {
                    self.move_on(*lane, *counted, gaps, before).await?;
                }
            }
            let _installing = self.admin.installing.lock().await;
            // Whoever still waits was found to wait for none of them, unless it has begun in between.
            let is_known = |(lane, now): (&u32, &Waiting)| {
                let before = waiting.get(lane).filter(|before| before.is_as(now));
                before.is_some_and(|before| before.first <= now.first) && !missed.contains_key(lane)
            };
            if self.waiting(tenant, before).iter().all(is_known) {
                return self.change(AdminRecord::Dropped { tenant, before }).await;
            }
        }
    }

    /// The time before which readings are too old.
    fn oldest_kept(&self, up: Duration) -> Option<Timestamp> {
        let age = self.config.load().journal.max_age?.0;
        Some(Timestamp(self.believed_now(up)?.0.saturating_sub(age)))
    }

    /// The present. A clock that may be wrong makes nothing old.
    pub(super) fn believed_now(&self, up: Duration) -> Option<Timestamp> {
        let clock = &self.shared.clock;
        match clock.source() {
            Source::Feed => Some(clock.last()),
            Source::Host if up < BELIEVED_AFTER || self.clock_step.note(clock).is_some() => None,
            Source::Host => clock.host().ok(),
        }
    }

    /// The lanes of a tenant that wait, or may wait, for readings before this sequence, by number.
    fn waiting(&self, tenant: TenantId, before: Sequence) -> BTreeMap<u32, Waiting> {
        let first = |lane: &Arc<Lane>| lane.queue.lock().pending().filter(|first| *first < before);
        let waiting = |lane: &Arc<Lane>| Some((lane.number, Waiting::of(lane, first(lane)?)));
        self.lanes.of_tenant(tenant).iter().filter_map(waiting).collect()
    }

    /// Moves a lane on that misses this, as it was counted. Where it has gone on or was changed since, that is counted
    /// again in its turn.
    async fn move_on(&self, number: u32, counted: Waiting, gaps: &[Gap], before: Sequence) -> Answer<()> {
        let Some(lane) = self.shared.lanes.get(number).and_then(|found| self.lanes.of(&found.id)) else {
            return Ok(());
        };
        let turn = Turn::of(Arc::clone(&lane), Arc::clone(&self.lanes)).await;
        let Some(now) = turn.lane.queue.lock().pending().filter(|now| *now < before) else { return Ok(()) };
        if turn.lane.book().is_closed() {
            return Ok(());
        }
        let waiting = Waiting::of(&lane, now);
        let gaps = if waiting == counted {
            gaps.to_vec()
        } else {
            let mut counted =
                self.missed(lane.id.tenant(), &BTreeMap::from([(number, waiting)]), before).await?;
            let Some(gaps) = counted.remove(&number) else { return Ok(()) };
            gaps
        };
        let (id, generation, through) = (lane.id.clone(), lane.generation, Sequence(before.0 - 1));
        self.change(AdminRecord::Missed { id, generation, through, gaps }).await
    }

    /// The readings that these lanes miss where the journal begins at `before`, counted in one pass.
    async fn missed(
        &self,
        tenant: TenantId,
        waiting: &BTreeMap<u32, Waiting>,
        before: Sequence,
    ) -> Answer<BTreeMap<u32, Vec<Gap>>> {
        let first: BTreeMap<u32, Sequence> =
            waiting.iter().map(|(lane, waiting)| (*lane, waiting.first)).collect();
        let missed = read_aside(&self.shared, move |shared| shared.missed(tenant, &first, before)).await;
        let missed = missed.map_err(|error| problems::internal(&error))?;
        let named = missed.into_iter().map(|(number, by_input)| {
            let gap = |(slot, Missed { first, last, count })| Gap { slot, first, last, count };
            (number, by_input.into_iter().map(gap).collect())
        });
        Ok(named.collect())
    }
}

/// A lane for which readings wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    generation: Generation,
    /// The newest revision: with another one, other readings may be its own.
    revision: Revision,
    first: Sequence,
}

impl Waiting {
    fn of(lane: &Lane, first: Sequence) -> Self {
        Self { generation: lane.generation, revision: lane.newest().number(), first }
    }

    /// Says whether it is the same lane under the same revision.
    fn is_as(&self, other: &Self) -> bool {
        (self.generation, self.revision) == (other.generation, other.revision)
    }
}
