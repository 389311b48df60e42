//! One process for each data folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The lock of a data folder, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// The reason why a data folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{folder} is in use by {holder}: stop that process first, or choose another data folder")]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The process, by its number where it is known.
        holder: String,
    },
    /// The lock file could not be made or read.
    #[error("locking the data folder {folder} failed: {source}")]
    Io {
        /// The data folder.
        folder: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl DataLock {
    /// Locks a folder that exists.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { folder: folder.to_owned(), source };
        let path = folder.join("lock");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = holder(file).map_err(io)?;
                return Err(LockError::InUse { folder: folder.to_owned(), holder });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        // The number is for people only; what locks is the open file. A full disk must not keep the server down.
        let noted = file.set_len(0).and_then(|()| file.rewind());
        if let Err(error) = noted.and_then(|()| writeln!(file, "{}", std::process::id())) {
            tracing::warn!(%error, folder = %folder.display(), "the lock of the data folder doesn't say who has it");
        }
        Ok(Self { _file: file })
    }

    /// Who has a folder: the process as errors name it. Nobody where it isn't locked, or isn't there.
    pub fn holder(folder: &Path) -> Result<Option<String>, LockError> {
        let io = |source| LockError::Io { folder: folder.to_owned(), source };
        let file = match File::open(folder.join("lock")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        // Given back at once, with the file.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => holder(file).map(Some).map_err(io),
            Err(errno) => Err(io(errno.into())),
        }
    }
}

/// The process that has noted its number in a lock.
fn holder(mut file: File) -> io::Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(match text.trim().parse::<u32>() {
        Ok(pid) => format!("the process {pid}"),
        Err(_) => "another process".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_and_the_next_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataLock::acquire(folder.path()).unwrap();
        let error = DataLock::acquire(folder.path()).unwrap_err().to_string();
        let own = format!("the process {}", std::process::id());
        assert!(error.contains(&own), "{error}");
        assert_eq!(DataLock::holder(folder.path()).unwrap(), Some(own));
        drop(first);
        assert_eq!(DataLock::holder(folder.path()).unwrap(), None);
        DataLock::acquire(folder.path()).unwrap();
    }
}
