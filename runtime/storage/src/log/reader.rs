//! Reads records that are flushed, from any thread, while the committer goes on writing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use ironloom_types::ids::Position;

use super::error::LogError;
use super::frame::{self, Header, RECORD_HEADER};
use super::image::Image;
use super::segment::Segment;
use super::shared::{LogShared, Room, Stats};
use crate::disk::{Disk, Gone};

/// The place of a flushed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordRef {
    pub position: Position,
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl RecordRef {
    /// The bytes that it takes in the log, its header included.
    pub fn bytes(&self) -> usize {
        self.length as usize
    }
}

/// A record as read back.
#[derive(Clone, Debug)]
pub struct Record {
    pub at: RecordRef,
    /// The header before its body.
    pub header: Header,
    /// Its body: a slice of what was read with it, which stays in memory as long as any slice of it.
    pub body: Bytes,
}

/// Reads flushed records, from any thread.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<LogShared>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<LogShared>) -> Self {
        Self { shared }
    }

    /// The highest flushed position.
    pub fn flushed(&self) -> Position {
        self.shared.flushed()
    }

    /// Reads one record.
    ///
    /// Errors: [`LogError::Freed`] after its segment was freed, [`LogError::Damaged`].
    pub fn read(&self, at: RecordRef) -> Result<Record, LogError> {
        let freed = LogError::Freed { position: at.position };
        let segment = self.shared.segment(at.segment).ok_or(freed)?;
        let mut bytes = vec![0; at.length as usize];
        let disk = &*self.shared.disk;
        let read = segment.file.read_at(&mut bytes, u64::from(at.offset));
        read.map_err(LogError::io("read", disk.path(&segment.name)))?;
        decode(disk, &segment, Bytes::from(bytes), u64::from(at.offset), at.position)
    }

    /// The records from `from` through `to`, or through the last flushed one. The segments that hold them
    /// aren't reused before the iterator is dropped.
    ///
    /// Errors: [`LogError::Freed`] where `from` was freed already.
    pub fn records(&self, from: Position, to: Position) -> Result<Records, LogError> {
        let to = to.min(self.flushed());
        let from = from.max(Position(1));
        let disk = self.shared.disk.clone();
        let (mut segments, mut next, mut offset) = (VecDeque::new(), from, 0);
        if from <= to {
            let (found, place) = self.shared.find(from).ok_or(LogError::Freed { position: from })?;
            (segments, next, offset) = (found, place.position, place.offset);
        }
        Ok(Records { disk, segments, next, offset, from, to, chunk: Bytes::new(), chunk_at: 0 })
    }

    /// The log from the record of this position on, through the last flushed one, for a copy. The position may be that
    /// of the next record.
    ///
    /// Errors: [`LogError::Freed`] where it was freed already.
    pub fn image(&self, from: Position) -> Result<Image, LogError> {
        let (segments, through, end) = self.shared.image(from).ok_or(LogError::Freed { position: from })?;
        Ok(Image::new(self.shared.disk.clone(), through, segments, end))
    }

    /// At least the bytes of the records behind this position; too much by little more than a record.
    pub fn bytes_since(&self, position: Position) -> u64 {
        self.shared.bytes_since(position)
    }

    /// The bytes of the segment files that a checkpoint would free now, beyond those that one up to this position
    /// frees. After many short lives these are much more than their records.
    pub fn files_since(&self, position: Position) -> u64 {
        self.shared.files_since(position)
    }

    /// Frees the segments that lie wholly at or below this position. To be called only when the store
    /// holds this fold position durably: recovery will look for everything behind it.
    pub fn free_through(&self, position: Position) -> Result<(), LogError> {
        assert!(position <= self.flushed(), "only what was flushed can have been folded");
        self.shared.free_through(position)
    }

    /// Says whether the disk is nearly full: then free files are given back, but for the one of the next start.
    /// Waits for the disk.
    pub fn set_scarce(&self, scarce: bool) -> Result<(), LogError> {
        self.shared.set_scarce(scarce)
    }

    /// Gives back the free file of the next start as well: that makes do with a short one. Whether there was one.
    pub fn give_last_back(&self) -> Result<bool, LogError> {
        self.shared.give_last_back()
    }

    /// Says whether the files of all segments in use are there as they should be.
    pub fn check_files(&self) -> Result<(), Gone> {
        self.shared.check_files()
    }

    /// Returns who may still write.
    pub fn room(&self) -> Room {
        self.shared.room()
    }

    /// Returns the log's figures since start.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

/// Records in the order of their positions. Ends after the first error.
pub struct Records {
    disk: Arc<dyn Disk>,
    /// The first is the one being read.
    segments: VecDeque<Arc<Segment>>,
    /// The position of the record at `offset`.
    next: Position,
    offset: u64,
    from: Position,
    to: Position,
    /// The bytes that were read last, and where they begin in the segment.
    chunk: Bytes,
    chunk_at: u64,
}

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

impl Records {
    fn read(&mut self) -> Result<Option<Record>, LogError> {
        while self.next <= self.to {
            while self.segments.get(1).is_some_and(|after| after.header.first == self.next) {
                self.segments.pop_front();
                self.offset = super::segment::SEGMENT_HEADER as u64;
                self.chunk = Bytes::new();
                self.chunk_at = self.offset;
            }
            let Some(segment) = self.segments.front().cloned() else { return Ok(None) };
            let head = self.bytes(&segment, RECORD_HEADER)?;
            let length = frame::claimed_length(&head);
            let length = length.ok_or_else(|| damaged(&*self.disk, &segment, self.offset, self.next))?;
            let bytes = self.bytes(&segment, length)?;
            let record = decode(&*self.disk, &segment, bytes, self.offset, self.next)?;
            self.offset += length as u64;
            self.next = self.next.next();
            if record.at.position >= self.from {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// This many bytes from the present offset on.
    fn bytes(&mut self, segment: &Segment, length: usize) -> Result<Bytes, LogError> {
        let start = (self.offset - self.chunk_at) as usize;
        if self.chunk.len() < start + length {
            let left = segment.end().saturating_sub(self.offset);
            if left < length as u64 {
                return Err(damaged(&*self.disk, segment, self.offset, self.next));
            }
            let mut chunk = vec![0; left.min(CHUNK.max(length as u64)) as usize];
            let read = segment.file.read_at(&mut chunk, self.offset);
            read.map_err(LogError::io("read", self.disk.path(&segment.name)))?;
            self.chunk = Bytes::from(chunk);
            self.chunk_at = self.offset;
        }
        let start = (self.offset - self.chunk_at) as usize;
        Ok(self.chunk.slice(start..start + length))
    }
}

impl Iterator for Records {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.to = Position(0);
        }
        read.transpose()
    }
}

fn decode(
    disk: &dyn Disk,
    segment: &Segment,
    bytes: Bytes,
    offset: u64,
    position: Position,
) -> Result<Record, LogError> {
    let whole = frame::valid(&bytes, segment.header.salt).is_some_and(|record| record.len() == bytes.len());
    if !whole {
        return Err(damaged(disk, segment, offset, position));
    }
    let header = frame::header(&bytes).map_err(|kind| newer(disk, segment, offset, kind))?;
    if header.position != position {
        return Err(damaged(disk, segment, offset, position));
    }
    let at = RecordRef {
        position,
        segment: segment.header.number,
        offset: offset as u32,
        length: bytes.len() as u32,
    };
    Ok(Record { at, header, body: bytes.slice(RECORD_HEADER..) })
}

fn damaged(disk: &dyn Disk, segment: &Segment, offset: u64, position: Position) -> LogError {
    let problem = format!("record {position} was written here and can't be read back");
    LogError::Damaged { path: disk.path(&segment.name), offset, problem }
}

pub(super) fn newer(disk: &dyn Disk, segment: &Segment, offset: u64, kind: u8) -> LogError {
    let problem = format!("records of kind {kind} aren't known here");
    LogError::Newer { path: disk.path(&segment.name), offset, problem }
}
