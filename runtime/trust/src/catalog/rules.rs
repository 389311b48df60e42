//! The word of all catalogs that a host knows on a package. A catalog speaks of the ids that it gives to publishers, and
//! of no others.

use std::collections::BTreeSet;

use super::CatalogName;
use super::floor::Floor;
use super::index::{Index, Publisher};
use crate::key::PublicKey;
use crate::rotation::Rotation;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest};

/// One catalog, as it was last seen.
#[derive(Clone, Copy, Debug)]
pub struct Word<'c> {
    pub floor: &'c Floor,
    pub index: &'c Index,
}

/// A package that is to run.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'c> {
    pub id: &'c AppId,
    pub version: &'c semver::Version,
    pub digest: Digest,
    /// The keys that have signed it.
    pub signers: &'c [PublicKey],
}

/// The reason why a catalog is against a package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Against {
    #[error("the catalog {catalog} blocks {id} {version}: {reason}")]
    Blocked { catalog: CatalogName, id: AppId, version: semver::Version, reason: String },
    #[error("the catalog {catalog} has revoked the key {key}, which has signed it: {reason}")]
    Revoked { catalog: CatalogName, key: PublicKey, reason: String },
    #[error("the catalog {catalog} offers {id} {version} with other contents, {listed}")]
    Altered { catalog: CatalogName, id: AppId, version: semver::Version, listed: Digest },
    #[error(
        "the index of the catalog {catalog} has expired at {expired}, and nothing is installed by it since"
    )]
    Expired { catalog: CatalogName, expired: Timestamp },
}

/// The time by which catalogs expire: a clock that was set back, or stands, counts no less than what was signed.
pub fn time(clock: Timestamp, words: &[Word<'_>]) -> Timestamp {
    words.iter().map(|word| word.floor.latest).fold(clock, Timestamp::max)
}

/// The catalogs that speak of an id, each with the publisher that it gives it to.
fn speaking<'c>(words: &[Word<'c>], id: &AppId) -> impl Iterator<Item = (Word<'c>, &'c Publisher)> {
    words.iter().filter_map(|word| Some((*word, word.index.publisher_of(id)?)))
}

/// Holds a package against all catalogs. Gives those of its signers that none of them has revoked.
///
/// # Errors
/// The first reason against it.
pub fn check(words: &[Word<'_>], package: Candidate<'_>, now: Timestamp) -> Result<Vec<PublicKey>, Against> {
    let Candidate { id, version, digest, signers } = package;
    let mut believed = signers.to_vec();
    let mut revoked = None;
    for (Word { index, .. }, _) in speaking(words, id) {
        let catalog = || index.catalog.clone();
        if let Some(blocked) = index.blocked(id, version) {
            let (version, reason) = (version.clone(), blocked.reason.clone());
            return Err(Against::Blocked { catalog: catalog(), id: id.clone(), version, reason });
        }
        let versions = index.app(id).map_or(&[][..], |app| &app.versions);
        if let Some(listed) = versions.iter().find(|one| one.version == *version) {
            if listed.digest != digest {
                let (version, listed) = (version.clone(), listed.digest);
                return Err(Against::Altered { catalog: catalog(), id: id.clone(), version, listed });
            }
            if index.expires <= now {
                return Err(Against::Expired { catalog: catalog(), expired: index.expires });
            }
        }
        believed.retain(|key| match index.revoked(*key) {
            Some(said) => {
                revoked = Some((catalog(), *key, said.reason.clone()));
                false
            }
            None => true,
        });
    }
    match revoked {
        Some((catalog, key, reason)) if believed.is_empty() => Err(Against::Revoked { catalog, key, reason }),
        _ => Ok(believed),
    }
}

/// The keys that each catalog gives an id to; nothing where none speaks of it.
pub fn publishers<'c>(words: &[Word<'c>], id: &AppId) -> Vec<(&'c CatalogName, &'c Publisher)> {
    speaking(words, id).map(|(word, publisher)| (&word.index.catalog, publisher)).collect()
}

/// The keys that have taken the place of a key for an id, itself among them: by its own word, or by that of the root
/// of a catalog that speaks of the id.
pub fn successors(words: &[Word<'_>], id: &AppId, of: PublicKey) -> BTreeSet<PublicKey> {
    let mut found = BTreeSet::from([of]);
    let mut next = vec![of];
    while let Some(from) = next.pop() {
        let by_roots = speaking(words, id).flat_map(|(word, _)| word.floor.root.rotations.clone());
        let statements = speaking(words, id).flat_map(|(word, _)| &word.index.rotations);
        let by_itself = statements.filter_map(|json| Rotation::read(json.as_bytes(), from).ok());
        let all = by_roots.chain(by_itself);
        let taken = all.filter(|rotation| rotation.from == from && rotation.covers(id.as_str()));
        next.extend(taken.map(|rotation| rotation.to).filter(|key| found.insert(*key)));
    }
    found
}

#[cfg(test)]
mod tests;
