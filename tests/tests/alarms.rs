//! Alarms as people meet them, on the real server: every episode is kept and found, shelved ones come back.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::install;
use ironloom_tests::guests::workspace;
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

/// A server whose app `rooms` has an alarm while a room is warmer than 28 °C.
fn with_rooms() -> Result<Server> {
    let server = Setup::new()?.start()?;
    let thermometer = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    install(server.client(), "rooms", &thermometer, json!({"temperature": ["house/{room}"]}), json!({}))?;
    Ok(server)
}

/// Pushes readings of a room in one body, and waits until the app has dealt with them.
fn push(client: &Client, room: &str, temperatures: &[f64]) -> Result<()> {
    let line = |value: &f64| json!({"point": format!("house/{room}"), "value": value}).to_string() + "\n";
    let lines: String = temperatures.iter().map(line).collect();
    let headers = [("content-type", "application/x-ndjson")];
    let answer = client.send("POST", "/v1/readings?wait=applied", &headers, lines.as_bytes())?.json()?;
    ensure!(answer["applied"] == true, "{answer}");
    Ok(())
}

/// The episodes of a query, page by page.
fn history(client: &Client, query: &str) -> Result<Vec<Value>> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/alarms/history?{query}{after}"))?.json()?;
        items.extend(page["items"].as_array().context("no items")?.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(items),
        }
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The ids of some episodes.
fn ids(episodes: &[Value]) -> Vec<&str> {
    episodes.iter().map(|episode| text(episode, "id")).collect()
}

fn told(server: &Server, arguments: &[&str]) -> Result<String> {
    let output = server.cli(arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Finds these episodes by what they are, and from either end.
fn found_by_what_they_are(client: &Client, all: &[Value]) -> Result<()> {
    let newest = history(client, "order=newest&limit=1")?;
    assert_eq!(ids(&history(client, "entity=cellar")?), ["1-4"]);
    assert_eq!(ids(&history(client, "installation=rooms&limit=1")?), ["1-1", "1-2", "1-3", "1-4"]);
    assert_eq!(
        ids(&history(client, "installation=rooms&order=newest&limit=3")?),
        ["1-4", "1-3", "1-2", "1-1"]
    );
    assert_eq!(ids(&newest), ["1-4", "1-3", "1-2", "1-1"]);
    assert_eq!(history(client, "severity=critical")?, [Value::Null; 0]);
    assert_eq!(history(client, "code=too-warm&severity=medium")?.len(), 4);
    // Of a call all have the same time.
    let (second, third) = (text(&all[1], "since"), text(&all[2], "since"));
    let between = format!("from={second}&to={third}");
    let within = all.iter().filter(|one| (second..third).contains(&text(one, "since")));
    let mut expected: Vec<_> = within.map(|one| text(one, "id")).collect();
    ensure!(expected.contains(&"1-2") && !expected.contains(&"1-3"), "{all:?}");
    assert_eq!(ids(&history(client, &between)?), expected, "{all:?}");
    expected.reverse();
    assert_eq!(ids(&history(client, &format!("{between}&order=newest&installation=rooms"))?), expected);
    for bad in ["severity=urgent", "order=random", "from=yesterday", "after=1-2"] {
        client.get(&format!("/v1/alarms/history?{bad}"))?.problem(400)?;
    }
    client.get("/v1/alarms/history?installation=nobody")?.problem(404)?;
    Ok(())
}

#[test]
fn every_episode_is_kept_and_found() -> Result<()> {
    let server = with_rooms()?;
    let client = server.client();
    // Three episodes of the attic, two of them within one call; one of the cellar, which goes on.
    push(client, "attic", &[31.0, 20.0, 32.0])?;
    push(client, "attic", &[20.0])?;
    push(client, "attic", &[33.0, 20.0])?;
    push(client, "cellar", &[30.0])?;
    let all = history(client, "order=oldest")?;
    assert_eq!(all.len(), 4, "{all:?}");
    let messages: Vec<_> = all.iter().map(|episode| text(episode, "message")).collect();
    assert_eq!(messages, ["31 °C", "32 °C", "33 °C", "30 °C"]);
    assert_eq!(ids(&all), ["1-1", "1-2", "1-3", "1-4"]);
    for episode in &all[..3] {
        assert_eq!(episode["state"], "return-to-normal-unacknowledged", "{episode}");
        ensure!(text(episode, "since") <= text(&episode["cleared"], "at"), "{episode}");
        assert_eq!((text(&episode["cleared"], "by"), text(episode, "severity")), ("app", "medium"));
    }
    assert_eq!((&all[3]["state"], &all[3]["cleared"]), (&json!("unacknowledged"), &Value::Null));
    // Only the last one of each is to be acknowledged.
    assert_eq!(ids(&client.all("/v1/alarms")?), ["1-3", "1-4"]);

    found_by_what_they_are(client, &all)?;

    // Whoever comments on an old one finds it again; so does the command line.
    told(&server, &["alarms", "comment", "1-1", "the window was shut", "--by", "Ann"])?;
    let shown = history(client, "limit=1")?;
    assert_eq!(
        (text(&shown[0]["comments"][0], "comment"), text(&shown[0]["comments"][0], "by")),
        ("the window was shut", "Ann")
    );
    let table = told(&server, &["alarms", "history", "--entity", "attic"])?;
    let rows: Vec<_> = table.lines().skip(1).filter_map(|row| row.split_whitespace().next()).collect();
    assert_eq!(rows, ["1-3", "1-2", "1-1"], "{table}");
    let csv = told(&server, &["alarms", "history", "--csv", "--oldest"])?;
    let rows: Vec<_> = csv.lines().map(|row| row.split(',').next().unwrap_or_default()).collect();
    assert_eq!(rows, ["id", "1-1", "1-2", "1-3", "1-4"], "{csv}");

    // What goes with its installation is kept, and says so; a restart changes nothing.
    let client = server.client();
    client.delete("/v1/installations/rooms")?.json()?;
    ensure!(client.all("/v1/alarms")?.is_empty());
    let gone = history(client, "installation=rooms")?;
    assert_eq!(ids(&gone), ["1-1", "1-2", "1-3", "1-4"]);
    assert_eq!(text(&gone[3]["cleared"], "by"), "removed", "{}", gone[3]);
    let server = server.restarted()?;
    assert_eq!(history(server.client(), "installation=rooms")?, gone);
    Ok(())
}

#[test]
fn a_shelved_alarm_comes_back_by_itself() -> Result<()> {
    let server = with_rooms()?;
    let client = server.client();
    push(client, "attic", &[31.0])?;
    push(client, "cellar", &[31.0])?;
    let state = |id: &str| -> Result<String> {
        let all = client.all("/v1/alarms")?;
        let alarm = all.iter().find(|alarm| alarm["id"] == id);
        Ok(alarm.map(|alarm| text(alarm, "state")).unwrap_or("none").to_owned())
    };
    let shelve = |id: &str, body: &Value| client.post(&format!("/v1/alarms/{id}/shelve"), body);
    shelve("1-1", &json!({}))?.problem(422)?;
    shelve("1-1", &json!({"for": "31 d"}))?.problem(422)?;
    shelve("1-9", &json!({"for": "1 h"}))?.problem(404)?;
    let shelved = shelve("1-1", &json!({"for": "3 s", "by": "Ann", "comment": "being repaired"}))?.json()?;
    assert_eq!((text(&shelved, "state"), text(&shelved["shelved"], "by")), ("shelved", "Ann"), "{shelved}");
    client.post("/v1/alarms/1-1/ack", &json!({}))?.problem(409)?;
    wait_until("the shelf to end", || Ok(state("1-1")? == "unacknowledged"))?;
    client.post("/v1/alarms/1-1/ack", &json!({}))?.json()?;

    // All episodes are shelved, and what is normal then isn't listed once the shelf is empty.
    told(&server, &["alarms", "shelve", "1-2", "--for", "1 h"])?;
    push(client, "cellar", &[20.0])?;
    assert_eq!(state("1-2")?, "shelved");
    push(client, "cellar", &[32.0, 20.0])?;
    assert_eq!((state("1-2")?.as_str(), state("1-3")?.as_str()), ("none", "shelved"));
    let server = server.restarted()?;
    let client = server.client();
    let listed = client.all("/v1/alarms")?;
    let last = listed.last().context("none is listed")?;
    assert_eq!((text(last, "id"), text(last, "state")), ("1-3", "shelved"));
    told(&server, &["alarms", "unshelve", "1-3", "--comment", "done"])?;
    assert_eq!(ids(&client.all("/v1/alarms")?), ["1-1"]);
    let last = history(client, "order=newest&limit=1")?.swap_remove(0);
    assert_eq!((text(&last, "state"), text(&last["comments"][0], "comment")), ("normal", "done"));
    Ok(())
}

#[test]
fn each_acknowledgement_of_an_episode_is_kept_with_who_and_when() -> Result<()> {
    let server = with_rooms()?;
    let client = server.client();
    push(client, "attic", &[31.0])?;
    told(&server, &["alarms", "ack", "1-1", "--by", "Ann", "--comment", "window opened"])?;
    let first = history(client, "")?.swap_remove(0);
    ensure!(first.get("acknowledged_before").is_none(), "{first}");
    // A shelf has it come back as if it were new.
    told(&server, &["alarms", "shelve", "1-1", "--for", "8 h"])?;
    told(&server, &["alarms", "unshelve", "1-1"])?;
    told(&server, &["alarms", "ack", "1-1", "--by", "Ben"])?;
    let server = server.restarted()?;
    let client = server.client();
    push(client, "attic", &[20.0])?;
    let episode = history(client, "")?.swap_remove(0);
    assert_eq!((text(&episode, "state"), text(&episode["acknowledged"], "by")), ("normal", "Ben"));
    assert_eq!(episode["acknowledged_before"], json!([first["acknowledged"]]));
    let at = text(&first["acknowledged"], "at");
    ensure!(at < text(&episode["acknowledged"], "at"), "{episode}");
    let csv = told(&server, &["alarms", "history", "--csv"])?;
    ensure!(csv.trim_end().ends_with(&format!(",{at} Ann: window opened")), "{csv}");
    ensure!(
        csv.lines().next().is_some_and(|header| header.ends_with(",comments,acknowledged_before")),
        "{csv}"
    );
    let table = told(&server, &["alarms", "history"])?;
    ensure!(table.contains(", 1 before"), "{table}");
    Ok(())
}
