//! A block: up to 16,384 readings of one stream, compressed, with a header that describes them.
//!
//! The header is also in the store, so that readings are found without opening a file. All
//! numbers are little-endian:
//!
//! ```text
//! magic "ILJB" · header length u32 · CRC32C u32 of the rest of the header ·
//! codec u8 · version u8 · tenant u32 · stream u32 · first sequence u64 · readings u32 ·
//! first, last journal time u64 · least, greatest `at` u64 · columns: length u32, CRC32C u32 ·
//! points u32 · their numbers (rising), how many readings of each: two columns
//! columns, as in `columns.rs`
//! ```

use pco::DeltaSpec;

use super::chunk::Chunk;
use super::columns::{self, ColumnError, Sections};
use super::filter::Filter;
use super::selection::{self, Selection};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, Sequence, StreamId, TenantId};
use ironloom_types::limits::MAX_BLOCK_READINGS;

const MAGIC: [u8; 4] = *b"ILJB";
/// Columns compressed by `pco`, texts and blobs as they are.
const CODEC: u8 = 1;
const VERSION: u8 = 1;
/// Magic, header length and CRC.
const PRELUDE: usize = 12;
const _: () = assert!(PRELUDE == MAGIC.len() + 2 * 4, "the fields before the header");
/// From the codec to the number of points.
const FIXED: usize = 66;

const _: () = assert!(FIXED == 2 + 4 + 4 + 8 + 4 + 4 * 8 + 3 * 4, "the fields that `encode` writes");

/// The contents of a block in short, without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// The tenant of the readings.
    pub tenant: TenantId,
    /// The stream of the readings.
    pub stream: StreamId,
    /// The first reading's sequence; they are consecutive.
    pub first_sequence: Sequence,
    /// The number of readings: at least one.
    pub readings: u32,
    /// The journal time of the first.
    pub first_time: Timestamp,
    /// The journal time of the last, not before the first's.
    pub last_time: Timestamp,
    /// The least `at` of all.
    pub least_at: Timestamp,
    /// The greatest `at` of all.
    pub greatest_at: Timestamp,
    /// The points with readings and the number of readings of each, by point number.
    pub points: Vec<(PointNumber, u32)>,
    /// The length of the columns in bytes.
    pub columns_length: u32,
    /// The CRC32C of the columns.
    pub columns_crc: u32,
}

/// A block, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its contents in short.
    pub header: BlockHeader,
    /// All its bytes, header included.
    pub bytes: Vec<u8>,
}

/// An error in the bytes of a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// There are fewer bytes than any block has, or than its header says.
    #[error("the block is cut off: it has {have} bytes and needs {need}")]
    Short {
        have: usize,
        /// The expected number.
        need: usize,
    },
    /// The bytes are no block at all.
    #[error("the block doesn't begin with `ILJB`: these bytes are something else")]
    Magic,
    /// A checksum is wrong.
    #[error("the {part} of the block is damaged: its CRC32C is {found:08x} and should be {expected:08x}")]
    Checksum {
        /// `header` or `columns`.
        part: &'static str,
        /// The checksum of the bytes.
        found: u32,
        /// The checksum that is written beside them.
        expected: u32,
    },
    /// The block was made by a program newer than this one.
    #[error(
        "the block has codec {codec} and version {version}, this program reads codec 1, version 1: use the newer program that wrote it"
    )]
    Unsupported {
        codec: u8,
        /// The codec's version.
        version: u8,
    },
    /// The header contradicts itself or the columns.
    #[error("the header of the block says {0}")]
    Header(&'static str),
    /// A column can't be read or written.
    #[error("the block is damaged: {0}")]
    Column(#[from] ColumnError),
}

impl BlockHeader {
    /// The last reading's sequence.
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.first_sequence.0 + u64::from(self.readings) - 1)
    }

    /// The header's bytes, as they stand at the start of the block and in the store. For a million
    /// points of a tenant they are always below 32 KiB, the longest value that the store takes.
    pub fn encode(&self) -> Result<Vec<u8>, BlockError> {
        let mut out = Vec::with_capacity(PRELUDE + FIXED + 256);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&[CODEC, VERSION]);
        out.extend_from_slice(&self.tenant.0.to_le_bytes());
        out.extend_from_slice(&self.stream.0.to_le_bytes());
        out.extend_from_slice(&self.first_sequence.0.to_le_bytes());
        out.extend_from_slice(&self.readings.to_le_bytes());
        for time in [self.first_time, self.last_time, self.least_at, self.greatest_at] {
            out.extend_from_slice(&time.0.to_le_bytes());
        }
        out.extend_from_slice(&self.columns_length.to_le_bytes());
        out.extend_from_slice(&self.columns_crc.to_le_bytes());
        out.extend_from_slice(&(self.points.len() as u32).to_le_bytes());
        let (numbers, counts): (Vec<u32>, Vec<u32>) =
            self.points.iter().map(|&(point, count)| (point.0, count)).unzip();
        // Rising numbers: the first difference is always the right one.
        columns::write_numbers(&mut out, "point numbers", &numbers, DeltaSpec::TryConsecutive(1))?;
        columns::write_numbers(&mut out, "counts", &counts, DeltaSpec::NoOp)?;
        let length = out.len() as u32;
        out[4..8].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c(&out[PRELUDE..]);
        out[8..PRELUDE].copy_from_slice(&crc.to_le_bytes());
        Ok(out)
    }

    /// Reads a header from the start of `bytes`; also gives its length.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), BlockError> {
        let least = PRELUDE + FIXED;
        if bytes.len() < least {
            return Err(BlockError::Short { have: bytes.len(), need: least });
        }
        if bytes[..4] != MAGIC {
            return Err(BlockError::Magic);
        }
        let mut fields = Fields { bytes: &bytes[4..] };
        let length = fields.u32() as usize;
        let expected = fields.u32();
        if length < least {
            return Err(BlockError::Header("that it is shorter than any header"));
        }
        if length > bytes.len() {
            return Err(BlockError::Short { have: bytes.len(), need: length });
        }
        check_crc("header", &bytes[PRELUDE..length], expected)?;
        let [codec, version] = fields.take();
        if (codec, version) != (CODEC, VERSION) {
            return Err(BlockError::Unsupported { codec, version });
        }
        let mut header = Self {
            tenant: TenantId(fields.u32()),
            stream: StreamId(fields.u32()),
            first_sequence: Sequence(fields.u64()),
            readings: fields.u32(),
            first_time: Timestamp(fields.u64()),
            last_time: Timestamp(fields.u64()),
            least_at: Timestamp(fields.u64()),
            greatest_at: Timestamp(fields.u64()),
            columns_length: fields.u32(),
            columns_crc: fields.u32(),
            points: Vec::new(),
        };
        let points = fields.u32() as usize;
        // Before memory is taken for what the bytes claim.
        if header.readings == 0 || header.readings as usize > MAX_BLOCK_READINGS {
            return Err(BlockError::Header("a number of readings that no block has"));
        }
        if points > header.readings as usize {
            return Err(BlockError::Header("that it has more points than readings"));
        }
        let mut sections = Sections { bytes: &bytes[least..length] };
        let numbers: Vec<u32> = sections.numbers("point numbers", points)?;
        let counts: Vec<u32> = sections.numbers("counts", points)?;
        if !sections.bytes.is_empty() {
            return Err(BlockError::Header("that it is longer than its fields"));
        }
        header.points = numbers.into_iter().map(PointNumber).zip(counts).collect();
        header.check()?;
        Ok((header, length))
    }

    fn check(&self) -> Result<(), BlockError> {
        let problem =
            if self.first_sequence.0 == 0 || self.first_sequence.0 > u64::MAX - u64::from(self.readings) {
                "a first sequence that no reading has"
            } else if self.first_time > self.last_time {
                "that its last reading was recorded before its first"
            } else if self.least_at > self.greatest_at {
                "that its least `at` is after its greatest"
            } else if !self.points.windows(2).all(|pair| pair[0].0 < pair[1].0) {
                "point numbers that don't rise"
            } else if self.points.iter().any(|&(_, count)| count == 0) {
                "a point without readings"
            } else if self.points.iter().map(|&(_, count)| u64::from(count)).sum::<u64>()
                != u64::from(self.readings)
            {
                "that its points have together another number of readings"
            } else {
                return Ok(());
            };
        Err(BlockError::Header(problem))
    }
}

/// Compresses a chunk of 1 to 16,384 readings.
pub fn encode(stream: StreamId, chunk: &Chunk) -> Result<Block, BlockError> {
    let rows = chunk.len();
    assert!((1..=MAX_BLOCK_READINGS).contains(&rows), "a block has 1 to 16,384 readings, this one {rows}");
    assert!(chunk.is_sound(), "only sound readings get into the journal");
    let mut encoded = Vec::with_capacity(rows * 12 + chunk.columns.heap.len());
    columns::write(chunk, &mut encoded)?;
    let (least_at, greatest_at) = range_of_at(chunk);
    let header = BlockHeader {
        tenant: chunk.tenant,
        stream,
        first_sequence: chunk.first_sequence,
        readings: rows as u32,
        first_time: chunk.time(0),
        last_time: chunk.time(rows - 1),
        least_at,
        greatest_at,
        points: count_points(chunk),
        columns_length: u32::try_from(encoded.len())
            .map_err(|_| BlockError::Header("that its columns have more than 4 GiB"))?,
        columns_crc: crc32c::crc32c(&encoded),
    };
    header.check()?;
    let mut bytes = header.encode()?;
    bytes.extend_from_slice(&encoded);
    Ok(Block { header, bytes })
}

/// Reads a block back: its header and its readings. Checks every checksum and length, and that
/// header and columns agree.
pub fn decode(bytes: &[u8]) -> Result<(BlockHeader, Chunk), BlockError> {
    let (header, bytes) = open(bytes)?;
    let chunk = columns::read(bytes, header.tenant, header.first_sequence, header.readings as usize)?;
    let times = (chunk.time(0), chunk.time(chunk.len() - 1));
    if times != (header.first_time, header.last_time) {
        return Err(BlockError::Header("other journal times than its columns"));
    }
    if range_of_at(&chunk) != (header.least_at, header.greatest_at) {
        return Err(BlockError::Header("another range of `at` than its columns"));
    }
    Ok((header, chunk))
}

/// Reads the first `most` readings of a block that pass the filter. Checks all checksums, but contents only as far
/// as they are needed.
pub fn select(bytes: &[u8], filter: &Filter, most: usize) -> Result<(BlockHeader, Selection), BlockError> {
    let (header, bytes) = open(bytes)?;
    let selection = selection::pick(bytes, &header, filter, most)?;
    Ok((header, selection))
}

/// The header and the bytes of the columns, whose lengths and checksums are right.
fn open(bytes: &[u8]) -> Result<(BlockHeader, &[u8]), BlockError> {
    let (header, length) = BlockHeader::decode(bytes)?;
    let need = length + header.columns_length as usize;
    if bytes.len() < need {
        return Err(BlockError::Short { have: bytes.len(), need });
    }
    if bytes.len() > need {
        return Err(BlockError::Header("that it is shorter than its bytes"));
    }
    check_crc("columns", &bytes[length..], header.columns_crc)?;
    Ok((header, &bytes[length..]))
}

fn range_of_at(chunk: &Chunk) -> (Timestamp, Timestamp) {
    let first = chunk.columns.at[0];
    chunk.columns.at.iter().fold((first, first), |(least, greatest), &at| (least.min(at), greatest.max(at)))
}

fn count_points(chunk: &Chunk) -> Vec<(PointNumber, u32)> {
    let mut numbers = chunk.columns.points.clone();
    numbers.sort_unstable();
    numbers.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
}

fn check_crc(part: &'static str, bytes: &[u8], expected: u32) -> Result<(), BlockError> {
    let found = crc32c::crc32c(bytes);
    if found == expected { Ok(()) } else { Err(BlockError::Checksum { part, found, expected }) }
}

/// Fixed-width fields; the caller has checked that there are enough bytes.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.bytes.split_at(N);
        self.bytes = rest;
        let mut out = [0; N];
        out.copy_from_slice(field);
        out
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
