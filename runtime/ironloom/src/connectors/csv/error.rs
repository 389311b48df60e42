//! Why reading a file stopped.

/// The reason why reading a file stopped.
#[derive(Debug)]
pub(super) enum FileError {
    /// The disk or the file system failed, or there is no file: it may be otherwise later.
    Io(String),
    /// The file isn't as the configuration says.
    Wrong(String),
}
