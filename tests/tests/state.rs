//! An app's state is looked at and repaired by key: only while the app stands still, within its limits, and durably.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::http::{JSON, percent_encode};
use ironloom_tests::model::state_of;
use ironloom_tests::{Answer, Client, Server, Setup, guests};
use serde_json::{Value, json};

/// A server with the guest `one-state`, which keeps count (u64) and sum (f64) of what matches `a/{n}`, little-endian.
fn counting(engine: &str) -> Result<Server> {
    let server = Setup::new()?.config(format!("[store]\nengine = \"{engine}\"\n")).start()?;
    let package = guests::package("one-state")?;
    install(server.client(), "sums", &package, json!({"value": ["a/{n}"]}), json!({}))?;
    Ok(server)
}

fn path(key: &str) -> String {
    format!("/v1/installations/sums/state/{}", percent_encode(key))
}

fn put(client: &Client, key: &str, value: &Value) -> Result<Answer> {
    client.send("PUT", &path(key), &[("content-type", JSON)], value.to_string().as_bytes())
}

fn post(client: &Client, deed: &str) -> Result<Value> {
    client.post(&format!("/v1/installations/sums/{deed}"), &json!({}))?.json()
}

fn sum(count: u64, sum: f64) -> Vec<u8> {
    [count.to_le_bytes(), sum.to_le_bytes()].concat()
}

/// Pushes a reading and waits until it is dealt with.
fn taken(client: &Client, point: &str, value: f64) -> Result<()> {
    let sequence = client.push_one(point, value)?;
    wait_for_installation(client, "sums", "it to be taken", |now| number(now, "cursor") >= sequence)?;
    Ok(())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_repaired_state_outlives_the_process_and_the_app_goes_on_from_it() -> Result<()> {
    for engine in ["redb", "sled"] {
        let server = counting(engine)?;
        let client = server.client();
        taken(client, "a/1", 2.0)?;
        taken(client, "a/2", 5.0)?;
        post(client, "pause")?;
        let set = put(client, "1", &json!({"base64": BASE64.encode(sum(40, 0.5))}))?.json()?;
        assert_eq!(set["key"], "1");
        client.delete(&path("2"))?.json()?;
        let odd = "herd/ä b%?#";
        let kept = "{\"n\":1.50, \"m\": null}";
        let body = format!("{{\"json\":{kept}}}");
        let answer = client.send("PUT", &path(odd), &[("content-type", JSON)], body.as_bytes())?;
        assert!(answer.text().contains(kept), "{}", answer.text());

        let server = server.restarted()?;
        let client = server.client();
        let shown = client.get(&path(odd))?.json()?;
        assert_eq!(shown["value"]["base64"], BASE64.encode(kept), "as it was sent, to the byte");
        client.get(&path("2"))?.problem(404)?;
        client.delete(&path(odd))?.json()?;
        assert_eq!(state_of(client, "sums")?, [("1".to_owned(), (40, 0.5))].into());
        post(client, "resume")?;
        taken(client, "a/1", 1.0)?;
        taken(client, "a/2", 7.0)?;
        let expected = [("1".to_owned(), (41, 1.5)), ("2".to_owned(), (1, 7.0))];
        assert_eq!(state_of(client, "sums")?, expected.into(), "{engine}");

        // From the store as well.
        let setup = server.setup().clone();
        ensure!(server.stop()?.success());
        let server = setup.start()?;
        assert_eq!(state_of(server.client(), "sums")?[&"1".to_owned()], (41, 1.5));
    }
    Ok(())
}

#[test]
fn what_a_state_cant_have_is_refused_by_name() -> Result<()> {
    let server = counting("redb")?;
    let client = server.client();
    taken(client, "a/1", 2.0)?;
    let running = put(client, "1", &json!({"json": 1}))?.problem(409)?;
    assert_eq!(running["kind"], "not-paused");
    assert_eq!(running["hints"], json!(["Pause it first: `ironloom pause sums`."]));
    client.delete(&path("1"))?.problem(409)?;
    post(client, "pause")?;
    let long = "k".repeat(513);
    for (key, value, status, kind) in [
        (long.as_str(), json!({"json": 1}), 400, "invalid-key"),
        ("two\nlines", json!({"json": 1}), 400, "invalid-key"),
        ("k", json!({"json": 1, "text": "a"}), 400, "bad-field"),
        ("k", json!({}), 400, "bad-field"),
        ("k", json!({"base64": "!"}), 400, "bad-field"),
        ("k", json!({"value": 1}), 400, "bad-field"),
        ("k", json!({"text": "x".repeat((256 << 10) + 1)}), 413, "too-large"),
    ] {
        let problem = put(client, key, &value)?.problem(status)?;
        assert_eq!(problem["kind"], kind, "{key}: {problem}");
    }
    put(client, &long[..512], &json!({"text": "x".repeat(256 << 10)}))?.json()?;
    assert_eq!(put(client, "null", &json!({"json": null}))?.json()?["json"], Value::Null);
    assert_eq!(client.get(&path("null"))?.json()?["value"]["base64"], BASE64.encode("null"));
    client.delete(&path("nothing"))?.problem(404)?;

    // 512 KiB in all: each key counts its bytes and 128 more.
    client.patch("/v1/installations/sums", &json!({"limits": {"state": "512 KiB"}}))?.json()?;
    put(client, "second", &json!({"text": "x".repeat(254 << 10)}))?.json()?;
    let full = put(client, "third", &json!({"text": "x"}))?.json();
    assert!(full.is_ok(), "there is some room: {full:?}");
    let full = put(client, "fourth", &json!({"text": "x".repeat(2 << 10)}))?.problem(422)?;
    assert_eq!(full["kind"], "quota-exceeded");
    assert!(full["detail"].as_str().is_some_and(|detail| detail.contains("524288")), "{full}");
    put(client, "second", &json!({"text": "less"}))?.json()?;
    put(client, "fourth", &json!({"text": "x".repeat(2 << 10)}))?.json()?;
    Ok(())
}

#[test]
fn the_command_line_gets_sets_and_deletes() -> Result<()> {
    let server = counting("redb")?;
    let client = server.client();
    taken(client, "a/1", 2.0)?;
    let refused = server.cli(&["state", "set", "sums", "note", "1"])?;
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    assert!(said(&refused).contains("ironloom pause sums"), "{}", said(&refused));
    post(client, "pause")?;
    let file = server.setup().folder().join("value");
    std::fs::write(&file, sum(3, -1.0))?;
    let file = file.to_str().context("no text")?;
    for arguments in [
        &["state", "set", "sums", "1", "--file", file][..],
        &["state", "set", "sums", "note", "{\"a\": 1}"],
        &["state", "set", "sums", "text", "--text", "-x"],
        &["state", "set", "sums", "gone", "--base64", "AAE="],
        &["state", "delete", "sums", "gone"],
        &["state", "set", "sums", "day/7\\tpigs", "7"],
    ] {
        let output = server.cli(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    for (key, value) in [("1", &sum(3, -1.0)[..]), ("note", b"{\"a\": 1}"), ("text", b"-x")] {
        assert_eq!(server.cli(&["state", "get", "sums", key])?.stdout, value, "{key}");
    }
    // A key of two parts as the list shows it.
    let parts = server.cli(&["state", "list", "sums", "--prefix", "day/"])?;
    let parts = String::from_utf8_lossy(&parts.stdout).into_owned();
    ensure!(parts.contains("day/7\\tpigs"), "{parts}");
    assert_eq!(server.client().get(&path("day/7\tpigs"))?.json()?["json"], 7);
    assert_eq!(server.cli(&["state", "get", "sums", "day/7\\tpigs"])?.stdout, b"7");
    let output = server.cli(&["state", "delete", "sums", "day/7\\tpigs"])?;
    ensure!(output.status.success(), "{}", said(&output));
    let gone = server.cli(&["state", "get", "sums", "gone"])?;
    assert_eq!(gone.status.code(), Some(4), "{}", said(&gone));
    let not_json = server.cli(&["state", "set", "sums", "note", "plain"])?;
    assert_eq!(not_json.status.code(), Some(2), "{}", said(&not_json));
    assert!(said(&not_json).contains("--text"), "{}", said(&not_json));
    let nothing = server.cli(&["state", "set", "sums", "note"])?;
    assert_eq!(nothing.status.code(), Some(2), "{}", said(&nothing));
    for listed in [&["state", "sums"][..], &["state", "list", "sums"]] {
        let listed = server.cli_json(listed)?;
        let keys = listed["items"].as_array().context("no list")?.iter().map(|item| item["key"].clone());
        assert_eq!(keys.collect::<Vec<_>>(), ["1", "note", "text"]);
    }
    Ok(())
}

#[test]
fn a_replay_ends_where_a_person_changed_the_state() -> Result<()> {
    let server = counting("redb")?;
    let client = server.client();
    taken(client, "a/1", 2.0)?;
    taken(client, "a/1", 3.0)?;
    post(client, "pause")?;
    put(client, "1", &json!({"base64": BASE64.encode(sum(0, 0.0))}))?.json()?;
    post(client, "resume")?;
    taken(client, "a/1", 4.0)?;
    let replay = |body: Value| client.post("/v1/installations/sums/replay", &body);
    let all = replay(json!({}))?.json()?;
    assert_eq!((&all["same"], &all["compared"]), (&json!(true), &json!(2)), "{all}");
    assert_eq!((&all["through"], &all["repaired"]), (&json!(2), &json!(3)), "{all}");
    let before = replay(json!({"to": 2}))?.json()?;
    assert_eq!((&before["compared"], &before["repaired"]), (&json!(2), &Value::Null), "{before}");
    let behind = replay(json!({"from": 3}))?.problem(422)?;
    assert!(behind["detail"].as_str().is_some_and(|text| text.contains("before invocation 3")), "{behind}");
    client.get("/v1/installations/sums/capsule?last=1")?.problem(422)?;
    let said = server.cli(&["replay", "sums", "--check"])?;
    ensure!(said.status.success());
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.contains("a person changed the state before invocation 3"), "{text}");
    Ok(())
}
