//! Readings in other units than an app's, converted; and those that can't be.

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::guests::{self, workspace};
use ironloom_tests::server::{Server, Setup};
use ironloom_tests::wait::wait_for;
use serde_json::{Value, json};

const CONFIG: &str = "[points.\"us/{room}/temperature\"]\nunit = \"[degF]\"\n[points.\"lab/{room}/temperature\"]\n\
                      unit = \"K\"\n[points.\"odd/{room}/temperature\"]\nunit = \"m\"\n";

fn push(server: &Server, point: &str, value: f64) -> Result<()> {
    let line = json!({"point": point, "value": value}).to_string();
    let kind = [("content-type", "application/json")];
    let answer = server.client().send("POST", "/v1/readings?wait=applied", &kind, line.as_bytes())?.json()?;
    ensure!(answer["applied"] == true, "{answer}");
    Ok(())
}

/// The values that the app gives for a room, within a rounding.
fn records(server: &Server, room: &str) -> Result<Vec<f64>> {
    let outputs = server.client().all("/v1/installations/rooms/outputs")?;
    let of_room = outputs.iter().filter(|output| output["entity"] == room);
    of_room.map(|output| output["value"].as_f64().context("no number")).collect()
}

fn near(found: &[f64], wanted: &[f64]) -> bool {
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(one, other)| (one - other).abs() < 1e-9)
}

fn rejected(server: &Server) -> Result<Vec<Value>> {
    server.client().all("/v1/installations/rooms/dead-letters")
}

/// Requeues a dead letter that the app refuses again; returns the one that takes its place.
fn requeued(server: &Server, letter: &Value) -> Result<Value> {
    let number = letter["number"].as_u64().context("no number")?;
    let requeue = format!("/v1/installations/rooms/dead-letters/{number}/requeue");
    server.client().post(&requeue, &json!({}))?;
    wait_for("it to fail again", || {
        Ok(rejected(server)?.into_iter().find(|letter| letter["number"] != number))
    })
}

#[test]
fn readings_in_other_units_are_converted_also_after_a_restart_and_as_dead_letters() -> Result<()> {
    let setup = Setup::new()?.config(CONFIG);
    let server = setup.start()?;
    let client = server.client();
    let package = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    let digest = client.add_package(&package.tar())?;
    client.push_one("us/attic/temperature", 32.0)?;
    client.push_one("odd/hall/temperature", 1.0)?;
    let install =
        |pattern: Value| json!({"id": "rooms", "package": digest, "bindings": {"temperature": pattern}});

    // A length is no temperature.
    let problem =
        client.post("/v1/installations", &install(json!("odd/{room}/temperature")))?.problem(422)?;
    assert_eq!(problem["kind"], "unit-mismatch");
    let detail = "the point odd/hall/temperature has the unit m, and the input temperature has Cel: they measure different things";
    ensure!(problem["detail"].as_str().is_some_and(|said| said.ends_with(detail)), "{problem}");

    let both = json!(["us/{room}/temperature", "lab/{room}/temperature", "new/{room}/temperature"]);
    let installed = client.post("/v1/installations", &install(both))?.json()?;
    let warnings = installed["warnings"].to_string();
    let said = "1 of the 1 points of the input temperature are in other units and are converted to Cel: [degF] × 0.5555";
    ensure!(warnings.contains(said), "{warnings}");

    push(&server, "us/attic/temperature", 212.0)?;
    ensure!(near(&records(&server, "attic")?, &[100.0]), "{:?}", records(&server, "attic")?);
    // A point that came after the install.
    push(&server, "lab/oven/temperature", 373.15)?;
    ensure!(near(&records(&server, "oven")?, &[100.0]), "{:?}", records(&server, "oven")?);
    // One without a unit is as it is.
    push(&server, "new/shed/temperature", 7.0)?;
    ensure!(near(&records(&server, "shed")?, &[7.0]), "{:?}", records(&server, "shed")?);
    // The journal has what came, and the app said what it got.
    push(&server, "us/attic/temperature", -508.0)?;
    let letters = rejected(&server)?;
    ensure!(letters.len() == 1 && letters[0]["reading"]["value"] == -508.0, "{letters:?}");
    let reason = letters[0]["reason"].as_str().context("no reason")?;
    ensure!(reason.starts_with("refused: -300") && reason.ends_with("is below absolute zero"), "{reason}");

    server.kill()?;
    let server = setup.start()?;
    push(&server, "us/attic/temperature", 230.0)?;
    push(&server, "lab/oven/temperature", 383.15)?;
    ensure!(near(&records(&server, "attic")?, &[100.0, 110.0]), "{:?}", records(&server, "attic")?);
    ensure!(near(&records(&server, "oven")?, &[100.0, 110.0]), "{:?}", records(&server, "oven")?);
    // A dead letter that runs again is converted, too.
    let again = requeued(&server, &letters[0])?;
    assert_eq!(again["reason"], letters[0]["reason"]);

    let replayed = server.cli(&["replay", "rooms", "--check"])?;
    let said = String::from_utf8_lossy(&replayed.stdout).into_owned();
    ensure!(replayed.status.success() && said.contains("no difference"), "{said}");

    // Also once nobody knows its point's unit any more.
    let retired = server.cli(&["points", "retire", "us/attic/temperature"])?;
    ensure!(retired.status.success(), "{}", String::from_utf8_lossy(&retired.stderr));
    let again = requeued(&server, &again)?;
    assert_eq!(again["reason"], letters[0]["reason"]);
    Ok(())
}

#[test]
fn a_point_of_another_kind_that_comes_later_is_left_out_with_the_reason() -> Result<()> {
    let setup = Setup::new()?.config(CONFIG);
    let server = setup.start()?;
    let client = server.client();
    let package = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    let digest = client.add_package(&package.tar())?;
    let bindings = json!({"temperature": "odd/{room}/temperature"});
    client
        .post("/v1/installations", &json!({"id": "rooms", "package": digest, "bindings": bindings}))?
        .json()?;
    push(&server, "odd/hall/temperature", 1.0)?;
    let left_out = client.installation("rooms")?["left_out"].clone();
    assert_eq!(left_out["points"], 1, "{left_out}");
    let said = left_out.to_string();
    ensure!(said.contains("its unit is m, and the input's Cel: they measure different things"), "{said}");
    Ok(())
}

#[test]
fn a_unit_that_is_not_ucums_is_refused_in_the_configuration_with_its_place() -> Result<()> {
    let setup = Setup::new()?.config("[points.\"farm/{x}\"]\nunit = \"pig\"\n");
    ensure!(setup.run_to_end()?.code() == Some(1), "{}", setup.said());
    let said = setup.said();
    ensure!(
        said.contains("ironloom.toml:2:8: points.\"farm/{x}\".unit: \"pig\" is not a UCUM code"),
        "{said}"
    );
    ensure!(said.contains("things that are counted stand in braces, such as \"{pig}\""), "{said}");
    Ok(())
}
