//! Guests: apps that the tests build for `wasm32-wasip2`, once for all tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::package::{self, Package};

static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// Makes an empty folder for apps that a test makes, at the same place in each run: `ironloom build` keeps what it compiles by
/// the app's place, so that one run serves the next.
pub fn place_for_apps(name: &str) -> Result<PathBuf> {
    let folder = workspace().join("target/new/made").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder of one of the tests' own guests.
pub fn folder_of(guest: &str) -> PathBuf {
    workspace().join("tests/guests").join(guest)
}

/// Builds an app of the workspace by the name of its package and gives the path of its component.
pub fn build(name: &str) -> Result<PathBuf> {
    let path = format!("wasm32-wasip2/guest/{}.wasm", name.replace('-', "_"));
    build_as_guest(name, &["--target", "wasm32-wasip2"], &path)
}

/// Builds one as [`build`] does, with debug information: the lines of its source.
pub fn build_with_lines(name: &str) -> Result<PathBuf> {
    let target = workspace().join("target/guests/with-lines");
    let mut command = guest_build(name, &target);
    command.args(["--target", "wasm32-wasip2", "--config", "profile.guest.strip=false"]);
    command.args(["--config", "profile.guest.debug=\"line-tables-only\""]);
    let output = command.output().context("can't run cargo")?;
    ensure!(output.status.success(), "building {name}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(target.join(format!("wasm32-wasip2/guest/{}.wasm", name.replace('-', "_"))))
}

/// A build with the profile of guests.
fn guest_build(name: &str, target: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace());
    command.args(["build", "--quiet", "--package", name, "--profile", "guest"]);
    command.arg("--target-dir").arg(target);
    // What is meant for the host, such as `-D warnings` or a CPU, must not change the guest's bytes.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(variable);
    }
    command
}

/// Builds the program that runs apps outside of the sandbox, with the profile of guests.
pub fn build_native() -> Result<PathBuf> {
    build_as_guest("ironloom-native", &[], "guest/ironloom-native")
}

fn build_as_guest(name: &str, options: &[&str], path: &str) -> Result<PathBuf> {
    // One at a time in this process; a lock on a file for the others. Cargo would wait as well, but
    // says so on every test's output.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let target = workspace().join("target/guests");
    fs::create_dir_all(&target)?;
    let lock = File::create(target.join("tests.lock"))?;
    lock.lock()?;
    let output = guest_build(name, &target).args(options).output().context("can't run cargo")?;
    ensure!(output.status.success(), "building {name}: {}", String::from_utf8_lossy(&output.stderr));
    let path = target.join(path);
    ensure!(path.is_file(), "building {name} made no {}", path.display());
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}

/// Builds one of the tests' own guests and packs it, by this crate's own writer of packages.
pub fn package(guest: &str) -> Result<Package> {
    package_of(guest, &folder_of(guest))
}

/// A package of a guest's code under the id and version of another, with more in its manifest.
pub fn package_as(
    id: &str,
    version: &str,
    guest: &str,
    change: impl Fn(String) -> String,
) -> Result<Package> {
    let component = fs::read(build(guest)?)?;
    let manifest = fs::read_to_string(folder_of(guest).join("app.toml"))?;
    let as_other = manifest
        .replacen(&format!("id = \"com.example.{guest}\""), &format!("id = \"{id}\""), 1)
        .replacen("version = \"0.1.0\"", &format!("version = \"{version}\""), 1);
    ensure!(as_other != manifest, "{guest} has another id or version");
    Ok(package::pack(&change(as_other), &component))
}

/// A next version of the guest `both`, with the code of `hostile`: it panics at `panic`.
pub fn both_that_panics() -> Result<Package> {
    package_as("com.example.hostile", "0.2.0", "hostile", |manifest| {
        manifest
            .replace("com.example.hostile", "com.example.both")
            .replace("[inputs.command]", "[inputs.scenario]")
    })
}

/// One of several apps of the same code, each with an id and a component of its own.
pub fn variant(guest: &str, number: u8) -> Result<Package> {
    let mut component = fs::read(build(guest)?)?;
    // A custom section: its kind, length, and name with length, then anything.
    component.extend(b"\x00\x09\x07variant");
    component.push(number);
    let manifest = fs::read_to_string(folder_of(guest).join("app.toml"))?;
    let id = format!("id = \"com.example.{guest}");
    ensure!(manifest.contains(&format!("{id}\"")), "{guest} has another id");
    Ok(package::pack(&manifest.replacen(&id, &format!("{id}-{number}"), 1), &component))
}

/// Builds and packs any app of the workspace.
pub fn package_of(name: &str, folder: &Path) -> Result<Package> {
    let component = fs::read(build(name)?)?;
    let manifest = fs::read_to_string(folder.join("app.toml"))?;
    Ok(package::pack(&manifest, &component))
}
