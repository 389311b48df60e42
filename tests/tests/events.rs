//! What happens on the site, as events: told as it happens, resumed by id, and filtered.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::guests::workspace;
use ironloom_tests::listener::Listener;
use ironloom_tests::{Setup, guests, wait_until};
use serde_json::{Value, json};

fn is(event: &Value, kind: &str, field: &str, value: &str) -> bool {
    event["kind"] == kind && event[field] == value
}

#[test]
fn what_happens_is_told_as_it_happens() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    let mut all = Listener::new(client, "", None)?;
    let thermometer = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    install(client, "rooms", &thermometer, json!({"temperature": ["house/{room}"]}), json!({}))?;
    all.wait("the package", |event| is(event, "package", "change", "added"))?;
    all.wait("the installation", |event| is(event, "installation", "state", "installed"))?;
    let mut alarms = Listener::new(client, "kinds=alarm&installation=rooms", None)?;
    for temperature in [31.0, 20.0] {
        let sequence = client.push_one("house/attic", temperature)?;
        wait_for_installation(client, "rooms", "done", |shown| number(shown, "cursor") >= sequence)?;
    }
    client.post("/v1/alarms/1-1/ack", &json!({"by": "Ann"}))?.json()?;
    for change in ["raised", "cleared", "acknowledged"] {
        let event = alarms.wait(change, |event| is(event, "alarm", "change", change))?;
        assert_eq!(event["alarm"], "1-1", "{event}");
        assert_eq!((&event["code"], &event["entity"]), (&json!("too-warm"), &json!("attic")));
    }
    // The end of a shelf is told where it comes by itself, too.
    let sequence = client.push_one("house/attic", 33.0)?;
    wait_for_installation(client, "rooms", "done", |shown| number(shown, "cursor") >= sequence)?;
    client.post("/v1/alarms/1-2/shelve", &json!({"for": "2 s"}))?.json()?;
    for change in ["shelved", "unshelved"] {
        alarms.wait(change, |event| is(event, "alarm", "change", change) && event["alarm"] == "1-2")?;
    }
    client.post("/v1/installations/rooms/pause", &json!({}))?.json()?;
    let paused = all.wait("the pause", |event| is(event, "installation", "state", "paused"))?;
    let json = [("content-type", ironloom_tests::http::JSON)];
    client.send("PUT", "/v1/installations/rooms/state/note", &json, b"{\"json\":1}")?.json()?;
    let repaired = all.wait("the repair", |event| is(event, "state", "change", "set"))?;
    assert_eq!((&repaired["installation"], &repaired["key"]), (&json!("rooms"), &json!("note")));
    assert_eq!(alarms.seen.len(), 6, "{:?}", alarms.seen);

    // Whoever comes back goes on behind the last event, and misses none.
    let raised = all.wait("the alarm", |event| is(event, "alarm", "change", "raised"))?;
    let id = raised["id"].as_str().context("no id")?;
    let mut again = Listener::new(client, "", Some(id))?;
    again.wait("the pause", |event| *event == paused)?;
    assert_eq!(again.seen[0]["change"], "cleared", "{:?}", again.seen);
    // An id from before a restart gives a gap.
    let last = paused["id"].as_str().context("no id")?.to_owned();
    drop((all, alarms, again));
    server.stop()?;
    let server = setup.start()?;
    let client = server.client();
    let mut later = Listener::new(client, "", Some(&last))?;
    let gap = later.wait("the gap", |event| event["kind"] == "gap")?;
    assert_eq!(gap["lost"], Value::Null, "{gap}");
    client.post("/v1/installations/rooms/resume", &json!({"backlog": "keep"}))?.json()?;
    later.wait("what comes", |event| is(event, "installation", "state", "running"))?;

    client.get("/v1/events?kinds=fire")?.problem(400)?;
    let listeners: Vec<_> = (1..64).map(|_| Listener::new(client, "", None)).collect::<Result<_>>()?;
    client.get("/v1/events")?.problem(503)?;
    drop(listeners);
    Ok(())
}

#[test]
fn whoever_listens_to_an_installation_that_never_was_is_told() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    let missing = client.get("/v1/events?installation=nope")?.problem(404)?;
    assert_eq!(missing["detail"], "there is no installation nope, nor are there events of one");
    // Commands that follow end with it as well, and don't wait.
    for command in [&["events", "--installation", "nope"][..], &["logs", "-f", "nope"]] {
        let output = server.cli(command)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(4) && said.contains("there is no installation nope"), "{said}");
    }
    install(client, "rooms", &guests::package("one-state")?, json!({"value": ["a/{n}"]}), json!({}))?;
    let mut listener = Listener::new(client, "installation=rooms", None)?;
    client.post("/v1/installations/rooms/pause", &json!({}))?.json()?;
    let paused = listener.wait("the pause", |event| is(event, "installation", "state", "paused"))?;
    // One that was uninstalled lately has events, and after a restart what is kept of it.
    client.delete("/v1/installations/rooms")?.json()?;
    listener.wait("its end", |event| is(event, "installation", "state", "uninstalled"))?;
    drop(Listener::new(client, "installation=rooms", None)?);
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    drop(Listener::new(server.client(), "installation=rooms", None)?);
    // Whoever goes on has listened before.
    let last = paused["id"].as_str().context("no id")?;
    let mut later = Listener::new(server.client(), "installation=nope", Some(last))?;
    later.wait("the gap", |event| event["kind"] == "gap")?;
    Ok(())
}

#[test]
fn the_command_line_listens_until_the_server_is_back() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let mut command = Command::new(ironloom_tests::server::binary()?);
    command.args(["events", "--json"]).env("IRONLOOM_URL", server.client().url());
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no stdout")?);
    let digest = guests::package("one-state")?.tar();
    // It may not listen yet: what it misses is told to nobody, so the package comes and goes until it is told.
    let (to, told) = channel();
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        let _ = out.read_line(&mut line);
        let _ = to.send(line);
        let _ = out.read_to_string(&mut String::new());
    });
    wait_until("the command to tell something", || {
        let digest = server.client().add_package(&digest)?;
        server.client().delete(&format!("/v1/packages/{digest}"))?;
        Ok(told.try_recv().is_ok_and(|line| line.contains("\"kind\":\"package\"")))
    })?;
    child.kill()?;
    child.wait()?;
    let _ = reader.join();
    Ok(())
}
