//! The room on the disk that checkpoints still need for what was accepted. What is accepted fits: new things are
//! refused while there is free space to write these.

use std::sync::atomic::Ordering;

use super::Shared;
use super::points::PAGE;
use ironloom_types::ids::Position;

/// The engines write a key's bytes about three times until they keep them once. One of the three is counted with the
/// log, which has the same bytes.
const WRITTEN_BESIDES: u64 = 2;
/// The bytes of a page of latest values or of names, at about the most.
const PAGE_BYTES: usize = PAGE * 96;

impl Shared {
    /// Bytes of keys that no checkpoint has folded.
    pub(super) fn unfolded(&self) -> usize {
        // A sum that is kept: there may be thousands of lanes.
        let of_lanes = self.dirty_state.load(Ordering::Relaxed);
        self.overlay.bytes() + self.invocations.bytes() + of_lanes
    }

    /// The last position that a checkpoint has brought to the store.
    pub(crate) fn folded(&self) -> Position {
        Position(self.folded.load(Ordering::Acquire))
    }

    /// The most that checkpoints still write: of blocks no more than there are bytes of the log behind
    /// [`Self::folded`], and of keys what they write besides.
    pub(crate) fn owed(&self, of_log: u64) -> u64 {
        let keys = self.unfolded();
        let pages = self.points.dirty_pages() * PAGE_BYTES;
        of_log + WRITTEN_BESIDES * (keys + pages) as u64
    }
}
