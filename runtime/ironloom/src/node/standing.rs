//! Pausing, resuming and uninstalling: at once, whatever else goes on.
//!
//! These need a lane's turn and no other lock. An invocation under way is interrupted, since an admin
//! who stops an app doesn't wait for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::{Node, Turn, found_aside};
use crate::api::facade::{Answer, Backlog, Installation, Problem, Resumed};
use crate::fold::durable::Term;
use crate::records::admin::AdminRecord;
use crate::records::installation::Standing;
use crate::records::lane::Trouble;
use ironloom_types::clock::host_time;
use ironloom_types::ids::InstallationId;

impl Node {
    pub(super) async fn remove_installation(self: Arc<Self>, id: InstallationId, purge: bool) -> Answer<()> {
        if purge {
            return self.purge(&id).await;
        }
        let turn = self.interrupt(&id).await?;
        self.uninstall(&turn, false).await
    }

    /// Writes that the installation of this turn is gone.
    pub(super) async fn uninstall(&self, turn: &Turn, purge: bool) -> Answer<()> {
        self.change(AdminRecord::Uninstalled { ended: Box::new(turn.ended()), at: host_time(), purge }).await
    }

    pub(super) async fn pause_installation(self: Arc<Self>, id: InstallationId) -> Answer<Installation> {
        let turn = self.interrupt(&id).await?;
        let lane = Arc::clone(&turn.lane);
        if lane.installation().standing != Standing::Paused {
            let meta = Box::new(lane.book().meta().clone());
            let (generation, standing) = (lane.generation, Standing::Paused);
            self.change(AdminRecord::Standing { id, generation, standing, meta }).await?;
        }
        drop(turn);
        self.shown(lane).await
    }

    /// Resumes: an admin has looked at what went wrong, so that it counts no longer.
    pub(super) async fn resume_installation(
        self: Arc<Self>,
        id: InstallationId,
        backlog: Backlog,
    ) -> Answer<Resumed> {
        let turn = self.turn_of(&id).await?;
        let lane = Arc::clone(&turn.lane);
        let was_running = !lane.is_stopped();
        let dropped = match backlog {
            Backlog::Keep => None,
            Backlog::Drop => Some(self.to_be_dropped(&turn).await?),
        };
        let mut meta = lane.book().meta().clone();
        meta.quarantine = None;
        meta.trouble = Trouble::default();
        (meta.last_error, meta.last_timer_error) = (None, None);
        let last = self.shared.journal.of(id.tenant()).last();
        if dropped.is_some() {
            meta.skip(last);
        }
        let (generation, standing) = (lane.generation, Standing::Running);
        self.change(AdminRecord::Standing { id, generation, standing, meta: Box::new(meta) }).await?;
        lane.pace.lock().begin_anew();
        drop(turn);
        let installation = self.shown(lane).await?;
        let dropped = dropped.unwrap_or_default();
        let (dropped, dropped_at_least) = (dropped.readings, dropped.at_least);
        Ok(Resumed { installation, was_running, dropped, dropped_at_least })
    }

    /// Counts a backlog that is about to be dropped; 409 where the installation runs, since an admin
    /// who drops readings has stopped it to look.
    async fn to_be_dropped(self: &Arc<Self>, turn: &Turn) -> Answer<super::install::Counted> {
        let lane = Arc::clone(&turn.lane);
        if !lane.is_stopped() {
            let detail = format!("installation {} is running, so its backlog can't be dropped", lane.id);
            return Err(Problem::conflict("not-paused", detail).hint("Pause it first."));
        }
        let node = Arc::clone(self);
        let (tenant, cursor) = (lane.id.tenant(), lane.book().meta().cursor);
        found_aside(move || {
            let points = || {
                let read_by = |term: &Arc<Term>| {
                    node.paths.read_by(&node.shared.points, &term.revision.bindings.inputs).numbers
                };
                let all: BTreeSet<_> = lane.terms().all().iter().flat_map(read_by).collect();
                all.into_iter().collect()
            };
            node.count_readings(tenant, cursor, points, Instant::now())
        })
        .await
    }
}
