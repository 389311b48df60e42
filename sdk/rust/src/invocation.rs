//! Facts about the call that is under way. All of them are recorded, so that a replay sees them again.
//!
//! ```
//! use ironloom_sdk::prelude::*;
//!
//! fn note() {
//!     for gap in invocation::gaps() {
//!         log::warn!("{} readings of {} are lost, from {} to {}", gap.count, gap.slot, gap.first, gap.last);
//!     }
//!     log::info!("invocation {} at {}", invocation::id(), invocation::now());
//! }
//! # ironloom_sdk::testing::Platform::new().run(note);
//! ```

use crate::host;
use crate::time::Timestamp;

/// A stretch of readings that the app will never see, since they were deleted before it came to them, or since the disk has
/// damaged them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The input, by its name in the manifest.
    pub slot: String,
    /// When the first of the missing readings was recorded.
    pub first: Timestamp,
    /// When the last of them was.
    pub last: Timestamp,
    /// The number of missing readings; 0 where nobody can say how many, if any.
    pub count: u64,
}

/// Names this invocation. No two invocations that took effect share an id; one that failed took none, and its id
/// goes to the next.
pub fn id() -> String {
    host::invocation_id()
}

/// Gives the time of this invocation: when its last reading was recorded, or when its timer was due. It stands
/// still while the app runs.
pub fn now() -> Timestamp {
    host::invocation_now()
}

/// Gives what this app will never see, since it was deleted before the app got to it: one gap for each input that misses
/// readings. Usually nothing. Each invocation is told until one has ended well.
pub fn gaps() -> Vec<Gap> {
    host::invocation_gaps()
}
