//! Apps in JavaScript: componentize-js, as the app's package-lock.json pins it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;

use super::super::output;
use super::tool::{Setup, read, run};

/// The component, within the app's folder.
const COMPONENT: &str = "target/app.wasm";

/// Makes the component of the app in a folder. Its packages are installed first, once.
pub(super) fn build(dir: &Path) -> anyhow::Result<PathBuf> {
    let modules = dir.join("node_modules");
    let lock = dir.join("package-lock.json");
    let setup = Setup::of(&lock, modules.join(".ironloom-lock"))?;
    if !setup.is_done() {
        if !is_installed(&lock, &modules) {
            let modules = modules.display();
            output::note(&format!("installing the packages of package-lock.json into {modules}, once"));
            let missing = "install Node 20 or later with npm";
            run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]), dir, "`npm ci`", missing)?;
        }
        setup.done()?;
    }
    let target = dir.join("target");
    fs::create_dir_all(&target).with_context(|| format!("can't create the folder {}", target.display()))?;
    let make = ["ironloom/build.js", COMPONENT];
    run(Command::new("node").args(make), dir, "componentize-js", "install Node 20 or later")?;
    Ok(super::within(dir, COMPONENT))
}

/// The parts of a lock file of npm's that are used.
#[derive(Deserialize)]
struct Lock {
    packages: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    version: Option<String>,
    integrity: Option<String>,
    #[serde(default)]
    optional: bool,
}

/// Says whether npm has installed these packages already, as after the developer's own `npm ci`: it leaves a lock file of what
/// it has installed, without those that are for other machines.
fn is_installed(lock: &Path, modules: &Path) -> bool {
    let packages = |path: &Path| Some(serde_json::from_slice::<Lock>(&read(path).ok()?).ok()?.packages);
    let (Some(pinned), Some(installed)) = (packages(lock), packages(&modules.join(".package-lock.json")))
    else {
        return false;
    };
    let is_pinned = |(name, found): (&String, &Locked)| {
        pinned.get(name).is_some_and(|of| of.version == found.version && of.integrity == found.integrity)
    };
    // The one without a name is the app itself.
    let is_there =
        |(name, of): (&String, &Locked)| name.is_empty() || of.optional || installed.contains_key(name);
    installed.iter().all(is_pinned) && pinned.iter().all(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn packages_that_npm_has_installed_are_not_installed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, modules) = (folder.path().join("package-lock.json"), folder.path().join("node_modules"));
        fs::create_dir(&modules).unwrap();
        let write = |path: &Path, packages: serde_json::Value| {
            fs::write(path, json!({"lockfileVersion": 3, "packages": packages}).to_string()).unwrap();
        };
        let package = |version: &str| json!({"version": version, "integrity": format!("sha512-{version}"), "dev": true});
        let foreign = json!({"version": "1", "optional": true, "os": ["aix"]});
        let pinned = json!({"": {"name": "app"}, "node_modules/a": package("1"), "node_modules/b": foreign});
        write(&lock, pinned);
        assert!(!is_installed(&lock, &modules), "nothing is");
        let installed = modules.join(".package-lock.json");
        write(&installed, json!({"node_modules/a": package("1")}));
        assert!(is_installed(&lock, &modules));
        for other in [
            json!({}),
            json!({"node_modules/a": package("2")}),
            json!({"node_modules/a": package("1"), "node_modules/c": package("1")}),
        ] {
            write(&installed, other.clone());
            assert!(!is_installed(&lock, &modules), "{other}");
        }
        fs::write(&installed, "{").unwrap();
        assert!(!is_installed(&lock, &modules));
    }
}
