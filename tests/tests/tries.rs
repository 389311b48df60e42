//! `ironloom try`: feeds through apps, without a server.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::guests;
use ironloom_tests::server::binary;
use ironloom_tests::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with the packages of two sample apps and of the guest that does what its readings say, and a folder for
/// temporary files in it.
fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for app in ["pigs", "thermometer"] {
        let package = guests::package_of(app, &guests::workspace().join("sample-apps").join(app))?;
        fs::write(folder.path().join(format!("{app}.app.tar")), package.tar())?;
    }
    fs::write(folder.path().join("hostile.app.tar"), guests::package("hostile")?.tar())?;
    fs::create_dir(folder.path().join("tmp"))?;
    Ok(folder)
}

fn command(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("try").args(arguments).current_dir(folder);
    command.env("TMPDIR", folder.join("tmp")).env("IRONLOOM_URL", "http://127.0.0.1:1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Runs it; whatever comes of it, it leaves nothing behind.
fn run(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let output = command(folder, arguments)?.output()?;
    ensure!(fs::read_dir(folder.join("tmp"))?.next().is_none(), "something is left behind: {output:?}");
    Ok(output)
}

fn lines(output: &Output) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(&output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

const ATTIC: &str = r#"{"point":"house/attic/temperature","value":24.5,"at":"2026-07-01T12:00:00Z"}
{"point":"house/attic/temperature","value":26.0,"at":"2026-07-01T12:01:00Z"}

{"point":"house/attic/temperature","value":-300,"at":"2026-07-01T12:02:00Z"}
{"point":"house/attic/temperature","value":23.0,"at":"2026-07-01T12:03:00Z"}
"#;

#[test]
fn all_that_an_app_does_is_told_in_order() -> Result<()> {
    let folder = folder()?;
    fs::write(folder.path().join("attic.ndjson"), ATTIC)?;
    let arguments = ["thermometer.app.tar", "--feed", "attic.ndjson"];
    let output = run(folder.path(), &arguments)?;
    assert_eq!(
        String::from_utf8(output.stdout)?,
        "\
2026-07-01T12:00:00Z  output    record [house/attic] = 24.5
2026-07-01T12:01:00Z  output    record [house/attic] = 26.0
2026-07-01T12:01:00Z  alarm     too-warm [house/attic] raised (medium): 26 °C
2026-07-01T12:02:00Z  set aside house/attic/temperature = -300 at 2026-07-01T12:02:00Z: refused: -300 °C is below absolute zero
2026-07-01T12:03:00Z  alarm     too-warm [house/attic] cleared

4 readings, 4 of them taken, from 2026-07-01T12:00:00Z to 2026-07-01T12:03:00Z; 4 invocations, 0 timers that ran, \
2 readings derived, 1 alarm raised, 1 reading set aside, 0 failed
"
    );
    assert_eq!(output.status.code(), Some(1));
    ensure!(String::from_utf8(output.stderr)?.contains("1 reading set aside"));

    // What is set on the line goes before what the feed's header says.
    let header =
        r#"{"feed":1,"bindings":{"temperature":"house/{room}/temperature"},"settings":{"limit":20}}"#;
    fs::write(folder.path().join("header.ndjson"), format!("{header}\n{ATTIC}"))?;
    let arguments =
        ["thermometer.app.tar", "--feed", "header.ndjson", "--allow-dead-letters", "--json", "--state"];
    let told = |more: &[&str]| -> Result<Vec<Value>> {
        let output = run(folder.path(), &[&arguments[..], more].concat())?;
        ensure!(output.status.success(), "{output:?}");
        lines(&output)
    };
    let all = told(&[])?;
    let alarms = |all: &[Value]| {
        all.iter()
            .filter(|line| line["alarm"] == "too-warm")
            .map(|line| line["state"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(alarms(&all), ["raised", "told", "told"], "24.5, 26 and 23 are above 20");
    assert_eq!(all[0]["entity"], "attic");
    assert_eq!(alarms(&told(&["--set", "limit=25.5"])?), ["raised", "cleared"]);
    let state: Vec<_> =
        all.iter().filter(|line| !line["value"].is_null() && !line["state"].is_null()).collect();
    assert_eq!(state.len(), 1);
    assert_eq!((&state[0]["state"], &state[0]["value"]), (&Value::from("warmest/attic"), &Value::from(26.0)));
    let summary = &all.last().context("no summary")?["summary"];
    assert_eq!((&summary["readings"], &summary["set_aside"]), (&Value::from(4), &Value::from(1)));
    Ok(())
}

/// The trial's 861 weighings of 72 pigs, each week, and 789 readings of feed: none at a pig's first weighing.
#[test]
fn a_csv_file_goes_through_an_app_and_each_timer_runs_at_its_own_time() -> Result<()> {
    let folder = folder()?;
    let file = guests::workspace().join("sample-apps/pigs/data/weighings.csv");
    let text = fs::read_to_string(&file)?;
    let times: Vec<jiff::Timestamp> =
        text.lines().skip(1).filter_map(|line| line.split(',').next()?.parse().ok()).collect();
    assert_eq!(times.len(), 861);
    fs::copy(&file, folder.path().join("weighings.csv"))?;
    let arguments = ["pigs.app.tar", "--csv", "weighings.csv", "--by", "Pig", "--until", "30 d", "--json"];
    let output = run(folder.path(), &arguments)?;
    ensure!(output.status.success(), "{output:?}");
    let all = lines(&output)?;
    let summary = &all.last().context("no summary")?["summary"];
    assert_eq!((&summary["readings"], &summary["taken"]), (&Value::from(861 + 789), &Value::from(861 + 789)));
    let gains = all.iter().filter(|line| line["output"] == "daily-gain").count();
    assert_eq!(gains, 861 - 72, "each weighing but the first of each pig");

    // Six o'clock of each day from the first weighing to thirty days after the last.
    let day = |at: &jiff::Timestamp| at.as_second().div_euclid(86_400);
    let since_six = |at: &jiff::Timestamp| at.as_second().rem_euclid(86_400) >= 6 * 3_600;
    let (first, last) = (times.iter().min().context("none")?, times.iter().max().context("none")?);
    ensure!(since_six(first) && since_six(last), "they are weighed after six");
    assert_eq!(summary["timers"], Value::from(day(last) - day(first) + 30));
    let missed: Vec<&Value> = all.iter().filter(|line| line["alarm"] == "animal-not-seen").collect();
    ensure!(!missed.is_empty(), "none is missed in thirty days without a weighing");
    for line in missed {
        ensure!(line["time"].as_str().is_some_and(|time| time.ends_with("T06:00:00Z")), "{line}");
    }
    let seconds = "2026-01-01T00:00:00Z;12,5";
    fs::write(folder.path().join("rooms.csv"), format!("Time;Temperature\n{seconds}\n"))?;
    fs::write(folder.path().join("options.toml"), "delimiter = \";\"\ndecimal = \",\"\n")?;
    let arguments = ["thermometer.app.tar", "--csv", "rooms.csv", "--csv-options", "options.toml"];
    let output = run(folder.path(), &arguments)?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(output.stdout.starts_with(b"2026-01-01T00:00:00Z  output    record = 12.5\n"), "{output:?}");
    Ok(())
}

#[test]
fn an_app_that_fails_is_told_and_the_exit_code_says_so() -> Result<()> {
    let folder = folder()?;
    let line = r#"{"point":"to/me/command","value":"panic","at":"2026-01-01T00:00:00Z"}"#;
    fs::write(folder.path().join("panic.ndjson"), line)?;
    let output = run(folder.path(), &["hostile.app.tar", "--feed", "panic.ndjson", "--json"])?;
    assert_eq!(output.status.code(), Some(1));
    let all = lines(&output)?;
    let failed: Vec<_> = all.iter().filter(|line| line["failed"] == "trap").collect();
    assert_eq!(failed.len(), 3, "three attempts");
    ensure!(
        failed[0]["message"].as_str().is_some_and(|text| text.contains("a panic, as told")),
        "{failed:?}"
    );
    let set_aside: Vec<_> = all.iter().filter(|line| line["set_aside"] == "to/me/command").collect();
    assert_eq!(set_aside.len(), 1);
    let error = String::from_utf8(output.stderr)?;
    ensure!(error.contains("3 failed invocations, and 1 reading set aside"), "{error}");
    Ok(())
}

/// Lines of commands for the hostile guest, by seconds after noon; without a command time passes.
fn commands(all: &[(u64, &str)]) -> String {
    let line = |(second, command): &(u64, &str)| {
        let at = format!("2026-01-01T12:00:{second:02}Z");
        match *command {
            "" => format!("{{\"at\":\"{at}\"}}\n"),
            command => format!("{{\"point\":\"to/me/command\",\"value\":\"{command}\",\"at\":\"{at}\"}}\n"),
        }
    };
    all.iter().map(line).collect()
}

#[test]
fn a_timer_that_rejects_is_told_and_so_is_one_that_waits_in_vain() -> Result<()> {
    let folder = folder()?;
    let run_of = |all: &[(u64, &str)]| -> Result<Output> {
        fs::write(folder.path().join("timers.ndjson"), commands(all))?;
        run(folder.path(), &["hostile.app.tar", "--feed", "timers.ndjson", "--json"])
    };
    let rejects = run_of(&[(0, "timer-reject"), (10, "")])?;
    assert_eq!(rejects.status.code(), Some(1));
    let all = lines(&rejects)?;
    let failed: Vec<_> = all.iter().filter(|line| line["failed"] == "reject").collect();
    assert_eq!(failed.len(), 1, "{all:?}");
    assert_eq!(failed[0]["timer"], "reject");
    ensure!(
        failed[0]["message"].as_str().is_some_and(|text| text.contains("rejected in fire")),
        "{failed:?}"
    );

    // The timer is due at second 1, and what it waits for comes at second 20.
    let waits = run_of(&[(0, "timer-wait"), (10, "publish"), (20, "ok"), (30, "")])?;
    ensure!(waits.status.success(), "{waits:?}");
    let all = lines(&waits)?;
    let times: Vec<_> =
        all.iter().filter(|line| line["output"] == "echo").map(|line| &line["time"]).collect();
    assert_eq!(times, ["2026-01-01T12:00:10Z", "2026-01-01T12:00:20Z"], "what came before went on: {all:?}");

    let in_vain = run_of(&[(0, "timer-wait"), (10, "publish"), (20, "")])?;
    assert_eq!(in_vain.status.code(), Some(1));
    let all = lines(&in_vain)?;
    let failed: Vec<_> = all.iter().filter(|line| line["failed"] == "retry").collect();
    assert_eq!(failed.len(), 1, "{all:?}");
    assert_eq!(
        (&failed[0]["timer"], &failed[0]["message"]),
        (&Value::from("wait"), &Value::from("no ok yet"))
    );
    Ok(())
}

#[test]
fn each_time_of_a_feed_is_one_call() -> Result<()> {
    let folder = folder()?;
    let line = |n: u32| {
        format!("{{\"point\":\"to/w{n}/command\",\"value\":\"ok\",\"at\":\"2026-01-01T12:00:00Z\"}}\n")
    };
    fs::write(folder.path().join("many.ndjson"), (0..1_000).map(line).collect::<String>())?;
    let output = run(folder.path(), &["hostile.app.tar", "--feed", "many.ndjson", "--json"])?;
    ensure!(output.status.success(), "{output:?}");
    let all = lines(&output)?;
    let summary = &all.last().context("no summary")?["summary"];
    assert_eq!((&summary["taken"], &summary["invocations"]), (&Value::from(1_000), &Value::from(1)));
    Ok(())
}

#[test]
fn a_csv_files_times_are_of_the_chosen_zone_and_its_header_may_have_blanks() -> Result<()> {
    let folder = folder()?;
    fs::write(folder.path().join("rooms.csv"), "When, Room, temperature\n2026-07-01 12:00:00,attic,20.5\n")?;
    fs::write(folder.path().join("rooms.toml"), "timezone = \"Europe/Berlin\"\n")?;
    let csv = ["thermometer.app.tar", "--csv", "rooms.csv", "--at", "When", "--by", "Room"];
    for (more, hour) in [
        (&[][..], "12"),
        (&["--with", "rooms.toml"][..], "10"),
        (&["--with", "rooms.toml", "--timezone", "Asia/Tokyo"][..], "03"),
    ] {
        let output = run(folder.path(), &[&csv[..], more].concat())?;
        ensure!(output.status.success(), "{output:?}");
        let expected = format!("2026-07-01T{hour}:00:00Z  output    record [attic] = 20.5\n");
        ensure!(String::from_utf8(output.stdout)?.starts_with(&expected), "{more:?}: not {expected}");
    }
    Ok(())
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_to_do() -> Result<()> {
    let folder = folder()?;
    let refused = |arguments: &[&str], code: i32, parts: &[&str]| -> Result<()> {
        let output = run(folder.path(), arguments)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{arguments:?}: {output:?}");
        parts.iter().try_for_each(|part| {
            ensure!(error.contains(part), "{arguments:?}: {error}");
            Ok(())
        })
    };
    let at = "\"at\":\"2026-07-01T12:00:00Z\"";
    for (name, text) in [
        ("mass.ndjson", format!("{{\"point\":\"house/attic/mass\",\"value\":1,{at}}}")),
        (
            "bad.ndjson",
            format!(
                "{{\"point\":\"a/temperature\",\"value\":1,{at}}}\n\n{{\"point\":\"a//b\",\"value\":1,{at}}}"
            ),
        ),
        ("timeless.ndjson", "{\"point\":\"a/temperature\",\"value\":1}".to_owned()),
        ("empty.ndjson", "{\"feed\":1}\n".to_owned()),
        ("newer.ndjson", "{\"feed\":2}\n".to_owned()),
        ("rooms.csv", "When,Room,Temperature\n2026-01-01T00:00:00Z,attic,1\n".to_owned()),
    ] {
        fs::write(folder.path().join(name), text)?;
    }
    let app = "thermometer.app.tar";
    let bind = "--bind temperature='house/{unit}/mass'";
    refused(
        &[app, "--feed", "mass.ndjson"],
        2,
        &["the input temperature isn't bound", "house/attic/mass", bind],
    )?;
    refused(
        &[app, "--feed", "mass.ndjson", "--bind", "temperature=barn/{unit}/mass"],
        1,
        &["took none of the feed's 1 reading"],
    )?;
    refused(&[app, "--feed", "bad.ndjson"], 1, &["bad.ndjson:3: "])?;
    refused(&[app, "--feed", "timeless.ndjson"], 1, &["timeless.ndjson:1: ", "needs `at`"])?;
    refused(&[app, "--feed", "empty.ndjson"], 1, &["empty.ndjson", "no readings"])?;
    refused(&[app, "--feed", "newer.ndjson"], 1, &["newer.ndjson:1: ", "version 2"])?;
    refused(&[app, "--feed", "none.ndjson"], 1, &["none.ndjson can't be read"])?;
    for pipe in ["-", "/dev/stdin"] {
        refused(&[app, "--feed", pipe], 1, &[pipe, "is not a file", "read more than once"])?;
        refused(&[app, "--csv", pipe], 1, &[pipe, "is not a file", "read more than once"])?;
    }
    refused(&[app], 2, &["--feed <FILE>|--csv <FILE>"])?;
    refused(&[app, "--csv", "rooms.csv"], 1, &["--at COLUMN", "When, Room, Temperature"])?;
    refused(&[app, "--csv", "rooms.csv", "--at", "When"], 1, &["--by Room"])?;
    let by = [app, "--csv", "rooms.csv", "--at", "When", "--by", "Room", "--set", "limit=warm"];
    refused(&by, 1, &["limit"])?;
    let beside = ["--column", "Temperature=house/temperature"];
    let by = [app, "--csv", "rooms.csv", "--at", "When", "--by", "Room"];
    refused(&[&by[..], &beside].concat(), 2, &["--by Room", "--column Temperature='{Room}/value'"])?;
    fs::write(folder.path().join("columns.toml"), "[columns.Temperature]\npoint = \"house/temperature\"\n")?;
    let options = ["--csv-options", "columns.toml"];
    refused(&[&by[..], &options].concat(), 2, &["--by Room", "--csv-options has `columns`"])?;
    refused(&[&by[..5], &beside, &options].concat(), 2, &["leave one of them out"])?;
    fs::write(folder.path().join("no.app.tar"), b"no")?;
    refused(&["no.app.tar", "--feed", "mass.ndjson"], 1, &["no.app.tar"])
}

#[test]
fn a_signal_ends_it_and_nothing_is_left_behind() -> Result<()> {
    let folder = folder()?;
    // The app asks for the same reading again and again: this would take a minute.
    let ok = r#"{"point":"to/me/command","value":"publish","at":"2026-01-01T00:00:00Z"}"#;
    let retry = r#"{"point":"to/me/command","value":"retry","at":"2026-01-01T00:00:01Z"}"#;
    fs::write(folder.path().join("retry.ndjson"), format!("{ok}\n{retry}\n"))?;
    let mut child = command(folder.path(), &["hostile.app.tar", "--feed", "retry.ndjson"])?.spawn()?;
    let mut seen = std::io::BufReader::new(child.stdout.take().context("no stdout")?);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut seen, &mut line)?;
    ensure!(line.contains("output    echo ["), "{line}");
    ensure!(fs::read_dir(folder.path().join("tmp"))?.next().is_some(), "it works in a folder of its own");
    kill_process(Pid::from_child(&child), Signal::INT)?;
    let status = wait_for("its end", || Ok(child.try_wait()?))?;
    assert_eq!(status.code(), Some(130));
    ensure!(fs::read_dir(folder.path().join("tmp"))?.next().is_none(), "something is left behind");
    Ok(())
}

#[test]
fn set_points_reach_machines_that_obey_and_the_app_hears_of_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("tmp"))?;
    fs::write(folder.path().join("driver.app.tar"), guests::package("driver")?.tar())?;
    let header = |mode: &str| {
        serde_json::json!({
            "feed": 1,
            "bindings": {
                "wish": "site/{station}/wish",
                "heard": "apps/try/limit/{station}/outcome",
                "limit": "plant/{station}/limit",
            },
            "grants": {
                "mode": mode,
                "outputs": {"limit": {"allow": "0, 6..32", "toward": "low", "safe": 6}},
            },
            "settings": {"life": 60_000},
        })
    };
    let feed = |mode: &str| {
        let readings = concat!(
            r#"{"point":"site/1/wish","value":16.0,"at":"2026-01-01T00:00:00Z"}"#,
            "\n",
            r#"{"point":"site/2/wish","value":5.0,"at":"2026-01-01T00:00:10Z"}"#,
            "\n",
            r#"{"at":"2026-01-01T00:10:00Z"}"#,
            "\n",
        );
        format!("{}\n{readings}", header(mode))
    };
    fs::write(folder.path().join("act.ndjson"), feed("act"))?;
    let output = run(folder.path(), &["driver.app.tar", "--feed", "act.ndjson", "--state"])?;
    let told = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    // Renewed by nobody, each is followed by its safe value, to the nanosecond, whatever the feed has then.
    let events = "\
2026-01-01T00:00:00Z  set-point limit [1] = 16.0: accepted
2026-01-01T00:00:10Z  set-point limit [2] = 0.0, asked 5.0: accepted
2026-01-01T00:01:00Z  set-point limit [1] = 6.0: safe
2026-01-01T00:01:10Z  set-point limit [2] = 6.0: safe
";
    ensure!(told.starts_with(events), "{told}");
    ensure!(told.contains("heard/1") && told.contains("; 4 set-points"), "{told}");

    fs::write(folder.path().join("shadow.ndjson"), feed("shadow"))?;
    let output = run(folder.path(), &["driver.app.tar", "--feed", "shadow.ndjson", "--json"])?;
    let told: Vec<Value> = lines(&output)?;
    let outcomes: Vec<&str> = told.iter().filter_map(|event| event["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["shadow", "shadow"], "{told:?}");
    assert_eq!((&told[0]["set_point"], &told[0]["value"]), (&"limit".into(), &16.0.into()));
    Ok(())
}
