//! A copy of a generation: its state as of one moment, under a number of its own.

use serde::{Deserialize, Serialize};

use super::admin::{Ended, NewInstallation};
use super::alarm::AlarmRecord;
use super::installation::Revision;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId};

/// A copy that is about to be made: what lies under its number goes at a start that finds no [`Copied`] behind this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopyBegun {
    pub id: InstallationId,
    /// The generation that is copied.
    pub of: Generation,
    /// The number of the copy, never given before.
    pub generation: Generation,
    /// The time, by the machine's clock.
    pub at: Timestamp,
}

/// A copy that is whole: state, one-shot timers, alarms and dead letters were durable in the store before this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub generation: Generation,
    /// The installation and the lane's bookkeeping, as of the moment.
    pub of: Ended,
    pub facts: CopyFacts,
}

/// A copy, besides what is kept of any generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CopyFacts {
    /// The newest revision at that time.
    pub revision: Revision,
    /// The moment, by the machine's clock.
    pub at: Timestamp,
    pub reason: Reason,
}

/// The reason why a copy was made. The order is the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// Another version came after it.
    Upgrade,
    /// It was time for one.
    Regular,
}

/// Nobody rolls an upgrade back any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub id: InstallationId,
    pub generation: Generation,
    /// Its time was over; else somebody said so.
    pub by_time: bool,
}

/// A copy takes the place of the generation that came after it, whose state is kept as of one that was reset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RolledBack {
    /// The generation before.
    pub ended: Ended,
    /// The time, by the machine's clock.
    pub at: Timestamp,
    /// The installation as it is now, which has adopted the copy.
    pub new: NewInstallation,
    /// The alarms that were there at the moment of the copy.
    pub alarms: Vec<AlarmRecord>,
}
