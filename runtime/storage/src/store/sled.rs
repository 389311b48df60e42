//! The default engine: sled, with the care that it needs.
//!
//! - `flush` on Linux ends in `sync_file_range`, which promises nothing over a loss of power: after it
//!   comes an `fdatasync` of the file `db`.
//! - sled believes that promise when it uses a segment again: once what was in it is written elsewhere, it
//!   is overwritten, and after a loss of power both may be gone. So much less than a segment is written
//!   between two of our syncs. `lossy.rs` shows what happens without.
//! - A message above a quarter of a segment goes to a file of its own, which sled never syncs. A leaf is
//!   one message. So segments are large and values above [`WHOLE`] are kept in parts.
//! - A batch leaves memory behind that is freed only as other operations pass, and takes its keys in no
//!   order. The fold doesn't need what a batch gives, since its position comes last: so keys are inserted
//!   one by one, in the order in which they come. Only a value in parts is a batch.
//! - After a failed write sled refuses everything until it is opened again.
//! - After a failed sync the system calls pages written that are in memory only. They are dropped before sled
//!   is opened: it then goes on from what the disk has, and the log gives the rest again.

#[cfg(test)]
mod lossy;

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashSet;
use parking_lot::{Mutex, RwLock};

use crate::disk::is_want_of_room;
use crate::failpoint;
use crate::folders;

use super::error::StoreError;
use super::keys::{IN_PARTS, Key, KeyRange};
use super::reopen::Reopening;
use super::storage::{Engine, Page, PageBuilder, SealedChange};

const SEGMENT: usize = 8 << 20;
/// Of a segment so much is written between two syncs, counting keys and values only: sled's log takes
/// about twice as much.
const PIECE_OF_SEGMENT: usize = 8;
/// The longest value that sled gets whole.
const WHOLE: usize = 32 << 10;

/// So many keys of values in parts are kept in memory.
const KNOWN_PARTS: usize = 100_000;

/// Stands before a value that is there whole.
const IS_WHOLE: u8 = 0;
/// Stands before the length, u32 little-endian, of a value that is kept in parts.
const IS_IN_PARTS: u8 = 1;

/// A sled store in a folder of its own.
pub(super) struct Sled {
    folder: PathBuf,
    open: Reopening<Open>,
}

struct Open {
    db: sled::Db,
    /// The file that sled keeps everything in, for syncing it.
    file: File,
    /// The keys whose values are kept in parts: for all others writing need not look for old parts. `None`
    /// where there are more than [`KNOWN_PARTS`].
    in_parts: Mutex<Option<HashSet<Key>>>,
    /// Keeps who reads a value in parts from seeing parts of two values.
    parts: RwLock<()>,
}

impl Sled {
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let at = folder.to_owned();
        let open = Reopening::new(folder, move || Open::new(&at, cache_bytes, SEGMENT))?;
        Ok(Self { folder: folder.to_owned(), open })
    }

    fn with<T>(&self, work: impl FnOnce(&Open) -> Result<T, Failed>) -> Result<T, StoreError> {
        let result = self.open.with(work, Failed::is_broken);
        result.map_err(|trouble| trouble.named(|failed| failed.named(&self.folder)))
    }
}

impl Engine for Sled {
    const FILE: &'static str = "db";

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.with(|open| keys.iter().map(|key| open.get(key)).collect())
    }

    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        self.with(|open| open.scan(range, after, limit))
    }

    fn write(&self, changes: &mut dyn Iterator<Item = SealedChange>) -> Result<(), StoreError> {
        self.with(|open| {
            let mut changes = changes.peekable();
            while changes.peek().is_some() {
                open.write_piece(&mut changes, SEGMENT / PIECE_OF_SEGMENT)?;
                failpoint("store-before-sync");
                open.sync()?;
            }
            Ok(())
        })
    }
}

impl Open {
    fn new(folder: &Path, cache_bytes: u64, segment: usize) -> Result<Self, StoreError> {
        let doing = format!("opening the sled store in {}", folder.display());
        std::fs::create_dir_all(folder)
            .and_then(|()| folders::forget_cached(folder))
            .map_err(StoreError::io(doing.clone()))?;
        let config = sled::Config::new()
            .path(folder)
            .segment_size(segment)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let db = open_when_free(&config).map_err(|error| match error {
            error if is_locked(&error) => StoreError::InUse { folder: folder.to_owned() },
            error => Failed::Sled(error).named(folder),
        })?;
        // sled itself syncs neither its folder nor its settings, and does not start without them.
        for name in [Sled::FILE, "conf", ""] {
            File::open(folder.join(name))
                .and_then(|file| file.sync_all())
                .map_err(StoreError::io(doing.clone()))?;
        }
        let file = File::open(folder.join(Sled::FILE)).map_err(StoreError::io(doing))?;
        let in_parts = keys_in_parts(&db).map_err(|error| Failed::Sled(error).named(folder))?;
        Ok(Self { db, file, in_parts: Mutex::new(in_parts), parts: RwLock::new(()) })
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, Failed> {
        match self.db.get(key.as_bytes())? {
            None => Ok(None),
            Some(stored) => self.whole(key, &stored),
        }
    }

    /// The sealed value that stands behind what is stored under its key.
    fn whole(&self, key: &Key, stored: &[u8]) -> Result<Option<Bytes>, Failed> {
        match stored {
            [IS_WHOLE, sealed @ ..] => Ok(Some(Bytes::copy_from_slice(sealed))),
            [IS_IN_PARTS, ..] => self.joined(key),
            _ => Err(Failed::damaged(key, "it does not begin as a value does")),
        }
    }

    fn joined(&self, key: &Key) -> Result<Option<Bytes>, Failed> {
        let _unchanged = self.parts.read();
        // It may have been replaced since it was read.
        let Some(stored) = self.db.get(key.as_bytes())? else { return Ok(None) };
        let Some(length) = length_in_parts(&stored) else {
            return Ok(stored.get(1..).map(Bytes::copy_from_slice));
        };
        let mut sealed = Vec::new();
        for number in 0..parts_of(length) {
            let part = self.db.get(key.part(number))?;
            sealed.extend_from_slice(&part.ok_or_else(|| Failed::damaged(key, "a part of it is missing"))?);
        }
        if sealed.len() != length {
            return Err(Failed::damaged(key, "its parts do not have its length"));
        }
        Ok(Some(sealed.into()))
    }

    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, Failed> {
        let (start, end) = range.bounds(after);
        let mut page = PageBuilder::new(limit);
        for entry in range.in_order(self.db.range::<&[u8], _>((start, Bound::Excluded(end)))) {
            let (key, stored) = entry?;
            if page.is_full() {
                return Ok(page.finish(true));
            }
            let key = Key::from_stored(&key);
            if let Some(sealed) = self.whole(&key, &stored)? {
                page.push(key, sealed);
            }
        }
        Ok(page.finish(false))
    }

    /// Makes changes until they come to this many bytes.
    fn write_piece(
        &self,
        changes: &mut dyn Iterator<Item = SealedChange>,
        bytes: usize,
    ) -> Result<(), Failed> {
        let mut written = 0;
        while written < bytes
            && let Some((key, sealed)) = changes.next()
        {
            written += key.as_bytes().len() + sealed.as_ref().map_or(0, Vec::len);
            let old_parts = self.parts_under(&key)?;
            match sealed {
                Some(sealed) if sealed.len() > WHOLE => self.write_parts(&key, Some(&sealed), old_parts)?,
                sealed if old_parts > 0 => self.write_parts(&key, sealed.as_deref(), old_parts)?,
                Some(sealed) => {
                    self.db.insert(key.as_bytes(), stored_whole(&sealed))?;
                }
                None => {
                    self.db.remove(key.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// In how many parts the value of this key is kept now.
    fn parts_under(&self, key: &Key) -> Result<u16, Failed> {
        if self.in_parts.lock().as_ref().is_some_and(|known| !known.contains(key)) {
            return Ok(0);
        }
        let stored = self.db.get(key.as_bytes())?;
        Ok(stored.as_deref().and_then(length_in_parts).map_or(0, parts_of))
    }

    /// Writes a value where it, or the one before it, is in parts: all at once, so that neither a crash nor
    /// a reader finds parts of two values.
    fn write_parts(&self, key: &Key, sealed: Option<&[u8]>, old_parts: u16) -> Result<(), Failed> {
        let mut batch = sled::Batch::default();
        let mut new_parts = 0;
        match sealed {
            None => batch.remove(key.as_bytes()),
            Some(sealed) if sealed.len() <= WHOLE => batch.insert(key.as_bytes(), stored_whole(sealed)),
            Some(sealed) => {
                new_parts = parts_of(sealed.len());
                let mut head = vec![IS_IN_PARTS];
                head.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
                batch.insert(key.as_bytes(), head);
                batch.insert(key.in_parts(), &[]);
                for (part, number) in sealed.chunks(WHOLE).zip(0..new_parts) {
                    batch.insert(key.part(number), part);
                }
            }
        }
        for number in new_parts..old_parts {
            batch.remove(key.part(number));
        }
        if new_parts == 0 {
            batch.remove(key.in_parts());
        }
        let _nobody_reads_parts = self.parts.write();
        self.db.apply_batch(batch)?;
        let mut in_parts = self.in_parts.lock();
        if let Some(known) = &mut *in_parts {
            match new_parts {
                0 => known.remove(key),
                _ => known.insert(key.clone()),
            };
        }
        in_parts.take_if(|known| known.len() > KNOWN_PARTS);
        Ok(())
    }

    fn sync(&self) -> Result<(), Failed> {
        self.db.flush()?;
        self.file.sync_data().map_err(Failed::Sync)
    }
}

/// The keys of the values in parts; `None` where there are more than [`KNOWN_PARTS`].
fn keys_in_parts(db: &sled::Db) -> Result<Option<HashSet<Key>>, sled::Error> {
    let mut keys = HashSet::new();
    for marked in db.scan_prefix(IN_PARTS).keys() {
        keys.extend(Key::of_in_parts(&marked?));
        if keys.len() > KNOWN_PARTS {
            return Ok(None);
        }
    }
    Ok(Some(keys))
}

/// sled gives up the lock of its file some time after it is dropped.
fn open_when_free(config: &sled::Config) -> Result<sled::Db, sled::Error> {
    let mut tries = 0;
    loop {
        match config.open() {
            Err(error) if is_locked(&error) && tries < 100 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// Whether somebody has sled's file open. It has no error of its own for that.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

fn length_in_parts(stored: &[u8]) -> Option<usize> {
    match stored {
        [IS_IN_PARTS, a, b, c, d] => Some(u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => None,
    }
}

/// Into how many parts a sealed value of this length is cut.
fn parts_of(length: usize) -> u16 {
    // 2 GiB; the limits on values are thousands of times lower.
    u16::try_from(length.div_ceil(WHOLE)).unwrap_or(u16::MAX)
}

fn stored_whole(sealed: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + sealed.len());
    stored.push(IS_WHOLE);
    stored.extend_from_slice(sealed);
    stored
}

/// The error of an operation, before its place is known.
enum Failed {
    Sled(sled::Error),
    Sync(io::Error),
    Damaged { key: String, problem: String },
}

impl From<sled::Error> for Failed {
    fn from(error: sled::Error) -> Self {
        Self::Sled(error)
    }
}

impl Failed {
    fn damaged(key: &Key, problem: &str) -> Self {
        Self::Damaged { key: key.to_string(), problem: problem.to_owned() }
    }

    /// Whether sled refuses everything from now on.
    fn is_broken(&self) -> bool {
        matches!(self, Self::Sled(sled::Error::Io(_)))
    }

    fn named(self, folder: &Path) -> StoreError {
        let folder = folder.to_owned();
        let what = || format!("using the sled store in {}", folder.display());
        match self {
            Self::Sled(sled::Error::Io(source)) if is_want_of_room(source.kind()) => {
                StoreError::Full { folder, source }
            }
            Self::Sled(sled::Error::Io(source)) => StoreError::Io { what: what(), source },
            // Never as a full disk: what a failed sync leaves in memory can't be trusted, so no second try.
            Self::Sync(source) => StoreError::Io { what: format!("syncing: {}", what()), source },
            Self::Sled(error @ sled::Error::Corruption { .. }) => {
                StoreError::EngineDamaged { engine: "sled", folder, problem: error.to_string() }
            }
            Self::Sled(error) => StoreError::Engine { engine: "sled", folder, problem: error.to_string() },
            Self::Damaged { key, problem } => StoreError::Damaged { key, problem },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Item;
    use super::*;
    use ironloom_types::ids::Generation;

    #[test]
    fn parts_go_with_their_value() {
        let folder = tempfile::tempdir().unwrap();
        let sled = Sled::open(folder.path(), 8 << 20).unwrap();
        let key = Item::State(Generation(1), "k").key();
        let lengths =
            [Some(WHOLE), Some(WHOLE + 1), Some(5 * WHOLE), Some(2 * WHOLE), Some(10), Some(3 * WHOLE), None];
        for (length, parts) in lengths.into_iter().zip([0, 2, 5, 2, 0, 3, 0]) {
            let sealed = length.map(|length| vec![7; length]);
            sled.write(&mut std::iter::once((key.clone(), sealed))).unwrap();
            let kept =
                sled.with(|open| Ok(open.db.scan_prefix([0xff, 0xff, 0xff, 0xff, 1]).count())).unwrap();
            assert_eq!(kept, parts, "{length:?}");
            let known = |open: &Open| open.in_parts.lock().clone().unwrap();
            let is_known = |known: hashbrown::HashSet<Key>| known.into_iter().collect::<Vec<_>>();
            let expected = if parts > 0 { vec![key.clone()] } else { Vec::new() };
            assert_eq!(is_known(sled.with(|open| Ok(known(open))).unwrap()), expected, "{length:?}");
            let found = sled.with(|open| Ok(keys_in_parts(&open.db)?.unwrap())).unwrap();
            assert_eq!(is_known(found), expected, "as found when opened, {length:?}");
        }
    }
}
