//! The root of a catalog: which keys sign it, and which sign its index. Whoever has these keys keeps them offline.

use serde::{Deserialize, Serialize};

use super::{CatalogError, CatalogName, form};
use crate::envelope::{Envelope, Keys, Kind, MAX_SIGNATURES};
use crate::key::PublicKey;
use crate::rotation::Rotation;
use crate::strict::{self, Integer};
use ironloom_types::clock::Timestamp;

const PART: &str = "root";
/// The most rotations that a root names.
const MAX_ROTATIONS: usize = 256;

/// The contents of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    pub catalog: CatalogName,
    /// Counts from 1, by 1.
    pub version: Integer,
    pub issued: Timestamp,
    pub expires: Timestamp,
    /// Who signs this root and, with it, the next one.
    #[serde(deserialize_with = "strict::object")]
    pub root: Keys,
    /// Who signs indexes.
    #[serde(deserialize_with = "strict::object")]
    pub index: Keys,
    /// Keys of publishers that took the place of others, which can't say so themselves any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    pub rotations: Vec<Rotation>,
}

impl Root {
    /// The root, signed by nobody yet.
    ///
    /// # Errors
    /// A root that nobody would take.
    pub fn to_envelope(&self) -> Result<Envelope, CatalogError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(|error| form(PART, error.to_string()))?;
        Ok(Envelope::new(Kind::Root, bytes))
    }

    /// Reads the first root that is seen of a catalog: all of `believed` have signed it.
    ///
    /// # Errors
    /// A root without these signatures, without those that it asks for itself, or that is malformed.
    pub fn first(json: &[u8], believed: &[PublicKey]) -> Result<Self, CatalogError> {
        let envelope = Envelope::read(Kind::Root, json)?;
        let signers: Vec<_> = envelope.signers().collect();
        if let Some(missing) = believed.iter().find(|key| !signers.contains(key)) {
            return Err(CatalogError::NotTrusted { missing: *missing });
        }
        let threshold = u8::try_from(believed.len()).unwrap_or(u8::MAX);
        let believed = Keys { threshold, keys: believed.iter().copied().collect() };
        let root = Self::parse(envelope.signed_by(&believed)?)?;
        if let Some(stranger) = believed.keys.iter().find(|key| !root.root.keys.contains(key)) {
            return Err(CatalogError::NotTrusted { missing: *stranger });
        }
        envelope.signed_by(&root.root)?;
        Ok(root)
    }

    /// Reads the root that follows this one: keys of both have signed it.
    ///
    /// # Errors
    /// Any other root.
    pub fn next(&self, json: &[u8]) -> Result<Self, CatalogError> {
        let envelope = Envelope::read(Kind::Root, json)?;
        let next = Self::parse(envelope.signed_by(&self.root)?)?;
        envelope.signed_by(&next.root)?;
        if next.catalog != self.catalog {
            let (found, expected) = (next.catalog, self.catalog.clone());
            return Err(CatalogError::Name { part: PART, found, expected });
        }
        let (found, seen) = (next.version.get(), self.version.get());
        if found <= seen {
            return Err(CatalogError::Older { part: PART, found, seen });
        }
        if found != seen + 1 {
            return Err(CatalogError::Skipped { found, seen });
        }
        Ok(next)
    }

    /// Reads a root that whoever makes a catalog has, signed or not yet.
    ///
    /// # Errors
    /// Bytes that are no root.
    pub fn own(envelope: &Envelope) -> Result<Self, CatalogError> {
        Self::parse(envelope.to_be_signed())
    }

    fn parse(bytes: &[u8]) -> Result<Self, CatalogError> {
        let root: Self = strict::from_slice(bytes).map_err(|error| form(PART, error.to_string()))?;
        root.check()?;
        Ok(root)
    }

    /// Refuses a root that says nothing.
    pub(super) fn check(&self) -> Result<(), CatalogError> {
        if self.version.get() == 0 {
            return Err(form(PART, "its version is 0; the first one is 1"));
        }
        if self.expires <= self.issued {
            return Err(form(PART, "it expires before it was issued"));
        }
        if self.rotations.len() > MAX_ROTATIONS {
            return Err(form(PART, format!("it names more than {MAX_ROTATIONS} rotations")));
        }
        for (who, keys) in [("root", &self.root), ("index", &self.index)] {
            let number = keys.keys.len();
            if keys.threshold == 0 || usize::from(keys.threshold) > number || number > MAX_SIGNATURES {
                let threshold = keys.threshold;
                return Err(form(
                    PART,
                    format!(
                        "{threshold} of {number} keys are to sign the {who}; it must be 1 at least, all of them at most, of up to {MAX_SIGNATURES}"
                    ),
                ));
            }
        }
        Ok(())
    }
}
