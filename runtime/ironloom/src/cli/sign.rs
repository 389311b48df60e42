//! `ironloom sign`: adds a signature to a package.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::failure::{Failure, Outcome};
use super::key::{self, Passphrase};
use super::{Global, inspect, verify};
use ironloom_apps::package;
use ironloom_storage::small_files;

/// Signs a package: with its publisher's key, or with another one beside it. Its identity, the digest, stays.
#[derive(Args, Debug)]
pub(super) struct Sign {
    /// The package, as `ironloom build` makes it
    file: PathBuf,
    /// The file of the secret key, as `ironloom key new` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write the signed package here, instead of over the one that was read
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Sign {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let bytes = inspect::bytes(&self.file)?;
        inspect::read(&self.file, &bytes)?;
        let key = key::open(&self.key, &self.passphrase)?;
        let signed = package::sign(&bytes, &key)
            .map_err(|error| Failure::File(format!("{}: {error}", self.file.display())))?;
        let output = self.output.as_ref().unwrap_or(&self.file);
        small_files::write(output, &signed).with_context(|| format!("can't write {}", output.display()))?;
        verify::show(&inspect::read(output, &signed)?, global)
    }
}
