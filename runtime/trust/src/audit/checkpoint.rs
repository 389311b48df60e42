//! Checkpoints: the word of a server's key of how long a chain is, and of its end.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Chain, Head};
use crate::envelope::{Envelope, EnvelopeError, Keys, Kind};
use crate::key::{PublicKey, SecretKey};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Digest;

/// A chain as it was when its checkpoint was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub chain: Chain,
    pub head: Head,
    pub time: Timestamp,
    pub key: PublicKey,
}

/// The signed bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    chain: String,
    count: u64,
    head: Digest,
    time: Timestamp,
}

/// The reason why a text is no checkpoint that is believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("it is signed by {0} keys; a checkpoint has one signature")]
    Signers(usize),
    #[error("what is signed is no checkpoint: {0}")]
    Payload(String),
}

impl Checkpoint {
    /// Signs the end of a chain: a DSSE envelope, as one line.
    pub fn sign(chain: Chain, head: Head, time: Timestamp, key: &SecretKey) -> String {
        let payload = Payload { chain: chain.to_string(), count: head.number, head: head.hash, time };
        // Texts and numbers always have a JSON form.
        let bytes = serde_json::to_vec(&payload).unwrap_or_default();
        let mut envelope = Envelope::new(Kind::AuditCheckpoint, bytes);
        envelope.sign(key);
        envelope.to_json()
    }

    /// Reads one and checks its signature; `key` is the one that must have made it, if it is known.
    ///
    /// # Errors
    /// Everything but a checkpoint that one key has signed, and that one.
    pub fn read(envelope: &str, key: Option<PublicKey>) -> Result<Self, CheckpointError> {
        let envelope = Envelope::read(Kind::AuditCheckpoint, envelope.as_bytes())?;
        let signers: Vec<PublicKey> = envelope.signers().collect();
        let [signer] = signers[..] else { return Err(CheckpointError::Signers(signers.len())) };
        let keys = Keys { threshold: 1, keys: BTreeSet::from([key.unwrap_or(signer)]) };
        let problem = |error: String| CheckpointError::Payload(error);
        let payload: Payload =
            serde_json::from_slice(envelope.signed_by(&keys)?).map_err(|error| problem(error.to_string()))?;
        Ok(Self {
            chain: payload.chain.parse().map_err(problem)?,
            head: Head { number: payload.count, hash: payload.head },
            time: payload.time,
            key: signer,
        })
    }
}
