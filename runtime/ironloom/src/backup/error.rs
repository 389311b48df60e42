//! The reasons for which a backup can't be written, read or restored.

use std::io;
use std::path::PathBuf;

use ironloom_storage::store::{LockError, StoreError};
use ironloom_types::text::shorten;

/// The longest text of a problem, in characters.
const MAX_PROBLEM: usize = 2_000;

/// The reason why a backup can't be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// The stream of the archive: nobody reads it any more, or its file can't be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A file that a part is made of.
    #[error("{name} can't be read: {source}")]
    Part { name: String, source: io::Error },
    /// It isn't the archive of a backup, or it was cut off or changed.
    #[error("the backup is damaged: {0}; make another one, or take an earlier one")]
    Damaged(String),
    #[error("this is no backup: it doesn't begin as one does")]
    NotOne,
    /// The server could not go on.
    #[error("the backup isn't whole, since the server could not go on: {0}")]
    Failed(String),
    /// Another version has written it.
    #[error(
        "the backup has {what} {found}, and this version knows {known}: use the version that made it, {version}"
    )]
    OtherFormat { what: &'static str, found: u32, known: u32, version: String },
    #[error(
        "{folder} isn't empty: it has {found:?}; a backup is restored into a folder without data, so name another one"
    )]
    NotEmpty { folder: PathBuf, found: String },
    #[error(
        "{have} MiB are free on the disk of {folder}, and the backup takes {need} MiB; free space, or name a folder on another \
         disk"
    )]
    NoRoom { folder: PathBuf, have: u64, need: u64 },
    /// While the parts are written.
    #[error(
        "{have} MiB are left on the disk of {folder}, and the backup's next part takes {need} MiB; free space, or name a \
         folder on another disk"
    )]
    RunsFull { folder: PathBuf, have: u64, need: u64 },
    #[error("{what} {path} failed: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    pub(super) fn file(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }

    /// The problem may quote what the file says, and is cut where it becomes long.
    pub(super) fn damaged(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::Damaged(shorten(&problem, MAX_PROBLEM).into_owned())
    }
}
