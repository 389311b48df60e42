//! The connector to an MQTT broker, with mosquitto.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::mosquitto::Mosquitto;
use ironloom_tests::{Client, Setup, wait_until};
use serde_json::{Value, json};

/// Nothing is dropped for somebody who is away.
const LOSSLESS: &str = "max_queued_messages 0\nmax_inflight_messages 0\n";

fn config(broker: &Mosquitto, more: &str) -> String {
    format!(
        "[connectors.plant]\nkind = \"mqtt\"\nbroker = \"{}\"\nclient_id = \"ironloom-test\"\n{more}",
        broker.url()
    )
}

const TOPICS: &str = r#"
[connectors.plant.topics."sensors/{line}/{signal}"]
point = "plant/{line}/{signal}"
unit = "Cel"
scale = 0.1
[connectors.plant.topics."states/{machine}"]
point = "plant/{machine}/state"
payload = "reading"
type = "text"
[connectors.plant.topics."meters/{meter}"]
point = "meters/{meter}/{field}"
payload = "fields"
"#;

fn connector(client: &Client) -> Result<Value> {
    let list = client.get("/v1/connectors")?.json()?;
    Ok(list["items"][0].clone())
}

fn wait_until_connected(client: &Client) -> Result<()> {
    wait_until("the broker", || Ok(connector(client)?["state"] == "running"))
}

#[test]
fn payloads_become_readings_of_the_points_that_their_topics_name() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "the MQTT connector")? else { return Ok(()) };
    let server = Setup::new()?.config(config(&broker, TOPICS)).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    broker.publish("sensors/7/temp", &["215".to_owned(), "216".to_owned()])?;
    let state = json!({"value": "on", "at": "2026-01-02T03:04:05Z", "quality": "uncertain"});
    broker.publish("states/press", &[state.to_string()])?;
    broker.publish("meters/m1", &[json!({"power": 1.5, "on": true}).to_string()])?;
    // Topics that make no point, and payloads that can't be read.
    broker.publish("sensors//temp", &["1".to_owned()])?;
    broker.publish("sensors/7/temp", &["hot".to_owned()])?;
    wait_until("all of it", || Ok(connector(client)?["skipped"] == 2 && client.journal(0, "")?.len() == 5))?;

    let all = client.journal(0, "")?;
    let of = |point: &str| -> Vec<Value> {
        all.iter()
            .filter(|reading| reading["point"] == point)
            .map(|reading| reading["value"].clone())
            .collect()
    };
    assert_eq!(of("plant/7/temp"), [json!(215.0 * 0.1), json!(216.0 * 0.1)]);
    assert_eq!((of("meters/m1/power"), of("meters/m1/on")), (vec![json!(1.5)], vec![json!(true)]));
    let state = all.iter().find(|reading| reading["point"] == "plant/press/state").context("no state")?;
    assert_eq!((&state["value"], &state["at"]), (&json!("on"), &json!("2026-01-02T03:04:05.000000000Z")));
    assert_eq!(state["quality"], "uncertain");
    assert_eq!(connector(client)?["readings"], 5);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn what_the_broker_has_comes_once_although_the_server_is_killed() -> Result<()> {
    const PARTS: u64 = 10;
    const PART: u64 = 2_000;
    let Some(broker) = Mosquitto::start(LOSSLESS, "an MQTT connector that is killed")? else { return Ok(()) };
    let topic = "[connectors.plant.topics.\"count/{n}\"]\npoint = \"count/{n}\"\ntype = \"integer\"\n";
    let setup = Setup::new()?.config(config(&broker, topic));
    let mut server = setup.start_listening()?;
    wait_until_connected(server.client())?;
    for part in 0..PARTS {
        let lines: Vec<String> = (part * PART..(part + 1) * PART).map(|n| n.to_string()).collect();
        std::thread::scope(|scope| -> Result<()> {
            let publishes = scope.spawn(|| broker.publish("count/a", &lines));
            wait_until("some of it", || Ok(server.client().journal(part * PART, "")?.len() > 100))?;
            server.kill()?;
            publishes.join().map_err(|_| anyhow::anyhow!("it panicked"))?
        })?;
        server = setup.start_listening()?;
    }
    let client = server.client();
    let counts = || -> Result<BTreeMap<i64, u64>> {
        let mut counts = BTreeMap::new();
        for reading in client.journal(0, "")? {
            *counts.entry(reading["value"].as_i64().context("no number")?).or_default() += 1;
        }
        Ok(counts)
    };
    wait_until("all of it", || Ok(counts()?.len() as u64 == PARTS * PART))?;
    let counts = counts()?;
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "twice: {twice:?}");
    Ok(())
}
