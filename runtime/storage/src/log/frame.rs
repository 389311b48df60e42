//! The layout of a record in its segment. All numbers are little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–3 | length of the whole record, this header included |
//! | 4–7 | CRC32C over the length and everything behind this field, starting from the segment's salt |
//! | 8–11 | epoch |
//! | 12–19 | position |
//! | 20–27 | durable: the highest position known to be flushed when this record was written |
//! | 28 | kind |
//! | 29 | version of the body |
//! | 30–33 | tenant |
//! | 34–37 | stream |
//! | 38–45 | sequence of the first reading, 0 if it has none |
//! | 46–53 | journal time |
//! | 54… | body |

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Epoch, Position, Sequence, StreamId, TenantId};

/// The bytes of a record before its body.
pub const RECORD_HEADER: usize = 54;

const _: () = assert!(RECORD_HEADER == 3 * 4 + 2 * 8 + 2 + 2 * 4 + 2 * 8, "the fields of the table above");

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Columns of readings of one stream, with what the source needs to go on after a crash.
    Readings = 1,
    /// The effects of one invocation.
    Commit = 2,
    /// A change by an admin.
    Admin = 3,
    /// Nothing but the log's own *durable*.
    Mark = 4,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Readings, Self::Commit, Self::Admin, Self::Mark].into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// The header before the body of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The epoch of the process that wrote it.
    pub epoch: Epoch,
    /// Its own number.
    pub position: Position,
    /// The highest position known to be flushed when it was written.
    pub durable: Position,
    pub kind: RecordKind,
    /// The version of its body's encoding.
    pub version: u8,
    /// The tenant that it belongs to; 0 for a mark.
    pub tenant: TenantId,
    /// The stream of its readings.
    pub stream: StreamId,
    /// The number of its first reading.
    pub first_sequence: Sequence,
    /// Its journal time.
    pub journal_time: Timestamp,
}

/// Completes a record whose body already stands behind the place of its header.
pub(super) fn seal(record: &mut [u8], header: &Header, salt: u32) {
    assert!(record.len() >= RECORD_HEADER, "the header's place was reserved before the body was written");
    let length = record.len() as u32;
    assert!(length as usize == record.len(), "a record fits a segment, and that is below 4 GiB");
    record[0..4].copy_from_slice(&length.to_le_bytes());
    record[8..12].copy_from_slice(&header.epoch.0.to_le_bytes());
    record[12..20].copy_from_slice(&header.position.0.to_le_bytes());
    record[20..28].copy_from_slice(&header.durable.0.to_le_bytes());
    record[28] = header.kind as u8;
    record[29] = header.version;
    record[30..34].copy_from_slice(&header.tenant.0.to_le_bytes());
    record[34..38].copy_from_slice(&header.stream.0.to_le_bytes());
    record[38..46].copy_from_slice(&header.first_sequence.0.to_le_bytes());
    record[46..54].copy_from_slice(&header.journal_time.0.to_le_bytes());
    let crc = checksum(record, salt);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum that a record of these bytes must carry.
fn checksum(record: &[u8], salt: u32) -> u32 {
    crc32c::crc32c_append(checksum_start(salt, &record[0..4]), &record[CHECKED_FROM..])
}

/// The beginning of the checksum's main part.
pub(super) const CHECKED_FROM: usize = 8;
const _: () = assert!(CHECKED_FROM == 2 * 4, "length and checksum come before");

/// The checksum after salt and length.
pub(super) fn checksum_start(salt: u32, length: &[u8]) -> u32 {
    crc32c::crc32c_append(salt, length)
}

/// The length that the record at the beginning of these bytes claims, if it can be one.
pub(super) fn claimed_length(bytes: &[u8]) -> Option<usize> {
    let length = u32_at(bytes, 0)? as usize;
    (length >= RECORD_HEADER).then_some(length)
}

/// The whole record at the beginning of these bytes, if its checksum is right.
pub(super) fn valid(bytes: &[u8], salt: u32) -> Option<&[u8]> {
    let record = bytes.get(..claimed_length(bytes)?)?;
    (u32_at(record, 4)? == checksum(record, salt)).then_some(record)
}

/// The numbers of a record that recovery goes by. They can be read whatever the record's kind.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    pub epoch: Epoch,
    pub position: Position,
    pub durable: Position,
}

/// Reads the numbers that recovery goes by.
pub(super) fn marks(record: &[u8]) -> Option<Marks> {
    Some(Marks {
        epoch: Epoch(u32_at(record, 8)?),
        position: Position(u64_at(record, 12)?),
        durable: Position(u64_at(record, 20)?),
    })
}

/// Reads a whole header; the error is the byte of a kind that isn't known.
pub(super) fn header(record: &[u8]) -> Result<Header, u8> {
    let byte = record.get(28).copied().unwrap_or_default();
    let read = || {
        let Marks { epoch, position, durable } = marks(record)?;
        Some(Header {
            epoch,
            position,
            durable,
            kind: RecordKind::from_byte(byte)?,
            version: *record.get(29)?,
            tenant: TenantId(u32_at(record, 30)?),
            stream: StreamId(u32_at(record, 34)?),
            first_sequence: Sequence(u64_at(record, 38)?),
            journal_time: Timestamp(u64_at(record, 46)?),
        })
    };
    read().ok_or(byte)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}
