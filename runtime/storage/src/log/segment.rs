//! One file of the log. It begins with a header; all numbers are little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–7 | `IRONLOOM` |
//! | 8–11 | format: 1 |
//! | 12–19 | number, as in the file's name |
//! | 20–23 | epoch |
//! | 24–31 | first position |
//! | 32–39 | durable: the highest position known to be flushed when the segment was begun |
//! | 40–43 | salt: random, so that nothing left in a recycled file or sent as a reading passes for a record |
//! | 44–51 | length of the file |
//! | 52–59 | the log's random number, which its store remembers |
//! | 60–63 | CRC32C over bytes 0–59 |
//!
//! On a page of its own stands, once the next segment is begun:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4096–4103 | number of the next segment |
//! | 4104–4107 | CRC32C over this segment's number and bytes 4096–4103, starting from the salt |
//!
//! Records begin at byte 8192. A file that waits for its use is named `….free`, one in use by its number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ironloom_types::ids::{Epoch, Position};

use super::error::LogError;
use super::frame::{u32_at, u64_at};
use crate::disk::{Disk, DiskFile};
use crate::failpoint;

/// Where records begin: behind a page for the header and one for what is noted later, so that a write that
/// is cut off tears neither of them.
pub(super) const SEGMENT_HEADER: usize = 8192;
/// The bytes of the header that mean something.
pub(super) const HEADER_BYTES: usize = 64;
/// Where the number of the next segment stands, and how many bytes it takes with its checksum.
pub(super) const NEXT_AT: usize = 4096;
pub(super) const NEXT_BYTES: usize = 12;
const MAGIC: &[u8; 8] = b"IRONLOOM";
const FORMAT: u32 = 1;

const _: () = assert!(HEADER_BYTES <= NEXT_AT, "the header has its page for itself");
const _: () = assert!(NEXT_AT + NEXT_BYTES <= SEGMENT_HEADER, "records begin behind both");

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub number: u64,
    pub epoch: Epoch,
    pub first: Position,
    pub durable: Position,
    pub salt: u32,
    /// The length of the file: one that is shorter was cut off.
    pub bytes: u64,
    /// The log's, as the store remembers it.
    pub log: u64,
}

/// The reason why a segment's header can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Newer(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.number.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.salt.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[52..60].copy_from_slice(&self.log.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadHeader> {
        let read = || {
            let sound = &bytes[0..8] == MAGIC && u32_at(bytes, 60)? == crc32c::crc32c(&bytes[..60]);
            let header = Self {
                number: u64_at(bytes, 12)?,
                epoch: Epoch(u32_at(bytes, 20)?),
                first: Position(u64_at(bytes, 24)?),
                durable: Position(u64_at(bytes, 32)?),
                salt: u32_at(bytes, 40)?,
                bytes: u64_at(bytes, 44)?,
                log: u64_at(bytes, 52)?,
            };
            sound.then_some((u32_at(bytes, 8)?, header))
        };
        match read() {
            Some((FORMAT, header)) => Ok(header),
            Some((format, _)) => Err(BadHeader::Newer(format)),
            None => Err(BadHeader::Damaged),
        }
    }
}

/// A segment in use. Whoever reads it holds the `Arc`; only one that nobody holds is recycled.
pub(super) struct Segment {
    pub name: String,
    pub header: SegmentHeader,
    pub file: Arc<dyn DiskFile>,
    /// The length of the file.
    pub bytes: u64,
    /// The end of its flushed records.
    end: AtomicU64,
}

impl Segment {
    pub(super) fn new(name: String, header: SegmentHeader, file: Arc<dyn DiskFile>, bytes: u64) -> Self {
        Self { name, header, file, bytes, end: AtomicU64::new(SEGMENT_HEADER as u64) }
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }
}

/// The name of the segment with this number.
pub(super) fn numbered(number: u64) -> String {
    format!("{number:020}.log")
}

/// The number in the name of a segment.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?;
    (number.len() == 20).then_some(())?;
    number.parse().ok()
}

/// The name of a segment that was freed.
pub(super) fn freed(number: u64) -> String {
    format!("{number:020}{FREE}")
}

/// The name of a segment that was made, not freed.
pub(super) fn made(count: u64) -> String {
    format!("new-{count:020}{FREE}")
}

/// The number in the name of a segment that was made and never used.
pub(super) fn made_number(name: &str) -> Option<u64> {
    name.strip_prefix("new-")?.strip_suffix(FREE)?.parse().ok()
}

/// The suffix of files that wait for their use.
pub(super) const FREE: &str = ".free";

/// A file that waits for its use.
pub(super) struct Spare {
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    pub bytes: u64,
}

/// Makes a spare file the segment of this header. Everything in older segments must have been synced.
pub(super) fn begin(disk: &dyn Disk, spare: Spare, header: SegmentHeader) -> Result<Segment, LogError> {
    let name = numbered(header.number);
    // Until the folder is synced a power cut may give the file its old number back: its bytes must not
    // have changed by then.
    failpoint("log-begin-before-folder-sync");
    disk.sync_folder().map_err(LogError::io("sync", disk.path("")))?;
    failpoint("log-begin-before-header");
    let io = |what| LogError::io(what, disk.path(&spare.name));
    spare.file.write_at(&header.encode(), 0).map_err(io("write"))?;
    failpoint("log-begin-before-header-sync");
    spare.file.sync_data().map_err(io("sync"))?;
    failpoint("log-begin-before-rename");
    disk.rename(&spare.name, &name).map_err(io("rename"))?;
    failpoint("log-begin-before-last-folder-sync");
    disk.sync_folder().map_err(LogError::io("sync", disk.path("")))?;
    failpoint("log-begin-done");
    Ok(Segment::new(name, header, spare.file, spare.bytes))
}

/// Writes into a segment which one comes next, once that one is begun and before it has any record: so that
/// its loss is noticed though it took all that was known of it along.
pub(super) fn note_next(disk: &dyn Disk, segment: &Segment, next: u64) -> Result<(), LogError> {
    let mut bytes = [0; NEXT_BYTES];
    bytes[..8].copy_from_slice(&next.to_le_bytes());
    bytes[8..].copy_from_slice(&next_checksum(&segment.header, next).to_le_bytes());
    let io = |what| LogError::io(what, disk.path(&segment.name));
    segment.file.write_at(&bytes, NEXT_AT as u64).map_err(io("write"))?;
    failpoint("log-begin-before-note-sync");
    segment.file.sync_data().map_err(io("sync"))
}

/// The segment that was begun after this one, as its own bytes say. What an earlier use of the file left
/// there doesn't count.
pub(super) fn noted_next(header: &SegmentHeader, segment: &[u8]) -> Option<u64> {
    let next = u64_at(segment, NEXT_AT)?;
    (u32_at(segment, NEXT_AT + 8)? == next_checksum(header, next)).then_some(next)
}

fn next_checksum(header: &SegmentHeader, next: u64) -> u32 {
    let own = crc32c::crc32c_append(header.salt, &header.number.to_le_bytes());
    crc32c::crc32c_append(own, &next.to_le_bytes())
}
