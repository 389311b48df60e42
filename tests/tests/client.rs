//! A client that is generated from the description works with the server.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use ironloom_tests::guests::{self, workspace};
use ironloom_tests::python::{self, CLIENT_GENERATOR};
use ironloom_tests::server::Setup;
use serde_json::Value;

#[test]
fn a_client_made_from_the_description_installs_pushes_reads_and_gets_typed_problems() -> Result<()> {
    let Some(python) = python::with(CLIENT_GENERATOR, "a client generated from the description")? else {
        return Ok(());
    };
    let setup = Setup::new()?;
    let server = setup.start()?;
    let folder = setup.folder();
    let mut described = server.client().get("/openapi.json")?.json()?;
    // Of a body with several types the generator can't tell a list from others: its code for that doesn't run.
    let content = &mut described["paths"]["/v1/readings"]["post"]["requestBody"]["content"];
    content.as_object_mut().context("readings have no bodies")?.retain(|kind, _| kind == "application/json");
    fs::write(folder.join("openapi.json"), described.to_string())?;

    let generated = folder.join("generated");
    let mut generate = Command::new(&python);
    generate.args(["-m", "openapi_python_client", "generate", "--fail-on-warning", "--path"]);
    generate.arg(folder.join("openapi.json")).arg("--output-path").arg(&generated);
    generate.arg("--config").arg(workspace().join("tests/peers/client.yml"));
    python::run(&mut generate)?;
    python::run(Command::new(&python).args(["-m", "compileall", "-q"]).arg(&generated))?;

    let package = guests::package_of("thermometer", &workspace().join("sample-apps/thermometer"))?;
    let file = folder.join("thermometer.app.tar");
    fs::write(&file, package.tar())?;
    let mut work = Command::new(&python);
    work.arg(workspace().join("tests/peers/client.py")).arg(server.client().url()).arg(&file);
    python::run(work.env("PYTHONPATH", &generated))?;

    let operations: Vec<&Value> = described["paths"]
        .as_object()
        .context("no paths")?
        .values()
        .flat_map(|path| path.as_object().into_iter().flat_map(|methods| methods.values()))
        .collect();
    for operation in &operations {
        let id = operation["operationId"].as_str().context("an operation without an id")?;
        let module: String = id
            .chars()
            .flat_map(|letter| {
                let underline = letter.is_ascii_uppercase().then_some('_');
                underline.into_iter().chain([letter.to_ascii_lowercase()])
            })
            .collect();
        let file = generated.join(format!("ironloom_client/api/default/{module}.py"));
        assert!(file.is_file(), "the client lacks {id}: no {}", file.display());
    }
    Ok(())
}
