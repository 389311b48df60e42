//! The first sample app as its README has it: built, installed, and fed with two readings by the command line.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::guests::workspace;
use ironloom_tests::server::{Setup, binary};
use ironloom_tests::wait::wait_for;
use serde_json::{Value, json};

#[test]
fn it_is_built_installed_and_raises_its_alarm() -> Result<()> {
    let folder = workspace().join("sample-apps/thermometer");
    let mut build = Command::new(binary()?);
    build.args(["build", "--json"]).current_dir(&folder);
    // Without CARGO_TARGET_DIR it goes to target/guests, as the other guests.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR"] {
        build.env_remove(variable);
    }
    let built = build.output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let built: Value = serde_json::from_slice(&built.stdout)?;
    let package = folder.join(built["path"].as_str().context("no path")?);
    let package = package.to_str().context("an odd path")?;

    let setup = Setup::new()?;
    let server = setup.start()?;
    let binding = "temperature=house/{room}/temperature";
    let installed = server.cli(&["install", package, "--id", "rooms", "--bind", binding])?;
    ensure!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let readings = setup.folder().join("readings.ndjson");
    let line = |room: &str, value: f64| json!({"point": format!("house/{room}/temperature"), "value": value});
    fs::write(&readings, format!("{}\n{}\n", line("attic", 31.0), line("kitchen", 21.5)))?;
    let pushed = server.cli(&["push", readings.to_str().context("an odd path")?])?;
    ensure!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));

    let client = server.client();
    let mut records = wait_for("two records", || {
        let outputs = client.all("/v1/installations/rooms/outputs")?;
        Ok((outputs.len() == 2).then_some(outputs))
    })?;
    records.sort_by_key(|record| record["point"].to_string());
    let shown: Vec<_> =
        records.iter().map(|record| (record["point"].as_str(), record["value"].as_f64())).collect();
    assert_eq!(
        shown,
        [(Some("apps/rooms/record/attic"), Some(31.0)), (Some("apps/rooms/record/kitchen"), Some(21.5)),]
    );
    let alarms = client.all("/v1/alarms")?;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!((&alarms[0]["code"], &alarms[0]["entity"]), (&json!("too-warm"), &json!("attic")));
    Ok(())
}
