//! One point as people see it, and their deeds with points.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_with::rust::double_option as given;
use utoipa::ToSchema;

use crate::api::value::JsonValue;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, PointPath, Sequence, SlotName};
use ironloom_types::readings::Quality;

/// A point with all that is known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PointDetail {
    #[schema(value_type = String)]
    pub point: Arc<str>,
    /// The unit of its values, where one is known.
    #[schema(value_type = Option<String>)]
    pub unit: Option<Arc<str>>,
    /// The words that people have for it.
    #[schema(value_type = Option<String>)]
    pub description: Option<Arc<str>>,
    /// Its latest reading, if there is one.
    pub latest: Option<LatestReading>,
    /// The installation that derived the latest reading; null where a source brought it.
    pub derived_by: Option<InstallationId>,
    /// The first of those that may write it by the configuration and by bindings. Pushes and streams name none before
    /// they come.
    pub written_by: Vec<PointWriter>,
    pub writers: u64,
    /// The first of those whose inputs get its readings.
    pub read_by: Vec<PointReader>,
    pub readers: u64,
    /// Points of this path that were retired, and whose readings are still there.
    pub earlier: u64,
}

/// A reading on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LatestReading {
    pub value: JsonValue,
    /// The time at its source.
    pub at: Timestamp,
    pub quality: Quality,
    /// Its place in the journal.
    pub sequence: Sequence,
}

/// Who may write a point: a connector, or an output of an installation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub(crate) struct PointWriter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<InstallationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<SlotName>,
}

/// Who gets the readings of a point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub(crate) struct PointReader {
    pub installation: InstallationId,
    pub input: SlotName,
}

/// Unit and description of a point, from a person. A field that isn't named stays as it is, and null takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PointRequest {
    /// A UCUM code.
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub unit: Option<Option<String>>,
    #[serde(with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
}

/// Another path for a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenamePoint {
    /// The path that it gets; no point may have it.
    pub to: String,
}

/// A point that has another path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RenamedPoint {
    /// The path that it had.
    #[schema(value_type = String)]
    pub from: Arc<str>,
    pub point: PointDetail,
    /// Those that may write the old path by the configuration and by bindings: their next reading makes another point.
    pub still_written_by: Vec<PointWriter>,
}

/// Points that are to be retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetirePoints {
    pub path: PointPath,
    /// All below this path, and not itself.
    pub below: bool,
    /// Their readings go with them: they are given out no more.
    pub readings: bool,
}

/// Points that were retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RetiredPoints {
    /// Those that were there.
    pub points: u64,
    /// Those that had been retired before, of which the readings are given out no more now.
    pub before: u64,
    /// True where their readings are still given out.
    pub readings: bool,
}
