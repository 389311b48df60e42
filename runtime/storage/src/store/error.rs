//! Errors of the store, in words for the person who has to fix them.

use std::io;
use std::path::PathBuf;

/// An error of the store. After one it is unknown how much of an `apply` took place, so whoever folds
/// does it again: with [`StoreError::Full`] and [`StoreError::Closed`] when there is room, with all others after a restart.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A value does not have the bytes that were written.
    #[error("the store is damaged at the {key}: {problem}; restore the data folder from a backup")]
    Damaged {
        /// The key, in words.
        key: String,
        /// The problem with the value.
        problem: String,
    },
    /// The engine finds its own files damaged.
    #[error("the {engine} store in {folder} is damaged: {problem}; restore the data folder from a backup")]
    EngineDamaged {
        /// `sled` or `redb`.
        engine: &'static str,
        /// The folder of its files.
        folder: PathBuf,
        /// In the engine's words.
        problem: String,
    },
    /// The store was written by a later version.
    #[error("the store has format {found}, this binary knows {known}: start it with a newer ironloom")]
    Newer {
        /// The format number found in the store.
        found: u32,
        /// The one that this binary writes.
        known: u32,
    },
    /// The store was written by a version that this one no longer reads.
    #[error("the store has format {found}, this binary reads only {known}: convert it with an older one")]
    Older {
        /// The format number found in the store.
        found: u32,
        /// The oldest that this binary reads.
        known: u32,
    },
    /// The folder holds a store of the other engine.
    #[error(
        "{folder} holds a {found} store, the configuration asks for {asked}: set `store.engine` to {found}"
    )]
    OtherEngine {
        /// The folder of the store.
        folder: PathBuf,
        /// The engine whose files are there.
        found: &'static str,
        /// The engine that was asked for.
        asked: &'static str,
    },
    /// Another process has the engine's files open, though not the lock of the data folder.
    #[error(
        "the store in {folder} is in use by another process: stop that one first, or choose another data folder"
    )]
    InUse {
        /// The folder of the store.
        folder: PathBuf,
    },
    /// The disk is full. What was asked for may be tried again when there is room.
    #[error("no room on the disk for the store in {folder}: {source}")]
    Full {
        /// The folder of the store.
        folder: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// It was closed after a failed write, and opened not long ago.
    #[error("the store in {folder} was closed after a failed write; it is opened again in some seconds")]
    Closed {
        /// The folder of the store.
        folder: PathBuf,
    },
    /// Reading, writing or syncing failed.
    #[error("{what} failed: {source}")]
    Io {
        /// The failed action, with the place.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The engine refused for a reason of its own.
    #[error("the {engine} store in {folder} failed: {problem}")]
    Engine {
        /// `sled` or `redb`.
        engine: &'static str,
        /// The folder of its files.
        folder: PathBuf,
        /// In the engine's words.
        problem: String,
    },
}

impl StoreError {
    /// Says of a failed system call what was being done.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether the disk was full, so that the same may succeed later without a restart.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Closed { .. })
    }
}
