//! Capsules: the last invocations of an installation with all that they depend on, to be run again on any machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answers::MAX_ANSWER;
use super::facade::{Invocation, Patterns, ReplayDifference};
use super::value::JsonValue;
use ironloom_apps::allowance::PartialLimits;
use ironloom_apps::grants::Grants;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Generation, InstallationId, Revision, SlotName};

/// The version of capsules that this runtime reads and writes.
pub(crate) const VERSION: u32 = 3;
/// The most invocations of one.
pub(crate) const MAX_LAST: u64 = 1_000;
/// The most bytes of one as JSON, those of its longest answer. State and readings have at most 32 MiB before they are
/// written as text: base64 makes 43 MiB of them, and escaped texts may make more than the answer takes.
pub(crate) const MAX_BYTES: usize = MAX_ANSWER;
/// The default of `last`.
pub(crate) const LAST: u64 = 10;

/// All that the last invocations of an installation depend on, but for its package. All of them ran under one revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capsule {
    /// The version of its form.
    pub capsule: u32,
    pub id: InstallationId,
    pub package: Digest,
    /// Times and random numbers of its invocations come from it.
    pub generation: Generation,
    /// The revision that they ran under.
    pub revision: Revision,
    pub bindings: BTreeMap<SlotName, Patterns>,
    pub settings: BTreeMap<SlotName, serde_json::Value>,
    pub grants: Grants,
    pub limits: PartialLimits,
    pub timezone: String,
    /// The app's belongings before the first of them.
    pub before: Before,
    pub invocations: Vec<Recorded>,
}

/// The belongings of an app between two invocations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Before {
    pub time: Timestamp,
    /// Its state, in base64.
    pub state: BTreeMap<String, String>,
    /// One-shot timers that are set, by name.
    pub timers: BTreeMap<String, OneShotTimer>,
    pub alarms: Vec<StandingAlarm>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StandingAlarm {
    pub code: SlotName,
    pub entity: String,
    /// Its count against the limit of alarms, in bytes.
    pub counts: usize,
}

/// An invocation with what it was called with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recorded {
    pub invocation: Invocation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The entities, one on each line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entities: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<RecordedFrame>,
}

/// Readings of one input, column by column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordedFrame {
    pub input: String,
    /// The type of the values.
    pub r#type: String,
    /// The place of each reading's entity among those of the invocation.
    pub entity: Vec<u32>,
    /// Nanoseconds since 1970.
    pub at: Vec<u64>,
    /// The place of each among the readings of all frames, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<u32>>,
    /// 0: good, 1: uncertain, 2: bad; `None`: all are good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Vec<u8>>,
    pub values: Vec<JsonValue>,
}

/// A one-shot timer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneShotTimer {
    /// When it fires.
    pub due: Timestamp,
    /// The time that the app asked for.
    pub asked: Timestamp,
}

/// An invocation of a capsule that was to run again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rerun {
    pub recorded: Invocation,
    /// False for one that a limit of time or the log ended, and for one that never reached the app.
    pub ran: bool,
    /// The words of its failure this time, with the line of the source where a trap happened, if the package has debug
    /// information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The difference to its record, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<ReplayDifference>,
}
