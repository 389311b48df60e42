//! Apps in Python and JavaScript as `ironloom new` writes them: they pass their own tests, are built by one command, and
//! compute on a server what this test computes by itself from the same weighings of a feeding trial.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_mutate::not_tested;
use ironloom_tests::guests::workspace;
use ironloom_tests::registries::has_no_such_version;
use ironloom_tests::server::{Server, Setup, binary};
use ironloom_tests::wait::wait_for;
use serde_json::{Value, json};

/// Two weeks, since pigs are weighed once a week.
const SMOOTHING: f64 = 1_209_600.0;
const LIMIT: f64 = 90.0;

/// A weighing: the pig, the seconds since the first one of all, the time as it is written, the weight.
struct Weighing {
    pig: String,
    seconds: f64,
    at: String,
    weight: f64,
}

fn weighings() -> Result<Vec<Weighing>> {
    let text = fs::read_to_string(workspace().join("sample-apps/pigs/data/weighings.csv"))?;
    let line = |line: &str| -> Option<Weighing> {
        let mut cells = line.split(',');
        let (at, pig, weight) = (cells.next()?, cells.nth(1)?, cells.nth(1)?);
        let time: jiff::Timestamp = at.parse().ok()?;
        Some(Weighing {
            pig: pig.to_owned(),
            // Whole seconds of a few months.
            seconds: time.as_second() as f64,
            at: time.to_string(),
            weight: weight.parse().ok()?,
        })
    };
    text.lines().skip(1).map(|one| line(one).with_context(|| one.to_owned())).collect()
}

/// The smoothed weight of each weighing, by pig and time: a weight of 1 - e^(-t/T) for what is new.
fn smoothed(weighings: &[Weighing]) -> BTreeMap<(String, String), f64> {
    let mut last: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut out = BTreeMap::new();
    for Weighing { pig, seconds, at, weight } in weighings {
        let (before, since) = *last.get(pig.as_str()).unwrap_or(&(*weight, *seconds));
        let kept = (-(seconds - since) / SMOOTHING).exp();
        let value = before * kept + weight * (1.0 - kept);
        last.insert(pig, (value, *seconds));
        out.insert((pig.clone(), at.clone()), value);
    }
    out
}

fn run(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("can't run {command:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Says whether a build failed since this machine lacks the language's tools or can't fetch them, and not by our fault.
fn is_without_tools(said: &str) -> bool {
    ["can't run", "`pip install", "-m venv` failed", "`npm ci` failed"].iter().any(|part| said.contains(part))
}

/// Makes an app, builds it, and gives its package; `None` where this machine can't. `tests` are the file of the module's
/// tests, and what is said where all ran.
fn package_of(setup: &Setup, language: &str, test: &[&str], tests: [&str; 2]) -> Result<Option<String>> {
    let folder = setup.folder().join("made");
    let made =
        run(Command::new(binary()?).args(["new", "scales", "--language", language, "--into"]).arg(&folder))?;
    ensure!(made.status.success(), "{}", text(&made.stderr));
    let app = folder.join("scales");
    let built = run(Command::new(binary()?).args(["build", "--json"]).arg(&app))?;
    let said = text(&built.stderr);
    if !built.status.success() && is_without_tools(&said) && !has_no_such_version(&said) {
        not_tested(&format!("apps in {language}"), &said.replace('\n', " "));
        return Ok(None);
    }
    ensure!(built.status.success(), "{said}");
    ensure!(said.contains(", once"), "the first build says what it installs: {said}");
    // The module's own tests beside the template's.
    let [file, all] = tests;
    fs::copy(workspace().join("sdk").join(language).join("tests").join(file), app.join("tests").join(file))?;
    let tested = run(Command::new(test[0]).args(&test[1..]).current_dir(&app))?;
    let said = text(&tested.stdout) + &text(&tested.stderr);
    ensure!(tested.status.success() && (said.contains(all)), "{said}");
    refuse_what_isnt_declared(&app)?;
    let built: Value = serde_json::from_slice(&built.stdout)?;
    ensure!(built["id"] == "com.example.scales", "{built}");
    let package = built["path"].as_str().context("no path")?.to_owned();
    let tested = run(Command::new(binary()?).args(["test", "--package", &package]).arg(&app))?;
    ensure!(tested.status.success(), "{}{}", text(&tested.stdout), text(&tested.stderr));
    Ok(Some(package))
}

/// The component has all imports of its world: without the alarm's section it isn't packed.
fn refuse_what_isnt_declared(app: &Path) -> Result<()> {
    let manifest = fs::read_to_string(app.join("app.toml"))?;
    let (before, rest) = manifest.split_once("[alarms.too-warm]").context("no alarm")?;
    let (_, after) = rest.split_once("[settings.limit]").context("no setting")?;
    let other = app.join("other.toml");
    fs::write(&other, format!("{before}[settings.limit]{after}"))?;
    let refused = run(Command::new(binary()?)
        .args(["pack", "target/app.wasm", "--manifest", "other.toml"])
        .current_dir(app))?;
    let said = text(&refused.stderr);
    ensure!(said.contains("ironloom:alarms/alarms@0.1.0, but the manifest doesn't declare it"), "{said}");
    ensure!(said.contains("or leave it out of your world"), "{said}");
    Ok(())
}

fn install(server: &Server, package: &str) -> Result<()> {
    let limit = format!("limit={LIMIT}");
    let smoothing = format!("smoothing={SMOOTHING}");
    let arguments = ["install", package, "--id", "scales", "--bind", "temperature=trial/{pig}/weight"];
    let installed = server.cli(&[&arguments[..], &["--set", &limit, "--set", &smoothing]].concat())?;
    ensure!(installed.status.success(), "{}", text(&installed.stderr));
    Ok(())
}

/// Whatever the app derives, once all readings went through it.
fn computes_the_same(server: &Server) -> Result<()> {
    let client = server.client();
    let weighings = weighings()?;
    let lines: Vec<String> = (weighings.iter())
        .map(|one| {
            let point = format!("trial/{}/weight", one.pig);
            json!({"point": point, "value": one.weight, "at": one.at}).to_string()
        })
        .collect();
    client.push(lines.join("\n").as_bytes(), None)?.json()?;
    let expected = smoothed(&weighings);
    ensure!(expected.len() == 861, "a weighing of each pig and time");
    let outputs = wait_for("all outputs", || {
        let outputs = client.all("/v1/installations/scales/outputs")?;
        Ok((outputs.len() >= expected.len()).then_some(outputs))
    })?;
    ensure!(outputs.len() == expected.len(), "{} outputs", outputs.len());
    for output in outputs {
        let pig = output["entity"].as_str().context("no entity")?.to_owned();
        let at: jiff::Timestamp = output["at"].as_str().context("no time")?.parse()?;
        let value = output["value"].as_f64().context("no value")?;
        let expected = expected.get(&(pig, at.to_string())).with_context(|| output.to_string())?;
        ensure!((value - expected).abs() < 1e-9, "{expected} was expected: {output}");
    }
    let mut last: BTreeMap<&str, f64> = BTreeMap::new();
    for ((pig, _), value) in &expected {
        last.insert(pig, *value);
    }
    // A pig's smoothed weight only grows, so that an alarm that was raised stands.
    let heavy: BTreeSet<String> =
        last.into_iter().filter(|(_, value)| *value > LIMIT).map(|(pig, _)| pig.to_owned()).collect();
    ensure!(!heavy.is_empty() && heavy.len() < 72, "{heavy:?}");
    let alarms = client.all("/v1/alarms")?;
    let raised: BTreeSet<String> =
        alarms.iter().filter_map(|alarm| alarm["entity"].as_str().map(str::to_owned)).collect();
    assert_eq!(raised, heavy);

    client.push_one("trial/impossible/weight", -300.0)?;
    let letter = wait_for("a dead letter", || {
        Ok(client.all("/v1/installations/scales/dead-letters")?.into_iter().next())
    })?;
    ensure!(letter.to_string().contains("°C is colder than possible"), "{letter}");
    let installation = client.installation("scales")?;
    ensure!(installation.to_string().contains("running"), "{installation}");
    Ok(())
}

fn language(name: &str, test: &[&str], tests: [&str; 2]) -> Result<()> {
    let setup = Setup::new()?;
    let Some(package) = package_of(&setup, name, test, tests)? else { return Ok(()) };
    let server = setup.start()?;
    install(&server, &package)?;
    computes_the_same(&server)
}

#[test]
fn an_app_in_python_is_made_built_tested_and_computes_what_it_should() -> Result<()> {
    language("python", &["python3", "-m", "unittest"], ["test_sdk.py", "Ran 10 tests"])
}

#[test]
fn an_app_in_javascript_is_made_built_tested_and_computes_what_it_should() -> Result<()> {
    language("javascript", &["npm", "test"], ["sdk.test.js", "pass 9"])
}

#[test]
fn a_folder_without_a_known_language_is_told_what_to_do() -> Result<()> {
    let setup = Setup::new()?;
    let manifest = "manifest = 1\nid = \"com.example.c\"\nname = \"C\"\nversion = \"0.1.0\"\n";
    fs::write(setup.folder().join("app.toml"), manifest)?;
    let built = run(Command::new(binary()?).arg("build").current_dir(setup.folder()))?;
    let said = text(&built.stderr);
    if built.status.success() || !said.contains("then `ironloom pack COMPONENT.wasm`") {
        bail!("{said}");
    }
    Ok(())
}
