//! Signed bytes: an envelope of DSSE, <https://github.com/secure-systems-lab/dsse>, as JSON.
//!
//! A signature covers the exact bytes together with their type, in DSSE's pre-authentication encoding, so that bytes
//! of one kind are never taken for another. The id of a key is the key itself.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::key::{InvalidKey, PublicKey, SecretKey};
use crate::strict;
use ironloom_types::text::listed;

/// The most signatures of an envelope.
pub const MAX_SIGNATURES: usize = 16;
/// The media type of an envelope.
pub const MEDIA_TYPE: &str = "application/vnd.dsse.envelope.v1+json";

/// The kinds of signed bytes, each with its type: no signature for one holds for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The image manifest of a package, which names all of it by digest.
    Package,
    /// The root of a catalog.
    Root,
    /// The index of a catalog.
    Index,
    /// The word of a key that another one takes its place.
    Rotation,
    /// The word of a server's key of the end of a chain of its audit log.
    AuditCheckpoint,
}

impl Kind {
    /// The type in the envelope, which signatures cover as well.
    pub fn payload_type(self) -> &'static str {
        match self {
            Self::Package => "application/vnd.oci.image.manifest.v1+json",
            Self::Root => "application/vnd.ironloom.catalog-root.v1+json",
            Self::Index => "application/vnd.ironloom.catalog-index.v1+json",
            Self::Rotation => "application/vnd.ironloom.key-rotation.v1+json",
            Self::AuditCheckpoint => "application/vnd.ironloom.audit-checkpoint.v1+json",
        }
    }

    /// The most bytes of what is signed.
    pub fn max_bytes(self) -> usize {
        match self {
            Self::Package => 1 << 20,
            Self::Root => 256 << 10,
            Self::Index => 32 << 20,
            Self::Rotation => 16 << 10,
            Self::AuditCheckpoint => 1 << 10,
        }
    }

    /// The most bytes of an envelope around it.
    pub fn max_envelope(self) -> usize {
        self.max_bytes() / 3 * 4 + (64 << 10)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Package => "package",
            Self::Root => "root of a catalog",
            Self::Index => "index of a catalog",
            Self::Rotation => "statement of a key",
            Self::AuditCheckpoint => "checkpoint of an audit log",
        })
    }
}

/// Keys that are believed, and how many of them must have signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    pub threshold: u8,
    pub keys: BTreeSet<PublicKey>,
}

/// The reason why an envelope isn't believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the signed {kind} has {size} bytes; at most {limit} are allowed")]
    TooLarge { kind: Kind, size: usize, limit: usize },
    #[error("it is no signed {kind} (a DSSE envelope in JSON): {problem}")]
    Form { kind: Kind, problem: String },
    #[error("it is signed as {found:?}, and a {kind} is signed as {:?}", kind.payload_type())]
    Type { kind: Kind, found: String },
    #[error("the signature of the {kind} by {key} doesn't fit: it was made for other bytes, or altered")]
    Signature { kind: Kind, key: PublicKey },
    #[error("the signature of the {kind} names a key that is none: {error}")]
    Key { kind: Kind, error: InvalidKey },
    #[error("the {kind} is signed by {found} of the keys that may sign it, and {needed} are needed; these may: {}", listed(.may))]
    Threshold { kind: Kind, found: usize, needed: u8, may: BTreeSet<PublicKey> },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Json {
    payload_type: String,
    payload: String,
    #[serde(deserialize_with = "strict::objects")]
    signatures: Vec<JsonSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonSignature {
    keyid: String,
    sig: String,
}

/// Signed bytes. They can't be had without naming keys; each signature by a known scheme was checked against the key
/// that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    kind: Kind,
    bytes: Vec<u8>,
    signatures: BTreeMap<PublicKey, Vec<u8>>,
}

impl Envelope {
    /// An envelope that nobody has signed yet.
    pub fn new(kind: Kind, bytes: Vec<u8>) -> Self {
        Self { kind, bytes, signatures: BTreeMap::new() }
    }

    /// Reads an envelope and checks all its signatures. Those of a scheme that this version doesn't know count for
    /// nothing.
    ///
    /// # Errors
    /// Everything but an envelope of this kind whose signatures fit.
    pub fn read(kind: Kind, json: &[u8]) -> Result<Self, EnvelopeError> {
        let refuse = |problem: String| EnvelopeError::Form { kind, problem: strict::problem(&problem) };
        check_size(kind, json.len(), kind.max_envelope())?;
        let read: Json = strict::from_slice(json).map_err(|error| refuse(error.to_string()))?;
        if read.payload_type != kind.payload_type() {
            return Err(EnvelopeError::Type { kind, found: read.payload_type.chars().take(200).collect() });
        }
        if read.signatures.len() > MAX_SIGNATURES {
            return Err(refuse(format!("it has more than {MAX_SIGNATURES} signatures")));
        }
        let decode = |name: &str, text: &str| {
            STANDARD.decode(text).map_err(|error| refuse(format!("its {name} is not base64: {error}")))
        };
        let bytes = decode("payload", &read.payload)?;
        check_size(kind, bytes.len(), kind.max_bytes())?;
        let message = pre_authentication(kind.payload_type(), &bytes);
        let mut signatures = BTreeMap::new();
        for signature in &read.signatures {
            let key: PublicKey = match signature.keyid.parse() {
                Ok(key) => key,
                Err(InvalidKey::Scheme { .. }) => continue,
                Err(error) => return Err(EnvelopeError::Key { kind, error }),
            };
            let bytes = decode("signature", &signature.sig)?;
            if !key.verifies(&message, &bytes) {
                return Err(EnvelopeError::Signature { kind, key });
            }
            if signatures.insert(key, bytes).is_some() {
                return Err(refuse(format!("it has two signatures by {key}")));
            }
        }
        Ok(Self { kind, bytes, signatures })
    }

    /// Adds a signature, or repeats it: the same bytes give the same one.
    pub fn sign(&mut self, key: &SecretKey) {
        let signature = key.sign(&pre_authentication(self.kind.payload_type(), &self.bytes));
        self.signatures.insert(key.public(), signature.to_vec());
    }

    /// The envelope as JSON, in one line.
    pub fn to_json(&self) -> String {
        let signatures = self.signatures.iter();
        let json = Json {
            payload_type: self.kind.payload_type().to_owned(),
            payload: STANDARD.encode(&self.bytes),
            signatures: signatures
                .map(|(key, bytes)| JsonSignature { keyid: key.to_string(), sig: STANDARD.encode(bytes) })
                .collect(),
        };
        // Texts always have a JSON form; an empty file would be refused when it is read.
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// The keys that have signed it. That they have doesn't mean that anybody believes them.
    pub fn signers(&self) -> impl Iterator<Item = PublicKey> {
        self.signatures.keys().copied()
    }

    /// The bytes, where enough of these keys have signed them.
    ///
    /// # Errors
    /// Too few of them have.
    pub fn signed_by(&self, keys: &Keys) -> Result<&[u8], EnvelopeError> {
        let found = self.signatures.keys().filter(|key| keys.keys.contains(key)).count();
        if keys.threshold == 0 || found < usize::from(keys.threshold) {
            let (needed, may) = (keys.threshold.max(1), keys.keys.clone());
            return Err(EnvelopeError::Threshold { kind: self.kind, found, needed, may });
        }
        Ok(&self.bytes)
    }

    /// The bytes as whoever signs them sees them. Nothing that acts on them may take them from here.
    pub fn to_be_signed(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes over the signatures of another envelope; returns `false` where that one is around other bytes.
    #[must_use]
    pub fn merge(&mut self, other: &Self) -> bool {
        let same = (self.kind, &self.bytes) == (other.kind, &other.bytes);
        if same {
            self.signatures.extend(other.signatures.clone());
        }
        same
    }
}

fn check_size(kind: Kind, size: usize, limit: usize) -> Result<(), EnvelopeError> {
    if size > limit { Err(EnvelopeError::TooLarge { kind, size, limit }) } else { Ok(()) }
}

/// The bytes that a signature covers: DSSE's `PAE(type, body)`.
fn pre_authentication(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests;
