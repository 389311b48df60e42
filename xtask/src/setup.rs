//! What has to be there before anything runs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo::{cargo, workspace};

/// What apps are compiled for.
const WASM: &str = "wasm32-wasip2";

/// Adds the target of apps where the toolchain lacks it.
pub fn ensure_wasm_target() -> Result<()> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "target-libdir", "--target", WASM]).current_dir(workspace());
    let output = rustc.output().context("can't run rustc; install Rust as https://rustup.rs says")?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && libraries.is_dir() {
        return Ok(());
    }
    eprintln!("== the target of apps: rustup target add {WASM}");
    let mut rustup = Command::new("rustup");
    let added = rustup.args(["target", "add", WASM]).current_dir(workspace()).status();
    let status = added.with_context(|| {
        format!("can't run rustup: add the target {WASM} to the toolchain the way Rust was installed")
    })?;
    ensure!(status.success(), "`rustup target add {WASM}` ended with {status}");
    Ok(())
}

/// What was built.
pub struct Built {
    /// The folder of the binaries.
    pub release: PathBuf,
}

/// Builds binaries of the workspace. Always as a part of the whole workspace: which features
/// dependencies get depends on the packages that are built together, and a dependency with other
/// features is built again.
pub fn build(binaries: &[&str], features: &[&str]) -> Result<Built> {
    let mut arguments = vec!["build", "--release", "--workspace"];
    arguments.extend(binaries.iter().flat_map(|binary| ["--bin", *binary]));
    arguments.extend(features.iter().flat_map(|feature| ["--features", *feature]));
    cargo(&arguments).run(&format!("builds {}", binaries.join(" and ")))?;
    let release = target_folder()?.join("release");
    for binary in binaries {
        ensure!(release.join(binary).is_file(), "cargo left no {}", release.join(binary).display());
    }
    Ok(Built { release })
}

/// Where cargo builds.
fn target_folder() -> Result<PathBuf> {
    // All of cargo is called in the root of the workspace, and takes a relative folder from there.
    let folder = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) if folder.is_empty() => bail!("CARGO_TARGET_DIR is empty"),
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    };
    Ok(folder)
}
