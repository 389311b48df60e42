//! Regular files: opened without waiting, and hashed.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

/// Opens a file to read it. Anything but a regular file is refused: a FIFO or a device may keep its reader
/// waiting for ever.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    // Looked at first: opening a FIFO would wake up whoever writes to it.
    regular(&std::fs::metadata(path)?)?;
    // It may be another one by now; opening that must not wait either.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "a directory" } else { "a FIFO, a device or a socket" };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("is {what}; only a regular file can be replayed"),
    ))
}

/// Hashes so many bytes; `false` where the file hasn't as many.
pub(super) fn hash_on(
    file: &mut File,
    hash: &mut Sha256,
    mut left: u64,
    stop: &impl Fn() -> bool,
) -> io::Result<bool> {
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        if stop() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the server stops"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..most])? {
            0 => return Ok(false),
            read => {
                hash.update(&buffer[..read]);
                left -= read as u64;
            }
        }
    }
    Ok(true)
}
