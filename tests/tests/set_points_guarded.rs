//! Walls between apps and machines besides grants: quarantine, the kill switch without the API, confirmations that come
//! too late, and rights that are lost while set-points wait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{number, wait_for_installation};
use ironloom_tests::driving::{Bench, outcomes, points, told, wait_until_connected};
use ironloom_tests::server::cli_at;
use ironloom_tests::wait::PATIENCE;
use ironloom_tests::{Client, wait_for, wait_until};
use serde_json::{Value, json};

/// The life of what is to outlive its test.
const LONG: u64 = 3_600_000;

#[test]
fn machines_of_an_app_in_quarantine_have_their_safe_values() -> Result<()> {
    let Some(bench) = Bench::new("safe values in quarantine", LONG, json!({}))? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    bench.wish("1", 32.0)?;
    bench.wish("2", 6.0)?;
    wait_until("both", || {
        Ok(outcomes(client, "1")? == ["accepted"] && outcomes(client, "2")? == ["accepted"])
    })?;
    // One that waits, since its connector is stopped.
    client.post("/v1/connectors/plant/stop", &json!({}))?.json()?;
    bench.wish("3", 16.0)?;
    wait_until("it", || Ok(points(client)?.contains_key("plant/3/limit")))?;
    for n in 1..=5 {
        client.push_one("site/list", "panic")?;
        wait_for_installation(client, "driver", "a dead letter", |now| {
            number(now, "counters.dead_letters") == n
        })?;
    }
    wait_for_installation(client, "driver", "its quarantine", |now| now["state"] == "quarantined")?;
    wait_until("the end of what waits", || {
        Ok(points(client)?["plant/3/limit"]["last"]["outcome"] == "revoked")
    })?;
    assert_eq!(points(client)?["plant/3/limit"]["last"]["reason"], "its installation is stopped");
    let metrics = client.get("/metrics")?.text();
    ensure!(metrics.contains("\nironloom_safe_values_owed 2\n"), "{metrics}");

    client.post("/v1/connectors/plant/start", &json!({}))?.json()?;
    let safe = BTreeMap::from([("1".to_owned(), vec![32.0, 6.0]), ("2".to_owned(), vec![6.0, 6.0])]);
    wait_until("the safe values", || Ok(told(&stations)? == safe))?;
    wait_until("their ends", || {
        let ends =
            ["1", "2"].map(|station| outcomes(client, station)).into_iter().collect::<Result<Vec<_>>>()?;
        Ok(ends == [["accepted", "safe"]; 2])
    })?;
    // Stopped is stopped: what comes moves nothing, and a restart tells nobody anything again.
    bench.wish("1", 20.0)?;
    let Bench { broker, server } = bench;
    let server = server.restarted()?;
    wait_until_connected(server.client())?;
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(told(&stations)?, safe);
    ensure!(server.cli(&["resume", "driver"])?.status.success());
    wait_until("what came meanwhile", || Ok(told(&stations)?["1"] == [32.0, 6.0, 20.0]))?;
    drop(broker);
    Ok(())
}

/// A URL at which nobody listens.
fn nowhere() -> Result<String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(format!("http://127.0.0.1:{port}"))
}

#[test]
fn the_kill_switch_works_where_the_api_is_out_of_reach() -> Result<()> {
    let Some(bench) = Bench::new("the kill switch without the API", LONG, json!({}))? else { return Ok(()) };
    let stations = bench.broker.subscribe("stations/#")?;
    let data = bench.server.setup().data().display().to_string();
    let url = nowhere()?;
    // Also what the app is to know comes by the broker.
    let wish = |broker: &ironloom_tests::mosquitto::Mosquitto, value: &str| {
        broker.publish("wishes/1", &[value.to_owned()])
    };
    wish(&bench.broker, "16")?;
    wait_until("the first", || Ok(told(&stations)?.get("1").is_some_and(|told| told == &[16.0])))?;

    let failed = cli_at(&url, &["halt"])?;
    let said = String::from_utf8(failed.stderr)?;
    ensure!(!failed.status.success() && said.contains("ironloom halt --data DIR"), "{said}");
    let other = cli_at(&url, &["halt", "--data", &std::env::temp_dir().display().to_string()])?;
    let said = String::from_utf8(other.stderr)?;
    ensure!(!other.status.success() && said.contains("is no data folder of a server"), "{said}");

    let halted = cli_at(&url, &["halt", "--data", &data])?;
    assert_eq!(String::from_utf8(halted.stderr)?, "the kill switch is on for the site\n");
    // Ten times as long as the server may take to see it.
    std::thread::sleep(Duration::from_millis(200));
    wish(&bench.broker, "32")?;
    let Bench { broker, server } = bench;
    wait_until("its end", || Ok(outcomes(server.client(), "1")? == ["accepted", "revoked"]))?;
    let server = server.restarted()?;
    wait_until_connected(server.client())?;
    wish(&broker, "20")?;
    wait_until("its end", || Ok(outcomes(server.client(), "1")? == ["accepted", "revoked", "revoked"]))?;
    assert_eq!(told(&stations)?["1"], [16.0]);

    let released = cli_at(&url, &["release", "--data", &data])?;
    assert_eq!(String::from_utf8(released.stderr)?, "the kill switch is off for the site\n");
    wait_until("the release", || Ok(server.client().get("/v1/halt")?.json()?["site"] == false))?;
    wish(&broker, "8")?;
    wait_until("the next one", || Ok(told(&stations)?["1"] == [16.0, 8.0]))?;

    // Of one installation, by hand alone; another's name holds back nobody else.
    let folder = server.setup().data().join("halted");
    std::fs::write(folder.join("another"), "")?;
    wish(&broker, "9")?;
    wait_until("one more", || Ok(told(&stations)?["1"] == [16.0, 8.0, 9.0]))?;
    std::fs::write(folder.join("driver"), "")?;
    std::thread::sleep(Duration::from_millis(200));
    wish(&broker, "10")?;
    wait_until("its end", || {
        Ok(outcomes(server.client(), "1")?.last().is_some_and(|last| last == "revoked"))
    })?;
    std::fs::remove_file(folder.join("driver"))?;
    std::thread::sleep(Duration::from_millis(200));
    wish(&broker, "11")?;
    wait_until("the last", || Ok(told(&stations)?["1"] == [16.0, 8.0, 9.0, 11.0]))?;
    Ok(())
}

/// The intent of a station that waits for a person.
fn unconfirmed(client: &Client, station: &str) -> Result<Value> {
    wait_for("what waits for a person", || {
        let points = points(client)?;
        let intents = points.get(&format!("plant/{station}/limit")).map(|point| point["intents"].clone());
        Ok(intents.filter(|intents| intents[0]["state"] == "unconfirmed").map(|intents| intents[0].clone()))
    })
}

fn confirm(client: &Client, intent: &Value) -> Result<ironloom_tests::Answer> {
    let id = intent["id"].as_str().context("no id")?;
    client.post(&format!("/v1/installations/driver/intents/{id}/confirm"), &json!({}))
}

#[test]
fn what_a_person_confirms_too_late_is_refused_and_never_sent() -> Result<()> {
    let advise = json!({"mode": "advise"});
    let Some(bench) = Bench::new("late confirmations", LONG, advise)? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    let late = |station: &str, value: f64, reason: &str, end: &dyn Fn() -> Result<()>| -> Result<()> {
        bench.wish(station, value)?;
        let intent = unconfirmed(client, station)?;
        end()?;
        let last =
            || -> Result<Value> { Ok(points(client)?[&format!("plant/{station}/limit")]["last"].clone()) };
        wait_until(reason, || Ok(last()?["id"] == intent["id"]))?;
        assert_eq!(last()?["reason"], reason);
        let problem = confirm(client, &intent)?.problem(404)?;
        let detail = format!(
            "no intent {} of installation driver waits for a confirmation",
            intent["id"].as_str().unwrap_or("")
        );
        assert_eq!(problem["detail"], detail);
        let by_hand =
            bench.server.cli(&["intents", "driver", "--confirm", intent["id"].as_str().context("no id")?])?;
        let said = String::from_utf8(by_hand.stderr)?;
        ensure!(by_hand.status.code() == Some(4) && said.contains(&detail), "{}: {said}", by_hand.status);
        Ok(())
    };
    late("1", 16.0, "the kill switch is on", &|| client.post("/v1/halt", &json!({}))?.json().map(drop))?;
    client.post("/v1/release", &json!({}))?.json()?;
    late("2", 16.0, "a person dismissed it", &|| {
        let id = unconfirmed(client, "2")?["id"].as_str().context("no id")?.to_owned();
        client.post(&format!("/v1/installations/driver/intents/{id}/dismiss"), &json!({}))?.json().map(drop)
    })?;
    late("3", 32.0, "it is no longer granted", &|| grant(client, "0, 6..10", None).map(drop))?;
    client.patch("/v1/installations/driver", &json!({"settings": {"life": 1_000}}))?.json()?;
    late("4", 8.0, "its time to live was over", &|| Ok(()))?;
    client.patch("/v1/installations/driver", &json!({"settings": {"life": LONG}}))?.json()?;
    late("5", 8.0, "its installation is stopped", &|| {
        client.post("/v1/installations/driver/pause", &json!({}))?.json().map(drop)
    })?;
    ensure!(stations.got().is_empty(), "{:?}", stations.got());
    Ok(())
}

/// Grants other values, in the mode that is there.
fn grant(client: &Client, allow: &str, ttl: Option<&str>) -> Result<Value> {
    let mut grants = client.installation("driver")?["grants"].clone();
    let limit = &mut grants["outputs"]["limit"];
    (limit["allow"], limit["safe"], limit["ttl"]) = (json!(allow), json!(0), json!(ttl));
    client.patch("/v1/installations/driver", &json!({"grants": grants}))?.json()
}

/// The outbox looks every 20 ms for what has lived too long: whoever confirms in between hears that it can't be sent any more.
#[test]
fn a_confirmation_at_the_end_of_a_life_is_refused_with_its_reason() -> Result<()> {
    const LIFE: u64 = 300;
    let advise = json!({"mode": "advise"});
    let Some(bench) = Bench::new("confirmations at the end of a life", LIFE, advise)? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    let (mut not_sendable, mut gone, mut confirmed) = (0, 0, BTreeSet::new());
    let start = Instant::now();
    while not_sendable == 0 && start.elapsed() < PATIENCE {
        bench.wish("1", 16.0)?;
        let intent = unconfirmed(client, "1")?;
        let (id, expires) = (intent["id"].as_str().context("no id")?, &intent["expires"]);
        let expires: jiff::Timestamp = expires.as_str().context("no end")?.parse()?;
        while jiff::Timestamp::now() <= expires {}
        let answer = confirm(client, &intent)?;
        match answer.status {
            404 => gone += 1,
            409 => {
                let problem = answer.problem(409)?;
                let detail = format!("intent {id} can't be sent any more: its time to live was over");
                assert_eq!((&problem["kind"], &problem["detail"]), (&json!("not-sendable"), &json!(detail)));
                not_sendable += 1;
            }
            _ => drop(confirmed.insert(id.to_owned())),
        }
    }
    ensure!(confirmed.is_empty(), "{confirmed:?} had lived too long");
    ensure!(not_sendable > 0, "{gone} had ended before");
    ensure!(stations.got().is_empty(), "{:?}", stations.got());
    Ok(())
}

#[test]
fn what_waits_is_sent_only_as_far_as_it_is_granted_now() -> Result<()> {
    let Some(bench) = Bench::new("rights that are lost", LONG, json!({}))? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    let turn = |turned: &str| client.post(&format!("/v1/connectors/plant/{turned}"), &json!({}))?.json();
    turn("stop")?;
    for (station, value) in [("1", 32.0), ("2", 8.0), ("3", 16.0), ("4", 10.0)] {
        bench.wish(station, value)?;
    }
    wait_until("all four", || Ok(points(client)?.len() == 4))?;
    grant(client, "0, 6..10", None)?;
    wait_until("the ends of two", || {
        Ok(outcomes(client, "1")? == ["revoked"] && outcomes(client, "3")? == ["revoked"])
    })?;
    turn("start")?;
    wait_until("the others", || {
        Ok(outcomes(client, "2")? == ["accepted"] && outcomes(client, "4")? == ["accepted"])
    })?;
    assert_eq!(told(&stations)?, [("2".to_owned(), vec![8.0]), ("4".to_owned(), vec![10.0])].into());

    // A shorter life counts for what waits, too, and another binding makes another machine of it.
    turn("stop")?;
    bench.wish("5", 8.0)?;
    wait_until("it", || Ok(points(client)?.contains_key("plant/5/limit")))?;
    grant(client, "0, 6..10", Some("1 ms"))?;
    wait_until("its end", || Ok(outcomes(client, "5")? == ["expired"]))?;
    grant(client, "0, 6..10", None)?;
    bench.wish("6", 8.0)?;
    wait_until("it", || Ok(points(client)?.contains_key("plant/6/limit")))?;
    let bindings = json!({"bindings": {"limit": "elsewhere/{station}/limit"}});
    client.patch("/v1/installations/driver", &bindings)?.json()?;
    wait_until("its end", || Ok(outcomes(client, "6")? == ["revoked"]))?;
    turn("start")?;
    bench.wish("7", 8.0)?;
    wait_until("one that has no machine", || Ok(outcomes(client, "7")? == ["rejected"]))?;
    assert_eq!(points(client)?["elsewhere/7/limit"]["last"]["reason"], "no connector has set_points for it");
    let told = told(&stations)?;
    ensure!(["5", "6", "7"].iter().all(|station| !told.contains_key(*station)), "{told:?}");
    Ok(())
}

#[test]
fn a_huge_value_is_lowered_to_the_next_one() -> Result<()> {
    let Some(bench) = Bench::new("huge set-points", LONG, json!({}))? else { return Ok(()) };
    let stations = bench.broker.subscribe("stations/#")?;
    bench.wish("1", 1e300)?;
    wait_until("it", || Ok(outcomes(bench.client(), "1")? == ["accepted"]))?;
    assert_eq!(told(&stations)?["1"], [32.0]);
    Ok(())
}

#[test]
fn a_shorter_life_ends_what_waits_when_it_is_over() -> Result<()> {
    let advise = json!({"mode": "advise"});
    let Some(bench) = Bench::new("shorter lives", LONG, advise)? else { return Ok(()) };
    let client = bench.client();
    bench.wish("1", 8.0)?;
    unconfirmed(client, "1")?;
    grant(client, "0, 6..10", Some("2 s"))?;
    wait_until("its end", || Ok(outcomes(client, "1")? == ["expired"]))
}

#[test]
fn a_point_that_has_its_safe_value_is_shown_as_described() -> Result<()> {
    let Some(bench) = Bench::new("safe points, shown", 500, json!({}))? else { return Ok(()) };
    let (client, _stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    bench.wish("1", 8.0)?;
    wait_until("its end", || Ok(outcomes(client, "1")? == ["accepted", "safe"]))?;
    assert_eq!(points(client)?["plant/1/limit"]["told"]["safe"], Value::Null);
    Ok(())
}

#[test]
fn short_lives_of_some_set_points_hold_up_no_others() -> Result<()> {
    let Some(bench) = Bench::new("short lives", LONG, json!({}))? else { return Ok(()) };
    let (client, _stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    client.patch("/v1/installations/driver", &json!({"limits": {"share": "1 s", "cpu": "2 s"}}))?.json()?;
    // More at once than a broker answers within their 50 ms.
    let one = |n| format!("limit\t{n}\t50000000\treal\t{:x}", 16_f64.to_bits());
    let short = (1..=300).map(one).collect::<Vec<_>>().join("\u{1e}");
    for n in 1000..1020 {
        let station = n.to_string();
        bench.wish(&station, 16.0)?;
        let start = Instant::now();
        while outcomes(client, &station)? != ["accepted"] {
            // One after the other: what the app has yet to take would hold up the next wish as well.
            let line = json!({"point": "site/hostile", "value": short}).to_string();
            let kind = [("content-type", "application/json")];
            client.send("POST", "/v1/readings?wait=applied", &kind, line.as_bytes())?.json()?;
            // It takes some 10 ms.
            ensure!(
                start.elapsed() < Duration::from_secs(20),
                "the {}th waits, with a broker that is well",
                n - 999
            );
        }
    }
    Ok(())
}
