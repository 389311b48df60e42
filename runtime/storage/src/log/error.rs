//! Errors of the log, in words for the person who has to fix them.

use std::io;
use std::sync::Arc;

use crate::disk::Gone;
use ironloom_types::ids::Position;

/// An error of the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused an operation. After a failed write or sync nothing more may be written: the
    /// process has to end and recover.
    #[error("could not {what} {path}: {source}; check the disk and its free space, then start again")]
    Io {
        /// The failed action, such as `sync`.
        what: &'static str,
        /// The file or folder.
        path: String,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// Bytes that were once flushed aren't there any more.
    #[error(
        "the log is damaged: {path}, byte {offset}: {problem}; \
         stop here, check the disk, and restore the data folder from a copy"
    )]
    Damaged {
        /// The file, or the folder where a whole file is missing.
        path: String,
        /// The place in the file.
        offset: u64,
        /// What is missing, as the end of a sentence.
        problem: String,
    },
    /// Files that were there once aren't any more.
    #[error(
        "the log is not complete: {path}: {problem}; bring it back, or restore the data folder from a copy"
    )]
    Missing {
        /// The file, or the folder.
        path: String,
        /// What is missing, as the end of a sentence.
        problem: String,
    },
    /// A file in use is gone: what would be written, no start would find.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The store is not the one that this log was written with.
    #[error(
        "the store and the log in {path} do not belong together: {problem}; \
         bring back the store of this log, or restore the whole data folder from one copy"
    )]
    OtherStore {
        /// The folder of the log.
        path: String,
        /// The evidence, as the end of a sentence.
        problem: String,
    },
    /// The file is sound but holds what this binary doesn't know.
    #[error("{path}, byte {offset}: {problem}; it was written by a newer ironloom: start that one")]
    Newer {
        path: String,
        /// The place in the file.
        offset: u64,
        /// The unknown part.
        problem: String,
    },
    /// A record that no segment could hold.
    #[error("a record of {bytes} bytes is larger than the {max} bytes that the log takes")]
    TooLarge {
        /// Its size, or the bound that was given for it.
        bytes: usize,
        /// The most that fits.
        max: usize,
    },
    /// The records asked for have been folded and freed.
    #[error("the log no longer holds position {position}: it has been folded into the store")]
    Freed {
        /// The first position asked for.
        position: Position,
    },
    /// The committer has stopped, at the end of the process or after a failed write.
    #[error("the log takes no more records: the server is stopping")]
    Stopped,
}

impl LogError {
    pub(super) fn io(what: &'static str, path: String) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path, source: Arc::new(source) }
    }
}
