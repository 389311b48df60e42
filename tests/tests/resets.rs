//! Installations that start over: nothing of before is in their state, and nothing is published or told twice.

use anyhow::{Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation, wait_for_readings};
use ironloom_tests::guests::workspace;
use ironloom_tests::model::state_of;
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

fn post(client: &Client, id: &str, deed: &str) -> Result<Value> {
    client.post(&format!("/v1/installations/{id}/{deed}"), &json!({}))?.json()
}

/// A server with the guest `one-state`, which gives the count of `a/{n}` with each reading.
fn counting() -> Result<Server> {
    let server = Setup::new()?.start()?;
    install_sums(server.client())?;
    Ok(server)
}

fn install_sums(client: &Client) -> Result<Value> {
    let (package, more) = (guests::package("one-state")?, json!({"settings": {"publish": true}}));
    install(client, "sums", &package, json!({"value": ["a/{n}"]}), more)
}

/// The counts that were published, by whatever generation.
fn counts(client: &Client) -> Result<Vec<u64>> {
    let is_own = |reading: &&Value| {
        reading["point"].as_str().is_some_and(|point| point.starts_with("apps/sums/count"))
    };
    Ok(client.journal(0, "")?.iter().filter(is_own).map(|reading| number(reading, "value")).collect())
}

/// The times of its invocations.
fn times(client: &Client) -> Result<Vec<String>> {
    let all = client.all("/v1/installations/sums/invocations")?;
    Ok(all.iter().map(|run| run["time"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn what_was_published_is_not_published_again_and_what_was_not_is() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    for n in 1..=3 {
        client.push_one("a/1", n)?;
        wait_for_readings(client, n)?;
    }
    let before = times(client)?;
    post(client, "sums", "pause")?;
    let last = client.push_one("a/1", 4)?;
    let dry = server.cli_json(&["reset", "sums", "--from", "beginning", "--dry-run"])?;
    assert_eq!((number(&dry, "backlog"), number(&dry, "generation")), (4, 1));
    let reset = server.cli_json(&["reset", "sums", "--from", "beginning"])?;
    assert_eq!((number(&reset, "backlog"), number(&reset, "generation")), (4, 2));
    assert_eq!((&reset["state"], number(&reset, "revision")), (&json!("paused"), 2));
    let through = number(&reset, "holds_back_through");
    ensure!(through < last, "{reset}");

    let server = server.restarted()?;
    let client = server.client();
    assert_eq!(client.all("/v1/installations/sums/state")?, [Value::Null; 0]);
    assert_eq!(number(&client.installation("sums")?, "holds_back_through"), through);
    post(client, "sums", "resume")?;
    let done = wait_for_readings(client, 4)?;
    assert_eq!(counts(client)?, [1, 2, 3, 4], "the last one had not been dealt with");
    assert_eq!((number(&done, "counters.held_back"), number(&done, "counters.derived")), (3, 1));
    assert_eq!(done["holds_back_through"], Value::Null);
    assert_eq!(state_of(client, "sums")?["1"], (4, 10.0));
    // Each has the time of its readings, as it had then.
    let after = times(client)?;
    ensure!(after.len() >= 2 && after[after.len() - 2] == before[before.len() - 1], "{before:?} {after:?}");
    client.push_one("a/1", 5)?;
    wait_for_readings(client, 5)?;
    assert_eq!(counts(client)?, [1, 2, 3, 4, 5]);
    Ok(())
}

#[test]
fn a_reset_from_now_passes_over_all_that_was() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    client.push_one("a/1", 1)?;
    wait_for_readings(client, 1)?;
    post(client, "sums", "pause")?;
    client.push_one("a/1", 2)?;
    let reset = server.cli_json(&["reset", "sums", "--from", "now"])?;
    assert_eq!((number(&reset, "backlog"), &reset["holds_back_through"]), (0, &Value::Null));
    let warning = reset["warnings"][0].as_str().unwrap_or_default();
    ensure!(warning.contains("are passed over"), "{reset}");
    post(client, "sums", "resume")?;
    client.push_one("a/1", 3)?;
    wait_for_readings(client, 1)?;
    assert_eq!(counts(client)?, [1, 1]);
    // What neither generation was to deal with counts as published, too; what came later isn't held back.
    server.cli_json(&["reset", "sums", "--from", "beginning"])?;
    wait_for_readings(client, 3)?;
    client.push_one("a/1", 4)?;
    wait_for_readings(client, 4)?;
    assert_eq!(counts(client)?, [1, 1, 4]);
    Ok(())
}

#[test]
fn what_came_before_the_install_is_published() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    for n in 1..=2 {
        client.push_one("a/1", n)?;
    }
    install_sums(client)?;
    client.push_one("a/1", 3)?;
    wait_for_readings(client, 1)?;
    server.cli_json(&["reset", "sums", "--from", "beginning"])?;
    let done = wait_for_readings(client, 3)?;
    assert_eq!(counts(client)?, [1, 1, 2], "it had dealt with the third alone");
    assert_eq!(number(&done, "counters.held_back"), 1);
    Ok(())
}

#[test]
fn a_server_that_is_killed_while_an_app_catches_up_publishes_nothing_twice() -> Result<()> {
    const READINGS: usize = 60_000;
    let server = counting()?;
    let client = server.client();
    let line = |n: usize| json!({"point": format!("a/{}", n % 7), "value": 1}).to_string() + "\n";
    for part in 0..3 {
        let lines: String = (part..READINGS).step_by(3).map(line).collect();
        client.push(lines.as_bytes(), None)?.json()?;
    }
    wait_for_readings(client, READINGS as u64)?;
    let last = |client: &Client| -> Result<u64> {
        Ok(number(&client.get("/v1/readings?order=newest&limit=1")?.json()?["items"][0], "sequence"))
    };
    let before = last(client)?;
    server.cli_json(&["reset", "sums", "--from", "beginning"])?;
    let mut server = server.restarted()?;
    for _ in 0..2 {
        let readings = number(&server.client().installation("sums")?, "counters.readings");
        if readings < READINGS as u64 {
            server = server.restarted()?;
        }
    }
    let client = server.client();
    let done = wait_for_readings(client, READINGS as u64)?;
    assert_eq!(number(&done, "counters.held_back"), READINGS as u64);
    assert_eq!(number(&done, "counters.derived"), 0);
    assert_eq!(last(client)?, before);
    let sums = state_of(client, "sums")?;
    assert_eq!(sums.values().map(|(count, _)| *count).sum::<u64>(), READINGS as u64);
    Ok(())
}

#[test]
fn alarms_that_are_over_come_but_once_and_one_that_stands_stands() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let thermometer = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    install(client, "rooms", &thermometer, json!({"temperature": ["house/{room}"]}), json!({}))?;
    for temperature in [40, 10, 41] {
        client.push_one("house/attic", temperature)?;
    }
    let dealt_with = |now: &Value| number(now, "counters.readings") == 3;
    wait_for_installation(client, "rooms", "all", dealt_with)?;
    let ids = |path: &str| -> Result<Vec<String>> {
        let all = client.all(path)?;
        Ok(all.iter().map(|alarm| alarm["id"].as_str().unwrap_or_default().to_owned()).collect())
    };
    assert_eq!(ids("/v1/alarms")?, ["1-2"]);
    client.post("/v1/installations/rooms/reset?from=beginning", &json!({}))?.json()?;
    wait_for_installation(client, "rooms", "all again", dealt_with)?;
    wait_until("the alarm", || Ok(ids("/v1/alarms")? == ["2-2"]))?;
    assert_eq!(ids("/v1/alarms/history")?, ["1-1", "1-2", "2-2"], "the first episode is there once");
    let history = client.all("/v1/alarms/history")?;
    assert_eq!(history[1]["cleared"]["by"], "reset");
    assert_eq!(history[2]["raised"], history[1]["raised"], "it has the time of its reading");
    // From here on it is told as ever.
    client.push_one("house/attic", 10)?;
    wait_until("the alarm to end", || {
        Ok(ids("/v1/alarms")?.is_empty() || client.all("/v1/alarms")?[0]["cleared"].is_object())
    })?;
    client.push_one("house/attic", 42)?;
    wait_until("the next", || Ok(ids("/v1/alarms")?.contains(&"2-3".to_owned())))
}

#[test]
fn what_can_not_be_is_refused() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    let reset = |query: &str| client.post(&format!("/v1/installations/sums/reset{query}"), &json!({}));
    let problem = reset("")?.problem(400)?;
    assert_eq!(problem["where"]["field"], "from");
    reset("?from=yesterday")?.problem(400)?;
    reset("?from=2200-01-01T00:00:00Z")?.problem(422)?;
    client.post("/v1/installations/none/reset?from=now", &json!({}))?.problem(404)?;
    let misuse = server.cli(&["reset", "sums", "--from", "yesterday"])?;
    assert_eq!(misuse.status.code(), Some(2));
    assert_eq!(number(&client.installation("sums")?, "generation"), 1);
    Ok(())
}
