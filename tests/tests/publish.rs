//! Derived readings and alarms on their way to a broker: mosquitto, with one that subscribes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_tests::amqtt::Message;
use ironloom_tests::apps::install;
use ironloom_tests::mosquitto::{LOSSLESS, Mosquitto, Subscriber, lasting};
use ironloom_tests::peer::Peer;
use ironloom_tests::plant;
use ironloom_tests::{Client, Setup, guests, wait_until};
use rumqttc_v4::QoS;
use serde_json::{Value, json};

const PUBLISH: &str = r#"
[connectors.plant.publish."apps/{app}/record/{room}"]
topic = "out/{room}/record"
[connectors.plant.publish."alarms/{app}/{code}/{room...}"]
topic = "out/alarms/{code}/{room...}"
"#;

fn config(broker: &Mosquitto) -> String {
    plant::config(&broker.url(), PUBLISH)
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
    Ok(plant::status(client)?["publish"].clone())
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
    let persistence = format!("{LOSSLESS}{}", lasting(kept.path()));
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
    // What the broker had when it was killed, and hadn't acknowledged, comes once more.
    let mut told = told(&subscriber)?;
    let mut seen = BTreeSet::new();
    told.retain(|number| seen.insert(*number));
    assert_eq!(told, (1..=1_000).collect::<Vec<u64>>());
    Ok(())
}

/// Each room has a temperature: one above 25 °C raises its alarm, one below ends it.
fn push_all(client: &Client, rooms: std::ops::Range<u32>, temperature: f64) -> Result<()> {
    let line = |room: u32| {
        json!({"point": format!("house/r{room}/temperature"), "value": temperature}).to_string() + "\n"
    };
    client.push(rooms.map(line).collect::<String>().as_bytes(), None)?.json()?;
    Ok(())
}

/// The states of each room's alarm in the order in which they were told.
fn states(subscriber: &Subscriber) -> Result<BTreeMap<String, Vec<String>>> {
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (topic, alarms) in by_topic(subscriber)? {
        let Some(room) = topic.strip_prefix("out/alarms/too-warm/") else { continue };
        for alarm in alarms {
            assert_eq!(alarm["entity"], room);
            let state = alarm["state"].as_str().context("no state")?.to_owned();
            states.entry(room.to_owned()).or_default().push(state);
        }
    }
    Ok(states)
}

const RAISED: &str = "unacknowledged";
const CLEARED: &str = "return-to-normal-unacknowledged";

#[test]
fn each_change_of_an_alarm_is_told_in_order_although_the_server_is_killed() -> Result<()> {
    const ROUNDS: u32 = 3;
    const ROOMS: u32 = 1_000;
    let what = "alarms of a server that is killed";
    let Some(broker) = Mosquitto::start(LOSSLESS, what)? else { return Ok(()) };
    let subscriber = broker.subscribe("out/alarms/#")?;
    let setup = Setup::new()?.config(config(&broker));
    let mut server = setup.start()?;
    thermometer(server.client())?;
    wait_until_published(server.client())?;
    let mut cut_off = 0;
    for round in 0..ROUNDS {
        let rooms = round * ROOMS..(round + 1) * ROOMS;
        for (temperature, state) in [(31.5, RAISED), (20.0, CLEARED)] {
            let count = || -> Result<usize> {
                let states = states(&subscriber)?;
                let of_round = rooms.clone().filter_map(|room| states.get(&format!("r{room}")));
                Ok(of_round.filter(|told| told.iter().any(|one| one == state)).count())
            };
            push_all(server.client(), rooms.clone(), temperature)?;
            wait_until("some of them", || Ok(count()? > 0))?;
            server.kill()?;
            cut_off += usize::from(count()? < ROOMS as usize);
            server = setup.start()?;
            wait_until("the rest of them", || Ok(count()? == ROOMS as usize))
                .with_context(|| format!("{state} in round {round}"))?;
        }
    }
    // Else it would be no more than a test of restarts.
    ensure!(cut_off > 0, "all was told before each kill");
    wait_until_published(server.client())?;
    let states = states(&subscriber)?;
    assert_eq!(states.len(), (ROUNDS * ROOMS) as usize);
    for (room, mut told) in states {
        // Told again, maybe, and never an older one.
        told.dedup();
        assert_eq!(told, [RAISED, CLEARED], "{room}");
    }
    assert_eq!(publishing(server.client())?["missed"], 0);
    Ok(())
}

#[test]
fn each_change_of_an_alarm_while_the_broker_is_away_is_told_later() -> Result<()> {
    const ROOMS: u32 = 200;
    let kept = tempfile::tempdir()?;
    let what = "alarms that are published later";
    let Some(mut broker) = Mosquitto::start(&format!("{LOSSLESS}{}", lasting(kept.path())), what)? else {
        return Ok(());
    };
    let subscriber = broker.subscribe_kept("out/alarms/#", "listener")?;
    let server = Setup::new()?.config(config(&broker)).start()?;
    let client = server.client();
    thermometer(client)?;
    wait_until_published(client)?;
    push_all(client, 0..1, 31.5)?;
    wait_until("the first", || Ok(states(&subscriber)?.len() == 1))?;
    wait_until_published(client)?;
    broker.kill()?;
    wait_until("the loss", || Ok(publishing(client)?["state"] == "waiting"))?;
    // Half of them are over before the broker is back, and one is raised once more.
    push_all(client, 1..ROOMS, 31.5)?;
    push_all(client, 0..ROOMS / 2, 20.0)?;
    push_all(client, 0..1, 35.5)?;
    let changes = u64::from(ROOMS - 1 + ROOMS / 2 + 1);
    wait_until("them to wait", || Ok(publishing(client)?["alarms_behind"].as_u64() >= Some(changes)))?;
    broker.start_again()?;
    wait_until_published(client)?;
    wait_until("all of them", || {
        let count: usize = states(&subscriber)?.values().map(Vec::len).sum();
        Ok(count as u64 > changes)
    })?;
    let states = states(&subscriber)?;
    for room in 0..ROOMS {
        let told = states.get(&format!("r{room}")).with_context(|| format!("nothing of {room}"))?;
        let (least, last) = match room {
            0 => (3, RAISED),
            _ if room < ROOMS / 2 => (2, CLEARED),
            _ => (1, RAISED),
        };
        ensure!(told.len() >= least && told.last().is_some_and(|state| state == last), "{room}: {told:?}");
    }
    // The episodes of the first room in their order, each with its last state.
    let first = by_topic(&subscriber)?["out/alarms/too-warm/r0"].clone();
    let mut episodes: Vec<_> = first.iter().map(|alarm| alarm["id"].clone()).collect();
    episodes.dedup();
    let [before, now] = &episodes[..] else { bail!("{episodes:?} are not two episodes") };
    let last_of = |id: &Value| first.iter().rfind(|alarm| alarm["id"] == *id).map(|alarm| &alarm["message"]);
    assert_eq!((last_of(before), last_of(now)), (Some(&json!("31.5 °C")), Some(&json!("35.5 °C"))));
    Ok(())
}

const FORMS: &str = r#"
[connectors.plant.publish."apps/rooms/record/{room}"]
topic = "last/{room}"
payload = "value"
retain = true
[connectors.plant.publish."apps/words/echo/{who}"]
topic = "said/{who}"
payload = "value"
[connectors.plant.publish."apps/{app}/{output}/{entity...}"]
topic = "all/{app}/{output}/{entity...}"
[connectors.plant.publish."alarms/{app}/{code}/{entity...}"]
topic = "alarms/{app}/{code}/{entity...}"
retain = true
"#;

#[test]
fn messages_have_the_form_quality_and_retention_that_is_configured() -> Result<()> {
    let Some(broker) = Mosquitto::start(&format!("{LOSSLESS}log_type all\n"), "forms of messages")? else {
        return Ok(());
    };
    let listener = broker.subscribe("#")?;
    let of = |topic: &str| -> Vec<String> {
        listener.got().into_iter().filter(|got| got.topic == topic).map(|got| got.payload).collect()
    };
    let forms = config(&broker).replace(PUBLISH, FORMS);
    for (version, times) in [("5", 1), ("3.1.1", 2)] {
        let forms = forms.replace("kind", &format!("version = \"{version}\"\nkind"));
        let server = Setup::new()?.config(forms).start()?;
        let client = server.client();
        thermometer(client)?;
        let hostile = guests::package("hostile")?;
        install(client, "words", &hostile, json!({"command": ["words"]}), json!({}))?;
        install(client, "more", &hostile, json!({"command": ["words"]}), json!({}))?;
        wait_until_published(client)?;
        client.push_one("house/cellar/temperature", 20.5)?;
        client.push_one("house/attic/temperature", 30.5)?;
        client.push_one("house/attic/temperature", 32.25)?;
        client.push_one("words", "publish")?;
        wait_until("all of it", || {
            let alarms = of("alarms/rooms/too-warm/attic");
            let told = ["last/cellar", "said/somebody", "all/more/echo/somebody"];
            Ok(told.iter().all(|topic| of(topic).len() == times)
                && of("last/attic").len() == 2 * times
                && alarms.iter().filter(|alarm| alarm.contains("32.25")).count() >= times)
        })?;
        ensure!(server.stop()?.success());
    }
    assert_eq!(of("last/attic"), ["30.5", "32.25", "30.5", "32.25"]);
    assert_eq!((of("said/somebody"), of("all/rooms/record/attic")), (vec!["hello".to_owned(); 2], vec![]));
    let echo: Value = serde_json::from_str(of("all/more/echo/somebody").first().context("no echo")?)?;
    let fields: BTreeSet<&str> =
        echo.as_object().into_iter().flat_map(|all| all.keys()).map(String::as_str).collect();
    // An app's text has no unit.
    assert_eq!(fields, ["point", "value", "at", "quality", "sequence"].into(), "{echo}");
    assert_eq!((&echo["point"], &echo["value"]), (&json!("apps/more/echo/somebody"), &json!("hello")));
    sent_as_configured(&broker)?;
    retained_as_configured(&broker)
}

/// Holds what the broker got in each packet against the configuration.
fn sent_as_configured(broker: &Mosquitto) -> Result<()> {
    let mut topics: BTreeMap<String, usize> = BTreeMap::new();
    for line in broker.log()? {
        let Some(packet) = line.strip_prefix("Received PUBLISH from ironloom-test-publish (") else {
            continue;
        };
        let (flags, rest) = packet.split_once(", m").context("no id")?;
        let topic = rest.split('\'').nth(1).context("no topic")?.to_owned();
        let is_kept = topic.starts_with("last/") || topic.starts_with("alarms/");
        let expected = if is_kept { "d0, q1, r1" } else { "d0, q1, r0" };
        ensure!(flags == expected, "{line}");
        *topics.entry(topic).or_default() += 1;
    }
    let all = [
        "alarms/rooms/too-warm/attic",
        "all/more/echo/somebody",
        "last/attic",
        "last/cellar",
        "said/somebody",
    ];
    assert_eq!(topics.keys().collect::<Vec<_>>(), all);
    Ok(())
}

/// Whoever comes later gets the last of what is retained, and nothing else.
fn retained_as_configured(broker: &Mosquitto) -> Result<()> {
    let mut late = Peer::open(broker, "late")?;
    late.subscribe("#", QoS::AtLeastOnce)?;
    broker.send(&Message::new("end", "2"))?;
    let mut kept = BTreeMap::new();
    loop {
        let message = late.message()?;
        let topic = String::from_utf8(message.topic.to_vec())?;
        if topic == "end" {
            break;
        }
        ensure!(message.retain, "{topic} isn't retained");
        kept.insert(topic, String::from_utf8(message.payload.to_vec())?);
    }
    let alarm: Value =
        serde_json::from_str(&kept.remove("alarms/rooms/too-warm/attic").context("no alarm")?)?;
    assert_eq!((&alarm["state"], &alarm["message"]), (&json!(RAISED), &json!("32.25 °C")));
    let records = [("last/attic", "32.25"), ("last/cellar", "20.5")];
    let kept: Vec<_> = kept.iter().map(|(topic, value)| (&**topic, &**value)).collect();
    assert_eq!(kept, records);
    Ok(())
}
