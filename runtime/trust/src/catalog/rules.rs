//! The word of all catalogs that a host knows on a package. A catalog speaks of the ids that it gives to publishers, and
//! of no others.

use std::collections::BTreeSet;

use super::CatalogName;
use super::floor::Floor;
use super::index::{Index, Publisher};
use crate::key::PublicKey;
use crate::rotation::{Rotation, covers};
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::{AppId, CatalogNumber, Digest};

/// One catalog, as it was last seen.
#[derive(Clone, Copy, Debug)]
pub struct Word<'c> {
    /// The number by which others know it: a name may be another one's by now.
    pub number: CatalogNumber,
    pub floor: &'c Floor,
    pub index: &'c Index,
    pub rotations: &'c [Rotation],
    /// The ids that the admin lets it speak of, with those below them; all where there is none.
    pub ids: &'c [String],
}

/// A package that is to run.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'c> {
    pub id: &'c AppId,
    pub version: &'c semver::Version,
    pub digest: Digest,
    /// The keys that have signed it.
    pub signers: &'c [PublicKey],
    /// The catalog by whose word its id belongs to somebody.
    pub by: Option<CatalogNumber>,
    /// To whom the id belongs, where the package runs already: a signature of somebody else can't stand for theirs.
    pub owner: Option<PublicKey>,
}

/// The reason why a catalog is against a package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Against {
    #[error("the catalog {catalog} blocks {id} {version}: {reason}")]
    Blocked { catalog: CatalogName, id: AppId, version: semver::Version, reason: String },
    #[error("the catalog {catalog} has revoked the key {key}, which has signed it: {reason}")]
    Revoked { catalog: CatalogName, key: PublicKey, reason: String },
    #[error("{0}; and {1}")]
    Several(Box<Against>, Box<Against>),
    #[error("the catalog {catalog} offers {id} {version} with other contents, {listed}")]
    Altered { catalog: CatalogName, id: AppId, version: semver::Version, listed: Digest },
    #[error(
        "the {part} of the catalog {catalog} has expired at {expired}: nothing is installed from it until there is a newer one"
    )]
    Expired { catalog: CatalogName, part: &'static str, expired: Timestamp },
}

/// The most by which a time in one catalog may be ahead of the clock to count for others, in nanoseconds: a day, for clocks
/// that were set to another zone by mistake.
pub const MOST_AHEAD: u64 = 24 * 3_600 * SECOND;

/// The time by which catalogs expire: a clock that was set back, or stands, counts no less than the latest times that were
/// signed. A time far ahead of the clock doesn't count: its maker's clock is wrong, or means harm to other catalogs.
pub fn time(clock: Timestamp, latest: impl IntoIterator<Item = Timestamp>) -> Timestamp {
    let believed = latest.into_iter().filter(|latest| !is_ahead(clock, *latest));
    believed.fold(clock, Timestamp::max)
}

/// Returns whether a time is too far ahead of the clock to count.
pub fn is_ahead(clock: Timestamp, latest: Timestamp) -> bool {
    latest > clock.plus(MOST_AHEAD)
}

/// The catalogs that speak of an id, each with the publisher that it gives it to. Where the id belongs to somebody by the word
/// of one of them, no other has a say.
pub fn speaking<'c>(
    words: &[Word<'c>],
    id: &AppId,
    by: Option<CatalogNumber>,
) -> impl Iterator<Item = (Word<'c>, &'c Publisher)> {
    let may = move |word: &&Word<'_>| may_speak_of(word.ids, id) && by.is_none_or(|by| word.number == by);
    words.iter().filter(may).filter_map(|word| Some((*word, word.index.publisher_of(id)?)))
}

/// The catalogs that are held against a package: those that have a say in its id, or, where the one by whose word the id belongs to
/// somebody isn't here or doesn't speak of it any more, all that speak of it. That only ever denies.
fn warning<'c>(words: &[Word<'c>], id: &AppId, by: Option<CatalogNumber>) -> Vec<(Word<'c>, &'c Publisher)> {
    let heard: Vec<_> = speaking(words, id, by).collect();
    if heard.is_empty() { speaking(words, id, None).collect() } else { heard }
}

/// Says whether the admin lets a catalog speak of an id, by those that it is bound to.
pub fn may_speak_of(ids: &[String], id: &AppId) -> bool {
    ids.is_empty() || ids.iter().any(|prefix| covers(prefix, id.as_str()))
}

/// Holds a package against all catalogs; without a time also against those that have expired. Gives those of its signers that none of them has revoked.
///
/// # Errors
/// The first reason against it.
pub fn check(
    words: &[Word<'_>],
    package: Candidate<'_>,
    now: Option<Timestamp>,
) -> Result<Vec<PublicKey>, Against> {
    let Candidate { id, version, digest, signers, by, owner } = package;
    let mut believed = signers.to_vec();
    let mut revoked: Vec<Against> = Vec::new();
    for (Word { index, floor, .. }, _) in warning(words, id, by) {
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
            for (part, expires) in [("index", index.expires), ("root", floor.root.expires)] {
                // Its own times always count for itself.
                if now.is_some_and(|now| expires <= now.max(floor.latest)) {
                    return Err(Against::Expired { catalog: catalog(), part, expired: expires });
                }
            }
        }
        believed.retain(|key| match index.revoked(*key) {
            Some(said) => {
                revoked.push(Against::Revoked { catalog: catalog(), key: *key, reason: said.reason.clone() });
                false
            }
            None => true,
        });
    }
    let others = |owner| successors(words, id, owner, by).is_disjoint(&believed.iter().copied().collect());
    let nobody_is_left = believed.is_empty() || owner.is_some_and(others);
    let revoked = revoked.into_iter().reduce(|one, other| Against::Several(one.into(), other.into()));
    match revoked.filter(|_| nobody_is_left) {
        Some(revoked) => Err(revoked),
        None => Ok(believed),
    }
}

/// The keys that have taken the place of a key for an id, itself among them: by its own word, or by that of the root of the
/// catalog by whose word the id belongs to it. Where that catalog is here, it decides: its own word of a key that it has revoked counts
/// for nothing, for a thief has that key as well; and a rotation that another catalog brings counts only if the new key is among those
/// that this one gives the id to.
pub fn successors(
    words: &[Word<'_>],
    id: &AppId,
    of: PublicKey,
    by: Option<CatalogNumber>,
) -> BTreeSet<PublicKey> {
    let mut heard: Vec<_> = speaking(words, id, by).collect();
    let decides = by.is_some() && !heard.is_empty();
    if !decides {
        heard = speaking(words, id, None).collect();
    }
    let by_roots = heard.iter().filter(|_| decides).flat_map(|(word, _)| &word.floor.root.rotations);
    let counts = |word: &Word<'_>, rotation: &Rotation| {
        let is_revoked = heard.iter().any(|(own, _)| own.index.revoked(rotation.from).is_some());
        let is_brought = heard.iter().any(|(own, _)| own.number == word.number);
        let is_given = heard.iter().any(|(_, publisher)| publisher.keys.contains(&rotation.to));
        !is_revoked && (is_brought || is_given)
    };
    let by_themselves = speaking(words, id, None)
        .flat_map(|(word, _)| word.rotations.iter().filter(move |rotation| counts(&word, rotation)));
    let all: Vec<&Rotation> =
        by_roots.chain(by_themselves).filter(|rotation| rotation.covers(id.as_str())).collect();
    let mut found = BTreeSet::from([of]);
    let mut next = vec![of];
    while let Some(from) = next.pop() {
        let taken = all.iter().filter(|rotation| rotation.from == from).map(|rotation| rotation.to);
        next.extend(taken.filter(|key| found.insert(*key)));
    }
    found
}

#[cfg(test)]
mod tests;
