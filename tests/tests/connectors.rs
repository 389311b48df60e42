//! Connectors that are added, changed, stopped, started and removed over API and CLI, held until apps are there, and what they
//! count.

use std::fs;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::amqtt::Message;
use ironloom_tests::apps::install;
use ironloom_tests::http::{Answer, JSON, NDJSON};
use ironloom_tests::mosquitto::{LOSSLESS, Mosquitto};
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

fn put(client: &Client, name: &str, table: &Value) -> Result<Answer> {
    let path = format!("/v1/connectors/{name}");
    client.send("PUT", &path, &[("content-type", JSON)], table.to_string().as_bytes())
}

fn deed(client: &Client, name: &str, deed: &str) -> Result<Answer> {
    client.post(&format!("/v1/connectors/{name}/{deed}"), &json!({}))
}

fn show(client: &Client, name: &str) -> Result<Value> {
    client.get(&format!("/v1/connectors/{name}"))?.json()
}

fn wait_for_state(client: &Client, name: &str, state: &str) -> Result<()> {
    wait_until(state, || Ok(show(client, name)?["state"] == state))
}

/// Points and values of the journal.
fn readings(client: &Client) -> Result<Vec<(String, Value)>> {
    let of = |reading: &Value| {
        (reading["point"].as_str().unwrap_or_default().to_owned(), reading["value"].clone())
    };
    Ok(client.journal(0, "")?.iter().map(of).collect())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The keys of a connector that takes `TOPIC/{n}` to `TOPIC/{n}`.
fn mqtt(broker: &Mosquitto, topic: &str) -> Value {
    let pattern = format!("{topic}/{{n}}");
    json!({
        "kind": "mqtt", "broker": broker.url(), "client_id": "ironloom-test", "topics": {&pattern: {"point": pattern}},
    })
}

fn csv(path: &str) -> Value {
    json!({"kind": "csv", "path": path, "at": "at", "columns": {"v": {"point": "csv/v"}}})
}

const FILE: &str = "at,v\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:01Z,2\n";

#[test]
fn a_connector_is_added_changed_stopped_started_and_removed_without_a_restart() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "a connector that is added")? else { return Ok(()) };
    let server = Setup::new()?.start()?;
    let client = server.client();
    let added = put(client, "plant", &mqtt(&broker, "a"))?;
    assert_eq!((added.status, &*added.location), (201, "/v1/connectors/plant"));
    let status = added.json()?;
    assert_eq!((&status["origin"], &status["stopped"]), (&json!("api"), &json!(false)));
    wait_for_state(client, "plant", "running")?;
    broker.send(&Message::new("a/1", "1"))?;
    wait_until("the first", || Ok(readings(client)?.len() == 1))?;

    // As it was: nothing is touched, and nothing is written.
    let connected = show(client, "plant")?["broker"]["connected_since"].clone();
    assert_eq!(put(client, "plant", &mqtt(&broker, "a"))?.status, 200);
    assert_eq!(show(client, "plant")?["broker"]["connected_since"], connected);
    // Another one doesn't touch it, either.
    fs::write(server.setup().folder().join("x.csv"), FILE)?;
    let path = server.setup().folder().join("x.csv").display().to_string();
    assert_eq!(put(client, "copy", &csv(&path))?.status, 201);
    wait_for_state(client, "copy", "done")?;
    assert_eq!(show(client, "plant")?["broker"]["connected_since"], connected);
    assert_eq!(readings(client)?.len(), 3);

    // Other topics in the place of those before.
    let changed = put(client, "plant", &mqtt(&broker, "b"))?;
    assert_eq!(changed.status, 200);
    assert_eq!(show(client, "plant")?["table"], mqtt(&broker, "b"));
    wait_for_state(client, "plant", "running")?;
    broker.send(&Message::new("a/1", "8"))?;
    broker.send(&Message::new("b/1", "2"))?;
    wait_until("the second", || Ok(readings(client)?.contains(&("b/1".to_owned(), json!(2.0)))))?;
    // What it has brought counts on.
    assert_eq!(show(client, "plant")?["readings"], 2);

    let stopped = deed(client, "plant", "stop")?.json()?;
    assert_eq!((&stopped["state"], &stopped["stopped"]), (&json!("stopped"), &json!(true)));
    assert_eq!(client.get("/readyz")?.status, 200);
    broker.send(&Message::new("b/1", "3"))?;
    broker.send(&Message::new("b/1", "4"))?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(readings(client)?.len(), 4);
    // It stays so over a restart and a change, and the broker has what comes meanwhile.
    let server = server.restarted()?;
    let client = server.client();
    assert_eq!(show(client, "plant")?["stopped"], true);
    assert_eq!(put(client, "plant", &mqtt(&broker, "b"))?.json()?["state"], "stopped");
    assert_eq!(readings(client)?.len(), 4);
    assert_eq!(deed(client, "plant", "start")?.json()?["stopped"], false);
    let both = [("b/1".to_owned(), json!(3.0)), ("b/1".to_owned(), json!(4.0))];
    wait_until("what waited", || Ok(readings(client)?[4..] == both))?;

    assert_eq!(client.delete("/v1/connectors/plant")?.status, 204);
    client.get("/v1/connectors/plant")?.problem(404)?;
    client.delete("/v1/connectors/plant")?.problem(404)?;
    deed(client, "plant", "start")?.problem(404)?;
    let server = server.restarted()?;
    let list = server.client().get("/v1/connectors")?.json()?;
    let names: Vec<_> =
        list["items"].as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["copy"]);
    // The file was read, and isn't read again.
    wait_for_state(server.client(), "copy", "done")?;
    assert_eq!(readings(server.client())?.len(), 6);
    Ok(())
}

#[test]
fn a_removed_connector_of_the_same_name_begins_anew_and_a_stopped_one_goes_on() -> Result<()> {
    let server = Setup::new()?.config("").start()?;
    let client = server.client();
    fs::write(server.setup().folder().join("x.csv"), FILE)?;
    put(client, "copy", &csv("x.csv"))?.json()?;
    wait_for_state(client, "copy", "done")?;
    deed(client, "copy", "stop")?.json()?;
    deed(client, "copy", "start")?.json()?;
    wait_for_state(client, "copy", "done")?;
    assert_eq!(readings(client)?.len(), 2);
    assert_eq!(client.delete("/v1/connectors/copy")?.status, 204);
    put(client, "copy", &csv("x.csv"))?.json()?;
    wait_for_state(client, "copy", "done")?;
    assert_eq!(readings(client)?.len(), 4);
    // Its place is as durable as before.
    let server = server.restarted()?;
    wait_for_state(server.client(), "copy", "done")?;
    assert_eq!(readings(server.client())?.len(), 4);
    Ok(())
}

#[test]
fn what_was_answered_is_there_after_a_kill() -> Result<()> {
    let setup = Setup::new()?;
    fs::write(setup.folder().join("x.csv"), FILE)?;
    let path = setup.folder().join("x.csv").display().to_string();
    let mut server = setup.start()?;
    for round in 0..4 {
        let name = format!("copy-{round}");
        assert_eq!(put(server.client(), &name, &csv(&path))?.status, 201);
        server = server.restarted()?;
        assert_eq!(show(server.client(), &name)?["table"], csv(&path));
        deed(server.client(), &name, "stop")?.json()?;
        server = server.restarted()?;
        assert_eq!(show(server.client(), &name)?["stopped"], true);
        if round % 2 == 0 {
            assert_eq!(server.client().delete(&format!("/v1/connectors/{name}"))?.status, 204);
            server = server.restarted()?;
            server.client().get(&format!("/v1/connectors/{name}"))?.problem(404)?;
        }
    }
    // After a clean stop, too, when it is in the store.
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let list = server.client().get("/v1/connectors")?.json()?;
    let names: Vec<_> =
        list["items"].as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["copy-1", "copy-3"]);
    Ok(())
}

fn herd(path: &str) -> String {
    format!(
        "[connectors.herd]\nkind = \"csv\"\npath = \"{path}\"\nat = \"at\"\n[connectors.herd.columns.v]\npoint = \"herd/v\"\n"
    )
}

#[test]
fn what_the_file_names_is_the_files_but_for_a_stop() -> Result<()> {
    let setup = Setup::new()?;
    fs::write(setup.folder().join("x.csv"), FILE)?;
    let server = setup.clone().config(herd("x.csv")).start()?;
    let client = server.client();
    wait_for_state(client, "herd", "done")?;
    assert_eq!(show(client, "herd")?["origin"], "file");
    for answer in [put(client, "herd", &csv("x.csv"))?, client.delete("/v1/connectors/herd")?] {
        let problem = answer.problem(409)?;
        assert_eq!(problem["kind"], "of-file");
        let said = problem.to_string();
        ensure!(said.contains("ironloom.toml") && said.contains("ironloom reload"), "{said}");
    }
    assert_eq!(deed(client, "herd", "stop")?.json()?["stopped"], true);
    let server = server.restarted()?;
    assert_eq!(show(server.client(), "herd")?["state"], "stopped");
    assert_eq!(deed(server.client(), "herd", "start")?.json()?["stopped"], false);
    wait_for_state(server.client(), "herd", "done")?;

    // A name that the log has first: the file's counts from its reload on, and a warning says so.
    let client = server.client();
    assert_eq!(put(client, "late", &csv("x.csv"))?.status, 201);
    wait_until("it", || Ok(readings(client)?.len() == 4))?;
    let late = herd("x.csv").replace("herd", "late");
    fs::write(setup.folder().join("ironloom.toml"), herd("x.csv") + &late)?;
    let reloaded = client.post("/v1/reload", &json!({}))?.json()?;
    ensure!(reloaded["notes"].to_string().contains("connectors remove late"), "{reloaded}");
    let status = show(client, "late")?;
    assert_eq!(status["origin"], "file");
    ensure!(status["note"].as_str().is_some_and(|note| note.contains("its keys count")), "{status}");
    ensure!(setup.said().contains("its keys count"), "{}", setup.said());
    // What the log has of it goes; the file's stays.
    assert_eq!(client.delete("/v1/connectors/late")?.status, 204);
    ensure!(show(client, "late")?["note"].is_null());
    client.delete("/v1/connectors/late")?.problem(409)?;
    Ok(())
}

#[test]
fn what_cant_be_is_refused_with_all_that_is_wrong() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let wrong = json!({"kind": "mqtt", "client_id": 7, "topics": {"a/{n}": {"point": "p", "colour": "red"}}});
    let problem = put(client, "plant", &wrong)?.problem(422)?;
    assert_eq!(problem["kind"], "configuration");
    let mut fields: Vec<_> = problem["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|error| error["where"]["field"].as_str())
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["broker", "client_id", "topics.\"a/{n}\".colour"]);
    for (name, body, status) in [
        ("plant", json!({"kind": "smoke"}), 422),
        ("plant", json!({"kind": "csv", "path": null}), 400),
        ("plant", json!([1]), 400),
        ("two%20words", csv("x.csv"), 422),
        ("plant", json!({"kind": "csv", "path": "x".repeat(65_536)}), 413),
    ] {
        put(client, name, &body)?.problem(status)?;
    }
    client.get("/v1/connectors/plant")?.problem(404)?;
    // A secret stands in a file or the environment, never in the keys.
    let secret = json!({"kind": "mqtt", "broker": "mqtt://u:secret@plant", "client_id": "c", "topics": {"a": {"point": "p"}}});
    let problem = put(client, "plant", &secret)?.problem(422)?;
    ensure!(!problem.to_string().contains("secret@"), "{problem}");
    // As many as there may be, and one more.
    for number in 0..256 {
        let answer = put(client, &format!("c{number}"), &csv("none.csv"))?;
        ensure!(answer.status == 201, "{number}: {}", answer.text());
        deed(client, &format!("c{number}"), "stop")?.json()?;
    }
    assert_eq!(put(client, "more", &csv("none.csv"))?.problem(422)?["kind"], "too-many-connectors");
    assert_eq!(put(client, "c7", &csv("other.csv"))?.status, 200);
    Ok(())
}

#[test]
fn a_connector_is_held_until_its_apps_are_there() -> Result<()> {
    let setup = Setup::new()?;
    fs::write(setup.folder().join("x.csv"), FILE)?;
    let server = setup.clone().config("").start()?;
    let client = server.client();
    let mut table = csv("x.csv");
    table["wait_for"] = json!(["sums", "more"]);
    assert_eq!(put(client, "copy", &table)?.status, 201);
    wait_until("both", || Ok(show(client, "copy")?["waits_for"] == json!(["sums", "more"])))?;
    assert_eq!(show(client, "copy")?["state"], "held");
    assert_eq!(client.get("/readyz")?.status, 200);
    let package = guests::package("one-state")?;
    let bindings = json!({"value": ["csv/{point}"]});
    install(client, "sums", &package, bindings.clone(), json!({}))?;
    wait_until("one", || Ok(show(client, "copy")?["waits_for"] == json!(["more"])))?;
    let shown = said(&server.cli(&["connectors", "show", "copy"])?);
    ensure!(shown.contains("held, until there is more"), "{shown}");
    // Held over a restart as well.
    let server = server.restarted()?;
    let client = server.client();
    wait_for_state(client, "copy", "held")?;
    assert_eq!(readings(client)?.len(), 0);
    install(client, "more", &package, bindings, json!({}))?;
    wait_for_state(client, "copy", "done")?;
    assert_eq!(readings(client)?.len(), 2);
    ensure!(show(client, "copy")?["waits_for"].is_null());
    // One that is held can be stopped.
    table["wait_for"] = json!(["nobody"]);
    put(client, "copy", &table)?.json()?;
    wait_for_state(client, "copy", "held")?;
    assert_eq!(deed(client, "copy", "stop")?.json()?["state"], "stopped");
    Ok(())
}

#[test]
fn whatever_is_passed_over_is_counted_by_reason() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "counts by reason")? else { return Ok(()) };
    let setup = Setup::new()?;
    let lines = "at,pig,v\n2026-01-01T00:00:00Z,1,1\nyesterday,1,1\n2026-01-01T00:00:01Z,1\n2026-01-01T00:00:02Z,,1\n\
                 2026-01-01T00:00:03Z,1,NA\n2026-01-01T00:00:04Z,2,1\n";
    fs::write(setup.folder().join("x.csv"), lines)?;
    let server = setup.clone().config("[points.\"pig/2\"]\nunit = \"g\"\n").start()?;
    let client = server.client();
    client.push_one("pig/2", 1)?;
    let table = json!({
        "kind": "csv", "path": "x.csv", "at": "at", "columns": {"v": {"point": "pig/{pig}", "unit": "kg"}},
    });
    put(client, "herd", &table)?.json()?;
    wait_for_state(client, "herd", "done")?;
    let counts = json!({"time": 1, "unreadable": 1, "no-point": 1, "missing": 1, "unit": 1});
    assert_eq!(show(client, "herd")?["passed_over"], counts);

    let mut table = mqtt(&broker, "a");
    // The point has this value already.
    client.push_one("a/kept", 1.0)?;
    table["topics"]["t/{n}"] = json!({"point": "pig/{n}", "unit": "kg"});
    broker.send(&Message::new("a/kept", "1").retained())?;
    put(client, "plant", &table)?.json()?;
    wait_for_state(client, "plant", "running")?;
    for (topic, payload) in [
        ("a/1", "hot".to_owned()),
        ("a/1", "[1]".to_owned()),
        ("t/2", "1".to_owned()),
        ("a/", "1".to_owned()),
        ("a/1", "1".to_owned()),
    ] {
        broker.send(&Message::new(topic, payload))?;
    }
    let counts = json!({"unreadable": 1, "type": 1, "unit": 1, "no-point": 1, "retained": 1});
    wait_until("all of it", || Ok(show(client, "plant")?["passed_over"] == counts))?;
    let shown = said(&server.cli(&["connectors", "show", "plant"])?);
    ensure!(shown.contains("1 no-point, 1 retained, 1 type, 1 unit, 1 unreadable"), "{shown}");
    let pushed = b"{\"point\":\"a/b\",\"value\":1}\n{\"point\":\"a//b\",\"value\":1}\n{\"value\":1}\n{\"value\":2}\nno\n";
    let answer =
        client.send("POST", "/v1/readings?partial=true", &[("content-type", NDJSON)], pushed)?.json()?;
    assert_eq!(answer["refused"], 4);
    // A change leaves the counts.
    table["retained"] = json!("all");
    put(client, "plant", &table)?.json()?;
    let metrics = client.get("/metrics")?.text();
    for line in [
        "ironloom_connector_passed_over_total{connector=\"herd\",reason=\"missing\"} 1",
        "ironloom_connector_passed_over_total{connector=\"plant\",reason=\"unit\"} 1",
        "ironloom_connector_passed_over_total{connector=\"plant\",reason=\"retained\"} 1",
        "ironloom_push_passed_over_total{reason=\"bad-point\"} 1",
        "ironloom_push_passed_over_total{reason=\"missing-field\"} 2",
        "ironloom_push_passed_over_total{reason=\"not-json\"} 1",
    ] {
        ensure!(metrics.lines().any(|own| own == line), "{line} isn't in\n{metrics}");
    }
    Ok(())
}

/// Runs a command that succeeds.
fn run(server: &Server, arguments: &[&str]) -> Result<String> {
    let output = server.cli(arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", said(&output));
    Ok(said(&output))
}

#[test]
fn the_command_line_does_all_of_it() -> Result<()> {
    let setup = Setup::new()?;
    fs::write(setup.folder().join("x.csv"), FILE)?;
    let server = setup.clone().config("").start()?;
    let client = server.client();
    let section = setup.folder().join("section.toml");
    fs::write(&section, herd("none.csv"))?;
    let section = section.to_str().context("no path")?;
    let added = run(&server, &["connectors", "add", "herd", "--file", section, "path=x.csv"])?;
    ensure!(added.contains("herd, csv") && added.contains("added over the API"), "{added}");
    wait_for_state(client, "herd", "done")?;
    assert_eq!(show(client, "herd")?["table"]["path"], "x.csv");
    run(&server, &["connectors", "set", "herd", "columns.v.point=other/v", "missing=[\"-\"]"])?;
    assert_eq!(show(client, "herd")?["table"]["columns"], json!({"v": {"point": "other/v"}}));
    run(&server, &["connectors", "set", "herd", "--unset", "missing"])?;
    ensure!(show(client, "herd")?["table"]["missing"].is_null());
    ensure!(run(&server, &["connectors", "stop", "herd"])?.contains("herd is stopped"));
    let shown = run(&server, &["connectors", "show", "herd"])?;
    ensure!(shown.contains("stopped, until somebody starts it"), "{shown}");
    let list = run(&server, &["connectors"])?;
    ensure!(list.contains("stopped"), "{list}");
    ensure!(run(&server, &["connectors", "start", "herd"])?.contains("herd is started"));
    ensure!(run(&server, &["connectors", "remove", "herd"])?.contains("herd is removed"));
    for (arguments, code, part) in [
        (&["add", "x", "kind=smoke"][..], 1, "kind: \"smoke\" is not a kind of connector"),
        (&["add", "x"], 2, "it has no keys"),
        (&["set", "herd", "a=1"], 4, "there is no connector herd"),
        (&["add", "x", "nothing"], 2, "write it as KEY=VALUE"),
        (&["remove", "herd"], 4, "there is no connector herd"),
    ] {
        let output = server.cli(&[&["connectors"], arguments].concat())?;
        let told = said(&output);
        ensure!(output.status.code() == Some(code) && told.contains(part), "{arguments:?}: {told}");
    }
    Ok(())
}
