//! The journal: readings at rest, in blocks folded from the log, and the form in which they are
//! read back.
//!
//! A checkpoint hands the records of the log, in order, to a [`BlockBuilder`], appends the blocks
//! to [`BlockFiles`], syncs them, and only then puts a [`StoredBlock`] for each into the store.
//! [`BlockIndex`] holds what is needed to find a block again. What isn't in a block yet lies in the
//! log's tail; both give [`Chunk`]s, so that a reader needn't know where it is.
//!
//! Deliberately absent: which stream has which retention, where folded-through is kept, and the
//! cache of blocks that lanes share.

pub mod block;
mod builder;
mod chunk;
mod columns;
mod files;
mod filter;
mod index;
mod selection;

pub use block::{Block, BlockError, BlockHeader};
pub use builder::BlockBuilder;
pub use chunk::{Chunk, ReadingRow, Run};
pub use columns::ColumnError;
pub use files::{BlockFiles, FILE_BYTES, FileError, HeldFile, Location, block_file, is_block_file};
pub use filter::Filter;
pub use index::{BlockIndex, Entry, NoBlock, NotDense, PointsInBlock, StoredBlock};
pub use selection::Selection;

use ironloom_types::ids::TenantId;

/// The reason why a block couldn't be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its file couldn't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its bytes are wrong.
    #[error("block file {:010}, offset {}: {error}", location.file, location.offset)]
    Block { location: Location, error: BlockError },
}

/// Reads the block of an entry and checks that it is the one that the index means.
pub fn read(files: &BlockFiles, tenant: TenantId, entry: &Entry) -> Result<Chunk, ReadError> {
    read_by(files, tenant, entry, block::decode)
}

/// The same for the first `most` readings that pass the filter, without decoding the others.
pub fn select(
    files: &BlockFiles,
    tenant: TenantId,
    entry: &Entry,
    filter: &Filter,
    most: usize,
) -> Result<Selection, ReadError> {
    read_by(files, tenant, entry, |bytes| block::select(bytes, filter, most))
}

fn read_by<T>(
    files: &BlockFiles,
    tenant: TenantId,
    entry: &Entry,
    decode: impl FnOnce(&[u8]) -> Result<(BlockHeader, T), BlockError>,
) -> Result<T, ReadError> {
    let location = entry.location;
    let bytes = files.read(location)?;
    let (header, content) = decode(&bytes).map_err(|error| ReadError::Block { location, error })?;
    let meant = (tenant, entry.first_sequence, entry.readings);
    if (header.tenant, header.first_sequence, header.readings) != meant {
        let error =
            BlockError::Header("another tenant or other sequences than the index: another block lies here");
        return Err(ReadError::Block { location, error });
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
