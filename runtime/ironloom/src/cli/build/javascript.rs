//! Apps in JavaScript: componentize-js, as the app's package-lock.json pins it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::super::output;
use super::tool::{Setup, run};

/// The component, within the app's folder.
const COMPONENT: &str = "target/app.wasm";

/// Makes the component of the app in a folder. Its packages are installed first, once.
pub(super) fn build(dir: &Path) -> anyhow::Result<PathBuf> {
    let modules = dir.join("node_modules");
    let setup = Setup::of(&dir.join("package-lock.json"), modules.join(".ironloom-lock"))?;
    if !setup.is_done() {
        output::note(&format!(
            "installing the packages of package-lock.json into {}, once",
            modules.display()
        ));
        let missing = "install Node 20 or later with npm";
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]), dir, "`npm ci`", missing)?;
        setup.done()?;
    }
    let target = dir.join("target");
    fs::create_dir_all(&target).with_context(|| format!("can't create the folder {}", target.display()))?;
    let make = ["ironloom/build.js", COMPONENT];
    run(Command::new("node").args(make), dir, "componentize-js", "install Node 20 or later")?;
    Ok(super::within(dir, COMPONENT))
}
