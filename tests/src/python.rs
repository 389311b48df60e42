//! Python with packages from PyPI, as peers that share no code with the runtime.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guests::workspace;
use crate::registries::has_no_such_version;

/// A package from PyPI.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    name: &'static str,
    module: &'static str,
    version: &'static str,
}

pub const PYARROW: Package = Package { name: "pyarrow", module: "pyarrow", version: "26.0.1" };
pub const POLARS: Package = Package { name: "polars", module: "polars", version: "2.1.0" };
pub const AMQTT: Package = Package { name: "amqtt", module: "amqtt", version: "0.11.4" };
pub const CLIENT_GENERATOR: Package =
    Package { name: "openapi-python-client", module: "openapi_python_client", version: "0.29.1" };

/// The interpreter of a virtual environment that has a package; `None` where this machine has no Python or can't install
/// it, which is said as not tested.
pub fn with(package: Package, what: &str) -> Result<Option<PathBuf>> {
    let Package { name, module, version } = package;
    let folder = workspace().join("target/python");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("tests.lock"))?;
    lock.lock()?;
    let environment = folder.join(name);
    let python = environment.join("bin/python");
    let has_it =
        |python: &PathBuf| run(Command::new(python).args(["-c", &format!("import {module}")])).is_ok();
    if has_it(&python) {
        return Ok(Some(python));
    }
    let made =
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment)).and_then(|()| {
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(Command::new(&python).args(pip).arg(format!("{name}=={version}")))
        });
    if let Err(error) = made {
        ensure!(!has_no_such_version(&error.to_string()), "{error:#}");
        ironloom_mutate::missing(name, what, &format!("{error:#}").replace('\n', " "));
        return Ok(None);
    }
    Ok(Some(python))
}

/// Runs a command to its end, which must be a success.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("can't run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
