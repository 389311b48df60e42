//! `ironloom replay`: the recorded invocations do the same again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{self, install, number, wait_for_installation};
use ironloom_tests::guests;
use ironloom_tests::herd::{morning, weighing};
use ironloom_tests::http::{Answer, Client};
use ironloom_tests::package::{self, Package};
use ironloom_tests::server::{Server, Setup, binary};
use ironloom_tests::wait::wait_until;
use serde_json::{Value, json};

const ENGINES: [&str; 2] = ["sled", "redb"];

fn config(engine: &str, allocator: &str) -> String {
    format!(
        "[site]\nclock = \"feed\"\n[store]\nengine = \"{engine}\"\n[sandbox]\nallocator = \"{allocator}\"\n"
    )
}

fn setup(engine: &str) -> Result<Setup> {
    Ok(Setup::new()?.config(config(engine, "pool")))
}

fn replay(server: &Server, id: &str, request: &Value) -> Result<Value> {
    server.client().post(&format!("/v1/installations/{id}/replay"), request)?.json()
}

/// Weighings of a herd, day after day: so many pigs for so many days.
fn weigh(client: &Client, pigs: u32, days: std::ops::Range<u32>) -> Result<()> {
    for day in days {
        let mut body = String::new();
        for pig in 0..pigs {
            body.push_str(&weighing(pig, day)?);
            if pig % 3 == 0 {
                let eaten = f64::from(day) * 1.7;
                body.push_str(&format!(
                    "{}\n",
                    json!({"point": format!("farm/{pig}/feed"), "value": eaten, "at": morning(day)?})
                ));
            }
        }
        client.push(body.as_bytes(), None)?.json()?;
    }
    Ok(())
}

fn install_pigs(server: &Server) -> Result<()> {
    let package = guests::package_of("pigs", &guests::workspace().join("sample-apps/pigs"))?;
    let bindings = json!({"weight": ["farm/{pig}/weight"], "feed": ["farm/{pig}/feed"]});
    install(server.client(), "pigs", &package, bindings, json!({}))?;
    Ok(())
}

fn wait_until_done(server: &Server, id: &str) -> Result<Value> {
    wait_for_installation(server.client(), id, "all readings", |one| number(one, "lag.readings") == 0)
}

#[test]
fn a_herds_weighings_are_dealt_with_the_same_way_again() -> Result<()> {
    for engine in ENGINES {
        let server = setup(engine)?.start()?;
        // The clock is there before the app, whose timers would else be due since 1970.
        weigh(server.client(), 1, 0..1)?;
        install_pigs(&server)?;
        weigh(server.client(), 300, 1..60)?;
        let pigs = wait_until_done(&server, "pigs")?;
        let answer = replay(&server, "pigs", &json!({}))?;
        assert_eq!(answer["same"], true, "{engine}: {answer}");
        let invocations = server.client().all("/v1/installations/pigs/invocations")?;
        let run = invocations.iter().filter(|one| one["kind"] != "skip").count();
        assert_eq!((&answer["invocations"], &answer["compared"]), (&json!(run), &json!(invocations.len())));
        ensure!(invocations.iter().any(|one| one["kind"] == "timer"), "no timer has run");
        ensure!(number(&pigs, "counters.dead_letters") > 0, "no reading was set aside");

        let beyond = server.client().post("/v1/installations/pigs/replay", &json!({"from": 1_000_000}))?;
        ensure!(beyond.problem(422)?.to_string().contains("it has no invocation 1000000 or later"));

        // Nothing of it was written.
        let after = server.client().installation("pigs")?;
        assert_eq!((&after["counters"], &after["cursor"]), (&pigs["counters"], &pigs["cursor"]));
        // After a restart the records and the readings come from the store, and here memories from elsewhere.
        let setup = server.setup().clone().config(config(engine, "on-demand"));
        ensure!(server.stop()?.success(), "it stops");
        let server = setup.start()?;
        wait_for_installation(server.client(), "pigs", "its code", |one| one["state"] == "running")?;
        let again = replay(&server, "pigs", &json!({}))?;
        assert_eq!(again, answer, "{engine}");
    }
    Ok(())
}

#[test]
fn failures_refusals_and_timers_of_an_app_come_again() -> Result<()> {
    let server = Setup::new()?.start()?;
    let package = guests::package("hostile")?;
    install(server.client(), "guest", &package, json!({"command": "to/{whom}/command"}), json!({}))?;
    let tell = |command: &str| -> Result<()> {
        server.client().push_one("to/me/command", command)?;
        wait_until_done(&server, "guest").map(|_| ())
    };
    for command in ["publish", "refuse", "reject", "timer-again", "panic", "grow", "ok", "loop", "publish"] {
        tell(command)?;
    }
    let answer = replay(&server, "guest", &json!({}))?;
    assert_eq!(answer["same"], true, "{answer}");
    ensure!(answer["left_out"].as_u64() > Some(0), "the endless loop was ended by the clock: {answer}");

    // A part of it, and by the command line.
    let part = replay(&server, "guest", &json!({"from": 2, "to": 4}))?;
    assert_eq!((&part["same"], &part["through"]), (&json!(true), &json!(4)));
    let url = server.client().url();
    let output = Command::new(binary()?).args(["replay", "guest", "--check", "--url", url]).output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(String::from_utf8(output.stdout)?.contains("no difference"));

    let refused = server.client().post("/v1/installations/guest/replay", &json!({"from": 4, "to": 2}))?;
    assert_eq!(refused.status, 400);
    let refused = server.client().post("/v1/installations/nobody/replay", &json!({}))?;
    assert_eq!(refused.status, 404);
    let output = Command::new(binary()?).args(["replay", "nobody", "--url", url]).output()?;
    assert_eq!(output.status.code(), Some(4));
    Ok(())
}

#[test]
fn a_capsule_takes_the_last_invocations_along_and_the_failing_one_fails_again() -> Result<()> {
    let server = Setup::new()?.start()?;
    let package = guests::package("hostile")?;
    install(server.client(), "guest", &package, json!({"command": "to/{whom}/command"}), json!({}))?;
    for command in ["publish", "ok", "environment", "refuse", "panic"] {
        server.client().push_one("to/me/command", command)?;
        wait_until_done(&server, "guest")?;
    }
    let folder = server.setup().folder().to_owned();
    let url = server.client().url().to_owned();
    let ironloom = |arguments: &[&str]| -> Result<std::process::Output> {
        Ok(Command::new(binary()?).args(arguments).current_dir(&folder).env("IRONLOOM_URL", &url).output()?)
    };
    let taken = ironloom(&["capsule", "guest", "--last", "3", "-o", "guest.capsule.tar"])?;
    ensure!(taken.status.success(), "{taken:?}");
    let mode = std::fs::metadata(folder.join("guest.capsule.tar"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");
    let again = ironloom(&["capsule", "guest", "-o", "guest.capsule.tar"])?;
    assert_eq!(again.status.code(), Some(2), "nothing is written over");
    let after = server.client().installation("guest")?;
    // Its folder goes with the last who knows it.
    let _setup = server.setup().clone();
    ensure!(server.stop()?.success(), "it stops");

    // Elsewhere: without the server.
    let output = ironloom(&["capsule", "run", "guest.capsule.tar", "--json"])?;
    ensure!(output.status.success(), "{output:?}");
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let all = all["items"].as_array().context("no items")?;
    ensure!(all.iter().all(|one| one["difference"].is_null()), "{all:?}");
    let traps: Vec<&Value> = all.iter().filter(|one| one["recorded"]["outcome"] == "trap").collect();
    assert_eq!(traps.len(), 3, "three attempts");
    let ordinals: std::collections::BTreeSet<u64> =
        all.iter().filter_map(|one| one["recorded"]["ordinal"].as_u64()).collect();
    assert_eq!(ordinals, [3, 4, 5].into());
    assert_eq!(after["counters"]["readings"], 5);
    let output = ironloom(&["capsule", "run", "guest.capsule.tar"])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("the same") && text.contains("a panic, as told"), "{text}");

    // What isn't as this program writes it is told.
    let bytes = std::fs::read(folder.join("guest.capsule.tar"))?;
    let outcome = b"\"outcome\":\"ok\"";
    let at = bytes.windows(outcome.len()).position(|part| part == outcome).context("no outcome")?;
    let mut changed = bytes.clone();
    changed[at + 11..at + 13].copy_from_slice(b"no");
    std::fs::write(folder.join("odd.capsule.tar"), &changed)?;
    let output = ironloom(&["capsule", "run", "odd.capsule.tar"])?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(String::from_utf8(output.stderr)?.contains("no known outcome"));
    // One with other effects in its records than the app has.
    let digest = b"\"digest\":\"sha256:";
    let at = bytes.windows(digest.len()).position(|part| part == digest).context("no digest")? + digest.len();
    let mut changed = bytes.clone();
    changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(folder.join("differs.capsule.tar"), &changed)?;
    let output = ironloom(&["capsule", "run", "differs.capsule.tar"])?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(String::from_utf8(output.stdout)?.contains("other effects"));
    ensure!(
        String::from_utf8(output.stderr)?.contains("1 of 5 invocations did something else than recorded")
    );
    std::fs::write(folder.join("no.capsule.tar"), b"no")?;
    let output = ironloom(&["capsule", "run", "no.capsule.tar"])?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(String::from_utf8(output.stderr)?.contains("no.capsule.tar is not a capsule"));
    assert_eq!(ironloom(&["capsule"])?.status.code(), Some(2));
    Ok(())
}

#[test]
fn an_invocation_that_the_clock_ended_is_not_said_to_be_the_same() -> Result<()> {
    let server = Setup::new()?.start()?;
    let package = guests::package("hostile")?;
    install(server.client(), "guest", &package, json!({"command": "to/{whom}/command"}), json!({}))?;
    for command in ["publish", "loop"] {
        server.client().push_one("to/me/command", command)?;
        wait_until_done(&server, "guest")?;
    }
    let answer = replay(&server, "guest", &json!({}))?;
    assert_eq!(
        (&answer["invocations"], &answer["compared"], &answer["left_out"]),
        (&json!(1), &json!(1), &json!(3))
    );

    let file = server.setup().folder().join("loop.capsule.tar").display().to_string();
    let taken = server.cli(&["capsule", "guest", "-o", &file])?;
    ensure!(taken.status.success(), "{taken:?}");
    let output = server.cli(&["capsule", "run", &file, "--json"])?;
    ensure!(output.status.success(), "{output:?}");
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let ran = |one: &Value| (one["recorded"]["outcome"].as_str().map(str::to_owned), one["ran"].as_bool());
    let ran: Vec<_> = all["items"].as_array().context("no items")?.iter().map(ran).collect();
    let limit = || (Some("cpu-limit".to_owned()), Some(false));
    assert_eq!(ran, [(Some("ok".to_owned()), Some(true)), limit(), limit(), limit()]);
    let output = server.cli(&["capsule", "run", &file])?;
    assert_eq!(String::from_utf8(output.stdout)?.matches("not run").count(), 3);
    ensure!(String::from_utf8(output.stderr)?.contains("3 invocations not run: a limit of time"));
    Ok(())
}

/// The answer of the pig ledger to a weighing depends on all before it.
#[test]
fn a_capsule_has_what_was_before_its_first_invocation() -> Result<()> {
    let server = setup("redb")?.start()?;
    weigh(server.client(), 1, 0..1)?;
    install_pigs(&server)?;
    weigh(server.client(), 50, 1..20)?;
    wait_until_done(&server, "pigs")?;
    let folder = server.setup().folder().to_owned();
    let taken = server.cli(&[
        "capsule",
        "pigs",
        "--last",
        "4",
        "-o",
        &folder.join("pigs.tar").display().to_string(),
    ])?;
    ensure!(taken.status.success(), "{taken:?}");
    let mut command = Command::new(binary()?);
    let output = command.args(["capsule", "run", "pigs.tar", "--json"]).current_dir(&folder).output()?;
    ensure!(output.status.success(), "{output:?}");
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let ordinals: std::collections::BTreeSet<u64> = all["items"]
        .as_array()
        .context("no items")?
        .iter()
        .filter_map(|one| one["recorded"]["ordinal"].as_u64())
        .collect();
    assert_eq!(ordinals.len(), 4);
    let refused = server.client().get("/v1/installations/pigs/capsule?last=0")?;
    assert_eq!(refused.status, 400);
    Ok(())
}

/// A guest's code as a version of the guest `one-state`.
fn sums(version: &str, guest: &str) -> Result<Package> {
    guests::package_as("com.example.one-state", version, guest, |manifest| manifest)
}

fn change(client: &Client, body: &Value) -> Result<Value> {
    apps::change(client, "sums", body)?.json()
}

/// Waits until it has taken so many readings.
fn taken(client: &Client, readings: u64) -> Result<()> {
    wait_for_installation(client, "sums", "its readings", |one| {
        number(one, "counters.readings") == readings && number(one, "lag.readings") == 0
    })?;
    Ok(())
}

/// An installation that has run under four revisions: with other inputs, other settings and, in the end, other code that has
/// brought the state into its form.
fn of_four_revisions(engine: &str) -> Result<(Server, String)> {
    let server = Setup::new()?.config(format!("[store]\nengine = \"{engine}\"\n")).start()?;
    let client = server.client();
    let old = sums("0.0.1", "one-state")?;
    install(client, "sums", &old, json!({"value": ["a/{n}"]}), json!({"settings": {"publish": true}}))?;
    for n in 1..=5 {
        client.push_one(&format!("a/{n}"), n)?;
        client.push_one(&format!("b/{n}"), 10 * n)?;
    }
    taken(client, 5)?;
    change(client, &json!({"bindings": {"value": ["b/{n}"]}}))?;
    for n in 1..=5 {
        client.push_one(&format!("b/{n}"), n)?;
        client.push_one(&format!("a/{n}"), 10 * n)?;
    }
    taken(client, 10)?;
    change(client, &json!({"settings": {"publish": false}}))?;
    client.push_one("b/1", 7)?;
    taken(client, 11)?;
    let old = client.installation("sums")?["package"].as_str().context("no package")?.to_owned();
    let next = client.add_package(&sums("0.9.0", "hostile")?.tar())?;
    let upgraded = change(client, &json!({"package": next, "bindings": {"command": "do/{whom}"}}))?;
    assert_eq!(number(&upgraded, "revision"), 4);
    for command in ["ok", "publish", "reject"] {
        client.push_one("do/me", command)?;
    }
    taken(client, 14)?;
    Ok((server, old))
}

#[test]
fn what_ran_under_earlier_revisions_runs_again_as_it_did_then() -> Result<()> {
    for engine in ENGINES {
        let (server, old) = of_four_revisions(engine)?;
        let answer = replay(&server, "sums", &json!({}))?;
        let invocations = server.client().all("/v1/installations/sums/invocations")?;
        let revisions: std::collections::BTreeSet<u64> =
            invocations.iter().map(|one| number(one, "revision")).collect();
        assert_eq!(revisions, [1, 2, 3, 4].into());
        assert_eq!(
            (&answer["same"], &answer["compared"], &answer["readings"]),
            (&json!(true), &json!(invocations.len()), &json!(14)),
            "{engine}: {answer}"
        );

        // Of the last ones a capsule takes those of one revision, and what the migration has left before them.
        let capsule = server.client().get("/v1/installations/sums/capsule?last=1000")?.json()?;
        let all = capsule["invocations"].as_array().context("no invocations")?;
        ensure!(all.iter().all(|one| number(one, "invocation.revision") == 4), "{capsule}");
        assert_eq!(number(&capsule, "revision"), 4);
        let before = capsule["before"]["state"].as_object().context("no state")?;
        let moved = ["moved/1", "moved/2", "moved/3", "moved/4", "moved/5"];
        assert_eq!(before.keys().collect::<Vec<_>>(), moved);
        let folder = server.setup().folder().to_owned();
        let file = folder.join("sums.capsule.tar").display().to_string();
        let said = server.cli(&["capsule", "sums", "--last", "1000", "-o", &file])?;
        let said = String::from_utf8(said.stderr)?;
        ensure!(said.contains("those before them ran under another revision"), "{said}");
        let again = server.cli(&["capsule", "run", &file])?;
        ensure!(again.status.success(), "{again:?}");

        // Nothing of it is lost with the process, and the code is there although nothing runs with it.
        let setup = server.setup().clone();
        server.kill()?;
        let server = setup.start()?;
        wait_for_installation(server.client(), "sums", "its code", |one| one["state"] == "running")?;
        assert_eq!(replay(&server, "sums", &json!({}))?, answer, "{engine}");
        ensure!(server.stop()?.success(), "it stops");
        let server = setup.start()?;
        let client = server.client();
        wait_for_installation(client, "sums", "its code", |one| one["state"] == "running")?;
        assert_eq!(replay(&server, "sums", &json!({}))?, answer, "{engine}");

        // Somebody removes it all the same, once nobody goes back to it, and sends it again.
        client.post("/v1/installations/sums/commit", &json!({}))?.json()?;
        client.delete(&format!("/v1/packages/{old}"))?.json()?;
        let problem = client.post("/v1/installations/sums/replay", &json!({}))?.problem(422)?;
        let detail = format!("revision 1 had the package {old}, which is no longer here: send it again");
        ensure!(problem["detail"].as_str().is_some_and(|text| text.starts_with(&detail)), "{problem}");
        client.add_package(&sums("0.0.1", "one-state")?.tar())?;
        assert_eq!(replay(&server, "sums", &json!({}))?, answer, "{engine}");

        // One that was never invoked since has a capsule of the revision before.
        change(client, &json!({"limits": {"cpu": "1 s"}}))?;
        let capsule = client.get("/v1/installations/sums/capsule")?.json()?;
        assert_eq!((number(&capsule, "revision"), &capsule["before"]["state"]), (4, &json!(before)));
        assert_eq!(replay(&server, "sums", &json!({}))?, answer, "{engine}");
    }
    Ok(())
}

#[test]
fn readings_of_points_that_are_gone_run_again_as_they_were_routed() -> Result<()> {
    let with_unit = "[points.\"us/{room}/temperature\"]\nunit = \"[degF]\"\n";
    for engine in ENGINES {
        let engine_of = format!("[store]\nengine = \"{engine}\"\n");
        let server = Setup::new()?.config(format!("{engine_of}{with_unit}")).start()?;
        let package =
            guests::package_of("thermometer", &guests::workspace().join("sample-apps/thermometer"))?;
        install(
            server.client(),
            "rooms",
            &package,
            json!({"temperature": "us/{room}/temperature"}),
            json!({}),
        )?;
        let push = |server: &Server, room: &str, value: f64| -> Result<()> {
            server.client().push_one(&format!("us/{room}/temperature"), value)?;
            wait_until_done(server, "rooms").map(|_| ())
        };
        push(&server, "attic", 212.0)?;
        push(&server, "cellar", 50.0)?;
        server.cli_json(&["points", "rename", "us/attic/temperature", "us/loft/temperature"])?;
        server.cli_json(&["points", "retire", "us/cellar/temperature"])?;
        // The one goes on as another entity, the other comes anew.
        push(&server, "loft", 210.0)?;
        push(&server, "cellar", 60.0)?;
        let same = |server: &Server, count: u64| -> Result<()> {
            let answer = replay(server, "rooms", &json!({}))?;
            let expected = (&json!(true), &json!(count), &json!(count));
            assert_eq!(
                (&answer["same"], &answer["compared"], &answer["readings"]),
                expected,
                "{engine}: {answer}"
            );
            Ok(())
        };
        same(&server, 4)?;
        let server = server.restarted()?;
        wait_for_installation(server.client(), "rooms", "its code", |one| one["state"] == "running")?;
        same(&server, 4)?;
        // Now it comes in another unit: those of before keep theirs.
        server.cli_json(&["points", "retire", "us/cellar/temperature"])?;
        let in_other = format!("{engine_of}{}", with_unit.replace("[degF]", "Cel"));
        let setup = server.setup().clone().config(in_other);
        server.kill()?;
        let server = setup.start()?;
        wait_for_installation(server.client(), "rooms", "its code", |one| one["state"] == "running")?;
        push(&server, "cellar", 20.0)?;
        same(&server, 5)?;
        let setup = server.setup().clone();
        ensure!(server.stop()?.success(), "it stops");
        let server = setup.start()?;
        wait_for_installation(server.client(), "rooms", "its code", |one| one["state"] == "running")?;
        same(&server, 5)?;

        // What was taken away with its readings is missed, and by name.
        server.cli_json(&["points", "retire", "us/cellar/temperature", "--readings"])?;
        let problem = server.client().post("/v1/installations/rooms/replay", &json!({}))?.problem(422)?;
        ensure!(problem["detail"].to_string().contains("were its points removed"), "{problem}");
    }
    Ok(())
}

#[test]
fn a_capsule_leads_from_a_trap_to_its_line() -> Result<()> {
    let server = Setup::new()?.start()?;
    let component = std::fs::read(guests::build_with_lines("hostile")?)?;
    let manifest = std::fs::read_to_string(guests::folder_of("hostile").join("app.toml"))?;
    let package = package::pack(&manifest, &component);
    install(server.client(), "guest", &package, json!({"command": "to/{whom}/command"}), json!({}))?;
    for command in ["ok", "abort"] {
        server.client().push_one("to/me/command", command)?;
        wait_until_done(&server, "guest")?;
    }
    let file = server.setup().folder().join("abort.capsule.tar").display().to_string();
    let taken = server.cli(&["capsule", "guest", "-o", &file])?;
    ensure!(taken.status.success(), "{taken:?}");
    let output = server.cli(&["capsule", "run", &file])?;
    ensure!(output.status.success(), "{output:?}");
    let source = std::fs::read_to_string(guests::folder_of("hostile").join("src/lib.rs"))?;
    let line = source.lines().position(|line| line.contains("std::process::abort()")).context("no line")?;
    let place = format!("tests/guests/hostile/src/lib.rs:{})", line + 1);
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("it panicked or aborted") && text.contains(&place), "{place} isn't in {text}");
    Ok(())
}

/// A million readings under load. In the usual suite a smaller number is enough.
#[test]
#[ignore = "takes minutes; cargo test --release --test replay -- --ignored"]
fn a_million_readings_are_dealt_with_the_same_way_again() -> Result<()> {
    for engine in ENGINES {
        let server = setup(engine)?.start()?;
        weigh(server.client(), 1, 0..1)?;
        install_pigs(&server)?;
        // Some points for each pig are more than an app may make by itself.
        let granted = json!({"limits": {"points": 100_000}});
        server.client().patch("/v1/installations/pigs", &granted)?.json()?;

        weigh(server.client(), 5_000, 1..151)?;
        // It derives several readings of each, and pays for them by its share.
        let waits = std::iter::repeat_with(|| wait_until_done(&server, "pigs"));
        let pigs = waits.take(20).find_map(Result::ok).context("it isn't done within 20 min")?;
        ensure!(number(&pigs, "counters.readings") >= 1_000_000, "{pigs}");
        let answer = replay(&server, "pigs", &json!({}))?;
        assert_eq!(answer["same"], true, "{engine}: {answer}");
        println!("{engine}: {answer}");
        let setup = server.setup().clone().config(config(engine, "on-demand"));
        ensure!(server.stop()?.success(), "it stops");
        let server = setup.start()?;
        wait_for_installation(server.client(), "pigs", "its code", |one| one["state"] == "running")?;
        assert_eq!(replay(&server, "pigs", &json!({}))?, answer, "{engine}");
    }
    Ok(())
}

/// Invocations whose replay takes some seconds: after each of them it rests for a while.
const MANY: usize = 5_000;

/// A server whose installation `guest` has had as many invocations.
fn with_many_invocations() -> Result<Server> {
    let server = Setup::new()?.config("[batch]\nmax_readings = 1\n").start()?;
    let package = guests::package("hostile")?;
    install(server.client(), "guest", &package, json!({"command": "to/{whom}/command"}), json!({}))?;
    let line = format!("{}\n", json!({"point": "to/me/command", "value": "ok"}));
    server.client().push(line.repeat(MANY).as_bytes(), None)?.json()?;
    wait_until_done(&server, "guest")?;
    Ok(server)
}

/// Replays it, once nobody who only looks has the place.
fn replay_many(client: &Client) -> Result<Answer> {
    loop {
        let answer = client.post("/v1/installations/guest/replay", &json!({}))?;
        if answer.status != 503 || !answer.text().contains("\"busy\"") {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns true while a replay has the place.
fn is_taken(client: &Client) -> Result<bool> {
    let answer = client.post("/v1/installations/guest/replay", &json!({"to": 1}))?;
    match answer.status {
        200 => Ok(false),
        _ => answer.problem(503).map(|problem| problem["kind"] == "busy"),
    }
}

#[test]
fn a_replay_ends_with_its_caller() -> Result<()> {
    let server = with_many_invocations()?;
    let client = server.client();
    let host = client.url().strip_prefix("http://").context("no address")?;
    for (method, path) in [("POST", "replay"), ("GET", "capsule")] {
        let request = format!(
            "{method} /v1/installations/guest/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let mut streams = Vec::new();
        wait_until("it to be under way", || {
            // Again, where it was refused since somebody looked just then.
            let mut stream = TcpStream::connect(host)?;
            stream.write_all(request.as_bytes())?;
            streams.push(stream);
            std::thread::sleep(Duration::from_millis(200));
            is_taken(client)
        })?;
        drop(streams);
        let gone = Instant::now();
        wait_until("its place", || Ok(!is_taken(client)?))?;
        // To its end it would take a millisecond and more for each invocation.
        ensure!(gone.elapsed() < Duration::from_millis(MANY as u64 / 2), "{path}: {:?}", gone.elapsed());
    }
    // One that has closed its half, and reads on, is told.
    let mut stream = TcpStream::connect(host)?;
    let request = format!("GET /v1/installations/guest/capsule HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("has closed its half"), "{answer}");
    Ok(())
}

#[test]
fn a_replay_ends_with_the_server_and_with_its_generation() -> Result<()> {
    let server = with_many_invocations()?;
    let setup = server.setup().clone();
    let client = server.client().clone();
    std::thread::scope(|scope| -> Result<()> {
        let replays = scope.spawn(|| replay_many(&client));
        wait_until("it to be under way", || is_taken(&client))?;
        let told = Instant::now();
        ensure!(server.stop()?.success(), "it stops");
        let answer = replays.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        assert_eq!(answer.problem(503)?["kind"], "stopping");
        ensure!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
        Ok(())
    })?;
    ensure!(!setup.said().contains("requests were still running"), "{}", setup.said());

    let server = setup.start()?;
    let client = server.client();
    wait_for_installation(client, "guest", "its code", |one| one["state"] == "running")?;
    std::thread::scope(|scope| -> Result<()> {
        let replays = scope.spawn(|| replay_many(client));
        wait_until("it to be under way", || is_taken(client))?;
        client.post("/v1/installations/guest/reset?from=now", &json!({}))?.json()?;
        let answer = replays.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        let problem = answer.problem(422)?.to_string();
        ensure!(problem.contains("it was reset or uninstalled meanwhile"), "{problem}");
        Ok(())
    })
}
