//! The files that hold the blocks: append-only, of a size after which the next one begins.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, Gone, is_want_of_room};

/// A file that has grown to this many bytes gets no more blocks, by default.
pub const FILE_BYTES: u64 = 64 << 20;
/// The number of files that are kept open for readers.
const OPEN_FILES: usize = 32;
/// The suffix of block files.
const BLOCKS: &str = ".blocks";
/// The suffix for a file in which the store knows no block.
const LEFT: &str = ".left";

/// The place of a block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The number of the file.
    pub file: u32,
    /// The beginning of the block in it, in bytes.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
}

impl Location {
    /// The byte after its last.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// An error of the block files.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused an operation.
    #[error("can't {action} {path}: {source}")]
    Io {
        /// The failed action.
        action: &'static str,
        /// On which file or folder.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The store names a block in a file that isn't there.
    #[error(
        "the block file {path} is missing: readings of the journal are lost; bring it back from a backup"
    )]
    Missing {
        /// The expected path.
        path: String,
    },
    /// The store names blocks beyond the end of a file.
    #[error(
        "the block file {path} has {have} bytes and should have {need}: readings of the journal are lost; bring it back from a backup"
    )]
    Short {
        path: String,
        have: u64,
        /// The expected length.
        need: u64,
    },
    /// A block is larger than a file can name.
    #[error("a block of {length} bytes is too large for a block file")]
    TooLarge { length: usize },
}

impl FileError {
    /// Whether there was no room to write, so that the same may succeed later. A sync that failed isn't meant.
    pub fn is_full(&self) -> bool {
        let Self::Io { action: MAKE | WRITE, source, .. } = self else { return false };
        is_want_of_room(source.kind())
    }
}

const MAKE: &str = "make";
const WRITE: &str = "write to";

/// The folder of block files of all streams with the same retention. Appending is for one thread at
/// a time; reading is for all.
pub struct BlockFiles {
    disk: Arc<dyn Disk>,
    writer: Mutex<Writer>,
    /// Opened for reading, the last used at the end.
    open: Mutex<VecDeque<(u32, Arc<dyn DiskFile>)>>,
}

struct Writer {
    /// The file that is written to, with its length. `None` until the first block.
    current: Option<(u32, Arc<dyn DiskFile>, u64)>,
    /// Written to since the last sync, `current` perhaps among them.
    unsynced: Vec<(u32, Arc<dyn DiskFile>)>,
    /// A file was made since the folder was last synced.
    folder_changed: bool,
    /// Whether there may be files that were put aside.
    any_left: bool,
    /// The number of the next file that is made.
    next: u32,
    roll_at: u64,
}

impl BlockFiles {
    /// Opens the folder and brings it back to what the index says, which was held against the fold position
    /// before: bytes behind the used length of a file are cut off, and files without any block put aside until
    /// [`Self::remove_left`]. `used` is [`super::BlockIndex::used_files`]; a file of `roll_at` bytes gets no
    /// more blocks.
    pub fn open(disk: Arc<dyn Disk>, used: &BTreeMap<u32, u64>, roll_at: u64) -> Result<Self, FileError> {
        let names = list(&*disk)?;
        let present: Vec<u32> = names.iter().filter_map(|name| number_of(name)).collect();
        // Nothing is touched before all that is needed is found.
        let mut too_long = Vec::new();
        for (&number, &need) in used {
            if length_of_at_least(&*disk, number, need)? > need {
                too_long.push((number, need));
            }
        }
        for number in present.iter().filter(|number| !used.contains_key(number)) {
            let name = name_of(*number);
            disk.rename(&name, &format!("{name}{LEFT}")).map_err(io_error("put aside", disk.path(&name)))?;
        }
        for (number, need) in too_long {
            let path = disk.path(&name_of(number));
            let file = open_file(&*disk, number)?;
            file.truncate(need).map_err(io_error("cut off", path))?;
        }
        // Neither is synced: where a loss of power undoes it, the next opening does it again.
        let current = match used.last_key_value() {
            Some((&number, &length)) => Some((number, open_file(&*disk, number)?, length)),
            None => None,
        };
        // The number of a file that is put aside isn't used again while it is there.
        let aside = names.iter().filter_map(|name| number_of(name.strip_suffix(LEFT)?));
        let highest = present.iter().copied().chain(aside).max();
        let next = highest.map_or(1, |number| number + 1);
        let writer =
            Writer { current, unsynced: Vec::new(), folder_changed: false, any_left: true, next, roll_at };
        Ok(Self { disk, writer: Mutex::new(writer), open: Mutex::default() })
    }

    /// The folder as it is, to be read: nothing in it is changed, and nothing can be appended.
    pub fn for_reading(disk: Arc<dyn Disk>) -> Self {
        let writer = Writer {
            current: None,
            unsynced: Vec::new(),
            folder_changed: false,
            any_left: false,
            next: 0,
            roll_at: 0,
        };
        Self { disk, writer: Mutex::new(writer), open: Mutex::default() }
    }

    /// Writes a block behind the last one. It is durable after [`Self::sync`] only. After an error
    /// nothing was appended, and the same block can be appended again.
    pub fn append(&self, block: &[u8]) -> Result<Location, FileError> {
        let too_large = || FileError::TooLarge { length: block.len() };
        let length = u32::try_from(block.len()).map_err(|_| too_large())?;
        let mut writer = self.writer.lock();
        if writer.current.as_ref().is_none_or(|(_, _, used)| *used >= writer.roll_at) {
            self.begin_file(&mut writer)?;
        }
        let Some((number, file, used)) = &mut writer.current else { return Err(too_large()) };
        let (number, handle, start) = (*number, file.clone(), *used);
        let offset = u32::try_from(start).map_err(|_| too_large())?;
        handle.write_at(block, start).map_err(io_error(WRITE, self.path(number)))?;
        *used += u64::from(length);
        if writer.unsynced.last().is_none_or(|(last, _)| *last != number) {
            writer.unsynced.push((number, handle));
        }
        Ok(Location { file: number, offset, length })
    }

    fn begin_file(&self, writer: &mut Writer) -> Result<(), FileError> {
        let number = writer.next;
        let file = self.disk.create(&name_of(number), 0).map_err(io_error(MAKE, self.path(number)))?;
        writer.next += 1;
        writer.folder_changed = true;
        writer.current = Some((number, file, 0));
        Ok(())
    }

    /// Makes everything appended so far durable. After an error the process must end: what the
    /// system's cache says of these files can't be trusted any more.
    pub fn sync(&self) -> Result<(), FileError> {
        let mut writer = self.writer.lock();
        for (number, file) in std::mem::take(&mut writer.unsynced) {
            file.sync_data().map_err(io_error("sync", self.path(number)))?;
        }
        if std::mem::take(&mut writer.folder_changed) {
            sync_folder(&*self.disk)?;
        }
        Ok(())
    }

    /// Removes what [`Self::open`] put aside: to be called when a later checkpoint is on the disk, which has
    /// shown that store, log and blocks fit together without it.
    pub fn remove_left(&self) -> Result<(), FileError> {
        if !std::mem::take(&mut self.writer.lock().any_left) {
            return Ok(());
        }
        for name in list(&*self.disk)?.iter().filter(|name| name.ends_with(LEFT)) {
            self.disk.remove(name).map_err(io_error("remove", self.disk.path(name)))?;
        }
        Ok(())
    }

    /// Removes a file in which no block counts any more: to be called when the store has forgotten them. The next
    /// opening puts one aside that is still there.
    pub fn remove(&self, number: u32) -> Result<(), FileError> {
        let is_written_to =
            self.writer.lock().current.as_ref().is_some_and(|(current, ..)| *current == number);
        assert!(!is_written_to, "the newest block stays, and with it its file");
        self.open.lock().retain(|(open, _)| *open != number);
        self.disk.remove(&name_of(number)).map_err(io_error("remove", self.path(number)))
    }

    /// Holds a file open.
    pub fn hold(&self, number: u32) -> Result<HeldFile, FileError> {
        Ok(HeldFile { path: self.path(number), file: open_file(&*self.disk, number)? })
    }

    /// Says whether the newest file is there with all that was written to it.
    pub fn check(&self) -> Result<(), Gone> {
        let current = self.writer.lock().current.clone();
        current.map_or(Ok(()), |(number, file, used)| self.disk.check(&name_of(number), &*file, used))
    }

    /// Says whether a file has all the bytes that are in use, under its name: a reader may still have it open that is
    /// gone for the next start.
    pub fn look(&self, number: u32, need: u64) -> Result<(), FileError> {
        length_of_at_least(&*self.disk, number, need).map(drop)
    }

    /// Reads a block's bytes. They are unchecked: [`super::block::decode`] checks them.
    pub fn read(&self, location: Location) -> Result<Vec<u8>, FileError> {
        let file = self.reader(location.file)?;
        let mut bytes = vec![0; location.length as usize];
        match file.read_at(&mut bytes, u64::from(location.offset)) {
            Ok(()) => Ok(bytes),
            Err(source) => {
                let path = self.path(location.file);
                if source.kind() != io::ErrorKind::UnexpectedEof {
                    return Err(FileError::Io { action: "read", path, source });
                }
                let have = file.length().map_err(io_error("look at", path.clone()))?;
                Err(FileError::Short { path, have, need: location.end() })
            }
        }
    }

    fn reader(&self, number: u32) -> Result<Arc<dyn DiskFile>, FileError> {
        let mut open = self.open.lock();
        if let Some(place) = open.iter().position(|(known, _)| *known == number)
            && let Some(found) = open.remove(place)
        {
            let file = found.1.clone();
            open.push_back(found);
            return Ok(file);
        }
        let file = open_file(&*self.disk, number)?;
        if open.len() == OPEN_FILES {
            open.pop_front();
        }
        open.push_back((number, file.clone()));
        Ok(file)
    }

    fn path(&self, number: u32) -> String {
        self.disk.path(&name_of(number))
    }
}

/// A block file that can be read although it is removed meanwhile.
pub struct HeldFile {
    path: String,
    file: Arc<dyn DiskFile>,
}

impl HeldFile {
    /// Fills the buffer from this offset.
    pub fn read(&self, into: &mut [u8], offset: u64) -> Result<(), FileError> {
        self.file.read_at(into, offset).map_err(io_error("read", self.path.clone()))
    }
}

/// The name of the file with this number.
pub fn block_file(number: u32) -> String {
    name_of(number)
}

/// Says if a file of this name is a block file.
pub fn is_block_file(name: &str) -> bool {
    number_of(name).is_some()
}

fn name_of(number: u32) -> String {
    format!("{number:010}{BLOCKS}")
}

fn number_of(name: &str) -> Option<u32> {
    let number = name.strip_suffix(BLOCKS)?.parse().ok()?;
    (name == name_of(number)).then_some(number)
}

fn list(disk: &dyn Disk) -> Result<Vec<String>, FileError> {
    disk.list().map_err(io_error("list", disk.path("")))
}

fn open_file(disk: &dyn Disk, number: u32) -> Result<Arc<dyn DiskFile>, FileError> {
    let path = disk.path(&name_of(number));
    disk.open(&name_of(number)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing { path },
        _ => FileError::Io { action: "open", path, source },
    })
}

/// The length of a file, which must be at least `need`.
fn length_of_at_least(disk: &dyn Disk, number: u32, need: u64) -> Result<u64, FileError> {
    let path = disk.path(&name_of(number));
    let have = open_file(disk, number)?.length().map_err(io_error("look at", path.clone()))?;
    if have < need { Err(FileError::Short { path, have, need }) } else { Ok(have) }
}

fn sync_folder(disk: &dyn Disk) -> Result<(), FileError> {
    disk.sync_folder().map_err(io_error("sync the folder", disk.path("")))
}

fn io_error(action: &'static str, path: String) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
