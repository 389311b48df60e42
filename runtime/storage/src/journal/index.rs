//! Where the blocks are and what is in them, in memory.
//!
//! An entry takes about a hundred bytes and up to 512 more for its points: a block of a busy site
//! has readings of nearly every point, so that the list would be long and of no use. Whoever needs
//! all points with their counts (retention, to count a gap) reads the header in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::block::{BlockError, BlockHeader};
use super::files::Location;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, Position, Sequence, StreamId, TenantId};

/// Up to so many points are listed one by one.
const LISTED_POINTS: usize = 64;

/// What the index knows of the points in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointsInBlock {
    /// All of them, in order, with the number of readings of each.
    Listed(Box<[(PointNumber, u32)]>),
    /// Too many to list: only the least and the greatest.
    Between(PointNumber, PointNumber),
}

impl PointsInBlock {
    fn of(header: &BlockHeader) -> Self {
        match header.points.as_slice() {
            [(first, _), .., (last, _)] if header.points.len() > LISTED_POINTS => {
                Self::Between(*first, *last)
            }
            points => Self::Listed(points.into()),
        }
    }

    /// Whether the block can have readings of one of these, which are in order.
    pub fn may_have_any(&self, wanted: &[PointNumber]) -> bool {
        match self {
            Self::Listed(points) => points.iter().any(|(point, _)| wanted.binary_search(point).is_ok()),
            Self::Between(least, greatest) => {
                let next = wanted.partition_point(|point| point < least);
                wanted.get(next).is_some_and(|point| point <= greatest)
            }
        }
    }
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its bytes are.
    pub location: Location,
    /// The first reading's sequence.
    pub first_sequence: Sequence,
    /// How many readings it has.
    pub readings: u32,
    /// The journal time of its first reading.
    pub first_time: Timestamp,
    /// The journal time of its last reading.
    pub last_time: Timestamp,
    /// The least `at`.
    pub least_at: Timestamp,
    /// The greatest `at`.
    pub greatest_at: Timestamp,
    /// Its points.
    pub points: PointsInBlock,
}

impl Entry {
    /// What the index keeps of a header.
    pub fn new(header: &BlockHeader, location: Location) -> Self {
        Self {
            location,
            first_sequence: header.first_sequence,
            readings: header.readings,
            first_time: header.first_time,
            last_time: header.last_time,
            least_at: header.least_at,
            greatest_at: header.greatest_at,
            points: PointsInBlock::of(header),
        }
    }

    /// The last reading's sequence.
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.first_sequence.0 + u64::from(self.readings) - 1)
    }
}

/// The value of a block in the store: its header, where it is, and the checkpoint that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHeader {
    /// The fold position of the checkpoint that wrote it: above the store's, the block doesn't count.
    pub checkpoint: Position,
    /// Where the block's bytes are.
    pub location: Location,
    /// What it holds.
    pub header: BlockHeader,
}

impl StoredHeader {
    const FIXED: usize = 20;

    /// As the store's value: checkpoint u64, file u32, offset u32, length u32, header; little-endian.
    pub fn encode(&self) -> Result<Vec<u8>, BlockError> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.checkpoint.0.to_le_bytes());
        for field in [self.location.file, self.location.offset, self.location.length] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.header.encode()?);
        Ok(out)
    }

    /// From the store's value.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let Some((fixed, rest)) = bytes.split_first_chunk::<{ Self::FIXED }>() else {
            return Err(BlockError::Short { have: bytes.len(), need: Self::FIXED });
        };
        let (header, length) = BlockHeader::decode(rest)?;
        if length != rest.len() {
            return Err(BlockError::Header("that it is shorter than its bytes"));
        }
        let field = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let checkpoint = Position(u64::from(field(0)) | u64::from(field(4)) << 32);
        let location = Location { file: field(8), offset: field(12), length: field(16) };
        Ok(Self { checkpoint, location, header })
    }
}

/// A block that doesn't follow the one before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the journal of tenant {tenant}, stream {stream} has a hole or an overlap: a block begins with sequence {found} where {expected} is due"
)]
pub struct NotDense {
    /// Whose journal.
    pub tenant: TenantId,
    /// Which stream.
    pub stream: StreamId,
    /// With which sequence the block begins.
    pub found: Sequence,
    /// With which it should.
    pub expected: Sequence,
}

/// All blocks of all streams.
#[derive(Clone, Debug, Default)]
pub struct BlockIndex {
    streams: BTreeMap<(TenantId, StreamId), Vec<Arc<Entry>>>,
}

impl BlockIndex {
    /// Adds the next block of its stream.
    pub fn push(&mut self, header: &BlockHeader, location: Location) -> Result<(), NotDense> {
        let (tenant, stream, found) = (header.tenant, header.stream, header.first_sequence);
        let entries = self.streams.entry((tenant, stream)).or_default();
        if let Some(last) = entries.last() {
            let expected = last.last_sequence().next();
            if expected != found {
                return Err(NotDense { tenant, stream, found, expected });
            }
        }
        entries.push(Arc::new(Entry::new(header, location)));
        Ok(())
    }

    /// The blocks of a stream, in order.
    pub fn entries(&self, tenant: TenantId, stream: StreamId) -> &[Arc<Entry>] {
        self.streams.get(&(tenant, stream)).map_or(&[], Vec::as_slice)
    }

    /// The sequences that a stream's blocks cover, the first and the last.
    pub fn span(&self, tenant: TenantId, stream: StreamId) -> Option<(Sequence, Sequence)> {
        let entries = self.entries(tenant, stream);
        Some((entries.first()?.first_sequence, entries.last()?.last_sequence()))
    }

    /// The blocks that have readings after `after`, in order.
    pub fn after(&self, tenant: TenantId, stream: StreamId, after: Sequence) -> &[Arc<Entry>] {
        let entries = self.entries(tenant, stream);
        &entries[entries.partition_point(|entry| entry.last_sequence() <= after)..]
    }

    /// The first block that has readings of this journal time or later: everything before it is
    /// older, and of itself the first rows may be.
    pub fn since(&self, tenant: TenantId, stream: StreamId, time: Timestamp) -> Option<&Arc<Entry>> {
        let entries = self.entries(tenant, stream);
        entries.get(entries.partition_point(|entry| entry.last_time < time))
    }

    /// Forgets the blocks that lie wholly before `retained_from`, and gives them.
    pub fn retain_from(
        &mut self,
        tenant: TenantId,
        stream: StreamId,
        retained_from: Sequence,
    ) -> Vec<Arc<Entry>> {
        let Some(entries) = self.streams.get_mut(&(tenant, stream)) else { return Vec::new() };
        let gone = entries.partition_point(|entry| entry.last_sequence() < retained_from);
        entries.drain(..gone).collect()
    }

    /// How far each block file is in use: what lies behind is left over from a checkpoint that was
    /// cut off, and a file that isn't named has no block any more.
    pub fn used_files(&self) -> BTreeMap<u32, u64> {
        let mut used = BTreeMap::new();
        for entry in self.streams.values().flatten() {
            let end = entry.location.end();
            used.entry(entry.location.file)
                .and_modify(|known: &mut u64| *known = end.max(*known))
                .or_insert(end);
        }
        used
    }

    /// Those of the blocks' files that have no block in the index any more.
    pub fn unused_files(&self, gone: &[Arc<Entry>]) -> BTreeSet<u32> {
        let used = self.used_files();
        gone.iter().map(|entry| entry.location.file).filter(|file| !used.contains_key(file)).collect()
    }
}
