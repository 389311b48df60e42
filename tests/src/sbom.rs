//! SBOMs held against what cargo says by another way, and against the schema of CycloneDX.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use jsonschema::{Draft, Registry};
use serde_json::{Value, json};

use crate::guests::workspace;

/// A crate by its name and version.
type Crate = (String, String);

/// Checks the SBOM of an app in Rust by its crate's folder.
pub fn check(sbom: &Value, folder: &Path) -> Result<()> {
    check_schema(sbom)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no text: {value}"));
    let lock = folder.ancestors().map(|folder| folder.join("Cargo.lock")).find(|path| path.is_file());
    let lock = fs::read_to_string(lock.context("no Cargo.lock")?)?;
    let mut names = BTreeMap::new();
    let mut found = BTreeSet::new();
    for component in sbom["components"].as_array().context("no components")? {
        let name = (text(&component["name"])?, text(&component["version"])?);
        ensure!(component["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:cargo/")), "{component}");
        assert_eq!(component["hashes"][0]["content"].as_str(), checksum(&lock, &name)?, "{component}");
        names.insert(text(&component["bom-ref"])?, name.clone());
        ensure!(found.insert(name), "a crate comes twice: {component}");
    }

    let tree = tree(folder)?;
    let root = tree.iter().find(|(from, _)| from.is_none());
    let app = root.map(|(_, app)| app.clone()).context("cargo tree has no root")?;
    let listed: BTreeSet<Crate> =
        tree.iter().filter(|(from, _)| from.is_some()).map(|(_, to)| to.clone()).collect();
    assert_eq!(found, listed, "components, and what cargo tree lists");

    names.insert(text(&sbom["metadata"]["component"]["bom-ref"])?, app);
    let named = |reference: &Value| names.get(&text(reference)?).cloned().context("a stray reference");
    let mut edges = BTreeSet::new();
    for dependency in sbom["dependencies"].as_array().context("no dependencies")? {
        for to in dependency["dependsOn"].as_array().into_iter().flatten() {
            edges.insert((Some(named(&dependency["ref"])?), named(to)?));
        }
    }
    let listed: BTreeSet<_> = tree.into_iter().filter(|(from, _)| from.is_some()).collect();
    assert_eq!(edges, listed, "dependencies, and what cargo tree lists");
    Ok(())
}

/// The checksum that Cargo.lock has of a crate.
fn checksum<'a>(lock: &'a str, (name, version): &Crate) -> Result<Option<&'a str>> {
    let begin = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
    let (_, rest) = lock.split_once(&begin).with_context(|| format!("Cargo.lock lacks {name} {version}"))?;
    let mut lines = rest.lines().take_while(|line| !line.is_empty());
    Ok(lines.find_map(|line| line.strip_prefix("checksum = \"")?.strip_suffix('"')))
}

/// The crates that are linked into an app, each with one that is linked with it, as `cargo tree` lists them.
fn tree(folder: &Path) -> Result<BTreeSet<(Option<Crate>, Crate)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--target", "wasm32-wasip2"]);
    // Each line is such as `2 serde_core v1.0.229`.
    command.args(["--prefix", "depth", "--no-dedupe", "--format", " {p}"]).current_dir(folder);
    let output = command.output().context("can't run cargo")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let mut above: Vec<Crate> = Vec::new();
    let mut found = BTreeSet::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut words = line.split_whitespace();
        let mut word = || words.next().with_context(|| format!("an odd line of cargo tree: {line:?}"));
        let (depth, name, version) = (word()?.parse::<usize>()?, word()?, word()?);
        let one = (name.to_owned(), version.trim_start_matches('v').to_owned());
        above.truncate(depth);
        found.insert((above.last().cloned(), one.clone()));
        above.push(one);
    }
    Ok(found)
}

/// Checks a document against the schema of the CycloneDX project.
fn check_schema(sbom: &Value) -> Result<()> {
    let schema = fs::read(workspace().join("tests/cyclonedx/bom-1.5.schema.json"))?;
    let schema: Value = serde_json::from_slice(&schema)?;
    // The two schemas beside it let nothing through that they are for.
    let beside = |name: &str| format!("http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json");
    let nothing = json!({"not": {}});
    let registry = Registry::new()
        .add(beside("spdx"), &nothing)?
        .add(beside("jsf-0.82"), json!({"definitions": {"signature": nothing}}))?
        .prepare()?;
    let validator = jsonschema::options().with_draft(Draft::Draft7).with_registry(&registry).build(&schema);
    let validator = validator.map_err(|error| anyhow::anyhow!("the schema is none: {error}"))?;
    let problems: Vec<_> = validator.iter_errors(sbom).map(|error| error.to_string()).collect();
    ensure!(problems.is_empty(), "by the schema of CycloneDX: {problems:?}");
    Ok(())
}
