//! Derived readings and alarms on their way to a broker: mosquitto, with one that subscribes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::install;
use ironloom_tests::mosquitto::{Mosquitto, Subscriber};
use ironloom_tests::{Client, Setup, guests, wait_until};
use serde_json::{Value, json};

/// Nothing is dropped for somebody who is away.
const LOSSLESS: &str = "max_queued_messages 0\nmax_inflight_messages 0\n";

const PUBLISH: &str = r#"
[connectors.plant.publish."apps/{app}/record/{room}"]
topic = "out/{room}/record"
[connectors.plant.publish."alarms/{app}/{code}/{room...}"]
topic = "out/alarms/{code}/{room...}"
"#;

fn config(broker: &Mosquitto) -> String {
    format!(
        "[connectors.plant]\nkind = \"mqtt\"\nbroker = \"{}\"\nclient_id = \"ironloom-test\"\n{PUBLISH}",
        broker.url()
    )
}

/// Installs the thermometer: a record for each temperature that is higher than all before.
fn thermometer(client: &Client) -> Result<()> {
    let bindings = json!({"temperature": "house/{room}/temperature"});
    install(
        client,
        "rooms",
        &guests::package_of("thermometer", &guests::workspace().join("sample-apps/thermometer"))?,
        bindings,
        json!({}),
    )?;
    Ok(())
}

fn push(client: &Client, room: &str, values: impl IntoIterator<Item = u64>) -> Result<()> {
    let point = format!("house/{room}/temperature");
    let line = |value: u64| json!({"point": point, "value": value}).to_string() + "\n";
    let lines: String = values.into_iter().map(line).collect();
    client.push(lines.as_bytes(), None)?.json()?;
    Ok(())
}

fn publishing(client: &Client) -> Result<Value> {
    Ok(client.get("/v1/connectors/plant")?.json()?["publish"].clone())
}

fn wait_until_published(client: &Client) -> Result<()> {
    let mut last = Value::Null;
    wait_until("all to be published", || {
        last = publishing(client)?;
        Ok(last["state"] == "running" && last["behind"] == 0 && last["alarms_behind"] == 0)
    })
    .with_context(|| last.to_string())
}

/// The messages by topic, in their order.
fn by_topic(subscriber: &Subscriber) -> Result<BTreeMap<String, Vec<Value>>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for got in subscriber.got() {
        let payload = serde_json::from_str(&got.payload).with_context(|| got.payload.clone())?;
        all.entry(got.topic).or_default().push(payload);
    }
    Ok(all)
}

#[test]
fn what_apps_derive_and_their_alarms_go_to_the_broker() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "what is published")? else { return Ok(()) };
    let subscriber = broker.subscribe("out/#")?;
    let server = Setup::new()?.config(config(&broker)).start_listening()?;
    let client = server.client();
    thermometer(client)?;
    wait_until_published(client)?;
    push(client, "attic", [20, 31, 24, 32])?;
    push(client, "cellar", [9])?;
    wait_until("six messages", || Ok(subscriber.got().len() >= 6))?;

    let messages = by_topic(&subscriber)?;
    let topics: Vec<&str> = messages.keys().map(String::as_str).collect();
    assert_eq!(topics, ["out/alarms/too-warm/attic", "out/attic/record", "out/cellar/record"]);
    let values = |topic: &str| -> Vec<f64> {
        messages[topic].iter().filter_map(|message| message["value"].as_f64()).collect()
    };
    assert_eq!(values("out/attic/record"), [20.0, 31.0, 32.0]);
    assert_eq!(values("out/cellar/record"), [9.0]);
    // Each message says what the journal has.
    let journal = client.journal(0, "point=apps/rooms/record/attic")?;
    for (message, reading) in messages["out/attic/record"].iter().zip(&journal) {
        for field in ["point", "value", "at", "quality", "sequence", "unit"] {
            let told = &reading[field];
            // The journal's list leaves out a unit and a quality that need no word.
            ensure!(
                told.is_null() || message[field] == *told,
                "{field} of {message} is not that of {reading}"
            );
        }
        assert_eq!((&message["unit"], &message["quality"]), (&json!("Cel"), &json!("good")));
    }
    // An alarm is told with its newest state, once for each change or more.
    let alarms = client.all("/v1/alarms?installation=rooms")?;
    let told = messages["out/alarms/too-warm/attic"].last().context("no alarm")?;
    assert_eq!(Some(told), alarms.last());
    assert_eq!((&told["state"], &told["message"]), (&json!("unacknowledged"), &json!("32 °C")));

    // What a person does with it is told too.
    let id = told["id"].as_str().context("no id")?;
    client.post(&format!("/v1/alarms/{id}/ack"), &json!({"by": "Eva"}))?.json()?;
    wait_until("the acknowledgement", || {
        let messages = by_topic(&subscriber)?;
        Ok(messages["out/alarms/too-warm/attic"]
            .last()
            .is_some_and(|told| told["acknowledged"]["by"] == "Eva"))
    })?;
    let status = publishing(client)?;
    assert_eq!((&status["refused"], &status["missed"]), (&json!(0), &json!(0)), "{status}");
    let metrics = client.get("/metrics")?.text();
    ensure!(metrics.contains("ironloom_connector_publish_refused{connector=\"plant\"} 0"), "{metrics}");
    let shown = server.cli(&["connectors", "show", "plant"])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.contains("0 refused, 0 missed"), "{shown}");
    Ok(())
}

/// The values in the order in which they were told.
fn told(subscriber: &Subscriber) -> Result<Vec<u64>> {
    let mut messages = by_topic(subscriber)?;
    let records = messages.remove("out/attic/record").unwrap_or_default();
    Ok(records.iter().filter_map(|record| record["value"].as_f64().map(|value| value as u64)).collect())
}

#[test]
fn it_goes_on_where_it_was_although_the_server_is_killed() -> Result<()> {
    const ROUNDS: u64 = 5;
    const ROUND: u64 = 2_000;
    let Some(broker) = Mosquitto::start(LOSSLESS, "what a server publishes that is killed")? else {
        return Ok(());
    };
    let subscriber = broker.subscribe("out/attic/record")?;
    let setup = Setup::new()?.config(config(&broker));
    let mut server = setup.start_listening()?;
    thermometer(server.client())?;
    wait_until_published(server.client())?;
    for round in 0..ROUNDS {
        push(server.client(), "attic", round * ROUND + 1..=(round + 1) * ROUND)?;
        wait_until("some of it", || Ok(told(&subscriber)?.last().is_some_and(|last| *last > round * ROUND)))?;
        server.kill()?;
        server = setup.start_listening()?;
    }
    wait_until("the last of it", || Ok(told(&subscriber)?.last() == Some(&(ROUNDS * ROUND))))?;
    let told = told(&subscriber)?;
    let mut next = 1;
    for value in &told {
        // Some is told again, from an earlier place on; nothing is left out.
        ensure!(*value <= next, "{value} came where {next} should have");
        next = next.max(value + 1);
    }
    // The place is written down with each 1,000 messages, and the last note may be on its way.
    let most = ROUNDS * ROUND + ROUNDS * 2_200;
    ensure!((told.len() as u64) < most, "{} messages for {} readings", told.len(), ROUNDS * ROUND);
    Ok(())
}

#[test]
fn what_is_derived_while_the_broker_is_away_comes_later() -> Result<()> {
    let kept = tempfile::tempdir()?;
    let persistence = format!(
        "{LOSSLESS}persistence true\npersistence_location {}/\nuser root\nautosave_on_changes true\nautosave_interval 1\n",
        kept.path().display()
    );
    let Some(mut broker) = Mosquitto::start(&persistence, "what is published later")? else { return Ok(()) };
    // The broker keeps its session, so that it misses nothing either.
    let subscriber = broker.subscribe_kept("out/attic/record", "listener")?;
    let server = Setup::new()?.config(config(&broker)).start_listening()?;
    let client = server.client();
    thermometer(client)?;
    wait_until_published(client)?;
    for round in 0..2 {
        broker.kill()?;
        wait_until("the loss", || Ok(publishing(client)?["state"] == "waiting"))?;
        let said = publishing(client)?;
        ensure!(said["last_error"].is_string(), "{said}");
        push(client, "attic", round * 500 + 1..=(round + 1) * 500)?;
        wait_until("them to wait", || Ok(publishing(client)?["behind"].as_u64() >= Some(500)))?;
        broker.start_again()?;
        wait_until_published(client)?;
        wait_until("the last of it", || Ok(told(&subscriber)?.last() == Some(&((round + 1) * 500))))?;
    }
    assert_eq!(told(&subscriber)?, (1..=1_000).collect::<Vec<u64>>());
    Ok(())
}
