//! The form of a backup: a tar file, compressed as lz4 compresses, whose last entry has the digests of all others.
//!
//! | entry | what |
//! | --- | --- |
//! | `backup.json` | the first: format, position, epoch, sizes |
//! | `log/NAME` | a segment of the log, as far as it is in use |
//! | `store/NUMBER.keys` | keys and values of the store: length of the key u16, of the value u32, little-endian; key; value |
//! | `packages/DIGEST` | a package |
//! | `journal/NAME` | a block file, as far as it is in use |
//! | `parts.json` | the last: name, length and SHA-256 of each entry, in their order |
//! | `failed.txt` | instead of it: why the server could not go on |
//!
//! Log and store come first, because the server holds them as of one moment until they are written. Both engines of
//! the store have the same entries, so that a backup of one is restored into either.

mod bounds;
mod error;
mod hashed;
mod read;
mod restore;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod write;

use serde::{Deserialize, Serialize};

pub(crate) use self::error::BackupError;
pub(crate) use self::read::{Check, Sink, read};
pub(crate) use self::restore::{CutOff, Restored, refuse_cut_off, restore};
pub(crate) use self::write::Writer;
use ironloom_types::clock::Timestamp;

/// The format of the archive.
pub(crate) const FORMAT: u32 = 1;
/// The media type of a backup.
pub(crate) const BACKUP_TYPE: &str = "application/vnd.ironloom.backup";

const HEAD: &str = "backup.json";
const PARTS: &str = "parts.json";
const FAILED: &str = "failed.txt";
const LOG: &str = "log/";
const STORE: &str = "store/";
const PACKAGES: &str = "packages/";
const JOURNAL: &str = "journal/";

/// Bytes of keys and values in one entry: they are put together in memory. One value may make it longer.
const STORE_ENTRY: usize = 4 << 20;
/// Entries of one backup. A block file has 64 MiB, so that these are 64 TiB.
const MAX_ENTRIES: usize = 1 << 20;

/// The first entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub format: u32,
    /// The format of the store's keys and values.
    pub store_format: u32,
    /// The version of the server that made it.
    pub version: String,
    /// When it was made, by the machine's clock.
    pub made: Timestamp,
    /// The engine that the store had.
    pub engine: String,
    /// The position of the last record in it.
    pub through: u64,
    /// The position up to which the store has folded the log.
    pub folded: u64,
    /// The fencing epoch of the store.
    pub epoch: u32,
    /// The bytes of these entries, and about those of the store's.
    pub bytes: Sizes,
}

/// Bytes, before they are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sizes {
    pub log: u64,
    pub store: u64,
    pub packages: u64,
    pub journal: u64,
}

impl Sizes {
    pub(crate) fn total(&self) -> u64 {
        let all = [self.log, self.store, self.packages, self.journal];
        all.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

/// An entry, as the last one tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    name: String,
    bytes: u64,
    /// In hexadecimal digits.
    sha256: String,
}
