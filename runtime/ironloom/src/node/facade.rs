//! The node as the API sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Node, Shown, problems};
use crate::api::facade::{
    Alarm, Answer, Backlog, ConnectorStatus, DeadLetter, Facade, IngestRules, InstallRequest, Installation,
    Installed, Invocation, Later, LogLine, Lookup, OutputsQuery, PackageInfo, Page, PageQuery, PointItem,
    Push, Pushed, Readiness, ReadingItem, ReadingsQuery, StateItem,
};
use crate::lanes::Lane;
use crate::telemetry::State;
use ironloom_storage::log::Room;
use ironloom_types::clock::{Source, host_time};
use ironloom_types::ids::{Digest, InstallationId, Ordinal};

/// What holds `node` for work that may block.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| problems::internal(&error))?
}

/// A node that requests share.
#[derive(Clone)]
pub struct NodeFacade(pub Arc<Node>);

impl NodeFacade {
    fn lane(&self, id: &InstallationId) -> Answer<Arc<Lane>> {
        self.0.lane(id)
    }
}

impl Facade for NodeFacade {
    fn ingest_rules(&self) -> IngestRules {
        self.0.rules()
    }

    fn lookup(&self) -> Lookup<'_> {
        let names = self.0.shared.points.names();
        Box::new(move |path| names.number(path))
    }

    fn push(&self, push: Push) -> Later<'_, Pushed> {
        Box::pin(self.0.take(push))
    }

    fn readings(&self, query: ReadingsQuery) -> Later<'_, Page<ReadingItem>> {
        let node = Arc::clone(&self.0);
        Box::pin(aside(move || node.read_journal(&query)))
    }

    fn points(&self, prefix: String, page: PageQuery) -> Later<'_, Page<PointItem>> {
        let node = Arc::clone(&self.0);
        Box::pin(aside(move || Ok(node.list_points(&prefix, &page))))
    }

    fn add_package(&self, tar: Bytes) -> Later<'_, (PackageInfo, bool)> {
        Box::pin(self.0.take_package(tar))
    }

    fn packages(&self, page: PageQuery) -> Later<'_, Page<PackageInfo>> {
        Box::pin(async move { self.0.list_packages(&page) })
    }

    fn package(&self, digest: Digest) -> Later<'_, PackageInfo> {
        Box::pin(async move { Ok(super::packages::info(&*self.0.known_or_404(digest)?)) })
    }

    fn delete_package(&self, digest: Digest) -> Later<'_, ()> {
        Box::pin(self.0.remove_package(digest))
    }

    fn install(&self, request: InstallRequest, dry_run: bool) -> Later<'_, Installed> {
        Box::pin(self.0.add_installation(request, dry_run))
    }

    fn installations(&self, page: PageQuery) -> Later<'_, Page<Installation>> {
        let node = Arc::clone(&self.0);
        Box::pin(aside(move || Ok(node.list_installations(&page))))
    }

    fn installation(&self, id: InstallationId) -> Later<'_, Installation> {
        let node = Arc::clone(&self.0);
        Box::pin(aside(move || Ok(node.show_lane(&*node.lane(&id)?))))
    }

    fn uninstall(&self, id: InstallationId, purge: bool) -> Later<'_, ()> {
        Box::pin(self.0.remove_installation(id, purge))
    }

    fn pause(&self, id: InstallationId) -> Later<'_, Installation> {
        Box::pin(self.0.pause_installation(id))
    }

    fn resume(&self, id: InstallationId, backlog: Backlog) -> Later<'_, Installation> {
        Box::pin(self.0.resume_installation(id, backlog))
    }

    fn outputs(&self, id: InstallationId, query: OutputsQuery) -> Later<'_, Page<ReadingItem>> {
        let node = Arc::clone(&self.0);
        Box::pin(aside(move || node.list_outputs(&*node.lane(&id)?, &query)))
    }

    fn state(&self, id: InstallationId, prefix: String, page: PageQuery) -> Later<'_, Page<StateItem>> {
        Box::pin(async move { self.0.read_state(&self.lane(&id)?, &prefix, &page).await })
    }

    fn logs(&self, id: InstallationId, after: Option<u64>, limit: usize) -> Later<'_, Page<LogLine>> {
        let node = Arc::clone(&self.0);
        Box::pin(aside(move || node.read_log(&*node.lane(&id)?, after, limit)))
    }

    fn dead_letters(&self, id: InstallationId, after: u64, limit: usize) -> Later<'_, Page<DeadLetter>> {
        Box::pin(async move { self.0.list_dead_letters(&*self.lane(&id)?, after, limit).await })
    }

    fn requeue(&self, id: InstallationId, number: u64) -> Later<'_, ()> {
        Box::pin(async move { self.0.requeue_dead_letter(&id, number).await })
    }

    fn delete_dead_letter(&self, id: InstallationId, number: u64) -> Later<'_, ()> {
        Box::pin(async move { self.0.remove_dead_letter(&id, number).await })
    }

    fn invocations(&self, id: InstallationId, after: Ordinal, limit: usize) -> Later<'_, Page<Invocation>> {
        Box::pin(async move { self.0.list_invocations(&*self.lane(&id)?, after, limit).await })
    }

    fn alarms(&self, installation: Option<InstallationId>, page: PageQuery) -> Later<'_, Page<Alarm>> {
        Box::pin(async move { self.0.list_alarms(installation.as_ref(), &page) })
    }

    fn acknowledge(&self, alarm: String) -> Later<'_, Alarm> {
        Box::pin(async move { self.0.acknowledge_alarm(&alarm).await })
    }

    fn connectors(&self) -> Vec<ConnectorStatus> {
        self.0.connectors.lock().as_ref().map(|connectors| connectors.show()).unwrap_or_default()
    }

    fn readiness(&self) -> Readiness {
        self.0.show_readiness()
    }

    fn metrics(&self) -> String {
        self.0.show_metrics()
    }
}

impl Node {
    fn show_readiness(&self) -> Readiness {
        let mut reasons =
            self.connectors.lock().as_ref().map(|connectors| connectors.reasons()).unwrap_or_default();
        if let Some(failure) = &*self.failure.borrow() {
            reasons.push(format!("storage: {failure}"));
        }
        if self.stopping.load(Ordering::Acquire) {
            reasons.push("stopping".to_owned());
        }
        if self.full.load(Ordering::Acquire) {
            reasons.push("disk: less free than store.reserve".to_owned());
        }
        if self.committer.room() != Room::All {
            reasons.push("log: full until a checkpoint has ended".to_owned());
        }
        if self.rules().now.is_none() {
            reasons.push("clock: it shows a time before this binary was built".to_owned());
        }
        for lane in self.lanes.all().iter().filter(|lane| lane.app().is_none()) {
            reasons.push(format!("lanes: the code of {} is not loaded yet", lane.id));
        }
        let mut notes = Vec::new();
        if self.shared.clock.source() == Source::Feed {
            notes.push("[site] clock = \"feed\": time comes from the readings".to_owned());
        }
        if self.insecure_bind {
            notes.push("--insecure-bind: listens on more than loopback, without credentials".to_owned());
        }
        Readiness { ready: reasons.is_empty(), reasons, notes }
    }

    fn show_metrics(&self) -> String {
        let metrics = &self.telemetry.metrics;
        let stats = self.committer.stats();
        {
            let mut shown = self.shown.lock();
            metrics.log_groups.inc_by(stats.groups.saturating_sub(shown.groups));
            metrics.log_records.inc_by(stats.records.saturating_sub(shown.records));
            metrics.log_bytes.inc_by(stats.bytes.saturating_sub(shown.bytes));
            *shown = Shown { groups: stats.groups, records: stats.records, bytes: stats.bytes };
        }
        let lanes = self.lanes.all();
        let (mut running, mut stopped, mut stuck, mut pending, mut alarms) = (0, 0, 0, 0, 0);
        for lane in &lanes {
            if lane.is_enabled() {
                running += 1
            } else {
                stopped += 1
            }
            pending += lane.queue.lock().noted();
            alarms += lane.book().meta().alarms_standing;
            stuck += i64::from(lane.is_stuck(host_time()));
        }
        metrics.lanes.get_or_create(&State { state: "enabled" }).set(running);
        metrics.lanes.get_or_create(&State { state: "stopped" }).set(stopped);
        metrics.lanes.get_or_create(&State { state: "stuck" }).set(stuck);
        metrics.pending.set(pending as i64);
        metrics.alarms.set(i64::from(alarms));
        self.telemetry.text()
    }
}
