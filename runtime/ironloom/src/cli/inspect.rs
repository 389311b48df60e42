//! `ironloom inspect`: what an app asks for, from its package, without a server.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;

use super::failure::{Failure, Outcome};
use super::{Global, described, extras, output};
use crate::api::facade::PackageInfo;
use ironloom_apps::package::{self, PackageError};
use ironloom_apps::roles::check_component;
use ironloom_sandbox::{CompileError, look};
use ironloom_storage::small_files::{self, ReadError};
use ironloom_types::limits::MAX_PACKAGE;
use ironloom_types::text::clean;

/// Shows what an app asks for, from its package file. Its code is looked at in a process of its own that can't reach
/// anything, and isn't run.
#[derive(Args, Debug)]
pub(super) struct Inspect {
    /// The package, as `ironloom build` makes it
    file: PathBuf,
    /// Print the package's SBOM and nothing else: a CycloneDX document
    #[arg(long, conflicts_with = "readme")]
    sbom: bool,
    /// Print the package's README and nothing else
    #[arg(long)]
    readme: bool,
}

impl Inspect {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let file = bytes(&self.file)?;
        let package = read(&self.file, &file)?;
        if self.sbom {
            return extras::print_sbom(&self.file, &package);
        }
        if self.readme {
            return extras::print_readme(&self.file, &package);
        }
        let info = inspect(&self.file, &package)?;
        if global.json {
            let json = serde_json::to_string(&info).context("it can't be written as JSON")?;
            return output::json_text(&format!("{json}\n"));
        }
        let mut further = extras::in_words(&package);
        further.insert(0, ("size", format!("{} bytes", file.len())));
        output::print(&described::text(&info, &further))
    }
}

/// Checks all of a package that shows without compiling its code.
fn inspect(file: &Path, package: &package::Package) -> Result<PackageInfo, Failure> {
    let name = file.display();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The running binary, even if another version has replaced its file.
    let worker = Path::new("/proc/self/exe");
    let surface = runtime.block_on(look(worker, package.component.clone())).map_err(|error| match error {
        CompileError::Worker(_) => {
            Failure::from(anyhow::anyhow!("the component can't be looked at: {error}"))
        }
        error => Failure::File(format!("{name}: {error}")),
    })?;
    check_component(&package.manifest, &surface.imports, &surface.exports)
        .map_err(|problems| Failure::File(problems.of_file(file)))?;
    let signers = package.signed.signers().collect();
    Ok(PackageInfo::of(&package.manifest, package.digest, signers, surface.imports, surface.sdk_version))
}

/// The bytes of a package's file.
pub(super) fn bytes(file: &Path) -> Result<Bytes, Failure> {
    let read = small_files::read(file, MAX_PACKAGE as u64);
    read.map(Bytes::from).map_err(|error| {
        Failure::File(match error {
            // In the words for a package that has too many bytes wherever it comes from.
            ReadError::TooLarge { size: Some(size), .. } => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                format!("{}: {}", file.display(), PackageError::TooLarge { size, limit: MAX_PACKAGE })
            }
            error => error.to_string(),
        })
    })
}

/// Reads a package, which a file has; everything but its code is checked.
pub(super) fn read(file: &Path, bytes: &Bytes) -> Result<package::Package, Failure> {
    let name = file.display();
    if let Some(said) = package::not_packed(bytes) {
        return Err(Failure::File(format!("{name}: {said}")));
    }
    package::read(bytes).map_err(|error| {
        Failure::File(match &error {
            PackageError::Manifest(problems) => problems.of_file(&file.join("app.toml")),
            // Some of it stands in the package: a line feed in there makes no line.
            error => format!("{name}: {}", clean(&error.to_string())),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_too_large_is_refused_by_its_length() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_PACKAGE as u64).unwrap();
        assert_eq!(bytes(file.path()).unwrap().len(), MAX_PACKAGE);
        file.as_file().set_len(1 << 40).unwrap();
        assert_eq!(
            bytes(file.path()).unwrap_err().to_string(),
            format!(
                "error: {}: the package has 1099511627776 bytes; at most 67108864 are allowed",
                file.path().display()
            )
        );
        let none = bytes(Path::new("none.app.tar")).unwrap_err().to_string();
        assert!(none.starts_with("error: none.app.tar can't be read: No such file"), "{none}");
    }
}
