//! A copy of a generation: its state as of one moment, under a number of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::admin::{Ended, NewInstallation};
use super::alarm::AlarmRecord;
use super::installation::{Installation, Revision};
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

/// Copies beyond the quota go: the host removes the oldest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopiesDropped {
    pub id: InstallationId,
    /// The numbers of the copies.
    pub generations: Vec<Generation>,
}

impl fmt::Display for CopyBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, of, generation, .. } = self;
        write!(f, "generation {of} of installation {id} is being copied, as generation {generation}")
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, of, .. } = self;
        write!(f, "installation {} was copied, as generation {generation}", of.installation.id)
    }
}

impl fmt::Display for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.by_time { ": its time was over" } else { "" };
        write!(f, "the upgrade of installation {} was committed{by}", self.id)
    }
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let was = &self.ended.installation.version;
        let Installation { id, version, generation, went_back, .. } = &self.new.installation;
        write!(
            f,
            "installation {id} was rolled back from version {was} to {version}, generation {generation}"
        )?;
        match went_back.as_ref().and_then(|went_back| went_back.reason.as_deref()) {
            Some(reason) => write!(f, ", since {reason}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for CopiesDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generations: Vec<_> = self.generations.iter().map(ToString::to_string).collect();
        let generations = generations.join(", ");
        write!(
            f,
            "copies of installation {} beyond the quota were dropped: generation {generations}",
            self.id
        )
    }
}
