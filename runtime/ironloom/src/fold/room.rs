//! What waits for a checkpoint: the room that it takes in memory, who may add to it, and the room on the disk that it
//! still needs. What is accepted fits: new things are refused while there is free space to write these.

use std::sync::atomic::Ordering;

use super::Shared;
use super::durable::Durable;
use super::points::PAGE;
use ironloom_types::ids::Position;

/// The engines write a key's bytes about three times until they keep them once. One of the three is counted with the
/// log, which has the same bytes.
const WRITTEN_BESIDES: u64 = 2;
/// The bytes of a page of latest values or of names, at about the most.
const PAGE_BYTES: usize = PAGE * 96;

/// The parts of `store.dirty` of which one is kept for installations that have little there.
const PARTS: usize = 8;
/// What an installation may have waiting for each byte that is left: alone eight ninths of all, beside others like it
/// about what each of them has.
const FOR_EACH_LEFT: usize = 8;

/// Whether so much waits that a checkpoint begins: three quarters of `store.dirty`.
pub(super) fn is_much(dirty: usize, limit: usize) -> bool {
    dirty >= limit / 4 * 3
}

/// Whether an installation may add to what waits for a checkpoint, where `own` bytes of it are its own, `all` those of
/// all `installations`, and `limit` is `store.dirty`. One that has much waits for one that has little, never the other way
/// round, and without counting who has how much: the more waits, the less each may have. What is left to those with little
/// at the end is bounded as well, and what invocations under way add comes on top.
fn may_add(limit: usize, all: usize, own: usize, installations: usize) -> bool {
    let kept = limit / PARTS;
    let left = (limit - kept).saturating_sub(all);
    if left > 0 && own <= left.saturating_mul(FOR_EACH_LEFT) {
        return true;
    }
    own <= kept / installations.max(1) && all < limit.saturating_add(2 * kept)
}

impl Shared {
    /// Bytes of keys that no checkpoint has folded, and of the places of readings that are in the log only.
    pub(super) fn unfolded(&self) -> usize {
        // A sum that is kept: there may be thousands of lanes.
        let of_lanes = self.dirty_state.load(Ordering::Relaxed);
        self.overlay.bytes() + self.invocations.bytes() + of_lanes + self.journal.tail_bytes()
    }

    /// Counts the bytes that wait for a checkpoint.
    pub(super) fn count_dirty(&self) -> usize {
        let dirty = self.unfolded();
        self.dirty.store(dirty, Ordering::Release);
        dirty
    }

    /// All bytes that ever waited for a checkpoint of this process.
    pub(super) fn ever_dirty(&self) -> u64 {
        self.given_back.load(Ordering::Acquire) + self.unfolded() as u64
    }

    /// A checkpoint has given so many bytes back.
    pub(super) fn give_back(&self, bytes: usize) {
        self.given_back.fetch_add(bytes as u64, Ordering::AcqRel);
    }

    /// Says how much may wait for a checkpoint.
    pub(super) fn set_dirty_limit(&self, limit: usize) {
        self.dirty_limit.store(limit, Ordering::Release);
    }

    /// Says whether so much waits for a checkpoint that one begins. Where it doesn't, nobody waits for room.
    pub(crate) fn is_crowded(&self) -> bool {
        is_much(self.dirty.load(Ordering::Acquire), self.dirty_limit.load(Ordering::Acquire))
    }

    /// Whether checkpoints keep up with what an installation writes, and there is room on the disk, so that it may begin an
    /// invocation.
    pub(crate) fn has_room_for(&self, lane: &Durable) -> bool {
        if self.is_disk_full() {
            return false;
        }
        if !self.is_crowded() {
            return true;
        }
        let (limit, all) = (self.dirty_limit.load(Ordering::Acquire), self.dirty.load(Ordering::Acquire));
        may_add(limit, all, lane.state.read().bytes().dirty, self.lanes.count())
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

#[cfg(test)]
mod tests;
