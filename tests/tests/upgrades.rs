//! Other versions of apps that run: state and bindings stay, what waits runs with the old code, and what a version
//! lacks ends with it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{change, install, number, wait_for_installation};
use ironloom_tests::package::Package;
use ironloom_tests::{Answer, Client, Server, Setup, guests, wait_until};
use serde_json::{Value, json};

fn file_of(server: &Server, name: &str, package: &Package) -> Result<String> {
    let path: PathBuf = server.setup().folder().join(name);
    std::fs::write(&path, package.tar())?;
    Ok(path.to_str().context("no path")?.to_owned())
}

fn patch(client: &Client, id: &str, body: &Value, dry_run: bool) -> Result<Answer> {
    match dry_run {
        true => client.patch(&format!("/v1/installations/{id}?dry-run=true"), body),
        false => change(client, id, body),
    }
}

fn post(client: &Client, id: &str, deed: &str) -> Result<Value> {
    client.post(&format!("/v1/installations/{id}/{deed}"), &json!({}))?.json()
}

/// The revision of each invocation that took readings, with the first and the last of these.
fn runs(client: &Client, id: &str) -> Result<Vec<(u64, u64, u64)>> {
    let all = client.all(&format!("/v1/installations/{id}/invocations"))?;
    let readings = all.iter().filter(|run| run["kind"] == "readings" && run["outcome"] == "ok");
    Ok(readings.map(|run| (number(run, "revision"), number(run, "first"), number(run, "last"))).collect())
}

/// A server with the guest `one-state`, which counts the readings of `a/{n}`.
fn counting() -> Result<(Server, String)> {
    let server = Setup::new()?.start()?;
    let package = guests::package("one-state")?;
    install(
        server.client(),
        "sums",
        &package,
        json!({"value": ["a/{n}"]}),
        json!({"settings": {"publish": true}}),
    )?;
    let digest = server.client().installation("sums")?["package"].as_str().context("no package")?.to_owned();
    Ok((server, digest))
}

fn warnings(answer: &Value) -> Vec<String> {
    let all = answer["warnings"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|warning| Some(warning.as_str()?.to_owned())).collect()
}

fn says(answer: &Value, words: &str) -> Result<()> {
    ensure!(warnings(answer).iter().any(|warning| warning.contains(words)), "{words:?} is not in {answer}");
    Ok(())
}

/// The same app with other code, which takes texts.
fn next() -> Result<Package> {
    guests::package_as("com.example.one-state", "0.2.0", "both", |manifest| manifest)
}

#[test]
fn what_waits_runs_with_the_old_code_and_what_comes_with_the_new() -> Result<()> {
    let (server, old) = counting()?;
    let client = server.client();
    let first = client.push_one("a/1", 1)?;
    wait_for_installation(client, "sums", "one reading", |now| number(now, "counters.readings") == 1)?;
    post(client, "sums", "pause")?;
    let waits = client.push_one("a/1", 2)?;
    let file = file_of(&server, "next.ironloom", &next()?)?;

    // What it needs is asked for by name, with the flag that gives it.
    let refused = server.cli(&["upgrade", "sums", &file, "--dry-run"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("--bind scenario="), "{said}");
    let bind = "scenario=commands";
    let dry =
        server.cli_json(&["upgrade", "sums", &file, "--bind", bind, "--limit", "cpu=1 s", "--dry-run"])?;
    says(&dry, "has no input value: its binding a/{n} is dropped")?;
    says(&dry, "has no output count")?;
    says(&dry, "has no setting publish: true is dropped")?;
    assert_eq!(dry["no_longer"][0]["input"], "value");
    assert_eq!((number(&dry, "revision"), &dry["version"]), (2, &json!("0.2.0")));
    assert_eq!(number(&client.installation("sums")?, "revision"), 1);

    let upgraded = server.cli_json(&["upgrade", "sums", &file, "--bind", bind, "--limit", "cpu=1 s"])?;
    assert_eq!((number(&upgraded, "revision"), number(&upgraded, "from")), (2, waits + 1));
    assert_eq!(upgraded["pending_revisions"], json!([{"revision": 1, "from": 1, "version": "0.1.0"}]));
    let field = |name: &str| {
        let changes = upgraded["changes"].as_array().cloned().unwrap_or_default();
        changes.into_iter().find(|change| change["field"] == name)
    };
    assert_eq!(field("version").context("no version")?["after"], "0.2.0");
    // Its code is needed as long as something waits for it.
    let packages = |digest: &str| client.delete(&format!("/v1/packages/{digest}"));
    assert_eq!(packages(&old)?.problem(409)?["kind"], "in-use");
    client.push_one("a/1", 3)?;
    let new = client.push_one("commands", "raise")?;

    let server = server.restarted()?;
    let client = server.client();
    post(client, "sums", "resume")?;
    let done = wait_for_installation(client, "sums", "all", |now| number(now, "counters.readings") == 3)?;
    assert_eq!((&done["pending_revisions"], &done["version"]), (&Value::Null, &json!("0.2.0")));
    assert_eq!(runs(client, "sums")?, [(1, first, first), (1, waits, waits), (2, new, new)]);
    let state = client.all("/v1/installations/sums/state")?;
    let keys: Vec<_> = state.iter().filter_map(|entry| entry["key"].as_str()).collect();
    assert_eq!(keys, ["1", "answer/raise"], "the old code's state is there, and the new code's");

    // Nothing needs the old code any more, also at starts, once nobody goes back to it.
    assert_eq!(client.delete(&format!("/v1/packages/{old}"))?.problem(409)?["kind"], "in-use");
    post(client, "sums", "commit")?;
    client.delete(&format!("/v1/packages/{old}"))?.json()?;
    let setup = server.setup().clone();
    server.kill()?;
    let server = setup.start()?;
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    let client = server.client();
    client.push_one("commands", "clear-what-does-not-stand")?;
    wait_for_installation(client, "sums", "one more", |now| number(now, "counters.readings") == 4)?;
    client.get(&format!("/v1/packages/{old}"))?.problem(404)?;
    Ok(())
}

#[test]
fn what_waits_may_be_given_to_the_new_code() -> Result<()> {
    let (server, _) = counting()?;
    let client = server.client();
    post(client, "sums", "pause")?;
    let first = client.push_one("a/1", 1)?;
    let second = client.push_one("commands", "raise")?;
    let file = file_of(&server, "next.ironloom", &next()?)?;
    let flags = ["--bind", "scenario=commands", "--limit", "cpu=1 s", "--at-cursor"];
    let upgraded = server.cli_json(&[&["upgrade", "sums", file.as_str()][..], &flags].concat())?;
    assert_eq!((number(&upgraded, "from"), &upgraded["pending_revisions"]), (first, &Value::Null));
    post(client, "sums", "resume")?;
    wait_until("it to run", || Ok(runs(client, "sums")? == [(2, second, second)]))
}

#[test]
fn alarms_and_timers_that_a_version_lacks_end() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install(client, "odd", &guests::package("hostile")?, json!({"command": ["do"]}), json!({}))?;
    for command in ["noise", "timer-later"] {
        client.push_one("do", command)?;
    }
    wait_for_installation(client, "odd", "both", |now| number(now, "counters.readings") == 2)?;
    assert_eq!(client.all("/v1/alarms")?.len(), 1);
    post(client, "odd", "pause")?;
    let waits = client.push_one("do", "noise")?;
    let next = guests::package_as("com.example.hostile", "0.2.0", "one-state", |manifest| manifest)?;
    let package = client.add_package(&next.tar())?;
    let body = json!({"package": package, "bindings": {"value": "a/{n}"}});
    for (dry_run, alarms) in [(true, 1), (false, 0)] {
        let answer = patch(client, "odd", &body, dry_run)?.json()?;
        says(&answer, "has no alarm noise: 1 that are active are cleared")?;
        says(&answer, "sets no one-shot timers: 1 that are set are dropped")?;
        says(&answer, "has no timer never: it ends")?;
        assert_eq!(client.all("/v1/alarms")?.len(), alarms);
    }
    // It is in the history, with the reason; what waits raises it no more, and nothing is lost with the process.
    let server = server.restarted()?;
    let client = server.client();
    post(client, "odd", "resume")?;
    wait_until("what waits", || Ok(runs(client, "odd")?.last().is_some_and(|run| run.2 == waits)))?;
    let history = client.all("/v1/alarms/history")?;
    assert_eq!((history.len(), &history[0]["cleared"]["by"]), (1, &json!("upgraded")), "{history:?}");
    assert_eq!(client.all("/v1/alarms")?, [Value::Null; 0]);
    client.push_one("a/1", 1)?;
    wait_until("the new version", || Ok(runs(client, "odd")?.last().is_some_and(|run| run.0 == 2)))
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_odd_is_told() -> Result<()> {
    let (server, old) = counting()?;
    let client = server.client();
    let other = client.add_package(&guests::package("both")?.tar())?;
    let problem = patch(client, "sums", &json!({"package": other}), false)?.problem(422)?;
    assert_eq!((&problem["kind"], &problem["where"]["field"]), (&json!("other-app"), &json!("package")));
    let nobody = format!("sha256:{}", "0".repeat(64));
    let problem = patch(client, "sums", &json!({"package": nobody}), false)?.problem(422)?;
    assert_eq!(problem["kind"], "unknown-package");
    patch(client, "sums", &json!({"package": "one-state"}), false)?.problem(400)?;
    // Of the package that it has nothing changes.
    let same = patch(client, "sums", &json!({"package": old}), false)?.json()?;
    assert_eq!((number(&same, "revision"), &same["changes"]), (1, &json!([])));
    // Without a value of its own a setting follows the default; one that is new and has none must be given.
    let older = guests::package_as("com.example.one-state", "0.0.9", "one-state", |manifest| {
        manifest + "\n[settings.site]\ntype = \"text\"\n\n[limits]\nmemory = \"64 MiB\"\n"
    })?;
    let file = file_of(&server, "older.ironloom", &older)?;
    let refused = server.cli(&["upgrade", "sums", &file])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("--set site="), "{said}");
    let set = server.cli_json(&["upgrade", "sums", &file, "--set", "site=7"])?;
    says(&set, "version 0.0.9 is older than 0.1.0")?;
    assert_eq!(set["limits"]["memory"], "64 MiB");
    assert_eq!((&set["settings"]["site"], &set["settings"]["publish"]), (&json!("7"), &json!(true)));
    assert_eq!(set["bindings"], json!({"value": ["a/{n}"]}));
    let newer = guests::package_as("com.example.one-state", "0.2.0", "one-state", |manifest| {
        manifest.replace("default = false", "default = true")
            + "\n[settings.site]\ntype = \"text\"\ndefault = \"x\"\n"
    })?;
    let newer = client.add_package(&newer.tar())?;
    patch(client, "sums", &json!({"settings": {"publish": false}}), false)?.json()?;
    let answer = patch(client, "sums", &json!({"package": newer}), false)?.json()?;
    says(&answer, "settings.publish: the default is \"true\" in version 0.2.0, and was false")?;
    assert_eq!((&answer["settings"]["site"], &answer["settings"]["publish"]), (&json!("7"), &json!(true)));
    Ok(())
}

/// A server where a version of the guest `one-state` has counted readings of some points, and the package of a version
/// with other code, which brings the state into its form.
fn before_migration(version: &str) -> Result<(Server, Value)> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let old = guests::package_as("com.example.one-state", version, "one-state", |manifest| manifest)?;
    install(client, "sums", &old, json!({"value": ["a/{n}"]}), json!({}))?;
    for n in 1..=5 {
        client.push_one(&format!("a/{n}"), n)?;
    }
    wait_for_installation(client, "sums", "all", |now| number(now, "counters.readings") == 5)?;
    let next = guests::package_as("com.example.one-state", "0.9.0", "hostile", |manifest| manifest)?;
    let body = json!({"package": client.add_package(&next.tar())?, "bindings": {"command": "do"}});
    Ok((server, body))
}

fn keys(client: &Client) -> Result<Vec<String>> {
    let state = client.all("/v1/installations/sums/state")?;
    Ok(state.iter().map(|entry| entry["key"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn a_version_brings_the_state_into_its_form_by_steps() -> Result<()> {
    let (server, body) = before_migration("0.0.1")?;
    let client = server.client();
    post(client, "sums", "pause")?;
    // What waits would find the state in the new form.
    let waits = client.push_one("do", "ok")?;
    client.push_one("a/1", 7)?;
    let mut with_old = body.clone();
    with_old["at_cursor"] = json!(false);
    assert_eq!(patch(client, "sums", &with_old, false)?.problem(409)?["kind"], "backlog");
    let told = "the migrate of version 0.9.0 gives the state its form";
    let dry = patch(client, "sums", &body, true)?.json()?;
    says(&dry, told)?;
    assert_eq!((number(&dry, "revision"), keys(client)?.len()), (2, 5));
    let upgraded = patch(client, "sums", &body, false)?.json()?;
    says(&upgraded, told)?;
    assert_eq!((number(&upgraded, "from"), &upgraded["state"]), (waits + 1, &json!("paused")));
    let moved = ["moved/1", "moved/2", "moved/3", "moved/4", "moved/5"];
    assert_eq!(keys(client)?, moved);
    let server = server.restarted()?;
    let client = server.client();
    assert_eq!(keys(client)?, moved);
    assert_eq!(ironloom_tests::model::state_of(client, "sums")?["moved/3"], (1, 3.0));
    post(client, "sums", "resume")?;
    client.push_one("do", "ok")?;
    wait_until("it to go on", || Ok(keys(client)?.contains(&"result/ok".to_owned())))
}

#[test]
fn where_it_can_not_the_old_version_goes_on_with_the_old_state() -> Result<()> {
    for (version, said) in [
        ("0.0.2", "reject: this state can't be understood"),
        ("0.0.3", "it was not done after 10000 steps"),
        ("0.0.4", "changed alarms"),
        ("0.0.5", "a panic in migrate"),
        ("0.0.6", "after step 41 it had changed 205000 keys of the state, and 200000 is the most"),
    ] {
        let (server, body) = before_migration(version)?;
        let client = server.client();
        let problem = patch(client, "sums", &body, false)?.problem(422)?;
        ensure!(problem["detail"].as_str().is_some_and(|text| text.contains(said)), "{problem}");
        assert_eq!(problem["kind"], "migrate");
        let shown = client.installation("sums")?;
        assert_eq!((number(&shown, "revision"), &shown["version"]), (1, &json!(version)));
        assert_eq!(keys(client)?, ["1", "2", "3", "4", "5"]);
        client.push_one("a/1", 7)?;
        wait_for_installation(client, "sums", "one more", |now| number(now, "counters.readings") == 6)?;
        assert_eq!(client.all("/v1/alarms")?, [Value::Null; 0]);
    }
    Ok(())
}

#[test]
fn one_migration_runs_at_a_time_and_holds_up_no_other_change() -> Result<()> {
    for _ in 0..3 {
        let (server, body) = before_migration("0.0.3")?;
        let client = server.client();
        let old = guests::package_as("com.example.one-state", "0.0.3", "one-state", |manifest| manifest)?;
        install(client, "others", &old, json!({"value": ["b/{n}"]}), json!({}))?;
        client.push_one("nobody/reads/this", 1)?;
        let was_first = std::thread::scope(|scope| -> Result<bool> {
            // It goes on and on, up to the most steps.
            let first = scope.spawn(|| patch(client, "sums", &body, false));
            let migrates = || -> Result<bool> { Ok(client.installation("sums")?["state"] == "upgrading") };
            wait_until("it to migrate", || Ok(first.is_finished() || migrates()?))?;
            let second = patch(client, "others", &body, false)?;
            let other = patch(client, "others", &json!({"settings": {"publish": true}}), false)?;
            // Not even for points that it doesn't read is it interrupted.
            let retired = client.delete("/v1/points/nobody%2Freads%2Fthis")?;
            let was_first = migrates()?;
            first.join().map_err(|_| anyhow::anyhow!("the first panicked"))??.problem(422)?;
            if was_first {
                assert_eq!(second.problem(503)?["kind"], "busy");
                assert_eq!(number(&other.json()?, "revision"), 2);
                assert_eq!(retired.retry_after, Some(1));
                let problem = retired.problem(503)?;
                ensure!(
                    problem["kind"] == "busy" && problem.to_string().contains("installation sums"),
                    "{problem}"
                );
            }
            Ok(was_first)
        })?;
        if was_first {
            return Ok(());
        }
    }
    anyhow::bail!("each migration was over before another could be asked for")
}
