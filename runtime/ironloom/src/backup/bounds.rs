//! Bounds of a backup's parts in bytes: for each alone, and together no more than the head says.

use super::read::Place;
use super::{BackupError, Head, Sizes};
use ironloom_types::limits::MAX_PACKAGE;

/// The longest entry that is read into memory.
const MAX_IN_MEMORY: u64 = 64 << 20;
/// The longest head, and the longest reason of a failure.
const MAX_TEXT: u64 = 64 << 10;
/// The longest file of the log: `log.segment` is at most that.
pub(super) const MAX_SEGMENT: u64 = 1 << 30;
/// The longest block file. One that has 64 MiB gets no more blocks, and the last of them may have 64 MiB, too.
const MAX_BLOCK_FILE: u64 = 128 << 20;
/// Keys and values for each byte of the store's files: sled keeps what neighbouring keys begin with only once.
const KEYS_PER_BYTE: u64 = 32;
/// Keys and values beyond that: they are counted just before the moment of the backup, and a checkpoint may come in
/// between.
const MORE_KEYS: u64 = 1 << 30;

/// Bytes that entries may still have, by the head; before it there is room for texts alone.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    left: Sizes,
}

impl Bounds {
    pub(super) fn of(head: &Head) -> Self {
        let store = head.bytes.store.saturating_mul(KEYS_PER_BYTE).saturating_add(MORE_KEYS);
        Self { left: Sizes { store, ..head.bytes } }
    }

    /// Takes the bytes that an entry claims, before any of them is read.
    pub(super) fn take(&mut self, name: &str, place: &Place<'_>, bytes: u64) -> Result<(), BackupError> {
        let (most, left) = match place {
            Place::Head | Place::Failed => (MAX_TEXT, None),
            Place::Parts => (MAX_IN_MEMORY, None),
            Place::Log(_) => (MAX_SEGMENT, Some(("log", &mut self.left.log))),
            Place::Store => (MAX_IN_MEMORY, Some(("store", &mut self.left.store))),
            Place::Packages(_) => (MAX_PACKAGE as u64, Some(("packages", &mut self.left.packages))),
            Place::Journal(_) => (MAX_BLOCK_FILE, Some(("journal", &mut self.left.journal))),
        };
        if bytes > most {
            return Err(BackupError::damaged(format!(
                "{name} claims {bytes} bytes, and at most {most} are taken"
            )));
        }
        let Some((what, left)) = left else { return Ok(()) };
        match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err(BackupError::damaged(format!(
                "{name} claims {bytes} bytes, and the backup's head leaves {left} for the {what}"
            ))),
        }
    }
}
