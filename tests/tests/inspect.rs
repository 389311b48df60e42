//! `ironloom inspect`: what an app asks for, without a server.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::guests;
use ironloom_tests::package::pack;
use ironloom_tests::server::{Setup, binary};
use serde_json::Value;

/// Runs a command that needs no server: where one would be, nobody listens.
fn run(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(arguments).current_dir(folder).env("IRONLOOM_URL", "http://127.0.0.1:1");
    Ok(command.stdin(Stdio::null()).output()?)
}

fn refused(folder: &Path, file: &str) -> Result<String> {
    let output = run(folder, &["inspect", file])?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    Ok(String::from_utf8(output.stderr)?)
}

#[test]
fn a_package_says_the_same_without_a_server_as_on_one() -> Result<()> {
    let server = Setup::new()?.start()?;
    let folder = server.setup().folder();
    let package = guests::package_of("pigs", &guests::workspace().join("sample-apps/pigs"))?;
    fs::write(folder.join("pigs.app.tar"), package.tar())?;
    let digest = server.client().add_package(&package.tar())?;

    let inspected = run(folder, &["inspect", "pigs.app.tar"])?;
    ensure!(inspected.status.success(), "{inspected:?}");
    let text = String::from_utf8(inspected.stdout)?;
    let row = |cells: &[&str]| {
        let is_row = |line: &&str| line.split_whitespace().take(cells.len()).eq(cells.iter().copied());
        text.lines().find(is_row).with_context(|| format!("no row {cells:?} in\n{text}"))
    };
    row(&["weight", "real", "kg", "must", "be", "Live", "weight,"])?;
    row(&["feed", "real", "kg", "may", "be"])?;
    row(&["daily-gain", "real", "kg/d"])?;
    row(&["fever", "high"])?;
    row(&["morning", "every", "day", "at", "06:00", "0", "6", "*", "*", "*"])?;
    row(&["breed", "text", "\"crossbred\""])?;
    let limits = text.lines().find(|line| line.starts_with("limits")).context("no limits")?;
    ensure!(limits.contains("memory 32 MiB") && limits.contains("state 64 MiB"), "{limits}");
    let uses = text.lines().find(|line| line.starts_with("uses")).context("no uses")?;
    ensure!(uses.contains("state of its own") && uses.contains("alarms"), "{uses}");
    ensure!(!uses.contains("timers that it sets itself") && !uses.contains("ironloom:"), "{uses}");
    ensure!(!text.contains("Set-points"), "it asks for none: {text}");

    let url = server.client().url();
    let shown = Command::new(binary()?).args(["packages", "show", &digest, "--url", url]).output()?;
    // The file alone has a size.
    let without_size: String =
        text.lines().filter(|line| !line.starts_with("size ")).map(|line| format!("{line}\n")).collect();
    assert_eq!(String::from_utf8(shown.stdout)?, without_size);
    ensure!(without_size.len() < text.len(), "{text}");
    let json = run(folder, &["inspect", "pigs.app.tar", "--json"])?.stdout;
    let of_server = server.client().get(&format!("/v1/packages/{digest}"))?.json()?;
    assert_eq!(serde_json::from_slice::<Value>(&json)?, of_server);
    Ok(())
}

#[test]
fn what_would_be_refused_at_an_install_is_told_without_a_server() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let package = guests::package("hostile")?;
    let component = &package.layers[0].1;

    // Without the section that its import of alarms needs.
    let manifest = package.manifest.replace("[alarms.noise]", "[settings.noise]\ntype = \"text\"");
    let manifest = manifest.replace("severity = \"low\"\n", "");
    fs::write(folder.join("undeclared.app.tar"), pack(&manifest, component).tar())?;
    let told = refused(folder, "undeclared.app.tar")?;
    ensure!(told.contains("ironloom:alarms/alarms") && told.contains("[alarms.NAME]"), "{told}");

    fs::write(folder.join("hostile.wasm"), component)?;
    let told = refused(folder, "hostile.wasm")?;
    ensure!(
        told.contains("hostile.wasm: this is a WebAssembly component") && told.contains("ironloom pack"),
        "{told}"
    );

    // Cut off within its code: only whoever reads all of it notices.
    let cut = pack(&package.manifest, &component[..component.len() / 2]);
    fs::write(folder.join("cut.app.tar"), cut.tar())?;
    let told = refused(folder, "cut.app.tar")?;
    ensure!(told.contains("cut.app.tar: the component is not valid"), "{told}");
    ensure!(refused(folder, "none.app.tar")?.contains("none.app.tar can't be read"));
    Ok(())
}
