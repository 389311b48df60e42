//! Messages of set-points, with all that they say of themselves on the wire, and what people hear of set-points as events.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::driving::{Bench, outcomes, points, told};
use ironloom_tests::listener::Listener;
use ironloom_tests::mosquitto::Subscriber;
use ironloom_tests::server::binary;
use ironloom_tests::{Client, wait_for, wait_until};
use serde_json::{Value, json};

/// The messages of a subscriber that has them whole.
fn whole(subscriber: &Subscriber) -> Result<Vec<Value>> {
    let message = |got: ironloom_tests::mosquitto::Got| {
        serde_json::from_str(&got.payload).with_context(|| got.payload.clone())
    };
    subscriber.got().into_iter().map(message).collect()
}

/// The message of a station, once there are so many.
fn message(subscriber: &Subscriber, station: &str, count: usize) -> Result<Value> {
    wait_for("a message", || {
        let mut all = whole(subscriber)?;
        all.retain(|message| message["topic"] == format!("stations/{station}/limit"));
        Ok(all.get(count - 1).cloned())
    })
}

fn expiry(message: &Value) -> Option<u64> {
    message["properties"]["message-expiry-interval"].as_u64()
}

/// A user property of a message.
fn property(message: &Value, name: &str) -> Option<String> {
    let all = &message["properties"]["user-properties"];
    Some(all.get(name)?.as_str()?.to_owned())
}

fn live(client: &Client, life: u64) -> Result<()> {
    client.patch("/v1/installations/driver", &json!({"settings": {"life": life}}))?.json()?;
    Ok(())
}

#[test]
fn a_message_is_sent_at_least_once_never_kept_and_ends_with_its_set_point() -> Result<()> {
    let Some(bench) = Bench::new("set-points on the wire", 600_000, json!({"ttl": "300 s"}))? else {
        return Ok(());
    };
    let (client, stations) = (bench.client(), bench.broker.subscribe_whole("stations/#")?);
    // The app asks for 600 s; 300 are granted.
    bench.wish("1", 16.0)?;
    live(client, 120_000)?;
    bench.wish("2", 16.0)?;
    live(client, 600)?;
    bench.wish("3", 16.0)?;
    // What is left may be less on a busy machine, and never more.
    for (station, most) in [("1", 300), ("2", 120)] {
        let message = message(&stations, station, 1)?;
        let left = expiry(&message).with_context(|| format!("no end: {message}"))?;
        ensure!(most / 2 < left && left <= most, "{left} s of {most} are left: {message}");
    }
    // Less than a second is one: 0 would mean none.
    let short = message(&stations, "3", 1)?;
    assert_eq!(expiry(&short), Some(1), "{short}");
    let safe = message(&stations, "3", 2)?;
    assert_eq!((expiry(&safe), property(&safe, "id")), (None, None), "{safe}");
    for message in whole(&stations)? {
        assert_eq!((&message["qos"], &message["retain"]), (&json!(1), &json!(0)), "{message}");
        let payload: Value = serde_json::from_str(message["payload"].as_str().context("no payload")?)?;
        assert_eq!(property(&message, "number"), Some(payload["number"].to_string()), "{message}");
        assert_eq!(property(&message, "id").as_deref(), payload["id"].as_str(), "{message}");
    }
    ensure!(bench.broker.subscribe("stations/#")?.got().is_empty(), "one was kept for whoever comes later");
    Ok(())
}

#[test]
fn by_the_older_protocol_a_message_is_alike_without_an_end() -> Result<()> {
    let keys = "version = \"3.1.1\"";
    let Some(bench) = Bench::with("set-points by MQTT 3.1.1", 600, json!({}), keys)? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe_whole("stations/#")?);
    bench.wish("1", 16.0)?;
    for (count, value) in [(1, 16), (2, 6)] {
        let message = message(&stations, "1", count)?;
        assert_eq!((&message["qos"], &message["retain"]), (&json!(1), &json!(0)), "{message}");
        assert_eq!((expiry(&message), property(&message, "number")), (None, None), "{message}");
        let payload: Value = serde_json::from_str(message["payload"].as_str().context("no payload")?)?;
        assert_eq!(payload["value"], value, "{message}");
        // Whoever gets it sees its end all the same, and a safe value has none.
        assert_eq!(payload.get("expires").is_some(), count == 1, "{message}");
    }
    wait_until("both ends", || Ok(outcomes(client, "1")? == ["accepted", "safe"]))?;
    Ok(())
}

#[test]
fn a_machine_that_was_away_hears_nothing_that_is_over() -> Result<()> {
    let Some(bench) = Bench::new("machines that are away", 1_500, json!({}))? else { return Ok(()) };
    let client = bench.client();
    drop(bench.broker.subscribe_kept("stations/1/#", "machine-1")?);
    bench.wish("1", 32.0)?;
    wait_until("its end, and the safe value", || Ok(outcomes(client, "1")? == ["accepted", "safe"]))?;
    // Whole seconds, by the broker's clock.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let back = bench.broker.subscribe_kept("stations/1/#", "machine-1")?;
    wait_until("what the broker kept", || Ok(!back.got().is_empty()))?;
    assert_eq!(told(&back)?["1"], [6.0], "32 A were over");
    Ok(())
}

/// The events of one kind so far, in their order.
fn of_kind<'a>(seen: &'a [Value], kind: &str) -> Vec<&'a Value> {
    seen.iter().filter(|event| event["kind"] == kind).collect()
}

#[test]
fn each_end_and_each_turn_of_the_kill_switch_is_an_event() -> Result<()> {
    let Some(bench) = Bench::new("events of set-points", 1_500, json!({}))? else { return Ok(()) };
    let client = bench.client();
    let _stations = bench.broker.subscribe("stations/1/#")?;
    let mut all = Listener::new(client, "kinds=set-point,set-points,halt", None)?;
    // Nobody listens at the second station.
    client.push_one("site/list", "1=16,2=16,3=16")?;
    all.wait("the safe value", |event| event["outcome"] == "safe")?;
    let ends: Vec<Value> = of_kind(&all.seen, "set-point").into_iter().cloned().collect();
    let told = |end: &Value| {
        assert_eq!(end["installation"], "driver");
        ["point", "outcome", "reason"].map(|field| end[field].as_str().unwrap_or("").to_owned())
    };
    let expected = [
        ["plant/1/limit", "accepted", ""],
        ["plant/2/limit", "rejected", "nobody has subscribed to its topic"],
        ["plant/3/limit", "skipped", "one before it in its list was not accepted"],
        ["plant/1/limit", "safe", ""],
    ];
    assert_eq!(ends.iter().map(told).collect::<Vec<_>>(), expected);

    // By the API, by the file, and of one installation.
    let file = bench.server.setup().data().join("halt");
    client.post("/v1/halt", &json!({}))?.json()?;
    client.post("/v1/release", &json!({}))?.json()?;
    std::fs::write(&file, "")?;
    wait_until("the file", || Ok(client.get("/v1/halt")?.json()?["site"] == true))?;
    std::fs::remove_file(&file)?;
    wait_until("its end", || Ok(client.get("/v1/halt")?.json()?["site"] == false))?;
    client.post("/v1/halt", &json!({"installation": "driver"}))?.json()?;
    client.post("/v1/release", &json!({"installation": "driver"}))?.json()?;
    wait_until("all turns", || {
        all.wait("one", |event| event["kind"] == "halt")?;
        Ok(of_kind(&all.seen, "halt").len() >= 6)
    })?;
    let turn =
        |event: &&Value| (event.get("installation").cloned(), event["state"].as_str().map(str::to_owned));
    let turns: Vec<_> = of_kind(&all.seen, "halt").iter().map(turn).collect();
    let [on, off] = ["halted", "released"].map(|state| Some(state.to_owned()));
    let site = [(None, on.clone()), (None, off.clone())];
    let driver = Some(json!("driver"));
    assert_eq!(turns, [&site[..], &site, &[(driver.clone(), on), (driver, off)]].concat());
    Ok(())
}

#[test]
fn many_ends_at_once_are_counted_beyond_a_hundred() -> Result<()> {
    let Some(bench) = Bench::new("many events of set-points", 600_000, json!({}))? else { return Ok(()) };
    let client = bench.client();
    let mut all = Listener::new(client, "installation=driver&kinds=set-point,set-points", None)?;
    // Nobody listens anywhere: the first is rejected, and the other 149 are skipped with it.
    let list: Vec<String> = (1..=150).map(|station| format!("{station}=16")).collect();
    client.push_one("site/list", list.join(","))?;
    let counted = |seen: &[Value]| {
        of_kind(seen, "set-points").iter().filter_map(|event| event["count"].as_u64()).sum::<u64>()
    };
    wait_until("all of them", || {
        all.wait("some", |event| event["kind"] == "set-points")?;
        Ok(of_kind(&all.seen, "set-point").len() as u64 + counted(&all.seen) >= 150)
    })?;
    assert_eq!((of_kind(&all.seen, "set-point").len(), counted(&all.seen)), (100, 50));
    assert_eq!(points(client)?.len(), 150);
    Ok(())
}

#[test]
fn the_command_line_tells_each_end() -> Result<()> {
    let Some(bench) = Bench::new("set-points told by the command line", 600_000, json!({}))? else {
        return Ok(());
    };
    let mut command = Command::new(binary()?);
    command.args(["events", "--json", "--kinds", "set-point"]).env("IRONLOOM_URL", bench.client().url());
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let out = BufReader::new(child.stdout.take().context("no stdout")?);
    let (to, lines) = channel();
    let reader = std::thread::spawn(move || {
        out.lines().map_while(Result::ok).for_each(|line| drop(to.send(line)));
    });
    // It may not listen yet: more wishes come until one is told.
    let line = wait_for("the command to tell one", || {
        bench.wish("7", 16.0)?;
        Ok(lines.recv_timeout(std::time::Duration::from_millis(200)).ok())
    });
    child.kill()?;
    child.wait()?;
    let _ = reader.join();
    let event: Value = serde_json::from_str(&line?)?;
    assert_eq!(
        (&event["kind"], &event["point"], &event["outcome"]),
        (&json!("set-point"), &json!("plant/7/limit"), &json!("rejected"))
    );
    Ok(())
}
