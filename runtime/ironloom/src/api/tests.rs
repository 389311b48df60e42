//! The routes over a node that is a fake: what is taken, what is refused, and in which form.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tower::ServiceExt as _;

use super::connections::Bounds;
use super::facade::*;
use super::guard::{ArrivedAt, Guard};
use super::problem::PROBLEM_JSON;
use super::push::request_key;
use super::readings::{Form, Mode, parse};
use super::routes::OPERATIONS;
use super::{Api, JSON_TYPE, answers, router};
use crate::telemetry::Metrics;
use ironloom_types::clock::{Source, Timestamp};
use ironloom_types::ids::{Digest, Generation, InstallationId, Ordinal, PointNumber, Sequence};
use ironloom_types::readings::{Columns, Quality, Value, ValueRef};

/// Remembers pushes, and has one reading of each kind of value in its journal.
#[derive(Default)]
struct Fake {
    pushes: Mutex<Vec<Push>>,
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
    fn ingest_rules(&self) -> IngestRules {
        IngestRules { now: Some(Timestamp(1_000)), latest: Timestamp(2_000), new_points: 2 }
    }
    fn lookup(&self) -> Lookup<'_> {
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
    fn has_room(&self) -> Answer<()> {
        Ok(())
    }
    fn open_stream(&self, _: Option<Arc<str>>) -> Later<'_, OpenStream> {
        missing()
    }
    fn find_push(&self, key: RequestKey) -> Later<'_, Option<Pushed>> {
        let pushes = self.pushes.lock();
        let before = pushes.iter().find(|before| before.key == Some(key) && !before.columns.is_empty());
        let accepted = before.map(|before| before.columns.len() as u64);
        later(Ok(accepted.map(|accepted| Pushed { accepted, through: Sequence(accepted), duplicate: true })))
    }
    fn readings(&self, query: ReadingsQuery) -> Later<'_, Page<ReadingItem>> {
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
    fn points(&self, _: String, _: PageQuery) -> Later<'_, Page<PointItem>> {
        later(Ok(none()))
    }
    fn add_package(&self, tar: Bytes) -> Later<'_, (PackageInfo, bool)> {
        later(Err(Problem::refused("package", format!("{} bytes", tar.len()))))
    }
    fn packages(&self, _: PageQuery) -> Later<'_, Page<PackageInfo>> {
        later(Ok(none()))
    }
    fn package(&self, _: Digest) -> Later<'_, PackageInfo> {
        missing()
    }
    fn delete_package(&self, _: Digest) -> Later<'_, ()> {
        later(Ok(()))
    }
    fn install(&self, requests: Vec<InstallRequest>, _: bool) -> Later<'_, Vec<Installed>> {
        later(Err(Problem::refused("install", serde_json::to_string(&requests).unwrap())))
    }
    fn installations(&self, _: PageQuery) -> Later<'_, Page<Installation>> {
        later(Ok(none()))
    }
    fn installation(&self, id: InstallationId) -> Later<'_, Installation> {
        assert!(id.as_str() != "panics", "as it was asked for");
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
    fn logs(&self, _: InstallationId, _: Option<u64>, _: usize) -> Later<'_, LogPage> {
        later(Ok(LogPage { page: none(), generation: Generation(3) }))
    }
    fn dead_letters(&self, _: InstallationId, _: u64, _: usize) -> Later<'_, Page<DeadLetter>> {
        later(Ok(none()))
    }
    fn requeue(&self, _: InstallationId, _: u64) -> Later<'_, ()> {
        later(Ok(()))
    }
    fn delete_dead_letter(&self, _: InstallationId, _: u64) -> Later<'_, ()> {
        later(Ok(()))
    }
    fn invocations(&self, _: InstallationId, _: Ordinal, _: usize) -> Later<'_, Page<Invocation>> {
        later(Ok(none()))
    }
    fn alarms(&self, _: Option<InstallationId>, _: PageQuery) -> Later<'_, Page<Alarm>> {
        later(Ok(none()))
    }
    fn acknowledge(&self, _: String) -> Later<'_, Alarm> {
        missing()
    }
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
    fn readiness(&self) -> Readiness {
        Readiness { ready: false, reasons: vec!["clock".to_owned()], notes: Vec::new() }
    }
    fn metrics(&self) -> String {
        "ironloom_readings_total 0\n# EOF\n".to_owned()
    }
}

fn api() -> (Arc<Fake>, Api) {
    let fake = Arc::new(Fake::default());
    let guard = Guard { listen: "127.0.0.1:7420".parse().unwrap(), hosts: vec!["loom.example".to_owned()] };
    let node = Arc::clone(&fake) as Arc<dyn Facade>;
    (fake, Api::new(node, guard, Metrics::default()))
}

fn node() -> (Arc<Fake>, axum::Router) {
    let (fake, api) = api();
    (fake, router(api))
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:7420")
}

async fn send(router: &axum::Router, request: Request<Body>) -> (Response<()>, Vec<u8>) {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    if parts.status.is_client_error() {
        assert_eq!(parts.headers[header::CONTENT_TYPE], "application/problem+json", "{:?}", parts.status);
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.status, parts.status.as_u16());
        assert!(!problem.detail.is_empty() && !problem.kind.is_empty());
    }
    (Response::from_parts(parts, ()), body)
}

async fn status(router: &axum::Router, request: Request<Body>) -> u16 {
    send(router, request).await.0.status().as_u16()
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
    let (fake, router) = node();
    let (answer, body) = send(&router, push("/v1/readings", GOOD.repeat(2))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), json!({"accepted": 2, "through": 2}));

    let (answer, body) = send(&router, push("/v1/readings", format!("{GOOD}{GOOD}x"))).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem.errors[0].place.as_ref().unwrap().line, Some(3));

    let reserved = "{\"point\":\"apps/x\",\"value\":1}\n";
    assert_eq!(status(&router, push("/v1/readings", reserved)).await, 403);
    assert_eq!(status(&router, push("/v1/readings", format!("{reserved}x"))).await, 400);
    assert_eq!(fake.pushes.lock().len(), 1);

    let (_, body) = send(&router, push("/v1/readings?partial=true", format!("{GOOD}x\n{reserved}"))).await;
    let answer: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(1), &json!(2)));
    assert_eq!(answer["errors"][1]["kind"], "reserved-point");
}

#[tokio::test(start_paused = true)]
async fn readers_of_a_busy_apps_state_dont_stop_lists() {
    let (_, router) = node();
    // More than the memory for answers holds pages.
    let waiting: Vec<_> =
        (0..20).map(|_| tokio::spawn(router.clone().oneshot(get("/v1/installations/busy/state")))).collect();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(status(&router, get("/v1/installations")).await, 200);
    assert_eq!(status(&router, get("/v1/installations/other/state")).await, 200);
    assert!(waiting.iter().all(|reader| !reader.is_finished()));
}

#[tokio::test]
async fn a_body_in_another_coding_is_refused_by_name() {
    let (_, router) = node();
    let mut request = push("/v1/readings", GOOD);
    request.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    let (answer, body) = send(&router, request).await;
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert!(problem.detail.contains("Content-Encoding is \"gzip\""), "{}", problem.detail);
}

#[tokio::test]
async fn keys_are_hashed_with_all_that_makes_the_request() {
    let (fake, router) = node();
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
    ] {
        assert_eq!(status(&router, with_key(path, key, body)).await, 200);
    }
    let keys: Vec<RequestKey> = fake.pushes.lock().iter().map(|push| push.key.unwrap()).collect();
    assert_eq!(keys[0], keys[1]);
    assert!(keys[2].key != keys[0].key && keys[2].request == keys[0].request);
    assert!(keys[3].key == keys[0].key && keys[3].request != keys[0].request);
    assert!(keys[4].key == keys[0].key && keys[4].request != keys[0].request);
    for wrong in ["", "a b", &"x".repeat(65)] {
        assert_eq!(status(&router, with_key("/v1/readings", wrong, GOOD)).await, 400, "{wrong:?}");
    }
    // Where nothing is taken, nothing has to be remembered: a file goes on behind such lines.
    for (path, body) in [("/v1/readings", "\n\n"), ("/v1/readings?partial=true", "x")] {
        assert_eq!(status(&router, with_key(path, "c", body)).await, 200);
        assert!(fake.pushes.lock().last().unwrap().columns.is_empty());
    }
}

#[tokio::test]
async fn a_partial_push_that_comes_again_tells_the_lines_that_were_refused_then() {
    let (fake, router) = node();
    let mut first = parse(
        GOOD.as_bytes(),
        Form::Lines,
        fake.ingest_rules(),
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
    send(&router, request()).await;
    let key = fake.pushes.lock()[0].key;
    let columns = std::mem::take(&mut first.columns);
    *fake.pushes.lock() = vec![Push { columns, new_points: Vec::new(), key, stream: None }];
    let (_, body) = send(&router, request()).await;
    let answer: Json = serde_json::from_slice(&body).unwrap();
    let expected = json!({"accepted": 1, "through": 1, "duplicate": true, "refused": 2, "errors": []});
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn what_was_taken_is_said_again_even_if_it_would_be_refused_by_now() {
    let (fake, router) = node();
    // Further ahead than is allowed: the clock was set back since.
    let ahead = "{\"point\":\"known\",\"value\":1,\"at\":3000}\n";
    for path in ["/v1/readings", "/v1/readings?partial=true"] {
        let request = || {
            let mut request = push(path, ahead.to_owned());
            request.headers_mut().insert("Idempotency-Key", "a".parse().unwrap());
            request
        };
        fake.pushes.lock().clear();
        let refused = send(&router, request()).await;
        assert_eq!(refused.0.status(), if path.contains("partial") { 200 } else { 400 });
        let key = request_key(b"a", &path.parse().unwrap(), ahead.as_bytes());
        let mut columns = Columns::default();
        columns.push(PointNumber(7), Timestamp(3000), Quality::Good, ValueRef::Integer(1));
        *fake.pushes.lock() = vec![Push { columns, new_points: Vec::new(), key: Some(key), stream: None }];
        let (head, body) = send(&router, request()).await;
        let answer: Json = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (head.status().as_u16(), &answer["accepted"], &answer["duplicate"]),
            (200, &json!(1), &json!(true))
        );
    }
}

#[tokio::test]
async fn json_is_one_reading_or_an_array() {
    let (fake, router) = node();
    let push = |body: &str| post_json("/v1/readings", body.to_owned());
    let object = "{\n  \"point\": \"known\",\n  \"value\": 1\n}\n";
    assert_eq!(status(&router, push(object)).await, 200);
    assert_eq!(status(&router, push(&format!("[{object},{object}\n, {GOOD}]"))).await, 200);
    assert_eq!(status(&router, push("[]")).await, 200);
    let taken: Vec<usize> = fake.pushes.lock().iter().map(|push| push.columns.len()).collect();
    assert_eq!(taken, [1, 3, 0]);
    let (_, body) = send(&router, push(&format!("[{GOOD},{{\"point\":\"known\"}}]"))).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    let place = problem.errors[0].place.clone().unwrap();
    assert_eq!((place.item, place.line, place.field.as_deref()), (Some(2), None, Some("value")));
    for wrong in [format!("[{GOOD}"), format!("[{GOOD}] x"), format!("{GOOD}{GOOD}"), "[1,]".to_owned()] {
        assert_eq!(status(&router, push(&wrong)).await, 400, "{wrong}");
    }
    assert_eq!(fake.pushes.lock().len(), 3);
}

#[tokio::test]
async fn only_programs_on_this_machine_are_served() {
    let (_, router) = node();
    let with = |host: &str, origin: Option<&str>| {
        let mut request = Request::builder().uri("/healthz").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.body(Body::empty()).unwrap()
    };
    for host in ["localhost", "localhost:7420", "LOCALHOST:7420", "127.0.0.1:7420", "loom.example"] {
        assert_eq!(status(&router, with(host, None)).await, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:7420", "127.0.0.2:7420", "localhost."] {
        assert_eq!(status(&router, with(host, None)).await, 403, "{host}");
    }
    for host in ["", "a b", "user@localhost:7420"] {
        assert_eq!(status(&router, with(host, None)).await, 400, "{host}");
    }
    assert_eq!(status(&router, with("localhost:7420", Some("http://localhost:7420"))).await, 200);
    for origin in ["http://evil.example", "null", "http://localhost:3000", "https://localhost:7420", ""] {
        assert_eq!(status(&router, with("localhost:7420", Some(origin))).await, 403, "{origin}");
    }
    // A proxy speaks TLS under the name that it was given.
    for origin in ["https://loom.example", "http://loom.example"] {
        assert_eq!(status(&router, with("loom.example", Some(origin))).await, 200, "{origin}");
    }
    assert_eq!(status(&router, with("loom.example", Some("https://evil.example"))).await, 403);
    let no_host = Request::builder().uri("/healthz").body(Body::empty()).unwrap();
    assert_eq!(status(&router, no_host).await, 400);
    let elsewhere = request("GET", "http://evil.example/healthz").body(Body::empty()).unwrap();
    assert_eq!(status(&router, elsewhere).await, 403);
    let twice = request("GET", "/healthz").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    assert_eq!(status(&router, twice).await, 400);
}

#[tokio::test]
async fn an_address_is_the_same_over_either_kind_of_socket() {
    let guard = Guard { listen: "[::]:7420".parse().unwrap(), hosts: Vec::new() };
    let router = router(Api::new(Arc::new(Fake::default()), guard, Metrics::default()));
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
        let (answer, body) = send(&router, with(host, arrived)).await;
        assert_eq!(answer.status().as_u16(), expected, "{host} {arrived}");
        if expected == 403 {
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem.hints[0], "Call it http://192.168.1.5:7420.");
        }
    }
}

#[tokio::test]
async fn bodies_have_a_type_and_a_limit() {
    let (_, router) = node();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        for path in ["/v1/readings", "/v1/installations/pigs/pause", "/v1/packages"] {
            let request =
                request("POST", path).header(header::CONTENT_TYPE, kind).body(Body::from(GOOD)).unwrap();
            assert_eq!(status(&router, request).await, 415, "{kind} {path}");
        }
    }
    assert_eq!(status(&router, post_json("/v1/packages", GOOD)).await, 415);
    let parameter =
        request("POST", "/v1/readings").header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    assert_eq!(status(&router, parameter.body(Body::from(GOOD)).unwrap()).await, 200);

    let long = vec![b' '; ironloom_types::limits::MAX_BODY + 1];
    assert_eq!(status(&router, push("/v1/readings", long.clone())).await, 413);
    let announced = request("POST", "/v1/readings")
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .header(header::CONTENT_LENGTH, long.len())
        .body(Body::empty())
        .unwrap();
    assert_eq!(status(&router, announced).await, 413);
    assert_eq!(
        status(&router, push("/v1/readings", vec![b' '; ironloom_types::limits::MAX_BODY])).await,
        200
    );
}

#[tokio::test]
async fn a_request_without_a_body_needs_no_type_where_none_is_wanted() {
    let (_, router) = node();
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
        assert_eq!(status(&router, empty(bare(path))).await, expected, "{path}");
    }
    let pause = "/v1/installations/pigs/pause";
    assert_eq!(status(&router, empty(request("POST", pause))).await, 404);
    let typed = bare(pause).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert_eq!(status(&router, empty(typed)).await, 415, "a form has a type");
    let body = request("POST", pause).body(Body::from("{}")).unwrap();
    assert_eq!(status(&router, body).await, 415, "a body without a type");
    // Browsers say of a page's request where it comes from.
    for (site, expected) in [("cross-site", 403), ("same-site", 403), ("same-origin", 404), ("none", 404)] {
        assert_eq!(
            status(&router, empty(bare(pause).header("sec-fetch-site", site))).await,
            expected,
            "{site}"
        );
    }
}

#[tokio::test]
async fn readings_come_as_lines_csv_or_a_page() {
    let (_, router) = node();
    let as_type = |accept: &str| {
        request("GET", "/v1/readings?after=1&limit=5&point=farm/1")
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .unwrap()
    };
    let (answer, body) = send(&router, get("/v1/readings?limit=10")).await;
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

    let (answer, body) = send(&router, as_type("text/csv")).await;
    assert_eq!(answer.headers()[header::LINK], "</v1/readings?limit=5&point=farm/1&after=6>; rel=\"next\"");
    let text = String::from_utf8(body).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "sequence,time,point,at,quality,value");
    let third = "3,1970-01-01T00:00:01.500000000Z,farm/1,1970-01-01T00:00:00.000000001Z,good,\"a,\"\"b\"\"\"";
    assert_eq!(lines[2], third);

    let (_, body) = send(&router, as_type("application/json")).await;
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap()["next"], "6");
    assert_eq!(status(&router, as_type("image/png")).await, 406);
    assert_eq!(status(&router, as_type("text/html, */*;q=0.1")).await, 200);
}

#[tokio::test]
async fn parameters_are_known_given_once_and_in_bounds() {
    let (_, router) = node();
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
        "/v1/packages/sha256:00?limit=3",
        "/v1/points?limit=0",
        "/v1/installations/pigs/dead-letters?after=-1",
        "/v1/installations/pigs/outputs?output=UPPER",
        "/v1/alarms?installation=A",
        "/v1/readings?%ff=1",
    ] {
        let status = status(&router, get(path)).await;
        assert_eq!(status, 400, "{path}");
    }
    assert_eq!(status(&router, push("/v1/readings?partial=maybe", GOOD)).await, 400);
    assert_eq!(status(&router, get("/v1/readings?after=9223372036854775808")).await, 200);
    for path in ["/v1/installations/pigs/pause?dry-run=true", "/v1/alarms/1-1/ack?dry-run=true"] {
        assert_eq!(status(&router, post_json(path, "")).await, 400, "{path}");
    }
    let deletion = request("DELETE", "/v1/installations/pigs?dry-run=true").body(Body::empty()).unwrap();
    assert_eq!(status(&router, deletion).await, 400);
    let names: Vec<String> = (0..33).map(|name| name.to_string()).collect();
    let (_, body) = send(&router, get(&format!("/v1/readings?{}", names.join("&")))).await;
    assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap().kind, "bad-query");
    for path in
        ["/v1/installations/Pigs", "/v1/installations/%ff", "/v1/packages/sha256:00", "/v1/nothing", "/"]
    {
        let status = status(&router, get(path)).await;
        assert!(status == 404 || (path.contains('%') && status == 400), "{path}: {status}");
    }
    let wrong = request("PUT", "/v1/readings").body(Body::empty()).unwrap();
    let (answer, _) = send(&router, wrong).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.headers()[header::ALLOW].to_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn a_list_of_installs_is_bounded_and_its_errors_have_a_place() {
    let (_, router) = node();
    let digest = format!("sha256:{}", "0".repeat(64));
    let one = |id: &str| json!({"id": id, "package": digest});
    let post = |body: &Json| post_json("/v1/installations", body.to_string());
    let (answer, body) = send(&router, post(&json!([one("a"), one("b")]))).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let seen: Problem = serde_json::from_slice(&body).unwrap();
    let seen: Vec<InstallRequest> = serde_json::from_str(&seen.detail).unwrap();
    assert_eq!(seen.iter().map(|request| request.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let (_, body) = send(&router, post(&json!([one("a"), one("B")]))).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((problem.status, problem.kind.as_str()), (400, "bad-field"));
    assert!(problem.place.as_ref().unwrap().column > Some(80), "{problem:?}");
    for (count, expected) in [(0, 400), (MAX_INSTALLS, 422), (MAX_INSTALLS + 1, 400)] {
        let list: Vec<Json> = (0..count).map(|n| one(&format!("a{n}"))).collect();
        assert_eq!(status(&router, post(&list.into())).await, expected, "{count}");
    }
}

#[tokio::test]
async fn bodies_of_json_are_read_strictly() {
    let (_, router) = node();
    let digest = format!("sha256:{}", "0".repeat(64));
    let install = |body: Json| post_json("/v1/installations", body.to_string());
    let good = json!({"id": "pigs", "package": digest, "bindings": {"weight": "farm/{pig}/weight"},
        "settings": {"breed": "duroc"}, "limits": {"memory": "8 MiB"}, "from": "beginning"});
    let (answer, body) = send(&router, install(good)).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let seen: Problem = serde_json::from_slice(&body).unwrap();
    let [seen]: [InstallRequest; 1] = serde_json::from_str(&seen.detail).unwrap();
    assert_eq!(seen.from, StartFrom::Beginning);
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
        assert_eq!(status(&router, install(wrong.clone())).await, 400, "{wrong}");
    }
    for twice in [
        "\"bindings\":{\"a\":\"x\",\"a\":\"y\"}",
        "\"settings\":{\"a\":1,\"a\":2}",
        "\"grants\":{\"outputs\":{\"a\":{\"allow\":\"1\"},\"a\":{\"allow\":\"2\"}}}",
    ] {
        let body = format!("{{\"id\":\"pigs\",\"package\":\"{digest}\",{twice}}}");
        assert_eq!(status(&router, post_json("/v1/installations", body)).await, 400, "{twice}");
    }
    for (body, expected) in
        [("", 422), ("{\"backlog\":\"drop\"}", 422), ("{\"backlog\":\"eat\"}", 400), ("{", 400)]
    {
        assert_eq!(
            status(&router, post_json("/v1/installations/pigs/resume", body)).await,
            expected,
            "{body}"
        );
    }
    assert_eq!(status(&router, post_json("/v1/installations/pigs/pause", "{\"x\":1}")).await, 400);
    let deep = "[".repeat(100_000);
    assert_eq!(status(&router, post_json("/v1/installations", deep)).await, 400);
}

#[tokio::test]
async fn state_is_shown_as_base64_and_as_json_where_it_is_some() {
    let (_, router) = node();
    let (_, body) = send(&router, get("/v1/installations/pigs/state")).await;
    let expected = "{\"items\":[{\"key\":\"a\",\"value\":{\"base64\":\"eyJuIjoxLjUwfQ==\"},\"json\":{\"n\":1.50}},\
                    {\"key\":\"b\",\"value\":{\"base64\":\"/w==\"}}],\"next\":\"b\"}";
    assert_eq!(String::from_utf8(body).unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_hold_memory_and_then_the_next_is_refused() {
    let (_, api) = api();
    let router = router(api.clone());
    let page = || router.clone().oneshot(get(&format!("/v1/readings?limit={LONG}")));
    let mut unread = Vec::new();
    let refused = loop {
        let answer = page().await.unwrap();
        if answer.status() != StatusCode::OK {
            break answer;
        }
        unread.push(answer);
        assert!(unread.len() <= 16, "there are 64 MiB for all, and each has at least 4 MiB");
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(&router, get("/v1/readings?limit=1")).await, 200, "a short page is never behind them");
    // A text as it is has the same memory.
    let text = || answers::text(&api, StatusCode::OK, JSON_TYPE, vec![b' '; 30 << 20]);
    assert_eq!(text().await.unwrap_err().status, 503);
    drop(unread);
    let two = [text().await.unwrap(), text().await.unwrap()];
    assert_eq!(text().await.unwrap_err().status, 503);
    drop(two);
    assert_eq!(page().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_handler_that_panics_answers() {
    let (_, router) = node();
    let (answer, body) = send(&router, get("/v1/installations/panics")).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap().kind, "internal");
}

#[tokio::test]
async fn what_was_sent_is_not_sent_back_in_full() {
    let (_, router) = node();
    let long = "x".repeat(500_000);
    let body = format!("{{\"point\":\"known\",\"value\":1,\"{long}\":2}}");
    let (answer, body) = send(&router, push("/v1/readings", body)).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(body.len() < 20_000, "{}", body.len());
}

#[tokio::test]
async fn readiness_says_why_not() {
    let (_, router) = node();
    let (answer, body) = send(&router, get("/readyz")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap()["reasons"], json!(["clock"]));
}

#[tokio::test]
async fn every_described_operation_is_there() {
    let (_, router) = node();
    let (_, body) = send(&router, get("/openapi.json")).await;
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
        let (answer, body) = send(&router, request).await;
        let text = String::from_utf8(body).unwrap();
        assert_ne!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert!(!text.contains("there is nothing at"), "{method} {path}");
        // What isn't described is a problem.
        let listed = &described_here["responses"][answer.status().as_str()];
        let is_problem = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
        assert!(listed.is_object() || is_problem, "{method} {path}: {}", answer.status());
    }
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
struct Served {
    listen: std::net::SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn serve(bounds: Bounds) -> Served {
    let (fake, _) = node();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let guard = Guard { listen, hosts: Vec::new() };
    let router = router(Api::new(fake, guard, Metrics::default()));
    let (stop, shutdown) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(super::server::serve_within(listener, router, shutdown, bounds));
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
