//! The newest that was seen of a catalog, below which nobody gets it again: its root, and the version of its index.

use serde::{Deserialize, Serialize};

use super::index::Index;
use super::root::Root;
use super::{CatalogError, form};
use crate::envelope::{Envelope, Kind};
use crate::key::PublicKey;
use crate::strict::{self, Integer};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Digest;

const PART: &str = "index";

/// The newest that was seen of a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    #[serde(deserialize_with = "strict::object")]
    pub root: Root,
    /// The newest index, since this root's keys sign indexes.
    #[serde(default, deserialize_with = "strict::optional")]
    pub index: Option<Seen>,
    /// The latest time in anything of it that was signed.
    pub latest: Timestamp,
}

/// An index that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub version: Integer,
    /// The digest of what was signed. The signatures around it may be others.
    pub digest: Digest,
    pub issued: Timestamp,
}

impl Floor {
    /// The first look at a catalog: all of `believed` have signed its root.
    ///
    /// # Errors
    /// A root that isn't theirs, or malformed.
    pub fn first(root: &[u8], believed: &[PublicKey]) -> Result<Self, CatalogError> {
        let root = Root::first(root, believed)?;
        let latest = root.issued;
        Ok(Self { root, index: None, latest })
    }

    /// Takes the root that follows. Where other keys sign indexes from now on, whatever the old ones have signed
    /// counts no more: whoever had them could have used up all versions, and all time.
    ///
    /// # Errors
    /// A root that doesn't follow this one.
    pub fn take_root(&mut self, root: &[u8]) -> Result<(), CatalogError> {
        let next = self.root.next(root)?;
        if next.index != self.root.index {
            self.index = None;
            self.latest = next.issued;
        }
        self.latest = self.latest.max(next.issued);
        self.root = next;
        Ok(())
    }

    /// Takes an index. The one that was seen last is taken again.
    ///
    /// # Errors
    /// An index that isn't signed as the root asks, or older, or another one of the same version.
    pub fn take_index(&mut self, json: &[u8]) -> Result<Index, CatalogError> {
        let envelope = Envelope::read(Kind::Index, json)?;
        let bytes = envelope.signed_by(&self.root.index)?;
        let digest = Digest::of(bytes);
        let index = Index::parse(bytes)?;
        if index.catalog != self.root.catalog {
            let (found, expected) = (index.catalog, self.root.catalog.clone());
            return Err(CatalogError::Name { part: PART, found, expected });
        }
        if let Some(seen) = &self.index {
            let (found, version) = (index.version.get(), seen.version.get());
            if found < version {
                return Err(CatalogError::Older { part: PART, found, seen: version });
            }
            if found == version && digest != seen.digest {
                return Err(CatalogError::Altered { part: PART, version });
            }
            if index.issued < seen.issued {
                let times = format!("it was issued at {}, before version {version}", index.issued);
                return Err(form(PART, times));
            }
        }
        if self.index.is_none() && self.root.version.get() > 1 && index.issued < self.root.issued {
            // Under the keys before, it may have been followed by others.
            let times = format!("it was issued at {}, before this root; it must be made anew", index.issued);
            return Err(form(PART, times));
        }
        self.latest = self.latest.max(index.issued);
        self.index = Some(Seen { version: index.version, digest, issued: index.issued });
        Ok(index)
    }

    /// Raises what was seen to what another one has seen of the same catalog; it is lowered only where a newer root has other keys
    /// sign indexes.
    ///
    /// # Errors
    /// Another catalog; a root or an index with the same version and other contents.
    pub fn raise(&mut self, other: &Self) -> Result<(), CatalogError> {
        let (own, root) = (&self.root, &other.root);
        if own.catalog != root.catalog {
            let (found, expected) = (root.catalog.clone(), own.catalog.clone());
            return Err(CatalogError::Name { part: "trust file", found, expected });
        }
        if own.version == root.version && own != root {
            return Err(CatalogError::Altered { part: "root", version: own.version.get() });
        }
        // Other keys for indexes: whatever the old ones have signed counts no more, as where the root itself is taken.
        if root.index != own.index {
            if root.version > own.version {
                *self = other.clone();
            }
            return Ok(());
        }
        match (&self.index, &other.index) {
            (Some(seen), Some(theirs)) if seen.version == theirs.version && seen != theirs => {
                return Err(CatalogError::Altered { part: PART, version: seen.version.get() });
            }
            (Some(seen), Some(theirs)) if seen.version > theirs.version => {}
            (_, None) => {}
            (_, Some(theirs)) => self.index = Some(theirs.clone()),
        }
        if root.version > own.version {
            self.root = root.clone();
        }
        self.latest = self.latest.max(other.latest);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
