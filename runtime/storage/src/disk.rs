//! The folders that log and journal write, behind a trait, so that tests can replace them by a disk that
//! loses whatever it may lose.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::folders;

/// A folder of files of the log or of the journal. The real one is [`Folder`]; tests put a lossy disk in its
/// place.
///
/// Nothing is durable before the sync that covers it: bytes before the file's, names before the folder's.
pub trait Disk: Send + Sync + 'static {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of this many zero bytes, each of them written and synced, under a name not yet in use. One
    /// that is made empty may grow.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, at once or not at all.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; who has it open can still read it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all changes of names durable.
    fn sync_folder(&self) -> io::Result<()>;
    /// A random number that those who send readings can't know.
    fn salt(&self) -> u32;
    /// How many bytes may still be written, where the system says.
    fn free(&self) -> Option<u64> {
        None
    }
    /// The name of this file in errors; the folder itself for an empty name.
    fn path(&self, name: &str) -> String;
    /// Says whether the open file is still the one of this name and has at least so many bytes.
    fn check(&self, _name: &str, _file: &dyn DiskFile, _bytes: u64) -> Result<(), Gone> {
        Ok(())
    }
}

/// A file in use that somebody has removed, replaced or cut off. What is written to it from now on, no start finds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} was {what} while the server ran: bring it back, or restore the data folder from a copy, \
     then start again"
)]
pub struct Gone {
    pub path: String,
    /// What became of it, as a participle.
    pub what: &'static str,
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills the buffer from this offset.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all these bytes at this offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file off behind this many bytes.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Makes the file's bytes and its length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Which file of the system it is, where it is one.
    fn id(&self) -> Option<FileId> {
        None
    }
}

/// A file of the system, whatever its name is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(found: &std::fs::Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }

    /// The file that has this name now.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&std::fs::metadata(path)?))
    }

    /// Says whether this is still the file of this name and has at least so many bytes. Where the system doesn't
    /// say, it is taken to be.
    pub(crate) fn check(self, path: &Path, bytes: u64) -> Result<(), Gone> {
        let gone = |what| Err(Gone { path: path.display().to_string(), what });
        match std::fs::metadata(path) {
            Ok(found) if Self::of(&found) != self => gone("replaced"),
            Ok(found) if found.len() < bytes => gone("cut off"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => gone("removed"),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// A folder of the machine's file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Kept open for its syncs.
    handle: File,
    /// Nothing is synced: what is in it goes with the process.
    throwaway: bool,
}

impl Folder {
    /// Opens the folder, and makes it first if it isn't there.
    pub fn open(path: &Path) -> io::Result<Self> {
        folders::make(path)?;
        Ok(Self { path: path.to_owned(), handle: File::open(path)?, throwaway: false })
    }

    /// A folder whose files nobody wants after this process: nothing waits for the machine's disk.
    pub fn throwaway(path: &Path) -> io::Result<Self> {
        Ok(Self { throwaway: true, ..Self::open(path)? })
    }

    fn file(&self, file: File) -> Arc<dyn DiskFile> {
        if self.throwaway { Arc::new(Throwaway(file)) } else { Arc::new(file) }
    }
}

/// How much is written between two syncs while a file is made, so that the committer's own syncs never
/// wait behind a whole segment.
const CREATE_STEP: usize = 4 << 20;

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let fill = || {
            if self.throwaway {
                // A file without blocks: room on the disk is taken as it is written.
                return file.set_len(bytes);
            }
            let zeros = vec![0; CREATE_STEP];
            let mut offset = 0;
            while offset < bytes {
                let step = (bytes - offset).min(CREATE_STEP as u64);
                file.write_all_at(&zeros[..step as usize], offset)?;
                file.sync_data()?;
                offset += step;
            }
            file.sync_all()
        };
        if let Err(error) = fill() {
            // Best effort: start removes what has the wrong length.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        if self.throwaway {
            return Ok(());
        }
        self.handle.sync_all()
    }

    fn salt(&self) -> u32 {
        random() as u32
    }

    fn free(&self) -> Option<u64> {
        free_bytes(&self.path)
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn check(&self, name: &str, file: &dyn DiskFile, bytes: u64) -> Result<(), Gone> {
        file.id().map_or(Ok(()), |id| id.check(&self.path.join(name), bytes))
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn id(&self) -> Option<FileId> {
        self.metadata().ok().map(|found| FileId::of(&found))
    }
}

/// A file that needs to last no longer than the process.
struct Throwaway(File);

impl DiskFile for Throwaway {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        DiskFile::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        DiskFile::write_at(&self.0, bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn id(&self) -> Option<FileId> {
        self.0.id()
    }
}

/// A random number, which nobody can know before.
pub fn random() -> u64 {
    // The keys of the standard library's hasher come from the system's random numbers.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u8(0);
    hasher.finish()
}

/// How many bytes may still be written to the disk that holds a folder, where the system says.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether the system refused a write for want of room.
pub(crate) fn is_want_of_room(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | FileTooLarge)
}
