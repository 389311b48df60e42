//! The word of a key that another one takes its place for some apps.

use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, EnvelopeError, Keys, Kind};
use crate::key::PublicKey;
use crate::strict;
use ironloom_types::ids::AppId;

/// That what one key has signed, another one signs from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    pub from: PublicKey,
    pub to: PublicKey,
    /// The apps: ids that are this, or begin with this and a dot.
    pub apps: String,
}

/// The reason why a rotation isn't believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("what the key has signed is no rotation: {0}")]
    Form(String),
}

impl Rotation {
    /// Returns whether it speaks of an app.
    pub fn covers(&self, app: &str) -> bool {
        covers(&self.apps, app)
    }

    /// The statement, signed by nobody yet.
    pub fn to_envelope(&self) -> Envelope {
        // Texts always have a JSON form.
        Envelope::new(Kind::Rotation, serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a statement, which one key has signed: the one that it speaks for.
    ///
    /// # Errors
    /// A statement of anybody else.
    pub fn read(json: &[u8]) -> Result<Self, RotationError> {
        let envelope = Envelope::read(Kind::Rotation, json)?;
        let signers: Vec<PublicKey> = envelope.signers().collect();
        let bytes = envelope.signed_by(&Keys { threshold: 1, keys: signers.iter().copied().collect() })?;
        let rotation: Self = strict::from_slice(bytes)
            .map_err(|error| RotationError::Form(strict::problem(&error.to_string())))?;
        if !signers.contains(&rotation.from) {
            return Err(RotationError::Form(format!(
                "it speaks for {}, which hasn't signed it",
                rotation.from
            )));
        }
        Ok(rotation)
    }
}

/// Returns whether an id is this prefix or lies below it: `com.example` covers `com.example.pigs`, not `com.examples`.
pub fn covers(prefix: &str, id: &str) -> bool {
    id.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Returns whether a text is an app id, or the beginning of one up to a dot: `com`, `com.example`.
pub fn is_prefix(text: &str) -> bool {
    AppId::new(&format!("{text}.x")).is_ok()
}
