//! Consent: what an app gets is shown before it gets it, and nothing goes beyond what somebody has consented to.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::apps::{install, number, request, wait_for_installation};
use ironloom_tests::server::{Server, Setup, binary};
use ironloom_tests::{Answer, Client, guests};
use serde_json::{Value, json};

const INSTALL: [&str; 5] = ["install", "both.app.tar", "--id", "guest", "--bind"];

/// Runs a command in the server's folder with nobody at a terminal; gives its code and what it says on stderr.
fn run(server: &Server, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(binary()?);
    command.args(arguments).env("IRONLOOM_URL", server.client().url());
    let output = command.current_dir(server.setup().folder()).stdin(Stdio::null()).output()?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn with_package(name: &str) -> Result<Server> {
    let server = Setup::new()?.start()?;
    fs::write(server.setup().folder().join("both.app.tar"), guests::package(name)?.tar())?;
    Ok(server)
}

fn dry_run(client: &Client, body: &Value) -> Result<Value> {
    client.post("/v1/installations?dry-run=true", body)?.json()
}

#[test]
fn an_install_says_as_data_what_the_app_gets_and_gives_nothing_else() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    for pig in 0..3 {
        client.push_one(&format!("farm/{pig}/weight"), 1)?;
    }
    let digest = client.add_package(&guests::package("hostile")?.tar())?;
    let body = |pattern: &str, consent: Value| {
        request("guest", &digest, json!({"command": pattern}), json!({"consent": consent}))
    };
    let shown = dry_run(client, &body("farm/{pig}/weight", Value::Null))?;
    let consent = &shown["consent"];
    let gets = texts(&consent["gets"]);
    ensure!(gets[0] == "reads farm/*/weight, 3 points now, and any that appear (input command)", "{gets:?}");
    ensure!(gets.contains(&"at most 32 MiB and 100 ms a call"), "{gets:?}");
    let refused = consent["refused"].as_array().context("no list")?;
    let set_points = refused.iter().find(|one| one["right"] == "capabilities.set-points");
    assert_eq!(set_points.context("it isn't told")?["by"], "request");
    let wide = dry_run(client, &body("{anything}/{pig}/weight", Value::Null))?;
    let warned = texts(&wide["consent"]["warnings"]);
    ensure!(warned.iter().any(|text| text.contains("whatever the points begin with")), "{warned:?}");

    // A consent to one thing is none to another, and nothing happens.
    let problem = client
        .post("/v1/installations", &body("{anything}/{pig}/weight", consent["digest"].clone()))?
        .problem(409)?;
    assert_eq!((&problem["kind"], &problem["where"]["field"]), (&json!("consent"), &json!("consent")));
    assert_eq!(client.all("/v1/installations")?, [Value::Null; 0]);
    client.push_one("farm/4/weight", 1)?;
    let done =
        client.post("/v1/installations", &body("farm/{pig}/weight", consent["digest"].clone()))?.json()?;
    ensure!(done["id"] == "guest", "points that appear are among those of a pattern: {done}");
    Ok(())
}

#[test]
fn a_script_consents_by_a_file_that_pins_the_grants() -> Result<()> {
    let server = with_package("hostile")?;
    let folder = server.setup().folder();
    let install = |pattern: &str, more: &[&str]| run(&server, &[&INSTALL[..], &[pattern], more].concat());
    let nothing = || -> Result<bool> { Ok(server.client().all("/v1/installations")?.is_empty()) };
    let (narrow, wide) = ("command=farm/barn-2/{pig}", "command=farm/{barn}/{pig}");

    let (code, said) = install(wide, &[])?;
    ensure!(code == Some(2) && nothing()?, "{said}");
    ensure!(said.contains("reads farm/*/*") && said.contains("--yes --grants FILE"), "{said}");
    let (code, said) = install(wide, &["--yes"])?;
    ensure!(code == Some(2) && said.contains("--grants"), "{said}");

    let (code, said) = install(narrow, &["--dry-run", "--write-grants", "grants.toml"])?;
    ensure!(code == Some(0) && nothing()?, "{said}");
    let (code, said) = install(narrow, &["--dry-run", "--write-grants", "grants.toml"])?;
    ensure!(code == Some(2) && said.contains("is there already"), "{said}");
    let (code, said) = install(wide, &["--yes", "--grants", "grants.toml"])?;
    ensure!(code == Some(1) && nothing()?, "{said}");
    ensure!(said.contains("guest: the input command reads farm/*/*"), "{said}");
    let (code, said) = install(narrow, &["--limit", "share=800 ms", "--yes", "--grants", "grants.toml"])?;
    ensure!(code == Some(1) && said.contains("the limit share is 800 ms, more than 500 ms"), "{said}");

    let pinned = fs::read_to_string(folder.join("grants.toml"))?;
    ensure!(pinned.contains("publisher = \"unsigned\"") && pinned.contains("farm/barn-2/{pig}"), "{pinned}");
    fs::write(folder.join("wrong.toml"), pinned.replace("publisher = ", "publisher = 3 # "))?;
    let (code, said) = install(narrow, &["--yes", "--grants", "wrong.toml"])?;
    ensure!(code == Some(1) && said.contains("wrong.toml:"), "{said}");
    let (code, said) = install(narrow, &["--yes", "--grants", "grants.toml"])?;
    ensure!(code == Some(0) && !nothing()?, "{said}");
    Ok(())
}

/// Runs a command at a terminal, where somebody answers.
fn at_a_terminal(
    server: &Server,
    command: &str,
    answer: &str,
    folder: &Path,
) -> Result<(Option<i32>, String)> {
    use std::io::Write as _;
    let binary = binary()?.canonicalize()?;
    let command = format!("{} {command}", binary.display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).current_dir(folder);
    script.env("IRONLOOM_URL", server.client().url()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().context("script, of util-linux")?;
    writeln!(child.stdin.as_mut().context("no stdin")?, "{answer}")?;
    let output = child.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn at_a_terminal_somebody_is_asked() -> Result<()> {
    let server = with_package("hostile")?;
    let folder = server.setup().folder();
    let command = "install both.app.tar --id guest --bind 'command=farm/{barn}/{pig}'";
    let (code, said) = at_a_terminal(&server, command, "no", folder)?;
    ensure!(code == Some(1) && said.contains("Install it? [y/N]"), "{said}");
    ensure!(said.contains("reads farm/*/*") && said.contains("nobody has consented"), "{said}");
    let (shown, _) = said.split_once("[y/N]").context("nobody is asked")?;
    ensure!(shown.contains("warning: no point matches the input command yet"), "{said}");
    assert_eq!(server.client().all("/v1/installations")?, [Value::Null; 0]);
    let (code, said) = at_a_terminal(&server, command, "y", folder)?;
    ensure!(code == Some(0) && said.contains("installed; it begins with"), "{said}");
    Ok(())
}

/// The guest `one-state` under a version, with more in its manifest.
fn next(version: &str, more: &str) -> Result<Vec<u8>> {
    let package =
        guests::package_as("com.example.one-state", version, "one-state", |manifest| manifest + more)?;
    Ok(package.tar())
}

/// A server where version 0.1.0 counts the readings of `a/{n}`.
fn counting() -> Result<Server> {
    let server = Setup::new()?.start()?;
    install(server.client(), "sums", &guests::package("one-state")?, json!({"value": ["a/{n}"]}), json!({}))?;
    Ok(server)
}

fn upgrade(client: &Client, tar: &[u8], more: Value) -> Result<Answer> {
    let mut body = json!({"package": client.add_package(tar)?});
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    client.patch("/v1/installations/sums", &body)
}

#[test]
fn an_upgrade_with_the_same_rights_goes_ahead_and_one_with_more_waits() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    let same = upgrade(client, &next("0.1.1", "")?, json!({}))?;
    assert_eq!(same.status, 200);
    assert_eq!(same.json()?["version"], "0.1.1");

    // A patch release, too.
    let more = next("0.1.2", "[alarms.high]\nseverity = \"high\"\n[limits]\nmemory = \"64 MiB\"\n")?;
    let waits = upgrade(client, &more, json!({}))?;
    assert_eq!(waits.status, 202);
    let waits = waits.json()?;
    let deleted = client.delete(&format!("/v1/packages/{}", client.add_package(&more)?))?.problem(409)?;
    assert_eq!(deleted["kind"], "in-use", "{deleted}");
    assert_eq!((&waits["waits"], &waits["version"]), (&json!(true), &json!("0.1.1")), "{waits}");
    assert_eq!(texts(&waits["wider"]), ["raises alarms", "the limit memory is 64 MiB, more than 32 MiB"]);
    client.push_one("a/1", 1)?;
    wait_for_installation(client, "sums", "a reading", |now| number(now, "counters.readings") == 1)?;

    // It is there after a crash, and its package stays.
    let setup = server.setup().clone();
    server.kill()?;
    let server = setup.start()?;
    let client = server.client();
    let shown = client.get("/v1/consents/sums")?.json()?;
    assert_eq!((&shown["before"], &shown["version"]), (&json!("0.1.1"), &json!("0.1.2")));
    assert_eq!(client.installation("sums")?["waits_for_consent"], "0.1.2");
    let told = server.cli(&["consents", "show", "sums"])?;
    let told = String::from_utf8(told.stdout)?;
    ensure!(told.contains("also          raises alarms\n"), "{told}");

    // Consent is to what was shown.
    let none = format!("sha256:{}", "0".repeat(64));
    for other in [
        json!({"package": shown["package"], "consent": none}),
        json!({"package": none, "consent": shown["consent"]}),
    ] {
        let problem = client.post("/v1/consents/sums/accept", &other)?.problem(409)?;
        assert_eq!(problem["kind"], "consent");
    }
    assert_eq!(client.installation("sums")?["version"], "0.1.1");
    let digest = shown["consent"].as_str().context("no digest")?;
    let accepted = server.cli_json(&["consents", "accept", "sums", "--consent", digest])?;
    assert_eq!((&accepted["version"], &accepted["limits"]["memory"]), (&json!("0.1.2"), &json!("64 MiB")));
    client.get("/v1/consents/sums")?.problem(404)?;
    assert_eq!(client.installation("sums")?["waits_for_consent"], Value::Null);
    let server = server.restarted()?;
    assert_eq!(server.client().all("/v1/consents")?, [Value::Null; 0]);
    assert_eq!(server.client().installation("sums")?["version"], "0.1.2");
    Ok(())
}

#[test]
fn what_waits_is_shown_as_a_whole_and_its_settings_are_consented_to() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    let more = next("0.2.0", "[alarms.high]\nseverity = \"high\"\n")?;
    let asked = upgrade(client, &more, json!({"settings": {"publish": true}}))?;
    assert_eq!(asked.status, 202);
    let digest = asked.json()?["consent"]["package"].clone();
    let shown = client.get("/v1/consents/sums")?.json()?;
    assert_eq!((&shown["app"], &shown["publisher"]), (&json!("com.example.one-state"), &json!("unsigned")));
    assert_eq!((&shown["package"], &shown["gets"]["package"]), (&digest, &digest));
    assert_eq!(shown["gets"]["rights"]["inputs"], json!({"value": ["a/{n}"]}));
    let of = |field: &str| {
        let mut all = shown["changes"].as_array().into_iter().flatten();
        all.find(|change| change["field"] == field).cloned().context("it isn't shown")
    };
    assert_eq!(of("settings.publish")?["after"], true);
    assert_eq!(of("version")?["before"], "0.1.0");
    let told = String::from_utf8(server.cli(&["consents", "show", "sums"])?.stdout)?;
    for line in [
        "app           com.example.one-state\n",
        "publisher     unsigned\n",
        "gets          reads a/*, and any that appear (input value)\n",
        "settings.publish: false -> true\n",
        "also          raises alarms\n",
    ] {
        ensure!(told.contains(line), "{told}");
    }
    // The same rights with another setting are something else.
    let other = upgrade(client, &more, json!({}))?.json()?;
    assert_eq!(other["consent"]["rights"], shown["gets"]["rights"]);
    let stale = json!({"package": digest, "consent": shown["consent"]});
    assert_eq!(client.post("/v1/consents/sums/accept", &stale)?.problem(409)?["kind"], "consent");
    let now = client.get("/v1/consents/sums")?.json()?;
    let given = json!({"package": digest, "consent": now["consent"]});
    assert_eq!(client.post("/v1/consents/sums/accept", &given)?.json()?["version"], "0.2.0");
    Ok(())
}

#[test]
fn a_request_consents_to_what_it_names_and_to_nothing_besides() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    let input =
        next("0.2.0", "[inputs.water]\ntype = \"real\"\noptional = true\n[limits]\nmemory = \"64 MiB\"\n")?;
    let waits = upgrade(client, &input, json!({"bindings": {"water": "w/{n}"}}))?.json()?;
    assert_eq!(texts(&waits["wider"]), ["the limit memory is 64 MiB, more than 32 MiB"]);
    // The newest request is the one that waits.
    let waits = upgrade(client, &input, json!({"limits": {"memory": "32 MiB"}}))?.json()?;
    assert_eq!(texts(&waits["wider"]), ["the input water is new: reads nothing yet, since it isn't bound"]);
    assert_eq!(client.all("/v1/consents")?.len(), 1);
    let named = json!({"bindings": {"water": "w/{n}"}, "limits": {"memory": "32 MiB"}});
    let done = upgrade(client, &input, named)?.json()?;
    assert_eq!((&done["version"], &done["limits"]["memory"]), (&json!("0.2.0"), &json!("32 MiB")));
    assert_eq!(client.all("/v1/consents")?, [Value::Null; 0], "nobody waits for what is there");
    Ok(())
}

#[test]
fn an_upgrade_that_waits_may_be_refused_and_goes_with_its_installation() -> Result<()> {
    let server = counting()?;
    let client = server.client();
    let file = server.setup().folder().join("next.app.tar");
    fs::write(&file, next("0.2.0", "[alarms.high]\nseverity = \"high\"\n")?)?;
    let (code, said) = run(&server, &["upgrade", "sums", "next.app.tar"])?;
    ensure!(code == Some(6) && said.contains("`ironloom consents show sums`"), "{said}");
    let told = server.cli(&["consents"])?;
    ensure!(String::from_utf8(told.stdout)?.contains("raises alarms"));
    let (code, said) = run(&server, &["consents", "accept", "sums"])?;
    ensure!(code == Some(2) && said.contains("also          raises alarms"), "{said}");
    let (code, said) = run(&server, &["consents", "refuse", "sums"])?;
    ensure!(code == Some(0), "{said}");
    assert_eq!(run(&server, &["consents", "refuse", "sums"])?.0, Some(4));
    assert_eq!(client.installation("sums")?["version"], "0.1.0");

    // A script has said before what it may get.
    let pins = ["upgrade", "sums", "next.app.tar", "--dry-run", "--write-grants", "sums.toml"];
    let (code, said) = run(&server, &pins)?;
    ensure!(code == Some(0), "{said}");
    let pinned = server.setup().folder().join("sums.toml");
    fs::write(
        server.setup().folder().join("less.toml"),
        fs::read_to_string(&pinned)?.replace("\"alarms\",", ""),
    )?;
    let (code, said) = run(&server, &["upgrade", "sums", "next.app.tar", "--yes", "--grants", "less.toml"])?;
    ensure!(code == Some(1) && said.contains("sums: raises alarms"), "{said}");
    let (_, said) = run(&server, &["upgrade", "sums", "next.app.tar"])?;
    ensure!(client.all("/v1/consents")?.len() == 1, "{said}");
    client.delete("/v1/installations/sums")?.json().ok();
    assert_eq!(client.all("/v1/consents")?, [Value::Null; 0]);
    install(client, "sums", &guests::package("one-state")?, json!({"value": ["a/{n}"]}), json!({}))?;
    let (code, said) = run(&server, &["upgrade", "sums", "next.app.tar", "--yes", "--grants", "sums.toml"])?;
    ensure!(code == Some(0) && client.installation("sums")?["version"] == "0.2.0", "{said}");
    Ok(())
}
