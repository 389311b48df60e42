//! `ironloom pack`: from a component, whatever made it, and its manifest to a package.

#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::extras;
use ironloom_apps::manifest::{MAX_MANIFEST_BYTES, Manifest};
use ironloom_apps::package::{self, README_MEDIA_TYPE, SBOM_MEDIA_TYPE};
use ironloom_apps::roles::check_component;
use ironloom_sandbox::names;
use ironloom_storage::small_files::{self, ReadError};
use ironloom_types::ids::Digest;
use ironloom_types::limits::MAX_PACKAGE;

/// The largest README that goes into a package, in bytes. A larger one is left out.
const MAX_README: u64 = 1 << 20;

/// Packs a component, built by any toolchain, and its manifest as one file.
#[derive(Args, Debug)]
pub(crate) struct PackArgs {
    /// The component
    #[arg(value_name = "COMPONENT.wasm")]
    pub component: PathBuf,
    /// The app's manifest. A README.md beside it goes into the package
    #[arg(long, value_name = "FILE", default_value = "app.toml")]
    pub manifest: PathBuf,
    /// An SBOM to put into the package: a CycloneDX document, as JSON
    #[arg(long, value_name = "FILE")]
    pub sbom: Option<PathBuf>,
    /// The file to write [default: beside the component, named after the app's id and version]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The package that was written.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Packed {
    pub path: PathBuf,
    pub digest: Digest,
    /// The app's id.
    pub id: String,
    /// The app's version.
    pub version: String,
    /// The size of the package in bytes.
    pub bytes: usize,
}

impl Packed {
    /// Prints path and digest, or with `json` all of it.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
        } else {
            writeln!(out, "{}\n{}", self.path.display(), self.digest)?;
        }
        Ok(())
    }
}

/// Runs the command.
pub(crate) fn run(args: &PackArgs, json: bool) -> anyhow::Result<()> {
    let app = App::read(&args.manifest)?;
    let path = args.output.clone().unwrap_or_else(|| {
        let folder = args.component.parent().unwrap_or(Path::new(""));
        folder.join(app.file_name(app.short_name()))
    });
    let sbom = args.sbom.as_deref().map(extras::read_sbom).transpose()?;
    app.pack(&args.component, sbom.as_deref(), &path)?.print(json)
}

/// The manifest of an app that is to be packed, and its place.
#[derive(Debug)]
pub(super) struct App {
    pub(super) manifest: Manifest,
    text: String,
    path: PathBuf,
}

impl App {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// A file that can't be read; all problems of the manifest.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = small_files::read_text(path, MAX_MANIFEST_BYTES as u64).map_err(|error| match error {
            ReadError::Io { path, error } => anyhow::Error::new(error).context(format!(
                "can't read the manifest {}; `ironloom new NAME` makes an app to start from",
                path.display()
            )),
            error => error.into(),
        })?;
        let manifest = Manifest::parse(&text).map_err(|problems| anyhow::anyhow!(problems.of_file(path)))?;
        Ok(Self { manifest, text, path: path.to_owned() })
    }

    /// The last part of the app's id.
    pub(super) fn short_name(&self) -> &str {
        let id = self.manifest.id.as_str();
        id.rsplit('.').next().unwrap_or(id)
    }

    /// The name of a package's file.
    pub(super) fn file_name(&self, name: &str) -> String {
        format!("{name}-{}.app.tar", self.manifest.version)
    }

    /// Checks a component against the manifest and writes both as a package, with an SBOM where there is one.
    ///
    /// # Errors
    /// A file that can't be read or isn't a component; all problems of its exports and imports; a package that is
    /// too large, or can't be written.
    pub(super) fn pack(&self, component: &Path, sbom: Option<&[u8]>, path: &Path) -> anyhow::Result<Packed> {
        let bytes = read_component(component)?;
        let (imports, exports) =
            names(&bytes).with_context(|| format!("{} is not valid", component.display()))?;
        check_component(&self.manifest, &imports, &exports)
            .map_err(|problems| anyhow::anyhow!(problems.of_file(&self.path)))?;

        let readme = small_files::read(&self.path.with_file_name("README.md"), MAX_README).ok();
        let extras: Vec<(&str, &[u8])> = [(SBOM_MEDIA_TYPE, sbom), (README_MEDIA_TYPE, readme.as_deref())]
            .into_iter()
            .filter_map(|(media_type, bytes)| Some((media_type, bytes?)))
            .collect();
        let (digest, tar) = package::write(&self.text, &bytes, &extras)?;
        small_files::write(path, &tar).with_context(|| format!("can't write {}", path.display()))?;
        let Manifest { id, version, .. } = &self.manifest;
        Ok(Packed {
            path: path.to_owned(),
            digest,
            id: id.to_string(),
            version: version.clone(),
            bytes: tar.len(),
        })
    }
}

fn read_component(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = small_files::read(path, MAX_PACKAGE as u64).map_err(|error| match error {
        ReadError::Io { path, error } => {
            anyhow::Error::new(error).context(format!("can't read {}", path.display()))
        }
        ReadError::TooLarge { path, size: Some(size), .. } => {
            anyhow::anyhow!("{} has {size} bytes; a package may have at most {MAX_PACKAGE}", path.display())
        }
        error => error.into(),
    })?;
    package::check_component_header(&bytes)
        .map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))?;
    Ok(bytes)
}
