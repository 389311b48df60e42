//! The report of a rehearsal: two versions of an app beside each other over the same recorded journal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::ids::{Digest, Ordinal, Revision};

/// The most differences that a report shows; the others are counted.
pub const MAX_DIFFERENCES: usize = 100;

/// The result of a rehearsal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RehearsalReport {
    /// Neither outputs nor states differ, and the new version has run to the end.
    pub same: bool,
    /// The place from which its state was made.
    pub start: RehearsalStart,
    /// From this time on both versions ran. Before it only the old one did, to come to the state of that time.
    pub from: Timestamp,
    /// The time of the last invocation.
    pub to: Timestamp,
    pub old: RehearsedVersion,
    pub new: RehearsedVersion,
    /// Numbers of what was compared, by kind.
    pub compared: BTreeMap<DifferenceKind, Compared>,
    /// The first differences, in their order.
    pub differences: Vec<RehearsalDifference>,
    pub state: StateCompared,
    /// Invocations of the old version that did the same as their records say.
    pub as_recorded: u64,
    /// The first of those that did something else: what follows rests on another state than it had then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Ordinal>,
    /// Invocations whose end the machine's speed or the log decided. Neither version ran them.
    pub left_out: u64,
    /// The reason why the new version did not run to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// The place from which the state of a rehearsal was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RehearsalStart {
    pub kind: StartKind,
    pub time: Timestamp,
    /// The last invocation before it.
    pub after: Ordinal,
}

/// Kinds of places to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartKind {
    /// The installation's first reading, with nothing in its state.
    Beginning,
    /// A copy of its state that the host has kept.
    Copy,
}

/// One of the two versions, in numbers. They count from the time on from which both ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RehearsedVersion {
    pub version: String,
    pub package: Digest,
    pub revision: Revision,
    /// Invocations that ran.
    pub invocations: u64,
    /// Readings that it was done with.
    pub readings: u64,
    pub derived: u64,
    pub set_points: u64,
    /// Changes of alarms.
    pub alarms: u64,
    /// Readings that it refused or could not take.
    pub dead_letters: u64,
    /// Readings, and runs of timers, that it failed at for good, by outcome.
    pub failures: BTreeMap<String, u64>,
    /// Its CPU time, in nanoseconds.
    pub cpu_nanos: u64,
    /// The most CPU time of one invocation.
    pub longest_nanos: u64,
    /// Invocations that took more CPU time than their limit: on this machine they would have ended there.
    pub beyond_cpu: u64,
    /// The most bytes that the memories of one invocation took.
    pub peak_memory: u64,
    /// Keys of its state at the end, and their bytes with the values.
    pub state_keys: u64,
    pub state_bytes: u64,
    /// Alarms that are active at the end, and one-shot timers that are set.
    pub alarms_standing: u64,
    pub timers: u64,
    /// Readings that it had asked for again until the end.
    pub waiting: u64,
}

/// Kinds of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    Derived,
    SetPoint,
    Alarm,
    DeadLetter,
    /// A timer whose run failed for good, or that is set at the end.
    Timer,
    /// The first change of the state that differs, where both versions have it in the same form.
    State,
}

impl DifferenceKind {
    /// The kind in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Derived => "derived reading",
            Self::SetPoint => "set-point",
            Self::Alarm => "alarm",
            Self::DeadLetter => "dead letter",
            Self::Timer => "timer",
            Self::State => "state",
        }
    }
}

/// One kind in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Compared {
    pub old: u64,
    pub new: u64,
    /// Those of either version that the other one lacks, or has otherwise.
    pub different: u64,
    /// The largest difference of two numbers, as a share of the larger one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<f64>,
}

/// A deed that only one version did, or that both did otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RehearsalDifference {
    /// The invocation of the old version where it shows.
    pub ordinal: Ordinal,
    pub time: Timestamp,
    pub kind: DifferenceKind,
    /// The point, alarm, input, timer or key.
    pub what: String,
    /// The old version's deed, if it did anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The new version's deed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// The states at the end, beside each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateCompared {
    /// Keys that both have with the same value.
    pub same: u64,
    pub different: u64,
    pub only_old: u64,
    pub only_new: u64,
    /// Some of the keys that aren't the same.
    pub samples: Vec<String>,
    /// The new version has brought the state into a form of its own, so that a difference says little.
    pub migrated: bool,
}

impl RehearsalReport {
    /// Derived readings, set-points, alarms, dead letters and timers that differ, as a share of all there are.
    pub fn share(&self) -> f64 {
        let outputs = self.compared.iter().filter(|(kind, _)| **kind != DifferenceKind::State);
        let (mut all, mut different) = (0, 0);
        for (_, compared) in outputs {
            all += compared.old.max(compared.new);
            different += compared.different;
        }
        if different == 0 { 0.0 } else { (different as f64 / all.max(1) as f64).min(1.0) }
    }

    /// Differences that aren't shown.
    pub fn not_shown(&self) -> u64 {
        let all: u64 = self.compared.values().map(|compared| compared.different).sum();
        all.saturating_sub(self.differences.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_outputs_and_not_the_state() {
        let compared = |old, new, different| Compared { old, new, different, largest: None };
        let version = RehearsedVersion {
            version: "1.0.0".into(),
            package: Digest([0; 32]),
            revision: Revision(1),
            invocations: 0,
            readings: 0,
            derived: 0,
            set_points: 0,
            alarms: 0,
            dead_letters: 0,
            failures: BTreeMap::new(),
            cpu_nanos: 0,
            longest_nanos: 0,
            beyond_cpu: 0,
            peak_memory: 0,
            state_keys: 0,
            state_bytes: 0,
            alarms_standing: 0,
            timers: 0,
            waiting: 0,
        };
        let mut report = RehearsalReport {
            same: false,
            start: RehearsalStart { kind: StartKind::Beginning, time: Timestamp(0), after: Ordinal(0) },
            from: Timestamp(0),
            to: Timestamp(0),
            old: version.clone(),
            new: version,
            compared: [
                (DifferenceKind::Derived, compared(90, 90, 3)),
                (DifferenceKind::Alarm, compared(8, 10, 2)),
                (DifferenceKind::State, compared(5, 5, 5)),
            ]
            .into(),
            differences: Vec::new(),
            state: StateCompared::default(),
            as_recorded: 0,
            otherwise: None,
            left_out: 0,
            ended: None,
        };
        assert!((report.share() - 0.05).abs() < 1e-12);
        assert_eq!(report.not_shown(), 10);
        report.compared.clear();
        assert!(report.share().abs() < 1e-12);
        // Outputs that only one of them has.
        report.compared.insert(DifferenceKind::Derived, compared(0, 7, 7));
        assert!((report.share() - 1.0).abs() < 1e-12);
    }
}
