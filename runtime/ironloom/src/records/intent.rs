//! Set-points on their way to machines, and what became of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use ironloom_types::clock::Timestamp;
use ironloom_types::effects::Intent;
use ironloom_types::ids::{Generation, InstallationId, IntentId, Ordinal, PointPath, SlotName};
use ironloom_types::readings::Value;

/// The place of an intent: the invocation that asked for it, and its place among those of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct IntentPlace {
    pub generation: Generation,
    pub ordinal: Ordinal,
    pub index: u32,
}

impl IntentPlace {
    pub(crate) fn id(self) -> IntentId {
        IntentId::of(self.generation, self.ordinal, self.index)
    }
}

/// An intent without an outcome yet, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub installation: InstallationId,
    pub place: IntentPlace,
    /// The time of its invocation, from which it lives.
    pub at: Timestamp,
    /// Even, and rises with each intent for the same point.
    pub number: u64,
    pub intent: Intent,
    /// The value that is sent once nobody vouches for this one any more; `None` where this one stays then.
    pub safe: Option<Value>,
    /// The installation's mode was *act* when it was asked for.
    pub acts: bool,
    /// A person has confirmed it.
    pub confirmed: bool,
}

impl Asked {
    /// Returns whether it may be sent while its installation acts, or does not.
    pub(crate) fn has_leave(&self, acts: bool) -> bool {
        self.confirmed || (self.acts && acts)
    }
}

/// The end of an intent, or of an attempt at a safe value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It was sent, and within its life nobody answered: it may be in force.
    Sent,
    /// The equipment, or the broker in front of it, has taken it.
    Accepted,
    /// The equipment, or the broker in front of it, has refused it; or no connector can send it.
    Rejected,
    /// Its life ended before it could be sent.
    Expired,
    /// A later intent for the same point took its place.
    Superseded,
    /// One before it in its list was not accepted.
    Skipped,
    /// Its installation was stopped, lost the right to it, or was to go to safe values; or a person dismissed it.
    Revoked,
    /// It was only recorded, as the installation's mode asks for.
    Shadow,
    /// The point has its safe value: nobody vouches for another one.
    Safe,
    /// The safe value was refused; it is sent again.
    SafeRejected,
}

impl Outcome {
    /// Its name in readings, API and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Skipped => "skipped",
            Self::Revoked => "revoked",
            Self::Shadow => "shadow",
            Self::Safe => "safe",
            Self::SafeRejected => "safe-rejected",
        }
    }
}

/// The end of an intent or of a safe value, as a record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// The intent; `None` for a safe value.
    pub place: Option<IntentPlace>,
    /// The last that is known of its point, if this changed it.
    pub driven: Option<Box<Driven>>,
}

/// A point that set-points go to, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Driven {
    pub point: PointPath,
    pub installation: InstallationId,
    pub generation: Generation,
    pub output: SlotName,
    pub entity: Arc<str>,
    /// The value that the machine may last have been told; `None` where it was told nothing.
    pub told: Option<Told>,
    /// Intents up to this number were overtaken after they were sent: they aren't sent again.
    pub passed: u64,
    /// The end of the last intent, or of the last attempt at a safe value.
    pub last: Ended,
}

/// A value that was sent to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub value: Value,
    /// The greatest number that the machine has seen, with this value or with one that it refused.
    pub number: u64,
    /// The time until which the app vouches for it; `None` where it need not, as for a safe value.
    pub until: Option<Timestamp>,
    /// The value that is sent then; `None` where this one stays.
    pub safe: Option<Value>,
}

impl Told {
    /// The number of a safe value that follows: between those of two intents, and the same when it is sent again.
    pub(crate) fn safe_number(&self) -> u64 {
        self.number | 1
    }
}

impl Driven {
    /// Has nobody vouch for what it was told beyond this time. Returns whether somebody did.
    pub(crate) fn set_back(&mut self, to: Timestamp) -> bool {
        let until = self.told.as_mut().and_then(|told| told.until.as_mut()).filter(|until| **until > to);
        until.map(|until| *until = to).is_some()
    }
}

/// The end of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// `None` for a safe value.
    pub id: Option<IntentId>,
    pub asked: Value,
    pub value: Value,
    pub outcome: Outcome,
    /// Words for people.
    pub reason: Option<Box<str>>,
    pub at: Timestamp,
}
