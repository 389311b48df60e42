//! The rights of an installation, for whoever consents to them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::revision::FieldChange;
use ironloom_apps::consent::{Capability, Publisher};
pub(crate) use ironloom_apps::consent::{RefusedRight, Rights};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest, InstallationId, Revision};

/// The rights that an installation gets, and those that it doesn't.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Consent {
    /// Names exactly this package with these rights and settings: the `consent` of a request.
    pub digest: Digest,
    /// The version of the app, and its package.
    pub version: String,
    pub package: Digest,
    pub rights: Rights,
    /// All settings, defaults among them, as the app gets them.
    pub settings: BTreeMap<String, String>,
    /// The same in sentences, with the points that there are now.
    pub gets: Vec<String>,
    /// Rights that it doesn't have: each is missing from the request, from the grant, or from the host's policy.
    pub refused: Vec<RefusedRight>,
    /// Warnings about what it gets, such as a pattern whose first segment is free.
    pub warnings: Vec<String>,
}

/// An upgrade that waits for consent, since it would give an installation more than it has. What runs goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PendingConsent {
    pub installation: InstallationId,
    #[schema(value_type = String)]
    pub app: AppId,
    /// The key that the app's id belongs to, or `unsigned`.
    #[schema(value_type = String)]
    pub publisher: Publisher,
    /// The version that ran when it was asked for.
    pub before: String,
    /// The version that it is to have, and its package.
    pub version: String,
    pub package: Digest,
    /// The time of the request, by the machine's clock.
    pub asked: Timestamp,
    /// Rights beyond those that it has, a sentence each.
    pub wider: Vec<String>,
    /// Names all that it would get: the `consent` of whoever accepts. In a list it is the one of the time when it was asked for.
    pub consent: Digest,
    /// All that would change, settings among it, as of now; not in a list.
    pub changes: Vec<FieldChange>,
    /// All that it would get, as of now; not in a list.
    pub gets: Option<Consent>,
    /// Warnings about the change, as of now; not in a list.
    pub warnings: Vec<String>,
    /// Why it could not begin as of now.
    pub problem: Option<String>,
}

/// The body of `POST /v1/consents/{id}/accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsentGiven {
    /// The package that is consented to: 409 where another one waits by now.
    pub package: Digest,
    /// The digest of what was shown: 409 where it would get anything else by now.
    pub consent: Digest,
}

/// Rights that an installation has and never used, since its state began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct NeverUsed {
    /// The revision that has these rights.
    pub revision: Revision,
    /// The journal time from which on it counts.
    pub since: Timestamp,
    /// The number of its invocations since. After few of them it says little.
    pub invocations: u64,
    /// Patterns with points that never gave it a reading, or without any point.
    pub inputs: Vec<UnusedPattern>,
    /// Outputs that never gave anything.
    pub outputs: Vec<String>,
    /// Declared by its manifest, and never done.
    pub capabilities: Vec<Capability>,
}

/// A pattern of an input with points that never gave a reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct UnusedPattern {
    pub input: String,
    pub pattern: String,
    /// The points that it matches.
    pub points: u64,
    /// Those among them that never gave a reading.
    pub unused: u64,
    /// The first of these.
    pub samples: Vec<String>,
}
