//! Cuts the readings of a stream into blocks, in the order of the log.

use super::block::{self, Block, BlockError};
use super::chunk::{Chunk, Run};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, Sequence, StreamId, TenantId};
use ironloom_types::limits::MAX_BLOCK_READINGS;
use ironloom_types::readings::{Columns, ValueRef};

/// A block is closed early once its texts and blobs take this many bytes, so that reading one back
/// takes a bounded amount of memory.
const MAX_HEAP: usize = 4 << 20;

/// The open block of one stream.
#[derive(Debug)]
pub struct BlockBuilder {
    stream: StreamId,
    open: Chunk,
}

impl BlockBuilder {
    /// Begins after what is already in blocks: `first_sequence` is folded-through + 1.
    pub fn new(tenant: TenantId, stream: StreamId, first_sequence: Sequence) -> Self {
        Self { stream, open: Chunk::empty(tenant, first_sequence) }
    }

    /// The sequence that the next record must begin with.
    pub fn next_sequence(&self) -> Sequence {
        self.open.next_sequence()
    }

    /// Adds the readings of one record and gives the blocks that are now full.
    pub fn add(
        &mut self,
        first_sequence: Sequence,
        time: Timestamp,
        hops: u8,
        origin: Generation,
        columns: &Columns,
    ) -> Result<Vec<Block>, BlockError> {
        assert!(
            first_sequence == self.next_sequence(),
            "blocks follow each other without a hole: {first_sequence} comes, {} is due",
            self.next_sequence()
        );
        let mut full = Vec::new();
        // Within a block time never goes back; between two it does where an admin has set it back.
        if self.open.runs.last().is_some_and(|last| time < last.time) {
            full.extend(self.finish()?);
        }
        let run = Run { end: 0, time, hops, origin };
        let mut row = 0;
        while row < columns.len() {
            let end = self.fitting(columns, row);
            self.open.extend(columns, row, end, run);
            row = end;
            if self.open.len() == MAX_BLOCK_READINGS || self.open.columns.heap.len() >= MAX_HEAP {
                full.extend(self.finish()?);
            }
        }
        Ok(full)
    }

    /// Returns the end of the rows from `row` on that fit into the open block: at least one does.
    fn fitting(&self, columns: &Columns, row: usize) -> usize {
        let end = columns.len().min(row + MAX_BLOCK_READINGS - self.open.len());
        if columns.heap.is_empty() {
            return end;
        }
        let mut heap = self.open.columns.heap.len();
        for next in row..end {
            heap += match columns.value(next) {
                ValueRef::Text(text) => text.len(),
                ValueRef::Blob(bytes) => bytes.len(),
                _ => 0,
            };
            if heap >= MAX_HEAP {
                return next + 1;
            }
        }
        end
    }

    /// Closes the open block; `None` where nothing is in it.
    pub fn finish(&mut self) -> Result<Option<Block>, BlockError> {
        if self.open.is_empty() {
            return Ok(None);
        }
        let next = Chunk::empty(self.open.tenant, self.next_sequence());
        let closed = std::mem::replace(&mut self.open, next);
        block::encode(self.stream, &closed).map(Some)
    }
}
