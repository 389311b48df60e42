//! The files that hold the blocks: append-only, 64 MiB each, removed as a whole.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// A file that has grown to this many bytes gets no more blocks.
const ROLL_AT: u64 = 64 << 20;
/// How many files are kept open for readers.
const OPEN_FILES: usize = 32;
const EXTENSION: &str = "blocks";

/// Where a block's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The number of the file.
    pub file: u32,
    /// Where the block begins in it, in bytes.
    pub offset: u32,
    /// How many bytes it has.
    pub length: u32,
}

impl Location {
    /// The byte after its last.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// What went wrong with the block files.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused an operation.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The store names a block in a file that isn't there.
    #[error("the block file {} is missing: readings of the journal are lost; bring it back from a backup", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The store names blocks beyond the end of a file.
    #[error(
        "the block file {} has {have} bytes and should have {need}: readings of the journal are lost; bring it back from a backup",
        path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// How long it is.
        have: u64,
        /// How long it should be.
        need: u64,
    },
    /// A block is larger than a file can name.
    #[error("a block of {length} bytes is too large for a block file")]
    TooLarge {
        /// Its length.
        length: usize,
    },
}

/// The folder of block files of all streams with the same retention. Appending is for one thread at
/// a time; reading is for all.
#[derive(Debug)]
pub struct BlockFiles {
    folder: PathBuf,
    writer: Mutex<Writer>,
    /// Opened for reading, the last used at the end.
    open: Mutex<VecDeque<(u32, Arc<File>)>>,
}

#[derive(Debug)]
struct Writer {
    /// The file that is written to, with its length. `None` until the first block.
    current: Option<(u32, Arc<File>, u64)>,
    /// Written to since the last sync, `current` perhaps among them.
    unsynced: Vec<(u32, Arc<File>)>,
    /// A file was made or removed since the folder was last synced.
    folder_changed: bool,
    /// The number of the next file that is made.
    next: u32,
    roll_at: u64,
}

impl BlockFiles {
    /// Opens the folder, makes it where it is missing, and brings it back to what the index says:
    /// bytes behind the used length of a file are cut off and files without any block removed.
    /// `used` is [`super::BlockIndex::used_files`].
    pub fn open(folder: &Path, used: &BTreeMap<u32, u64>) -> Result<Self, FileError> {
        Self::open_with(folder, used, ROLL_AT)
    }

    fn open_with(folder: &Path, used: &BTreeMap<u32, u64>, roll_at: u64) -> Result<Self, FileError> {
        fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
        let present = files_in(folder)?;
        for (number, path) in &present {
            if !used.contains_key(number) {
                fs::remove_file(path).map_err(io_error("remove", path))?;
            }
        }
        for (number, &need) in used {
            let path = path_of(folder, *number);
            if !present.contains_key(number) {
                return Err(FileError::Missing { path });
            }
            let have = fs::metadata(&path).map_err(io_error("look at", &path))?.len();
            if have < need {
                return Err(FileError::Short { path, have, need });
            }
            if have > need {
                let file = OpenOptions::new().write(true).open(&path).map_err(io_error("open", &path))?;
                file.set_len(need).map_err(io_error("cut off", &path))?;
                file.sync_all().map_err(io_error("sync", &path))?;
            }
        }
        let current = match used.last_key_value() {
            Some((&number, &length)) => Some((number, Arc::new(open_to_write(folder, number)?), length)),
            None => None,
        };
        // A removed file's number isn't used again while a reader may still have it open.
        let highest = present.keys().next_back().max(used.keys().next_back());
        let next = highest.map_or(1, |number| number + 1);
        sync_folder(folder)?;
        let writer = Writer { current, unsynced: Vec::new(), folder_changed: false, next, roll_at };
        Ok(Self { folder: folder.to_owned(), writer: Mutex::new(writer), open: Mutex::default() })
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
        handle.write_all_at(block, start).map_err(|source| FileError::Io {
            action: "write to",
            path: path_of(&self.folder, number),
            source,
        })?;
        *used += u64::from(length);
        if writer.unsynced.last().is_none_or(|(last, _)| *last != number) {
            writer.unsynced.push((number, handle));
        }
        Ok(Location { file: number, offset, length })
    }

    fn begin_file(&self, writer: &mut Writer) -> Result<(), FileError> {
        let number = writer.next;
        let path = path_of(&self.folder, number);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(io_error("make", &path))?;
        writer.next += 1;
        writer.folder_changed = true;
        writer.current = Some((number, Arc::new(file), 0));
        Ok(())
    }

    /// Makes everything appended so far durable. After an error the process must end: what the
    /// system's cache says of these files can't be trusted any more.
    pub fn sync(&self) -> Result<(), FileError> {
        let mut writer = self.writer.lock();
        for (number, file) in std::mem::take(&mut writer.unsynced) {
            file.sync_data().map_err(|source| FileError::Io {
                action: "sync",
                path: path_of(&self.folder, number),
                source,
            })?;
        }
        if std::mem::take(&mut writer.folder_changed) {
            sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// Reads a block's bytes. They are unchecked: [`super::block::decode`] checks them.
    pub fn read(&self, location: Location) -> Result<Vec<u8>, FileError> {
        let file = self.reader(location.file)?;
        let mut bytes = vec![0; location.length as usize];
        match file.read_exact_at(&mut bytes, u64::from(location.offset)) {
            Ok(()) => Ok(bytes),
            Err(source) => {
                let path = path_of(&self.folder, location.file);
                if source.kind() != io::ErrorKind::UnexpectedEof {
                    return Err(FileError::Io { action: "read", path, source });
                }
                let have = file.metadata().map_err(io_error("look at", &path))?.len();
                Err(FileError::Short { path, have, need: location.end() })
            }
        }
    }

    fn reader(&self, number: u32) -> Result<Arc<File>, FileError> {
        let mut open = self.open.lock();
        if let Some(place) = open.iter().position(|(known, _)| *known == number)
            && let Some(found) = open.remove(place)
        {
            let file = found.1.clone();
            open.push_back(found);
            return Ok(file);
        }
        let path = path_of(&self.folder, number);
        let file = match File::open(&path) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FileError::Missing { path }),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        if open.len() == OPEN_FILES {
            open.pop_front();
        }
        open.push_back((number, file.clone()));
        Ok(file)
    }

    /// Removes a file whose last block is past retention, the one that is written to as well. Call it
    /// where blocks are appended, when the index knows all of them. A reader that has just opened the
    /// file may finish; the space comes back then.
    pub fn remove(&self, number: u32) -> Result<(), FileError> {
        let mut writer = self.writer.lock();
        if writer.current.as_ref().is_some_and(|(current, ..)| *current == number) {
            writer.current = None;
        }
        writer.unsynced.retain(|(unsynced, _)| *unsynced != number);
        self.open.lock().retain(|(open, _)| *open != number);
        let path = path_of(&self.folder, number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => writer.folder_changed = true,
        }
        Ok(())
    }

    /// How many bytes all files take.
    pub fn size(&self) -> Result<u64, FileError> {
        let mut sum = 0;
        for path in files_in(&self.folder)?.into_values() {
            match fs::metadata(&path) {
                Ok(metadata) => sum += metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("look at", &path)(error)),
            }
        }
        Ok(sum)
    }
}

fn path_of(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:010}.{EXTENSION}"))
}

fn files_in(folder: &Path) -> Result<BTreeMap<u32, PathBuf>, FileError> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let path = entry.map_err(io_error("list", folder))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number
            && path == path_of(folder, number)
        {
            files.insert(number, path);
        }
    }
    Ok(files)
}

fn open_to_write(folder: &Path, number: u32) -> Result<File, FileError> {
    let path = path_of(folder, number);
    OpenOptions::new().write(true).open(&path).map_err(io_error("open", &path))
}

fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync the folder", folder))
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
