//! The index of the blocks, in memory and in the store: about 80 bytes for each, however
//! many points it has. The list of its points with their counts stays in the block file.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Buf;

use super::block::BlockHeader;
use super::files::Location;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, Position, Sequence, StreamId, TenantId};
use ironloom_types::limits::MAX_BLOCK_READINGS;

/// A summary of the points in a block: enough to rule out most blocks without opening them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointsInBlock {
    least: PointNumber,
    greatest: PointNumber,
    /// Bit n is set where there is a point whose number leaves n when divided by 64.
    residues: u64,
}

impl PointsInBlock {
    /// Of points in order, at least one.
    fn of(points: &[(PointNumber, u32)]) -> Self {
        let first = points.first().map_or(PointNumber(0), |(point, _)| *point);
        let last = points.last().map_or(first, |(point, _)| *point);
        let residues = points.iter().fold(0, |residues, (point, _)| residues | residue(*point));
        Self { least: first, greatest: last, residues }
    }

    /// Whether the block can have readings of one of these, which are in order.
    pub fn may_have_any(&self, wanted: &[PointNumber]) -> bool {
        let from = wanted.partition_point(|point| *point < self.least);
        let mut within = wanted[from..].iter().take_while(|point| **point <= self.greatest);
        within.any(|point| self.residues & residue(*point) != 0)
    }
}

fn residue(point: PointNumber) -> u64 {
    1 << (point.0 % 64)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place of its bytes.
    pub location: Location,
    /// The first reading's sequence.
    pub first_sequence: Sequence,
    /// The number of its readings: at least one.
    pub readings: u32,
    /// The journal time of its first reading.
    pub first_time: Timestamp,
    /// The journal time of its last reading.
    pub last_time: Timestamp,
    /// The least `at`.
    pub least_at: Timestamp,
    /// The greatest `at`.
    pub greatest_at: Timestamp,
    pub points: PointsInBlock,
}

impl Entry {
    /// The part of a header that the index keeps.
    pub fn new(header: &BlockHeader, location: Location) -> Self {
        Self {
            location,
            first_sequence: header.first_sequence,
            readings: header.readings,
            first_time: header.first_time,
            last_time: header.last_time,
            least_at: header.least_at,
            greatest_at: header.greatest_at,
            points: PointsInBlock::of(&header.points),
        }
    }

    /// The last reading's sequence.
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.first_sequence.0 + u64::from(self.readings) - 1)
    }
}

/// The value of a block in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// The fold position of the checkpoint that wrote it: above the store's, the block doesn't count.
    pub checkpoint: Position,
    /// The tenant of the readings.
    pub tenant: TenantId,
    /// The stream of the readings.
    pub stream: StreamId,
    /// Its place and its contents in short.
    pub entry: Entry,
}

/// The bytes of a [`StoredBlock`] are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its bytes are not those of a block: {0}")]
pub struct NoBlock(&'static str);

impl StoredBlock {
    const BYTES: usize = 8 + 4 * 6 + 8 * 5 + 4 * 2 + 8;

    /// As the store's value, all numbers little-endian: checkpoint u64; tenant, stream, file, offset, length,
    /// readings u32; first sequence, first time, last time, least `at`, greatest `at` u64; least point, greatest
    /// point u32; residues u64.
    pub fn encode(&self) -> Vec<u8> {
        let Self { checkpoint, tenant, stream, entry } = self;
        let Entry { location, points, .. } = entry;
        let mut out = Vec::with_capacity(Self::BYTES);
        out.extend_from_slice(&checkpoint.0.to_le_bytes());
        for number in [tenant.0, stream.0, location.file, location.offset, location.length, entry.readings] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&entry.first_sequence.0.to_le_bytes());
        for time in [entry.first_time, entry.last_time, entry.least_at, entry.greatest_at] {
            out.extend_from_slice(&time.0.to_le_bytes());
        }
        out.extend_from_slice(&points.least.0.to_le_bytes());
        out.extend_from_slice(&points.greatest.0.to_le_bytes());
        out.extend_from_slice(&points.residues.to_le_bytes());
        assert!(out.len() == Self::BYTES, "the fields above are all there are");
        out
    }

    /// From the store's value.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, NoBlock> {
        if bytes.len() != Self::BYTES {
            return Err(NoBlock("they have another length"));
        }
        let bytes = &mut bytes;
        let stored = Self {
            checkpoint: Position(bytes.get_u64_le()),
            tenant: TenantId(bytes.get_u32_le()),
            stream: StreamId(bytes.get_u32_le()),
            entry: Entry {
                location: Location {
                    file: bytes.get_u32_le(),
                    offset: bytes.get_u32_le(),
                    length: bytes.get_u32_le(),
                },
                readings: bytes.get_u32_le(),
                first_sequence: Sequence(bytes.get_u64_le()),
                first_time: Timestamp(bytes.get_u64_le()),
                last_time: Timestamp(bytes.get_u64_le()),
                least_at: Timestamp(bytes.get_u64_le()),
                greatest_at: Timestamp(bytes.get_u64_le()),
                points: PointsInBlock {
                    least: PointNumber(bytes.get_u32_le()),
                    greatest: PointNumber(bytes.get_u32_le()),
                    residues: bytes.get_u64_le(),
                },
            },
        };
        let Entry { first_sequence, readings, points, .. } = stored.entry;
        if readings == 0 || readings as usize > MAX_BLOCK_READINGS {
            return Err(NoBlock("a number of readings that no block has"));
        }
        if first_sequence.0 == 0 || first_sequence.0.checked_add(u64::from(readings)).is_none() {
            return Err(NoBlock("a first sequence that no reading has"));
        }
        if points.least > points.greatest {
            return Err(NoBlock("the least point is above the greatest"));
        }
        Ok(stored)
    }
}

/// A block that doesn't follow the one before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the journal of tenant {tenant}, stream {stream} has a hole or an overlap: a block begins with sequence {found} where {expected} is due"
)]
pub struct NotDense {
    pub tenant: TenantId,
    pub stream: StreamId,
    /// The sequence with which the block begins.
    pub found: Sequence,
    /// The expected sequence.
    pub expected: Sequence,
}

/// All blocks of all streams.
#[derive(Clone, Debug, Default)]
pub struct BlockIndex {
    streams: BTreeMap<(TenantId, StreamId), Vec<Entry>>,
    /// The number of blocks in each file.
    files: BTreeMap<u32, u32>,
}

impl BlockIndex {
    /// Adds the next block of its stream.
    pub fn push(&mut self, tenant: TenantId, stream: StreamId, entry: Entry) -> Result<(), NotDense> {
        let found = entry.first_sequence;
        let entries = self.streams.entry((tenant, stream)).or_default();
        if let Some(last) = entries.last() {
            let expected = last.last_sequence().next();
            if expected != found {
                return Err(NotDense { tenant, stream, found, expected });
            }
        }
        entries.push(entry);
        *self.files.entry(entry.location.file).or_default() += 1;
        Ok(())
    }

    /// Has a stream begin with this block, and returns those that it had.
    pub fn begin_again(&mut self, tenant: TenantId, stream: StreamId, entry: Entry) -> Vec<Entry> {
        let before = self.streams.insert((tenant, stream), vec![entry]).unwrap_or_default();
        *self.files.entry(entry.location.file).or_default() += 1;
        self.leave(&before);
        before
    }

    /// Counts blocks no longer.
    fn leave(&mut self, gone: &[Entry]) {
        for entry in gone {
            if let Some(count) = self.files.get_mut(&entry.location.file) {
                *count -= 1;
                if *count == 0 {
                    self.files.remove(&entry.location.file);
                }
            }
        }
    }

    /// Takes away a stream's blocks of which every reading comes before `from`, and returns them. The last one
    /// stays in any case: the next one is held against it.
    pub fn drop_before(&mut self, tenant: TenantId, stream: StreamId, from: Sequence) -> Vec<Entry> {
        let Some(entries) = self.streams.get_mut(&(tenant, stream)) else { return Vec::new() };
        let before = entries.partition_point(|entry| entry.last_sequence() < from);
        let gone: Vec<Entry> = entries.drain(..before.min(entries.len().saturating_sub(1))).collect();
        self.leave(&gone);
        gone
    }

    /// The blocks of a stream, in order.
    pub fn entries(&self, tenant: TenantId, stream: StreamId) -> &[Entry] {
        self.streams.get(&(tenant, stream)).map_or(&[], Vec::as_slice)
    }

    /// The sequences that a stream's blocks cover, the first and the last.
    pub fn span(&self, tenant: TenantId, stream: StreamId) -> Option<(Sequence, Sequence)> {
        let entries = self.entries(tenant, stream);
        Some((entries.first()?.first_sequence, entries.last()?.last_sequence()))
    }

    /// The blocks that have readings after `after`, in order.
    pub fn after(&self, tenant: TenantId, stream: StreamId, after: Sequence) -> &[Entry] {
        let entries = self.entries(tenant, stream);
        &entries[entries.partition_point(|entry| entry.last_sequence() <= after)..]
    }

    /// The last block that has readings of before this journal time: its first rows are, and nothing behind it
    /// is. Looks at the blocks from the end on: journal time can have been set back, so that they aren't sorted by it.
    pub fn last_before(&self, tenant: TenantId, stream: StreamId, time: Timestamp) -> Option<&Entry> {
        self.entries(tenant, stream).iter().rfind(|entry| entry.first_time < time)
    }

    /// The streams that have blocks.
    pub fn streams(&self) -> impl Iterator<Item = (TenantId, StreamId)> {
        self.streams.iter().filter(|(_, entries)| !entries.is_empty()).map(|(stream, _)| *stream)
    }

    /// Says if a file holds blocks.
    pub fn has_file(&self, file: u32) -> bool {
        self.files.contains_key(&file)
    }

    /// The first file that holds blocks.
    pub fn first_file(&self) -> Option<u32> {
        self.files.keys().next().copied()
    }

    /// The next files behind this one that hold blocks, at most so many, and how far each is in use. A stream's blocks
    /// are written in its order, so that few of them are looked at.
    pub fn files_after(&self, file: u32, most: usize) -> Vec<(u32, u64)> {
        let behind = self.files.range((Bound::Excluded(file), Bound::Unbounded));
        let mut files: Vec<(u32, u64)> = behind.take(most).map(|(file, _)| (*file, 0)).collect();
        for entries in self.streams.values() {
            for (file, end) in &mut files {
                let through = entries.partition_point(|entry| entry.location.file <= *file);
                let last = entries[..through].last().filter(|last| last.location.file == *file);
                *end = last.map_or(0, |last| last.location.end()).max(*end);
            }
        }
        files
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Chunk, block};
    use super::*;
    use ironloom_types::ids::Generation;
    use ironloom_types::readings::{Columns, Quality, ValueRef};

    fn entry(first: u64, location: Location) -> Entry {
        let mut columns = Columns::default();
        for _ in 0..3 {
            columns.push(PointNumber(0), Timestamp(1), Quality::Good, ValueRef::Missing);
        }
        let (time, none) = (Timestamp(1), Generation(0));
        let chunk = Chunk::of_record(TenantId::MAIN, Sequence(first), time, 0, none, columns);
        Entry::new(&block::encode(StreamId::MAIN, &chunk).unwrap().header, location)
    }

    proptest! {
        #[test]
        fn the_next_files_are_found_whosever_blocks_they_hold(
            files in prop::collection::vec((1..4_u32, 1..9_u32), 0..60),
            after in 0..9_u32,
            most in 1..5_usize,
            dropped in 0..100_u64,
        ) {
            let mut files = files;
            files.sort_by_key(|(_, file)| *file);
            let (mut index, mut used) = (BlockIndex::default(), BTreeMap::new());
            let mut next = [1; 4];
            for (at, (tenant, file)) in files.into_iter().enumerate() {
                let location = Location { file, offset: at as u32 * 100, length: 50 };
                let block = entry(next[tenant as usize], location);
                next[tenant as usize] += 3;
                index.push(TenantId(tenant), StreamId::MAIN, block).unwrap();
                used.insert(file, location.end());
            }
            prop_assert_eq!(index.used_files(), used.clone());
            let expected: Vec<_> = used.into_iter().filter(|(file, _)| *file > after).take(most).collect();
            prop_assert_eq!(index.files_after(after, most), expected);
            // Also once some are gone, and one stream has begun again.
            index.drop_before(TenantId(1), StreamId::MAIN, Sequence(dropped));
            let location = Location { file: 9, offset: 0, length: 50 };
            index.begin_again(TenantId(2), StreamId::MAIN, entry(1, location));
            let used = index.used_files();
            prop_assert_eq!(index.first_file(), used.keys().next().copied());
            prop_assert!((0..10).all(|file| index.has_file(file) == used.contains_key(&file)));
            let expected: Vec<_> = used.into_iter().filter(|(file, _)| *file > after).take(most).collect();
            prop_assert_eq!(index.files_after(after, most), expected);
        }
    }
}
