//! What keeps a replay from going on, in the words of whoever asked for it.

use super::{MOST_BYTES, MOST_READINGS};
use crate::fold::past::KEPT;
use crate::lanes::replay::MAX_STATE;
use crate::lanes::run::migrate::MigrateError;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Ordinal, Revision};

/// The earliest time that is possible instead.
fn or_from(earliest: Option<Timestamp>) -> String {
    match earliest {
        Some(earliest) => format!("; the earliest time is {}", earliest.to_jiff()),
        None => "; so it can't be rehearsed from any time".to_owned(),
    }
}

/// A time, or the beginning.
fn moment(from: Timestamp) -> String {
    if from == Timestamp(0) { "its beginning".to_owned() } else { from.to_jiff().to_string() }
}

/// The reason why a replay goes no further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(
        "the records of its first invocations are no longer kept, only those from {0} on: a replay begins with nothing, and needs all of them"
    )]
    NotKept(Ordinal),
    #[error(
        "invocation {0} does something else than it did, so what was before the last ones isn't known: `ironloom replay` says more"
    )]
    Differs(Ordinal),
    #[error("the invocations have more than {MOST_READINGS} readings; ask for fewer")]
    TooMany,
    #[error(
        "its state and the readings of the invocations take more than {} MiB, the most that a capsule holds; ask for fewer invocations",
        MOST_BYTES >> 20
    )]
    TooMuch,
    #[error("its state before them takes more than {} MiB, the most that a capsule holds", MOST_BYTES >> 20)]
    StateTooMuch,
    #[error("it has no invocation {from} or later: the last is {last}")]
    Beyond { from: Ordinal, last: Ordinal },
    #[error(
        "a person changed its state before invocation {0}, or it was rolled back: from there on it rests on more than the records of invocations, and can't run again"
    )]
    Repaired(Ordinal),
    #[error(
        "the state that it had at {} can't be made: {why}, and no copy of an earlier one is kept{}",
        moment(*.from), or_from(*.earliest)
    )]
    NoStart { from: Timestamp, why: String, earliest: Option<Timestamp> },
    #[error("it has no invocation yet")]
    Nothing,
    #[error("it was reset or uninstalled meanwhile")]
    Changed,
    #[error("its code is not loaded yet")]
    NotLoaded,
    #[error(
        "its invocations ran under revision {0} too, which is no longer kept: of those before the present one the last {KEPT} are"
    )]
    RevisionNotKept(Revision),
    #[error(
        "revision {revision} had the package {package}, which is no longer here: send it again with `ironloom packages add`"
    )]
    PackageGone { revision: Revision, package: Digest },
    #[error("the code of revision {revision} can't be loaded: {error}")]
    Code { revision: Revision, error: String },
    #[error("the migration to revision {revision} ended otherwise than it did: {error}")]
    Migrate { revision: Revision, error: MigrateError },
    #[error(
        "invocation {ordinal} was offered {recorded} readings, and the journal has {found} of them now: are they past their retention, or were its points removed?"
    )]
    Readings { ordinal: Ordinal, recorded: u32, found: usize },
    #[error("its state takes more than {} MiB at invocation {ordinal}", MAX_STATE >> 20)]
    TooLarge { ordinal: Ordinal },
    #[error("{0}")]
    Host(String),
}
