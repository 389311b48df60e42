//! Installs the tools that must be there before anything runs.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo::{cargo, workspace};

/// The oldest toolchain that builds the runtime, and the one that is fetched where there is only an older one.
const TOOLCHAIN: &str = "1.97.0";

/// The target that apps are compiled for.
const WASM: &str = "wasm32-wasip2";

/// Goes on under a toolchain that is new enough. It is fetched through rustup; the default stays as it is.
pub(crate) fn ensure_toolchain() -> Result<()> {
    let Some(release) = release_of_rustc()? else { return Ok(()) };
    if is_at_least(&release, TOOLCHAIN) {
        return Ok(());
    }
    let needed = format!("Rust {TOOLCHAIN} or later is needed, and this is {release}");
    ensure!(std::env::var_os(FETCHED).is_none(), "{needed}, although {TOOLCHAIN} was fetched");
    eprintln!("== {needed}: rustup toolchain install {TOOLCHAIN}");
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", TOOLCHAIN, "--no-self-update", "--profile", "minimal"]);
    rustup.args(["--component", "clippy", "--component", "rustfmt"]);
    let status = rustup.status().with_context(|| format!("{needed}; update it the way it was installed"))?;
    ensure!(status.success(), "`rustup toolchain install {TOOLCHAIN}` ended with {status}");
    let mut again = Command::new("cargo");
    again.args(["run", "--quiet", "--release", "--package", "xtask", "--"]).args(std::env::args_os().skip(1));
    again.current_dir(workspace()).env_remove("CARGO").env_remove("RUSTC");
    let error = again.env("RUSTUP_TOOLCHAIN", TOOLCHAIN).env(FETCHED, "1").exec();
    Err(error).context("can't run cargo")
}

/// Set for the process that goes on under the toolchain that was fetched.
const FETCHED: &str = "IRONLOOM_TOOLCHAIN_FETCHED";

/// The version of the compiler, such as `1.97.0`; `None` where it doesn't say.
fn release_of_rustc() -> Result<Option<String>> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output = rustc.arg("-vV").current_dir(workspace()).output();
    let output = output.context("can't run rustc; install Rust as https://rustup.rs says")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().find_map(|line| line.strip_prefix("release: ")).map(str::to_owned))
}

/// Compares major and minor version.
fn is_at_least(release: &str, least: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        version.split(['.', '-']).take(2).map_while(|part| part.parse().ok()).collect()
    };
    numbers(release) >= numbers(least)
}

/// Says that there is no `make`, which builds the allocator, before that build ends with words of its own.
fn ensure_make() -> Result<()> {
    let found = Command::new("make").arg("--version").output().is_ok_and(|output| output.status.success());
    ensure!(
        found,
        "`make` builds the allocator, and isn't there: install it (Debian: apt install build-essential)"
    );
    Ok(())
}

/// Adds the target of apps where the toolchain lacks it.
pub(crate) fn ensure_wasm_target() -> Result<()> {
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

/// The result of a build.
pub(crate) struct Built {
    /// The folder of the binaries.
    pub release: PathBuf,
}

/// Builds binaries of the workspace. Always as a part of the whole workspace: which features
/// dependencies get depends on the packages that are built together, and a dependency with other
/// features is built again. `options` are further ones of `cargo build`.
pub(crate) fn build(binaries: &[&str], features: &[&str], options: &[&str]) -> Result<Built> {
    ensure_make()?;
    let mut arguments = vec!["build", "--release", "--workspace"];
    arguments.extend(options);
    arguments.extend(binaries.iter().flat_map(|binary| ["--bin", *binary]));
    arguments.extend(features.iter().flat_map(|feature| ["--features", *feature]));
    cargo(&arguments).run(&format!("builds {}", binaries.join(" and ")))?;
    let release = target_folder()?.join("release");
    for binary in binaries {
        ensure!(release.join(binary).is_file(), "cargo left no {}", release.join(binary).display());
    }
    Ok(Built { release })
}

/// The folder in which cargo builds.
fn target_folder() -> Result<PathBuf> {
    // All of cargo is called in the root of the workspace, and takes a relative folder from there.
    let folder = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) if folder.is_empty() => bail!("CARGO_TARGET_DIR is empty"),
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    };
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(is_at_least("1.97.0", "1.97.0"));
        assert!(is_at_least("1.100.0-nightly", "1.97.0"));
        assert!(is_at_least("2.0.0", "1.97.0"));
        assert!(!is_at_least("1.95.0", "1.97.0"));
        assert!(!is_at_least("1.9.1", "1.97.0"));
    }
}
