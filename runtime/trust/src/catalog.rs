//! Catalogs: static files that list apps and who may sign them. A *root*, signed offline, names the keys that sign the
//! *index*; the index names the packages by digest. What was seen of both is a [`floor::Floor`].

pub mod floor;
pub mod index;
pub mod root;
pub mod rules;
pub mod search;
pub mod trust_file;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::strict;
use ironloom_types::text::listed;

/// The name of a catalog: a small letter, then small letters, digits and `-`, up to 63.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CatalogName(String);

/// The reason why a text is no name of a catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a catalog: it begins with a to z, and has up to 63 of a to z, 0 to 9 and `-`")]
pub struct InvalidCatalogName(String);

impl CatalogName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CatalogName {
    type Err = InvalidCatalogName;

    fn from_str(text: &str) -> Result<Self, InvalidCatalogName> {
        let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
        let all = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if begins && all && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidCatalogName(text.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for CatalogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CatalogName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The reason why a root or an index is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Envelope(#[from] crate::envelope::EnvelopeError),
    /// The signed bytes aren't as they must be.
    #[error("the {part} of the catalog is wrong: {problem}")]
    Form { part: &'static str, problem: String },
    /// It is another catalog's.
    #[error("the {part} is of the catalog {found}, and this one is {expected}")]
    Name { part: &'static str, found: CatalogName, expected: CatalogName },
    /// It is older than what was seen before.
    #[error(
        "the {part} has version {found}, and version {seen} was seen before: somebody offers an older one"
    )]
    Older { part: &'static str, found: u64, seen: u64 },
    /// It has the version of another one.
    #[error(
        "the {part} of version {version} has other contents than the one that was seen before with this version"
    )]
    Altered { part: &'static str, version: u64 },
    /// Roots in between are missing.
    #[error("the root has version {found}, and {seen} was seen before: the roots in between are missing")]
    Skipped { found: u64, seen: u64 },
    /// Somebody has to say whom to believe.
    #[error("the catalog is signed by {}, and nobody has said that one of these is to be believed", listed(.signers))]
    NobodyBelieved { signers: Vec<crate::key::PublicKey> },
    /// The first root isn't one that was asked for.
    #[error("the root of the catalog isn't signed by {missing}, which was named as a key to believe")]
    NotTrusted { missing: crate::key::PublicKey },
}

fn form(part: &'static str, problem: impl Into<String>) -> CatalogError {
    CatalogError::Form { part, problem: strict::problem(&problem.into()) }
}

#[cfg(test)]
mod testing;
