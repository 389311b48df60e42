//! The routes over a node that is a fake: what is taken, what is refused, and in which form.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::capsule::Capsule;
use super::connections::Bounds;
use super::facade::*;
use super::guard::{ArrivedAt, Guard};
use super::intake::Mode;
use super::memory::{FREE as FREE_ANSWER, Memory};
use super::problem::PROBLEM_JSON;
use super::push::request_key;
use super::readings::{Form, parse};
use super::routes::OPERATIONS;
use super::{ARROW_TYPE, Api, JSON_TYPE, Shares, Site, answers};
use crate::access::{Holder, TokenHash, TokenName};
use crate::telemetry::Metrics;
use ironloom_trust::audit::Said;
use ironloom_trust::catalog::trust_file::TrustFile;
use ironloom_types::clock::{Source, Timestamp};
use ironloom_types::ids::{
    AppId, Digest, Generation, InstallationId, PointNumber, PointPath, Sequence, TenantId, TenantName,
};
use ironloom_types::limits::MAX_WAITING_PUSHES;
use ironloom_types::readings::{Columns, NewPoint, Quality, Value, ValueRef};

/// Remembers pushes, and has one reading of each kind of value in its journal.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) pushes: Mutex<Vec<Push>>,
    pub(super) is_full: AtomicBool,
    /// Inputs that new points are matched with, where sources are slowed; and the threads that looked.
    pub(super) inputs: AtomicUsize,
    pub(super) looked: Arc<Mutex<Vec<ThreadId>>>,
    /// Whoever has a token.
    pub(super) holders: Mutex<Vec<(TokenHash, Arc<Holder>)>>,
    /// Entries of the audit log.
    pub(super) audited: Mutex<Vec<Said>>,
}

fn later<'a, T: Send + 'a>(answer: Answer<T>) -> Later<'a, T> {
    Box::pin(async move { answer })
}

fn none<T>() -> Page<T> {
    Page { items: Vec::new(), next: None }
}

fn missing<'a, T: Send + 'a>() -> Later<'a, T> {
    later(Err(Problem::not_found("there is none")))
}

impl Facade for Fake {
    fn ingest_rules(&self, _: TenantId) -> IngestRules {
        IngestRules {
            tenant: TenantId::MAIN,
            now: Some(Timestamp(1_000)),
            latest: Timestamp(2_000),
            new_points: 2,
        }
    }
    fn lookup(&self, _: TenantId) -> Lookup<'_> {
        Box::new(|path| (path == "known").then_some(PointNumber(7)))
    }
    fn submit(&self, push: Push) -> Answer<Later<'static, Pushed>> {
        let mut pushes = self.pushes.lock();
        let before = pushes.iter().find(|before| before.key.is_some() && before.key == push.key);
        let duplicate = before.is_some();
        let accepted = before.unwrap_or(&push).columns.len() as u64;
        pushes.push(push);
        Ok(later(Ok(Pushed { accepted, through: Sequence(accepted), duplicate })))
    }
    fn applied(&self, _: TenantId, pushed: Pushed, within: Duration, ended: Ended) -> Later<'_, Applied> {
        // Readings that come in threes are never dealt with, and of those in fours nobody knows in time who gets them.
        let applied = !matches!(pushed.accepted, 3 | 4);
        let slow = (pushed.accepted == 3).then(|| InstallationId::new(TenantId::MAIN, "slow").unwrap());
        let pending = Vec::from_iter(slow);
        Box::pin(async move {
            let within = if applied { Duration::ZERO } else { within };
            let _ = tokio::time::timeout(within, ended).await;
            Ok(Applied { applied, pending, ..Applied::default() })
        })
    }
    fn has_room(&self, _new_points: &[NewPoint]) -> Answer<()> {
        match self.is_full.load(Ordering::SeqCst) {
            true => Err(Problem::unavailable("log-full", "it is full", RETRY_SOON)),
            false => Ok(()),
        }
    }
    fn slowed(&self, _: TenantId) -> Option<Slowed> {
        let inputs = self.inputs.load(Ordering::SeqCst);
        let looked = Arc::clone(&self.looked);
        let find = move |_: &Columns, _: &[NewPoint], _| {
            looked.lock().push(std::thread::current().id());
            None
        };
        let problem = Problem::unavailable("apps-behind", "one is behind", RETRY_SOON);
        (inputs > 0).then(|| Slowed { problem, inputs, find: Arc::new(find) })
    }
    fn claim_stream(&self, key: Option<Arc<str>>) -> Answer<StreamClaim> {
        let open = OpenStream { key, progress: Progress::default(), _kept: Box::new(()) };
        Ok(StreamClaim { wanted: Arc::default(), opened: later(Ok(open)) })
    }
    fn find_push(&self, key: RequestKey) -> Later<'_, Option<Pushed>> {
        let pushes = self.pushes.lock();
        let before = pushes.iter().find(|before| before.key == Some(key) && !before.columns.is_empty());
        let accepted = before.map(|before| before.columns.len() as u64);
        later(Ok(accepted.map(|accepted| Pushed { accepted, through: Sequence(accepted), duplicate: true })))
    }
    fn readings(&self, _: TenantId, query: ReadingsQuery) -> Later<'_, Page<ReadingItem>> {
        let long = "x".repeat(if query.limit == LONG { MAX_PAGE_BYTES } else { 0 });
        let values = [
            Value::Real(84.0),
            Value::Integer(-1),
            Value::Text("a,\"b\"".into()),
            Value::Blob([0, 255].into()),
            Value::Missing,
            if long.is_empty() { Value::Real(f64::NAN) } else { Value::Text(long.into()) },
        ];
        let items = values.into_iter().zip(1..).map(|(value, sequence)| ReadingItem {
            point: "farm/1".into(),
            entity: None,
            value: value.into(),
            at: Timestamp(1),
            quality: Quality::Good,
            sequence: Sequence(sequence),
            time: Timestamp(1_500_000_000),
        });
        let items = items.filter(|item| item.sequence > query.after).take(query.limit).collect();
        later(Ok(Page { items, next: Some("6".to_owned()) }))
    }
    fn points(&self, _: TenantId, _: String, _: PageQuery) -> Later<'_, Page<PointItem>> {
        later(Ok(none()))
    }
    fn point(&self, path: PointPath) -> Later<'_, PointDetail> {
        later(Ok(PointDetail { point: path.to_arc(), ..PointDetail::default() }))
    }
    fn set_point(&self, path: PointPath, _: PointRequest) -> Later<'_, PointDetail> {
        self.point(path)
    }
    fn rename_point(&self, path: PointPath, _: RenamePoint) -> Later<'_, RenamedPoint> {
        later(Ok(RenamedPoint { from: path.to_arc(), ..RenamedPoint::default() }))
    }
    fn retire_points(&self, which: RetirePoints) -> Later<'_, RetiredPoints> {
        later(Ok(RetiredPoints { points: 1, before: 0, readings: !which.readings }))
    }
    fn add_package(&self, _: TenantId, tar: Bytes) -> Later<'_, (PackageInfo, bool)> {
        later(Err(Problem::refused("package", format!("{} bytes", tar.len()))))
    }
    fn packages(&self, _: TenantId, _: PageQuery) -> Later<'_, Page<PackageInfo>> {
        later(Ok(none()))
    }
    fn package(&self, _: TenantId, _: Digest) -> Later<'_, PackageInfo> {
        missing()
    }
    fn delete_package(&self, _: TenantId, _: Digest) -> Later<'_, ()> {
        later(Ok(()))
    }
    fn install(&self, _: TenantId, requests: Vec<InstallRequest>, _: bool) -> Later<'_, Vec<Installed>> {
        later(Err(Problem::refused("install", serde_json::to_string(&requests).unwrap())))
    }
    fn installations(&self, _: TenantId, _: PageQuery) -> Later<'_, Page<Installation>> {
        later(Ok(none()))
    }
    fn kept(&self, _: TenantId, _: PageQuery) -> Later<'_, Page<KeptState>> {
        later(Ok(none()))
    }
    fn installation(&self, id: InstallationId) -> Later<'_, Installation> {
        assert!(id.as_str() != "panics", "as it was asked for");
        missing()
    }
    fn revise(
        &self,
        _: InstallationId,
        _: RevisionRequest,
        _: Option<IfMatch>,
        _: bool,
    ) -> Later<'_, Revised> {
        missing()
    }
    fn uninstall(&self, _: InstallationId, purge: bool) -> Later<'_, ()> {
        later(if purge { Ok(()) } else { Err(Problem::conflict("busy", "try purge")) })
    }
    fn pause(&self, _: InstallationId) -> Later<'_, Installation> {
        missing()
    }
    fn resume(&self, _: InstallationId, backlog: Backlog) -> Later<'_, Resumed> {
        later(Err(Problem::refused("install", format!("{backlog:?}"))))
    }
    fn reset(&self, id: InstallationId, from: StartFrom, dry_run: bool) -> Later<'_, Reset> {
        later(Err(Problem::refused("revision", format!("{id} {from} {dry_run}"))))
    }
    fn rehearse(&self, id: InstallationId, request: RehearsalRequest) -> Later<'_, Rehearsal> {
        later(Err(Problem::refused("rehearsal", format!("{id} {request:?}"))))
    }

    fn rehearsals(&self, _: &InstallationId) -> Answer<Vec<Rehearsal>> {
        Ok(Vec::new())
    }

    fn rehearsal(&self, id: &InstallationId, number: u64) -> Answer<Rehearsal> {
        Err(Problem::not_found(format!("{id} {number}")))
    }

    fn cancel_rehearsal(&self, id: &InstallationId, number: u64) -> Answer<()> {
        Err(Problem::not_found(format!("{id} {number}")))
    }

    fn copies(&self, id: InstallationId) -> Answer<Copies> {
        Err(Problem::not_found(id.to_string()))
    }
    fn commit(&self, id: InstallationId) -> Later<'_, Installation> {
        later(Err(Problem::conflict("no-trial", id.to_string())))
    }
    fn roll_back(
        &self,
        id: InstallationId,
        _: RollbackRequest,
        keep_cursor: bool,
        dry_run: bool,
    ) -> Later<'_, RolledBack> {
        later(Err(Problem::conflict("no-trial", format!("{id} {keep_cursor} {dry_run}"))))
    }
    fn replay(&self, id: InstallationId, request: ReplayRequest) -> Later<'_, Replay> {
        later(Err(Problem::refused("replay", format!("{id} {request:?}"))))
    }
    fn capsule(&self, id: InstallationId, last: u64) -> Later<'_, Capsule> {
        later(Err(Problem::refused("capsule", format!("{id} {last}"))))
    }
    fn package_file(&self, _: TenantId, digest: Digest) -> Later<'_, Bytes> {
        later(Err(Problem::not_found(digest.to_string())))
    }
    fn outputs(&self, _: InstallationId, _: OutputsQuery) -> Later<'_, Page<ReadingItem>> {
        later(Ok(none()))
    }
    fn state(&self, id: InstallationId, _: String, _: PageQuery) -> Later<'_, Reading<Page<StateItem>>> {
        if id.as_str() == "busy" {
            return Box::pin(std::future::pending());
        }
        let wait = std::time::Duration::from_millis(if id.as_str() == "slow" { 200 } else { 0 });
        let items = [("a", &b"{\"n\":1.50}"[..]), ("b", &[0xff][..])];
        let items = items.map(|(key, value)| StateItem { key: key.into(), value: Bytes::from_static(value) });
        let page = Page { items: items.into(), next: Some("b".to_owned()) };
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Ok(Box::new(move || later(Ok(page))) as _)
        })
    }
    fn timers(&self, _: InstallationId, _: PageQuery) -> Later<'_, Page<Timer>> {
        later(Ok(none()))
    }
    fn state_entry(&self, _: InstallationId, key: String) -> Later<'_, StateItem> {
        later(Ok(StateItem { key: key.into(), value: Bytes::from_static(b"1") }))
    }
    fn change_state(&self, _: InstallationId, _: String, _: Option<Bytes>) -> Later<'_, ()> {
        later(Ok(()))
    }
    fn logs(&self, _: InstallationId, _: NumberedQuery) -> Later<'_, LogPage> {
        later(Ok(LogPage { page: none(), generation: Generation(3) }))
    }
    fn dead_letters(&self, _: InstallationId, _: NumberedQuery) -> Later<'_, Page<DeadLetter>> {
        later(Ok(none()))
    }
    fn requeue(&self, _: InstallationId, _: u64) -> Later<'_, ()> {
        later(Ok(()))
    }
    fn delete_dead_letter(&self, _: InstallationId, _: u64) -> Later<'_, ()> {
        later(Ok(()))
    }
    fn invocations(&self, _: InstallationId, _: NumberedQuery) -> Later<'_, Page<Invocation>> {
        later(Ok(none()))
    }
    fn alarms(&self, _: TenantId, _: Option<InstallationId>, _: PageQuery) -> Later<'_, Page<Alarm>> {
        later(Ok(none()))
    }
    fn alarm_history(&self, _: TenantId, _: EpisodesQuery) -> Later<'_, Page<Alarm>> {
        later(Ok(none()))
    }
    fn change_alarm(&self, _: TenantId, _: String, _: AlarmDeed) -> Later<'_, Alarm> {
        missing()
    }
    fn intents(&self, _: InstallationId, _: PageQuery) -> Later<'_, Page<DrivenPoint>> {
        later(Ok(none()))
    }
    fn change_intent(
        &self,
        _: InstallationId,
        _: ironloom_types::ids::IntentId,
        _: IntentDeed,
    ) -> Later<'_, ()> {
        later(Ok(()))
    }
    fn halted(&self, _: TenantId) -> Halt {
        Halt::default()
    }
    fn halt(&self, _: TenantId, _: HaltRequest) -> Later<'_, Halt> {
        later(Ok(Halt { site: true, installations: Vec::new() }))
    }
    fn release(&self, _: TenantId, _: HaltRequest) -> Later<'_, Halt> {
        later(Ok(Halt::default()))
    }
    fn events(&self) -> Arc<crate::telemetry::events::Events> {
        Arc::default()
    }
    fn has_events_of(&self, _: &InstallationId) -> Answer<()> {
        Ok(())
    }
    fn check_match(&self, _: &InstallationId, _: &IfMatch) -> Answer<()> {
        Ok(())
    }
    fn never_used(&self, id: InstallationId) -> Later<'_, NeverUsed> {
        later(Err(Problem::not_found(id.to_string())))
    }
    fn consents(&self, _: TenantId, _: PageQuery) -> Later<'_, Page<PendingConsent>> {
        later(Ok(Page { items: Vec::new(), next: None }))
    }
    fn consent(&self, id: InstallationId) -> Later<'_, PendingConsent> {
        later(Err(Problem::not_found(id.to_string())))
    }
    fn accept_consent(&self, id: InstallationId, _: ConsentGiven) -> Later<'_, Revised> {
        later(Err(Problem::not_found(id.to_string())))
    }
    fn refuse_consent(&self, id: InstallationId) -> Later<'_, ()> {
        later(Err(Problem::not_found(id.to_string())))
    }
}

impl Platform for Fake {
    fn clock(&self) -> ClockStatus {
        let (machine, journal) = (Timestamp(1_000), Timestamp(1_000));
        ClockStatus { source: Source::Host, machine, journal, behind: None }
    }
    fn set_time(&self, request: SetTime, _: bool) -> Later<'_, TimeSet> {
        later(Err(Problem::conflict("other-time", request.now.to_string())))
    }
    fn connectors(&self) -> Vec<ConnectorStatus> {
        Vec::new()
    }
    fn connector(&self, name: &str) -> Answer<ConnectorStatus> {
        Err(Problem::not_found(format!("there is no connector {name}")))
    }
    fn set_connector(&self, name: String, table: ConnectorTable) -> Later<'_, (ConnectorStatus, bool)> {
        later(Err(Problem::conflict("of-file", format!("{name} {}", table.to_json()))))
    }
    fn remove_connector(&self, name: String) -> Later<'_, ()> {
        later(Err(Problem::conflict("of-file", name)))
    }
    fn stop_connector(&self, name: String, _: bool) -> Later<'_, ConnectorStatus> {
        later(Err(Problem::not_found(name)))
    }
    fn catalogs(&self) -> Vec<CatalogInfo> {
        Vec::new()
    }
    fn catalog(&self, name: &str) -> Answer<CatalogInfo> {
        Err(Problem::not_found(name))
    }
    fn add_catalog(&self, request: CatalogRequest) -> Later<'_, CatalogInfo> {
        later(Err(Problem::refused("catalog", request.source)))
    }
    fn refresh_catalog(&self, name: String, _: RefreshRequest) -> Later<'_, CatalogInfo> {
        later(Err(Problem::not_found(name)))
    }
    fn holder(&self, hash: &TokenHash) -> Option<Arc<Holder>> {
        let holders = self.holders.lock();
        holders.iter().find(|(known, _)| known == hash).map(|(_, holder)| Arc::clone(holder))
    }
    fn tokens(&self, _: &PageQuery) -> Page<TokenInfo> {
        none()
    }
    fn token(&self, name: &TokenName) -> Answer<TokenInfo> {
        Err(Problem::not_found(name.to_string()))
    }
    fn audit(&self, said: Said) -> Later<'static, ()> {
        self.audited.lock().push(said);
        later(Ok(()))
    }
    fn audit_refused(&self, said: Said) {
        self.audited.lock().push(said);
    }
    fn audit_entries(&self, _: Chains, _: AuditQuery) -> Later<'_, Page<AuditEntry>> {
        later(Ok(none()))
    }
    fn audit_checkpoints(&self, _: Chains, _: PageQuery) -> Later<'_, Page<AuditCheckpoint>> {
        later(Ok(none()))
    }
    fn sign_audit(&self) -> Later<'_, Page<AuditCheckpoint>> {
        later(Ok(none()))
    }
    fn tenants(&self, _: &PageQuery) -> Page<TenantInfo> {
        none()
    }
    fn tenant(&self, _: &TenantName) -> Answer<TenantInfo> {
        Err(Problem::not_found("tenant"))
    }
    fn tenant_name(&self, tenant: TenantId) -> String {
        if tenant == TenantId::MAIN { "main".to_owned() } else { format!("tenant-{tenant}") }
    }
    fn set_tenant(&self, request: TenantRequest, _: bool) -> Later<'_, TenantInfo> {
        later(Err(Problem::refused("tenant", request.name.to_string())))
    }
    fn add_token(&self, request: TokenRequest, by: Box<str>) -> Later<'_, NewToken> {
        later(Err(Problem::refused("token", format!("{} by {by}", request.name))))
    }
    fn remove_token(&self, name: TokenName) -> Later<'_, ()> {
        later(Err(Problem::not_found(name.to_string())))
    }
    fn remove_catalog(&self, name: String, _: bool) -> Later<'_, ()> {
        later(Err(Problem::not_found(name)))
    }
    fn catalog_trust(&self) -> CatalogTrust {
        CatalogTrust(TrustFile::new(Timestamp(1), Vec::new()))
    }
    fn take_catalog_trust(&self, file: CatalogTrust) -> Later<'_, Page<CatalogSeen>> {
        later(Err(Problem::refused("catalog", format!("{} catalogs", file.0.catalogs.len()))))
    }
    fn offers(&self, query: OfferQuery) -> Later<'_, Page<Offer>> {
        later(Err(Problem::refused("catalog", format!("no {:?}", query.words))))
    }
    fn offers_of(&self, id: AppId) -> Later<'_, Page<Offer>> {
        later(Err(Problem::not_found(id.to_string())))
    }
    fn fetch_package(&self, _: TenantId, id: AppId, _: FetchRequest) -> Later<'_, (PackageInfo, bool)> {
        later(Err(Problem::not_found(id.to_string())))
    }
    fn connector_dead_letters(&self, name: &str, query: NumberedQuery) -> Answer<Page<ConnectorDeadLetter>> {
        let asked = format!("{name} {:?} {:?} {}", query.order, query.after, query.limit);
        let payload = Value::Text("x".into()).into();
        let letter = ConnectorDeadLetter {
            number: 7,
            time: Timestamp(1),
            topic: asked,
            payload,
            bytes: 1,
            reason: "r".to_owned(),
        };
        Ok(Page { items: vec![letter], next: None })
    }
    fn log_level(&self) -> LogLevel {
        LogLevel { level: LogLines::default(), by: ChosenBy::Configuration }
    }
    fn set_log_level(&self, level: LogLines) -> Answer<LogLevel> {
        Ok(LogLevel { level, by: ChosenBy::Request })
    }
    fn reload(&self, _: bool) -> Later<'_, Reloaded> {
        later(Err(Problem::conflict("needs-restart", "it does")))
    }
    fn backup(&self, _: u64) -> Later<'_, BackupStream> {
        later(Err(Problem::conflict("backup-running", "there is one")))
    }
    fn status(&self) -> Later<'_, Status> {
        missing()
    }
    fn usage(&self, _: UsageQuery) -> Later<'_, Usage> {
        later(Ok(Usage::default()))
    }
    fn readiness(&self) -> Later<'_, Readiness> {
        later(Ok(Readiness { ready: false, reasons: vec!["clock".to_owned()], notes: Vec::new() }))
    }
    fn is_ready(&self) -> bool {
        false
    }
    fn metrics(&self, _: bool) -> String {
        "ironloom_readings_total 0\n# EOF\n".to_owned()
    }
}

fn api() -> (Arc<Fake>, Api) {
    api_with(false)
}

/// Rates that no test comes near.
const RATES: crate::config::Rates =
    crate::config::Rates { requests: 100_000, pushes: 100_000, strangers: 100_000, connections: 100_000 };

pub(super) fn api_with(tokens_required: bool) -> (Arc<Fake>, Api) {
    let fake = Arc::new(Fake::default());
    let guard = Guard {
        listen: "127.0.0.1:7420".parse().unwrap(),
        hosts: vec!["loom.example".to_owned()],
        tls: false,
        tokens_required,
    };
    let node = Arc::clone(&fake) as Arc<dyn Facade>;
    (fake, Api::new(node, guard, RATES, Metrics::default()))
}

fn node() -> (Arc<Fake>, Site) {
    let (fake, api) = api();
    (fake, Site::new(api))
}

pub(super) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:7420")
}

pub(super) async fn send(site: &Site, request: Request<Body>) -> (Response<()>, Vec<u8>) {
    let (parts, body) = site.clone().answer(request).await.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    if parts.status.is_client_error() {
        assert_eq!(parts.headers[header::CONTENT_TYPE], "application/problem+json", "{:?}", parts.status);
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.status, parts.status.as_u16());
        assert!(!problem.detail.is_empty() && !problem.kind.is_empty());
    }
    (Response::from_parts(parts, ()), body)
}

async fn status(site: &Site, request: Request<Body>) -> u16 {
    send(site, request).await.0.status().as_u16()
}

fn push(path: &str, body: impl Into<Body>) -> Request<Body> {
    request("POST", path).header(header::CONTENT_TYPE, "application/x-ndjson").body(body.into()).unwrap()
}

fn post_json(path: &str, body: impl Into<Body>) -> Request<Body> {
    request("POST", path).header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap()
}

fn get(path: &str) -> Request<Body> {
    request("GET", path).body(Body::empty()).unwrap()
}

/// The limit with which readings are a long page.
const LONG: usize = 9_999;
const GOOD: &str = "{\"point\":\"known\",\"value\":1}\n";

#[tokio::test]
async fn a_push_is_taken_whole_or_not_at_all() {
    let (fake, site) = node();
    let (answer, body) = send(&site, push("/v1/readings", GOOD.repeat(2))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), json!({"accepted": 2, "through": 2}));

    let (answer, body) = send(&site, push("/v1/readings", format!("{GOOD}{GOOD}x"))).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem.errors[0].place.as_ref().unwrap().line, Some(3));

    let reserved = "{\"point\":\"apps/x\",\"value\":1}\n";
    assert_eq!(status(&site, push("/v1/readings", reserved)).await, 403);
    assert_eq!(status(&site, push("/v1/readings", format!("{reserved}x"))).await, 400);
    assert_eq!(fake.pushes.lock().len(), 1);

    let (_, body) = send(&site, push("/v1/readings?partial=true", format!("{GOOD}x\n{reserved}"))).await;
    let answer: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(1), &json!(2)));
    assert_eq!(answer["errors"][1]["kind"], "reserved-point");
}

#[tokio::test]
async fn a_push_with_many_bad_lines_says_that_not_all_were_looked_at() {
    let (_, site) = node();
    let told = async |lines: usize| {
        let (_, body) = send(&site, push("/v1/readings", "x\n".repeat(lines))).await;
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        (problem.errors.len(), problem.detail.clone())
    };
    let (errors, detail) = told(9).await;
    assert!(errors == 9 && detail.ends_with("; 8 more are listed in `errors`"), "{errors}: {detail}");
    for lines in [10, 500] {
        let (errors, detail) = told(lines).await;
        let end = "; 9 more are listed in `errors`, and what is behind them may not have been looked at";
        assert!(errors == 10 && detail.ends_with(end), "{errors}: {detail}");
    }
}

#[tokio::test]
async fn a_look_for_slowed_readings_that_takes_long_goes_aside() {
    let (fake, site) = node();
    let new = "{\"point\":\"new/1\",\"value\":1}\n{\"point\":\"new/2\",\"value\":1}\n";
    // Two readings, and two new points with each input.
    for (inputs, is_aside) in [(1, false), (8_191, false), (8_192, true), (1_000_000, true)] {
        fake.inputs.store(inputs, Ordering::SeqCst);
        assert_eq!(status(&site, push("/v1/readings", new)).await, 200);
        let looked = std::mem::take(&mut *fake.looked.lock());
        assert_eq!(looked.len(), 1);
        assert_eq!(looked[0] != std::thread::current().id(), is_aside, "{inputs}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_waits_for_apps_as_long_as_it_says_and_few_do_so_at_a_time() {
    let (fake, site) = node();
    let (_, body) = send(&site, push("/v1/readings?wait=applied", GOOD)).await;
    let expected = json!({"accepted": 1, "through": 1, "applied": true});
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), expected);
    for (query, seconds) in [("", 30), ("&timeout=2%20s", 2), ("&timeout=60s", 60), ("&timeout=0s", 0)] {
        let start = tokio::time::Instant::now();
        let path = format!("/v1/readings?wait=applied{query}");
        let (answer, body) = send(&site, push(&path, GOOD.repeat(3))).await;
        assert_eq!((answer.status(), start.elapsed().as_secs()), (StatusCode::ACCEPTED, seconds), "{query}");
        let expected = json!({"accepted": 3, "through": 3, "applied": false, "pending": ["slow"]});
        assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), expected);
    }
    let (answer, body) = send(&site, push("/v1/readings?wait=applied&timeout=0s", GOOD.repeat(4))).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED, "who gets them is not known");
    let expected = json!({"accepted": 4, "through": 4, "applied": false});
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), expected);
    let waiting: Vec<_> = (0..MAX_WAITING_PUSHES)
        .map(|_| tokio::spawn(site.clone().answer(push("/v1/readings?wait=applied", GOOD.repeat(3)))))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let taken = fake.pushes.lock().len();
    assert_eq!(status(&site, push("/v1/readings?wait=applied", GOOD)).await, 503);
    assert_eq!(fake.pushes.lock().len(), taken, "nothing of it was taken");
    assert_eq!(status(&site, push("/v1/readings", GOOD)).await, 200);
    for one in waiting {
        assert_eq!(one.await.unwrap().status(), StatusCode::ACCEPTED);
    }
    assert_eq!(status(&site, push("/v1/readings?wait=applied", GOOD)).await, 200);
}

#[tokio::test]
async fn columns_are_taken_as_lines_are() {
    let (fake, site) = node();
    let arrow = |path: &str, points: Vec<&str>| {
        let values = arrow_array::Float64Array::from(vec![1.5; points.len()]);
        let points = arrow_array::StringArray::from(points);
        let body = stream_of(vec![("point", Arc::new(points)), ("value", Arc::new(values))]);
        let request = request("POST", path).header(header::CONTENT_TYPE, ARROW_TYPE);
        request.body(body.into()).unwrap()
    };
    let (_, body) = send(&site, arrow("/v1/readings", vec!["known", "new"])).await;
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), json!({"accepted": 2, "through": 2}));
    assert_eq!(fake.pushes.lock()[0].new_points.len(), 1);

    let (_, body) = send(&site, arrow("/v1/readings", vec!["known", "a//b", "apps/x"])).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((problem.status, problem.kind.as_str()), (400, "bad-lines"));
    assert!(problem.detail.starts_with("nothing was accepted; batch 1, row 2: "), "{}", problem.detail);
    let (_, body) = send(&site, arrow("/v1/readings?partial=true", vec!["known", "a//b", "apps/x"])).await;
    let answer: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(1), &json!(2)));
    assert_eq!(answer["errors"][1]["where"], json!({"batch": 1, "row": 3, "field": "point"}));
    assert_eq!(status(&site, arrow("/v1/readings", vec!["apps/x"])).await, 403);

    let elsewhere =
        request("POST", "/v1/installations").header(header::CONTENT_TYPE, ARROW_TYPE).body("x".into());
    assert_eq!(status(&site, elsewhere.unwrap()).await, 415);
}

#[tokio::test(start_paused = true)]
async fn rows_that_have_few_bytes_in_a_body_have_a_share_of_the_memory_for_bodies() {
    let (_, api) = api();
    let mut others = api.memory.readings.share();
    others.grow((64 << 10) + (128 << 20)).await.unwrap();
    let site = Site::new(api);
    // A byte and a bit for each row, of which each takes 20 bytes in memory.
    let arrow = |rows: usize| {
        let keys = arrow_array::Int8Array::from(vec![0; rows]);
        let names: arrow_array::ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["known"]));
        let values = arrow_array::BooleanArray::from(vec![true; rows]);
        let points = arrow_array::DictionaryArray::new(keys, names);
        stream_of(vec![("point", Arc::new(points)), ("value", Arc::new(values))])
    };
    assert!(arrow(20_000).len() < 64 << 10, "which needs no share");
    let push = |rows| {
        let request = request("POST", "/v1/readings").header(header::CONTENT_TYPE, ARROW_TYPE);
        request.body(Body::from(arrow(rows))).unwrap()
    };
    assert_eq!(status(&site, push(3_000)).await, 200);
    assert_eq!(status(&site, push(20_000)).await, 503);
    drop(others);
    assert_eq!(status(&site, push(20_000)).await, 200);
}

fn stream_of(columns: Vec<(&str, arrow_array::ArrayRef)>) -> Vec<u8> {
    let batch = arrow_array::RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn readers_of_a_busy_apps_state_dont_stop_lists() {
    let (_, site) = node();
    // More than the memory for answers holds pages.
    let waiting: Vec<_> =
        (0..20).map(|_| tokio::spawn(site.clone().answer(get("/v1/installations/busy/state")))).collect();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(status(&site, get("/v1/installations")).await, 200);
    assert_eq!(status(&site, get("/v1/installations/other/state")).await, 200);
    assert!(waiting.iter().all(|reader| !reader.is_finished()));
}

#[tokio::test]
async fn a_body_in_another_coding_is_refused_by_name() {
    let (_, site) = node();
    let mut request = push("/v1/readings", GOOD);
    request.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    let (answer, body) = send(&site, request).await;
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert!(problem.detail.contains("Content-Encoding is \"gzip\""), "{}", problem.detail);
}

#[tokio::test]
async fn a_body_that_is_bad_as_a_whole_is_refused_whether_good_lines_are_taken_or_not() {
    let (fake, site) = node();
    let columns = |names: &[&'static str]| {
        let values = Arc::new(arrow_array::Float64Array::from(vec![1.5]));
        stream_of(names.iter().map(|name| (*name, Arc::clone(&values) as _)).collect())
    };
    let cut = |mut body: Vec<u8>| {
        body.truncate(body.len() / 2);
        body
    };
    for (kind, body) in [
        (ARROW_TYPE, b"x".to_vec()),
        (ARROW_TYPE, Vec::new()),
        (ARROW_TYPE, cut(columns(&["value"]))),
        (ARROW_TYPE, columns(&["value"])),
        (ARROW_TYPE, columns(&["value", "surplus"])),
        (JSON_TYPE, format!("[{GOOD}").into_bytes()),
        (JSON_TYPE, GOOD.as_bytes()[..10].to_vec()),
        (JSON_TYPE, b"[\xff]".to_vec()),
    ] {
        for path in ["/v1/readings", "/v1/readings?partial=true"] {
            let request = request("POST", path).header(header::CONTENT_TYPE, kind);
            let (_, answer) = send(&site, request.body(body.clone().into()).unwrap()).await;
            let problem: Problem = serde_json::from_slice(&answer).unwrap();
            assert_eq!(
                (problem.status, problem.hints.len()),
                (400, 0),
                "{path} {kind} {body:?}: {problem:?}"
            );
        }
    }
    assert!(fake.pushes.lock().is_empty());
    // One reading that is bad is a bad line.
    let request = request("POST", "/v1/readings?partial=true").header(header::CONTENT_TYPE, JSON_TYPE);
    assert_eq!(status(&site, request.body("{\"point\":1}".into()).unwrap()).await, 200);
}

#[tokio::test]
async fn keys_are_hashed_with_what_decides_about_the_effect() {
    let (fake, site) = node();
    let with_key = |path: &str, key: &str, body: &str| {
        let mut request = push(path, body.to_owned());
        request.headers_mut().insert("Idempotency-Key", key.parse().unwrap());
        request
    };
    for (path, key, body) in [
        ("/v1/readings", "a", GOOD),
        ("/v1/readings", "a", GOOD),
        ("/v1/readings", "b", GOOD),
        ("/v1/readings", "a", "{\"point\":\"known\",\"value\":2}"),
        ("/v1/readings?partial=true", "a", GOOD),
        ("/v1/readings?wait=applied&partial=false&timeout=1s", "a", GOOD),
        ("/v1/readings?p%61rtial=true", "a", GOOD),
    ] {
        assert_eq!(status(&site, with_key(path, key, body)).await, 200);
    }
    let keys: Vec<RequestKey> = fake.pushes.lock().iter().map(|push| push.key.unwrap()).collect();
    assert_eq!(keys[0], keys[1]);
    assert!(keys[2].key != keys[0].key && keys[2].request == keys[0].request);
    assert!(keys[3].key == keys[0].key && keys[3].request != keys[0].request);
    assert!(keys[4].key == keys[0].key && keys[4].request != keys[0].request);
    assert_eq!(
        (keys[5], keys[6]),
        (keys[0], keys[4]),
        "neither the wait nor the spelling makes another request"
    );
    for wrong in ["", "a b", &"x".repeat(65)] {
        assert_eq!(status(&site, with_key("/v1/readings", wrong, GOOD)).await, 400, "{wrong:?}");
    }
    // Where nothing is taken, nothing has to be remembered: a file goes on behind such lines.
    for (path, body) in [("/v1/readings", "\n\n"), ("/v1/readings?partial=true", "x")] {
        assert_eq!(status(&site, with_key(path, "c", body)).await, 200);
        assert!(fake.pushes.lock().last().unwrap().columns.is_empty());
    }
}

#[tokio::test]
async fn a_partial_push_that_comes_again_tells_the_lines_that_were_refused_then() {
    let (fake, site) = node();
    let mut first = parse(
        GOOD.as_bytes(),
        Form::Lines,
        fake.ingest_rules(TenantId::MAIN),
        || |_: &str| Some(PointNumber(7)),
        Mode::PARTIAL,
    );
    // By now all three lines are good, of which one was taken.
    let body = GOOD.repeat(3);
    let request = || {
        let mut request = push("/v1/readings?partial=true", body.clone());
        request.headers_mut().insert("Idempotency-Key", "a".parse().unwrap());
        request
    };
    send(&site, request()).await;
    let key = fake.pushes.lock()[0].key;
    let columns = std::mem::take(&mut first.columns);
    *fake.pushes.lock() =
        vec![Push { tenant: TenantId::MAIN, columns, new_points: Vec::new(), key, stream: None }];
    let (_, body) = send(&site, request()).await;
    let answer: Json = serde_json::from_slice(&body).unwrap();
    let expected = json!({"accepted": 1, "through": 1, "duplicate": true, "refused": 2, "errors": []});
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn what_was_taken_is_said_again_even_if_it_would_be_refused_by_now() {
    let (fake, site) = node();
    // Further ahead than is allowed: the clock was set back since.
    let ahead = "{\"point\":\"known\",\"value\":1,\"at\":3000}\n";
    for path in ["/v1/readings", "/v1/readings?partial=true"] {
        let request = || {
            let mut request = push(path, ahead.to_owned());
            request.headers_mut().insert("Idempotency-Key", "a".parse().unwrap());
            request
        };
        fake.pushes.lock().clear();
        let refused = send(&site, request()).await;
        assert_eq!(refused.0.status(), if path.contains("partial") { 200 } else { 400 });
        let key = request_key(b"a", path.contains("partial"), ahead.as_bytes());
        let mut columns = Columns::default();
        columns.push(PointNumber(7), Timestamp(3000), Quality::Good, ValueRef::Integer(1));
        *fake.pushes.lock() = vec![Push {
            tenant: TenantId::MAIN,
            columns,
            new_points: Vec::new(),
            key: Some(key),
            stream: None,
        }];
        let (head, body) = send(&site, request()).await;
        let answer: Json = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (head.status().as_u16(), &answer["accepted"], &answer["duplicate"]),
            (200, &json!(1), &json!(true))
        );
    }
}

#[tokio::test]
async fn json_is_one_reading_or_an_array() {
    let (fake, site) = node();
    let push = |body: &str| post_json("/v1/readings", body.to_owned());
    let object = "{\n  \"point\": \"known\",\n  \"value\": 1\n}\n";
    assert_eq!(status(&site, push(object)).await, 200);
    assert_eq!(status(&site, push(&format!("[{object},{object}\n, {GOOD}]"))).await, 200);
    assert_eq!(status(&site, push("[]")).await, 200);
    let taken: Vec<usize> = fake.pushes.lock().iter().map(|push| push.columns.len()).collect();
    assert_eq!(taken, [1, 3, 0]);
    let (_, body) = send(&site, push(&format!("[{GOOD},{{\"point\":\"known\"}}]"))).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    let place = problem.errors[0].place.clone().unwrap();
    assert_eq!((place.item, place.line, place.field.as_deref()), (Some(2), None, Some("value")));
    for wrong in [format!("[{GOOD}"), format!("[{GOOD}] x"), format!("{GOOD}{GOOD}"), "[1,]".to_owned()] {
        assert_eq!(status(&site, push(&wrong)).await, 400, "{wrong}");
    }
    assert_eq!(fake.pushes.lock().len(), 3);
}

#[tokio::test]
async fn only_programs_on_this_machine_are_served() {
    let (_, site) = node();
    let with = |host: &str, origin: Option<&str>| {
        let mut request = Request::builder().uri("/healthz").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.body(Body::empty()).unwrap()
    };
    for host in ["localhost", "localhost:7420", "LOCALHOST:7420", "127.0.0.1:7420", "loom.example"] {
        assert_eq!(status(&site, with(host, None)).await, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:7420", "127.0.0.2:7420", "localhost."] {
        assert_eq!(status(&site, with(host, None)).await, 403, "{host}");
    }
    for host in ["", "a b", "user@localhost:7420"] {
        assert_eq!(status(&site, with(host, None)).await, 400, "{host}");
    }
    assert_eq!(status(&site, with("localhost:7420", Some("http://localhost:7420"))).await, 200);
    for origin in ["http://evil.example", "null", "http://localhost:3000", "https://localhost:7420", ""] {
        assert_eq!(status(&site, with("localhost:7420", Some(origin))).await, 403, "{origin}");
    }
    // A proxy speaks TLS under the name that it was given.
    for origin in ["https://loom.example", "http://loom.example"] {
        assert_eq!(status(&site, with("loom.example", Some(origin))).await, 200, "{origin}");
    }
    assert_eq!(status(&site, with("loom.example", Some("https://evil.example"))).await, 403);
    let no_host = Request::builder().uri("/healthz").body(Body::empty()).unwrap();
    assert_eq!(status(&site, no_host).await, 400);
    let elsewhere = request("GET", "http://evil.example/healthz").body(Body::empty()).unwrap();
    assert_eq!(status(&site, elsewhere).await, 403);
    let twice = request("GET", "/healthz").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    assert_eq!(status(&site, twice).await, 400);
}

#[tokio::test]
async fn an_address_is_the_same_over_either_kind_of_socket() {
    let guard =
        Guard { listen: "[::]:7420".parse().unwrap(), hosts: Vec::new(), tls: false, tokens_required: false };
    let site = Site::new(Api::new(Arc::new(Fake::default()), guard, RATES, Metrics::default()));
    let with = |host: &str, arrived: &str| {
        let request = Request::builder().uri("/healthz").header(header::HOST, host);
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ArrivedAt(arrived.parse().unwrap()));
        request
    };
    for (host, arrived, expected) in [
        ("192.168.1.5:7420", "[::ffff:192.168.1.5]:7420", 200),
        ("[fd00::5]:7420", "[fd00::5]:7420", 200),
        ("[::1]:7420", "[::1]:7420", 200),
        ("192.168.1.6:7420", "[::ffff:192.168.1.5]:7420", 403),
    ] {
        let (answer, body) = send(&site, with(host, arrived)).await;
        assert_eq!(answer.status().as_u16(), expected, "{host} {arrived}");
        if expected == 403 {
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem.hints[0], "Call it http://192.168.1.5:7420.");
        }
    }
}

#[tokio::test]
async fn bodies_have_a_type_and_a_limit() {
    let (_, site) = node();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        for path in ["/v1/readings", "/v1/installations/pigs/pause", "/v1/packages"] {
            let request =
                request("POST", path).header(header::CONTENT_TYPE, kind).body(Body::from(GOOD)).unwrap();
            assert_eq!(status(&site, request).await, 415, "{kind} {path}");
        }
    }
    assert_eq!(status(&site, post_json("/v1/packages", GOOD)).await, 415);
    let parameter =
        request("POST", "/v1/readings").header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    assert_eq!(status(&site, parameter.body(Body::from(GOOD)).unwrap()).await, 200);

    let long = vec![b' '; ironloom_types::limits::MAX_BODY + 1];
    assert_eq!(status(&site, push("/v1/readings", long.clone())).await, 413);
    let announced = request("POST", "/v1/readings")
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .header(header::CONTENT_LENGTH, long.len())
        .body(Body::empty())
        .unwrap();
    assert_eq!(status(&site, announced).await, 413);
    assert_eq!(status(&site, push("/v1/readings", vec![b' '; ironloom_types::limits::MAX_BODY])).await, 200);
}

#[tokio::test]
async fn a_request_without_a_body_needs_no_type_where_none_is_wanted() {
    let (_, site) = node();
    let bare = |path: &str| request("POST", path).header(header::CONTENT_LENGTH, "0");
    let empty = |request: axum::http::request::Builder| request.body(Body::empty()).unwrap();
    for (path, expected) in [
        // The fake has none; a resume it refuses.
        ("/v1/installations/pigs/pause", 404),
        ("/v1/installations/pigs/resume", 422),
        ("/v1/installations/pigs/dead-letters/1/requeue", 202),
        ("/v1/alarms/1-1/ack", 404),
        // These can do nothing without one.
        ("/v1/readings", 415),
        ("/v1/packages", 415),
        ("/v1/installations", 415),
        ("/v1/clock", 415),
    ] {
        assert_eq!(status(&site, empty(bare(path))).await, expected, "{path}");
    }
    let pause = "/v1/installations/pigs/pause";
    assert_eq!(status(&site, empty(request("POST", pause))).await, 404);
    let typed = bare(pause).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert_eq!(status(&site, empty(typed)).await, 415, "a form has a type");
    let body = request("POST", pause).body(Body::from("{}")).unwrap();
    assert_eq!(status(&site, body).await, 415, "a body without a type");
    // Browsers say of a page's request where it comes from.
    for (from, expected) in [("cross-site", 403), ("same-site", 403), ("same-origin", 404), ("none", 404)] {
        assert_eq!(
            status(&site, empty(bare(pause).header("sec-fetch-site", from))).await,
            expected,
            "{from}"
        );
    }
}

#[tokio::test]
async fn readings_come_as_lines_csv_or_a_page() {
    let (_, site) = node();
    let as_type = |accept: &str| {
        request("GET", "/v1/readings?after=1&limit=5&point=farm/1")
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .unwrap()
    };
    let (answer, body) = send(&site, get("/v1/readings?limit=10")).await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/x-ndjson");
    let lines: Vec<&str> = std::str::from_utf8(&body).unwrap().lines().collect();
    let first = "{\"point\":\"farm/1\",\"value\":84.0,\"at\":\"1970-01-01T00:00:00.000000001Z\",\"quality\":\"good\",\
                 \"sequence\":1,\"time\":\"1970-01-01T00:00:01.500000000Z\"}";
    assert_eq!(lines[0], first);
    let values: Vec<Json> =
        lines.iter().map(|line| serde_json::from_str::<Json>(line).unwrap()["value"].clone()).collect();
    assert_eq!(
        values,
        [json!(84.0), json!(-1), json!("a,\"b\""), json!({"base64": "AP8="}), json!(null), json!("NaN")]
    );

    let (answer, body) = send(&site, as_type("text/csv")).await;
    assert_eq!(answer.headers()[header::LINK], "</v1/readings?limit=5&point=farm/1&after=6>; rel=\"next\"");
    let text = String::from_utf8(body).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "sequence,time,point,at,quality,value");
    let third = "3,1970-01-01T00:00:01.500000000Z,farm/1,1970-01-01T00:00:00.000000001Z,good,\"a,\"\"b\"\"\"";
    assert_eq!(lines[2], third);

    let (_, body) = send(&site, as_type("application/json")).await;
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap()["next"], "6");
    assert_eq!(status(&site, as_type("image/png")).await, 406);
    assert_eq!(status(&site, as_type("text/html, */*;q=0.1")).await, 200);
}

#[tokio::test]
async fn parameters_are_known_given_once_and_in_bounds() {
    let (_, site) = node();
    for path in [
        "/v1/readings?limit=0",
        "/v1/readings?limit=10001",
        "/v1/readings?limit=-1",
        "/v1/readings?limit=1&limit=2",
        "/v1/readings?colour=red",
        "/v1/readings?point=a//b",
        "/v1/readings?from=yesterday",
        "/v1/readings?after=x",
        "/v1/readings?after=18446744073709551615",
        "/v1/installations/pigs/outputs?after=9223372036854775809",
        "/healthz?verbose=true",
        "/v1/connectors?limit=3",
        "/v1/connectors/plant?limit=3",
        "/v1/connectors/plant/dead-letters?order=biggest",
        "/v1/packages/sha256:00?limit=3",
        "/v1/points?limit=0",
        "/v1/installations/pigs/dead-letters?after=-1",
        "/v1/installations/pigs/outputs?output=UPPER",
        "/v1/alarms?installation=A",
        "/v1/readings?%ff=1",
    ] {
        let status = status(&site, get(path)).await;
        assert_eq!(status, 400, "{path}");
    }
    assert_eq!(status(&site, push("/v1/readings?partial=maybe", GOOD)).await, 400);
    assert_eq!(status(&site, get("/v1/readings?after=9223372036854775808")).await, 200);
    for path in ["/v1/installations/pigs/pause?dry-run=true", "/v1/alarms/1-1/ack?dry-run=true"] {
        assert_eq!(status(&site, post_json(path, "")).await, 400, "{path}");
    }
    let deletion = request("DELETE", "/v1/installations/pigs?dry-run=true").body(Body::empty()).unwrap();
    assert_eq!(status(&site, deletion).await, 400);
    let names: Vec<String> = (0..33).map(|name| name.to_string()).collect();
    let (_, body) = send(&site, get(&format!("/v1/readings?{}", names.join("&")))).await;
    assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap().kind, "bad-query");
    for path in
        ["/v1/installations/Pigs", "/v1/installations/%ff", "/v1/packages/sha256:00", "/v1/nothing", "/"]
    {
        let status = status(&site, get(path)).await;
        assert!(status == 404 || (path.contains('%') && status == 400), "{path}: {status}");
    }
    let wrong = request("PUT", "/v1/readings").body(Body::empty()).unwrap();
    let (answer, _) = send(&site, wrong).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.headers()[header::ALLOW].to_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn dead_letters_of_a_connector_come_newest_first_unless_asked_otherwise() {
    let (_, site) = node();
    for (query, expected) in [
        ("", "plant Newest None 100"),
        ("?order=oldest&after=5&limit=2", "plant Oldest Some(5) 2"),
        ("?order=newest", "plant Newest None 100"),
    ] {
        let (_, body) = send(&site, get(&format!("/v1/connectors/plant/dead-letters{query}"))).await;
        let page: Json = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&page["items"][0]["topic"], &page["items"][0]["payload"]),
            (&json!(expected), &json!("x"))
        );
    }
    assert_eq!(status(&site, get("/v1/connectors/plant")).await, 404);
}

#[tokio::test]
async fn a_list_of_installs_is_bounded_and_its_errors_have_a_place() {
    let (_, site) = node();
    let digest = format!("sha256:{}", "0".repeat(64));
    let one = |id: &str| json!({"id": id, "package": digest});
    let post = |body: &Json| post_json("/v1/installations", body.to_string());
    let (answer, body) = send(&site, post(&json!([one("a"), one("b")]))).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let seen: Problem = serde_json::from_slice(&body).unwrap();
    let seen: Vec<InstallRequest> = serde_json::from_str(&seen.detail).unwrap();
    assert_eq!(seen.iter().map(|request| request.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let (_, body) = send(&site, post(&json!([one("a"), one("B")]))).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((problem.status, problem.kind.as_str()), (400, "bad-field"));
    assert!(problem.place.as_ref().unwrap().column > Some(80), "{problem:?}");
    for (count, expected) in [(0, 400), (MAX_INSTALLS, 422), (MAX_INSTALLS + 1, 400)] {
        let list: Vec<Json> = (0..count).map(|n| one(&format!("a{n}"))).collect();
        assert_eq!(status(&site, post(&list.into())).await, expected, "{count}");
    }
}

#[tokio::test]
async fn bodies_of_json_are_read_strictly() {
    let (_, site) = node();
    let digest = format!("sha256:{}", "0".repeat(64));
    let install = |body: Json| post_json("/v1/installations", body.to_string());
    let good = json!({"id": "pigs", "package": digest, "bindings": {"weight": "farm/{pig}/weight"},
        "settings": {"breed": "duroc"}, "limits": {"memory": "8 MiB"}, "from": "beginning"});
    let (answer, body) = send(&site, install(good)).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let seen: Problem = serde_json::from_slice(&body).unwrap();
    let [seen]: [InstallRequest; 1] = serde_json::from_str(&seen.detail).unwrap();
    assert_eq!(seen.from, Some(StartFrom::Beginning));
    assert_eq!(seen.limits.memory.unwrap().0, 8 << 20);
    for wrong in [
        json!({}),
        json!([]),
        json!({"id": "Pigs", "package": digest}),
        json!({"id": "pigs", "package": "sha256:0"}),
        json!({"id": "pigs", "package": digest, "colour": 1}),
        json!({"id": "pigs", "package": digest, "bindings": {"weight": 7}}),
        json!({"id": "pigs", "package": digest, "from": "yesterday"}),
        json!({"id": "pigs", "package": digest, "limits": {"memory": "lots"}}),
        json!({"id": "pigs", "package": digest, "grants": {"hosts": []}}),
    ] {
        assert_eq!(status(&site, install(wrong.clone())).await, 400, "{wrong}");
    }
    for twice in [
        "\"bindings\":{\"a\":\"x\",\"a\":\"y\"}",
        "\"settings\":{\"a\":1,\"a\":2}",
        "\"grants\":{\"outputs\":{\"a\":{\"allow\":\"1\"},\"a\":{\"allow\":\"2\"}}}",
    ] {
        let body = format!("{{\"id\":\"pigs\",\"package\":\"{digest}\",{twice}}}");
        assert_eq!(status(&site, post_json("/v1/installations", body)).await, 400, "{twice}");
    }
    for (body, expected) in
        [("", 422), ("{\"backlog\":\"drop\"}", 422), ("{\"backlog\":\"eat\"}", 400), ("{", 400)]
    {
        assert_eq!(status(&site, post_json("/v1/installations/pigs/resume", body)).await, expected, "{body}");
    }
    assert_eq!(status(&site, post_json("/v1/installations/pigs/pause", "{\"x\":1}")).await, 400);
    let deep = "[".repeat(100_000);
    assert_eq!(status(&site, post_json("/v1/installations", deep)).await, 400);
}

#[tokio::test]
async fn state_is_shown_as_base64_and_as_json_where_it_is_some() {
    let (_, site) = node();
    let (_, body) = send(&site, get("/v1/installations/pigs/state")).await;
    let expected = "{\"items\":[{\"key\":\"a\",\"value\":{\"base64\":\"eyJuIjoxLjUwfQ==\"},\"json\":{\"n\":1.50}},\
                    {\"key\":\"b\",\"value\":{\"base64\":\"/w==\"}}],\"next\":\"b\"}";
    assert_eq!(String::from_utf8(body).unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_hold_memory_and_then_the_next_is_refused() {
    let (_, api) = api();
    let site = Site::new(api.clone());
    let page = || site.clone().answer(get(&format!("/v1/readings?limit={LONG}")));
    let mut unread = Vec::new();
    let refused = loop {
        let answer = page().await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        unread.push(answer);
        assert!(unread.len() <= 16, "there are 64 MiB for all, and each has at least 4 MiB");
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(&site, get("/v1/readings?limit=1")).await, 200, "a short page is never behind them");
    // A text as it is has the same memory.
    let text = || answers::text(&api, StatusCode::OK, JSON_TYPE, vec![b' '; 30 << 20]);
    assert_eq!(text().await.unwrap_err().status, 503);
    drop(unread);
    let two = [text().await.unwrap(), text().await.unwrap()];
    assert_eq!(text().await.unwrap_err().status, 503);
    drop(two);
    assert_eq!(page().await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_told_whoever_holds_the_memory_for_answers() {
    let (fake, api) = api();
    let site = Site::new(api.clone());
    let mut others = api.memory.answers.share();
    others.grow(answers::MAX_ANSWER).await.unwrap();
    // The answer to bad lines would be long: that is found out before the good one is taken.
    let long = "n".repeat(900);
    let bad = format!("{{\"point\":\"a\",\"value\":1,\"{long}\":2}}\n").repeat(100);
    let mixed = format!("{GOOD}{bad}");
    assert_eq!(status(&site, push("/v1/readings?partial=true", mixed.clone())).await, 503);
    assert_eq!(fake.pushes.lock().len(), 0, "nothing was taken");
    // What is done is told all the same, after a while.
    let answer = answers::told(&api, StatusCode::CREATED, vec![b' '; 1 << 20]).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    drop(others);
    let (answer, body) = send(&site, push("/v1/readings?partial=true", mixed)).await;
    assert_eq!((answer.status(), fake.pushes.lock().len()), (StatusCode::OK, 1));
    assert!(body.len() > FREE_ANSWER, "{}", body.len());
    // No memory is enough for this one, so it isn't told to come again.
    let text = answers::text(&api, StatusCode::OK, JSON_TYPE, vec![b' '; answers::MAX_ANSWER + 1]).await;
    assert_eq!(text.unwrap_err().status, 422);
}

#[tokio::test]
async fn a_handler_that_panics_answers() {
    let (_, site) = node();
    let (answer, body) = send(&site, get("/v1/installations/panics")).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap().kind, "internal");
}

#[tokio::test]
async fn what_was_sent_is_not_sent_back_in_full() {
    let (_, site) = node();
    let long = "x".repeat(500_000);
    let body = format!("{{\"point\":\"known\",\"value\":1,\"{long}\":2}}");
    let (answer, body) = send(&site, push("/v1/readings", body)).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(body.len() < 20_000, "{}", body.len());
}

#[tokio::test]
async fn readiness_says_why_not() {
    let (_, site) = node();
    let (answer, body) = send(&site, get("/readyz")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap()["reasons"], json!(["clock"]));
}

#[tokio::test]
async fn every_described_operation_is_there() {
    let (_, site) = node();
    let (_, body) = send(&site, get("/openapi.json")).await;
    let described: Json = serde_json::from_slice(&body).unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    for (method, template) in OPERATIONS.iter().map(|operation| (operation.method, operation.path)) {
        let described_here = &described["paths"][template][method];
        assert!(described_here.is_object());
        let path = template.replace("{id}", "pigs").replace("{digest}", &digest).replace("{number}", "1");
        let request = request(&method.to_uppercase(), &path)
            .header(
                header::CONTENT_TYPE,
                described["paths"][template][method]["requestBody"]["content"]
                    .as_object()
                    .and_then(|content| content.keys().next())
                    .map_or("", String::as_str),
            )
            .body(Body::empty())
            .unwrap();
        let (answer, body) = send(&site, request).await;
        let text = String::from_utf8(body).unwrap();
        assert_ne!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert!(!text.contains("there is nothing at"), "{method} {path}");
        // What isn't described is a problem.
        let listed = &described_here["responses"][answer.status().as_str()];
        let is_problem = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
        assert!(listed.is_object() || is_problem, "{method} {path}: {}", answer.status());
    }
}

#[tokio::test]
async fn every_operation_has_a_name_and_every_json_its_shape() {
    let (_, site) = node();
    let (_, body) = send(&site, get("/openapi.json")).await;
    let described: Json = serde_json::from_slice(&body).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for operation in OPERATIONS {
        let what = format!("{} {}", operation.method, operation.path);
        assert!(!operation.id.is_empty() && names.insert(operation.id), "{what}: {:?}", operation.id);
        let gives_json = operation.answers.iter().any(|answer| answer.types.contains(&JSON_TYPE));
        assert_eq!(operation.gives.is_some(), gives_json, "{what}: the shape of its answers");
    }
    fn refs(value: &Json, found: &mut Vec<String>) {
        match value {
            Json::Object(map) => {
                found.extend(map.get("$ref").and_then(Json::as_str).map(str::to_owned));
                map.values().for_each(|value| refs(value, found));
            }
            Json::Array(list) => list.iter().for_each(|value| refs(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    refs(&described, &mut found);
    assert!(found.len() > 100);
    for target in found {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(described.pointer(pointer).is_some(), "{target} isn't there");
    }
    let kinds = &described["components"]["schemas"]["Problem"]["properties"]["kind"]["enum"];
    assert!(kinds.as_array().unwrap().contains(&"unit-mismatch".into()));
}

/// Sends bytes as they are, and gives all that comes back.
async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // The server may close the connection before it has read all.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server on a socket of its own.
pub(super) struct Served {
    pub(super) listen: std::net::SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn serve(bounds: Bounds) -> Served {
    serve_node(Arc::new(Fake::default()), bounds, BODIES).await
}

/// Memory for bodies of readings that no test uses up.
pub(super) const BODIES: usize = 128 << 20;

/// Beyond the first of each, bodies of readings may have so many bytes together.
pub(super) async fn serve_node(fake: Arc<Fake>, bounds: Bounds, bodies: usize) -> Served {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let guard = Guard { listen, hosts: Vec::new(), tls: false, tokens_required: false };
    let mut api = Api::new(fake, guard, RATES, Metrics::default());
    let shares = Shares { readings: Memory::new(bodies), ..Shares::default() };
    Arc::get_mut(&mut api.0).unwrap().memory = shares;
    let site = Site::new(api);
    let (stop, shutdown) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(super::server::serve(listener, site, bounds, None, shutdown));
    Served { listen, stop, task }
}

impl Served {
    fn get(&self, path: &str, header: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{header}\r\n", self.listen)
    }

    fn push(&self, length: usize) -> String {
        format!(
            "POST /v1/readings HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n",
            self.listen
        )
    }

    /// The first line of the answer to these bytes.
    async fn first(&self, request: &str) -> String {
        raw(self.listen, request).await.lines().next().unwrap_or_default().to_owned()
    }

    /// A connection that has sent this and then does nothing.
    async fn silent(&self, request: &str) -> tokio::net::TcpStream {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = tokio::net::TcpStream::connect(self.listen).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // What it sent is taken in before anything else happens.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        stream
    }
}

#[tokio::test]
async fn connections_have_limits_and_end_in_order() {
    let served = serve(Bounds::default()).await;
    assert_eq!(served.first(&served.get("/healthz", "")).await, "HTTP/1.1 200 OK");
    let long = format!("X-Long: {}\r\n", "x".repeat(60 << 10));
    assert_eq!(served.first(&served.get("/healthz", &long)).await, "HTTP/1.1 200 OK");
    let too_long = format!("X-Long: {}\r\n", "x".repeat(70 << 10));
    let refused = served.first(&served.get("/healthz", &too_long)).await;
    assert!(refused.contains("431"), "{refused}");
    assert!(served.first("nonsense\r\n\r\n").await.contains("400"));
    let body = "x".repeat((16 << 20) + 1);
    assert!(served.first(&(served.push(body.len()) + &body)).await.contains("413"));
    // A body that nobody reads: the answer comes through all the same.
    let refused = served.push(body.len()).replace("application/x-ndjson", "text/plain") + &body;
    assert!(served.first(&refused).await.contains("415"));
    served.stop.send(true).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), served.task).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(served.listen).await.is_err());
}

#[tokio::test]
async fn who_asks_before_sending_a_body_is_told_to_send_it_only_if_it_is_taken() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let served = serve(Bounds::default()).await;
    let asking = |head: String| head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let push = |length| asking(served.push(length)).replace("Connection: close\r\n", "");
    for (head, status) in [
        (push(GOOD.len()).replace("/v1/readings", "/v1/nothing"), "404"),
        (push(GOOD.len()).replace("POST", "DELETE"), "405"),
        (push((16 << 20) + 1), "413"),
        (push(GOOD.len()).replace("application/x-ndjson", "text/plain"), "415"),
        (push(GOOD.len()).replace("/v1/readings", "/v1/readings?unknown=1"), "400"),
        (push(GOOD.len()).replace("Host: ", "Host: example.org\r\nX-Host: "), "403"),
        (push(GOOD.len()).replace("Expect: ", "Idempotency-Key: a b\r\nExpect: "), "400"),
        (push(GOOD.len()).replace("Expect: ", "Content-Encoding: gzip\r\nExpect: "), "415"),
    ] {
        // Nothing of the body is sent, and the server ends the connection.
        let answer = raw(served.listen, &head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    let mut stream = served.silent(&push(GOOD.len())).await;
    let expected = "HTTP/1.1 100 Continue\r\n\r\n";
    let mut told = vec![0; expected.len()];
    stream.read_exact(&mut told).await.unwrap();
    assert_eq!(String::from_utf8(told).unwrap(), expected);
    // The connection goes on: the last request ends it.
    stream.write_all((GOOD.to_owned() + &served.get("/healthz", "")).as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_in_time_ends() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let headers = std::time::Duration::from_millis(200);
    let served = serve(Bounds { headers, ..Bounds::default() }).await;
    let request = served.get("/healthz", "").replace("Connection: close\r\n", "");
    // Nothing at all, half a header, and nothing more after an answer.
    for said in ["", "GET /healthz HTTP/1.1\r\nHos", &request] {
        let mut stream = tokio::net::TcpStream::connect(served.listen).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended =
            tokio::time::timeout(60 * std::time::Duration::from_secs(1), stream.read_to_end(&mut answer));
        let _ = ended.await.expect("it ends by itself");
        let answered = answer.starts_with(b"HTTP/1.1 200 OK");
        assert_eq!(answered, said == request, "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn who_ends_its_half_of_the_connection_is_answered() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let served = serve(Bounds::default()).await;
    let asks = served.get("/v1/installations/slow/state", "").replace("Connection: close\r\n", "");
    let mut stream = tokio::net::TcpStream::connect(served.listen).await.unwrap();
    stream.write_all(asks.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    // The server ends it then: nothing more can come.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\"next\":"), "{answer}");
    // Half a request stays half a request.
    for half in ["GET /healthz HTT", &served.push(1_000)] {
        let mut stream = tokio::net::TcpStream::connect(served.listen).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(!answer.contains("200 OK"), "{half}: {answer}");
    }
}

#[tokio::test]
async fn the_places_of_those_who_are_gone_come_back() {
    let served = serve(Bounds { all: 4, reserve: 1, ..Bounds::default() }).await;
    let asks = served.get("/v1/installations/slow/state", "");
    for _ in 0..4 {
        drop(served.silent(&asks).await);
    }
    let push = served.push(GOOD.len()) + GOOD;
    // Until their answers are written, which finds nobody, a push has only the reserve.
    let began = std::time::Instant::now();
    while served.first(&push).await != "HTTP/1.1 200 OK" {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "their places are still taken");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn idle_connections_make_room() {
    let served = serve(Bounds { all: 4, reserve: 1, ..Bounds::default() }).await;
    let mut idle = Vec::new();
    for _ in 0..5 {
        idle.push(served.silent("GET /healthz HTTP/1.1\r\nHos").await);
    }
    for _ in 0..10 {
        assert_eq!(served.first(&served.get("/healthz", "")).await, "HTTP/1.1 200 OK");
        // They are let go before anybody has to make do with the reserve.
        assert_eq!(served.first(&(served.push(GOOD.len()) + GOOD)).await, "HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn an_admin_gets_in_while_bodies_hold_all_places() {
    let served = serve(Bounds { all: 4, reserve: 1, ..Bounds::default() }).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(served.silent(&served.push(1_000)).await);
    }
    assert_eq!(served.first(&served.get("/healthz", "")).await, "HTTP/1.1 200 OK");
    let pause = format!(
        "POST /v1/installations/pigs/pause HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{{}}",
        served.listen
    );
    assert!(served.first(&pause).await.contains("404"), "the fake has no installation");
    assert!(served.first(&served.get("/v1/readings", "")).await.contains("503"));
    let upgrade =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let stream =
        served.get("/v1/readings/stream", upgrade).replace("Connection: close", "Connection: Upgrade");
    assert!(served.first(&stream).await.contains("503"));
    assert!(served.first(&(served.push(GOOD.len()) + GOOD)).await.contains("503"));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    use tokio::io::AsyncReadExt as _;
    let stuck = std::time::Duration::from_millis(200);
    let served = serve(Bounds { all: 4, reserve: 0, stuck, ..Bounds::default() }).await;
    let mut unread = Vec::new();
    // More than the system takes in for them.
    for _ in 0..4 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(served.listen).await.unwrap();
        let request = served.get(&format!("/v1/readings?limit={LONG}"), "").repeat(8);
        tokio::io::AsyncWriteExt::write_all(
            &mut stream,
            request.replace("Connection: close\r\n", "").as_bytes(),
        )
        .await
        .unwrap();
        unread.push(stream);
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    for stream in &mut unread {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        assert!(all.len() < 8 * MAX_PAGE_BYTES, "{} bytes were kept for a peer that doesn't read", all.len());
    }
    assert_eq!(served.first(&served.get("/healthz", "")).await, "HTTP/1.1 200 OK");
}
