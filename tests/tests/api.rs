//! The HTTP API of the real server: readings in and back, bad input on every route, guards, restarts.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use ironloom_tests::apps::{install, number, request, wait_for_installation};
use ironloom_tests::http::{JSON, NDJSON, PACKAGE};
use ironloom_tests::{Client, Setup, described, guests};
use serde_json::{Value, json};

fn push(client: &Client, lines: &[Value]) -> Result<Value> {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    client.push(body.as_bytes(), None)?.json()
}

/// Of each reading, without its time.
fn plain(journal: &[Value]) -> Vec<(u64, String, Value, String)> {
    journal
        .iter()
        .map(|reading| {
            let text = |field: &str| reading[field].as_str().unwrap_or_default().to_owned();
            (
                reading["sequence"].as_u64().unwrap_or_default(),
                text("point"),
                reading["value"].clone(),
                text("quality"),
            )
        })
        .collect()
}

#[test]
fn an_install_from_the_beginning_runs_at_the_time_of_its_readings() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    push(client, &[json!({"point": "a/x/value", "value": 1.0})])?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    let package = guests::package("one-state")?;
    install(client, "sums", &package, json!({"value": ["a/{point}/value"]}), json!({"from": "beginning"}))?;
    wait_for_installation(client, "sums", "its reading", |now| number(now, "counters.readings") == 1)?;
    let invocation = client.all("/v1/installations/sums/invocations")?.swap_remove(0);
    assert_eq!(invocation["time"], client.journal(0, "")?[0]["time"]);
    Ok(())
}

#[test]
fn readings_come_back_as_they_went_in() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let body = concat!(
        r#"{"point":"a/real","value":1.0,"at":"2024-05-01T10:00:00.000000001+02:00"}"#,
        "\n",
        r#"{"point":"a/integer","value":-9223372036854775808,"at":1714550400000000000}"#,
        "\n",
        r#"{"point":"a/small","value":5e-324}"#,
        "\n",
        r#"{"point":"a/text","value":"läuft \"gut\"\n","quality":"uncertain"}"#,
        "\n",
        r#"{"point":"a/boolean","value":true}"#,
        "\n",
        r#"{"point":"a/bad","value":null,"quality":"bad"}"#,
        "\n",
        r#"{"point":"a/real","value":0.1,"at":"1970-01-01T00:00:00Z"}"#,
    );
    let answer = client.push(body.as_bytes(), None)?.json()?;
    assert_eq!(answer, json!({"accepted": 7, "through": 7}));

    let raw = client.get("/v1/readings")?.text();
    let values: Vec<&str> = raw
        .lines()
        .map(|line| {
            line.split("\"value\":").nth(1).and_then(|rest| rest.split(",\"at\"").next()).unwrap_or(line)
        })
        .collect();
    // As text: 1.0 must not come back as the integer 1.
    assert_eq!(
        values,
        ["1.0", "-9223372036854775808", "5e-324", r#""läuft \"gut\"\n""#, "true", "null", "0.1"]
    );

    let journal = client.journal(0, "")?;
    let qualities: Vec<_> =
        journal.iter().map(|reading| reading["quality"].as_str().unwrap_or_default()).collect();
    assert_eq!(qualities, ["good", "good", "good", "uncertain", "good", "bad", "good"]);
    let sequences: Vec<_> = journal.iter().map(|reading| reading["sequence"].as_u64()).collect();
    assert_eq!(sequences, (1..=7).map(Some).collect::<Vec<_>>());
    assert_eq!(journal[0]["at"], "2024-05-01T08:00:00.000000001Z");
    assert_eq!(journal[1]["at"], "2024-05-01T08:00:00.000000000Z");
    assert_eq!(journal[6]["at"], "1970-01-01T00:00:00.000000000Z");

    // The latest is the last in the journal, whatever its `at`.
    let points = client.all("/v1/points?prefix=a/r")?;
    assert_eq!(points.len(), 1);
    assert_eq!((&points[0]["value"], &points[0]["sequence"]), (&json!(0.1), &json!(7)));
    let names: Vec<_> = client.all("/v1/points")?.iter().map(|point| point["point"].clone()).collect();
    assert_eq!(names, ["a/bad", "a/boolean", "a/integer", "a/real", "a/small", "a/text"]);
    Ok(())
}

#[test]
fn the_journal_is_read_by_point_time_and_sequence() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    const NEW_YEAR: u64 = 1_577_836_800_000_000_000;
    let lines: Vec<_> = (0..2_500_u64)
        .map(|n| json!({"point": format!("p/{}", n % 3), "value": n, "at": NEW_YEAR + 1_000_000_000 * (2_500 - n)}))
        .collect();
    push(client, &lines)?;
    let sequences = |query: &str| -> Result<Vec<u64>> {
        Ok(client.journal(0, query)?.iter().filter_map(|reading| reading["sequence"].as_u64()).collect())
    };
    assert_eq!(sequences("")?, (1..=2_500).collect::<Vec<_>>());
    assert_eq!(sequences("point=p/1")?, (1..=2_500).filter(|s| (s - 1) % 3 == 1).collect::<Vec<_>>());
    // `at` falls from 2,500 s of the year to 1 s; `from` counts, `to` doesn't.
    let by_time = sequences("from=2020-01-01T00:10:00Z&to=2020-01-01T00:15:00Z")?;
    let expected: Vec<u64> = (1..=2_500).filter(|s| (600..900).contains(&(2_500 - (s - 1)))).collect();
    assert_eq!(by_time, expected);
    let page = client.get("/v1/readings?after=2490&limit=4")?;
    assert_eq!(page.text().lines().count(), 4);
    assert!(page.next.is_some(), "there is more");
    assert!(client.get("/v1/readings?after=2500")?.text().is_empty());
    assert!(
        client.get("/v1/readings?point=nobody/knows")?.text().is_empty(),
        "a point that nobody knows has no readings"
    );
    let csv = client.send("GET", "/v1/readings?limit=2", &[("accept", "text/csv")], &[])?;
    assert!(csv.content_type.starts_with("text/csv") && csv.text().lines().count() == 3, "{}", csv.text());
    Ok(())
}

#[test]
fn a_request_is_taken_whole_or_not_at_all() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let body = b"{\"point\":\"a\",\"value\":1}\n{\"point\":\"a/../b\",\"value\":2}\nnonsense\n{\"point\":\"c\",\"value\":3}\n";
    let problem = client.push(body, None)?.problem(400)?;
    let lines: Vec<_> = problem["errors"]
        .as_array()
        .map(|errors| errors.iter().filter_map(|error| error["where"]["line"].as_u64()).collect())
        .unwrap_or_default();
    assert_eq!(lines, [2, 3], "{problem}");
    assert!(client.journal(0, "")?.is_empty());
    assert!(client.all("/v1/points")?.is_empty(), "no point comes of a refused request");

    let answer =
        client.send("POST", "/v1/readings?partial=true", &[("content-type", NDJSON)], body)?.json()?;
    assert_eq!((&answer["accepted"], &answer["through"]), (&json!(2), &json!(2)), "{answer}");
    assert_eq!(client.journal(0, "")?.len(), 2);
    Ok(())
}

#[test]
fn the_same_key_and_body_are_taken_once() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let body = br#"{"point":"a","value":1}"#;
    let first = server.client().push(body, Some("key-1"))?.json()?;
    let again = server.client().push(body, Some("key-1"))?.json()?;
    assert_eq!(first["through"], again["through"]);
    assert_eq!(again["duplicate"], true);
    server.client().push(br#"{"point":"a","value":2}"#, Some("key-1"))?.problem(422)?;
    server.client().push(body, Some("key-2"))?.json()?;
    server.client().push(body, Some("a key with a\ttab"))?.problem(400)?;
    server.client().push(body, Some(&"k".repeat(65)))?.problem(400)?;

    // At rest as well, after a clean stop and after a kill.
    ensure!(server.stop()?.success(), "a clean stop");
    let server = setup.start()?;
    assert_eq!(server.client().push(body, Some("key-1"))?.json()?["duplicate"], true);
    server.kill()?;
    let server = setup.start()?;
    assert_eq!(server.client().push(body, Some("key-1"))?.json()?["through"], first["through"]);
    assert_eq!(server.client().journal(0, "")?.len(), 2);
    Ok(())
}

#[test]
fn odd_times_are_kept_or_refused() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let at = |at: Value| json!({"point": "a", "value": 1, "at": at});
    push(
        client,
        &[
            at(json!("2024-01-02T00:00:00Z")),
            at(json!("2024-01-01T00:00:00Z")),
            at(json!("2024-01-01T00:00:00Z")),
        ],
    )?;
    assert_eq!(client.journal(0, "")?.len(), 3, "out of order and doubled readings are readings");
    for wrong in [
        json!("1969-12-31T23:59:59Z"),
        json!("2199-01-01T00:00:00Z"),
        json!(-1),
        json!("yesterday"),
        json!(1.5),
    ] {
        let problem = client.push(at(wrong.clone()).to_string().as_bytes(), None)?.problem(400)?;
        let place = &problem["errors"][0]["where"];
        assert_eq!((&place["line"], &place["field"]), (&json!(1), &json!("at")), "{wrong}: {problem}");
    }
    Ok(())
}

#[test]
fn bad_readings_name_line_and_field() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    // The line, its status, the kind of error and the field that it names, if it is about one.
    let cases = [
        (r#"{"value":1}"#, 400, "missing-field", Some("point")),
        (r#"{"point":"a"}"#, 400, "missing-field", Some("value")),
        (r#"{"point":"a","value":null}"#, 400, "missing-value", Some("value")),
        (r#"{"point":"a","value":[1]}"#, 400, "bad-value", Some("value")),
        (r#"{"point":"a","value":1,"quality":"excellent"}"#, 400, "bad-quality", Some("quality")),
        (r#"{"point":"a","value":1,"colour":"red"}"#, 400, "unknown-field", Some("colour")),
        (r#"{"point":"a","point":"b","value":1}"#, 400, "bad-line", None),
        (r#"{"point":"/a","value":1}"#, 400, "bad-point", Some("point")),
        (r#"{"point":"a//b","value":1}"#, 400, "bad-point", Some("point")),
        (r#"{"point":"a/+","value":1}"#, 400, "bad-point", Some("point")),
        (r#"{"point":"","value":1}"#, 400, "bad-point", Some("point")),
        (r#"{"point":"a","value":1e999}"#, 400, "not-json", None),
        (r#"{"point":"a","value":1"#, 400, "not-json", None),
        (r#"[1,2]"#, 400, "not-an-object", None),
        ("\u{0}", 400, "not-json", None),
        (r#"{"point":"apps/pigs/daily-gain/1","value":1}"#, 403, "reserved-point", Some("point")),
    ];
    for (line, status, kind, field) in cases {
        // The second line is the bad one.
        let body = format!("{}\n{line}\n", json!({"point": "good", "value": 1}));
        let problem = client.push(body.as_bytes(), None)?.problem(status).with_context(|| line.to_owned())?;
        let errors = problem["errors"].as_array().with_context(|| format!("{line}: {problem}"))?;
        ensure!(errors.len() == 1, "{line}: {problem}");
        let (error, place) = (&errors[0], &errors[0]["where"]);
        ensure!(error["kind"] == kind && place["line"] == 2, "{line}: not {kind} of line 2: {problem}");
        ensure!(place["field"].as_str() == field, "{line}: not the field {field:?}: {problem}");
    }
    let deep = "[".repeat(100_000);
    client.push(deep.as_bytes(), None)?.problem(400)?;
    let long = format!(r#"{{"point":"{}","value":1}}"#, "a".repeat(256));
    client.push(long.as_bytes(), None)?.problem(400)?;
    client.push(&[0xff, 0xfe, b'\n'], None)?.problem(400)?;
    let text = json!({"point": "a", "value": "x".repeat((64 << 10) + 1)}).to_string();
    client.push(text.as_bytes(), None)?.problem(400)?;
    assert!(client.journal(0, "")?.is_empty());
    Ok(())
}

#[test]
fn what_is_made_is_told_by_its_place_and_what_is_not_there_is_an_empty_page() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let tar = guests::package("one-state")?.tar();
    let added = client.send("POST", "/v1/packages", &[("content-type", PACKAGE)], &tar)?;
    let (status, location) = (added.status, added.location.clone());
    let digest = added.json()?["digest"].as_str().context("no digest")?.to_owned();
    assert_eq!((status, location), (201, format!("/v1/packages/{digest}")));
    let again = client.send("POST", "/v1/packages", &[("content-type", PACKAGE)], &tar)?;
    assert_eq!((again.status, again.location.as_str()), (200, ""), "nothing was made");
    let body = request("one", &digest, json!({"value": ["room/{what}"]}), json!({}));
    let dry = client.post("/v1/installations?dry-run=true", &body)?;
    assert_eq!((dry.status, dry.location.as_str()), (200, ""));
    let installed = client.post("/v1/installations", &body)?;
    assert_eq!((installed.status, installed.location.as_str()), (201, "/v1/installations/one"));
    assert_eq!(client.get(&installed.location)?.json()?["id"], "one");

    for path in ["/v1/readings?point=new/one", "/v1/installations/one/outputs?point=new/one"] {
        let page = client.send("GET", path, &[("accept", JSON)], &[])?.json()?;
        assert_eq!(page["items"], json!([]), "{path}");
    }
    for path in ["/v1/alarms?after=x", "/v1/alarms?after=1-2", "/v1/readings?after=x"] {
        let problem = client.get(path)?.problem(400)?;
        assert_eq!(
            (&problem["kind"], &problem["where"]["field"]),
            (&json!("bad-parameter"), &json!("after")),
            "{path}"
        );
    }
    Ok(())
}

#[test]
fn it_listens_on_loopback_of_ipv6_too() -> Result<()> {
    let server = Setup::new()?.ip(std::net::Ipv6Addr::LOCALHOST.into()).start()?;
    let client = server.client();
    ensure!(client.url().starts_with("http://[::1]:"), "{}", client.url());
    assert_eq!(client.push_one("room/temperature", 21.5)?, 1);
    let listed = server.cli_json(&["points"])?;
    assert_eq!(listed["items"][0]["point"], "room/temperature");
    // Whom a name server may send here is somebody else.
    let headers = [("host", "loom.example")];
    assert_eq!(client.send("GET", "/v1/points", &headers, &[])?.problem(403)?["kind"], "host");
    Ok(())
}

#[test]
fn names_of_the_host_are_taken_and_no_others() -> Result<()> {
    let config = "[server]\nhosts = [\"loom.example\"]\n";
    let headers = [("host", "loom.example")];
    let setup = Setup::new()?.config(config).signed_only();
    let server = setup.start()?;
    server.client().send("GET", "/v1/points", &headers, &[])?.json()?;
    let other = [("host", "other.example")];
    assert_eq!(server.client().send("GET", "/v1/points", &other, &[])?.problem(403)?["kind"], "host");
    ensure!(server.stop()?.success());
    let server = setup.argument("--insecure-bind").start()?;
    let client = server.client();
    client.send("GET", "/v1/points", &headers, &[])?.json()?;
    assert_eq!(
        client.send("GET", "/v1/points", &[("host", "other.example")], &[])?.problem(403)?["kind"],
        "host"
    );
    assert_eq!(client.get("/readyz")?.json()?["notes"], json!([]), "it listens on loopback all the same");
    Ok(())
}

/// Every route that has a body or parameters, with requests that are wrong in every way.
#[test]
fn no_input_gives_500() -> Result<()> {
    let mut server = Setup::new()?.start()?;
    let client = server.client().clone();
    // So that routes below it come to their own code.
    let real = "real";
    let bindings = json!({"value": ["room/{what}"]});
    install(&client, real, &guests::package("one-state")?, bindings, json!({"settings": {"publish": true}}))?;
    let document = client.get("/openapi.json")?.json()?;
    let paths = document["paths"].as_object().context("the description has no paths")?;
    ensure!(paths.len() >= 15, "the description has only {} paths", paths.len());
    let odd = [
        real,
        "nobody",
        "%00",
        "..%2f..",
        "A",
        "1e9",
        "-1",
        "99999999999999999999",
        "sha256:00",
        "%ff",
        "a%20b",
    ];
    let queries = [
        "",
        "?limit=0",
        "?limit=10001",
        "?limit=x",
        "?after=%ff",
        "?after=-1",
        "?colour=red",
        "?limit=1&limit=2",
        "?from=now",
    ];
    let bodies: [(&str, &[u8]); 8] = [
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, br#"{"id":7}"#),
        (JSON, br#"{"id":"Not An Id","package":"sha256:zz"}"#),
        (NDJSON, b"\xff\xff"),
        (PACKAGE, b"no tar at all"),
        ("text/plain", b"hello"),
    ];
    let mut sent = 0;
    for (path, methods) in paths {
        let is_endless = methods["get"]["responses"]["200"]["content"].get("text/event-stream").is_some();
        for word in odd {
            let filled = fill(path, word);
            for query in queries.into_iter().filter(|query| !is_endless || !query.is_empty()) {
                let answer = client.get(&format!("{filled}{query}"))?;
                ensure!(
                    answer.status < 500 || answer.status == 503,
                    "GET {filled}{query}: {} {}",
                    answer.status,
                    answer.text()
                );
                sent += 1;
            }
            let all = ["post", "delete", "put", "patch", "options", "trace"];
            for method in all.map(str::to_uppercase) {
                for (kind, body) in bodies {
                    // To uninstall it is no bad input.
                    if method == "DELETE" && filled.ends_with(real) {
                        continue;
                    }
                    let answer = client.send(&method, &filled, &[("content-type", kind)], body)?;
                    ensure!(
                        answer.status < 500,
                        "{method} {filled} {kind}: {} {}",
                        answer.status,
                        answer.text()
                    );
                    if answer.status >= 400 {
                        let status = answer.status;
                        answer.problem(status)?;
                    }
                    sent += 1;
                }
            }
            if !path.contains('{') {
                break;
            }
        }
        ensure!(methods.is_object(), "{path} has no methods");
    }
    ensure!(sent > 1_000 && server.is_alive()?);
    assert_eq!(client.installation(real)?["id"], real);
    client.get("/nothing/here")?.problem(404)?;
    Ok(())
}

fn fill(path: &str, word: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { word } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn an_answer_that_is_not_as_described_is_found() -> Result<()> {
    let server = Setup::new()?.start()?;
    let clock = server.client().get("/v1/clock")?.json()?;
    ensure!(described::is_known(), "nothing is held against the description");
    let document = server.client().get("/openapi.json")?.json()?;
    let described = described::Described::new(&document)?;
    let check = |value: &Value| described.check("get", "/v1/clock", 200, JSON, value);
    check(&clock)?;
    for (field, wrong) in [("source", json!("sun")), ("machine", json!(7)), ("more", json!(true))] {
        let mut other = clock.clone();
        other[field] = wrong;
        ensure!(check(&other).is_err(), "{other}");
    }
    Ok(())
}

#[test]
fn the_description_names_every_route() -> Result<()> {
    let server = Setup::new()?.start()?;
    let document = server.client().get("/openapi.json")?.json()?;
    let paths: BTreeSet<&str> =
        document["paths"].as_object().context("no paths")?.keys().map(String::as_str).collect();
    for path in [
        "/v1/readings",
        "/v1/points",
        "/v1/packages",
        "/v1/packages/{digest}",
        "/v1/installations",
        "/v1/installations/{id}",
        "/v1/installations/{id}/pause",
        "/v1/installations/{id}/resume",
        "/v1/installations/{id}/state",
        "/v1/installations/{id}/outputs",
        "/v1/installations/{id}/logs",
        "/v1/installations/{id}/dead-letters",
        "/v1/alarms",
        "/v1/connectors",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(paths.contains(path), "{path} is missing in {paths:?}");
    }
    Ok(())
}

#[test]
fn a_body_is_missed_where_the_description_requires_it() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let document = client.get("/openapi.json")?.json()?;
    let mut looked_at = 0;
    for (path, methods) in document["paths"].as_object().context("no paths")? {
        for (method, described) in methods.as_object().context("a path without methods")? {
            // What must be said of an alarm is missed only where there is one.
            let is_of_alarm = path.ends_with("/shelve") || path.ends_with("/comment");
            let Some(body) = described.get("requestBody").filter(|_| !is_of_alarm) else { continue };
            let answer = client.send(&method.to_uppercase(), &fill(path, "nobody"), &[], b"")?;
            let is_missed = answer.status == 415;
            assert_eq!(body["required"], json!(is_missed), "{method} {path}: {}", answer.text());
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 26);
    Ok(())
}

/// Sends bytes as they are and gives the status.
fn raw(client: &Client, request: &str) -> Result<u16> {
    let address = client.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).with_context(|| format!("no status in {text:?}"))?;
    Ok(status.parse()?)
}

#[test]
fn other_hosts_and_origins_are_kept_out() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let address = client.url().trim_start_matches("http://").to_owned();
    let port = address.rsplit(':').next().context("no port")?.to_owned();
    let get =
        |head: String| raw(client, &format!("GET /v1/points HTTP/1.1\r\n{head}Connection: close\r\n\r\n"));
    assert_eq!(get(format!("Host: {address}\r\n"))?, 200);
    assert_eq!(get(format!("Host: localhost:{port}\r\n"))?, 200);
    assert_eq!(get(format!("Host: evil.example:{port}\r\n"))?, 403);
    assert_eq!(get(format!("Host: {address}\r\nOrigin: http://evil.example\r\n"))?, 403);
    assert_eq!(get(format!("Host: {address}\r\nOrigin: null\r\n"))?, 403);
    assert_eq!(get(format!("Host: {address}\r\nOrigin: http://{address}\r\n"))?, 200);
    assert!((400..500).contains(&get(String::new())?), "no Host at all");

    let body = br#"{"point":"a","value":1}"#;
    client.send("POST", "/v1/readings", &[("content-type", "text/plain")], body)?.problem(415)?;
    client.send("POST", "/v1/readings", &[], body)?.problem(415)?;
    let headers = [("content-type", NDJSON), ("origin", "http://evil.example")];
    client.send("POST", "/v1/readings", &headers, body)?.problem(403)?;
    assert!(client.journal(0, "")?.is_empty());
    let large = vec![b' '; (16 << 20) + 1];
    client.push(&large, None)?.problem(413)?;
    Ok(())
}

#[test]
fn a_folder_belongs_to_one_process() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let status = setup.run_to_end()?;
    assert!(!status.success());
    let said = setup.said();
    assert!(said.contains(&server.pid().to_string()), "it names the process that has the folder: {said}");
    server.client().push_one("a", 1)?;
    Ok(())
}

#[test]
fn everything_is_there_after_a_stop_and_after_a_kill() -> Result<()> {
    let setup = Setup::new()?;
    let mut expected = Vec::new();
    for round in 0..6_u64 {
        let server = setup.start()?;
        let client = server.client();
        assert_eq!(plain(&client.journal(0, "")?), expected, "round {round}");
        let lines: Vec<_> =
            (0..50).map(|n| json!({"point": format!("p/{n}"), "value": round * 100 + n})).collect();
        push(client, &lines)?;
        expected = plain(&client.journal(0, "")?);
        assert_eq!(expected.len() as u64, (round + 1) * 50);
        let latest = client.all("/v1/points")?;
        assert!(latest.iter().all(|point| point["sequence"].as_u64() > Some(round * 50)), "{latest:?}");
        if round % 2 == 0 {
            ensure!(server.stop()?.code() == Some(0), "a clean stop ends with 0");
        } else {
            server.kill()?;
        }
    }
    Ok(())
}

#[test]
fn the_cli_answers_with_the_codes_of_the_manual() -> Result<()> {
    let server = Setup::new()?.start()?;
    server.client().push_one("a/b", 1.5)?;
    let code = |arguments: &[&str]| -> Result<Option<i32>> { Ok(server.cli(arguments)?.status.code()) };
    assert_eq!(code(&["points"])?, Some(0));
    assert_eq!(code(&["list"])?, Some(0));
    assert_eq!(code(&["show", "nobody"])?, Some(4));
    assert_eq!(code(&["no-such-command"])?, Some(2));
    assert_eq!(code(&["install", "/no/such/file.app.tar", "--id", "pigs"])?, Some(1));
    let points = server.cli_json(&["points"])?;
    assert_eq!(points["items"][0]["point"], "a/b", "{points}");
    let nobody = ironloom_tests::server::cli_at("http://127.0.0.1:9", &["list"])?;
    assert_eq!(nobody.status.code(), Some(3));
    assert!(nobody.stdout.is_empty() && !nobody.stderr.is_empty(), "messages go to stderr");
    Ok(())
}
