//! `ironloom build`: from an app's folder to its package.

mod cargo;
mod component;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use ironloom_apps::manifest::Manifest;
use ironloom_apps::package;
use ironloom_apps::roles::check_component;
use ironloom_types::ids::Digest;

/// The largest README that goes into a package, in bytes. A larger one is left out.
const MAX_README: usize = 1 << 20;

/// Builds an app and packs it as one file.
#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// The app's folder, with its Cargo.toml and app.toml
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Further arguments for `cargo build`, such as --offline
    #[arg(last = true)]
    pub cargo: Vec<String>,
}

/// The result of a build.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Built {
    pub path: PathBuf,
    pub digest: Digest,
    /// The app's id.
    pub id: String,
    /// The app's version.
    pub version: String,
    /// The size of the package in bytes.
    pub bytes: usize,
}

/// Runs the command: prints path and digest, or with `json` all of [`Built`].
pub(crate) fn run(args: &BuildArgs, json: bool) -> anyhow::Result<()> {
    let built = build(&args.dir, &args.cargo)?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&built)?)?;
    } else {
        writeln!(out, "{}\n{}", built.path.display(), built.digest)?;
    }
    Ok(())
}

/// Builds the app in a folder and writes its package into the folder's `target`.
///
/// # Errors
/// All problems of the manifest, the build, or the component's exports and imports.
pub(crate) fn build(dir: &Path, cargo_arguments: &[String]) -> anyhow::Result<Built> {
    let manifest_path = within(dir, "app.toml");
    let text = fs::read_to_string(&manifest_path).with_context(|| {
        format!("can't read {}; `ironloom new NAME` creates an app to start from", manifest_path.display())
    })?;
    let manifest =
        Manifest::parse(&text).map_err(|problems| anyhow::anyhow!(problems.of_file(&manifest_path)))?;

    cargo::ensure_target(dir)?;
    let krate = cargo::Crate::in_folder(dir)?;
    if krate.version != manifest.version {
        let mut err = std::io::stderr().lock();
        writeln!(
            err,
            "warning: the version is {} in app.toml and {} in Cargo.toml; the one in app.toml counts",
            manifest.version, krate.version
        )?;
    }
    let wasm = krate.build(cargo_arguments)?;
    let component = fs::read(&wasm).with_context(|| format!("can't read {}", wasm.display()))?;
    package::check_component_header(&component)
        .map_err(|problem| anyhow::anyhow!("{}: {problem}", wasm.display()))?;
    let (imports, exports) =
        component::names(&component).with_context(|| format!("{} is not valid", wasm.display()))?;
    check_component(&manifest, &imports, &exports)
        .map_err(|problems| anyhow::anyhow!(problems.of_file(&manifest_path)))?;

    let readme = fs::read(dir.join("README.md")).ok().filter(|page| page.len() <= MAX_README);
    let extras: Vec<(&str, &[u8])> = readme.iter().map(|page| ("text/markdown", page.as_slice())).collect();
    let (digest, tar) = package::write(&text, &component, &extras)?;
    let folder = within(dir, "target");
    let path = folder.join(format!("{}-{}.app.tar", krate.name, manifest.version));
    write_whole(&folder, &path, &tar).with_context(|| format!("can't write {}", path.display()))?;
    Ok(Built { path, digest, id: manifest.id.to_string(), version: manifest.version, bytes: tar.len() })
}

/// A path in a folder, without `./` in front of it.
pub(super) fn within(dir: &Path, name: &str) -> PathBuf {
    if dir == Path::new(".") { PathBuf::from(name) } else { dir.join(name) }
}

/// Writes a file so that nobody ever sees half of it.
fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    // A temporary file is its owner's alone; a package is for everybody who may see the folder.
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// Checks a name for a new app: it becomes the name of a crate and a part of the app's id.
pub(super) fn check_app_name(name: &str) -> anyhow::Result<()> {
    ironloom_types::ids::SlotName::new(name)?;
    if cargo::is_taken(name) {
        bail!("{name:?} is a word of Rust or the name of one of its libraries; choose another name");
    }
    Ok(())
}
