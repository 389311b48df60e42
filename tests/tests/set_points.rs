//! Set-points on their way from an app to machines: over mosquitto, within what an admin granted.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::driving::{Bench, outcomes, points, state_of_set_points, told, wait_until_connected};
use ironloom_tests::mosquitto::{Mosquitto, Subscriber};
use ironloom_tests::steps::STEPS_OF_A_SET_POINT;
use ironloom_tests::{Server, wait_until};
use serde_json::{Value, json};

#[test]
fn a_set_point_reaches_the_machine_and_its_outcome_the_app() -> Result<()> {
    let Some(bench) = Bench::new("set-points", 60_000, json!({}))? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    bench.wish("7", 16.0)?;
    bench.wish("8", 5.0)?;
    wait_until("both outcomes", || {
        Ok(outcomes(client, "7")? == ["accepted"] && outcomes(client, "8")? == ["accepted"])
    })?;
    assert_eq!(told(&stations)?, [("7".to_owned(), vec![16.0]), ("8".to_owned(), vec![0.0])].into());
    let payload: Value = serde_json::from_str(&stations.got()[0].payload)?;
    ensure!(payload["expires"].as_str().is_some_and(|at| at.ends_with('Z')), "{payload}");

    // Whoever comes later isn't told what holds no more.
    ensure!(bench.broker.subscribe("stations/#")?.got().is_empty(), "a set-point was retained");

    // The app knows the id and the value beforehand, and hears of the outcome.
    let state = client.all("/v1/installations/driver/state")?;
    let value = |key: &str| -> Result<String> {
        let entry = state.iter().find(|entry| entry["key"] == key).with_context(|| format!("no {key}"))?;
        let bytes = entry["value"]["base64"].as_str().context("no bytes")?;
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, bytes)?;
        Ok(String::from_utf8(bytes)?)
    };
    let id = payload["id"].as_str().context("no id")?;
    assert_eq!(value("ticket/7")?, format!("{id} Real(16.0)"));
    ensure!(value("ticket/8")?.ends_with(" Real(0.0)"), "5 A is lowered to 0 A, and never raised to 6 A");

    let shown = points(client)?;
    let eight = &shown["plant/8/limit"];
    assert_eq!((&eight["told"]["value"], &eight["told"]["safe"]), (&json!(0.0), &json!(6.0)));
    assert_eq!((&eight["last"]["asked"], &eight["last"]["outcome"]), (&json!(5.0), &json!("accepted")));
    assert_eq!((&eight["connector"], &eight["intents"]), (&json!("plant"), &json!([])));
    let table = bench.server.cli(&["intents", "driver"])?;
    let table = String::from_utf8(table.stdout)?;
    ensure!(table.contains("plant/7/limit") && table.contains("accepted"), "{table}");
    let metrics = client.get("/metrics")?.text();
    ensure!(metrics.contains("ironloom_set_points_total{outcome=\"accepted\"} 2"), "{metrics}");
    Ok(())
}

#[test]
fn what_follows_a_set_point_that_reaches_nobody_is_skipped() -> Result<()> {
    let Some(bench) = Bench::new("lists of set-points", 60_000, json!({}))? else { return Ok(()) };
    let client = bench.client();
    // Nobody listens at station 2, so that 3 isn't raised.
    let (one, three) = (bench.broker.subscribe("stations/1/#")?, bench.broker.subscribe("stations/3/#")?);
    client.push_one("site/list", "1=6,2=6,3=32")?;
    wait_until("all outcomes", || {
        let all = ["1", "2", "3"].map(|station| outcomes(client, station));
        let all: Vec<String> = all.into_iter().collect::<Result<Vec<_>>>()?.concat();
        Ok(all == ["accepted", "rejected", "skipped"])
    })?;
    let reason = points(client)?["plant/2/limit"]["last"]["reason"].clone();
    assert_eq!(reason, "nobody has subscribed to its topic");
    assert_eq!((one.got().len(), three.got().len()), (1, 0));
    Ok(())
}

#[test]
fn after_an_outage_the_newest_is_sent_and_nothing_past_its_life() -> Result<()> {
    let Some(mut bench) = Bench::new("set-points over an outage", 60_000, json!({}))? else { return Ok(()) };
    bench.broker.kill()?;
    wait_until("the loss", || Ok(state_of_set_points(bench.client())? != "running"))?;
    for value in [8.0, 10.0, 12.0] {
        bench.wish("1", value)?;
        bench.wish("2", value)?;
    }
    wait_until("two superseded of each", || {
        Ok(outcomes(bench.client(), "1")? == ["superseded"; 2]
            && outcomes(bench.client(), "2")? == ["superseded"; 2])
    })?;
    // Killed between the commit and the sending, and again.
    let Bench { mut broker, server } = bench;
    let setup = server.setup().clone();
    server.kill()?;
    setup.start_listening()?.kill()?;
    // Whoever subscribes later than the server connects may miss it.
    broker.start_again()?;
    let stations = broker.subscribe("stations/#")?;
    let server = setup.start_listening()?;
    wait_until("both outcomes", || {
        Ok(outcomes(server.client(), "1")?.len() == 3 && outcomes(server.client(), "2")?.len() == 3)
    })?;
    assert_eq!(told(&stations)?, [("1".to_owned(), vec![12.0]), ("2".to_owned(), vec![12.0])].into());
    assert_eq!(outcomes(server.client(), "1")?, ["superseded", "superseded", "accepted"]);

    // The equipment is away for longer than the set-points live.
    broker.kill()?;
    wait_until("the loss", || Ok(state_of_set_points(server.client())? != "running"))?;
    server.client().patch("/v1/installations/driver", &json!({"settings": {"life": 300}}))?.json()?;
    server.client().push_one("site/5/wish", 20.0)?;
    wait_until("its end", || Ok(outcomes(server.client(), "5")? == ["expired"]))?;
    broker.start_again()?;
    let stations = broker.subscribe("stations/#")?;
    wait_until_connected(server.client())?;
    server.client().push_one("site/6/wish", 20.0)?;
    wait_until("the next one", || {
        Ok(outcomes(server.client(), "6")?.first().is_some_and(|one| one == "accepted"))
    })?;
    ensure!(!told(&stations)?.contains_key("5"), "what has expired isn't sent");
    Ok(())
}

/// A server that was killed at a step, after a reading of an app whose set-points live so long, and that has started again.
fn killed_at(
    step: &str,
    life: u64,
    point: &str,
    value: &Value,
) -> Result<Option<(Server, Subscriber, Mosquitto)>> {
    let Some(bench) = Bench::new("set-points, killed between two steps", life, json!({}))? else {
        return Ok(None);
    };
    let Bench { broker, server } = bench;
    let setup = server.setup().clone();
    ensure!(server.stop()?.success());
    let stations = broker.subscribe("stations/#")?;
    let mut server = setup.clone().env("FAILPOINTS", step).start_listening()?;
    wait_until_connected(server.client())?;
    // The answer may get lost with the server.
    let _ = server.client().push_one(point, value.clone());
    let ended = server.wait().context("the binary needs --features failpoints")?;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{step}: {ended}");
    Ok(Some((setup.start_listening()?, stations, broker)))
}

#[test]
fn a_server_that_is_killed_between_any_two_steps_sends_it_all_the_same() -> Result<()> {
    for step in STEPS_OF_A_SET_POINT {
        let Some((server, stations, _broker)) = killed_at(step, 60_000, "site/7/wish", &json!(16.0))? else {
            return Ok(());
        };
        wait_until(step, || Ok(!outcomes(server.client(), "7")?.is_empty()))?;
        assert_eq!(outcomes(server.client(), "7")?, ["accepted"], "{step}");
        // More than once only where nobody can know that it was sent: with the same id and number.
        let told: BTreeSet<String> = stations.got().into_iter().map(|got| got.payload).collect();
        assert_eq!(told.len(), 1, "{step}: {told:?}");
        assert_eq!(points(server.client())?["plant/7/limit"]["told"]["value"], 16.0, "{step}");
    }
    Ok(())
}

#[test]
fn a_list_goes_on_in_its_order_after_a_kill() -> Result<()> {
    const ORDER: [&str; 3] = ["3", "1", "2"];
    // At the first of the list, and at the second one where each passes the step by itself.
    let second = STEPS_OF_A_SET_POINT[..2].iter().map(|step| format!("{step}@1"));
    for step in STEPS_OF_A_SET_POINT.iter().map(|step| (*step).to_owned()).chain(second) {
        let list = json!("3=6,1=32,2=16");
        let Some((server, stations, _broker)) = killed_at(&step, 60_000, "site/list", &list)? else {
            return Ok(());
        };
        wait_until(&step, || Ok(!outcomes(server.client(), "2")?.is_empty()))?;
        for station in ORDER {
            assert_eq!(outcomes(server.client(), station)?, ["accepted"], "{step}: {station}");
        }
        let got = stations.got();
        let payloads: BTreeSet<&str> = got.iter().map(|got| &*got.payload).collect();
        assert_eq!(payloads.len(), 3, "{step}: {got:?}");
        // What was sent and not written down comes again, in its order: none goes before the one ahead of it, then or now.
        let stations: Vec<&str> = got.iter().filter_map(|got| got.topic.split('/').nth(1)).collect();
        let first = ORDER.map(|own| stations.iter().position(|station| *station == own));
        let last = ORDER.map(|own| stations.iter().rposition(|station| *station == own));
        ensure!(first.is_sorted() && last.is_sorted(), "{step}: {stations:?}");
    }
    Ok(())
}

#[test]
fn a_safe_value_is_sent_whatever_step_the_server_is_killed_at() -> Result<()> {
    for step in STEPS_OF_A_SET_POINT {
        // The set-point passes the step first, then its safe value.
        let step = format!("{step}@1");
        let Some((server, stations, _broker)) = killed_at(&step, 700, "site/7/wish", &json!(32.0))? else {
            return Ok(());
        };
        wait_until(&step, || Ok(outcomes(server.client(), "7")?.len() == 2))?;
        assert_eq!(outcomes(server.client(), "7")?, ["accepted", "safe"], "{step}");
        let mut told = told(&stations)?.remove("7").unwrap_or_default();
        told.dedup();
        assert_eq!(told, [32.0, 6.0], "{step}");
        // Again, where nobody can know that it was sent, with the same number.
        let payloads: BTreeSet<String> = stations.got().into_iter().map(|got| got.payload).collect();
        assert_eq!(payloads.len(), 2, "{step}: {payloads:?}");
    }
    Ok(())
}

#[test]
fn a_value_that_nobody_vouches_for_is_followed_by_the_safe_one() -> Result<()> {
    let Some(bench) = Bench::new("safe values", 700, json!({}))? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    bench.wish("1", 32.0)?;
    wait_until("the safe value", || Ok(outcomes(client, "1")? == ["accepted", "safe"]))?;
    assert_eq!(told(&stations)?["1"], [32.0, 6.0]);
    // With a longer life, and paused.
    client.patch("/v1/installations/driver", &json!({"settings": {"life": 60_000}}))?.json()?;
    bench.wish("1", 32.0)?;
    bench.wish("2", 16.0)?;
    wait_until("both", || Ok(outcomes(client, "1")?.len() == 3 && outcomes(client, "2")? == ["accepted"]))?;
    client.post("/v1/installations/driver/pause", &json!({}))?;
    wait_until("both safe", || {
        Ok(told(&stations)?["1"].last() == Some(&6.0) && told(&stations)?["2"] == [16.0, 6.0])
    })?;
    // Removed: what it had told is left safe.
    client.post("/v1/installations/driver/resume", &json!({}))?;
    bench.wish("3", 16.0)?;
    wait_until("the third", || Ok(outcomes(client, "3")? == ["accepted"]))?;
    client.delete("/v1/installations/driver")?;
    wait_until("safe", || Ok(told(&stations)?["3"] == [16.0, 6.0]))?;
    Ok(())
}

#[test]
fn a_point_that_holds_its_value_is_told_no_other() -> Result<()> {
    let Some(bench) = Bench::new("points that hold", 500, json!({"safe": "hold"}))? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    bench.wish("1", 32.0)?;
    wait_until("it", || Ok(outcomes(client, "1")? == ["accepted"]))?;
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(told(&stations)?["1"], [32.0]);
    assert_eq!(outcomes(client, "1")?, ["accepted"]);
    Ok(())
}

#[test]
fn the_kill_switch_holds_everything_back_until_it_is_released() -> Result<()> {
    let Some(bench) = Bench::new("the kill switch", 1_000, json!({}))? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    bench.wish("1", 32.0)?;
    wait_until("the first", || Ok(outcomes(client, "1")?.first().is_some_and(|one| one == "accepted")))?;
    let halted = bench.server.cli_json(&["halt"])?;
    assert_eq!(halted, json!({"site": true, "installations": []}));
    bench.wish("2", 32.0)?;
    wait_until("its end", || Ok(outcomes(client, "2")? == ["revoked"]))?;
    // Also across a restart, and past the life of what was sent before: no safe value either.
    let Bench { broker, server } = bench;
    let before = told(&stations)?;
    let server = server.restarted()?;
    let client = server.client();
    wait_until_connected(client)?;
    client.push_one("site/2/wish", 32.0)?;
    wait_until("its end", || Ok(outcomes(client, "2")? == ["revoked"; 2]))?;
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(told(&stations)?, before);
    let ready = client.get("/readyz")?.text();
    ensure!(ready.contains("the kill switch is on for the site"), "{ready}");
    // Released by the file alone, as it may be turned on by it.
    let file = server.setup().data().join("halt");
    std::fs::remove_file(&file)?;
    wait_until("the safe value", || Ok(told(&stations)?["1"].last() == Some(&6.0)))?;
    std::fs::write(&file, "")?;
    wait_until("the file is seen", || Ok(client.get("/v1/halt")?.json()?["site"] == true))?;
    ensure!(server.cli(&["release"])?.status.success());
    ensure!(!file.exists());
    // Of one installation.
    ensure!(
        server
            .cli(&["halt", "driver", "--data", &server.setup().data().display().to_string()])?
            .status
            .success()
    );
    wait_until("the file is seen", || {
        Ok(client.get("/v1/halt")?.json()?["installations"] == json!(["driver"]))
    })?;
    client.push_one("site/3/wish", 32.0)?;
    wait_until("its end", || Ok(outcomes(client, "3")? == ["revoked"]))?;
    ensure!(server.cli(&["release", "driver"])?.status.success());
    client.push_one("site/3/wish", 32.0)?;
    wait_until("it is sent", || Ok(told(&stations)?.contains_key("3")))?;
    drop(broker);
    Ok(())
}

#[test]
fn a_person_confirms_what_is_advised_and_a_shadow_is_only_recorded() -> Result<()> {
    let Some(bench) = Bench::new("advised set-points", 60_000, json!({"mode": "advise"}))? else {
        return Ok(());
    };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    bench.wish("1", 16.0)?;
    bench.wish("2", 16.0)?;
    let unconfirmed = || -> Result<Vec<String>> {
        let all = points(client)?;
        let intents = all.values().flat_map(|point| point["intents"].as_array().cloned().unwrap_or_default());
        let intents = intents.filter(|intent| intent["state"] == "unconfirmed");
        Ok(intents.map(|intent| intent["id"].as_str().unwrap_or_default().to_owned()).collect())
    };
    wait_until("both", || Ok(unconfirmed()?.len() == 2))?;
    let ids = unconfirmed()?;
    ensure!(
        bench
            .server
            .cli(&["intents", "driver", "--confirm", &ids[0], "--dismiss", &ids[1]])?
            .status
            .success()
    );
    wait_until("both ends", || {
        Ok(outcomes(client, "1")? == ["accepted"] && outcomes(client, "2")? == ["revoked"])
    })?;
    assert_eq!(told(&stations)?, [("1".to_owned(), vec![16.0])].into());
    let again = bench.server.cli(&["intents", "driver", "--confirm", &ids[0]])?;
    let said = String::from_utf8(again.stderr)?;
    ensure!(said.contains("waits for a confirmation"), "{said}");
    // A right that is lost ends what waits for a person, too.
    bench.wish("4", 16.0)?;
    wait_until("it", || Ok(unconfirmed()?.len() == 1))?;
    let narrow = json!({"mode": "advise", "outputs": {"limit": {"allow": "0", "toward": "low", "safe": 0}}});
    client.patch("/v1/installations/driver", &json!({"grants": narrow}))?.json()?;
    wait_until("its end", || Ok(outcomes(client, "4")? == ["revoked"]))?;
    ensure!(!told(&stations)?.contains_key("4"));
    // From the next revision on nothing is sent at all.
    ensure!(bench.server.cli(&["set", "driver", "--mode", "shadow"])?.status.success());
    bench.wish("3", 16.0)?;
    wait_until("its end", || Ok(outcomes(client, "3")? == ["shadow"]))?;
    ensure!(!told(&stations)?.contains_key("3"));
    Ok(())
}
