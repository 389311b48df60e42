//! Copies of installations' state, and upgrades that may be rolled back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Installation;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Generation, Revision, Sequence};

/// An upgrade that nobody has committed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Trial {
    /// The version that a rollback goes back to.
    pub version: String,
    pub package: Digest,
    /// The copy that it goes back to.
    pub copy: Generation,
    /// The last reading that had been dealt with then: those behind it are taken again.
    pub cursor: Sequence,
    /// The time at which the server commits the upgrade by itself.
    pub until: Timestamp,
}

/// A rollback that nothing has changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct WentBack {
    /// The time, by the machine's clock.
    pub at: Timestamp,
    /// The version that it went back from.
    pub from: String,
    /// The server's reason, where it did so by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The copies of an installation, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Copies {
    pub items: Vec<CopyItem>,
    /// The most that are kept of an installation.
    pub max_number: u32,
    /// Bytes of state in the copies of all installations.
    pub bytes: u64,
    /// The most of these.
    pub max_bytes: u64,
}

/// An installation's state as of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CopyItem {
    /// The number under which the store has it.
    pub generation: Generation,
    /// The moment, by the machine's clock.
    pub at: Timestamp,
    pub reason: CopyReason,
    /// The version that ran then.
    pub version: String,
    pub package: Digest,
    pub revision: Revision,
    /// The last reading that had been dealt with.
    pub cursor: Sequence,
    /// The time of the last invocation.
    pub time: Timestamp,
    /// Bytes of its keys and values.
    pub bytes: u64,
    /// A rollback goes back to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollback: bool,
}

/// The reason why a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CopyReason {
    /// Another version came after it.
    Upgrade,
    /// It was time for one.
    Regular,
}

impl CopyReason {
    /// Its name in answers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Regular => "regular",
        }
    }
}

/// The result of a rollback, or of a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RolledBack {
    /// The installation as it is now.
    #[serde(flatten)]
    pub installation: Installation,
    /// The version that it goes back to.
    pub to: String,
    /// The readings that it takes again.
    pub again: u64,
    /// Counting them took too long: there are more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again_at_least: bool,
    /// Warnings for the admin.
    pub warnings: Vec<String>,
    /// Rights that were taken away since the copy was made and come back with it: they need a consent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wider: Vec<String>,
    /// Names all rights that it goes back to, to be consented to.
    pub consent: Digest,
}

/// The body of a rollback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// The `consent` of a dry run, where rights come back that were taken away: 409 where it would get anything else by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Digest>,
}
