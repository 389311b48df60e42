//! States of uninstalled apps: they are listed, a later install goes on with one, and a purge removes them.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{counts, install, number, request, wait_for_installation, wait_for_readings};
use ironloom_tests::guests::workspace;
use ironloom_tests::model::state_of;
use ironloom_tests::{Client, Setup, guests, wait_until};
use serde_json::{Value, json};

/// Installs the guest `one-state` as `sums`: it gives the count of `a/{n}` with each reading.
fn install_sums(client: &Client, more: &Value) -> Result<Value> {
    let mut settings = json!({"settings": {"publish": true}});
    if let (Value::Object(settings), Value::Object(more)) = (&mut settings, more.clone()) {
        settings.extend(more);
    }
    install(client, "sums", &guests::package("one-state")?, json!({"value": ["a/{n}"]}), settings)
}

/// What an install of `sums` is refused with.
fn refused(client: &Client, more: Value, status: u16) -> Result<Value> {
    let digest = client.add_package(&guests::package("one-state")?.tar())?;
    let body = request("sums", &digest, json!({"value": ["a/{n}"]}), more);
    client.post("/v1/installations", &body)?.problem(status)
}

fn uninstall(client: &Client, id: &str) -> Result<()> {
    client.delete(&format!("/v1/installations/{id}"))?.json()?;
    Ok(())
}

fn ordinals(client: &Client) -> Result<Vec<u64>> {
    let all = client.all("/v1/installations/sums/invocations")?;
    Ok(all.iter().map(|run| number(run, "ordinal")).collect())
}

fn warned(answer: &Value, words: &str) -> Result<()> {
    let all = answer["warnings"].as_array().cloned().unwrap_or_default();
    let says = |warning: &Value| warning.as_str().is_some_and(|text| text.contains(words));
    ensure!(all.iter().any(says), "{words:?} is not in {answer}");
    Ok(())
}

#[test]
fn a_later_install_goes_on_where_the_last_one_ended() -> Result<()> {
    for engine in ["redb", "sled"] {
        // 0: nobody is killed; 1: before it is adopted; 2: after that; 3: both, and stopped in between.
        for kills in 0..4 {
            let whole = || format!("engine {engine}, kills {kills}");
            goes_on(engine, kills).with_context(whole)?;
        }
    }
    Ok(())
}

fn goes_on(engine: &str, kills: u8) -> Result<()> {
    let mut server = Setup::new()?.config(format!("[store]\nengine = \"{engine}\"\n")).start()?;
    install_sums(server.client(), &json!({}))?;
    for n in 1..=3 {
        server.client().push_one("a/1", n)?;
        wait_for_readings(server.client(), n)?;
    }
    uninstall(server.client(), "sums")?;
    server.client().push_one("a/1", 4)?;
    server.client().push_one("a/2", 5)?;
    if kills & 1 == 1 {
        server = server.restarted()?;
    }
    if kills == 3 {
        let setup = server.setup().clone();
        ensure!(server.stop()?.success());
        server = setup.start()?;
    }
    let client = server.client();
    let kept = client.all("/v1/kept")?;
    let [only] = kept.as_slice() else { anyhow::bail!("{kept:?}") };
    assert_eq!(
        (&only["id"], number(only, "generation"), &only["state"]),
        (&json!("sums"), 1, &json!("kept"))
    );
    assert_eq!((&only["app"], &only["version"]), (&json!("com.example.one-state"), &json!("0.1.0")));
    // One key, of one byte, with 16 bytes; 128 for any key.
    assert_eq!(number(only, "bytes"), 1 + 16 + 128);
    ensure!(only["until"].as_str() > only["ended"].as_str(), "{only}");

    let adopted = install_sums(client, &json!({"adopt": "newest"}))?;
    assert_eq!((number(&adopted, "generation"), number(&adopted, "revision")), (1, 2));
    assert_eq!(number(&adopted, "backlog"), 2);
    if kills & 2 == 2 {
        server = server.restarted()?;
    }
    let client = server.client();
    let done = wait_for_readings(client, 5)?;
    assert_eq!((number(&done, "generation"), number(&done, "counters.derived")), (1, 5));
    let expected = [("1".to_owned(), (4, 10.0)), ("2".to_owned(), (1, 5.0))];
    assert_eq!(state_of(client, "sums")?, expected.into());
    assert_eq!(counts(client)?, [1, 2, 3, 4, 1], "each once");
    let ordinals = ordinals(client)?;
    ensure!(ordinals.windows(2).all(|two| two[0] < two[1]), "{ordinals:?}");
    ensure!(ordinals.len() as u64 == number(&done, "counters.invocations"), "{ordinals:?} {done}");
    assert_eq!(client.all("/v1/kept")?, [Value::Null; 0]);

    // What came of it outlives a kill, and may be adopted again.
    server = server.restarted()?;
    uninstall(server.client(), "sums")?;
    server = server.restarted()?;
    let client = server.client();
    let again = install_sums(client, &json!({"adopt": "1"}))?;
    assert_eq!(
        (number(&again, "generation"), number(&again, "revision"), number(&again, "backlog")),
        (1, 3, 0)
    );
    client.push_one("a/2", 6)?;
    wait_for_readings(client, 6)?;
    assert_eq!(state_of(client, "sums")?["2"], (2, 11.0));
    let setup = server.setup().clone();
    ensure!(server.stop()?.success());
    let server = setup.start()?;
    assert_eq!(state_of(server.client(), "sums")?["2"], (2, 11.0));
    assert_eq!(number(&server.client().installation("sums")?, "revision"), 3);
    Ok(())
}

#[test]
fn the_command_line_adopts_and_lists_what_is_kept() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let digest = client.add_package(&guests::package("one-state")?.tar())?;
    let install = |more: &[&str]| {
        let arguments = [&["install", &digest, "--id", "sums", "--bind", "value=a/{n}"], more].concat();
        server.cli(&arguments)
    };
    let said = |output: &std::process::Output| {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        format!("{out}{err}")
    };
    ensure!(install(&[])?.status.success());
    client.push_one("a/1", 1)?;
    wait_for_readings(client, 1)?;
    ensure!(server.cli(&["uninstall", "sums"])?.status.success());
    let listed = said(&server.cli(&["list", "--gone"])?);
    let row = listed.lines().nth(1).context("nothing is listed")?;
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..6], ["sums", "1", "kept", "com.example.one-state", "0.1.0", "145"], "{listed}");

    let without = said(&install(&["--dry-run"])?);
    ensure!(without.contains("generation 1") && without.contains("--adopt=1"), "{without}");
    let both = install(&["--adopt", "--from", "now"])?;
    ensure!(!both.status.success() && said(&both).contains("--from"), "{}", said(&both));
    let odd = install(&["--adopt=last"])?;
    ensure!(said(&odd).contains("--adopt: it is `newest`, or the number"), "{}", said(&odd));
    let adopted = install(&["--adopt"])?;
    ensure!(adopted.status.success(), "{}", said(&adopted));
    ensure!(
        said(&adopted).contains("installed; it goes on with generation 1 and 0 readings"),
        "{}",
        said(&adopted)
    );
    assert_eq!(state_of(client, "sums")?["1"], (1, 1.0));

    // From a file, one of several.
    ensure!(server.cli(&["uninstall", "sums"])?.status.success());
    let file = server.setup().folder().join("many.toml");
    let one = |id: &str, adopt: &str| {
        format!(
            "[[installations]]\nid = \"{id}\"\npackage = \"{digest}\"\n{adopt}[installations.bindings]\nvalue = \"a/{{n}}\"\n"
        )
    };
    std::fs::write(&file, one("others", "") + &one("sums", "adopt = 1\n"))?;
    let many = server.cli(&["install", "--with", file.to_str().context("no path")?])?;
    ensure!(many.status.success(), "{}", said(&many));
    assert_eq!(state_of(client, "sums")?["1"], (1, 1.0));
    assert_eq!(number(&client.installation("others")?, "generation"), 3, "an adoption takes a number, too");

    ensure!(server.cli(&["uninstall", "sums"])?.status.success());
    ensure!(server.cli(&["uninstall", "sums", "--purge"])?.status.success());
    wait_until("what was kept is gone", || Ok(client.all("/v1/kept")?.is_empty()))?;
    let nothing = said(&server.cli(&["list", "--gone"])?);
    ensure!(nothing.contains("nothing found"), "{nothing}");
    let nothing = said(&install(&["--adopt"])?);
    ensure!(nothing.contains("nothing is kept of an installation sums"), "{nothing}");
    Ok(())
}

#[test]
fn what_can_not_be_adopted_is_refused_by_name() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let adopt = |which: &str| json!({"adopt": which});
    let never = refused(client, adopt("newest"), 422)?;
    assert_eq!((&never["kind"], &never["where"]["field"]), (&json!("not-kept"), &json!("adopt")));
    refused(client, adopt("oldest"), 400)?;
    install_sums(client, &json!({}))?;
    assert_eq!(refused(client, adopt("newest"), 422)?["errors"][0]["kind"], "exists");
    uninstall(client, "sums")?;
    let with_from = refused(client, json!({"adopt": "newest", "from": "now"}), 422)?;
    assert_eq!(with_from["where"]["field"], "from");
    let missing = refused(client, adopt("7"), 422)?;
    ensure!(
        missing["detail"].as_str().is_some_and(|text| text.contains("no generation 7 is kept of sums")),
        "{missing}"
    );
    let thermometer = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    let digest = client.add_package(&thermometer.tar())?;
    let body = request("sums", &digest, json!({"temperature": ["house/{room}"]}), adopt("newest"));
    let other = client.post("/v1/installations", &body)?.problem(422)?;
    assert_eq!(other["kind"], "other-app", "{other}");
    let body = request("rooms", &digest, json!({"temperature": ["house/{room}"]}), adopt("1"));
    let of_another = client.post("/v1/installations", &body)?.problem(422)?;
    assert_eq!(of_another["kind"], "not-kept");
    ensure!(
        of_another["detail"].as_str().is_some_and(|text| text.contains("is one of sums")),
        "{of_another}"
    );
    // A list says which of its items it is about, and none is installed.
    let list = json!([request("free", &digest, json!({"temperature": ["house/{room}"]}), json!({})), body]);
    let of_list = client.post("/v1/installations", &list)?.problem(422)?;
    assert_eq!(number(&of_list, "where.item"), 2, "{of_list}");
    client.get("/v1/installations/free")?.problem(404)?;
    // Nothing of this has touched it.
    assert_eq!(client.all("/v1/kept")?.len(), 1);
    client.delete("/v1/installations/sums?purge=true")?.json()?;
    let purged = refused(client, adopt("newest"), if client.all("/v1/kept")?.is_empty() { 422 } else { 409 });
    ensure!(purged.is_ok() || refused(client, adopt("newest"), 422).is_ok(), "{purged:?}");
    Ok(())
}

#[test]
fn another_version_goes_on_unless_it_must_migrate_the_state() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install_sums(client, &json!({}))?;
    client.push_one("a/1", 2)?;
    wait_for_readings(client, 1)?;
    uninstall(client, "sums")?;
    // The guest `hostile` has the role `lifecycle`.
    let migrates = guests::package_as("com.example.one-state", "0.3.0", "hostile", |manifest| manifest)?;
    let digest = client.add_package(&migrates.tar())?;
    let manifest = client.get(&format!("/v1/packages/{digest}"))?.json()?;
    let input = manifest["inputs"].as_object().and_then(|inputs| inputs.keys().next()).context("no input")?;
    let body = request("sums", &digest, json!({input: ["b/{n}"]}), json!({"adopt": "newest"}));
    let problem = client.post("/v1/installations", &body)?.problem(422)?;
    assert_eq!(problem["kind"], "migrate", "{problem}");
    ensure!(problem["detail"].as_str().is_some_and(|text| text.contains("version 0.1.0")), "{problem}");
    ensure!(problem["hints"][0].as_str().is_some_and(|text| text.contains("ironloom upgrade")), "{problem}");

    let next = guests::package_as("com.example.one-state", "0.2.0", "one-state", |manifest| manifest)?;
    let adopted = install(client, "sums", &next, json!({"value": ["b/{n}"]}), json!({"adopt": "newest"}))?;
    warned(&adopted, "version 0.2.0 goes on with the state of version 0.1.0")?;
    client.push_one("b/1", 5)?;
    wait_for_readings(client, 2)?;
    assert_eq!(state_of(client, "sums")?["1"], (2, 7.0));
    Ok(())
}

#[test]
fn one_of_several_states_is_chosen_and_nothing_is_published_twice() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    install_sums(client, &json!({}))?;
    client.push_one("a/1", 1)?;
    wait_for_readings(client, 1)?;
    uninstall(client, "sums")?;
    client.push_one("a/1", 2)?;
    // Somebody forgot to adopt it.
    let anew = install_sums(client, &json!({}))?;
    warned(&anew, "--adopt=1")?;
    assert_eq!(number(&anew, "generation"), 2);
    client.push_one("a/1", 3)?;
    wait_for_readings(client, 1)?;
    uninstall(client, "sums")?;
    assert_eq!(client.all("/v1/kept")?.len(), 2);
    let adopted = install_sums(client, &json!({"adopt": "1"}))?;
    assert_eq!((number(&adopted, "generation"), number(&adopted, "backlog")), (1, 2));
    let done = wait_for_readings(client, 3)?;
    assert_eq!(state_of(client, "sums")?["1"], (3, 6.0));
    // The second reading was published by nobody yet, the third by the other generation.
    assert_eq!(counts(client)?, [1, 1, 2]);
    assert_eq!(number(&done, "counters.held_back"), 1);
    assert_eq!(client.all("/v1/kept")?.len(), 1);
    Ok(())
}

#[test]
fn alarms_ended_with_the_app_and_begin_anew_with_it() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let thermometer = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    let bindings = json!({"temperature": ["house/{room}"]});
    install(client, "rooms", &thermometer, bindings.clone(), json!({}))?;
    client.push_one("house/attic", 41.0)?;
    wait_until("the alarm", || Ok(client.all("/v1/alarms")?.len() == 1))?;
    let first = client.all("/v1/alarms")?[0]["id"].clone();
    uninstall(client, "rooms")?;
    assert_eq!(client.all("/v1/alarms")?, [Value::Null; 0]);
    install(client, "rooms", &thermometer, bindings, json!({"adopt": "newest"}))?;
    let server = server.restarted()?;
    let client = server.client();
    assert_eq!(client.all("/v1/alarms")?, [Value::Null; 0], "nobody raises it again");
    let history = client.all("/v1/alarms/history")?;
    assert_eq!((history.len(), &history[0]["id"]), (1, &first));
    assert_eq!(history[0]["cleared"]["by"], "removed", "{}", history[0]);
    for temperature in [10.0, 42.0] {
        let sequence = client.push_one("house/attic", temperature)?;
        wait_for_installation(client, "rooms", "it to be taken", |now| number(now, "cursor") >= sequence)?;
    }
    let second = client.all("/v1/alarms")?;
    ensure!(second.len() == 1 && second[0]["id"] != first, "{second:?} after {first}");
    Ok(())
}
