//! Upgrades that are rolled back or committed: by people, by the host, and while the server is killed.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{change, counts, install, number, wait_for_installation, wait_for_readings};
use ironloom_tests::driving::{Bench, outcomes, points, state_of_set_points, told, wait_until_connected};
use ironloom_tests::model::state_of;
use ironloom_tests::package::Package;
use ironloom_tests::steps::{STEPS_OF_A_COPY, STEPS_OF_A_VERSION};
use ironloom_tests::{Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

fn post(client: &Client, id: &str, deed: &str) -> Result<Value> {
    client.post(&format!("/v1/installations/{id}/{deed}"), &json!({}))?.json()
}

/// Installs the guest `one-state`, which gives the count of `a/{n}` with each reading.
fn install_sums(client: &Client) -> Result<Value> {
    let (package, more) = (guests::package("one-state")?, json!({"settings": {"publish": true}}));
    install(client, "sums", &package, json!({"value": ["a/{n}"]}), more)
}

/// The next version, which does the same.
fn next() -> Result<Package> {
    guests::package_as("com.example.one-state", "0.2.0", "one-state", |manifest| manifest)
}

fn file_of(server: &Server, package: &Package) -> Result<String> {
    let path: PathBuf = server.setup().folder().join("next.ironloom");
    std::fs::write(&path, package.tar())?;
    Ok(path.to_str().context("no path")?.to_owned())
}

#[test]
fn a_rollback_takes_the_readings_since_again_and_publishes_nothing_twice() -> Result<()> {
    for engine in ["redb", "sled"] {
        for restarts in [false, true] {
            goes_back(engine, restarts).with_context(|| format!("engine {engine}, restarts {restarts}"))?;
        }
    }
    Ok(())
}

fn goes_back(engine: &str, restarts: bool) -> Result<()> {
    let config = format!("[store]\nengine = \"{engine}\"\n");
    let mut server = Setup::new()?.config(config).start()?;
    install_sums(server.client())?;
    for n in 1..=3 {
        server.client().push_one("a/1", n)?;
        wait_for_readings(server.client(), n)?;
    }
    let file = file_of(&server, &next()?)?;
    let upgraded = server.cli_json(&["upgrade", "sums", &file])?;
    assert_eq!((&upgraded["version"], &upgraded["trial"]["version"]), (&json!("0.2.0"), &json!("0.1.0")));
    assert_eq!(number(&upgraded, "generation"), 1, "its history stays");
    let copy = number(&upgraded, "trial.copy");
    let copies = server.cli_json(&["copies", "sums"])?;
    let [only] = copies["items"].as_array().context("no items")?.as_slice() else {
        anyhow::bail!("{copies}")
    };
    assert_eq!((number(only, "generation"), &only["rollback"]), (copy, &json!(true)));
    // One key, of one byte, with 16 bytes; 128 for any key.
    assert_eq!((number(only, "bytes"), number(&copies, "bytes")), (1 + 16 + 128, 1 + 16 + 128));
    server.client().push_one("a/1", 4)?;
    server.client().push_one("a/2", 5)?;
    wait_for_readings(server.client(), 5)?;
    if restarts {
        server = server.restarted()?;
    }
    let dry = server.cli_json(&["rollback", "sums", "--dry-run"])?;
    assert_eq!((number(&dry, "again"), &dry["to"], &dry["version"]), (2, &json!("0.1.0"), &json!("0.2.0")));
    post(server.client(), "sums", "pause")?;
    let back = server.cli_json(&["rollback", "sums"])?;
    assert_eq!(
        (number(&back, "again"), &back["version"], &back["trial"]),
        (2, &json!("0.1.0"), &Value::Null)
    );
    assert_eq!((number(&back, "generation"), number(&back, "revision")), (copy, 3));
    if restarts {
        server = server.restarted()?;
    }
    let client = server.client();
    assert_eq!(state_of(client, "sums")?, [("1".to_owned(), (3, 6.0))].into(), "as of before");
    post(client, "sums", "resume")?;
    let done = wait_for_readings(client, 5)?;
    assert_eq!((number(&done, "counters.derived"), number(&done, "counters.held_back")), (3, 2));
    client.push_one("a/1", 6)?;
    wait_for_readings(client, 6)?;
    let expected = [("1".to_owned(), (5, 16.0)), ("2".to_owned(), (1, 5.0))];
    assert_eq!(state_of(client, "sums")?, expected.into());
    assert_eq!(counts(client)?, [1, 2, 3, 4, 1, 5], "each once");
    // The state that it had is kept as of one that was reset.
    let kept = client.all("/v1/kept")?;
    ensure!(kept.len() == 1 && kept[0]["version"] == "0.2.0" && kept[0]["state"] == "kept", "{kept:?}");
    let again = server.client().post("/v1/installations/sums/rollback", &json!({}))?.problem(409)?;
    assert_eq!(again["kind"], "no-trial");
    Ok(())
}

/// Something that is done on a server which is killed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Upgrade,
    UpgradeWithoutCopy,
    /// Of an upgrade that asks for more.
    Accept,
    RollBack,
    Commit,
}

impl Deed {
    /// The name that the audit log has for it.
    fn action(self) -> &'static str {
        match self {
            Self::Upgrade | Self::UpgradeWithoutCopy => "changeInstallation",
            Self::Accept => "acceptConsent",
            Self::RollBack => "rollback",
            Self::Commit => "commitUpgrade",
        }
    }

    /// The version that it brings, as far as it is another one than before.
    fn version(self, is_done: bool) -> &'static str {
        match self {
            Self::Commit => "0.2.0",
            Self::RollBack if is_done => "0.1.0",
            Self::RollBack => "0.2.0",
            _ if is_done => "0.2.0",
            _ => "0.1.0",
        }
    }

    /// Says whether there is something to go back to.
    fn has_trial(self, is_done: bool) -> bool {
        match self {
            Self::Upgrade | Self::Accept => is_done,
            Self::UpgradeWithoutCopy => false,
            Self::RollBack | Self::Commit => !is_done,
        }
    }

    /// Does all that comes before it; gives the command that does it.
    fn prepared(self, server: &Server) -> Result<Vec<String>> {
        let file = file_of(server, &next()?)?;
        let words: Vec<&str> = match self {
            Self::Upgrade => vec!["upgrade", "sums", &file],
            Self::UpgradeWithoutCopy => vec!["upgrade", "sums", &file, "--no-copy"],
            Self::Accept => {
                let more = |manifest| manifest + "[alarms.high]\nseverity = \"high\"\n";
                let package = guests::package_as("com.example.one-state", "0.2.0", "one-state", more)?;
                let package = server.client().add_package(&package.tar())?;
                let waits = server.client().patch("/v1/installations/sums", &json!({"package": package}))?;
                ensure!(waits.status == 202, "{}", waits.text());
                vec!["consents", "accept", "sums", "--consent"]
            }
            Self::RollBack | Self::Commit => {
                server.cli_json(&["upgrade", "sums", &file])?;
                vec![if self == Self::Commit { "commit" } else { "rollback" }, "sums"]
            }
        };
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        if self == Self::Accept {
            let waits = server.client().get("/v1/consents/sums")?.json()?;
            words.push(waits["consent"].as_str().context("no digest")?.to_owned());
        }
        Ok(words)
    }

    /// Counts the entries of it that the audit log has.
    fn told(self, client: &Client) -> Result<usize> {
        Ok(client.all(&format!("/v1/audit?action={}&result=done", self.action()))?.len())
    }
}

/// A server that is killed at a step of a deed: afterwards it is as before or as after, and goes on.
fn killed_at(engine: &str, step: &str, deed: Deed, is_after: bool) -> Result<()> {
    // Checkpoints come as they will, and a stop leaves all of the state in the store.
    let base = Setup::new()?.config(format!("[store]\nengine = \"{engine}\"\n"));
    let server = base.start()?;
    install_sums(server.client())?;
    for n in 1..=3 {
        server.client().push_one("a/1", n)?;
        wait_for_readings(server.client(), n)?;
    }
    let arguments = deed.prepared(&server)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    server.client().push_one("a/2", 4)?;
    wait_for_readings(server.client(), 4)?;
    let told_before = deed.told(server.client())?;
    ensure!(server.stop()?.success());

    let mut server = base.clone().env("FAILPOINTS", step).start()?;
    let failed = server.cli(&arguments)?;
    ensure!(!failed.status.success(), "it should have ended the server");
    let ended = server.wait().context("the binary needs --features failpoints")?;
    ensure!(std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9), "{ended}");

    let server = base.start()?;
    let client = server.client();
    let now = wait_for_readings(client, 4)?;
    let found = (now["version"].as_str(), now["trial"].is_object());
    assert_eq!(found, (Some(deed.version(is_after)), deed.has_trial(is_after)), "{now}");
    ensure!(!found.1 || copies(client)?.iter().any(|copy| copy["rollback"] == true), "{now}");
    is_told(&server, deed, told_before + usize::from(is_after))?;
    if deed == Deed::Accept {
        assert_eq!(
            client.all("/v1/consents")?.len(),
            usize::from(!is_after),
            "it waits as long as it isn't done"
        );
    }
    // What a copy that didn't come about has left goes.
    wait_until("nothing to be purged", || {
        Ok(client.all("/v1/kept")?.iter().all(|kept| kept["state"] == "kept"))
    })?;
    let sums = [("1".to_owned(), (3, 6.0)), ("2".to_owned(), (1, 4.0))];
    wait_until("its state", || Ok(state_of(client, "sums")? == sums.clone().into()))?;
    if !is_after {
        let again = server.cli(&arguments)?;
        ensure!(again.status.success(), "it can be done now: {again:?}");
        is_told(&server, deed, told_before + 1)?;
    }
    if deed.has_trial(true) {
        server.cli_json(&["rollback", "sums"])?;
    }
    let done = wait_for_readings(client, 4)?;
    assert_eq!(state_of(client, "sums")?, sums.clone().into(), "{done}");
    client.push_one("a/1", 5)?;
    wait_for_readings(client, 5)?;
    let sums = [("1".to_owned(), (4, 11.0)), ("2".to_owned(), (1, 4.0))];
    assert_eq!(state_of(client, "sums")?, sums.into());
    assert_eq!(counts(client)?, [1, 2, 3, 1, 4], "each once");
    Ok(())
}

fn copies(client: &Client) -> Result<Vec<Value>> {
    let copies = client.get("/v1/installations/sums/copies")?.json()?;
    Ok(copies["items"].as_array().cloned().unwrap_or_default())
}

/// The audit log tells of so many of these deeds, and is whole.
fn is_told(server: &Server, deed: Deed, times: usize) -> Result<()> {
    assert_eq!(deed.told(server.client())?, times, "entries of {}", deed.action());
    let verified = server.cli(&["audit", "verify"])?;
    ensure!(verified.status.success(), "{verified:?}");
    Ok(())
}

/// Killed at each of these steps, before or after the record of the deed.
fn killed_at_all(deed: Deed, before: &[&str], after: &[&str]) -> Result<()> {
    let steps = || before.iter().map(|step| (step, false)).chain(after.iter().map(|step| (step, true)));
    for engine in ["redb", "sled"] {
        for (step, is_after) in steps() {
            killed_at(engine, step, deed, is_after)
                .with_context(|| format!("engine {engine}, {deed:?}, {step}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_server_that_is_killed_while_it_upgrades_has_done_it_or_not() -> Result<()> {
    killed_at_all(Deed::Upgrade, &STEPS_OF_A_COPY, &STEPS_OF_A_VERSION[..1])
}

#[test]
fn a_server_that_is_killed_while_it_upgrades_without_a_copy_has_done_it() -> Result<()> {
    killed_at_all(Deed::UpgradeWithoutCopy, &[], &STEPS_OF_A_VERSION[..1])
}

#[test]
fn a_server_that_is_killed_while_a_consent_is_given_has_done_it_or_not() -> Result<()> {
    killed_at_all(Deed::Accept, &STEPS_OF_A_COPY, &STEPS_OF_A_VERSION[..1])
}

#[test]
fn a_server_that_is_killed_while_it_rolls_back_has_done_it_or_not() -> Result<()> {
    killed_at_all(Deed::RollBack, &STEPS_OF_A_VERSION[1..2], &STEPS_OF_A_VERSION[2..3])
}

#[test]
fn a_server_that_is_killed_while_it_commits_has_done_it() -> Result<()> {
    killed_at_all(Deed::Commit, &[], &STEPS_OF_A_VERSION[3..])
}

/// An app of texts, whose next version panics at `panic`; the first refuses that.
fn install_texts(client: &Client) -> Result<Value> {
    let package = guests::package_as("com.example.both", "0.0.1", "both", |manifest| manifest)?;
    install(
        client,
        "texts",
        &package,
        json!({"scenario": ["commands"]}),
        json!({"limits": {"cpu": "1 s", "memory": "64 MiB"}}),
    )
}

#[test]
fn a_version_that_is_quarantined_is_rolled_back_by_the_host() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install_texts(client)?;
    client.push_one("commands", "raise")?;
    let before =
        wait_for_installation(client, "texts", "the first", |now| number(now, "counters.readings") == 1)?;
    let file = file_of(&server, &guests::both_that_panics()?)?;
    server.cli_json(&["upgrade", "texts", &file])?;
    for _ in 0..5 {
        client.push_one("commands", "panic")?;
    }
    let back = wait_for_installation(client, "texts", "the rollback", |now| now["version"] == "0.0.1")?;
    assert_eq!((&back["trial"], number(&back, "revision")), (&Value::Null, 3));
    let done =
        wait_for_installation(client, "texts", "all of it", |now| number(now, "counters.readings") == 6)?;
    assert_eq!(done["state"], "running");
    assert_eq!(number(&done, "counters.dead_letters"), 5, "the old version refuses them");
    let mut keys: Vec<_> = client.all("/v1/installations/texts/state")?;
    keys.retain(|entry| entry["key"] != "answer/raise");
    assert_eq!(keys, [Value::Null; 0], "the state of before, in its form: {before}");
    ensure!(server.setup().said().contains("was rolled back from version 0.2.0 to 0.0.1"), "it says so");
    let told = "installation texts was rolled back from version 0.2.0 to 0.0.1 at";
    let ready = client.get("/readyz")?.text();
    ensure!(ready.contains(told) && ready.contains("it was quarantined"), "{ready}");
    let alarms = client.all("/v1/alarms")?;
    let id = format!("{}-1", number(&done, "generation"));
    ensure!(alarms.len() == 1 && alarms[0]["id"] == id, "it stands as before the upgrade: {alarms:?}");
    // Once it is changed, nobody is told any more.
    client.patch("/v1/installations/texts", &json!({"limits": {"cpu": "900 ms"}}))?.json()?;
    ensure!(!client.get("/readyz")?.text().contains(told));
    Ok(())
}

#[test]
fn an_upgrade_is_committed_by_people_or_by_time() -> Result<()> {
    let server = Setup::new()?.config("[copies]\ncommit_after = \"3 s\"\nnumber = 1\n").start()?;
    let client = server.client();
    install_sums(client)?;
    client.push_one("a/1", 1)?;
    wait_for_readings(client, 1)?;
    let file = file_of(&server, &next()?)?;
    server.cli_json(&["upgrade", "sums", &file])?;
    let committed = server.cli_json(&["commit", "sums"])?;
    assert_eq!((&committed["version"], &committed["trial"]), (&json!("0.2.0"), &Value::Null));
    for deed in ["commit", "rollback"] {
        let refused = client.post(&format!("/v1/installations/sums/{deed}"), &json!({}))?.problem(409)?;
        assert_eq!(refused["kind"], "no-trial");
    }
    let third = guests::package_as("com.example.one-state", "0.3.0", "one-state", |manifest| manifest)?;
    let file = file_of(&server, &third)?;
    ensure!(server.cli_json(&["upgrade", "sums", &file])?["trial"].is_object(), "it may be rolled back");
    wait_for_installation(client, "sums", "its time to be over", |now| now["trial"].is_null())?;
    assert_eq!(client.installation("sums")?["version"], "0.3.0");
    let copies = client.get("/v1/installations/sums/copies")?.json()?;
    assert_eq!((copies["items"].as_array().map(Vec::len), &copies["max_number"]), (Some(1), &json!(1)));
    assert_eq!(copies["items"][0]["version"], "0.2.0", "the older one is gone");
    // The copy that went was nobody's deed.
    let entries = client.all("/v1/audit?resource=installations/sums")?;
    let done = entries.iter().filter(|entry| entry["result"] == "done");
    let done: Vec<_> = done.map(|entry| (entry["who"].as_str(), entry["action"].as_str())).collect();
    let by = |who, action| (Some(who), Some(action));
    assert_eq!(
        done,
        [
            by("-local", "install"),
            by("-local", "changeInstallation"),
            by("-local", "commitUpgrade"),
            by("-local", "changeInstallation"),
            by("-host", "commitUpgrade"),
        ]
    );
    Ok(())
}

/// A copy of the state of eight keys, each of one byte with 16 bytes, takes 8 · (1 + 16 + 128) = 1160 bytes.
#[test]
fn a_copy_that_has_no_room_refuses_the_upgrade() -> Result<()> {
    let server = Setup::new()?.config("[copies]\nbytes = \"1159 B\"\n").start()?;
    let client = server.client();
    install_sums(client)?;
    for n in 1..=8 {
        client.push_one(&format!("a/{n}"), n)?;
    }
    wait_for_readings(client, 8)?;
    let package = client.add_package(&next()?.tar())?;
    let refused = client.patch("/v1/installations/sums", &json!({"package": package}))?.problem(422)?;
    assert_eq!(refused["kind"], "copies-full");
    let detail = refused["detail"].as_str().unwrap_or_default();
    let said = "a copy of the state of sums takes 1160 bytes, and 0 of the 1159 that copies may have";
    ensure!(detail.starts_with(said), "{refused}");
    let now = client.installation("sums")?;
    assert_eq!((&now["version"], number(&now, "revision")), (&json!("0.1.0"), 1));
    assert_eq!((copies(client)?, client.all("/v1/kept")?), (Vec::new(), Vec::new()), "nothing is left of it");
    client.push_one("a/1", 9)?;
    wait_for_readings(client, 9)?;

    let file = file_of(&server, &next()?)?;
    let failed = server.cli(&["upgrade", "sums", &file])?;
    let said = String::from_utf8(failed.stderr)?;
    ensure!(!failed.status.success() && said.contains("`ironloom upgrade --no-copy`"), "{said}");
    let upgraded = server.cli_json(&["upgrade", "sums", &file, "--no-copy"])?;
    assert_eq!((&upgraded["version"], &upgraded["trial"]), (&json!("0.2.0"), &Value::Null));
    let back = client.post("/v1/installations/sums/rollback", &json!({}))?.problem(409)?;
    assert_eq!(back["kind"], "no-trial");

    // One byte more is enough.
    let server = Setup::new()?.config("[copies]\nbytes = \"1160 B\"\n").start()?;
    install_sums(server.client())?;
    for n in 1..=8 {
        server.client().push_one(&format!("a/{n}"), n)?;
    }
    wait_for_readings(server.client(), 8)?;
    let file = file_of(&server, &next()?)?;
    ensure!(server.cli_json(&["upgrade", "sums", &file])?["trial"].is_object());
    Ok(())
}

#[test]
fn what_waits_at_an_upgrade_is_worked_off_by_either_version_and_again_by_the_old_one() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install_sums(client)?;
    client.push_one("a/1", 1)?;
    wait_for_readings(client, 1)?;
    post(client, "sums", "pause")?;
    client.push_one("a/1", 2)?;
    let file = file_of(&server, &next()?)?;
    let upgraded = server.cli_json(&["upgrade", "sums", &file])?;
    assert_eq!(upgraded["pending_revisions"][0]["version"], "0.1.0");
    client.push_one("a/1", 3)?;
    post(client, "sums", "resume")?;
    wait_for_readings(client, 3)?;
    client.push_one("a/1", 4)?;
    wait_for_readings(client, 4)?;
    let back = server.cli_json(&["rollback", "sums"])?;
    assert_eq!(number(&back, "again"), 3, "those that waited were dealt with since");
    let done = wait_for_readings(client, 4)?;
    assert_eq!(
        (state_of(client, "sums")?, number(&done, "counters.held_back")),
        ([("1".to_owned(), (4, 10.0))].into(), 3)
    );
    assert_eq!(counts(client)?, [1, 2, 3, 4]);
    Ok(())
}

#[test]
fn a_rollback_is_refused_where_the_journal_no_longer_reaches_back_unless_the_cursor_is_kept() -> Result<()> {
    let setup = Setup::new()?.config("[site]\nclock = \"feed\"\n[journal]\nmax_age = \"30 d\"\n");
    let server = setup.start()?;
    let push = |client: &Client, at: &str, value: u64| -> Result<()> {
        let line = json!({"point": "a/1", "value": value, "at": at}).to_string();
        client.push(line.as_bytes(), None)?.json()?;
        Ok(())
    };
    install_sums(server.client())?;
    push(server.client(), "2020-01-01T00:00:00Z", 1)?;
    wait_for_readings(server.client(), 1)?;
    let file = file_of(&server, &next()?)?;
    server.cli_json(&["upgrade", "sums", &file])?;
    push(server.client(), "2020-01-02T00:00:00Z", 2)?;
    wait_for_readings(server.client(), 2)?;
    // A stop writes what there is into a block.
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    push(server.client(), "2020-03-01T00:00:00Z", 3)?;
    wait_for_readings(server.client(), 3)?;
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    wait_until("the first readings to go", || {
        Ok(client.journal(0, "")?.first().is_none_or(|first| number(first, "sequence") > 3))
    })?;
    let refused = client.post("/v1/installations/sums/rollback", &json!({}))?.problem(409)?;
    assert_eq!(refused["kind"], "journal");
    assert_eq!(client.installation("sums")?["version"], "0.2.0", "nothing is changed");
    let back = server.cli_json(&["rollback", "sums", "--keep-cursor"])?;
    assert_eq!((number(&back, "again"), &back["version"]), (0, &json!("0.1.0")));
    let warning = back["warnings"][0].as_str().unwrap_or_default();
    ensure!(warning.contains("aren't taken again"), "{back}");
    assert_eq!(state_of(client, "sums")?, [("1".to_owned(), (1, 1.0))].into());
    push(client, "2020-03-02T00:00:00Z", 4)?;
    wait_until("the next one", || Ok(state_of(client, "sums")? == [("1".to_owned(), (2, 5.0))].into()))?;
    Ok(())
}

#[test]
fn whoever_upgrades_rolls_back_commits_and_uninstalls_at_once_leaves_one_or_the_other() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let old = client.add_package(&guests::package("one-state")?.tar())?;
    let new = client.add_package(&next()?.tar())?;
    for round in 0..4 {
        install_sums(client)?;
        for n in 1..=20 {
            client.push_one(&format!("a/{}", n % 3), n)?;
        }
        wait_for_readings(client, 20)?;
        let expected = state_of(client, "sums")?;
        let deed = |path: &str, body: Value| client.post(&format!("/v1/installations/sums/{path}"), &body);
        let to = |package: &str| client.patch("/v1/installations/sums", &json!({"package": package}));
        let answers = std::thread::scope(|scope| {
            let all = [
                scope.spawn(|| to(&new)),
                scope.spawn(|| to(&old)),
                scope.spawn(|| deed("rollback", json!({}))),
                scope.spawn(|| to(&new)),
                scope.spawn(|| deed("commit", json!({}))),
                scope.spawn(|| deed("rollback", json!({}))),
                scope.spawn(|| match round % 2 {
                    0 => deed("pause", json!({})),
                    _ => client.delete("/v1/installations/sums"),
                }),
            ];
            all.map(|one| one.join().map_err(|_| anyhow::anyhow!("it panicked")))
        });
        for answer in answers {
            let answer = answer??;
            ensure!(answer.status < 500, "round {round}: {} {}", answer.status, answer.text());
        }
        // A rollback may have come before the end of what was to be uninstalled.
        if client.get("/v1/installations/sums")?.status == 200 {
            post(client, "sums", "resume")?;
            wait_for_readings(client, 20)?;
            wait_until("its state", || Ok(state_of(client, "sums")? == expected))?;
            client.delete("/v1/installations/sums")?.json()?;
        }
        client.get("/v1/installations/sums/copies")?.problem(404)?;
    }
    // Nothing is left of the copies of those that are gone.
    wait_until("the copies to go", || {
        Ok(client.all("/v1/kept")?.iter().all(|kept| kept["state"] == "kept"))
    })?;
    Ok(())
}

/// One version's set-points before the upgrade, the other's behind it, one of them still open.
#[test]
fn a_rollback_sends_no_machine_anything_twice() -> Result<()> {
    let Some(bench) = Bench::new("set-points over a rollback", 60_000, json!({}))? else { return Ok(()) };
    let stations = bench.broker.subscribe("stations/#")?;
    let accepted =
        |station: &str| wait_until("its outcome", || Ok(outcomes(bench.client(), station)? == ["accepted"]));
    bench.wish("1", 16.0)?;
    accepted("1")?;
    let next = guests::package_as("com.example.driver", "0.2.0", "driver", |manifest| manifest)?;
    let package = bench.client().add_package(&next.tar())?;
    let upgraded = change(bench.client(), "driver", &json!({"package": package}))?.json()?;
    ensure!(upgraded["trial"].is_object(), "{upgraded}");
    bench.wish("2", 20.0)?;
    accepted("2")?;
    assert_eq!(told(&stations)?, [("1".to_owned(), vec![16.0]), ("2".to_owned(), vec![20.0])].into());
    let Bench { mut broker, server } = bench;
    let client = server.client();
    broker.kill()?;
    wait_until("the loss", || Ok(state_of_set_points(client)? != "running"))?;
    client.push_one("site/3/wish", 24.0)?;
    wait_until("it to be open", || {
        let intents = points(client)?.get("plant/3/limit").map(|point| point["intents"].clone());
        Ok(intents.as_ref().and_then(Value::as_array).is_some_and(|intents| intents.len() == 1))
    })?;

    let back = server.cli_json(&["rollback", "driver"])?;
    assert_eq!((&back["version"], &back["trial"]), (&json!("0.1.0"), &Value::Null));
    wait_until("its end", || Ok(outcomes(client, "3")? == ["revoked"]))?;
    wait_for_installation(client, "driver", "what it takes again", |now| {
        number(now, "lag.readings") == 0 && number(now, "counters.held_back") == 2
    })?;
    broker.start_again()?;
    let stations = broker.subscribe("stations/#")?;
    wait_until_connected(client)?;
    client.push_one("site/4/wish", 12.0)?;
    wait_until("its outcome", || Ok(outcomes(client, "4")? == ["accepted"]))?;
    // Nobody vouches for those of the version that went: these machines are told to be safe.
    wait_until("safe values", || Ok(told(&stations)?.len() == 3))?;
    let one = |station: &str, value: f64| (station.to_owned(), vec![value]);
    assert_eq!(told(&stations)?, [one("1", 6.0), one("2", 6.0), one("4", 12.0)].into());
    assert_eq!(number(&client.installation("driver")?, "counters.held_back"), 2);
    Ok(())
}
