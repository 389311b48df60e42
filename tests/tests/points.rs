//! Points are looked at, described and retired: what is retired is gone from the lists, whoever reads it misses nothing,
//! and what comes later makes another point.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::http::percent_encode;
use ironloom_tests::model::state_of;
use ironloom_tests::wait_until;
use ironloom_tests::{Answer, Client, Server, Setup, guests};
use serde_json::{Value, json};

fn path(point: &str) -> String {
    format!("/v1/points/{}", percent_encode(point))
}

fn set(client: &Client, point: &str, body: &Value) -> Result<Answer> {
    client.patch(&path(point), body)
}

fn listed(client: &Client) -> Result<Vec<String>> {
    let points = client.all("/v1/points")?;
    Ok(points.iter().filter_map(|point| Some(point["point"].as_str()?.to_owned())).collect())
}

/// The values of a point's readings.
fn values(client: &Client, point: &str) -> Result<Vec<Value>> {
    let readings = client.journal(0, &format!("point={}", percent_encode(point)))?;
    Ok(readings.iter().map(|reading| reading["value"].clone()).collect())
}

/// A server with the guest `one-state`, which counts the readings of `a/{n}` and publishes the counts.
fn counting() -> Result<Server> {
    let server = Setup::new()?.config("[points.\"c/{n}\"]\nunit = \"t\"\n").start()?;
    let package = guests::package("one-state")?;
    let more = json!({"settings": {"publish": true}});
    install(server.client(), "sums", &package, json!({"value": ["a/{n}"]}), more)?;
    Ok(server)
}

fn taken(client: &Client, point: &str, value: f64) -> Result<()> {
    let sequence = client.push_one(point, value)?;
    wait_for_installation(client, "sums", "it to be taken", |now| number(now, "cursor") >= sequence)?;
    Ok(())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_point_says_what_it_is_who_writes_it_and_who_reads_it() -> Result<()> {
    let setup = Setup::new()?;
    let file = setup.folder().join("pigs.csv");
    std::fs::write(&file, "time,pig,weight\n2026-01-01T00:00:00Z,7,20.5\n")?;
    let config = format!(
        "[connectors.scale]\nkind = \"csv\"\npath = {:?}\nat = \"time\"\nspeed = 0\n\
         [connectors.scale.columns]\nweight = {{ point = \"a/{{pig}}\" }}\n",
        file.to_str().context("no text")?
    );
    let server = setup.config(config).start()?;
    let client = server.client();
    let package = guests::package("one-state")?;
    install(
        client,
        "sums",
        &package,
        json!({"value": ["a/{n}"]}),
        json!({"settings": {"publish": true}, "from": "beginning"}),
    )?;
    wait_for_installation(client, "sums", "the line", |now| number(now, "counters.readings") == 1)?;
    let shown = set(client, "a/7", &json!({"unit": "kg", "description": "Scale in barn 1"}))?.json()?;
    assert_eq!((&shown["unit"], &shown["description"]), (&json!("kg"), &json!("Scale in barn 1")));
    assert_eq!(shown["latest"]["value"], 20.5);
    assert_eq!(shown["written_by"], json!([{"connector": "scale"}]));
    assert_eq!(shown["read_by"], json!([{"installation": "sums", "input": "value"}]));
    assert_eq!(shown["derived_by"], Value::Null);
    let derived = client.get(&path("apps/sums/count/7"))?.json()?;
    assert_eq!(derived["written_by"], json!([{"installation": "sums", "output": "count"}]));
    assert_eq!((&derived["derived_by"], &derived["read_by"]), (&json!("sums"), &json!([])));

    // It outlives the process, and the store as well.
    let setup = server.setup().clone();
    server.kill()?;
    let server = setup.start()?;
    assert_eq!(server.client().get(&path("a/7"))?.json()?["description"], "Scale in barn 1");
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    assert_eq!(client.get(&path("a/7"))?.json()?["unit"], "kg");
    let changed = set(client, "a/7", &json!({"description": null}))?.json()?;
    assert_eq!((&changed["unit"], &changed["description"]), (&json!("kg"), &Value::Null));
    let text = server.cli(&["points", "show", "a/7"])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for expected in ["connector scale", "installation sums, input value", "kg", "20.5"] {
        assert!(text.contains(expected), "{text}");
    }

    for (point, body, status, kind) in [
        ("a/7", json!({"unit": "kWh"}), 400, "bad-field"),
        ("a/7", json!({}), 400, "bad-field"),
        ("a/7", json!({"description": ""}), 400, "bad-field"),
        ("a/7", json!({"name": "x"}), 400, "bad-field"),
        ("a/8", json!({"unit": "kg"}), 404, "not-found"),
        ("a//8", json!({"unit": "kg"}), 404, "not-found"),
        ("apps/sums/count/7", json!({"unit": "kg"}), 403, "reserved-point"),
    ] {
        let problem = set(client, point, &body)?.problem(status)?;
        assert_eq!(problem["kind"], kind, "{point}: {problem}");
    }
    Ok(())
}

#[test]
fn a_retired_point_is_gone_and_its_readings_stay() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    taken(client, "a/1", 1.0)?;
    taken(client, "a/2", 2.0)?;
    client.push_one("b/1", 3.0)?;
    let retired = client.delete(&path("a/1"))?.json()?;
    assert_eq!(retired, json!({"points": 1, "before": 0, "readings": true}));
    assert_eq!(listed(client)?, ["a/2", "apps/sums/count/1", "apps/sums/count/2", "b/1"]);
    client.get(&path("a/1"))?.problem(404)?;
    client.delete(&path("a/1"))?.problem(404)?;
    assert_eq!(values(client, "a/1")?, [json!(1.0)], "still in the journal");

    // It comes anew, to the same entity of the app.
    taken(client, "a/1", 5.0)?;
    assert_eq!(client.get(&path("a/1"))?.json()?["earlier"], 1);
    assert_eq!(values(client, "a/1")?, [json!(1.0), json!(5.0)]);
    assert_eq!(state_of(client, "sums")?[&"1".to_owned()], (2, 6.0));
    let setup = server.setup().clone();
    server.kill()?;
    let server = setup.start()?;
    let client = server.client();
    assert_eq!(values(client, "a/1")?, [json!(1.0), json!(5.0)]);
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    assert_eq!(client.get(&path("a/1"))?.json()?["earlier"], 1);
    taken(client, "a/1", 7.0)?;
    assert_eq!(state_of(client, "sums")?[&"1".to_owned()], (3, 13.0));

    // With their readings: of the point that is there, and of the one before.
    let retired = server.cli_json(&["points", "retire", "a/1", "--readings"])?;
    assert_eq!(retired, json!({"points": 1, "before": 1, "readings": false}));
    assert_eq!(values(client, "a/1")?, Vec::<Value>::new());
    let all = client.journal(0, "")?;
    assert!(all.iter().all(|reading| reading["point"] != "a/1"), "{all:?}");
    taken(client, "a/1", 9.0)?;
    assert_eq!(values(client, "a/1")?, [json!(9.0)]);
    assert_eq!(state_of(client, "sums")?[&"1".to_owned()], (4, 22.0), "the app remembers");
    Ok(())
}

#[test]
fn all_points_below_a_path_are_retired_with_those_of_outputs() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    for number in 1..=5 {
        taken(client, &format!("a/{number}"), 1.0)?;
    }
    client.push_one("ab/1", 1.0)?;
    let retired = server.cli_json(&["points", "retire", "a/"])?;
    assert_eq!(retired["points"], 5);
    let retired = server.cli_json(&["points", "retire", "apps/sums/"])?;
    assert_eq!(retired["points"], 5);
    assert_eq!(listed(client)?, ["ab/1"]);
    // An output makes its point again.
    taken(client, "a/3", 1.0)?;
    assert_eq!(listed(client)?, ["a/3", "ab/1", "apps/sums/count/3"]);
    let derived = client.get(&path("apps/sums/count/3"))?.json()?;
    assert_eq!(derived["latest"]["value"], 2, "{derived}");
    let none = server.cli(&["points", "retire", "a/3/"])?;
    assert_eq!(none.status.code(), Some(4), "{}", said(&none));
    assert!(said(&none).contains("below a/3/"), "{}", said(&none));
    Ok(())
}

#[test]
fn a_point_that_somebody_has_yet_to_read_stays() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    taken(client, "a/1", 1.0)?;
    client.post("/v1/installations/sums/pause", &json!({}))?.json()?;
    client.push_one("a/1", 2.0)?;
    let refused = client.delete(&path("a/1"))?.problem(409)?;
    assert_eq!(refused["kind"], "unread");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("sums")), "{refused}");
    assert_eq!(listed(client)?, ["a/1", "apps/sums/count/1"]);
    let sequence = client.push_one("a/1", 3.0)?;
    client.post("/v1/installations/sums/resume", &json!({}))?.json()?;
    wait_for_installation(client, "sums", "all", |now| number(now, "cursor") >= sequence)?;
    assert_eq!(state_of(client, "sums")?[&"1".to_owned()], (3, 6.0), "nothing was lost");
    client.delete(&path("a/1"))?.json()?;
    Ok(())
}

#[test]
fn a_renamed_point_without_a_unit_gets_that_of_the_configuration() -> Result<()> {
    let server = counting()?;
    for point in ["b/2", "b/9"] {
        server.client().push_one(point, 2.0)?;
    }
    set(server.client(), "b/9", &json!({"unit": "kg"}))?.json()?;
    for (from, to, unit) in [("b/2", "c/2", "t"), ("b/9", "c/9", "kg")] {
        let renamed = server.cli_json(&["points", "rename", from, to])?;
        assert_eq!(renamed["point"]["unit"], unit, "{renamed}");
    }
    Ok(())
}

#[test]
fn a_renamed_point_goes_on_with_all_that_it_had() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    taken(client, "a/1", 1.0)?;
    taken(client, "a/2", 2.0)?;
    // The next point's number takes more than a byte of the record.
    let others: String = (0..200)
        .map(|number| format!("{}\n", json!({"point": format!("others/{number}"), "value": 1})))
        .collect();
    client.push(others.as_bytes(), None)?.json()?;
    set(client, "a/1", &json!({"unit": "kg", "description": "Scale"}))?.json()?;
    let renamed = server.cli_json(&["points", "rename", "a/1", "a/9"])?;
    assert_eq!((&renamed["from"], &renamed["still_written_by"]), (&json!("a/1"), &json!([])));
    let expect = |client: &Client| -> Result<()> {
        let point = client.get(&path("a/9"))?.json()?;
        assert_eq!((&point["unit"], &point["description"]), (&json!("kg"), &json!("Scale")), "{point}");
        assert_eq!(point["latest"]["value"], 1.0, "{point}");
        assert_eq!(point["read_by"], json!([{"installation": "sums", "input": "value"}]));
        assert_eq!(values(client, "a/9")?, [json!(1.0)]);
        assert_eq!(values(client, "a/1")?, Vec::<Value>::new());
        client.get(&path("a/1"))?.problem(404)?;
        Ok(())
    };
    expect(client)?;
    assert_eq!(client.get(&path("a/9"))?.json()?, renamed["point"]);
    // So it is for a start that reads the log, and for one that reads the store.
    let setup = server.setup().clone();
    server.kill()?;
    let server = setup.start()?;
    expect(server.client())?;
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    expect(client)?;

    // The app takes what comes from here on as another entity, and a source that goes on makes another point.
    taken(client, "a/9", 5.0)?;
    taken(client, "a/1", 7.0)?;
    let state = state_of(client, "sums")?;
    assert_eq!((state[&"9".to_owned()], state[&"1".to_owned()]), ((1, 5.0), (2, 8.0)));
    assert_eq!(values(client, "a/9")?, [json!(1.0), json!(5.0)]);
    assert_eq!(values(client, "a/1")?, [json!(7.0)]);
    // On to a third path, with the readings of both before.
    client.post(&format!("{}/rename", path("a/9")), &json!({"to": "b/9"}))?.json()?;
    assert_eq!(values(client, "b/9")?, [json!(1.0), json!(5.0)]);
    assert_eq!(client.get(&path("b/9"))?.json()?["read_by"], json!([]));
    client.push_one("b/9", 6.0)?;
    assert_eq!(values(client, "b/9")?, [json!(1.0), json!(5.0), json!(6.0)]);
    assert_eq!(state_of(client, "sums")?[&"9".to_owned()], (1, 5.0));

    for (point, to, status, kind) in [
        ("a/1", "a/2", 409, "exists"),
        ("a/1", "a/1", 400, "bad-field"),
        ("a/1", "a//1", 400, "bad-field"),
        ("a/1", "apps/sums/x", 403, "reserved-point"),
        ("apps/sums/count/1", "c/1", 403, "reserved-point"),
        ("a/7", "a/8", 404, "not-found"),
    ] {
        let answer = client.post(&format!("{}/rename", path(point)), &json!({"to": to}))?;
        let problem = answer.problem(status)?;
        assert_eq!(problem["kind"], kind, "{point} to {to}: {problem}");
    }
    Ok(())
}

#[test]
fn a_connector_makes_no_more_points_than_it_may() -> Result<()> {
    let setup = Setup::new()?;
    let file = setup.folder().join("pigs.csv");
    let lines: String = (1..=4).map(|pig| format!("2026-01-0{pig}T00:00:00Z,{pig},20.5\n")).collect();
    std::fs::write(&file, format!("time,pig,weight\n{lines}"))?;
    let config = format!(
        "[connectors.scale]\nkind = \"csv\"\npath = {:?}\nat = \"time\"\nspeed = 0\npoints = 3\n\
         [connectors.scale.columns]\nweight = {{ point = \"a/{{pig}}\" }}\n",
        file.to_str().context("no text")?
    );
    let server = setup.config(config).start()?;
    let client = server.client();
    let status = || -> Result<Value> {
        let all = client.get("/v1/connectors")?.json()?;
        Ok(all["items"][0].clone())
    };
    wait_until("it to stop", || Ok(status()?["state"] == "stopped"))?;
    let said = status()?["last_error"].to_string();
    ensure!(said.contains("a/4") && said.contains('3') && said.contains("`points`"), "{said}");
    assert_eq!(listed(client)?, ["a/1", "a/2", "a/3"]);
    // It goes on where it was, once points are free.
    client.delete(&path("a/1"))?.json()?;
    let setup = server.setup().clone();
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    wait_until("the last line", || Ok(listed(server.client())? == ["a/2", "a/3", "a/4"]))
}

#[test]
fn no_reading_is_lost_while_its_point_is_retired_again_and_again() -> Result<()> {
    let server = counting()?;
    let pusher = server.client().clone();
    let pushing = std::thread::spawn(move || -> Result<f64> {
        let mut sum = 0.0;
        for value in 1..=400 {
            let body = format!(
                "{{\"point\":\"a/1\",\"value\":{value}}}\n{{\"point\":\"a/{}\",\"value\":0.5}}\n",
                value % 7 + 2
            );
            pusher.push(body.as_bytes(), None)?.json()?;
            sum += f64::from(value);
            std::thread::sleep(std::time::Duration::from_millis(4));
        }
        Ok(sum)
    });
    let client = server.client();
    let mut retired = 0;
    while !pushing.is_finished() {
        let answer = client.delete(&format!("{}?below=true", path("a")))?;
        match answer.status {
            200 => retired += number(&answer.json()?, "points"),
            404 | 409 | 503 => {}
            status => anyhow::bail!("{status}: {}", answer.text()),
        }
    }
    let sum = pushing.join().map_err(|_| anyhow::anyhow!("the pusher failed"))??;
    ensure!(retired > 0, "no point was ever retired");
    let last = client.push_one("a/1", 0.0)?;
    wait_for_installation(client, "sums", "all", |now| number(now, "cursor") >= last)?;
    let state = state_of(client, "sums")?;
    assert_eq!(state[&"1".to_owned()], (401, sum), "{retired} were retired");
    let others: u64 = state.iter().filter(|(key, _)| *key != "1").map(|(_, (count, _))| count).sum();
    assert_eq!(others, 400);
    assert_eq!(values(client, "a/1")?.len(), 401);
    Ok(())
}

#[test]
fn points_that_wait_for_an_app_hold_up_no_other() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let package = guests::package("hostile")?;
    install(client, "odd", &package, json!({"command": ["do"]}), json!({}))?;
    client.push_one("do", "retry")?;
    client.push_one("other", 1.0)?;
    std::thread::scope(|scope| -> Result<()> {
        let waits: Vec<_> = (0..6).map(|_| scope.spawn(|| client.delete(&path("do")))).collect();
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        set(client, "other", &json!({"description": "Another"}))?.json()?;
        let rename =
            |from: &str, to: &str| client.post(&format!("{}/rename", path(from)), &json!({"to": to}));
        assert_eq!(rename("other", "do")?.problem(409)?["kind"], "exists");
        rename("nobody", "else")?.problem(404)?;
        client.delete(&path("nobody"))?.problem(404)?;
        rename("other", "another")?.json()?;
        client.delete(&path("another"))?.json()?;
        // Those that wait do so for five seconds, side by side.
        let took = began.elapsed();
        ensure!(waits.iter().any(|wait| !wait.is_finished()) || took > Duration::from_secs(5), "none waits");
        ensure!(took < Duration::from_secs(15), "{took:?}");
        for wait in waits {
            let answer = wait.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
            assert_eq!(answer.problem(409)?["kind"], "unread");
        }
        Ok(())
    })
}

#[test]
fn an_app_gets_on_while_points_are_retired_again_and_again() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let package = guests::package("hostile")?;
    install(client, "odd", &package, json!({"command": ["do"]}), json!({}))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let retires = scope.spawn(|| -> Result<u64> {
            let mut retired = 0;
            while !done.load(Ordering::Relaxed) {
                client.push_one("nobody", 1)?;
                retired += u64::from(client.delete(&path("nobody"))?.status == 200);
            }
            Ok(retired)
        });
        // Each of these takes as long as a few of those.
        let gets_on = || -> Result<()> {
            for _ in 0..5 {
                let sequence = client.push_one("do", "spin")?;
                wait_for_installation(client, "odd", "it to run", |now| number(now, "cursor") >= sequence)?;
            }
            Ok(())
        };
        let got_on = gets_on();
        done.store(true, Ordering::Relaxed);
        let retired = retires.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        ensure!(retired > 0, "no point was ever retired");
        got_on
    })
}
