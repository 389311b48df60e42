//! `ironloom rehearse`: a change of an installation is tried over the recorded journal, beside what ran.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::herd::weighing;
use ironloom_tests::package::Package;
use ironloom_tests::rehearsing::{of_kind, rehearse, report, start};
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

fn file_of(server: &Server, name: &str, package: &Package) -> Result<String> {
    let path: PathBuf = server.setup().folder().join(name);
    std::fs::write(&path, package.tar())?;
    Ok(path.to_str().context("no path")?.to_owned())
}

/// A server whose clock goes by its readings.
fn fed() -> Result<Server> {
    Setup::new()?.config("[site]\nclock = \"feed\"\n".to_owned()).start()
}

fn wait_until_done(client: &Client, id: &str) -> Result<Value> {
    wait_for_installation(client, id, "all readings", |one| number(one, "lag.readings") == 0)
}

fn version(name: &str, version: &str) -> Result<Package> {
    let folder = guests::workspace().join("sample-apps").join(name);
    let mut package = guests::package_of(name, &folder)?;
    package.manifest = package
        .manifest
        .lines()
        .map(|line| match line.starts_with("version = ") {
            true => format!("version = \"{version}\""),
            false => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n");
    Ok(package)
}

/// Temperatures of three rooms, each hour of some days.
fn heat(client: &Client, days: std::ops::Range<u32>) -> Result<()> {
    let begin: jiff::Timestamp = "2026-07-01T00:00:00Z".parse()?;
    for hour in days.start * 24..days.end * 24 {
        let at = begin + jiff::SignedDuration::from_hours(i64::from(hour));
        let mut body = String::new();
        for (room, warmth) in [("attic", 9.0), ("cellar", -6.0), ("kitchen", 2.0)] {
            let noon = f64::from(12 - (i32::try_from(hour % 24)? - 12).abs());
            let now = 15.0 + warmth + noon * 0.5 + f64::from(hour) * 0.01;
            let value = if hour % 31 == 30 { -300.0 } else { now };
            body.push_str(&format!(
                "{}\n",
                json!({"point": format!("house/{room}/temperature"), "value": value, "at": at})
            ));
        }
        client.push(body.as_bytes(), None)?.json()?;
    }
    Ok(())
}

/// An installed thermometer that has seen four days.
fn thermometer() -> Result<Server> {
    let server = fed()?;
    let client = server.client();
    heat(client, 0..1)?;
    let bindings = json!({"temperature": ["house/{room}/temperature"]});
    let settings = json!({"settings": {"limit": 28.0}});
    install(client, "rooms", &version("thermometer", "1.0.0")?, bindings, settings)?;
    heat(client, 1..5)?;
    wait_until_done(client, "rooms")?;
    Ok(server)
}

#[test]
fn a_version_does_the_same_as_itself() -> Result<()> {
    let server = thermometer()?;
    let client = server.client();
    let before = client.installation("rooms")?;
    let next = client.add_package(&version("thermometer", "1.0.1")?.tar())?;
    for (from, start) in [("beginning", "2026-07-02"), ("2026-07-03T06:00:00Z", "2026-07-03T06")] {
        let report = report(client, "rooms", &json!({"from": from, "change": {"package": next}}))?;
        assert_eq!(report["same"], true, "{report}");
        ensure!(report["from"].as_str().is_some_and(|from| from.starts_with(start)), "{report}");
        assert_eq!(report["start"]["kind"], "beginning");
        assert_eq!((&report["otherwise"], &report["ended"]), (&Value::Null, &Value::Null));
        assert_eq!(
            (&report["old"]["version"], &report["new"]["version"]),
            (&json!("1.0.0"), &json!("1.0.1"))
        );
        for field in
            ["invocations", "readings", "derived", "alarms", "dead_letters", "failures", "state_keys"]
        {
            assert_eq!(report["old"][field], report["new"][field], "{field}: {report}");
        }
        ensure!(number(&report, "compared.alarm.old") > 0 && number(&report, "old.dead_letters") > 0);
        ensure!(number(&report, "new.cpu_nanos") > 0 && number(&report, "new.peak_memory") > 0);
    }
    let whole = report(client, "rooms", &json!({"from": "beginning"}))?;
    assert_eq!((number(&whole, "old.readings"), number(&whole, "new.readings")), (4 * 24 * 3, 4 * 24 * 3));
    let runs = client.all("/v1/installations/rooms/invocations")?;
    assert_eq!(number(&whole, "as_recorded"), runs.iter().filter(|run| run["kind"] != "skip").count() as u64);

    // Nothing of it was written.
    let after = client.installation("rooms")?;
    assert_eq!((&after["counters"], &after["revision"]), (&before["counters"], &before["revision"]));
    Ok(())
}

#[test]
fn what_a_change_does_otherwise_is_told_the_first_difference_first() -> Result<()> {
    let server = thermometer()?;
    let client = server.client();
    let report =
        report(client, "rooms", &json!({"from": "beginning", "change": {"settings": {"limit": 29.5}}}))?;
    assert_eq!(report["same"], false);
    // Reckoned by hand: the attic is above 28 °C from the hour in which 24 + noon / 2 + hour / 100 is, and with 29.5 °C later.
    let warm =
        |hour: u32| 24.0 + f64::from(12 - (hour as i32 % 24 - 12).abs()) * 0.5 + f64::from(hour) * 0.01;
    let first = |limit: f64| (24..120).find(|hour| hour % 31 != 30 && warm(*hour) > limit);
    let hour = first(28.0).context("never warm")?;
    ensure!(first(29.5) > Some(hour));
    let difference = &report["differences"][0];
    let at: jiff::Timestamp = "2026-07-01T00:00:00Z".parse::<jiff::Timestamp>()?
        + jiff::SignedDuration::from_hours(i64::from(hour));
    assert_eq!((&difference["kind"], &difference["what"]), (&json!("alarm"), &json!("too-warm of attic")));
    ensure!(
        difference["time"].as_str().is_some_and(|time| time.starts_with(&at.to_string()[..16])),
        "{difference}"
    );
    ensure!(difference["old"].as_str().is_some_and(|old| old.starts_with("raised")), "{difference}");
    assert_eq!(difference["new"], Value::Null);
    // The records of warmth are the same, and so is the state.
    assert_eq!(
        (number(&report, "compared.derived.different"), &report["compared"]["state"]["different"]),
        (0, &json!(0))
    );
    ensure!(of_kind(&report, "derived").is_empty());

    let command = ["rehearse", "rooms", "--from", "beginning", "--set", "limit=29.5"];
    let output = server.cli(&command)?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("too-warm of attic") && text.contains("CPU time"), "{text}");
    let said = String::from_utf8(output.stderr)?;
    ensure!(said.contains("of what the versions do differs, and 0.00 % is allowed"), "{said}");
    let accepted = server.cli(&[&command[..], &["--max-difference", "100%"]].concat())?;
    ensure!(accepted.status.success(), "{accepted:?}");
    let json = server.cli_json(&[&command[..], &["--max-difference", "100%"]].concat())?;
    assert_eq!(json["differences"], report["differences"]);
    let listed = server.cli(&["rehearse", "rooms", "--list"])?;
    ensure!(String::from_utf8(listed.stdout)?.lines().count() == 5, "a head and four of them");
    Ok(())
}

#[test]
fn an_upgrade_goes_ahead_only_where_the_rehearsal_shows_no_more_than_is_allowed() -> Result<()> {
    let server = thermometer()?;
    let file = file_of(&server, "next.ironloom", &version("thermometer", "1.1.0")?)?;
    let upgrade = ["upgrade", "rooms", &file, "--rehearse", "beginning"];
    let refused = server.cli(&[&upgrade[..], &["--set", "limit=20"]].concat())?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    ensure!(String::from_utf8(refused.stderr)?.contains("too-warm"));
    assert_eq!(server.client().installation("rooms")?["version"], "1.0.0");
    let upgraded = server.cli_json(&upgrade)?;
    assert_eq!((&upgraded["version"], number(&upgraded, "revision")), (&json!("1.1.0"), 2));
    Ok(())
}

/// Weighings of a herd, day after day.
fn weigh(client: &Client, pigs: u32, days: std::ops::Range<u32>) -> Result<()> {
    for day in days {
        let mut body = String::new();
        for pig in 0..pigs {
            body.push_str(&weighing(pig, day)?);
        }
        client.push(body.as_bytes(), None)?.json()?;
    }
    Ok(())
}

/// A ledger of pigs that has seen 39 days of 200.
fn herd() -> Result<Server> {
    let server = fed()?;
    let client = server.client();
    weigh(client, 1, 0..1)?;
    let bindings = json!({"weight": ["farm/{pig}/weight"], "feed": ["farm/{pig}/feed"]});
    install(client, "pigs", &version("pigs", "1.0.0")?, bindings, json!({}))?;
    weigh(client, 200, 1..40)?;
    wait_until_done(client, "pigs")?;
    Ok(server)
}

#[test]
fn a_herds_ledger_with_its_timers_does_the_same_as_itself() -> Result<()> {
    let server = herd()?;
    let client = server.client();
    for from in ["beginning", "2026-01-20T00:00:00Z"] {
        let report = report(client, "pigs", &json!({"from": from}))?;
        assert_eq!(report["same"], true, "{report}");
        assert_eq!(report["otherwise"], Value::Null, "{report}");
        ensure!(number(&report, "old.derived") > 0 && number(&report, "new.state_keys") > 0, "{report}");
    }
    Ok(())
}

#[test]
fn failures_refusals_and_timers_are_no_differences_by_themselves() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(
        client,
        "guest",
        &guests::package("hostile")?,
        json!({"command": "to/{whom}/command"}),
        json!({}),
    )?;
    for command in ["publish", "refuse", "reject", "timer-again", "panic", "grow", "ok", "loop", "publish"] {
        client.push_one("to/me/command", command)?;
        wait_until_done(client, "guest")?;
    }
    let report = report(client, "guest", &json!({"from": "beginning"}))?;
    assert_eq!(report["same"], true, "{report}");
    ensure!(number(&report, "left_out") > 0 && number(&report, "compared.dead-letter.old") >= 3, "{report}");
    Ok(())
}

fn sums(version: &str, guest: &str) -> Result<Package> {
    guests::package_as("com.example.one-state", version, guest, |manifest| manifest)
}

/// An installation that counts readings of `a/{n}`, with some of `b/{n}` beside.
fn counting() -> Result<Server> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let more = json!({"settings": {"publish": true}});
    install(client, "sums", &sums("0.0.1", "one-state")?, json!({"value": ["a/{n}"]}), more)?;
    for n in 1..=5 {
        client.push_one(&format!("b/{n}"), 10 * n)?;
        client.push_one(&format!("a/{n}"), n)?;
    }
    wait_for_installation(client, "sums", "its readings", |one| number(one, "counters.readings") == 5)?;
    Ok(server)
}

#[test]
fn other_inputs_take_their_own_readings_at_the_same_times() -> Result<()> {
    let server = counting()?;
    let change = json!({"bindings": {"value": ["b/{n}", "a/{n}"]}});
    // Two points of one entity aren't bound.
    let refused = start(server.client(), "sums", &json!({"from": "beginning", "change": change}))?;
    refused.problem(422)?;
    let change = json!({"bindings": {"value": ["b/{n}"]}});
    let report = report(server.client(), "sums", &json!({"from": "beginning", "change": change}))?;
    // The last one of b came before the last one of a.
    assert_eq!((number(&report, "new.readings"), number(&report, "new.derived")), (5, 5), "{report}");
    assert_eq!(report["same"], false, "other sums: {report}");
    Ok(())
}

#[test]
fn a_version_with_a_form_of_its_own_begins_with_what_its_migrate_makes() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    let next = client.add_package(&sums("0.9.0", "hostile")?.tar())?;
    let change = json!({"package": next, "bindings": {"command": "do/{whom}"}});
    let report = report(client, "sums", &json!({"from": "beginning", "change": change}))?;
    assert_eq!(report["state"]["migrated"], true, "{report}");
    assert_eq!((&report["ended"], number(&report, "compared.derived.new")), (&Value::Null, 0), "{report}");
    assert_eq!(number(&report, "compared.derived.different"), 5, "it counts nothing: {report}");
    Ok(())
}

#[test]
fn a_version_that_fails_is_told_and_ends_where_it_would_be_quarantined() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(client, "sums", &sums("0.0.1", "one-state")?, json!({"value": ["a/{n}"]}), json!({}))?;
    for n in 0..12 {
        client.push_one(&format!("a/{}", n % 3), n)?;
        client.push_one("do/me", "panic")?;
        wait_until_done(client, "sums")?;
    }
    let next = client.add_package(&sums("0.9.0", "hostile")?.tar())?;
    let change = json!({"package": next, "bindings": {"command": "do/{whom}"}});
    let report = report(client, "sums", &json!({"from": "beginning", "change": change}))?;
    let ended = report["ended"].as_str().context("it goes on")?;
    ensure!(
        ended.contains("it would be quarantined at") && ended.contains("5 readings in a row"),
        "{report}"
    );
    assert_eq!(number(&report, "new.failures.trap"), 5, "{report}");
    let output = server.cli(&[
        "rehearse",
        "sums",
        &next,
        "--bind",
        "command=do/{whom}",
        "--from",
        "24h",
        "--max-difference",
        "100%",
    ])?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(String::from_utf8(output.stderr)?.contains("would be quarantined"));
    Ok(())
}

#[test]
fn what_cant_be_rehearsed_is_refused_by_name() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    let refused = |body: &Value, status| -> Result<Value> { start(client, "sums", body)?.problem(status) };
    refused(&json!({"from": "yesterday"}), 400)?;
    refused(&json!({}), 400)?;
    let wrong = refused(&json!({"from": "1 h", "tolerance": 2}), 400)?;
    assert_eq!(wrong["where"]["field"], "tolerance");
    let unknown = format!("sha256:{}", "0".repeat(64));
    refused(&json!({"from": "1 h", "change": {"package": unknown}}), 422)?;
    start(client, "nobody", &json!({"from": "1 h"}))?.problem(404)?;
    client.get("/v1/installations/sums/rehearsals/7")?.problem(404)?;
    client.delete("/v1/installations/sums/rehearsals/7")?.problem(404)?;
    // Nothing was recorded since.
    let over = rehearse(client, "sums", &json!({"from": "1 s"}))?;
    if over["state"] != "done" {
        ensure!(
            over["error"].as_str().is_some_and(|error| error.contains("nothing was recorded from")),
            "{over}"
        );
    }

    // A person has changed the state: from the records alone it can't be made again.
    client.post("/v1/installations/sums/pause", &json!({}))?.json()?;
    let json = [("content-type", "application/json")];
    client.send("PUT", "/v1/installations/sums/state/1", &json, br#"{"base64": "AAAA"}"#)?.json()?;
    let repaired = refused(&json!({"from": "beginning"}), 422)?;
    assert_eq!(repaired["kind"], "rehearsal");
    ensure!(
        repaired["detail"].as_str().is_some_and(|detail| detail.contains("a person changed its state")),
        "{repaired}"
    );
    Ok(())
}

#[test]
fn one_runs_at_a_time_and_ends_when_it_is_cancelled() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(client, "sums", &sums("0.0.1", "one-state")?, json!({"value": ["a/{n}"]}), json!({}))?;
    for n in 0..400 {
        client.push_one("a/1", n)?;
    }
    wait_for_installation(client, "sums", "its readings", |one| number(one, "counters.readings") == 400)?;
    let begun = start(client, "sums", &json!({"from": "beginning"}))?.json()?;
    let second = start(client, "sums", &json!({"from": "beginning"}))?;
    if second.status != 201 {
        assert_eq!(second.problem(503)?["kind"], "busy");
    }
    let path = format!("/v1/installations/sums/rehearsals/{}", begun["number"]);
    client.delete(&path)?;
    client.get(&path)?.problem(404)?;
    wait_until("there is room for another one", || {
        Ok(start(client, "sums", &json!({"from": "beginning"}))?.status == 201)
    })?;
    Ok(())
}

/// A herd's ledger with a million readings.
fn million() -> Result<Server> {
    let server = fed()?;
    let client = server.client();
    weigh(client, 1, 0..1)?;
    let bindings = json!({"weight": ["farm/{pig}/weight"], "feed": ["farm/{pig}/feed"]});
    let more = json!({"limits": {"points": 100_000, "share": "2 s"}});
    install(client, "pigs", &version("pigs", "1.0.0")?, bindings, more)?;
    weigh(client, 5_000, 1..201)?;
    let waits = std::iter::repeat_with(|| wait_until_done(client, "pigs"));
    let pigs = waits.take(20).find_map(Result::ok).context("it isn't done within 20 min")?;
    ensure!(number(&pigs, "counters.readings") >= 1_000_000, "{pigs}");
    Ok(server)
}

#[test]
#[ignore = "takes minutes; cargo test --release --test rehearsals -- --ignored"]
fn a_million_readings_show_no_difference_of_a_version_to_itself() -> Result<()> {
    let server = million()?;
    let client = server.client();
    let begun = start(client, "pigs", &json!({"from": "beginning"}))?.json()?;
    let path = format!("/v1/installations/pigs/rehearsals/{}", begun["number"]);
    let since = Instant::now();
    let over = loop {
        let now = client.get(&path)?.json()?;
        if now["state"] != "running" {
            break now;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    println!("{:?}: {over}", since.elapsed());
    assert_eq!(over["report"]["same"], true, "{over}");
    assert_eq!(over["report"]["otherwise"], Value::Null, "{over}");
    ensure!(number(&over, "report.new.readings") >= 1_000_000, "{over}");
    Ok(())
}

/// The 99th percentile of so many pushes that wait for their app, one after the other, at the pace of a plant.
fn p99(client: &Client, pushes: u32, counter: &mut u32) -> Result<Duration> {
    let mut all = Vec::new();
    for _ in 0..pushes {
        *counter += 1;
        let body =
            format!("{}\n", json!({"point": "house/attic/temperature", "value": f64::from(*counter % 40)}));
        let begun = Instant::now();
        let path = "/v1/readings?wait=applied";
        let kind = [("content-type", "application/x-ndjson")];
        client.send("POST", path, &kind, body.as_bytes())?.json()?;
        all.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    all.sort_unstable();
    Ok(all[all.len() * 99 / 100])
}

/// Live lanes beside a rehearsal, in turn with live lanes alone.
#[test]
#[ignore = "takes minutes, and wants a machine without other work"]
fn live_lanes_are_hardly_slower_beside_a_rehearsal() -> Result<()> {
    let server = million()?;
    let client = server.client();
    let bindings = json!({"temperature": ["house/{room}/temperature"]});
    install(client, "rooms", &version("thermometer", "1.0.0")?, bindings, json!({}))?;
    let (mut alone, mut beside, mut counter) = (Vec::new(), Vec::new(), 0);
    p99(client, 200, &mut counter)?;
    for _ in 0..5 {
        alone.push(p99(client, 1_000, &mut counter)?);
        let begun = start(client, "pigs", &json!({"from": "beginning"}))?.json()?;
        let path = format!("/v1/installations/pigs/rehearsals/{}", begun["number"]);
        std::thread::sleep(Duration::from_millis(500));
        beside.push(p99(client, 1_000, &mut counter)?);
        assert_eq!(client.get(&path)?.json()?["state"], "running", "it was over too early");
        client.delete(&path)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    alone.sort_unstable();
    beside.sort_unstable();
    println!("p99 alone {alone:?}, beside a rehearsal {beside:?}");
    let (alone, beside) = (alone[2], beside[2]);
    ensure!(beside <= alone.mul_f64(1.1), "{beside:?} beside a rehearsal, {alone:?} alone");
    Ok(())
}

/// Pushes a reading, and waits until it is dealt with.
fn count(client: &Client, n: u64) -> Result<()> {
    client.push_one("a/1", n)?;
    wait_for_installation(client, "sums", "the reading", |one| number(one, "counters.readings") == n)?;
    Ok(())
}

#[test]
fn a_rehearsal_starts_from_the_last_copy_before_its_time() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let package = guests::package("one-state")?;
    install(client, "sums", &package, json!({"value": ["a/{n}"]}), json!({"settings": {"publish": true}}))?;
    (1..=3).try_for_each(|n| count(client, n))?;
    // From here on its state rests on more than its records.
    let path = "/v1/installations/sums";
    client.post(&format!("{path}/pause"), &json!({}))?.json()?;
    let entry = client.get(&format!("{path}/state/1"))?.json()?;
    let same = json!({"base64": entry["value"]["base64"]}).to_string();
    let json = [("content-type", "application/json")];
    client.send("PUT", &format!("{path}/state/1"), &json, same.as_bytes())?.json()?;
    client.post(&format!("{path}/resume"), &json!({}))?.json()?;
    count(client, 4)?;
    let same = |version: &str| {
        let package = guests::package_as("com.example.one-state", version, "one-state", |manifest| manifest);
        client.add_package(&package?.tar())
    };
    let refused =
        start(client, "sums", &json!({"from": "beginning", "change": {"package": same("0.1.1")?}}))?;
    let refused = refused.problem(422)?;
    let detail = refused["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("a person changed its state") && detail.contains("from any time"), "{refused}");

    client.patch(path, &json!({"package": same("0.2.0")?}))?.json()?;
    let copies = client.get(&format!("{path}/copies"))?.json()?;
    let copied: jiff::Timestamp = copies["items"][0]["time"].as_str().context("no time")?.parse()?;
    // The report counts what comes at `from` and later; whole seconds lie between.
    std::thread::sleep(Duration::from_millis(1_100));
    let from = jiff::Timestamp::now();
    (5..=7).try_for_each(|n| count(client, n))?;
    let change = json!({"package": same("0.2.1")?});
    let found = report(client, "sums", &json!({"from": from, "change": change}))?;
    assert_eq!(
        (&found["start"]["kind"], &found["start"]["time"]),
        (&json!("copy"), &copies["items"][0]["time"])
    );
    assert_eq!((&found["same"], &found["otherwise"]), (&json!(true), &Value::Null), "{found}");
    assert_eq!((number(&found, "old.readings"), number(&found, "new.readings")), (3, 3));
    assert_eq!(number(&found, "as_recorded"), 3, "nothing before the copy ran again");

    // Before the copy there is no start, and the refusal says from when on there is one.
    let refused = start(client, "sums", &json!({"from": copied, "change": change}))?.problem(422)?;
    let detail = refused["detail"].as_str().unwrap_or_default();
    let earliest = detail.split("the earliest time is ").nth(1).context("no time")?;
    let earliest: jiff::Timestamp = earliest.trim_end_matches('.').parse()?;
    ensure!(copied < earliest && earliest <= from, "{detail}");
    let found = report(client, "sums", &json!({"from": earliest, "change": change}))?;
    assert_eq!((&found["start"]["kind"], &found["same"]), (&json!("copy"), &json!(true)));
    Ok(())
}

/// The number of a process's scheduling policy, which is the 41st field of its line.
fn policy_of(pid: &str) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have blanks, comes the third.
    stat.rsplit_once(") ")?.1.split_whitespace().nth(41 - 3)?.parse().ok()
}

/// The processes that a server has begun for rehearsals.
fn workers_of(server: &Server) -> Result<Vec<String>> {
    let children = format!("/proc/{0}/task", server.pid());
    let mut found = Vec::new();
    for task in std::fs::read_dir(children)? {
        // A thread may end meanwhile, and so may a child.
        let own = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        let is_worker = |pid: &&str| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"rehearsal-worker")
        };
        found.extend(own.split_whitespace().filter(is_worker).map(str::to_owned));
    }
    Ok(found)
}

#[test]
fn a_rehearsal_runs_where_nothing_else_wants_the_processor() -> Result<()> {
    const SCHED_IDLE: u32 = 5;
    let server = herd()?;
    let client = server.client();
    let begun = start(client, "pigs", &json!({"from": "beginning"}))?.json()?;
    let path = format!("/v1/installations/pigs/rehearsals/{}", begun["number"]);
    // It confines itself as soon as it is there.
    let mut seen = Vec::new();
    wait_until("the worker to be idle", || {
        let policies = workers_of(&server)?.iter().filter_map(|pid| policy_of(pid)).collect::<Vec<_>>();
        seen.extend(policies.iter().copied());
        ensure!(
            client.get(&path)?.json()?["state"] == "running" || policies.contains(&SCHED_IDLE),
            "it is over, and its worker was seen as {seen:?}"
        );
        Ok(policies.contains(&SCHED_IDLE))
    })?;
    // The server itself isn't.
    assert_eq!(policy_of(&server.pid().to_string()), Some(0));
    client.delete(&path)?;
    Ok(())
}
