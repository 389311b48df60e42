//! Restores a backup into a folder without data: all of it or nothing.
//!
//! While it is under way the folder holds a file that says so, and a server doesn't start on it. It is removed last,
//! when everything else is on the disk: a restore that was cut off is begun again, or its folder removed.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::bounds::MAX_SEGMENT;
use super::{BackupError, Head, Sink, read};
use ironloom_storage::log::{self, Identity};
use ironloom_storage::store::{self, Applied, Change, DataLock, EngineKind, Key, KeyKind, Storage};
use ironloom_storage::{folders, free_bytes, random};
use ironloom_types::ids::Epoch;

/// Says that a restore hasn't ended.
const MARKER: &str = "restoring";
const MARKER_TEXT: &str = "A backup is being restored into this folder, or was until it was cut off: run `ironloom restore` again.\n";
/// The folders that a backup is restored into.
const FOLDERS: [&str; 4] = ["log", "store", "packages", "journal"];
/// Names that an empty folder may have: the lock, and what a file system of its own begins with.
const EMPTY: [&str; 2] = ["lock", "lost+found"];
/// Keys of one `apply`, and about its bytes.
const KEYS: usize = 8_000;
const BYTES: usize = 16 << 20;
/// Memory for the engine.
const ENGINE_CACHE: u64 = 64 << 20;
/// Free bytes beyond those of the parts: the first segment of the log that is begun, and the engine's own.
const BESIDES: u64 = 256 << 20;
/// Free bytes that stay whatever a backup has: a restore doesn't fill the disk for others.
const SPARED: u64 = 32 << 20;
const STEP: usize = 1 << 20;

/// Says if a folder is left of a restore that was cut off.
pub(super) fn is_cut_off(data: &Path) -> bool {
    data.join(MARKER).exists()
}

/// Refuses such a folder: only a restore opens it.
pub(crate) fn refuse_cut_off(data: &Path) -> Result<(), CutOff> {
    if is_cut_off(data) { Err(CutOff(data.to_owned())) } else { Ok(()) }
}

/// Why a folder that is left of a restore isn't opened.
#[derive(Debug, thiserror::Error)]
#[error("{0} is left of a restore that was cut off: run `ironloom restore` again, or remove the folder")]
pub(crate) struct CutOff(PathBuf);

/// A backup that was restored.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    pub head: Head,
    /// The engine of the store now.
    pub engine: EngineKind,
    pub keys: u64,
}

/// Restores a backup, with another engine of the store if one is named.
pub(crate) fn restore(
    from: impl Read,
    data: &Path,
    engine: Option<EngineKind>,
) -> Result<Restored, BackupError> {
    let is_new = !data.exists();
    folders::make(data).map_err(BackupError::file("making", data))?;
    let lock = DataLock::acquire(data)?;
    if is_cut_off(data) {
        clear(data)?;
    }
    check_empty(data)?;
    let marker = data.join(MARKER);
    let begun = File::create(&marker).and_then(|mut file| {
        file.write_all(MARKER_TEXT.as_bytes())?;
        file.sync_all()
    });
    begun.and_then(|()| folders::sync(data)).map_err(BackupError::file("writing", &marker))?;
    let mut unpacking = Unpacking::new(data, engine);
    let ended = read(from, &mut unpacking).and_then(|()| unpacking.end());
    let restored = match ended {
        Ok(restored) => restored,
        Err(error) => {
            // Best effort: what stays has the marker, and the next restore begins with it.
            if clear(data).is_ok() && fs::remove_file(&marker).is_ok() && is_new {
                let _ = fs::remove_file(data.join("lock"));
                let _ = fs::remove_dir(data);
            }
            return Err(error);
        }
    };
    for folder in FOLDERS.map(|name| data.join(name)).iter().filter(|folder| folder.exists()) {
        folders::sync(folder).map_err(BackupError::file("syncing", folder))?;
    }
    folders::sync(data).map_err(BackupError::file("syncing", data))?;
    let ended = fs::remove_file(&marker).and_then(|()| folders::sync(data));
    ended.map_err(BackupError::file("removing", &marker))?;
    drop(lock);
    Ok(restored)
}

/// Removes what a restore has made.
fn clear(data: &Path) -> Result<(), BackupError> {
    for folder in FOLDERS.map(|name| data.join(name)) {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BackupError::file("removing", &folder)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_empty(data: &Path) -> Result<(), BackupError> {
    let list = || BackupError::file("listing", data);
    for entry in fs::read_dir(data).map_err(list())? {
        let name = entry.map_err(list())?.file_name().to_string_lossy().into_owned();
        if name != MARKER && !EMPTY.contains(&name.as_str()) {
            return Err(BackupError::NotEmpty { folder: data.to_owned(), found: name });
        }
    }
    Ok(())
}

/// Writes the parts of a backup as they come.
struct Unpacking<'a> {
    data: &'a Path,
    asked: Option<EngineKind>,
    opened: Option<Opened>,
    changes: Vec<Change>,
    bytes: usize,
    keys: u64,
    /// The random number of the log that the restored one is.
    log: u64,
}

/// The first part, and the store that is made by it.
struct Opened {
    head: Head,
    engine: EngineKind,
    store: Arc<dyn Storage>,
}

impl<'a> Unpacking<'a> {
    fn new(data: &'a Path, asked: Option<EngineKind>) -> Self {
        let (changes, log) = (Vec::new(), random());
        Self { data, asked, opened: None, changes, bytes: 0, keys: 0, log }
    }

    /// Looks for room for the next bytes. The head says only about how many keys and values there are, and nothing of
    /// the zeros that files of the log end with.
    fn check_room(&self, bytes: u64) -> Result<(), BackupError> {
        let need = bytes.saturating_add(SPARED);
        match free_bytes(self.data).filter(|have| *have < need) {
            None => Ok(()),
            Some(have) => {
                let folder = self.data.to_owned();
                Err(BackupError::RunsFull { folder, have: have >> 20, need: need >> 20 })
            }
        }
    }

    fn apply(&mut self) -> Result<(), BackupError> {
        self.check_room(self.bytes as u64)?;
        self.bytes = 0;
        let Some(Opened { head, store, .. }) = &self.opened else { return Ok(()) };
        match store.apply(std::mem::take(&mut self.changes), Epoch(head.epoch))? {
            Applied::Done => Ok(()),
            // Nobody else has the folder.
            Applied::Fenced => Err(BackupError::damaged("its epoch is lower than that of a new store")),
        }
    }

    /// Brings the last keys to the disk and closes the store.
    fn end(mut self) -> Result<Restored, BackupError> {
        self.apply()?;
        let opened = self.opened.ok_or_else(|| BackupError::damaged("it has nothing"))?;
        let Opened { head, engine, store } = opened;
        drop(store);
        Ok(Restored { head, engine, keys: self.keys })
    }

    /// A file of its own in one of the folders, written from the beginning.
    fn file(&self, folder: &str, name: &str) -> Result<(PathBuf, File), BackupError> {
        let folder = self.data.join(folder);
        folders::make(&folder).map_err(BackupError::file("making", &folder))?;
        let path = folder.join(name);
        let file = File::create_new(&path).map_err(BackupError::file("making", &path))?;
        Ok((path, file))
    }

    fn copy(&self, folder: &str, name: &str, bytes: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        self.check_room(bytes)?;
        let (path, mut file) = self.file(folder, name)?;
        pass_on(from, &mut file, &path)?;
        file.sync_all().map_err(BackupError::file("syncing", &path))
    }
}

/// Copies bytes, and tells a backup that can't be read from a file that can't be written.
fn pass_on(from: &mut dyn Read, to: &mut File, path: &Path) -> Result<u64, BackupError> {
    let mut buffer = vec![0; STEP];
    let mut copied = 0;
    loop {
        let read = from.read(&mut buffer).map_err(super::read::not_read)?;
        if read == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..read]).map_err(BackupError::file("writing", path))?;
        copied += read as u64;
    }
}

impl Sink for Unpacking<'_> {
    fn head(&mut self, head: &Head) -> Result<(), BackupError> {
        let need = head.bytes.total().saturating_add(BESIDES);
        if let Some(have) = free_bytes(self.data).filter(|have| *have < need) {
            let folder = self.data.to_owned();
            return Err(BackupError::NoRoom { folder, have: have >> 20, need: need >> 20 });
        }
        let had = head.engine.parse().map_err(|error| BackupError::damaged(format!("its store: {error}")));
        let engine = self.asked.map_or(had, Ok)?;
        let store = store::open(engine, &self.data.join("store"), ENGINE_CACHE)?;
        self.opened = Some(Opened { head: head.clone(), engine, store });
        Ok(())
    }

    fn segment(&mut self, name: &str, bytes: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        let wrong = |problem: String| BackupError::damaged(format!("segment {name} of its log: {problem}"));
        let mut begin = [0; log::ADOPTED];
        from.read_exact(&mut begin).map_err(super::read::not_read)?;
        let length = log::adopt(&mut begin, self.log).map_err(|error| wrong(error.to_string()))?;
        if bytes > length || length > MAX_SEGMENT {
            return Err(wrong(format!(
                "it has {bytes} bytes of records in a file of {length}, of at most {MAX_SEGMENT}"
            )));
        }
        self.check_room(length)?;
        let (path, mut file) = self.file("log", name)?;
        file.write_all(&begin).map_err(BackupError::file("writing", &path))?;
        let mut written = begin.len() as u64 + pass_on(from, &mut file, &path)?;
        // Not only lengthened: a file of the log has all its blocks, so that no write to it wants for room.
        let zeros = vec![0; STEP];
        while written < length {
            let step = (length - written).min(STEP as u64);
            file.write_all(&zeros[..step as usize]).map_err(BackupError::file("writing", &path))?;
            written += step;
        }
        file.sync_all().map_err(BackupError::file("syncing", &path))
    }

    fn key(&mut self, key: &[u8], value: Bytes) -> Result<(), BackupError> {
        let wrong = || BackupError::damaged("its store has a key that isn't known");
        let key = Key::read(key).ok_or_else(wrong)?;
        let kind = key.parse().map(|item| item.kind()).ok_or_else(wrong)?;
        self.keys += 1;
        let value = match kind {
            // Those of the new store: the epoch is given with each change.
            KeyKind::Format | KeyKind::Epoch => return Ok(()),
            KeyKind::Log => {
                let identity = Identity::decode(&value);
                let identity = identity.ok_or_else(|| BackupError::damaged("its log has no identity"))?;
                identity.with_id(self.log).encode().into()
            }
            _ => value,
        };
        self.bytes += key.as_bytes().len() + value.len();
        self.changes.push(Change { key, value: Some(value) });
        if self.changes.len() >= KEYS || self.bytes >= BYTES { self.apply() } else { Ok(()) }
    }

    fn package(&mut self, name: &str, bytes: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        self.copy("packages", name, bytes, from)
    }

    fn blocks(&mut self, name: &str, bytes: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        self.copy("journal", name, bytes, from)
    }
}
