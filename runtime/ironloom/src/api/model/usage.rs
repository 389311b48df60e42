//! Who and what takes how much.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::InstallationState;
use ironloom_types::ids::{AppId, InstallationId};

/// The use of the site by installations, sources and points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Usage {
    /// The largest, by what was asked for.
    pub installations: Vec<InstallationUsage>,
    /// All that there are.
    pub installations_total: u64,
    /// The sources of readings since the start of the server, those with the most first.
    pub sources: Vec<SourceUsage>,
    /// The first segments of the points' paths, those with the most points first.
    pub points: Vec<PointsUsage>,
    pub points_total: u64,
}

/// An installation with all that it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct InstallationUsage {
    pub installation: InstallationId,
    pub app: AppId,
    pub state: InstallationState,
    /// Readings that wait for it; at most.
    pub lag: u64,
    /// Bytes of keys and values of its state, and 128 for each key.
    pub state_bytes: u64,
    /// Points that its outputs have made.
    pub points: u64,
    /// Readings that it derived.
    pub derived: u64,
    /// Bytes of these, as the log has them; the journal's blocks take a fifth to a half of that.
    pub derived_bytes: u64,
    /// CPU time of its invocations in seconds.
    pub cpu_seconds: f64,
    /// The most bytes that the memories and tables of one invocation took.
    pub peak_memory: u64,
    /// Lines that it wrote to its log.
    pub log_lines: u64,
    /// Bytes of its dead letters that are kept.
    pub dead_letter_bytes: u64,
    pub rate: Rate,
}

/// The rates of an installation, over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Rate {
    /// Readings that it deals with.
    pub readings: f64,
    /// CPU time in seconds.
    pub cpu: f64,
    /// Bytes of derived readings.
    pub derived_bytes: f64,
    /// The seconds over which it was measured; 0 where it isn't known yet.
    pub over: f64,
}

/// A source of readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SourceUsage {
    /// `connector`, `streams` (those with a key) or `pushes` (streams without a key, too).
    pub kind: String,
    /// Of a connector its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub readings: u64,
    /// Bytes of these, as the log has them.
    pub bytes: u64,
}

/// Points whose paths begin with the same segment, those of an app with the same two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PointsUsage {
    pub prefix: String,
    pub points: u64,
}

/// The order of the installations, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UsageKey {
    State,
    Points,
    #[default]
    Journal,
    Cpu,
    Memory,
    Log,
    Lag,
    Rate,
    Name,
}

impl UsageKey {
    /// Their names, in the order of the columns.
    pub(crate) const NAMES: [(&'static str, Self); 9] = [
        ("name", Self::Name),
        ("rate", Self::Rate),
        ("lag", Self::Lag),
        ("cpu", Self::Cpu),
        ("memory", Self::Memory),
        ("state", Self::State),
        ("points", Self::Points),
        ("journal", Self::Journal),
        ("log", Self::Log),
    ];

    /// Its name in a query.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, key)| *key == self).map_or("name", |(name, _)| name)
    }

    /// The figure of an installation that it is sorted by.
    pub(crate) fn of(self, usage: &InstallationUsage) -> f64 {
        let figure = match self {
            Self::State => usage.state_bytes,
            Self::Points => usage.points,
            Self::Journal => usage.derived_bytes,
            Self::Memory => usage.peak_memory,
            Self::Log => usage.log_lines,
            Self::Lag => usage.lag,
            Self::Cpu => return usage.rate.cpu,
            Self::Rate => return usage.rate.readings,
            Self::Name => return 0.0,
        };
        figure as f64
    }

    /// Sorts, the largest first; where they are alike, by id.
    pub(crate) fn sort(self, all: &mut [InstallationUsage]) {
        all.sort_by(|a, b| {
            self.of(b).total_cmp(&self.of(a)).then_with(|| a.installation.cmp(&b.installation))
        });
    }
}

impl FromStr for UsageKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, key)| *key);
        known.ok_or_else(|| {
            let names: Vec<_> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            format!("it is one of {}", names.join(", "))
        })
    }
}

/// The part of the usage to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsageQuery {
    pub sort: UsageKey,
    /// Installations, and of the others as many.
    pub limit: usize,
}
