//! Rehearsals: what is asked for, how far one has come, and what it found.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::revision::RevisionRequest;
use ironloom_apps::quantity::Span;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, InstallationId, Ordinal, Revision};
use ironloom_types::rehearsal::RehearsalReport;

/// The body of `POST /v1/installations/{id}/rehearsals`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RehearsalRequest {
    /// An RFC 3339 time, a span such as `24 h` back from now, or `beginning`: from there on both versions run.
    #[schema(value_type = String, example = "24 h")]
    pub from: RehearseFrom,
    /// The change that is tried, as one of the installation.
    #[serde(default)]
    pub change: RevisionRequest,
    /// Numbers that differ by no more than this share of the larger one count as the same.
    #[serde(default)]
    #[schema(example = 0.001)]
    pub tolerance: f64,
}

/// The time from which two versions run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RehearseFrom {
    Beginning,
    Time(Timestamp),
    /// Back from now.
    Back(Span),
}

impl FromStr for RehearseFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "beginning" {
            return Ok(Self::Beginning);
        }
        if let Ok(span) = text.parse() {
            return Ok(Self::Back(span));
        }
        text.parse()
            .map(Self::Time)
            .map_err(|error| format!("neither `beginning` nor a span such as \"24 h\", and {error}"))
    }
}

impl std::fmt::Display for RehearseFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::Time(time) => time.fmt(f),
            Self::Back(span) => span.fmt(f),
        }
    }
}

impl Serialize for RehearseFrom {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RehearseFrom {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A rehearsal, under way or over. The newest ones that are over are kept until the server stops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Rehearsal {
    /// Its number on this server, since it was started.
    pub number: u64,
    pub installation: InstallationId,
    /// The revision that the installation had when it began.
    pub revision: Revision,
    /// The package that is tried.
    pub package: Digest,
    pub state: RehearsalState,
    pub progress: RehearsalProgress,
    /// Warnings about the change itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<RehearsalReport>,
    /// The reason why there is no report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// States of a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RehearsalState {
    Running,
    Done,
    Failed,
}

/// The place that a rehearsal has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RehearsalProgress {
    /// The invocation of the old version that is done with.
    pub ordinal: Ordinal,
    /// The last one.
    pub of: Ordinal,
    /// The time of that invocation; null before the first one.
    pub time: Option<Timestamp>,
    /// Readings so far.
    pub readings: u64,
    /// Differences so far.
    pub different: u64,
}
