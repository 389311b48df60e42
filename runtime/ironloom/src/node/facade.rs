//! The node as the API sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::views::list_timers;
use super::{Node, found_aside, problems};
use crate::access::{Holder, TokenHash, TokenName};
use crate::api::capsule::Capsule;
use crate::api::facade::{
    Alarm, AlarmDeed, Answer, Applied, Backlog, BackupStream, CatalogInfo, CatalogRequest, CatalogSeen,
    CatalogTrust, ClockStatus, ConnectorDeadLetter, ConnectorStatus, ConnectorTable, DeadLetter, DrivenPoint,
    Ended, EpisodesQuery, Facade, FetchRequest, Halt, HaltRequest, IfMatch, IngestRules, InstallRequest,
    Installation, Installed, IntentDeed, Invocation, KeptState, Later, LogLevel, LogLines, LogPage, Lookup,
    NeverUsed, NewToken, NumberedQuery, Offer, OfferQuery, OutputsQuery, PackageInfo, Page, PageQuery,
    PendingConsent, PointDetail, PointItem, PointRequest, Push, Pushed, Readiness, Reading, ReadingItem,
    ReadingsQuery, RefreshRequest, Rehearsal, RehearsalRequest, Reloaded, RenamePoint, RenamedPoint, Replay,
    ReplayRequest, RequestKey, Reset, Resumed, RetirePoints, RetiredPoints, Revised, RevisionRequest,
    SetTime, Slowed, StartFrom, StateItem, Status, StreamClaim, TimeSet, Timer, TokenInfo, TokenRequest,
    Usage, UsageQuery,
};
use crate::lanes::Lane;
use crate::telemetry::events::Events;
use ironloom_storage::log::Room;
use ironloom_types::clock::Source;
use ironloom_types::ids::{AppId, Digest, InstallationId, IntentId, PointPath};
use ironloom_types::readings::NewPoint;

/// Installations without code that `/readyz` names.
const MAX_NOTES: usize = 10;
/// The note where nothing confines the compiler.
const UNCONFINED: &str = "this kernel doesn't keep the worker that compiles packages from files and network \
                          (Linux does from 6.12 on, with Landlock): install only packages that you trust";

/// Runs a change of an admin as a task of its own, so that a caller that hangs up doesn't cut it off
/// half-way.
async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<T> {
    tokio::spawn(change).await.map_err(|error| problems::internal(&error))?
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
    fn ingest_rules(&self) -> IngestRules {
        self.0.rules()
    }

    fn lookup(&self) -> Lookup<'_> {
        let names = self.0.shared.points.names();
        Box::new(move |path| names.number(path))
    }

    fn submit(&self, push: Push) -> Answer<Later<'static, Pushed>> {
        self.0.submit(push)
    }

    fn applied(&self, pushed: Pushed, within: Duration, ended: Ended) -> Later<'_, Applied> {
        let node = Arc::clone(&self.0);
        Box::pin(async move { Ok(node.applied(pushed, within, ended).await) })
    }

    fn has_room(&self, new_points: &[NewPoint]) -> Answer<()> {
        self.0.has_room(new_points)
    }

    fn slowed(&self) -> Option<Slowed> {
        self.0.slowed()
    }

    fn claim_stream(&self, key: Option<Arc<str>>) -> Answer<StreamClaim> {
        self.0.claim_stream(key)
    }

    fn find_push(&self, key: RequestKey) -> Later<'_, Option<Pushed>> {
        Box::pin(self.0.find_push(key))
    }

    fn readings(&self, query: ReadingsQuery) -> Later<'_, Page<ReadingItem>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.read_journal(&query)))
    }

    fn points(&self, prefix: String, page: PageQuery) -> Later<'_, Page<PointItem>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || Ok(node.list_points(&prefix, &page))))
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

    fn add_package(&self, tar: Bytes) -> Later<'_, (PackageInfo, bool)> {
        Box::pin(to_its_end(Arc::clone(&self.0).take_package(tar)))
    }

    fn packages(&self, page: PageQuery) -> Later<'_, Page<PackageInfo>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_packages(&page)))
    }

    fn package(&self, digest: Digest) -> Later<'_, PackageInfo> {
        Box::pin(async move { Ok(super::packages::info(&*self.0.known_or_404(digest)?)) })
    }

    fn delete_package(&self, digest: Digest) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).remove_package(digest)))
    }

    fn install(&self, requests: Vec<InstallRequest>, dry_run: bool) -> Later<'_, Vec<Installed>> {
        Box::pin(to_its_end(Arc::clone(&self.0).add_installations(requests, dry_run)))
    }

    fn installations(&self, page: PageQuery) -> Later<'_, Page<Installation>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || Ok(node.list_installations(&page))))
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

    fn kept(&self, page: PageQuery) -> Later<'_, Page<KeptState>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_kept(&page)))
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

    fn consents(&self, page: PageQuery) -> Later<'_, Page<PendingConsent>> {
        Box::pin(async move { Ok(self.0.waiting_consents(&page)) })
    }

    fn consent(&self, id: InstallationId) -> Later<'_, PendingConsent> {
        Box::pin(async move { self.0.waiting_consent(&id) })
    }

    fn accept_consent(&self, id: InstallationId, consent: Digest) -> Later<'_, Revised> {
        Box::pin(to_its_end(Arc::clone(&self.0).accept_waiting(id, consent)))
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

    fn package_file(&self, digest: Digest) -> Later<'_, Bytes> {
        Box::pin(self.0.package_file(digest))
    }

    fn alarms(&self, installation: Option<InstallationId>, page: PageQuery) -> Later<'_, Page<Alarm>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_alarms(installation.as_ref(), &page)))
    }

    fn alarm_history(&self, query: EpisodesQuery) -> Later<'_, Page<Alarm>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_episodes(&query)))
    }

    fn intents(&self, id: InstallationId, page: PageQuery) -> Later<'_, Page<DrivenPoint>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_intents(&id, &page)))
    }

    fn change_intent(&self, id: InstallationId, intent: IntentId, deed: IntentDeed) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).change_intent(id, intent, deed)))
    }

    fn halted(&self) -> Halt {
        self.0.show_halt()
    }

    fn halt(&self, request: HaltRequest) -> Later<'_, Halt> {
        Box::pin(to_its_end(Arc::clone(&self.0).turn_on(request)))
    }

    fn release(&self, request: HaltRequest) -> Later<'_, Halt> {
        Box::pin(to_its_end(Arc::clone(&self.0).turn_off(request)))
    }

    fn change_alarm(&self, alarm: String, deed: AlarmDeed) -> Later<'_, Alarm> {
        Box::pin(to_its_end(Arc::clone(&self.0).change_alarm(alarm, deed)))
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

    fn clock(&self) -> ClockStatus {
        self.0.show_clock()
    }

    fn set_time(&self, request: SetTime, dry_run: bool) -> Later<'_, TimeSet> {
        Box::pin(to_its_end(Arc::clone(&self.0).set_time(request, dry_run)))
    }

    fn connectors(&self) -> Vec<ConnectorStatus> {
        self.0.show_connectors()
    }

    fn connector(&self, name: &str) -> Answer<ConnectorStatus> {
        self.0.show_connector(name)
    }

    fn set_connector(&self, name: String, table: ConnectorTable) -> Later<'_, (ConnectorStatus, bool)> {
        Box::pin(to_its_end(Arc::clone(&self.0).set_connector(name, table)))
    }

    fn remove_connector(&self, name: String) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).remove_connector(name)))
    }

    fn stop_connector(&self, name: String, stopped: bool) -> Later<'_, ConnectorStatus> {
        Box::pin(to_its_end(Arc::clone(&self.0).stop_connector(name, stopped)))
    }

    fn catalogs(&self) -> Vec<CatalogInfo> {
        self.0.show_catalogs()
    }

    fn catalog(&self, name: &str) -> Answer<CatalogInfo> {
        self.0.show_catalog(name)
    }

    fn add_catalog(&self, request: CatalogRequest) -> Later<'_, CatalogInfo> {
        Box::pin(to_its_end(Arc::clone(&self.0).add_catalog(request)))
    }

    fn refresh_catalog(&self, name: String, request: RefreshRequest) -> Later<'_, CatalogInfo> {
        Box::pin(to_its_end(Arc::clone(&self.0).refresh_catalog(name, request)))
    }

    fn holder(&self, hash: &TokenHash) -> Option<Arc<Holder>> {
        self.0.holder(hash)
    }

    fn tokens(&self, page: &PageQuery) -> Page<TokenInfo> {
        self.0.list_tokens(page)
    }

    fn token(&self, name: &TokenName) -> Answer<TokenInfo> {
        self.0.show_token(name)
    }

    fn add_token(&self, request: TokenRequest, by: Box<str>) -> Later<'_, NewToken> {
        Box::pin(to_its_end(Arc::clone(&self.0).add_token(request, by)))
    }

    fn remove_token(&self, name: TokenName) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).remove_token(name)))
    }

    fn remove_catalog(&self, name: String, forget: bool) -> Later<'_, ()> {
        Box::pin(to_its_end(Arc::clone(&self.0).remove_catalog(name, forget)))
    }

    fn catalog_trust(&self) -> CatalogTrust {
        self.0.catalog_trust()
    }

    fn take_catalog_trust(&self, file: CatalogTrust) -> Later<'_, Page<CatalogSeen>> {
        Box::pin(to_its_end(Arc::clone(&self.0).take_catalog_trust(file)))
    }

    fn offers(&self, query: OfferQuery) -> Later<'_, Page<Offer>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.find_offers(&query)))
    }

    fn offers_of(&self, id: AppId) -> Later<'_, Page<Offer>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.show_offers(&id)))
    }

    fn fetch_package(&self, id: AppId, request: FetchRequest) -> Later<'_, (PackageInfo, bool)> {
        Box::pin(to_its_end(Arc::clone(&self.0).fetch_package(id, request)))
    }

    fn connector_dead_letters(&self, name: &str, query: NumberedQuery) -> Answer<Page<ConnectorDeadLetter>> {
        self.0.list_connector_dead_letters(name, query)
    }

    fn log_level(&self) -> LogLevel {
        let (level, by) = self.0.telemetry.log.now();
        LogLevel { level, by }
    }

    fn set_log_level(&self, lines: LogLines) -> Answer<LogLevel> {
        self.0.change_log_level(lines)
    }

    fn reload(&self, dry_run: bool) -> Later<'_, Reloaded> {
        Box::pin(to_its_end(Arc::clone(&self.0).reload_config(dry_run)))
    }

    fn backup(&self, pace: u64) -> Later<'_, BackupStream> {
        Box::pin(Arc::clone(&self.0).begin_backup(pace))
    }

    fn status(&self) -> Later<'_, Status> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || Ok(node.show_status())))
    }

    fn usage(&self, query: UsageQuery) -> Later<'_, Usage> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || Ok(node.show_usage(query))))
    }

    fn readiness(&self) -> Readiness {
        self.0.show_readiness()
    }

    fn metrics(&self) -> String {
        self.0.show_metrics()
    }
}

impl Node {
    pub(super) fn show_readiness(&self) -> Readiness {
        let mut reasons =
            self.connectors.lock().as_ref().map(|connectors| connectors.reasons()).unwrap_or_default();
        if let Some(failure) = &*self.failure.borrow() {
            reasons.push(format!("storage: {failure}"));
        }
        if self.stopping.load(Ordering::Acquire) {
            reasons.push("stopping".to_owned());
        }
        if self.full.load(Ordering::Acquire) {
            reasons.push(
                "disk: less free space than store.reserve, besides what the next checkpoint takes".to_owned(),
            );
        }
        if self.committer.room() != Room::All {
            reasons.push("log: full until a checkpoint has ended".to_owned());
        }
        if let (Source::Host, Err(fault)) = (self.shared.clock.source(), self.shared.clock.host()) {
            reasons.push(format!("clock: {fault}"));
        }
        let mut notes: Vec<String> = self.keep_up.note().into_iter().collect();
        let without_code = self.without_code();
        if !without_code.is_empty() && !self.admin.loading.is_through_cache() {
            reasons
                .push(format!("lanes: the code of {} installations is not loaded yet", without_code.len()));
        } else {
            notes.extend(without_code.iter().take(MAX_NOTES).map(|lane| self.why_without_code(lane)));
        }
        if self.shared.clock.source() == Source::Feed {
            notes.push("[site] clock = \"feed\": time comes from the readings".to_owned());
        }
        let waiting = self.lanes.waiting_for_room(MAX_NOTES).into_iter();
        notes.extend(waiting.filter_map(|lane| {
            let room = self.waits_for(&lane)?;
            Some(format!("installation {} waits for {room}", lane.id))
        }));
        notes.extend(self.expiring.notes());
        notes.extend(self.shared.streams.read().notes(self.shared.clock.now()));
        notes.extend(super::clock::note(&self.shared.clock));
        notes.extend(self.clock_step.note(&self.shared.clock));
        notes.extend(self.shared.journal.damage().into_iter().map(|part| format!("journal: {part}")));
        if self.sandbox.confines_compiler() == Some(false) {
            notes.push(UNCONFINED.to_owned());
        }
        notes.extend(self.halt_note());
        notes.extend(self.owed_note());
        notes.extend(self.unsigned_note());
        notes.extend(self.against_note());
        notes.extend(self.catalogs.without_index().map(|name| {
            format!("the index of the catalog {name} isn't here: nothing is installed until it is refreshed")
        }));
        notes.extend(self.warnings.iter().cloned());
        Readiness { ready: reasons.is_empty(), reasons, notes }
    }

    fn why_without_code(&self, lane: &Lane) -> String {
        match self.admin.loading.failure(lane.generation) {
            Some(failure) => format!("installation {} doesn't run: {}", lane.id, failure.message),
            None => format!("installation {} doesn't run yet: its code is being compiled", lane.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_goes_on_when_its_caller_hangs_up() {
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (go, goes) = tokio::sync::oneshot::channel::<()>();
        let (done, ends) = tokio::sync::oneshot::channel();
        let change = to_its_end(async move {
            let _ = begun.send(());
            let _ = goes.await;
            let _ = done.send(());
            Ok(())
        });
        let caller = tokio::spawn(change);
        begins.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        go.send(()).unwrap();
        ends.await.unwrap();
    }
}
