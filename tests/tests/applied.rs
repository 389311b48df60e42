//! Pushes that are answered once apps have dealt with their readings.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use ironloom_tests::apps::{install, wait_for_installation};
use ironloom_tests::http::{Answer, NDJSON};
use ironloom_tests::{Client, Setup, guests, model};
use serde_json::{Value, json};

fn push(client: &Client, query: &str, key: &str, point: &str, value: &Value) -> Result<Answer> {
    let body = json!({"point": point, "value": value}).to_string();
    let headers = [("content-type", NDJSON), ("idempotency-key", key)];
    client.send("POST", &format!("/v1/readings?wait=applied{query}"), &headers, body.as_bytes())
}

/// The answer of a push that comes while something else goes on.
fn meanwhile(
    client: &Client,
    key: &'static str,
    during: impl FnOnce() -> Result<()>,
) -> Result<(Answer, Duration)> {
    let (client, start) = (client.clone(), Instant::now());
    let pushed = std::thread::spawn(move || push(&client, "", key, "slow", &json!("retry")));
    during()?;
    match pushed.join() {
        Ok(answer) => Ok((answer?, start.elapsed())),
        Err(_) => bail!("the push panicked"),
    }
}

#[test]
fn what_was_pushed_is_in_the_state_when_the_answer_comes() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let bindings = json!({"value": ["a/{point}/value"]});
    install(client, "sums", &guests::package("one-state")?, bindings.clone(), json!({}))?;
    // This one derives a reading of each.
    let publish = json!({"settings": {"publish": true}});
    install(client, "others", &guests::variant("one-state", 1)?, bindings, publish)?;
    let mut last = Value::Null;
    for round in 1..=300_u32 {
        let answer = push(client, "", &format!("round-{round}"), "a/x/value", &json!(2.0))?;
        ensure!(answer.status == 200, "{}", answer.text());
        let answer = answer.json()?;
        ensure!(answer["accepted"] == 1 && answer["applied"] == true, "{answer}");
        last = answer["through"].clone();
        for id in ["sums", "others"] {
            let state = model::state_of(client, id)?;
            ensure!(
                state["x"] == (u64::from(round), 2.0 * f64::from(round)),
                "{id} after {round}: {state:?}"
            );
        }
        let derived = client.all("/v1/installations/others/outputs")?.len();
        ensure!(derived == round as usize, "{derived} derived readings after {round}");
    }
    let again = push(client, "", "round-300", "a/x/value", &json!(2.0))?.json()?;
    ensure!(again == json!({"accepted": 1, "through": last, "duplicate": true, "applied": true}), "{again}");
    let unbound = push(client, "", "unbound", "elsewhere", &json!(1))?.json()?;
    ensure!(unbound["applied"] == true, "{unbound}");
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(())
}

#[test]
fn an_app_that_takes_long_is_waited_for_and_one_that_stands_still_is_not() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = &server.client().clone();
    let limits = json!({"limits": {"cpu": "5 s"}});
    install(client, "slow", &guests::package("hostile")?, json!({"command": ["slow"]}), limits)?;
    wait_for_installation(client, "slow", "running", |now| now["state"] == "running")?;
    let has = |key: &str| -> Result<bool> {
        let items = client.all("/v1/installations/slow/state")?;
        Ok(items.iter().any(|item| item["key"] == key))
    };
    let answer = push(client, "", "1", "slow", &json!("spin"))?.json()?;
    ensure!(answer["applied"] == true && has("result/spin")?, "{answer}");
    // What is set aside is dealt with.
    let answer = push(client, "", "2", "slow", &json!("refuse"))?.json()?;
    let set_aside = |readings: u64| json!([{"id": "slow", "readings": readings}]);
    ensure!(answer["applied"] == true && answer["set_aside"] == set_aside(1), "{answer}");
    let letters = client.all("/v1/installations/slow/dead-letters")?;
    ensure!(letters.len() == 1, "{letters:?}");

    // It asks to be called again, for as long as anybody waits.
    let start = Instant::now();
    let answer = push(client, "&timeout=1500ms", "3", "slow", &json!("retry"))?;
    ensure!(answer.status == 202 && start.elapsed() >= Duration::from_millis(1_500), "{}", answer.text());
    let expected = json!({"accepted": 1, "through": 3, "applied": false, "pending": ["slow"]});
    ensure!(answer.json()? == expected, "not {expected}");
    ensure!(client.journal(2, "")?.len() == 1, "it is durable");

    let (answer, took) = meanwhile(client, "4", || {
        std::thread::sleep(Duration::from_millis(500));
        client.post("/v1/installations/slow/pause", &json!({}))?.json().map(drop)
    })?;
    ensure!(answer.status == 200 && took < Duration::from_secs(25), "{took:?}: {}", answer.text());
    let stopped = json!([{"id": "slow", "state": "paused"}]);
    let expected = json!({"accepted": 1, "through": 4, "applied": false, "stopped": stopped});
    ensure!(answer.json()? == expected, "not {expected}");
    let answer = push(client, "", "5", "slow", &json!("ok"))?.json()?;
    ensure!(answer["applied"] == false && answer["stopped"] == stopped && !has("result/ok")?, "{answer}");

    client.post("/v1/installations/slow/resume", &json!({}))?.json()?;
    let answer = push(client, "&partial=true", "5", "slow", &json!("ok"))?;
    ensure!(answer.problem(422)?["kind"] == "key-reused", "bad lines would be taken otherwise");
    let answer = push(client, "&timeout=10ms", "5", "slow", &json!("ok"))?.json()?;
    ensure!(answer["duplicate"] == true, "another wait is no other request: {answer}");
    let (answer, took) = meanwhile(client, "6", || {
        std::thread::sleep(Duration::from_millis(500));
        ensure!(server.stop()?.success(), "the server didn't stop cleanly");
        Ok(())
    })?;
    ensure!(took < Duration::from_secs(25), "a server that stops doesn't wait: {took:?}");
    ensure!(answer.status == 202 && answer.json()?["pending"] == json!(["slow"]), "it says who wasn't done");
    Ok(())
}

#[test]
fn a_backlog_that_somebody_dropped_was_never_applied() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.start()?;
    let client = server.client();
    let package = guests::package("hostile")?;
    for id in ["one", "other"] {
        install(
            client,
            id,
            &package,
            json!({"command": [format!("{id}/{{whom}}"), "both/{whom}"]}),
            json!({}),
        )?;
        wait_for_installation(client, id, "running", |now| now["state"] == "running")?;
    }
    client.post("/v1/installations/one/pause", &json!({}))?.json()?;
    for (key, point) in [("1", "one/a"), ("2", "both/b"), ("3", "other/a")] {
        let answer = push(client, "", key, point, &json!("ok"))?.json()?;
        ensure!(answer["applied"] == (key == "3") && answer.get("lost").is_none(), "{answer}");
    }
    let resumed = client.post("/v1/installations/one/resume", &json!({"backlog": "drop"}))?.json()?;
    ensure!(resumed["dropped"] == 2, "{resumed}");
    let after = |client: &Client| -> Result<()> {
        for (key, point) in [("1", "one/a"), ("2", "both/b")] {
            let answer = push(client, "", key, point, &json!("ok"))?;
            ensure!(answer.status == 200, "{}", answer.text());
            let through: u64 = key.parse()?;
            let expected = json!({"accepted": 1, "through": through, "duplicate": true, "applied": false, "lost": ["one"]});
            ensure!(answer.json()? == expected, "not {expected}");
        }
        for (key, point) in [("3", "other/a"), ("4", "one/a")] {
            let answer = push(client, "", key, point, &json!("ok"))?.json()?;
            ensure!(answer["applied"] == true && answer.get("lost").is_none(), "{answer}");
        }
        Ok(())
    };
    after(client)?;
    server.kill()?;
    let server = setup.start()?;
    wait_for_installation(server.client(), "one", "running", |now| now["state"] == "running")?;
    after(server.client())
}

#[test]
fn readings_that_were_set_aside_are_told_with_whose_they_are() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(client, "guest", &guests::package("hostile")?, json!({"command": ["to/{whom}"]}), json!({}))?;
    install(client, "other", &guests::package("one-state")?, json!({"value": ["to/{whom}"]}), json!({}))?;
    let lines = |value: &str, count: usize| {
        let line = json!({"point": "to/me", "value": value}).to_string() + "\n";
        line.repeat(count)
    };
    let push = |body: String| -> Result<Value> {
        let headers = [("content-type", NDJSON)];
        client.send("POST", "/v1/readings?wait=applied", &headers, body.as_bytes())?.json()
    };
    let of_guest = |answer: &Value| {
        let all = answer["set_aside"].as_array().cloned().unwrap_or_default();
        all.iter().find(|one| one["id"] == "guest").map(|one| one["readings"].clone())
    };
    // More than are looked at in one step, and good ones between them.
    let answer = push(lines("ok", 3) + &lines("refuse", 100) + &lines("ok", 2))?;
    ensure!(answer["applied"] == true && of_guest(&answer) == Some(json!(100)), "{answer}");
    let answer = push(lines("ok", 3))?;
    ensure!(
        answer["applied"] == true && of_guest(&answer).is_none(),
        "those before aren't its own: {answer}"
    );
    let answer = push(lines("refuse", 2))?;
    ensure!(of_guest(&answer) == Some(json!(2)), "{answer}");
    // A number was wanted.
    let other = json!({"id": "other", "readings": 2});
    ensure!(answer["set_aside"].as_array().is_some_and(|all| all.contains(&other)), "{answer}");
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(())
}

#[test]
fn an_app_that_is_removed_meanwhile_has_not_dealt_with_it() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = &server.client().clone();
    let limits = json!({"limits": {"cpu": "5 s"}});
    install(client, "slow", &guests::package("hostile")?, json!({"command": ["slow"]}), limits)?;
    let (answer, took) = meanwhile(client, "1", || {
        std::thread::sleep(Duration::from_millis(500));
        client.delete("/v1/installations/slow").map(drop)
    })?;
    ensure!(answer.status == 200 && took < Duration::from_secs(25), "{took:?}: {}", answer.text());
    let stopped = json!([{"id": "slow", "state": "removed"}]);
    let expected = json!({"accepted": 1, "through": 1, "applied": false, "stopped": stopped});
    ensure!(answer.json()? == expected, "not {expected}");
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(())
}

#[test]
fn what_is_asked_wrongly_is_refused_before_anything_is_taken() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let body = json!({"point": "a", "value": 1}).to_string();
    for (query, field) in [
        ("wait=durable", "wait"),
        ("wait=applied&timeout=61s", "timeout"),
        ("wait=applied&timeout=soon", "timeout"),
        ("timeout=1s", "timeout"),
    ] {
        let path = format!("/v1/readings?{query}");
        let problem =
            client.send("POST", &path, &[("content-type", NDJSON)], body.as_bytes())?.problem(400)?;
        ensure!(problem["where"]["field"] == field, "{query}: {problem}");
    }
    ensure!(client.journal(0, "")?.is_empty(), "nothing was taken");
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(())
}
