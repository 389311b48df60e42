//! Connectors to several brokers at once, and one that a reload takes from one broker to another: two of mosquitto.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::amqtt::Message;
use ironloom_tests::apps::install;
use ironloom_tests::mosquitto::{LOSSLESS_AND_LOGGED, Mosquitto, Subscriber, lasting};
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

/// The id of all connectors here: brokers know nothing of each other, and must not be taken for each other.
const CLIENT: &str = "ironloom-test";

fn show(client: &Client, name: &str) -> Result<Value> {
    client.get(&format!("/v1/connectors/{name}"))?.json()
}

/// The values of a point in the order of the journal.
fn values(client: &Client, point: &str) -> Result<Vec<f64>> {
    let readings = client.journal(0, &format!("point={point}"))?;
    readings.iter().map(|reading| reading["value"].as_f64().context("no number")).collect()
}

/// Topics and values of what a subscriber got: payloads are JSON with a `value`.
fn told(subscriber: &Subscriber) -> Result<Vec<(String, Value)>> {
    let one = |got: ironloom_tests::mosquitto::Got| {
        let payload: Value = serde_json::from_str(&got.payload).with_context(|| got.payload.clone())?;
        // A number is a number, with a fraction or without.
        let value = payload["value"].as_f64().map_or_else(|| payload["value"].clone(), Value::from);
        Ok((got.topic, value))
    };
    subscriber.got().into_iter().map(one).collect()
}

/// An app that asks for the set-points of its site which readings wish for.
fn drive(client: &Client, site: &str) -> Result<()> {
    let bindings =
        json!({"wish": format!("{site}/{{station}}/wish"), "limit": format!("{site}/{{station}}/limit")});
    let grants = json!({"outputs": {"limit": {"allow": "0, 6..32", "toward": "low", "safe": 6}}});
    // So long that no safe value comes in between.
    let more = json!({"grants": grants, "settings": {"life": 600_000}});
    let installed = install(client, &format!("drive-{site}"), &guests::package("driver")?, bindings, more)?;
    let warnings = installed["warnings"].to_string();
    ensure!(!warnings.contains("set-point") && !warnings.contains("grant"), "{warnings}");
    Ok(())
}

/// A site's connector: wishes come and limits go at its own broker, and so do the outcomes of the other site.
fn site(name: &str, other: &str, broker: &Mosquitto) -> String {
    format!(
        "[connectors.{name}]\nkind = \"mqtt\"\nbroker = \"{}\"\nclient_id = \"{CLIENT}\"\n\
         [connectors.{name}.topics.\"wish/{{station}}\"]\npoint = \"{name}/{{station}}/wish\"\n\
         [connectors.{name}.set_points.\"{name}/{{station}}/limit\"]\ntopic = \"limit/{{station}}\"\n\
         [connectors.{name}.publish.\"apps/drive-{other}/limit/{{station}}/outcome\"]\ntopic = \"outcome/{{station}}\"\n",
        broker.url()
    )
}

#[test]
fn each_broker_has_its_own_readings_set_points_and_publications() -> Result<()> {
    let kept = tempfile::tempdir()?;
    // Each change is written down at once, so that a kill leaves the subscriptions.
    let persistence = format!("{LOSSLESS_AND_LOGGED}{}", lasting(kept.path()));
    let Some(east) = Mosquitto::start(LOSSLESS_AND_LOGGED, "two brokers")? else { return Ok(()) };
    let Some(mut west) = Mosquitto::start(&persistence, "two brokers")? else { return Ok(()) };
    let of_east = (east.subscribe("limit/#")?, east.subscribe("outcome/#")?);
    let of_west = (west.subscribe_kept("limit/#", "limits")?, west.subscribe_kept("outcome/#", "outcomes")?);
    let setup = Setup::new()?.config(site("east", "west", &east) + &site("west", "east", &west));
    let server = setup.start()?;
    let client = server.client();
    drive(client, "east")?;
    drive(client, "west")?;

    // The same topic at both, with a value of its own.
    east.send(&Message::new("wish/1", "16"))?;
    west.send(&Message::new("wish/1", "10"))?;
    let one = |value: f64| vec![("limit/1".to_owned(), json!(value))];
    let accepted = |stations: &[u8]| -> Vec<(String, Value)> {
        stations.iter().map(|n| (format!("outcome/{n}"), json!("accepted"))).collect()
    };
    wait_until("both outcomes", || {
        Ok(told(&of_east.1)? == accepted(&[1]) && told(&of_west.1)? == accepted(&[1]))
    })?;
    // The brokers' clients tell of what they got each in its own time.
    wait_until("both limits", || Ok(told(&of_east.0)? == one(16.0) && told(&of_west.0)? == one(10.0)))?;
    assert_eq!((values(client, "east/1/wish")?, values(client, "west/1/wish")?), (vec![16.0], vec![10.0]));

    // While one is away the other goes on, and what is for the one that is away comes later.
    west.kill()?;
    wait_until("the loss", || {
        let west = show(client, "west")?;
        let states = [&west["state"], &west["set_points"]["state"], &west["publish"]["state"]];
        Ok(states.iter().all(|state| **state == "waiting"))
    })?;
    east.send(&Message::new("wish/2", "7"))?;
    wait_until("a limit", || Ok(told(&of_east.0)?.len() == 2))?;
    client.push_one("west/3/wish", 9.0)?;
    wait_until("an outcome that waits", || {
        let outcome = "point=apps/drive-east/limit/2/outcome";
        Ok(!client.journal(0, outcome)?.is_empty() && show(client, "west")?["publish"]["behind"] != 0)
    })?;
    let state = show(client, "east")?;
    assert_eq!((&state["state"], &state["broker"]["reconnects"]), (&json!("running"), &json!(0)));
    west.start_again()?;
    wait_until("what has waited", || {
        Ok(told(&of_west.1)? == accepted(&[1, 2]) && told(&of_east.1)? == accepted(&[1, 3]))
    })?;
    let more = |first: f64, station: u8, second: f64| {
        [one(first), vec![(format!("limit/{station}"), json!(second))]].concat()
    };
    wait_until("the limits", || {
        Ok(told(&of_east.0)? == more(16.0, 2, 7.0) && told(&of_west.0)? == more(10.0, 3, 9.0))
    })?;
    ensure!(server.stop()?.success());
    Ok(())
}

/// The parts of the connector `plant`.
#[derive(Clone, Copy)]
struct Parts {
    set_points: bool,
    /// The first level of the topics of what is published.
    publish: Option<&'static str>,
}

impl Parts {
    fn config(self, broker: &Mosquitto) -> String {
        let set_points =
            "[connectors.plant.set_points.\"plant/{station}/limit\"]\ntopic = \"limit/{station}\"\n";
        let publish = |to: &str| {
            format!("[connectors.plant.publish.\"apps/rooms/record/{{room}}\"]\ntopic = \"{to}/{{room}}\"\n")
        };
        format!(
            "[connectors.plant]\nkind = \"mqtt\"\nbroker = \"{}\"\nclient_id = \"{CLIENT}\"\n\
             [connectors.plant.topics.\"rooms/{{room}}\"]\npoint = \"house/{{room}}/temperature\"\n{}{}",
            broker.url(),
            if self.set_points { set_points } else { "" },
            self.publish.map(publish).unwrap_or_default()
        )
    }

    /// The ids of its connections.
    fn clients(self) -> BTreeSet<String> {
        let all = [("", true), ("-set-points", self.set_points), ("-publish", self.publish.is_some())];
        all.iter().filter(|(_, is_there)| *is_there).map(|(end, _)| format!("{CLIENT}{end}")).collect()
    }

    /// Waits until these parts are connected to one broker, and nothing to the other.
    fn wait(self, server: &Server, [here, there]: [&Mosquitto; 2]) -> Result<()> {
        wait_until("the right connections", || {
            Ok(here.clients(CLIENT)? == self.clients() && there.clients(CLIENT)?.is_empty())
        })?;
        wait_until("all of it to run", || Ok(show(server.client(), "plant")?["state"] == "running"))?;
        let status = show(server.client(), "plant")?;
        assert_eq!(status["set_points"].is_object(), self.set_points, "{status}");
        assert_eq!(status["publish"].is_object(), self.publish.is_some(), "{status}");
        Ok(())
    }
}

/// Reads another configuration: by SIGHUP, or over the API.
fn reload(server: &Server, config: &str, by_signal: bool) -> Result<()> {
    fs::write(server.setup().folder().join("ironloom.toml"), config)?;
    if by_signal {
        return server.hang_up();
    }
    server.client().post("/v1/reload", &json!({}))?.json()?;
    Ok(())
}

/// Publishes numbers as the temperatures of a room, so that each is a record.
fn publish(broker: &Mosquitto, room: &str, numbers: std::ops::RangeInclusive<u32>) -> Result<()> {
    let lines: Vec<String> = numbers.map(|number| number.to_string()).collect();
    broker.publish(&format!("rooms/{room}"), &lines)
}

/// Waits for the last number of a room. Returns all that came.
fn wait_for_all(client: &Client, room: &str, last: u32) -> Result<Vec<f64>> {
    let point = format!("house/{room}/temperature");
    wait_until("all of it", || Ok(values(client, &point)?.last() == Some(&f64::from(last))))?;
    values(client, &point)
}

/// Looks whether each number is there, in order; some may be there again.
fn ensure_all_there(numbers: &[f64], last: u32) -> Result<()> {
    let mut next = 1.0;
    for value in numbers {
        ensure!(*value <= next, "{value} came where {next} should have");
        next = f64::max(next, value + 1.0);
    }
    ensure!(next > f64::from(last), "{next} didn't come");
    Ok(())
}

#[test]
fn a_reload_takes_a_connector_to_another_broker_and_nothing_is_lost() -> Result<()> {
    let Some(first) = Mosquitto::start(LOSSLESS_AND_LOGGED, "another broker by a reload")? else {
        return Ok(());
    };
    let Some(second) = Mosquitto::start(LOSSLESS_AND_LOGGED, "another broker by a reload")? else {
        return Ok(());
    };
    let heard = (first.subscribe("out/#")?, second.subscribe("other/#")?, first.subscribe("limit/#")?);
    let all = Parts { set_points: true, publish: Some("out") };
    let server = Setup::new()?.config(all.config(&first)).start()?;
    let client = server.client();
    let thermometer = guests::workspace().join("sample-apps/thermometer");
    let bindings = json!({"temperature": "house/{room}/temperature"});
    install(client, "rooms", &guests::package_of("thermometer", &thermometer)?, bindings, json!({}))?;
    drive(client, "plant")?;
    all.wait(&server, [&first, &second])?;
    client.push_one("plant/1/wish", 16.0)?;
    wait_until("a limit", || Ok(told(&heard.2)? == [("limit/1".to_owned(), json!(16.0))]))?;

    // To the second one, while the first one sends: it keeps what it hadn't sent.
    let moved = Parts { set_points: false, publish: Some("other") };
    std::thread::scope(|scope| -> Result<()> {
        let publishes = scope.spawn(|| publish(&first, "attic", 1..=20_000));
        wait_until("some of it", || Ok(values(client, "house/attic/temperature")?.len() > 100))?;
        reload(&server, &moved.config(&second), true)?;
        publishes.join().map_err(|_| anyhow::anyhow!("it panicked"))?
    })?;
    moved.wait(&server, [&second, &first])?;
    ensure!(values(client, "house/attic/temperature")?.len() < 20_000, "nothing was left for later");
    publish(&second, "cellar", 1..=500)?;
    assert_eq!(wait_for_all(client, "cellar", 500)?.len(), 500);

    // Back, without anything to publish, while the second one gets more.
    let back = Parts { set_points: true, publish: None };
    reload(&server, &back.config(&first), false)?;
    back.wait(&server, [&first, &second])?;
    publish(&second, "cellar", 501..=1_000)?;
    // What was on its way when the connection ended may come twice: of one broker at a time it is known what came.
    ensure_all_there(&wait_for_all(client, "attic", 20_000)?, 20_000)?;
    client.push_one("plant/2/wish", 8.0)?;
    wait_until("another limit", || Ok(told(&heard.2)?.last() == Some(&("limit/2".to_owned(), json!(8.0)))))?;

    // And once more: what was derived meanwhile is published now.
    reload(&server, &moved.config(&second), true)?;
    moved.wait(&server, [&second, &first])?;
    assert_eq!(wait_for_all(client, "cellar", 1_000)?.len(), 1_000);
    let told_of = |room: &str| -> Result<Vec<f64>> {
        let both = [told(&heard.0)?, told(&heard.1)?].concat();
        let of = both.iter().filter(|(topic, _)| topic.ends_with(room));
        Ok(of.filter_map(|(_, value)| value.as_f64()).collect())
    };
    wait_until("the last records", || {
        Ok(told_of("attic")?.last() == Some(&20_000.0) && told_of("cellar")?.last() == Some(&1_000.0))
    })?;
    ensure_all_there(&told_of("attic")?, 20_000)?;
    ensure_all_there(&told_of("cellar")?, 1_000)?;
    // No set-point was told twice, and none where nobody should hear it.
    assert_eq!(told(&heard.2)?.len(), 2);
    ensure!(second.log()?.iter().all(|line| !line.contains("limit/")), "a set-point came to the second one");
    Ok(())
}
