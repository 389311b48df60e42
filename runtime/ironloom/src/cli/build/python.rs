//! Apps in Python: componentize-py in a virtual environment of the app's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::super::output;
use super::tool::{Setup, run};

/// The environment, within the app's folder.
const VENV: &str = "target/venv";
/// The component, within the app's folder.
const COMPONENT: &str = "target/app.wasm";

/// Makes the component of the app in a folder. What `requirements.txt` names is installed first, once.
pub(super) fn build(dir: &Path) -> anyhow::Result<PathBuf> {
    let venv = dir.join(VENV);
    let setup = Setup::of(&dir.join("requirements.txt"), venv.join("ironloom-requirements"))?;
    if !setup.is_done() {
        output::note(&format!("installing the requirements into {}, once", venv.display()));
        let interpreter = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let missing =
            "install Python 3.9 or later with its module venv (Debian: python3-venv), or name it in PYTHON";
        let mut make = Command::new(interpreter);
        run(make.args(["-m", "venv", "--clear", VENV]), dir, "`python3 -m venv`", missing)?;
        let mut install = Command::new(program(dir, "python")?);
        let quietly = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
        run(
            install.args(quietly).args(["--require-hashes", "--requirement", "requirements.txt"]),
            dir,
            "`pip install --requirement requirements.txt`",
            "the environment has no pip",
        )?;
        setup.done()?;
    }
    let mut make = Command::new(program(dir, "componentize-py")?);
    run(
        make.args(["--wit-path", "wit", "--world", "app", "componentize", "app", "--output", COMPONENT]),
        dir,
        "componentize-py",
        "requirements.txt must name it",
    )?;
    Ok(super::within(dir, COMPONENT))
}

/// A program of the environment, by a path that holds in any folder.
fn program(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    // Not resolved further: an environment is known by the path of its links.
    let dir = dir.canonicalize().with_context(|| format!("can't find the folder {}", dir.display()))?;
    Ok(dir.join(VENV).join("bin").join(name))
}
