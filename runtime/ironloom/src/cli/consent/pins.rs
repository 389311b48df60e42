//! The file that pins what installations may get, for installs that nobody watches.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::api::facade::{Consent, Rights};
use crate::cli::failure::{Failure, Outcome};
use ironloom_storage::small_files;
use ironloom_types::ids::InstallationId;
use ironloom_types::limits::MIB;

/// The longest file.
const MAX_FILE: u64 = 64 * MIB;
/// Differences that are told one by one.
const MOST_TOLD: usize = 20;

const HEAD: &str =
    "# What these installations may get at most. Points that appear later are among those of a pattern.\n\n";

/// The most that installations may get.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pins {
    installations: Vec<Pinned>,
}

/// The most that one may get.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    id: InstallationId,
    rights: Rights,
}

impl Pins {
    pub(super) fn of<'c>(all: impl Iterator<Item = (&'c InstallationId, &'c Consent)>) -> Self {
        let pinned = all.map(|(id, consent)| Pinned { id: id.clone(), rights: consent.rights.clone() });
        Self { installations: pinned.collect() }
    }

    /// Writes a new file.
    pub(super) fn write(&self, path: &Path) -> Outcome {
        let text = toml::to_string_pretty(self).context("the grants can't be written")?;
        let file =
            File::create_new(path).and_then(|mut file| file.write_all(format!("{HEAD}{text}").as_bytes()));
        Ok(file.with_context(|| format!("{} can't be written", path.display()))?)
    }

    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = small_files::read_text(path, MAX_FILE)?;
        toml::from_str(&text).map_err(|error| {
            let at = error
                .span()
                .map_or(0, |span| text.get(..span.start).map_or(0, |before| before.lines().count()));
            Failure::File(format!("{}:{}: {}", path.display(), at.max(1), error.message()))
        })
    }

    /// Refuses what goes beyond the file, and names all of it.
    pub(super) fn check(&self, all: &[(&InstallationId, &Consent)], path: &Path) -> Outcome {
        let mut beyond = Vec::new();
        for (id, consent) in all {
            match self.installations.iter().find(|pinned| pinned.id == **id) {
                None => beyond.push(format!("{id}: the file has no installation of this id")),
                Some(pinned) => beyond.extend(
                    consent
                        .rights
                        .beyond(&pinned.rights)
                        .into_iter()
                        .map(|excess| format!("{id}: {}", excess.text)),
                ),
            }
        }
        if beyond.is_empty() {
            return Ok(());
        }
        let more = beyond.len().saturating_sub(MOST_TOLD);
        beyond.truncate(MOST_TOLD);
        if more > 0 {
            beyond.push(format!("and {more} more"));
        }
        let text = format!("it would get more than {} says, so nothing is changed", path.display());
        Err(Failure::File(format!("{text}\n  {}", beyond.join("\n  "))))
    }
}
