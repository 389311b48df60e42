//! `ironloom test` and `ironloom record`: golden feeds, and feeds cut out of a journal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::install;
use ironloom_tests::guests;
use ironloom_tests::server::{Setup, binary};
use ironloom_tests::wait::wait_for;
use serde_json::{Value, json};

fn app(name: &str) -> PathBuf {
    guests::workspace().join("sample-apps").join(name)
}

/// Writes an app's package into a folder.
fn package(name: &str, folder: &Path) -> Result<String> {
    let path = folder.join(format!("{name}.app.tar"));
    fs::write(&path, guests::package_of(name, &app(name))?.tar())?;
    Ok(path.display().to_string())
}

fn ironloom(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(arguments).current_dir(folder).env("IRONLOOM_URL", "http://127.0.0.1:1");
    Ok(command.stdin(Stdio::null()).output()?)
}

#[test]
fn the_sample_apps_do_with_their_feeds_what_is_expected() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["thermometer", "pigs"] {
        let package = package(name, folder.path())?;
        let dir = app(name).display().to_string();
        let output = ironloom(folder.path(), &["test", &dir, "--package", &package])?;
        ensure!(output.status.success(), "{output:?}");
        ensure!(String::from_utf8(output.stdout)?.contains(" … as expected\n"));
        // Compiling takes a while: one line says so, where nobody watches.
        assert_eq!(String::from_utf8(output.stderr)?, "compiling the app's code, and running it\n");
    }
    Ok(())
}

#[test]
fn a_difference_is_shown_and_blessed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let package = package("thermometer", folder.path())?;
    let tests = folder.path().join("tests");
    fs::create_dir(&tests)?;
    let feed = fs::read_to_string(app("thermometer").join("tests/rooms.feed.ndjson"))?;
    let expected = fs::read_to_string(app("thermometer").join("tests/rooms.expected.ndjson"))?;
    fs::write(tests.join("rooms.feed.ndjson"), &feed)?;
    let run = |more: &[&str]| ironloom(folder.path(), &[&["test", "--package", &package], more].concat());
    let verdicts = |output: &Output| -> Result<Vec<Value>> {
        let lines = std::str::from_utf8(&output.stdout)?.lines();
        lines.map(|line| Ok(serde_json::from_str::<Value>(line)?["verdict"].take())).collect()
    };

    let new = run(&[])?;
    assert_eq!(new.status.code(), Some(1));
    ensure!(String::from_utf8(new.stdout)?.contains("rooms.expected.ndjson isn't there; --bless writes it"));

    let wrong = expected.replace("\"value\":21.5}", "\"value\":21.25}");
    fs::write(tests.join("rooms.expected.ndjson"), &wrong)?;
    let differs = run(&[])?;
    assert_eq!(differs.status.code(), Some(1));
    let shown = String::from_utf8(differs.stdout)?;
    let line = r#"{"time":"2026-07-01T12:00:00Z","output":"record","entity":"kitchen","value":21."#;
    ensure!(shown.contains(&format!("-{line}25}}\n")) && shown.contains(&format!("+{line}5}}\n")), "{shown}");
    ensure!(shown.contains("tests/rooms.feed.ndjson … differs\n"), "{shown}");
    ensure!(String::from_utf8(differs.stderr)?.contains("1 of 1 feed not as expected"));

    let blessed = run(&["--bless", "--json"])?;
    ensure!(blessed.status.success(), "{blessed:?}");
    assert_eq!(verdicts(&blessed)?, ["blessed"]);
    assert_eq!(fs::read_to_string(tests.join("rooms.expected.ndjson"))?, expected);
    assert_eq!(verdicts(&run(&["--json"])?)?, ["same"]);

    // A feed that can't be run is told, and the others are run all the same.
    let unbound = "{\"point\":\"house/attic/mass\",\"value\":1,\"at\":\"2026-07-01T12:00:00Z\"}\n";
    fs::write(tests.join("bad.feed.ndjson"), unbound)?;
    let said = String::from_utf8(run(&["--only", "bad"])?.stdout)?;
    ensure!(said.contains(r#"{"bindings":{"temperature":["house/{unit}/mass"]},"feed":1}"#), "{said}");
    fs::write(tests.join("bad.feed.ndjson"), "{\"point\":\"a//b\"}\n")?;
    let output = run(&["--json"])?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(verdicts(&output)?, ["failed", "same"]);
    ensure!(String::from_utf8(output.stdout)?.contains("bad.feed.ndjson:1: "));
    ensure!(run(&["--only", "rooms"])?.status.success());
    let none = run(&["--only", "nothing"])?;
    assert_eq!(none.status.code(), Some(1));
    ensure!(String::from_utf8(none.stderr)?.contains("ironloom record"));
    Ok(())
}

/// The feed's clock goes by the journal's times.
fn is_about(time: &Value, recorded: &Value) -> Result<()> {
    let parsed = |time: &Value| -> Result<jiff::Timestamp> { Ok(time.as_str().context("no time")?.parse()?) };
    let (time, recorded) = (parsed(time)?, parsed(recorded)?);
    ensure!((recorded - time).total(jiff::Unit::Second)?.abs() < 600.0, "{time} is far from {recorded}");
    Ok(())
}

#[test]
fn a_stretch_of_a_journal_does_the_same_again_as_a_feed() -> Result<()> {
    let config = "[points.\"house/cellar/temperature\"]\nunit = \"kg\"\n";
    let server = Setup::new()?.config(config.to_owned()).start()?;
    let folder = server.setup().folder();
    let file = package("thermometer", folder)?;
    let package = guests::package_of("thermometer", &app("thermometer"))?;
    let client = server.client();
    let bindings = json!({"temperature": ["house/{room}/temperature"]});
    install(client, "rooms", &package, bindings, json!({"settings": {"limit": 22.0}}))?;
    // One that comes late, one that is of no input, one that is refused.
    for (point, value, at) in [
        ("house/attic/temperature", 21.0, "2026-01-01T10:00:00Z"),
        ("house/attic/humidity", 50.0, "2026-01-01T10:01:00Z"),
        ("house/attic/temperature", 23.5, "2026-01-01T10:02:00Z"),
        ("house/attic/temperature", 24.5, "2026-01-01T09:00:00Z"),
        ("house/attic/temperature", -300.0, "2026-01-01T10:03:00Z"),
        ("house/attic/temperature", 25.5, "2026-01-02T10:00:00Z"),
        ("house/cellar/temperature", 60.0, "2026-01-01T10:04:00Z"),
    ] {
        let line = json!({"point": point, "value": value, "at": at}).to_string();
        client.push(line.as_bytes(), None)?.json()?;
    }
    wait_for("all readings", || {
        let rooms = client.installation("rooms")?;
        Ok((rooms["counters"]["readings"] == 5).then_some(()))
    })?;

    let arguments = ["record", "rooms", "--to", "2026-01-02T00:00:00Z", "-o", "monday.feed.ndjson"];
    let output = Command::new(binary()?)
        .args(arguments)
        .current_dir(folder)
        .env("IRONLOOM_URL", client.url())
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr)?;
    ensure!(said.contains("4 readings in monday.feed.ndjson"), "{said}");
    ensure!(said.contains("1 reading left out: their points have another unit"), "{said}");
    let feed = fs::read_to_string(folder.join("monday.feed.ndjson"))?;
    let header: Value = serde_json::from_str(feed.lines().next().context("no header")?)?;
    assert_eq!(header["settings"]["limit"], 22.0);
    ensure!(!feed.contains("humidity") && !feed.contains("cellar"), "{feed}");

    let output =
        ironloom(folder, &["try", &file, "--feed", "monday.feed.ndjson", "--json", "--allow-dead-letters"])?;
    ensure!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    let told: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let values: Vec<&Value> =
        told.iter().filter(|line| line["output"] == "record").map(|line| &line["value"]).collect();
    let recorded = client.all("/v1/installations/rooms/outputs")?;
    let on_server: Vec<&Value> = recorded.iter().map(|reading| &reading["value"]).collect();
    assert_eq!(values, on_server[..3], "all but that of the second day");
    assert_eq!(values, [21.0, 23.5, 24.5]);
    let times = told.iter().filter(|line| line["output"] == "record").map(|line| &line["time"]);
    times.zip(&recorded).try_for_each(|(time, recorded)| is_about(time, &recorded["time"]))?;
    ensure!(told.iter().any(|line| line["set_aside"] == "house/attic/temperature"));

    let output = Command::new(binary()?)
        .args(["record", "rooms", "--from", "2030-01-01T00:00:00Z", "-o", "none.feed.ndjson"])
        .current_dir(folder)
        .env("IRONLOOM_URL", client.url())
        .output()?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(!folder.join("none.feed.ndjson").exists());
    Ok(())
}
