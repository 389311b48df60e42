//! Journal time in a future that never was, and the way out of it, on the real server. What the future is comes from
//! the feed's clock, which goes wherever a reading's `at` says.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, wait_for_installation};
use ironloom_tests::{Client, Server, Setup, guests};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

fn time(value: &Value) -> Result<Timestamp> {
    Ok(value.as_str().with_context(|| format!("{value} is no time"))?.parse()?)
}

/// The journal time that a reading without `at` gets now.
fn recorded(client: &Client) -> Result<Timestamp> {
    let sequence = client.push_one("room/now", 1)?;
    let readings = client.journal(sequence - 1, "point=room/now")?;
    time(&readings[0]["time"])
}

/// All notes but the one about the tests' own packages.
fn notes(client: &Client) -> Result<Vec<Value>> {
    let mut notes = client.get("/readyz")?.json()?["notes"].as_array().cloned().unwrap_or_default();
    notes.retain(|note| !note.to_string().contains("unsigned packages"));
    Ok(notes)
}

fn set(server: &Server, now: Timestamp, more: &[&str]) -> Result<(bool, String)> {
    let output = server.cli(&[&["clock", "set", &now.to_string()], more].concat())?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn a_wrong_future_is_left_behind_without_a_new_folder() -> Result<()> {
    let setup = Setup::new()?;
    let year_2100: Timestamp = "2100-01-01T00:00:00Z".parse()?;
    {
        let server = setup.clone().config("[site]\nclock = \"feed\"\n").start()?;
        let client = server.client();
        install(client, "guest", &guests::package("hostile")?, json!({"command": ["command"]}), json!({}))?;
        let line = json!({"point": "command", "value": "timer", "at": year_2100.to_string()});
        client.push(line.to_string().as_bytes(), None)?.json()?;
        // Its one-shot is due a second later; the feed's clock stands.
        wait_for_installation(client, "guest", "its timer to be set", |now| {
            number(now, "counters.readings") == 1
        })?;
        ensure!(server.stop()?.success());
    }

    let server = setup.start()?;
    let client = server.client();
    ensure!(recorded(client)? >= year_2100, "journal time never goes back by itself");
    ensure!(notes(client)?.iter().any(|note| note.to_string().contains("ironloom clock set")));
    let shown = server.cli_json(&["clock"])?;
    ensure!(time(&shown["journal"])? >= year_2100 && number(&shown, "behind") > 365 * 24 * 3600, "{shown}");

    let now = Timestamp::now();
    let (done, said) = set(&server, now - 24.hours(), &[])?;
    ensure!(!done && said.contains("which is not the time"), "{said}");
    let (done, said) = set(&server, now, &["--dry-run"])?;
    ensure!(done && said.contains("would go") && said.contains("2 timers of 1 installation"), "{said}");
    ensure!(recorded(client)? >= year_2100, "that was only asked");
    // The manifest's own timer was due each 29 February on the way.
    let of_one_shot = || -> Result<Option<Value>> {
        let all = client.all("/v1/installations/guest/invocations")?;
        Ok(all.into_iter().find(|invocation| invocation["timer"] == "boom"))
    };
    ensure!(of_one_shot()?.is_none(), "it isn't due yet");

    let (done, said) = set(&server, now, &[])?;
    ensure!(done && said.contains("went from 2100-01-01"), "{said}");
    assert_eq!(notes(client)?, [] as [Value; 0]);
    let after = recorded(client)?;
    ensure!(now - 5.minutes() < after && after < now + 1.hour(), "{after}");
    // The one-shot is due a second from then: it panics as this guest does.
    wait_for_installation(client, "guest", "its timer", |_| {
        of_one_shot().is_ok_and(|found| found.is_some())
    })?;
    let ran = of_one_shot()?.context("it has just been there")?;
    ensure!(time(&ran["time"])? < now + 1.hour(), "{ran}");
    assert_eq!(ran["kind"], "timer", "{ran}");
    let (done, said) = set(&server, now, &[])?;
    ensure!(!done && said.contains("isn't ahead by more than 5 minutes"), "{said}");

    // The readings of the wrong future keep their time. It is none before this one, so they are found as well as the one
    // that came since: nothing that may belong to the span is passed over.
    let from = (now - 1.minute()).to_string();
    let request = json!({
        "id": "late", "package": client.installation("guest")?["package"], "from": from,
        "bindings": {"command": ["room/{what}"]},
    });
    let planned = client.post("/v1/installations?dry-run=true", &request)?.json()?;
    assert_eq!(planned["backlog"], 3, "{planned}");
    server.kill()?;

    let server = setup.start()?;
    let client = server.client();
    let restarted = recorded(client)?;
    ensure!(after <= restarted && restarted < now + 1.hour(), "{restarted}");
    assert_eq!(client.journal(0, "")?.len(), 5);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn readings_of_before_leave_time_standing_and_a_note_says_so() -> Result<()> {
    let setup = Setup::new()?;
    let server = setup.clone().start()?;
    server.client().push_one("farm/weight", 1.0)?;
    ensure!(server.stop()?.success());
    let server = setup.config("[site]\nclock = \"feed\"\n").start()?;
    let client = server.client();
    let stands = || -> Result<bool> {
        Ok(notes(client)?.iter().any(|note| note.to_string().contains("and the last journal time is")))
    };
    ensure!(!stands()?);
    let push = |at: Timestamp| {
        let line = json!({"point": "farm/weight", "value": 2.0, "at": at.to_string()});
        client.push(line.to_string().as_bytes(), None)?.json()
    };
    push("2019-06-19T15:22:45Z".parse()?)?;
    ensure!(stands()?, "{:?}", notes(client)?);
    push(Timestamp::now())?;
    ensure!(!stands()?);
    Ok(())
}

#[test]
fn a_readings_clock_is_not_set() -> Result<()> {
    let server = Setup::new()?.config("[site]\nclock = \"feed\"\n").start()?;
    let body = json!({"now": Timestamp::now().to_string()});
    let problem = server.client().post("/v1/clock", &body)?.problem(409)?;
    assert_eq!(problem["kind"], "feed-clock");
    assert_eq!(server.client().get("/v1/clock")?.json()?["source"], "feed");
    Ok(())
}
