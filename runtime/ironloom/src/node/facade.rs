//! The node as the API sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::views::list_timers;
use super::{Node, found_aside, problems, rollback};
use crate::access::{current, within};
use crate::api::capsule::Capsule;
use crate::api::facade::{
    Alarm, AlarmDeed, Answer, Applied, Backlog, ConsentGiven, Copies, DeadLetter, DrivenPoint, Ended,
    EpisodesQuery, Facade, Halt, HaltRequest, IfMatch, IngestRules, InstallRequest, Installation, Installed,
    IntentDeed, Invocation, KeptState, Later, LogPage, Lookup, NeverUsed, NumberedQuery, OutputsQuery,
    PackageInfo, Page, PageQuery, PendingConsent, PointDetail, PointItem, PointRequest, Push, Pushed,
    Reading, ReadingItem, ReadingsQuery, Rehearsal, RehearsalRequest, RenamePoint, RenamedPoint, Replay,
    ReplayRequest, RequestKey, Reset, Resumed, RetirePoints, RetiredPoints, Revised, RevisionRequest,
    RollbackRequest, RolledBack, Slowed, StartFrom, StateItem, StreamClaim, Timer,
};
use crate::lanes::Lane;
use crate::telemetry::events::Events;
use ironloom_types::ids::{Digest, InstallationId, IntentId, PointPath, TenantId};
use ironloom_types::readings::NewPoint;

/// Runs a change of an admin as a task of its own, so that a caller that hangs up doesn't cut it off
/// half-way.
pub(super) async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<T> {
    // The deed that it is goes along.
    tokio::spawn(within(current(), change)).await.map_err(|error| problems::internal(&error))?
}

/// A node that requests share.
#[derive(Clone)]
pub(super) struct NodeFacade(pub Arc<Node>);

impl NodeFacade {
    fn lane(&self, id: &InstallationId) -> Answer<Arc<Lane>> {
        self.0.lane(id)
    }
}

impl Facade for NodeFacade {
    fn ingest_rules(&self, tenant: TenantId) -> IngestRules {
        self.0.rules(tenant)
    }

    fn lookup(&self, tenant: TenantId) -> Lookup<'_> {
        let names = self.0.shared.points.names();
        Box::new(move |path| names.find(tenant, path))
    }

    fn submit(&self, push: Push) -> Answer<Later<'static, Pushed>> {
        self.0.submit(push)
    }

    fn applied(
        &self,
        tenant: TenantId,
        pushed: Pushed,
        within: Duration,
        ended: Ended,
    ) -> Later<'_, Applied> {
        let node = Arc::clone(&self.0);
        Box::pin(async move { Ok(node.applied(tenant, pushed, within, ended).await) })
    }

    fn has_room(&self, new_points: &[NewPoint]) -> Answer<()> {
        self.0.has_room(new_points)
    }

    fn slowed(&self, tenant: TenantId) -> Option<Slowed> {
        self.0.slowed(tenant)
    }

    fn claim_stream(&self, key: Option<Arc<str>>) -> Answer<StreamClaim> {
        self.0.claim_stream(key)
    }

    fn find_push(&self, key: RequestKey) -> Later<'_, Option<Pushed>> {
        Box::pin(self.0.find_push(key))
    }

    fn readings(&self, tenant: TenantId, query: ReadingsQuery) -> Later<'_, Page<ReadingItem>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.read_journal(tenant, &query)))
    }

    fn points(&self, tenant: TenantId, prefix: String, page: PageQuery) -> Later<'_, Page<PointItem>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || Ok(node.list_points(tenant, &prefix, &page))))
    }

    fn point(&self, path: PointPath) -> Later<'_, PointDetail> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.show_point(&path)))
    }

    fn set_point(&self, path: PointPath, request: PointRequest) -> Later<'_, PointDetail> {
        Box::pin(to_its_end(Arc::clone(&self.0).set_point(path, request)))
    }

    fn rename_point(&self, path: PointPath, request: RenamePoint) -> Later<'_, RenamedPoint> {
        Box::pin(to_its_end(Arc::clone(&self.0).rename_point(path, request)))
    }

    fn retire_points(&self, which: RetirePoints) -> Later<'_, RetiredPoints> {
        Box::pin(to_its_end(Arc::clone(&self.0).retire_points(which)))
    }

    fn add_package(&self, tenant: TenantId, tar: Bytes) -> Later<'_, (PackageInfo, bool)> {
        Box::pin(to_its_end(Arc::clone(&self.0).take_package(tenant, tar, |_| Ok(()))))
    }

    fn packages(&self, tenant: TenantId, page: PageQuery) -> Later<'_, Page<PackageInfo>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_packages(tenant, &page)))
    }

    fn package(&self, tenant: TenantId, digest: Digest) -> Later<'_, PackageInfo> {
        Box::pin(async move { Ok(super::packages::info(&*self.0.known_or_404(tenant, digest)?)) })
    }

    fn delete_package(&self, tenant: TenantId, digest: Digest) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).remove_package(tenant, digest)))
    }

    fn install(
        &self,
        tenant: TenantId,
        requests: Vec<InstallRequest>,
        dry_run: bool,
    ) -> Later<'_, Vec<Installed>> {
        Box::pin(to_its_end(Arc::clone(&self.0).add_installations(tenant, requests, dry_run)))
    }

    fn installations(&self, tenant: TenantId, page: PageQuery) -> Later<'_, Page<Installation>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || Ok(node.list_installations(tenant, &page))))
    }

    fn installation(&self, id: InstallationId) -> Later<'_, Installation> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || {
            let lane = node.lane(&id)?;
            Ok(Installation { refused: node.refused_rights(&lane), ..node.show_lane(&lane) })
        }))
    }

    fn never_used(&self, id: InstallationId) -> Later<'_, NeverUsed> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || Ok(node.never_used(&*node.lane(&id)?))))
    }

    fn kept(&self, tenant: TenantId, page: PageQuery) -> Later<'_, Page<KeptState>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_kept(tenant, &page)))
    }

    fn uninstall(&self, id: InstallationId, purge: bool) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).remove_installation(id, purge)))
    }

    fn revise(
        &self,
        id: InstallationId,
        request: RevisionRequest,
        if_match: Option<IfMatch>,
        dry_run: bool,
    ) -> Later<'_, Revised> {
        Box::pin(to_its_end(Arc::clone(&self.0).revise_installation(id, request, if_match, dry_run)))
    }

    fn consents(&self, tenant: TenantId, page: PageQuery) -> Later<'_, Page<PendingConsent>> {
        Box::pin(async move { Ok(self.0.waiting_consents(tenant, &page)) })
    }

    fn consent(&self, id: InstallationId) -> Later<'_, PendingConsent> {
        Box::pin(Arc::clone(&self.0).waiting_consent(id))
    }

    fn accept_consent(&self, id: InstallationId, given: ConsentGiven) -> Later<'_, Revised> {
        Box::pin(to_its_end(Arc::clone(&self.0).accept_waiting(id, given)))
    }

    fn refuse_consent(&self, id: InstallationId) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).refuse_waiting(id)))
    }

    fn pause(&self, id: InstallationId) -> Later<'_, Installation> {
        Box::pin(to_its_end(Arc::clone(&self.0).pause_installation(id)))
    }

    fn resume(&self, id: InstallationId, backlog: Backlog) -> Later<'_, Resumed> {
        Box::pin(to_its_end(Arc::clone(&self.0).resume_installation(id, backlog)))
    }

    fn reset(&self, id: InstallationId, from: StartFrom, dry_run: bool) -> Later<'_, Reset> {
        Box::pin(to_its_end(Arc::clone(&self.0).reset_installation(id, from, dry_run)))
    }

    fn copies(&self, id: InstallationId) -> Answer<Copies> {
        self.0.list_copies(&id)
    }

    fn commit(&self, id: InstallationId) -> Later<'_, Installation> {
        Box::pin(to_its_end(Arc::clone(&self.0).commit(id)))
    }

    fn roll_back(
        &self,
        id: InstallationId,
        RollbackRequest { consent }: RollbackRequest,
        keep_cursor: bool,
        dry_run: bool,
    ) -> Later<'_, RolledBack> {
        let wanted = rollback::Wanted { keep_cursor, dry_run, reason: None, consent };
        Box::pin(to_its_end(Arc::clone(&self.0).roll_back(id, wanted)))
    }

    fn outputs(&self, id: InstallationId, query: OutputsQuery) -> Later<'_, Page<ReadingItem>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_outputs(&*node.lane(&id)?, &query)))
    }

    fn state(
        &self,
        id: InstallationId,
        prefix: String,
        page: PageQuery,
    ) -> Later<'_, Reading<Page<StateItem>>> {
        Box::pin(Arc::clone(&self.0).read_state(id, prefix, page))
    }

    fn timers(&self, id: InstallationId, page: PageQuery) -> Later<'_, Page<Timer>> {
        Box::pin(async move { Ok(list_timers(&*self.lane(&id)?, &page)) })
    }

    fn state_entry(&self, id: InstallationId, key: String) -> Later<'_, StateItem> {
        Box::pin(self.0.read_state_entry(id, key))
    }

    fn change_state(&self, id: InstallationId, key: String, value: Option<Bytes>) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).change_state(id, key, value)))
    }

    fn logs(&self, id: InstallationId, query: NumberedQuery) -> Later<'_, LogPage> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.read_log(&*node.lane(&id)?, query)))
    }

    fn dead_letters(&self, id: InstallationId, query: NumberedQuery) -> Later<'_, Page<DeadLetter>> {
        Box::pin(async move { self.0.list_dead_letters(&*self.lane(&id)?, query).await })
    }

    fn requeue(&self, id: InstallationId, number: u64) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).requeue_dead_letter(id, number)))
    }

    fn delete_dead_letter(&self, id: InstallationId, number: u64) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).remove_dead_letter(id, number)))
    }

    fn invocations(&self, id: InstallationId, query: NumberedQuery) -> Later<'_, Page<Invocation>> {
        Box::pin(async move { self.0.list_invocations(&*self.lane(&id)?, query).await })
    }

    fn replay(&self, id: InstallationId, request: ReplayRequest) -> Later<'_, Replay> {
        Box::pin(self.0.replay(id, request))
    }

    fn rehearse(&self, id: InstallationId, request: RehearsalRequest) -> Later<'_, Rehearsal> {
        Box::pin(to_its_end(Arc::clone(&self.0).begin_rehearsal(id, request)))
    }

    fn rehearsals(&self, id: &InstallationId) -> Answer<Vec<Rehearsal>> {
        self.lane(id)?;
        Ok(self.0.rehearsals.list(id))
    }

    fn rehearsal(&self, id: &InstallationId, number: u64) -> Answer<Rehearsal> {
        self.0.rehearsals.show(id, number)
    }

    fn cancel_rehearsal(&self, id: &InstallationId, number: u64) -> Answer<()> {
        self.0.rehearsals.cancel(id, number)
    }

    fn capsule(&self, id: InstallationId, last: u64) -> Later<'_, Capsule> {
        Box::pin(self.0.make_capsule(id, last))
    }

    fn package_file(&self, tenant: TenantId, digest: Digest) -> Later<'_, Bytes> {
        Box::pin(self.0.package_file(tenant, digest))
    }

    fn alarms(
        &self,
        tenant: TenantId,
        installation: Option<InstallationId>,
        page: PageQuery,
    ) -> Later<'_, Page<Alarm>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_alarms(tenant, installation.as_ref(), &page)))
    }

    fn alarm_history(&self, tenant: TenantId, query: EpisodesQuery) -> Later<'_, Page<Alarm>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_episodes(tenant, &query)))
    }

    fn intents(&self, id: InstallationId, page: PageQuery) -> Later<'_, Page<DrivenPoint>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_intents(&id, &page)))
    }

    fn change_intent(&self, id: InstallationId, intent: IntentId, deed: IntentDeed) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).change_intent(id, intent, deed)))
    }

    fn halted(&self, tenant: TenantId) -> Halt {
        self.0.show_halt(tenant)
    }

    fn halt(&self, tenant: TenantId, request: HaltRequest) -> Later<'_, Halt> {
        Box::pin(to_its_end(Arc::clone(&self.0).turn_on(tenant, request)))
    }

    fn release(&self, tenant: TenantId, request: HaltRequest) -> Later<'_, Halt> {
        Box::pin(to_its_end(Arc::clone(&self.0).turn_off(tenant, request)))
    }

    fn change_alarm(&self, tenant: TenantId, alarm: String, deed: AlarmDeed) -> Later<'_, Alarm> {
        Box::pin(to_its_end(Arc::clone(&self.0).change_alarm(tenant, alarm, deed)))
    }

    fn events(&self) -> Arc<Events> {
        Arc::clone(&self.0.telemetry.metrics.events)
    }

    fn has_events_of(&self, id: &InstallationId) -> Answer<()> {
        self.0.has_events_of(id)
    }

    fn check_match(&self, id: &InstallationId, if_match: &IfMatch) -> Answer<()> {
        let lane = self.0.lane(id)?;
        super::revise::check_match(&lane, &lane.newest(), Some(if_match))
    }
}
