//! The server itself as the API sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::facade::{NodeFacade, to_its_end};
use super::{Node, found_aside};
use crate::access::{Holder, TokenHash, TokenName};
use crate::api::facade::{
    Answer, AuditCheckpoint, AuditEntry, AuditQuery, BackupStream, CatalogInfo, CatalogRequest, CatalogSeen,
    CatalogTrust, Chains, ClockStatus, ConnectorDeadLetter, ConnectorStatus, ConnectorTable, FetchRequest,
    Later, LogLevel, LogLines, NewToken, NumberedQuery, Offer, OfferQuery, PackageInfo, Page, PageQuery,
    Platform, Readiness, RefreshRequest, Reloaded, SetTime, Status, TenantInfo, TenantRequest, TimeSet,
    TokenInfo, TokenRequest, Usage, UsageQuery,
};
use crate::lanes::Lane;
use ironloom_storage::log::Room;
use ironloom_trust::audit::Said;
use ironloom_types::clock::{Source, host_time};
use ironloom_types::ids::{AppId, TenantId, TenantName};

/// Installations without code that `/readyz` names.
pub(super) const MAX_NOTES: usize = 10;
/// The time for which strangers get the same answer.
const FRESH: Duration = Duration::from_secs(1);
/// The note where nothing confines the compiler.
const UNCONFINED: &str = "this kernel doesn't keep the worker that compiles packages from files and network \
                          (Linux does from 6.12 on, with Landlock): install only packages that you trust";

impl Platform for NodeFacade {
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

    fn audit(&self, said: Said) -> Later<'static, ()> {
        self.0.tell_done(said)
    }

    fn audit_refused(&self, said: Said) {
        self.0.tell_refused(said);
    }

    fn audit_entries(&self, sees: Chains, query: AuditQuery) -> Later<'_, Page<AuditEntry>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_entries(sees, &query)))
    }

    fn audit_checkpoints(&self, sees: Chains, page: PageQuery) -> Later<'_, Page<AuditCheckpoint>> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || node.list_checkpoints(sees, &page)))
    }

    fn sign_audit(&self) -> Later<'_, Page<AuditCheckpoint>> {
        Box::pin(to_its_end(Arc::clone(&self.0).sign_now()))
    }

    fn tenants(&self, page: &PageQuery) -> Page<TenantInfo> {
        self.0.list_tenants(page)
    }

    fn tenant(&self, name: &TenantName) -> Answer<TenantInfo> {
        self.0.show_tenant(name)
    }

    fn tenant_name(&self, tenant: TenantId) -> String {
        self.0.tenant_name(tenant)
    }

    fn set_tenant(&self, request: TenantRequest, is_change: bool) -> Later<'_, TenantInfo> {
        Box::pin(to_its_end(Arc::clone(&self.0).set_tenant(request, is_change)))
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

    fn fetch_package(
        &self,
        tenant: TenantId,
        id: AppId,
        request: FetchRequest,
    ) -> Later<'_, (PackageInfo, bool)> {
        Box::pin(to_its_end(Arc::clone(&self.0).fetch_package(tenant, id, request)))
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

    fn readiness(&self) -> Later<'_, Readiness> {
        let node = Arc::clone(&self.0);
        Box::pin(found_aside(move || Ok(node.show_readiness())))
    }

    fn is_ready(&self) -> bool {
        self.0.was_ready.lately(|| self.0.unready_reasons().is_empty())
    }

    fn metrics(&self, of_all: bool) -> String {
        self.0.show_metrics(of_all)
    }
}

/// The answer to strangers: they may ask as often as they like, and have it worked out once a second.
#[derive(Default)]
pub(super) struct WasReady(Mutex<Option<(Instant, bool)>>);

impl WasReady {
    fn lately(&self, look: impl FnOnce() -> bool) -> bool {
        let mut last = self.0.lock();
        match *last {
            Some((at, is_ready)) if at.elapsed() < FRESH => is_ready,
            _ => last.insert((Instant::now(), look())).1,
        }
    }
}

impl Node {
    /// Why the server isn't ready.
    fn unready_reasons(&self) -> Vec<String> {
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
        if !self.admin.loading.is_through_cache() {
            let without_code = self.without_code().len();
            if without_code > 0 {
                reasons.push(format!("lanes: the code of {without_code} installations is not loaded yet"));
            }
        }
        reasons
    }

    pub(super) fn show_readiness(&self) -> Readiness {
        let reasons = self.unready_reasons();
        let mut notes: Vec<String> = self.keep_up.note().into_iter().collect();
        if self.admin.loading.is_through_cache() {
            let without_code = self.without_code();
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
        notes.extend(self.went_back_note());
        notes.extend(self.catalogs.without_index().map(|name| {
            format!("the index of the catalog {name} isn't here: nothing is installed until it is refreshed")
        }));
        notes.extend(self.expired_indexes());
        notes.extend(self.warnings.iter().cloned());
        if let Some(certificate) = self.tls.as_ref().map(|tls| tls.certificate()) {
            notes.extend(certificate.note(host_time()));
            notes.extend(certificate.not_for(&self.config.load().server.hosts));
        }
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

    #[test]
    fn strangers_have_no_work_done_more_than_once_a_second() {
        let was_ready = WasReady::default();
        let looks = std::cell::Cell::new(0);
        let ask = |is_ready| {
            was_ready.lately(|| {
                looks.set(looks.get() + 1);
                is_ready
            })
        };
        assert!(ask(true));
        assert!((0..1_000).all(|_| ask(false)));
        assert_eq!(looks.get(), 1);
        std::thread::sleep(FRESH);
        assert!(!ask(false));
        assert_eq!(looks.get(), 2);
    }

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
