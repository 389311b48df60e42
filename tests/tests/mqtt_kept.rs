//! Messages that an MQTT connector has acknowledged are kept, once: with apps that are stuck, and under `kill -9`.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::mosquitto::{LOSSLESS_AND_LOGGED, Mosquitto};
use ironloom_tests::plant::{self, wait_until_connected};
use ironloom_tests::{Client, Setup, guests, wait_until};
use serde_json::{Value, json};

fn config(broker: &Mosquitto, more: &str) -> String {
    plant::config(&broker.url(), more)
}

fn broker_status(client: &Client) -> Result<Value> {
    Ok(plant::status(client)?["broker"].clone())
}

/// The integers of a point, in the order of the journal.
fn numbers(client: &Client, point: &str) -> Result<Vec<i64>> {
    let readings = client.journal(0, &format!("point={point}"))?;
    readings.iter().map(|reading| reading["value"].as_i64().context("no integer")).collect()
}

/// Counts the lines of the broker's log that begin so.
fn logged(broker: &Mosquitto, begin: &str) -> Result<usize> {
    Ok(broker.log()?.iter().filter(|line| line.starts_with(begin)).count())
}

#[test]
fn nothing_waits_for_an_app_that_is_stuck_or_paused() -> Result<()> {
    const MESSAGES: u64 = 5_000;
    let Some(broker) = Mosquitto::start(LOSSLESS_AND_LOGGED, "apps that are stuck")? else { return Ok(()) };
    let topics = "[connectors.plant.topics.\"all\"]\npoint = \"all/{field}\"\npayload = \"fields\"\n\
                  [connectors.plant.topics.\"number\"]\npoint = \"number\"\ntype = \"integer\"\n";
    let server = Setup::new()?.config(config(&broker, topics)).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    // Each call of this one burns ten seconds, and gets nowhere.
    let change = |manifest: String| manifest.replace("cpu = \"100 ms\"", "cpu = \"10 s\"");
    let stuck = guests::package_as("com.example.stuck", "0.1.0", "hostile", change)?;
    let granted = json!({"limits": {"cpu": "10 s"}});
    install(client, "stuck", &stuck, json!({"command": ["all/command"]}), granted)?;
    install(client, "paused", &guests::package("one-state")?, json!({"value": ["all/n"]}), json!({}))?;
    client.send("POST", "/v1/installations/paused/pause", &[], b"")?.json()?;
    wait_for_installation(client, "paused", "paused", |paused| paused["state"] == "paused")?;

    let lines: Vec<String> = (0..MESSAGES).map(|n| json!({"command": "loop", "n": n}).to_string()).collect();
    broker.publish("all", &lines)?;
    wait_until("all acknowledgements at the broker", || {
        Ok(logged(&broker, "Received PUBACK from ironloom-test ")? as u64 == MESSAGES)
    })?;
    for id in ["stuck", "paused"] {
        let shown = client.installation(id)?;
        let (lag, dealt_with) = (number(&shown, "lag.readings"), number(&shown, "counters.readings"));
        ensure!(lag >= MESSAGES - 10 && dealt_with <= 10, "it should be behind: {shown}");
    }
    let status = broker_status(client)?;
    assert_eq!((&status["messages_acknowledged"], &status["unacknowledged"]), (&json!(MESSAGES), &json!(0)));
    // What was acknowledged is durable, although no app has dealt with it.
    let server = server.restarted()?;
    let values: Vec<Value> =
        server.client().journal(0, "point=all/n")?.iter().map(|reading| reading["value"].clone()).collect();
    ensure!(
        values == (0..MESSAGES).map(|n| json!(n as f64)).collect::<Vec<_>>(),
        "{} readings",
        values.len()
    );
    // And it goes on.
    wait_until_connected(server.client())?;
    broker.publish("number", &["7".to_owned()])?;
    wait_until("one more", || Ok(numbers(server.client(), "number")? == [7]))
}

/// Kills the server again and again while messages come, until some of them came twice. Each one is in the journal once at the
/// end, in its place.
fn kill_while_messages_come(version: &str) -> Result<()> {
    const LEAST: u64 = 10;
    const MOST: u64 = 40;
    const PART: u64 = 2_000;
    let what = "an MQTT connector that is killed";
    let Some(broker) = Mosquitto::start(LOSSLESS_AND_LOGGED, what)? else { return Ok(()) };
    let topic = "[connectors.plant.topics.\"count/{n}\"]\npoint = \"count/{n}\"\ntype = \"integer\"\n";
    let setup = Setup::new()?.config(config(&broker, &format!("version = \"{version}\"\n{topic}")));
    let mut server = setup.start_listening()?;
    wait_until_connected(server.client())?;
    let (mut parts, mut known) = (0, 0);
    // It says nothing of them before it is connected.
    let duplicates =
        |client: &Client| -> Result<u64> { Ok(broker_status(client)?["duplicates"].as_u64().unwrap_or(0)) };
    while parts < LEAST || (known == 0 && parts < MOST) {
        let lines: Vec<String> = (parts * PART..(parts + 1) * PART).map(|n| n.to_string()).collect();
        std::thread::scope(|scope| -> Result<()> {
            let publishes = scope.spawn(|| broker.publish("count/a", &lines));
            wait_until("some of it", || Ok(server.client().journal(parts * PART, "")?.len() > 100))?;
            known += duplicates(server.client())?;
            server.kill()?;
            publishes.join().map_err(|_| anyhow::anyhow!("it panicked"))?
        })?;
        server = setup.start_listening()?;
        parts += 1;
    }
    let client = server.client();
    let last = i64::try_from(parts * PART)?;
    wait_until("all of it", || Ok(numbers(client, "count/a")?.last() == Some(&(last - 1))))?;
    assert_eq!(broker_status(client)?["version"], version);
    known += duplicates(client)?;
    let resent = logged(&broker, "Sending PUBLISH to ironloom-test (d1, ")?;
    eprintln!("{version}: {parts} kills, {resent} sent again, at least {known} of them known");
    ensure!(known > 0, "of {resent} messages that were sent again none was known, with {parts} kills");
    ensure!(resent as u64 >= known, "{known} were known as sent again, and {resent} were");
    let all = numbers(client, "count/a")?;
    let wrong = all.iter().zip(0..).find(|(value, place)| **value != *place);
    ensure!(wrong.is_none() && all.len() as u64 == parts * PART, "{} readings; {wrong:?}", all.len());
    Ok(())
}

#[test]
fn what_the_broker_has_comes_once_although_the_server_is_killed() -> Result<()> {
    kill_while_messages_come("5")
}

#[test]
fn what_a_broker_of_311_has_comes_once_although_the_server_is_killed() -> Result<()> {
    kill_while_messages_come("3.1.1")
}
