//! What the store holds under its keys, besides the bytes of others: receipts, state, blocks and the log's identity.
//!
//! Each value is `postcard` of one type: those of the log's records ([`records`](crate::records)), and those of the
//! fold here. Each is bounded by the record that it comes from or by its page, and has golden bytes in the tests.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::records::copy::CopyFacts;
use crate::records::installation::Installation;
use crate::records::lane::LaneMeta;
use ironloom_storage::store::{Item, Key, KeyKind, KeyRange, Page, StoreError};
use ironloom_types::clock::{BUILT_AFTER, SECOND, Timestamp};
use ironloom_types::ids::{
    Digest, Generation, InstallationId, LastGenerations, LastSequences, Position, Sequence, TenantId,
};
use ironloom_types::page::pages;
use ironloom_types::readings::Progress;

/// Values of one kind that are read in one step.
const AT_ONCE: usize = 256;
/// The time for which the state of a removed installation and its points are kept, unless they are purged.
pub(super) const KEPT: u64 = 7 * 24 * 3600 * SECOND;
/// The time that the process must have run before a week by the machine's clock is believed: it may have been set since.
pub(crate) const BELIEVED_AFTER: Duration = Duration::from_secs(3600);

/// A value of the store.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = Vec::new();
    let written = postcard::to_io(value, &mut bytes);
    assert!(written.is_ok(), "these types hold nothing that postcard can't express: {:?}", written.err());
    bytes.into()
}

/// Reads a value of the store.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(bytes)
}

/// Where the store remembers a request.
pub(super) fn request_key(key: [u8; 16]) -> Key {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(&key);
    Item::Idempotency(hash).key()
}

/// A page of points as the store keeps it, in the order of their numbers.
pub(crate) type StoredPoints<'a> = Vec<StoredPoint<'a>>;

/// A number of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredPoint<'a> {
    /// The point was removed, and its readings are given out no more.
    Removed,
    There {
        tenant: TenantId,
        path: &'a str,
        unit: Option<&'a str>,
        description: Option<&'a str>,
    },
    /// The point was retired; its readings are still there.
    Retired {
        tenant: TenantId,
        /// The path under which they are given out.
        path: &'a str,
        /// The path by which they were routed, where it is another.
        was: Option<&'a str>,
        /// The unit that it had.
        unit: Option<&'a str>,
    },
}

/// A stream of readings as the store keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredStream {
    /// The lines and readings that are dealt with.
    pub progress: Progress,
    /// The journal time of the record that said so.
    pub at: Timestamp,
}

/// A generation as the store keeps it, besides its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredLane {
    /// The installation that it belongs to, or belonged to.
    pub installation: InstallationId,
    /// Cursor, counters and more.
    pub meta: LaneMeta,
    /// Set once it is gone.
    pub removed: Option<Removed>,
    /// The installation as it was then, for as long as another may adopt the generation.
    pub ended: Option<Installation>,
    /// Set where it is a copy.
    pub copy: Option<CopyFacts>,
}

/// The removal of an installation: its time, and the fate of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Removed {
    /// The time, by the machine's clock.
    pub at: Timestamp,
    /// Its state goes now. Set by the removal itself, or later by the record of a purge.
    pub purge: bool,
}

impl Removed {
    /// The end of the time for which state is kept; `None` where it was removed at a time that can't have been.
    pub(crate) fn kept_until(self) -> Option<Timestamp> {
        (self.at >= BUILT_AFTER).then(|| self.at.plus(KEPT))
    }

    /// Says whether the time for which state is kept is over at this time of the machine's clock, after the process
    /// has run for so long. What was removed at a time that can't have been is kept for as long by the process.
    pub(crate) fn is_over(self, now: Option<Timestamp>, up: Duration) -> bool {
        let is_known = self.at >= BUILT_AFTER;
        let enough = if is_known { BELIEVED_AFTER } else { Duration::from_nanos(KEPT) };
        up >= enough && now.is_some_and(|now| self.at.plus(KEPT) <= now)
    }
}

/// The value of the fold position: the one root of recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FoldPosition {
    /// The position up to which all records are in the store, or are outdone by later ones.
    pub position: Position,
    /// A record that the log has: a checkpoint has left out keys that one up to it writes again.
    pub witness: Position,
    /// The last sequence of each tenant that was routed, and whose reading is in a block.
    pub folded_through: LastSequences,
    /// The last journal time.
    pub time: Timestamp,
    /// The number of points: an interrupted checkpoint may have left more in the store.
    pub points: u32,
    /// The last generation of each tenant: as with points.
    pub generations: LastGenerations,
    /// For each generation with readings that wait: the first of them.
    pub pending: Vec<(Generation, Sequence)>,
    /// Packages that are gone and whose keys may be left: they go after this is written, so that whatever is
    /// replayed from a position finds the packages that it names.
    pub packages_gone: Vec<Digest>,
}

impl Shared {
    /// A value of the store with its changes, if there is one.
    pub(super) fn stored<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, String> {
        let value = self.overlay.get(key).map_err(|error| error.to_string())?;
        value.map(|bytes| decode(&bytes).map_err(|error| format!("{key}: {error}"))).transpose()
    }

    /// Shows `see` the values of one kind and generation, as [`Self::each_in`].
    pub(super) fn each_of<T: DeserializeOwned>(
        &self,
        kind: KeyKind,
        generation: Generation,
        behind: Option<Key>,
        see: impl FnMut(&Key, T) -> bool,
    ) -> Result<(), String> {
        self.each_in(&KeyRange::generation(kind, generation), behind, see)
    }

    /// Shows `see` the values of a range behind a key in the order of their keys, until it returns false.
    pub(super) fn each_in<T: DeserializeOwned>(
        &self,
        range: &KeyRange,
        behind: Option<Key>,
        mut see: impl FnMut(&Key, T) -> bool,
    ) -> Result<(), String> {
        let page = |after: Option<&Key>| {
            let (entries, more) = self.overlay.scan(range, after.or(behind.as_ref()), AT_ONCE)?;
            Ok::<_, StoreError>(Page { entries, more })
        };
        for page in pages(page) {
            for (key, value) in page.map_err(|error| error.to_string())? {
                let value = decode(&value).map_err(|error| format!("{key}: {error}"))?;
                if !see(&key, value) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
