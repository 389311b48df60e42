//! What an admin does to a running app, on the real server: pause, resume with the backlog kept or dropped, resume
//! from quarantine, acknowledging alarms; and the timers of a manifest.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::guests::workspace;
use ironloom_tests::{Client, Server, Setup, guests, package, wait_for, wait_until};
use serde_json::{Value, json};

/// The texts in an app's state, by key.
fn state(client: &Client, id: &str) -> Result<BTreeMap<String, String>> {
    let items = client.all(&format!("/v1/installations/{id}/state"))?;
    let entry = |item: &Value| -> Result<(String, String)> {
        let key = item["key"].as_str().context("no key")?;
        let text = item["value"]["base64"].as_str().context("no base64")?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
        Ok((key.to_owned(), String::from_utf8_lossy(&bytes).into_owned()))
    };
    items.iter().map(entry).collect()
}

/// A server with the guest `hostile`, which does what its point of this name says.
fn with_hostile(id: &str) -> Result<Server> {
    let server = Setup::new()?.start()?;
    install(server.client(), id, &guests::package("hostile")?, json!({"command": [id]}), json!({}))?;
    Ok(server)
}

fn resume(client: &Client, id: &str, backlog: &str) -> Result<Value> {
    client.post(&format!("/v1/installations/{id}/resume"), &json!({"backlog": backlog}))?.json()
}

/// The state of an installation as the command line lists it.
fn listed(server: &Server, id: &str) -> Result<String> {
    let list = server.cli_json(&["list"])?;
    let items = list["items"].as_array().context("no items")?;
    let item = items.iter().find(|item| item["id"] == id).with_context(|| format!("no {id} in {list}"))?;
    Ok(item["state"].as_str().context("no state")?.to_owned())
}

#[test]
fn five_traps_in_a_row_stop_the_app_until_it_is_resumed() -> Result<()> {
    let server = with_hostile("bad")?;
    let client = server.client();
    for n in 1..=5 {
        client.push_one("bad", "panic")?;
        wait_for_installation(client, "bad", "a dead letter", |now| {
            number(now, "counters.dead_letters") == n
        })?;
        let expected = if n < 5 { "running" } else { "quarantined" };
        wait_for_installation(client, "bad", expected, |now| now["state"] == expected)?;
    }
    assert_eq!(listed(&server, "bad")?, "quarantined");
    let shown = client.installation("bad")?;
    let (taken, invocations) = (number(&shown, "counters.readings"), number(&shown, "counters.invocations"));

    // It is stopped in fact: what comes waits, and nothing is called, also after a restart.
    client.push_one("bad", "ok")?;
    wait_for_installation(client, "bad", "a backlog", |now| number(now, "lag.readings") == 1)?;
    let setup = server.setup().clone();
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let shown = client.installation("bad")?;
    assert_eq!(shown["state"], "quarantined");
    assert_eq!(number(&shown, "counters.readings"), taken, "{shown}");
    assert_eq!(number(&shown, "counters.invocations"), invocations, "{shown}");
    assert_eq!(state(client, "bad")?.len(), 0);

    let resumed = server.cli(&["resume", "bad"])?;
    ensure!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    wait_until("the backlog to be taken", || Ok(state(client, "bad")?.contains_key("result/ok")))?;
    let shown = client.installation("bad")?;
    assert_eq!((&shown["state"], &shown["last_error"]), (&json!("running"), &Value::Null));
    // What went wrong before counts no longer: one more trap doesn't stop it.
    client.push_one("bad", "panic")?;
    wait_for_installation(client, "bad", "a dead letter", |now| number(now, "counters.dead_letters") == 6)?;
    client.push_one("bad", "environment")?;
    wait_until("it to go on", || Ok(state(client, "bad")?.contains_key("result/environment")))?;
    Ok(())
}

#[test]
fn a_paused_app_takes_nothing_until_it_is_resumed_and_then_all_of_it() -> Result<()> {
    let server = with_hostile("calm")?;
    let client = server.client();
    let paused = client.post("/v1/installations/calm/pause", &json!({}))?.json()?;
    assert_eq!(paused["state"], "paused");
    assert_eq!(listed(&server, "calm")?, "paused");
    client.push_one("calm", "ok")?;
    client.push_one("calm", "environment")?;
    wait_for_installation(client, "calm", "a backlog", |now| number(now, "lag.readings") == 2)?;
    // Again is no error, and changes nothing; nor does a restart.
    assert_eq!(client.post("/v1/installations/calm/pause", &json!({}))?.json()?["state"], "paused");
    let setup = server.setup().clone();
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let shown = client.installation("calm")?;
    assert_eq!((&shown["state"], number(&shown, "lag.readings")), (&json!("paused"), 2));
    assert_eq!(state(client, "calm")?.len(), 0);

    assert_eq!(resume(client, "calm", "keep")?["state"], "running");
    wait_until("both to be taken", || Ok(state(client, "calm")?.len() == 2))?;
    assert_eq!(number(&client.installation("calm")?, "counters.readings"), 2);
    Ok(())
}

#[test]
fn a_backlog_that_is_dropped_is_never_taken_and_what_comes_after_is() -> Result<()> {
    let server = with_hostile("calm")?;
    let client = server.client();
    client.post("/v1/installations/calm/pause", &json!({}))?.json()?;
    let last = client.push_one("calm", "ok")?;
    wait_for_installation(client, "calm", "a backlog", |now| number(now, "lag.readings") == 1)?;
    let resumed = resume(client, "calm", "drop")?;
    assert_eq!((&resumed["state"], number(&resumed, "lag.readings")), (&json!("running"), 0));
    ensure!(number(&resumed, "cursor") >= last, "{resumed}");
    client.push_one("calm", "environment")?;
    wait_until("what came after", || Ok(state(client, "calm")?.contains_key("result/environment")))?;
    let shown = client.installation("calm")?;
    assert_eq!(number(&shown, "counters.readings"), 1, "{shown}");
    // Nor by a restart.
    let server = server.restarted()?;
    server.client().push_one("calm", "retry")?;
    wait_for_installation(server.client(), "calm", "waiting", |now| now["state"] == "waiting")?;
    assert_eq!(state(server.client(), "calm")?.into_keys().collect::<Vec<_>>(), ["result/environment"]);
    Ok(())
}

#[test]
fn alarms_are_acknowledged_before_or_after_they_return_to_normal() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let thermometer = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    install(client, "rooms", &thermometer, json!({"temperature": ["house/{room}"]}), json!({}))?;
    let alarm = |room: &str, state: &str| -> Result<Value> {
        wait_for(&format!("an alarm of {room}, {state}"), || {
            let alarms = client.all("/v1/alarms")?;
            Ok(alarms.into_iter().find(|alarm| alarm["entity"] == room && alarm["state"] == state))
        })
    };
    let id_of = |alarm: &Value| alarm["id"].as_str().map(str::to_owned).context("no id");

    // Acknowledged while it stands, and gone once it returns to normal.
    client.push_one("house/attic", 31.0)?;
    let attic = alarm("attic", "unacknowledged")?;
    assert_eq!((&attic["message"], &attic["acknowledged"]), (&json!("31 °C"), &Value::Null));
    let told = server.cli(&["alarms", "ack", &id_of(&attic)?])?;
    ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    ensure!(alarm("attic", "acknowledged")?["acknowledged"]["at"].is_string());
    client.push_one("house/attic", 20.0)?;
    wait_until("the alarm to be gone", || Ok(client.all("/v1/alarms")?.is_empty()))?;

    // Returned to normal unseen: it stays until somebody has seen it.
    client.push_one("house/cellar", 30.0)?;
    alarm("cellar", "unacknowledged")?;
    client.push_one("house/cellar", 19.0)?;
    let cellar = alarm("cellar", "return-to-normal-unacknowledged")?;
    client.post(&format!("/v1/alarms/{}/ack", id_of(&cellar)?), &json!({}))?.json()?;
    wait_until("the alarm to be gone", || Ok(client.all("/v1/alarms")?.is_empty()))?;
    // In the history it stays, acknowledged once.
    let again = client.post(&format!("/v1/alarms/{}/ack", id_of(&cellar)?), &json!({}))?.json()?;
    assert_eq!(again["state"], "normal", "{again}");
    Ok(())
}

#[test]
fn a_timer_of_the_manifest_fires_each_morning_of_the_site() -> Result<()> {
    let setup = Setup::new()?;
    // Ten days, a reading an hour, a day in half a second.
    let rows: String = (0..240)
        .map(|hour| format!("2026-01-{:02}T{:02}:00:00Z,{hour}\n", 10 + hour / 24, hour % 24))
        .collect();
    let feed = setup.folder().join("feed.csv");
    fs::write(&feed, format!("at,value\n{rows}"))?;
    let config = format!(
        "[site]\nclock = \"feed\"\ntimezone = \"Europe/Berlin\"\n\n[connectors.feed]\nkind = \"csv\"\npath = {feed:?}\n\
         at = \"at\"\nspeed = 172800.0\n\n[connectors.feed.columns.value]\npoint = \"feed/value\"\n"
    );
    let server = setup.config(config).start()?;
    let client = server.client();
    let manifest = fs::read_to_string(guests::folder_of("both").join("app.toml"))?;
    let manifest =
        manifest.replace("[timers.never]\ncron = \"0 0 29 2 *\"", "[timers.morning]\ncron = \"0 6 * * *\"");
    let both = package::pack(&manifest, &fs::read(guests::build("both")?)?);
    install(
        client,
        "timed",
        &both,
        json!({"scenario": ["ask"]}),
        json!({"limits": {"memory": "64 MiB", "cpu": "1 s"}}),
    )?;
    wait_until("the replay to end", || {
        Ok(client.get("/v1/connectors")?.json()?["items"][0]["state"] == "done")
    })?;
    // The last morning is that of the 19th.
    let fired = wait_for("the last morning", || {
        let fired = state(client, "timed")?;
        Ok(fired.contains_key("fired/2026-01-19T05:00:00Z").then_some(fired))
    })?;
    let days: Vec<&str> = fired.keys().filter_map(|key| key.strip_prefix("fired/")).collect();
    ensure!(days.len() >= 3, "{days:?}: the replay was nearly over before the app was installed");
    let first = 20 - days.len();
    let expected: Vec<String> = (first..20).map(|day| format!("2026-01-{day}T05:00:00Z")).collect();
    assert_eq!(days, expected, "each morning at six in Berlin, once");
    let timers = client.get("/v1/installations/timed/timers")?.json()?;
    assert_eq!(
        timers["items"],
        json!([{"name": "morning", "due": "2026-01-20T05:00:00.000000000Z", "repeats": true}])
    );
    let listed = server.cli(&["timers", "timed"])?;
    ensure!(String::from_utf8_lossy(&listed.stdout).contains("2026-01-20T05:00:00"), "{listed:?}");
    ensure!(fired.values().all(|timer| timer == "morning"), "{fired:?}");
    assert_eq!(number(&client.installation("timed")?, "counters.failures"), 0);
    Ok(())
}

#[test]
fn a_timer_of_the_manifest_fires_by_the_hosts_clock() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let manifest = fs::read_to_string(guests::folder_of("both").join("app.toml"))?;
    let manifest =
        manifest.replace("[timers.never]\ncron = \"0 0 29 2 *\"", "[timers.minute]\ncron = \"* * * * *\"");
    let both = package::pack(&manifest, &fs::read(guests::build("both")?)?);
    let limits = json!({"limits": {"memory": "64 MiB", "cpu": "1 s"}});
    install(client, "timed", &both, json!({"scenario": ["ask"]}), limits)?;
    // A minute at the most, and as long again where the machine is busy.
    let fired = (0..2).find_map(|_| {
        wait_for("the full minute", || Ok(Some(state(client, "timed")?).filter(|fired| !fired.is_empty())))
            .ok()
    });
    let fired = fired.context("no minute has been full for two minutes")?;
    let (due, timer) = fired.first_key_value().context("nothing")?;
    ensure!(due.starts_with("fired/") && due.ends_with(":00Z") && timer == "minute", "{fired:?}");
    Ok(())
}
