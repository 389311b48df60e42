//! The state of the log that committer, readers and checkpoints share: segments in use, places, counters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use ironloom_types::ids::Position;

use super::config::Config;
use super::error::LogError;
use super::segment::{self, SEGMENT_HEADER, Segment, Spare};
use super::spares::Spares;
use crate::disk::{Disk, Gone};
use crate::failpoint;

/// The state of the log that committer, readers and checkpoints share.
pub(super) struct LogShared {
    pub disk: Arc<dyn Disk>,
    pub config: Config,
    /// The log's random number.
    pub id: u64,
    pub spares: Spares,
    pub counters: Counters,
    live: Mutex<Live>,
    flushed: AtomicU64,
    /// Bytes of the files in the chain, whatever they hold of records: that is what the disk has to have.
    used: AtomicU64,
    /// Bytes that wait for the committer, at most.
    pub queued: AtomicU64,
    /// Bytes for which room is kept, of records that will be submitted.
    pub reserved: AtomicU64,
}

/// The segments in use and where to find positions in them.
#[derive(Default)]
struct Live {
    /// In the order of their positions, the active one last. Those without records stay until freed.
    chain: VecDeque<Arc<Segment>>,
    /// Some of the places where records begin: each segment's first, and one every [`PLACE_STEP`].
    places: VecDeque<Place>,
    /// The bytes of all records since start, those found by recovery included.
    total: u64,
}

/// A place where a record begins, or will begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub position: Position,
    pub segment: u64,
    pub offset: u64,
    /// The bytes of records before it, counted as `total` is.
    pub before: u64,
}

/// The distance of the remembered places, in bytes.
pub(super) const PLACE_STEP: u64 = 64 << 10;

impl LogShared {
    pub(super) fn new(disk: Arc<dyn Disk>, config: Config, id: u64, made: u64) -> Self {
        assert!(config.max_body() > 0, "a segment holds its headers and a record");
        assert!(config.segment_bytes <= u64::from(u32::MAX), "offsets in a segment are u32");
        let (bytes, least, most) = (config.segment_bytes, config.spares, config.max_spares);
        Self {
            spares: Spares::new(disk.clone(), bytes, least, most, made),
            disk,
            config,
            id,
            counters: Counters::default(),
            live: Mutex::default(),
            flushed: AtomicU64::new(0),
            used: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
        }
    }

    /// The highest flushed position.
    pub(super) fn flushed(&self) -> Position {
        Position(self.flushed.load(Ordering::Acquire))
    }

    /// The bytes of all records since start.
    pub(super) fn total(&self) -> u64 {
        self.live.lock().total
    }

    /// The segment that was begun last.
    pub(super) fn active(&self) -> Option<Arc<Segment>> {
        self.live.lock().chain.back().cloned()
    }

    /// Adds a segment behind the others.
    pub(super) fn add(&self, segment: Arc<Segment>) {
        let mut live = self.live.lock();
        let (position, number) = (segment.header.first, segment.header.number);
        let before = live.total;
        live.places.push_back(Place { position, segment: number, offset: SEGMENT_HEADER as u64, before });
        self.used.fetch_add(segment.bytes, Ordering::Relaxed);
        live.chain.push_back(segment);
    }

    /// The active segment's records are flushed up to this offset, and with them everything up to
    /// this position.
    pub(super) fn extend(&self, segment: &Segment, end: u64, through: Position, places: &mut Vec<Place>) {
        let mut live = self.live.lock();
        let bytes = end - segment.end();
        live.total += bytes;
        live.places.extend(places.drain(..));
        segment.set_end(end);
        self.flushed.store(through.0, Ordering::Release);
    }

    /// At least the bytes of the records behind this position; too much by little more than a record
    /// and [`PLACE_STEP`].
    pub(super) fn bytes_since(&self, position: Position) -> u64 {
        let live = self.live.lock();
        let behind = live.places.partition_point(|place| place.position <= position.next());
        let place = live.places.get(behind.saturating_sub(1));
        place.map_or(0, |place| live.total - place.before)
    }

    /// The bytes of the files that a checkpoint would free which folds all that is flushed, beyond those that
    /// one up to this position frees.
    pub(super) fn files_since(&self, position: Position) -> u64 {
        let live = self.live.lock();
        let begun = live.chain.iter().rposition(|segment| segment.header.first <= position.next());
        let behind = live.chain.iter().skip(begun.unwrap_or(0));
        behind.rev().skip(1).map(|segment| segment.bytes).sum()
    }

    /// The segments from the one that holds this position on, and the nearest known place at or before it.
    pub(super) fn find(&self, position: Position) -> Option<(VecDeque<Arc<Segment>>, Place)> {
        let live = self.live.lock();
        let behind = live.places.partition_point(|place| place.position <= position);
        let place = *live.places.get(behind.checked_sub(1)?)?;
        let chain = live.chain.iter().skip_while(|segment| segment.header.number != place.segment);
        Some((chain.cloned().collect(), place))
    }

    /// The segments from the one that holds this position on, with the last flushed position and where its record
    /// ends in the last of them.
    pub(super) fn image(&self, position: Position) -> Option<(VecDeque<Arc<Segment>>, Position, u64)> {
        let live = self.live.lock();
        let behind = live.places.partition_point(|place| place.position <= position);
        let number = live.places.get(behind.checked_sub(1)?)?.segment;
        let chain: VecDeque<_> =
            live.chain.iter().skip_while(|segment| segment.header.number != number).cloned().collect();
        let end = chain.back()?.end();
        Some((chain, self.flushed(), end))
    }

    /// The segment of this number, if it is still there.
    pub(super) fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let live = self.live.lock();
        let at = live.chain.binary_search_by_key(&number, |segment| segment.header.number).ok()?;
        live.chain.get(at).cloned()
    }

    /// Frees the segments that recovery doesn't need once the store has this fold position durably.
    pub(super) fn free_through(&self, position: Position) -> Result<(), LogError> {
        for segment in self.detach_through(position) {
            self.used.fetch_sub(segment.bytes, Ordering::Relaxed);
            failpoint("log-free-before-rename");
            match Arc::try_unwrap(segment) {
                Ok(segment) => self.recycle(segment)?,
                // Somebody reads it. The file lives on without a name until they are done.
                Err(segment) => self.remove(&segment.name)?,
            }
        }
        failpoint("log-free-done");
        Ok(())
    }

    fn detach_through(&self, position: Position) -> Vec<Arc<Segment>> {
        let mut live = self.live.lock();
        let begun = live.chain.iter().rposition(|segment| segment.header.first <= position.next());
        let Some(start) = begun else { return Vec::new() };
        let detached: Vec<_> = live.chain.drain(..start).collect();
        if let Some(last) = detached.last().map(|segment| segment.header.number) {
            let behind = live.places.partition_point(|place| place.segment <= last);
            live.places.drain(..behind);
        }
        detached
    }

    /// Keeps the file for use, or removes it where there are enough.
    pub(super) fn recycle(&self, segment: Segment) -> Result<(), LogError> {
        if segment.bytes != self.config.segment_bytes || !self.spares.has_room() {
            return self.remove(&segment.name);
        }
        let name = segment::freed(segment.header.number);
        let renamed = self.disk.rename(&segment.name, &name);
        renamed.map_err(LogError::io("rename", self.disk.path(&segment.name)))?;
        let left = self.spares.put(Spare { name, file: segment.file, bytes: segment.bytes });
        left.map_or(Ok(()), |left| self.remove(&left.name))
    }

    /// Says whether the disk is nearly full: then free files are given back, but for the one of the next start.
    pub(super) fn set_scarce(&self, scarce: bool) -> Result<(), LogError> {
        self.spares.set_scarce(scarce).iter().try_for_each(|spare| self.remove(&spare.name))
    }

    /// Gives back the free file of the next start as well. Whether there was one.
    pub(super) fn give_last_back(&self) -> Result<bool, LogError> {
        self.spares.take_last().map_or(Ok(false), |spare| self.remove(&spare.name).map(|()| true))
    }

    /// Says whether the files of all segments in use are there as they should be.
    pub(super) fn check_files(&self) -> Result<(), Gone> {
        let chain: Vec<_> = self.live.lock().chain.iter().cloned().collect();
        for segment in chain {
            let found = self.disk.check(&segment.name, &*segment.file, segment.bytes);
            // Its name changes when it is freed, and that is no loss.
            if found.is_err() && self.segment(segment.header.number).is_some() {
                return found;
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), LogError> {
        self.disk.remove(name).map_err(LogError::io("remove", self.disk.path(name)))
    }

    /// Returns who may still write, beside all that others have reserved.
    pub(super) fn room(&self) -> Room {
        self.room_beside(self.reserved.load(Ordering::Relaxed))
    }

    /// Returns who may still write of those that have reserved it.
    pub(super) fn room_of_reserved(&self) -> Room {
        self.room_beside(0)
    }

    fn room_beside(&self, reserved: u64) -> Room {
        let taken = self.used.load(Ordering::Relaxed) + self.queued.load(Ordering::Relaxed) + reserved;
        if taken + self.config.commit_reserve <= self.config.max_bytes {
            Room::All
        } else if taken <= self.config.max_bytes {
            Room::CommitsOnly
        } else {
            Room::None
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let counters = &self.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            groups: load(&counters.groups),
            records: load(&counters.records),
            bytes: load(&counters.bytes),
            used_bytes: load(&self.used),
            queued_bytes: load(&self.queued),
            segments: self.live.lock().chain.len(),
            flushed: self.flushed(),
        }
    }
}

/// Who may still submit records within `log.max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    All,
    /// Commits, so that what was begun ends; pushes are refused and connectors stop reading.
    CommitsOnly,
    /// Nobody, until a checkpoint has freed segments.
    None,
}

#[derive(Default)]
pub(super) struct Counters {
    groups: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    pub(super) fn flushed(&self, records: u64, bytes: u64) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The log's figures since start, for metrics.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Groups written, marks included.
    pub groups: u64,
    /// Records written, marks included.
    pub records: u64,
    /// Bytes of records written.
    pub bytes: u64,
    /// Bytes of the segment files in use.
    pub used_bytes: u64,
    /// Bytes that wait for the committer, by the bounds that were given for them.
    pub queued_bytes: u64,
    /// Segment files in use. A restart begins a new one, however little the last one holds.
    pub segments: usize,
    /// The highest flushed position.
    pub flushed: Position,
}
