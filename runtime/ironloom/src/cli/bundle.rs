//! `ironloom bundle`: packs apps of a catalog into one file.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::catalog::Reach;
use super::catalog::known::{absolute, second};
use super::failure::{Failure, Outcome};
use super::{Global, output};
use crate::catalogs::bundle::{BundleError, Wanted, write};
use crate::catalogs::source::Source;
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::host_time;
use ironloom_types::ids::AppId;
use ironloom_types::text::clean;

/// Packs apps of a catalog, with its index and all that vouches for it, into one file. A site without internet takes it from
/// a USB stick: `ironloom catalog add FILE`, and later `ironloom catalog refresh NAME --source FILE`.
#[derive(Args, Debug)]
pub(super) struct Bundle {
    /// The catalog: a folder, a URL, or a repository of a registry, as oci://HOST/REPOSITORY
    source: String,
    /// The apps, as ID or ID@VERSION. Without a version, the newest
    #[arg(required = true, value_name = "APP")]
    apps: Vec<String>,
    /// The file for the bundle. One that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A public key that has signed the catalog's root, as its maker has told; more than once for several. Without any, the
    /// keys are shown and nothing is written
    #[arg(long, value_name = "KEY")]
    trust: Vec<PublicKey>,
    #[command(flatten)]
    reach: Reach,
}

impl Bundle {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let source =
            Source::new(&absolute(self.source)?).map_err(|error| Failure::Misuse(error.to_string()))?;
        let wanted = self.apps.iter().map(|app| wanted(app)).collect::<Result<Vec<_>, _>>()?;
        let access = self.reach.access(global);
        let bundled = write((&source, &access), &self.trust, &wanted, (&self.output, host_time()))?;
        let index = &bundled.index;
        let mut text = format!(
            "{}: index {} of {}, which expires at {}, {} bytes\n",
            self.output.display(),
            index.version,
            index.catalog,
            second(index.expires),
            bundled.bytes
        );
        for (id, version) in &bundled.apps {
            text.push_str(&format!("  {id} {}\n", version.version));
        }
        let apps: Vec<_> = bundled
            .apps
            .iter()
            .map(|(id, version)| json!({"id": id, "version": version.version, "package": version.digest}))
            .collect();
        output::print_or_json(
            global,
            &text,
            || json!({"catalog": index.catalog, "version": index.version, "expires": index.expires, "apps": apps, "bytes": bundled.bytes}),
        )
    }
}

fn wanted(text: &str) -> Result<Wanted, Failure> {
    let (id, version) = match text.split_once('@') {
        Some((id, version)) => (id, Some(version)),
        None => (text, None),
    };
    let wrong = || Failure::Misuse(format!("{text:?} is no app, written as ID or ID@VERSION"));
    let version = version.map(|version| version.parse().map_err(|_| wrong())).transpose()?;
    Ok(Wanted { id: AppId::new(id).map_err(|_| wrong())?, version })
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let hint = match &error {
            BundleError::Look(look) if look.wants_key() => {
                "\nhint: Compare these keys with what its maker has told you by another way, then name them with --trust KEY."
            }
            _ => "",
        };
        Self::File(format!("{}{hint}", clean(&error.to_string())))
    }
}
