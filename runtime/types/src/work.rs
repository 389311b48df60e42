//! An installation's work, as its lane's record has it and as people read it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::ids::{Ordinal, SlotName};

/// What an installation has done since its generation began. Stored in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// Readings that were dealt with: taken, refused or set aside.
    pub readings: u64,
    /// Invocations that left a record.
    pub invocations: u64,
    /// Failures by the rules: a bisection counts as one.
    pub failures: u64,
    /// Readings that were ever set aside.
    pub dead_letters: u64,
    /// Readings that it derived.
    pub derived: u64,
    /// Set-points that it asked for.
    pub intents: u64,
    /// Dead letters that were dropped, the oldest first, since there were too many or they were past their retention.
    pub dead_letters_dropped: u64,
    /// Alarms that were over and were left to the history before anybody acknowledged them, since there were too many.
    pub alarms_dropped: u64,
    /// Episodes of alarms that were over and were dropped from the history, the oldest first, since there were too many or
    /// they were past their retention.
    pub episodes_dropped: u64,
    /// Readings that were for it and past the journal's retention before it got to them.
    #[serde(default)]
    pub missed: u64,
    /// Readings that it derived anew after a reset and that were not published again.
    #[serde(default)]
    pub held_back: u64,
    /// Bytes of the readings that it derived, as the log has them; the journal's blocks take a fifth to a half of that.
    #[serde(default)]
    pub derived_bytes: u64,
    /// CPU time of its invocations, in nanoseconds.
    #[serde(default)]
    pub cpu_nanos: u64,
    /// The most bytes that the memories and tables of one invocation took.
    #[serde(default)]
    pub peak_memory: u64,
    /// Lines that it wrote to its log, those that were dropped included.
    #[serde(default)]
    pub log_lines: u64,
}

/// Readings that an app will never see: they were past the journal's retention before it got to them, or the disk has
/// damaged them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// The input that they were for.
    pub slot: SlotName,
    /// When the first of them was recorded.
    pub first: Timestamp,
    /// When the last of them was recorded.
    pub last: Timestamp,
    /// 0 where nobody can say how many.
    pub count: u64,
}

/// The last failure of an installation, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// The time, by the machine's clock.
    pub at: Timestamp,
    /// The outcome, such as `trap` or `cpu-limit`.
    pub kind: String,
    /// What went wrong, as the app or the runtime said it.
    pub message: String,
    /// The invocation that failed.
    pub ordinal: Ordinal,
}

/// The last failure of a timer's run. One that is given up leaves nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimerError {
    /// The timer's name.
    pub timer: String,
    pub error: LastError,
}

/// A line of an app's log, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptLine {
    /// Counts the lines of the installation, from 1.
    pub number: u64,
    /// The time of writing, by the machine's clock.
    pub at: Timestamp,
    /// `trace`, `debug`, `info`, `warn`, `error` or `critical`.
    pub level: String,
    /// The context that the app gave, `stdout`, `stderr` or `ironloom`.
    pub context: String,
    pub message: String,
    /// The invocation that wrote it.
    pub ordinal: Ordinal,
    /// The attempt at it, counted from 1.
    pub attempt: u32,
}
