//! An app's state, as people read and repair it: between two invocations, and changed only while it stands still.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Node, Turn, problems};
use crate::api::facade::{Answer, Page, PageQuery, Place, Problem, RETRY_SOON, Reading, StateItem};
use crate::fold;
use crate::lanes::Lane;
use crate::lanes::context::scan_state;
use crate::records::admin::{AdminRecord, StateChanged};
use ironloom_sandbox::{Scan, StatePage};
use ironloom_types::effects::{check_state_key, state_cost};
use ironloom_types::ids::InstallationId;
use ironloom_types::limits::MAX_STATE_VALUE;

/// The time that a reader of an app's state waits for an invocation under way.
const BUSY_APP: Duration = Duration::from_secs(2);
/// Bytes of state on one page at most: its JSON is up to 2.4 times as long.
const STATE_PAGE: usize = 3 << 19;

impl Node {
    /// Gives what reads a page of an app's state, between two invocations.
    pub(super) async fn read_state(
        self: Arc<Self>,
        id: InstallationId,
        prefix: String,
        page: PageQuery,
    ) -> Answer<Reading<Page<StateItem>>> {
        let turn = self.turn_soon(&id).await?;
        Ok(Box::new(move || Box::pin(async move { self.read_state_of(turn, prefix, page).await })))
    }

    async fn read_state_of(&self, turn: Turn, prefix: String, page: PageQuery) -> Answer<Page<StateItem>> {
        let PageQuery { after, limit } = page;
        let found = self.scan_aside(&turn.lane, prefix, after, limit).await;
        drop(turn);
        let found = found?;
        let next = found.entries.last().filter(|_| found.more).map(|(key, _)| key.to_string());
        let items = found.entries.into_iter().map(|(key, value)| StateItem { key, value }).collect();
        Ok(Page { items, next })
    }

    /// One entry of an app's state, between two invocations.
    pub(super) async fn read_state_entry(&self, id: InstallationId, key: String) -> Answer<StateItem> {
        check_key(&key)?;
        let turn = self.turn_soon(&id).await?;
        let value = self.value_of(&turn.lane, &key).await?;
        drop(turn);
        let value = value.ok_or_else(|| no_such_key(&id, &key))?;
        Ok(StateItem { key: key.into(), value })
    }

    /// Sets a key of an app's state, or deletes it. It holds for the app's next invocation, so none may be about to begin.
    pub(super) async fn change_state(
        self: Arc<Self>,
        id: InstallationId,
        key: String,
        value: Option<Bytes>,
    ) -> Answer<()> {
        check_key(&key)?;
        if let Some(value) = &value {
            check_value(value)?;
            self.check_space()?;
        }
        let turn = self.turn_soon(&id).await?;
        let lane = Arc::clone(&turn.lane);
        if !lane.is_stopped() {
            let detail = format!("installation {id} is running, so its state can't be changed");
            return Err(Problem::conflict("not-paused", detail)
                .hint(format!("Pause it first: `ironloom pause {id}`.")));
        }
        let before = self.value_of(&lane, &key).await?;
        if value.is_none() && before.is_none() {
            return Err(no_such_key(&id, &key));
        }
        let (stored, repaired, ordinal) = {
            let book = lane.book();
            (book.meta().state_bytes, book.meta().repaired, book.meta().ordinal)
        };
        let cost = |value: &Option<Bytes>| value.as_ref().map_or(0, |value| state_cost(&key, value) as u64);
        let bytes = stored.saturating_sub(cost(&before)) + cost(&value);
        let limit = lane.newest().limits.state;
        // Whoever is over the limit, since it was lowered, can still make room.
        if bytes > limit && bytes > stored {
            let detail =
                format!("the state of installation {id} would take {bytes} bytes; its limit is {limit}");
            return Err(Problem::refused("quota-exceeded", detail)
                .hint(format!("Delete keys, or raise the limit: `ironloom set {id} --limit state=…`.")));
        }
        let changed = StateChanged {
            id,
            generation: lane.generation,
            key: key.into(),
            value: value.map(|value| value.to_vec()),
            bytes,
            repaired: repaired.unwrap_or(ordinal),
        };
        let written = self.change(AdminRecord::StateChanged(Box::new(changed))).await;
        drop(turn);
        written
    }

    /// The turn of a lane; 503 where an invocation takes long.
    async fn turn_soon(&self, id: &InstallationId) -> Answer<Turn> {
        tokio::time::timeout(BUSY_APP, self.turn_of(id)).await.map_err(|_| {
            let detail = format!(
                "installation {id} is in the middle of an invocation; its state can be read between two of them"
            );
            Problem::unavailable("busy", detail, RETRY_SOON)
        })?
    }

    async fn value_of(&self, lane: &Arc<Lane>, key: &str) -> Answer<Option<Bytes>> {
        // A key is the first of those that begin with it.
        let found = self.scan_aside(lane, key.to_owned(), None, 1).await?;
        Ok(found.entries.into_iter().find(|(found, _)| **found == *key).map(|(_, value)| value))
    }

    async fn scan_aside(
        &self,
        lane: &Arc<Lane>,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Answer<StatePage> {
        let lane = Arc::clone(lane);
        let found = fold::read_aside(&self.shared, move |shared| {
            let scan = Scan { prefix: &prefix, after: after.as_deref(), limit, max_bytes: STATE_PAGE };
            scan_state(&lane, &*shared.storage, scan)
        });
        found.await.map_err(|error| problems::internal(&error))
    }
}

fn check_key(key: &str) -> Answer<()> {
    check_state_key(key).map_err(|why| Problem::malformed("invalid-key", why).at(Place::field("key")))
}

fn check_value(value: &Bytes) -> Answer<()> {
    if value.len() > MAX_STATE_VALUE {
        let detail =
            format!("a value may have at most {MAX_STATE_VALUE} bytes, and this one has {}", value.len());
        return Err(Problem::too_large(detail));
    }
    Ok(())
}

fn no_such_key(id: &InstallationId, key: &str) -> Problem {
    Problem::not_found(format!("the state of installation {id} has no key {key:?}"))
        .hint(format!("`ironloom state {id}` lists the keys."))
}
