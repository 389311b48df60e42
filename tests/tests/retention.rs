//! Readings past their retention go, and whoever waited for them is told. Time is the feed's, which goes wherever a reading's
//! `at` says.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::guests::workspace;
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

const CONFIG: &str = "[site]\nclock = \"feed\"\n[journal]\nmax_age = \"30 d\"\n";

fn push(client: &Client, at: &str, values: &[&str]) -> Result<u64> {
    let line = |value| json!({"point": "app", "value": value, "at": at}).to_string();
    let lines: Vec<String> = values.iter().map(line).collect();
    let answer = client.push(lines.join("\n").as_bytes(), None)?.json()?;
    answer["through"].as_u64().with_context(|| format!("{answer}"))
}

fn result(client: &Client, id: &str, command: &str) -> Result<Option<String>> {
    let state = client.all(&format!("/v1/installations/{id}/state?prefix=result/{command}"))?;
    let Some(entry) = state.first() else { return Ok(None) };
    let bytes = entry["value"]["base64"].as_str().context("no bytes")?;
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, bytes)?;
    Ok(Some(String::from_utf8(bytes)?))
}

/// A server with two apps on the same readings, of which one is paused.
fn with_one_paused() -> Result<(Setup, Server)> {
    let setup = Setup::new()?.config(CONFIG);
    let server = setup.start()?;
    let client = server.client();
    let package = guests::package("hostile")?;
    for id in ["quick", "paused"] {
        install(client, id, &package, json!({"command": ["app"]}), json!({}))?;
    }
    client.post("/v1/installations/paused/pause", &json!({}))?.json()?;
    Ok((setup, server))
}

#[test]
fn old_readings_go_and_an_app_that_missed_them_is_told() -> Result<()> {
    let (setup, server) = with_one_paused()?;
    let client = server.client();
    push(client, "2020-01-01T00:00:00Z", &["ok"])?;
    let line = json!({"point": "app", "value": "ok", "at": "2020-01-02T00:00:00Z"}).to_string() + "\n";
    let wait = |client: &Client| {
        let headers = [("content-type", ironloom_tests::http::NDJSON), ("idempotency-key", "second")];
        client.send("POST", "/v1/readings?wait=applied", &headers, line.repeat(2).as_bytes())?.json()
    };
    let stopped = json!([{"id": "paused", "state": "paused"}]);
    assert_eq!(wait(client)?, json!({"accepted": 2, "through": 3, "applied": false, "stopped": stopped}));
    // A stop writes what there is into a block.
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    push(server.client(), "2020-01-31T23:00:00Z", &["ok"])?;
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    // The oldest block's last reading is a month old to the hour.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(client.journal(0, "")?.len(), 4, "a block goes when its last reading is too old");

    let newest = push(client, "2020-02-15T00:00:00Z", &["gaps"])?;
    wait_until("the old readings are gone", || Ok(client.journal(0, "")?.len() == 2))?;
    let journal = client.journal(0, "")?;
    assert_eq!(journal.iter().map(|one| one["sequence"].as_u64()).collect::<Vec<_>>(), [Some(4), Some(5)]);
    let quick = wait_for_installation(client, "quick", "running", |now| number(now, "cursor") >= newest)?;
    assert_eq!(quick["counters"]["missed"], 0);
    assert_eq!(result(client, "quick", "gaps")?.as_deref(), Some(""));

    let paused = client.installation("paused")?;
    assert_eq!((&paused["counters"]["missed"], &paused["lag"]["readings"]), (&json!(3), &json!(2)));
    assert_eq!(paused["lag"]["expires"], "2020-03-01T23:00:00.000000000Z", "thirty days after the oldest");
    // Nobody deals with them any more, but the other one has.
    assert_eq!(
        wait(client)?,
        json!({"accepted": 2, "through": 3, "duplicate": true, "applied": false, "lost": ["paused"]})
    );
    let shown = server.cli(&["show", "paused"])?;
    let shown = String::from_utf8(shown.stdout)?;
    ensure!(shown.contains("3 past the journal's retention before it got to them"), "{shown}");
    // What it missed outlives a process that is killed.
    server.kill()?;
    let server = setup.start()?;
    let client = server.client();
    client.post("/v1/installations/paused/resume", &json!({"backlog": "keep"}))?.json()?;
    wait_for_installation(client, "paused", "running", |now| number(now, "cursor") >= newest)?;
    let told = result(client, "paused", "gaps")?;
    assert_eq!(told.as_deref(), Some("command 3 2020-01-01T00:00:00Z 2020-01-02T00:00:00Z"));
    let seen: Value = client.installation("paused")?["counters"].clone();
    assert_eq!((&seen["readings"], &seen["missed"]), (&json!(2), &json!(3)));
    Ok(())
}

#[test]
fn people_are_warned_before_readings_go_that_an_app_has_yet_to_get_to() -> Result<()> {
    let (setup, server) = with_one_paused()?;
    let client = server.client();
    let notes = || -> Result<Vec<String>> {
        let ready = client.get("/readyz")?.json()?;
        let notes = ready["notes"].as_array().cloned().unwrap_or_default();
        Ok(notes.iter().map(Value::to_string).filter(|note| note.contains("of their retention")).collect())
    };
    push(client, "2020-01-01T00:00:00Z", &["ok"])?;
    // 14 of 30 days, 16, 28: the half, and nine tenths.
    for (at, percent) in [("2020-01-15", None), ("2020-01-17", Some("50 %")), ("2020-01-29", Some("90 %"))] {
        let last = push(client, &format!("{at}T00:00:00Z"), &["ok"])?;
        wait_for_installation(client, "quick", "all", |now| number(now, "cursor") >= last)?;
        match percent {
            // One look at least: there is one each 10 s.
            None => std::thread::sleep(std::time::Duration::from_secs(11)),
            Some(percent) => wait_until(percent, || {
                Ok(notes()?.iter().any(|note| note.contains("installation paused") && note.contains(percent)))
            })?,
        }
        assert_eq!(notes()?.len(), usize::from(percent.is_some()), "{at}: {:?}", notes()?);
    }
    ensure!(setup.said().matches("have used up 90 %").count() == 1, "{}", setup.said());
    // What is dealt with goes no more.
    client.post("/v1/installations/paused/resume", &json!({}))?.json()?;
    wait_until("no warning", || Ok(notes()?.is_empty()))
}

/// The parts of an installation's history that are kept.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    /// The times of its invocations.
    invocations: Vec<String>,
    /// Episodes of its alarms, and those that are in the list of alarms.
    episodes: Vec<String>,
    alarms: Vec<String>,
    letters: usize,
}

fn kept(client: &Client) -> Result<Kept> {
    let texts = |path: &str, field: &str| -> Result<Vec<String>> {
        let items = client.all(path)?;
        Ok(items.iter().filter_map(|item| item[field].as_str()).map(str::to_owned).collect())
    };
    Ok(Kept {
        invocations: texts("/v1/installations/rooms/invocations", "time")?,
        episodes: texts("/v1/alarms/history?order=oldest", "id")?,
        alarms: texts("/v1/alarms", "id")?,
        letters: client.all("/v1/installations/rooms/dead-letters")?.len(),
    })
}

/// Pushes one reading of each of these rooms at a time, and waits until the app has dealt with them.
fn take(client: &Client, day: &str, readings: &[(&str, Value)]) -> Result<()> {
    let line = |(room, value): &(&str, Value)| {
        json!({"point": format!("house/{room}"), "value": value, "at": format!("{day}T00:00:00Z")})
            .to_string()
            + "\n"
    };
    let body: String = readings.iter().map(line).collect();
    let headers = [("content-type", "application/x-ndjson")];
    let answer = client.send("POST", "/v1/readings?wait=applied", &headers, body.as_bytes())?.json()?;
    ensure!(answer["applied"] == true, "{answer}");
    Ok(())
}

/// A server with an app `rooms`, which has an alarm while a room is warmer than 28 °C.
fn with_rooms(setup: &Setup) -> Result<Server> {
    let server = setup.start()?;
    let thermometer = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    install(server.client(), "rooms", &thermometer, json!({"temperature": ["house/{room}"]}), json!({}))?;
    Ok(server)
}

#[test]
fn each_history_goes_by_its_own_age_and_what_waits_for_somebody_stays() -> Result<()> {
    let ages = "[invocations]\nmax_age = \"30 d\"\n[alarms]\nmax_age = \"60 d\"\n";
    let setup = Setup::new()?.config(format!("[site]\nclock = \"feed\"\n{ages}"));
    let server = with_rooms(&setup)?;
    let client = server.client();
    // An episode that is over and acknowledged, one that nobody acknowledges, and one that goes on.
    take(client, "2020-01-01", &[("attic", json!(31)), ("loft", json!(31)), ("cellar", json!(31))])?;
    take(client, "2020-01-02", &[("attic", json!(20)), ("loft", json!(20)), ("attic", json!("warm"))])?;
    client.post("/v1/alarms/1-1/ack", &json!({"by": "Ann"}))?.json()?;
    // What is as old as that to the second stays.
    take(client, "2020-02-01", &[("attic", json!(20))])?;
    let first = kept(client)?;
    assert_eq!((&first.episodes[..], first.letters), (&["1-1", "1-2", "1-3"].map(str::to_owned)[..], 1));
    assert_eq!(first.alarms, ["1-2", "1-3"]);
    let days = |kept: &Kept| {
        let mut days: Vec<_> = kept.invocations.iter().map(|time| time[..10].to_owned()).collect();
        days.dedup();
        days
    };
    wait_until("the invocations of the first day are gone", || {
        Ok(days(&kept(client)?) == ["2020-01-02", "2020-02-01"])
    })?;
    let now = kept(client)?;
    assert_eq!((&now.episodes, &now.alarms, now.letters), (&first.episodes, &first.alarms, 1));
    let newest = client.get("/v1/installations/rooms/invocations?order=newest&limit=1000")?.json()?;
    assert_eq!(newest["items"].as_array().map(Vec::len), Some(now.invocations.len()));
    let refused = client.post("/v1/installations/rooms/replay", &json!({}))?.problem(422)?;
    ensure!(
        refused["detail"].as_str().is_some_and(|why| why.contains("are no longer kept, only those from")),
        "{refused}"
    );

    // Nothing more has happened to the first episode for 60 days.
    take(client, "2020-03-03", &[("attic", json!(20))])?;
    wait_until("the first episode is gone", || Ok(kept(client)?.episodes == ["1-2", "1-3"]))?;
    take(client, "2021-03-03", &[("attic", json!(20))])?;
    wait_until("all but the newest invocations are gone", || Ok(days(&kept(client)?) == ["2021-03-03"]))?;
    let now = kept(client)?;
    assert_eq!((&now.episodes[..], &now.alarms), (&["1-2", "1-3"].map(str::to_owned)[..], &first.alarms));
    assert_eq!(now.letters, 1, "dead letters stay as long as the journal, which has no end");
    let counters = client.installation("rooms")?["counters"].clone();
    assert_eq!((&counters["episodes_dropped"], &counters["dead_letters_dropped"]), (&json!(1), &json!(0)));

    // A process that is killed knows the same, also from a store that a checkpoint has written.
    server.kill()?;
    let server = setup.start()?;
    assert_eq!(kept(server.client())?, now);
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    assert_eq!(kept(client)?, now);

    dead_letters_go_once_somebody_asks_for_it(&setup, &server, ages)?;
    assert_eq!(Kept { letters: 0, ..now }, kept(client)?);
    Ok(())
}

/// The age of dead letters is taken while the server runs.
fn dead_letters_go_once_somebody_asks_for_it(setup: &Setup, server: &Server, ages: &str) -> Result<()> {
    let client = server.client();
    let letters = "[dead_letters]\nmax_age = \"90 d\"\n";
    std::fs::write(
        setup.folder().join("ironloom.toml"),
        format!("[site]\nclock = \"feed\"\n{ages}{letters}"),
    )?;
    let taken = client.post("/v1/reload", &json!({}))?.json()?;
    ensure!(taken["changes"][0]["key"] == "dead_letters.max_age", "{taken}");
    ensure!(taken["notes"].to_string().contains("older dead letters are deleted within minutes"), "{taken}");
    wait_until("the dead letter is gone", || Ok(kept(client)?.letters == 0))?;
    let rooms = client.installation("rooms")?;
    assert_eq!(
        (&rooms["counters"]["dead_letters_dropped"], &rooms["dead_letters_kept"]),
        (&json!(1), &json!(0))
    );
    let shown = String::from_utf8(server.cli(&["show", "rooms"])?.stdout)?;
    ensure!(shown.contains("1 of these dropped") && shown.contains("1 episode of alarms dropped"), "{shown}");
    Ok(())
}
