//! Why reading a file stopped.

use std::path::Path;

/// The reason why reading a file stopped.
#[derive(Debug)]
pub(super) enum FileError {
    /// The disk or the file system failed, or there is no file: it may be otherwise later.
    Io(String),
    /// The file isn't as the configuration says.
    Wrong(String),
}

impl FileError {
    /// Another file has this name by now.
    pub(super) fn replaced(path: &Path) -> Self {
        Self::Io(format!("{} was replaced while it was read", path.display()))
    }
}
