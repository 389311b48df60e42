//! What tests of signed packages and catalogs share: commands without a server, and versions of one app.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::guests;
use crate::http::Answer;
use crate::server::{Server, binary};

/// The passphrase of all keys.
pub const PASSPHRASE: &str = "correct horse";

/// Runs a command in a folder. Where it needs a server that it doesn't name, nobody listens.
pub fn run(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(arguments).current_dir(folder);
    command.env("IRONLOOM_URL", "http://127.0.0.1:1").env("IRONLOOM_PASSPHRASE", PASSPHRASE);
    Ok(command.stdin(Stdio::null()).output()?)
}

/// Runs one that ends well; gives what it prints.
pub fn done(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = run(folder, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes a key and gives its public half.
pub fn key(folder: &Path, file: &str) -> Result<String> {
    Ok(done(folder, &["key", "new", file])?.trim_end().to_owned())
}

/// The package of `one-state` in a version.
pub fn one_state(version: &str) -> Result<Vec<u8>> {
    let mut package = guests::package("one-state")?;
    let old = "version = \"0.1.0\"";
    ensure!(package.manifest.contains(old), "it has another version");
    package.manifest = package.manifest.replacen(old, &format!("version = {version:?}"), 1);
    Ok(package.tar())
}

/// Installs it, bound to rooms.
pub fn install(server: &Server, id: &str, package: &str) -> Result<Answer> {
    let body = json!({"id": id, "package": package, "bindings": {"value": "room/{name}"}});
    server.client().post("/v1/installations", &body)
}
