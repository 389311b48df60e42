//! Set-points on their way to machines, and the kill switch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::value::JsonValue;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, IntentId, SlotName};

/// A point that an installation's set-points go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DrivenPoint {
    /// The machine's point.
    pub point: String,
    pub output: SlotName,
    pub entity: String,
    /// The connector that takes them there; null where none does.
    pub connector: Option<String>,
    /// The intents without an outcome, the oldest first: at most one that was sent, and the newest.
    pub intents: Vec<Intent>,
    /// The value that the machine may last have been told; null where it was told nothing.
    pub told: Option<Told>,
    /// Its safe value is about to be sent.
    pub goes_safe: bool,
    /// The last outcome.
    pub last: Option<LastOutcome>,
}

/// A set-point that an app has asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Intent {
    pub id: IntentId,
    /// `waiting`, `unconfirmed` (a person has to confirm it) or `sent` (an answer is waited for).
    pub state: String,
    /// The value that the app asked for.
    pub asked: JsonValue,
    /// The value that is sent.
    pub value: JsonValue,
    /// The time of the invocation that asked for it.
    pub at: Timestamp,
    /// It isn't sent any more from then on.
    pub expires: Timestamp,
}

/// The value that a machine may last have been told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Told {
    pub value: JsonValue,
    /// Rises with each set-point for the same point.
    pub number: u64,
    /// The app vouches for it until then; null for a safe value, and where it stays.
    pub until: Option<Timestamp>,
    /// The value that is sent when the app no longer vouches for this one, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe: Option<JsonValue>,
}

/// The end of an intent, or of a safe value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LastOutcome {
    /// Null for a safe value.
    pub id: Option<IntentId>,
    pub asked: JsonValue,
    pub value: JsonValue,
    /// `sent`, `accepted`, `rejected`, `expired`, `superseded`, `skipped`, `revoked`, `shadow`, `safe` or
    /// `safe-rejected`.
    pub outcome: String,
    pub reason: Option<String>,
    pub at: Timestamp,
}

/// A person's word about an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntentDeed {
    Confirm,
    Dismiss,
}

/// Asks to turn the kill switch on or off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HaltRequest {
    /// Of this installation; without one, of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation: Option<InstallationId>,
}

/// The kill switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Halt {
    /// No set-point of anybody is sent.
    pub site: bool,
    /// None of these installations is.
    pub installations: Vec<InstallationId>,
}
