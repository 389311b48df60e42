//! The log as of one position, to be copied while the committer goes on, and brought into another folder.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::LogError;
use super::segment::{BadHeader, HEADER_BYTES, NEXT_AT, NEXT_BYTES, SEGMENT_HEADER, Segment, SegmentHeader};
use crate::disk::Disk;
use ironloom_types::ids::Position;

/// The segments that hold the records behind a position, through another one. They aren't used for anything else
/// before this is dropped.
pub struct Image {
    disk: Arc<dyn Disk>,
    through: Position,
    parts: Vec<Part>,
}

/// One segment of an image.
struct Part {
    segment: Arc<Segment>,
    /// The end of its records, as of the image.
    end: u64,
}

impl Image {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        through: Position,
        segments: VecDeque<Arc<Segment>>,
        end_of_last: u64,
    ) -> Self {
        let count = segments.len();
        let part = |(at, segment): (usize, Arc<Segment>)| {
            let end = if at + 1 == count { end_of_last } else { segment.end() };
            Part { segment, end }
        };
        Self { disk, through, parts: segments.into_iter().enumerate().map(part).collect() }
    }

    /// The position of the last record in it.
    pub fn through(&self) -> Position {
        self.through
    }

    /// The names of its files, and how many bytes of each are in use. What a file has beyond is zeros.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.parts.iter().map(|part| (part.segment.name.as_str(), part.end))
    }

    /// Reads bytes of one of its files, which is named by its place among them.
    pub fn read(&self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), LogError> {
        let Part { segment, .. } = &self.parts[file];
        let read = segment.file.read_at(into, offset);
        read.map_err(LogError::io("read", self.disk.path(&segment.name)))?;
        if file + 1 == self.parts.len() {
            // A segment that was begun meanwhile isn't in this image.
            let (from, to) = (NEXT_AT as u64, (NEXT_AT + NEXT_BYTES) as u64);
            for (byte, at) in into.iter_mut().zip(offset..) {
                if (from..to).contains(&at) {
                    *byte = 0;
                }
            }
        }
        Ok(())
    }
}

/// The bytes at the beginning of a segment's file that [`adopt`] needs.
pub const ADOPTED: usize = HEADER_BYTES;

/// Makes a segment one of another log, by the bytes that it begins with, and returns the length that its file must
/// have. So files of the two logs are never taken for those of one.
pub fn adopt(begin: &mut [u8; ADOPTED], log: u64) -> Result<u64, NotASegment> {
    match SegmentHeader::decode(begin) {
        Ok(header) if header.bytes >= SEGMENT_HEADER as u64 => {
            let bytes = header.bytes;
            *begin = SegmentHeader { log, ..header }.encode();
            Ok(bytes)
        }
        Ok(_) | Err(BadHeader::Damaged) => Err(NotASegment::Damaged),
        Err(BadHeader::Newer(format)) => Err(NotASegment::Newer(format)),
    }
}

/// The reason why bytes aren't the beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASegment {
    #[error("it doesn't begin as a segment of the log does")]
    Damaged,
    #[error("segments of format {0} aren't known here")]
    Newer(u32),
}

/// Says if a file of this name is a segment of a log.
pub fn is_segment(name: &str) -> bool {
    super::segment::number_of(name).is_some()
}

#[cfg(test)]
mod tests {
    use ironloom_types::ids::Epoch;

    use super::*;

    #[test]
    fn an_adopted_segment_differs_by_its_log_alone() {
        let header = SegmentHeader {
            number: 7,
            epoch: Epoch(3),
            first: Position(11),
            durable: Position(10),
            salt: 99,
            bytes: 64 << 20,
            log: 1,
        };
        let mut bytes = header.encode();
        assert_eq!(adopt(&mut bytes, 2), Ok(64 << 20));
        assert_eq!(SegmentHeader::decode(&bytes), Ok(SegmentHeader { log: 2, ..header }));
        bytes[20] ^= 1;
        assert_eq!(adopt(&mut bytes, 3), Err(NotASegment::Damaged));
    }
}
