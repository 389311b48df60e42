//! `ironloom build`: from an app's folder to its package.

mod cargo;
mod javascript;
mod python;
mod sbom;
mod tool;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::extras::MAX_SBOM;
use super::output;
use super::pack::{App, Packed};

/// Builds an app and packs it as one file.
#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// The app's folder, with its app.toml, and its Cargo.toml, requirements.txt (Python) or package.json (JavaScript)
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Further arguments for `cargo build`, such as --offline
    #[arg(last = true)]
    pub cargo: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &BuildArgs, json: bool) -> anyhow::Result<()> {
    build(&args.dir, &args.cargo)?.print(json)
}

/// Builds the app in a folder and writes its package into the folder's `target`.
///
/// # Errors
/// All problems of the manifest, the build, or the component's exports and imports.
pub(crate) fn build(dir: &Path, cargo_arguments: &[String]) -> anyhow::Result<Packed> {
    let app = App::read(&within(dir, "app.toml"))?;
    let (name, component, sbom) = if dir.join("Cargo.toml").is_file() {
        build_rust(dir, &app, cargo_arguments)?
    } else {
        if !cargo_arguments.is_empty() {
            bail!("the arguments after `--` are for cargo, and {} has no Cargo.toml", dir.display());
        }
        let component = if dir.join("package.json").is_file() {
            javascript::build(dir)?
        } else if dir.join("requirements.txt").is_file() {
            python::build(dir)?
        } else {
            bail!(
                "{} has neither Cargo.toml (Rust), requirements.txt (Python) nor package.json (JavaScript); build a \
                 component in any other language with its own tools, then `ironloom pack COMPONENT.wasm`",
                dir.display()
            );
        };
        (app.short_name().to_owned(), component, None)
    };
    app.pack(&component, sbom.as_deref(), &within(dir, "target").join(app.file_name(&name)))
}

/// Gives the name of the crate, the component and the SBOM.
fn build_rust(
    dir: &Path,
    app: &App,
    arguments: &[String],
) -> anyhow::Result<(String, PathBuf, Option<Vec<u8>>)> {
    cargo::ensure_target(dir)?;
    let krate = cargo::Crate::in_folder(dir)?;
    if krate.version != app.manifest.version {
        output::note(&format!(
            "warning: the version is {} in app.toml and {} in Cargo.toml; the one in app.toml counts",
            app.manifest.version, krate.version
        ));
    }
    let built = krate.build(arguments)?;
    let sbom = sbom::document(&app.manifest, &krate.graph(arguments)?, &krate.lock()?, &built.linked)?;
    Ok((krate.name, built.component, bounded(sbom)))
}

/// Leaves out an SBOM that is too large, and says so.
fn bounded(sbom: Vec<u8>) -> Option<Vec<u8>> {
    if sbom.len() > MAX_SBOM {
        let bytes = sbom.len();
        output::note(&format!(
            "warning: the SBOM has {bytes} bytes; at most {MAX_SBOM} go into a package, so it has none"
        ));
        return None;
    }
    Some(sbom)
}

/// A path in a folder, without `./` in front of it.
pub(super) fn within(dir: &Path, name: &str) -> PathBuf {
    if dir == Path::new(".") { PathBuf::from(name) } else { dir.join(name) }
}

/// Checks a name for a new app: it becomes a part of the app's id.
pub(super) fn check_app_name(name: &str) -> anyhow::Result<()> {
    ironloom_types::ids::SlotName::new(name)?;
    Ok(())
}

/// Checks a name for a new app in Rust: it becomes the name of a crate, too.
pub(super) fn check_crate_name(name: &str) -> anyhow::Result<()> {
    if cargo::is_taken(name) {
        bail!("{name:?} is a word of Rust or the name of one of its libraries; choose another name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sbom_that_is_too_large_is_left_out() {
        assert_eq!(bounded(vec![b' '; MAX_SBOM]).map(|sbom| sbom.len()), Some(MAX_SBOM));
        assert_eq!(bounded(vec![b' '; MAX_SBOM + 1]), None);
    }
}
