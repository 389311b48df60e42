//! What `ironloom new` writes: it builds anywhere, its own tests pass, and it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::guests::{place_for_apps, workspace};
use ironloom_tests::sbom;
use ironloom_tests::server::{Setup, binary};
use ironloom_tests::wait::wait_for;
use serde_json::Value;

/// Runs a command to its end, and gives what it printed.
fn run(command: &mut Command) -> Result<String> {
    // As on a developer's machine: nothing of the build that runs this test.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_MANIFEST_DIR"] {
        command.env_remove(variable);
    }
    // Builds of one run serve the next.
    command.env("CARGO_TARGET_DIR", workspace().join("target/new"));
    let output = command.output().with_context(|| format!("can't run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), Into::into)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[test]
fn a_new_app_builds_passes_its_tests_and_runs() -> Result<()> {
    let setup = Setup::new()?;
    let folder = place_for_apps("new")?;
    run(Command::new(binary()?).args(["new", "attic"]).current_dir(&folder))?;
    let app = folder.join("attic");
    for file in files(&app)?.into_iter().filter(|file| !file.starts_with(app.join("ironloom"))) {
        let bytes = fs::read(&file)?;
        ensure!(
            !bytes.windows(2).any(|pair| pair == b"{{"),
            "a place of the template is left in {}",
            file.display()
        );
    }
    // A second one in the same place is refused, and changes nothing.
    let again = Command::new(binary()?).args(["new", "attic"]).current_dir(&folder).output()?;
    ensure!(again.status.code() == Some(1), "{again:?}");

    let tested = run(Command::new(cargo()).args(["test", "--quiet"]).current_dir(&app))?;
    ensure!(tested.contains("test result: ok"), "{tested}");
    let built: Value =
        serde_json::from_str(&run(Command::new(binary()?).args(["build", "--json"]).current_dir(&app))?)?;
    // Its golden feed, in the sandbox.
    let golden = run(Command::new(binary()?).arg("test").current_dir(&app))?;
    assert_eq!(golden, "tests/attic.feed.ndjson … as expected\n");
    let package = app.join(built["path"].as_str().context("no path")?);
    let inspect = |option: &[&str]| {
        run(Command::new(binary()?).arg("inspect").arg(&package).args(option).current_dir(&app))
    };
    sbom::check(&serde_json::from_str(&inspect(&["--sbom"])?)?, &app)?;
    assert_eq!(inspect(&["--readme"])?, fs::read_to_string(app.join("README.md"))?);
    let inspected = inspect(&[])?;
    ensure!(
        inspected.contains("\nSBOM          CycloneDX, ") && inspected.contains("\nREADME        "),
        "{inspected}"
    );

    let server = setup.start()?;
    let file = package.to_str().context("an odd path")?;
    let installed =
        server.cli(&["install", file, "--id", "attic", "--bind", "temperature=house/{room}/temperature"])?;
    ensure!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let client = server.client();
    client.push_one("house/attic/temperature", 31.5)?;
    let output = wait_for("a derived reading", || {
        Ok(client.all("/v1/installations/attic/outputs")?.into_iter().next())
    })?;
    assert_eq!(output["point"], "apps/attic/smoothed/attic");
    assert_eq!(output["value"], 31.5, "the first temperature is its own average");
    let alarm = wait_for("an alarm", || Ok(client.all("/v1/alarms")?.into_iter().next()))?;
    assert_eq!((&alarm["code"], &alarm["entity"]), (&Value::from("too-warm"), &Value::from("attic")));
    Ok(())
}

/// Builds an app, and gives its package.
fn package_of(app: &Path) -> Result<Vec<u8>> {
    let built: Value =
        serde_json::from_str(&run(Command::new(binary()?).args(["build", "--json"]).current_dir(app))?)?;
    Ok(fs::read(app.join(built["path"].as_str().context("no path")?))?)
}

#[test]
fn folders_with_apps_of_one_name_and_one_target_folder_give_their_own_code() -> Result<()> {
    let folder = place_for_apps("twins")?;
    let apps = ["one", "two"].map(|name| folder.join(name));
    // Written before anything is built: by the times of its files alone, cargo would take the second for built.
    for (app, word) in apps.iter().zip(["first words of a twin", "second words of a twin"]) {
        run(Command::new(binary()?).args(["new", "twin", "--into"]).arg(app))?;
        let source = app.join("twin/src/lib.rs");
        let code = fs::read_to_string(&source)?;
        let other = code.replace("colder than possible", word);
        ensure!(other != code, "the template refuses in other words");
        fs::write(&source, other)?;
    }
    let has = |package: &[u8], word: &str| package.windows(word.len()).any(|part| part == word.as_bytes());
    for turn in 0..2 {
        for (app, own, other) in [(&apps[0], "first", "second"), (&apps[1], "second", "first")] {
            let package = package_of(&app.join("twin"))?;
            ensure!(has(&package, &format!("{own} words of a twin")), "turn {turn}: {own} lacks its code");
            ensure!(
                !has(&package, &format!("{other} words of a twin")),
                "turn {turn}: {own} has the {other}'s"
            );
        }
    }
    Ok(())
}
