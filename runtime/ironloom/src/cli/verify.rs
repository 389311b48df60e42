//! `ironloom verify`: who has signed a package.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::{Global, inspect, output};
use ironloom_apps::package::Package;
use ironloom_trust::key::PublicKey;
use ironloom_types::text::listed;

/// Checks all of a package but its code, which isn't compiled, and shows who has signed it.
#[derive(Args, Debug)]
pub(super) struct Verify {
    /// The package
    file: PathBuf,
    /// A public key that must have signed it; more than once for several
    #[arg(long, value_name = "KEY")]
    key: Vec<PublicKey>,
}

impl Verify {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let name = self.file.display();
        let package = inspect::read(&self.file, &inspect::bytes(&self.file)?)?;
        let signers: Vec<PublicKey> = package.signed.signers().collect();
        if let Some(missing) = self.key.iter().find(|key| !signers.contains(key)) {
            let by = if signers.is_empty() { "nobody".to_owned() } else { listed(&signers) };
            return Err(Failure::File(format!("{name}: isn't signed by {missing}; it is signed by {by}")));
        }
        if signers.is_empty() {
            return Err(Failure::File(format!(
                "{name}: isn't signed; `ironloom sign {name} --key FILE` signs it"
            )));
        }
        show(&package, global)?;
        if self.key.is_empty() {
            output::note(
                "the signatures fit. Whose keys these are, their publishers say; --key KEY asks for one",
            );
        }
        Ok(())
    }
}

/// A package and its signers.
pub(super) fn show(package: &Package, global: &Global) -> Outcome {
    let signers: Vec<PublicKey> = package.signed.signers().collect();
    let (id, version) = (&package.manifest.id, &package.manifest.version);
    let lines: Vec<String> = signers.iter().map(|key| format!("{:<14}{key}\n", "signed by")).collect();
    let digest = package.digest;
    let text = format!("{:<14}{id} {version}\n{:<14}{digest}\n{}", "app", "package", lines.concat());
    let json = || json!({"id": id, "version": version, "digest": digest, "signers": signers});
    output::print_or_json(global, &text, json)
}
