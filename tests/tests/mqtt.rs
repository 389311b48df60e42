//! The connector to an MQTT broker, with mosquitto.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::amqtt::Message;
use ironloom_tests::http::percent_encode;
use ironloom_tests::mosquitto::{LOSSLESS, Mosquitto};
use ironloom_tests::plant::{self, wait_until_connected};
use ironloom_tests::{Client, Server, Setup, wait_until};
use serde_json::{Value, json};

fn config(broker: &Mosquitto, more: &str) -> String {
    plant::config(&broker.url(), more)
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
    let status = connector(client)?;
    assert_eq!((&status["readings"], &status["dead_letters"]), (&json!(5), &json!(2)));
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn what_gives_no_reading_is_a_dead_letter_with_its_reason() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "dead letters of a connector")? else { return Ok(()) };
    let server = Setup::new()?.config(config(&broker, TOPICS)).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    let deep = "[".repeat(100_000);
    let long = format!("\"{}\"", "x".repeat(900_000));
    let wide = format!("{{\"value\":{}}}", "9".repeat(500));
    let hostile: [(&str, &[u8], &str); 9] = [
        ("sensors/7/temp", b"", "can't be read"),
        ("sensors/7/temp", b"NaN", "can't be read"),
        ("sensors/7/temp", b"\xff\xfe21", "not UTF-8"),
        ("sensors/7/temp", deep.as_bytes(), "recursion limit"),
        ("sensors/7/temp", b"1e999", "out of range"),
        ("states/press", long.as_bytes(), "invalid type"),
        ("states/press", wide.as_bytes(), "out of range"),
        ("meters/m1", b"{\"\":1}", "field is empty and makes no point path"),
        ("meters/m1", b"{\"power\":{\"w\":1}}", "is no value"),
    ];
    for (topic, payload, _) in &hostile {
        broker.send(&Message::new(topic, payload))?;
    }
    // It goes on with what can be read.
    broker.send(&Message::new("sensors/7/temp", "215"))?;
    wait_until("the reading and the letters", || {
        Ok(client.journal(0, "")?.len() == 1 && connector(client)?["dead_letters"] == hostile.len())
    })?;
    let list = |query: &str| client.get(&format!("/v1/connectors/plant/dead-letters{query}"))?.json();
    let all = list("?order=oldest")?;
    let items = all["items"].as_array().context("no items")?;
    assert_eq!(items.len(), hostile.len());
    for (item, (topic, payload, reason)) in items.iter().zip(&hostile) {
        assert_eq!((&item["topic"], &item["bytes"]), (&json!(topic), &json!(payload.len())));
        let said = item["reason"].as_str().context("no reason")?;
        ensure!(said.contains(reason), "{topic}: {said}");
    }
    assert_eq!((&items[2]["payload"], &items[1]["payload"]), (&json!({"base64": "//4yMQ=="}), &json!("NaN")));
    assert_eq!(items[5]["payload"].as_str().map(str::len), Some(1_024));
    // The newest first, page after page.
    let page = list("?limit=2")?;
    let numbers = |page: &Value| [page["items"][0]["number"].clone(), page["items"][1]["number"].clone()];
    assert_eq!((numbers(&page), &page["next"]), ([json!(9), json!(8)], &json!("8")));
    assert_eq!(numbers(&list("?limit=2&after=8")?), [json!(7), json!(6)]);
    assert_eq!(client.get("/v1/connectors/nobody/dead-letters")?.problem(404)?["kind"], "not-found");
    show_ten_messages(&server)?;
    let letters = server.cli(&["connector", "dead-letters", "plant", "--last", "1"])?;
    let letters = String::from_utf8(letters.stdout)?;
    ensure!(letters.contains("meters/m1") && letters.contains("is no value"), "{letters}");
    Ok(())
}

/// Holds status, metrics and CLI against ten messages, of which nine are dead letters.
fn show_ten_messages(server: &Server) -> Result<()> {
    let client = server.client();
    let status = client.get("/v1/connectors/plant")?.json()?;
    let broker_status = &status["broker"];
    assert_eq!((&broker_status["version"], &broker_status["session_present"]), (&json!("5"), &json!(false)));
    wait_until("the last acknowledgement", || {
        Ok(client.get("/v1/connectors/plant")?.json()?["broker"]["messages_acknowledged"] == 10)
    })?;
    assert_eq!((&broker_status["messages_received"], &broker_status["reconnects"]), (&json!(10), &json!(0)));
    ensure!(broker_status["connected_since"].is_string() && broker_status["refused"] == json!([]));
    let metrics = client.get("/metrics")?.text();
    for line in [
        "ironloom_connector_dead_letters{connector=\"plant\"} 9",
        "ironloom_connector_messages_received{connector=\"plant\"} 10",
        "ironloom_connector_messages_acknowledged{connector=\"plant\"} 10",
        "ironloom_connector_connected{connector=\"plant\"} 1",
        "ironloom_connector_unacknowledged{connector=\"plant\"} 0",
        "ironloom_connector_oldest_unacknowledged_seconds{connector=\"plant\"} 0.0",
    ] {
        ensure!(metrics.lines().any(|own| own == line), "{line} isn't in\n{metrics}");
    }
    let shown = server.cli(&["connectors", "show", "plant"])?;
    let shown = String::from_utf8(shown.stdout)?;
    ensure!(
        shown.contains("MQTT 5, connected since") && shown.contains("10 received, 10 acknowledged"),
        "{shown}"
    );
    Ok(())
}

#[test]
fn retained_messages_come_as_the_connector_wants_them() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "retained messages")? else { return Ok(()) };
    let one = |name: &str, retained: &str| {
        format!(
            "[connectors.{name}]\nkind = \"mqtt\"\nbroker = \"{}\"\nclient_id = \"{name}\"\nretained = \"{retained}\"\n\
             [connectors.{name}.topics.\"kept/{{n}}\"]\npoint = \"{name}/{{n}}\"\n",
            broker.url()
        )
    };
    broker.send(&Message::new("kept/a", "1").retained())?;
    broker.send(&Message::new("kept/b", "2").retained())?;
    let config = one("latest", "latest") + &one("all", "all") + &one("none", "none");
    let server = Setup::new()?.config(config).start_listening()?;
    let points = |client: &Client| -> Result<Vec<(String, f64)>> {
        let readings = client.journal(0, "")?;
        let of = |reading: &Value| {
            let point = reading["point"].as_str().unwrap_or_default().to_owned();
            (point, reading["value"].as_f64().unwrap_or_default())
        };
        let mut all: Vec<_> = readings.iter().map(of).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(all)
    };
    let expected = |all: &[(&str, f64)]| {
        all.iter().map(|(point, value)| ((*point).to_owned(), *value)).collect::<Vec<_>>()
    };
    let first = expected(&[("all/a", 1.0), ("all/b", 2.0), ("latest/a", 1.0), ("latest/b", 2.0)]);
    wait_until("what was retained", || Ok(points(server.client())? == first))?;
    let is_connected = |server: &ironloom_tests::Server, connections: u64| {
        let list = server.client().get("/v1/connectors")?.json()?;
        let items = list["items"].as_array().context("no items")?.clone();
        let sees = |item: &Value| item["state"] == "running" && item["broker"]["reconnects"] == connections;
        Ok(items.len() == 3 && items.iter().all(sees))
    };
    wait_until("all three", || is_connected(&server, 0))?;
    // What isn't retained comes to all three.
    broker.send(&Message::new("kept/a", "3"))?;
    wait_until("a message", || Ok(points(server.client())?.len() == 7))?;
    // The value that is retained is now another than the latest.
    let server = server.restarted()?;
    wait_until("all three again", || is_connected(&server, 0))?;
    broker.send(&Message::new("kept/c", "4"))?;
    wait_until("the end", || {
        Ok(points(server.client())?.iter().filter(|(point, _)| point.ends_with('c')).count() == 3)
    })?;
    let all = points(server.client())?;
    let of =
        |point: &str| all.iter().filter(|(own, _)| own == point).map(|(_, value)| *value).collect::<Vec<_>>();
    assert_eq!((of("latest/a"), of("latest/b")), (vec![1.0, 3.0, 1.0], vec![2.0]));
    // The session has the subscription, so that they don't come again with each connection.
    assert_eq!((of("all/a"), of("all/b")), (vec![1.0, 3.0], vec![2.0]));
    assert_eq!((of("none/a"), of("none/b")), (vec![3.0], vec![]));
    Ok(())
}

#[test]
fn a_reload_adds_and_removes_topics_and_the_broker_forgets_those() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "a reload of topics")? else { return Ok(()) };
    let topics = |names: &[&str]| {
        let one =
            |name: &&str| format!("[connectors.plant.topics.\"{name}/{{n}}\"]\npoint = \"{name}/{{n}}\"\n");
        config(&broker, &names.iter().map(one).collect::<String>())
    };
    let setup = Setup::new()?.config(topics(&["a", "b"]));
    let mut server = setup.start_listening()?;
    wait_until_connected(server.client())?;
    broker.send(&Message::new("a/1", "1"))?;
    wait_until("a", || Ok(server.client().journal(0, "")?.len() == 1))?;
    let mut expected = 1;
    // Once by a reload, once while the server is down.
    for (step, (before, now)) in [("a", ["b", "c"]), ("b", ["c", "d"])].into_iter().enumerate() {
        if step == 0 {
            std::fs::write(setup.folder().join("ironloom.toml"), topics(&now))?;
            server.client().post("/v1/reload", &json!({}))?.json()?;
        } else {
            server.stop()?;
            server = setup.clone().config(topics(&now)).start_listening()?;
        }
        wait_until_connected(server.client())?;
        // This one is no longer wanted, and wouldn't match.
        broker.send(&Message::new(&format!("{before}/1"), "7"))?;
        for name in now {
            broker.send(&Message::new(&format!("{name}/1"), "2"))?;
        }
        expected += 2;
        wait_until("both", || Ok(server.client().journal(0, "")?.len() == expected))?;
        assert_eq!(connector(server.client())?["dead_letters"], 0, "{before}");
    }
    Ok(())
}

#[test]
fn topics_that_overlap_bring_each_message_once() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "overlapping topics")? else { return Ok(()) };
    let topics = "[connectors.plant.topics.\"a/b\"]\npoint = \"first\"\n\
                  [connectors.plant.topics.\"a/{n}\"]\npoint = \"second/{n}\"\n\
                  [connectors.plant.topics.\"{n}/c\"]\npoint = \"third/{n}\"\n";
    let server = Setup::new()?.config(config(&broker, topics)).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    for topic in ["a/b", "a/c", "z/c", "a/end"] {
        broker.send(&Message::new(topic, "1"))?;
    }
    let points = || -> Result<Vec<String>> {
        let all = client.journal(0, "")?;
        Ok(all.iter().map(|reading| reading["point"].as_str().unwrap_or_default().to_owned()).collect())
    };
    wait_until("the last one", || Ok(points()?.iter().any(|point| point == "second/end")))?;
    assert_eq!(points()?, ["first", "second/c", "third/z", "second/end"]);
    Ok(())
}

#[test]
fn all_qualities_of_service_come_also_after_the_broker_was_away() -> Result<()> {
    let kept = tempfile::tempdir()?;
    let persistence =
        format!("{LOSSLESS}persistence true\npersistence_location {}/\nuser root\n", kept.path().display());
    let Some(mut broker) = Mosquitto::start(&persistence, "a broker that was away")? else { return Ok(()) };
    let topics = "[connectors.plant.topics.\"q/{n}\"]\npoint = \"q/{n}\"\n";
    let server = Setup::new()?.config(config(&broker, topics)).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    let values = || -> Result<Vec<f64>> {
        Ok(client.journal(0, "")?.iter().filter_map(|reading| reading["value"].as_f64()).collect())
    };
    let mut expected = Vec::new();
    for round in 0..2_u8 {
        for qos in 0..3_u8 {
            let value = round * 10 + qos;
            broker.send(&Message::new("q/a", value.to_string()).qos(qos))?;
            expected.push(f64::from(value));
            wait_until("it", || Ok(values()? == expected))?;
        }
        broker.kill()?;
        wait_until("the loss", || Ok(connector(client)?["state"] == "waiting"))?;
        let said = connector(client)?;
        ensure!(said["broker"]["connected_since"].is_null() && said["last_error"].is_string(), "{said}");
        broker.start_again()?;
        wait_until_connected(client)?;
        assert_eq!(connector(client)?["broker"]["reconnects"], round + 1);
    }
    Ok(())
}

#[test]
fn a_message_that_is_too_long_for_a_session_of_311_is_named_with_the_way_out() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "a message that is too long")? else { return Ok(()) };
    let own = format!("version = \"3.1.1\"\n{TOPICS}");
    let server = Setup::new()?.config(config(&broker, &own)).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    broker.send(&Message::new("sensors/7/temp", vec![b' '; 17 << 20]))?;
    wait_until("the loss", || {
        Ok(connector(client)?["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("message_size_limit")))
    })?;
    Ok(())
}

#[test]
fn a_connector_is_tried_beside_the_server_that_has_its_session() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "a connector that is tried")? else { return Ok(()) };
    let setup = Setup::new()?.config(config(&broker, TOPICS));
    let server = setup.start_listening()?;
    wait_until_connected(server.client())?;
    broker.send(&Message::new("states/press", "{\"value\":\"on\",\"quality\":\"uncertain\"}").retained())?;
    broker.send(&Message::new("sensors/7/temp", "hot").retained())?;
    broker.send(&Message::new("meters/m1", "{\"power\":1.5,\"on\":true}").retained())?;
    let file = setup.folder().join("ironloom.toml");
    let path = file.to_str().context("no path")?;
    let tried = server.cli(&["connector", "test", "plant", "--config", path, "--for", "2s"])?;
    let said = String::from_utf8(tried.stdout)?;
    ensure!(tried.status.success(), "{said}{}", String::from_utf8_lossy(&tried.stderr));
    for part in [
        &*format!("connected to {} by MQTT 5, as ironloom-test-test\n", broker.url()),
        "listens for 2 s to 3 patterns\n",
        "states/press (retained) → plant/press/state = on, uncertain\n",
        "sensors/7/temp (retained): would be set aside: the payload can't be read",
        "meters/m1 (retained) → meters/m1/power = 1.5\n",
        "meters/m1 (retained) → meters/m1/on = true\n",
    ] {
        ensure!(said.contains(part), "{part:?} isn't in\n{said}");
    }
    // The server's own connection isn't touched.
    let status = connector(server.client())?;
    assert_eq!((&status["state"], &status["broker"]["reconnects"]), (&json!("running"), &json!(0)));
    let seen = server.cli(&["connectors", "test", "plant", "--config", path, "--for", "1 s", "--json"])?;
    let lines: Vec<Value> =
        String::from_utf8(seen.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(
        (&lines[0]["event"], &lines[1]["event"], lines.len()),
        (&json!("connected"), &json!("subscribed"), 5)
    );
    let nobody = server.cli(&["connectors", "test", "nobody", "--config", path])?;
    let said = String::from_utf8(nobody.stderr)?;
    ensure!(
        nobody.status.code() == Some(2) && said.contains("there is no connector nobody; the file has plant"),
        "{said}"
    );
    Ok(())
}

const TYPES: &str = r#"
[connectors.plant.topics."i/{n}"]
point = "i/{n}"
type = "integer"
[connectors.plant.topics."b/{n}"]
point = "b/{n}"
type = "boolean"
[connectors.plant.topics."t/{n}"]
point = "t/{n}"
type = "text"
[connectors.plant.topics."r/{n}"]
point = "r/{n}"
unit = "kg"
scale = 0.25
[connectors.plant.topics."o/{n}"]
point = "o/{n}"
payload = "reading"
unit = "m"
scale = -2
[connectors.plant.topics."h/{n}"]
point = "h/{n}"
scale = 1e300
[connectors.plant.topics."f/{n}"]
point = "f/{n}/{field}"
payload = "fields"
type = "real"
unit = "A"
scale = 4
"#;

#[test]
fn values_have_the_type_unit_and_scale_of_their_pattern_or_are_dead_letters() -> Result<()> {
    let Some(broker) = Mosquitto::start(LOSSLESS, "types of values")? else { return Ok(()) };
    let server = Setup::new()?.config(config(&broker, TYPES)).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    // A real that isn't one by its scale, too, and numbers that doubles lack.
    let good = [
        ("i/a", "-9007199254740993", "i/a", json!(-9_007_199_254_740_993_i64)),
        ("b/a", "true", "b/a", json!(true)),
        ("b/b", "0", "b/b", json!(false)),
        ("t/a", "7", "t/a", json!("7")),
        ("t/b", "\"a\\nb\"", "t/b", json!("a\nb")),
        ("r/a", "10", "r/a", json!(2.5)),
        ("o/a", "{\"value\":1.5}", "o/a", json!(-3.0)),
        ("f/a", "{\"x\":0.5}", "f/a/x", json!(2.0)),
    ];
    let bad = [
        ("i/a", "7.5", "is no integer"),
        ("i/a", "true", "is no integer"),
        ("i/a", "9223372036854775808", "is no integer"),
        ("b/a", "7", "is no boolean"),
        ("b/a", "\"yes\"", "is no boolean"),
        ("r/a", "\"heavy\"", "is no real"),
        ("r/a", "[1]", "is no real"),
        ("h/a", "1e9", "too large for its scale"),
        // Nothing of it is taken.
        ("f/a", "{\"good\":1,\"hot\":\"very\"}", "hot: "),
    ];
    for (topic, payload) in good
        .iter()
        .map(|(topic, payload, ..)| (topic, payload))
        .chain(bad.iter().map(|(topic, payload, _)| (topic, payload)))
    {
        broker.send(&Message::new(topic, payload))?;
    }
    wait_until("all of it", || Ok(connector(client)?["dead_letters"] == bad.len()))?;
    let journal = client.journal(0, "")?;
    let came: Vec<_> = journal.iter().map(|reading| (&reading["point"], &reading["value"])).collect();
    let points: Vec<_> = good.iter().map(|(_, _, point, value)| (json!(point), value)).collect();
    assert_eq!(came, points.iter().map(|(point, value)| (point, *value)).collect::<Vec<_>>());
    for (point, unit) in
        [("r/a", json!("kg")), ("o/a", json!("m")), ("f/a/x", json!("A")), ("i/a", Value::Null)]
    {
        let shown = client.get(&format!("/v1/points/{}", percent_encode(point)))?.json()?;
        assert_eq!(shown["unit"], unit, "{shown}");
    }
    let letters = client.get("/v1/connectors/plant/dead-letters?order=oldest")?.json()?;
    for (item, (topic, payload, reason)) in letters["items"].as_array().into_iter().flatten().zip(bad) {
        assert_eq!((&item["topic"], &item["payload"]), (&json!(topic), &json!(payload)));
        ensure!(item["reason"].as_str().is_some_and(|said| said.contains(reason)), "{item}");
    }
    assert_eq!(connector(client)?["passed_over"], json!({"type": bad.len()}));
    Ok(())
}
