//! The trait that stands between the fold and whatever keeps its keys, and what is the same for every
//! engine: checksums, the fencing epoch, the format number.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::error::StoreError;
use super::keys::{Key, KeyRange};
use super::value;
use crate::disk::{FileId, Gone, free_bytes};
use ironloom_types::ids::Epoch;
use ironloom_types::page::pages;

/// The format of the store that this binary writes.
pub const FORMAT: u32 = 13;
/// So many bytes must be free besides twice those of the changes: what an engine takes at once.
const ROOM_BESIDES: u64 = 16 << 20;
/// A page ends when its values pass this many bytes, whatever its limit.
pub const PAGE_BYTES: usize = 1 << 20;

/// Keeps keys and values. All of it is what the log folds to, so nothing here is the truth: what an
/// `apply` left undone is folded again.
///
/// Every method may wait for the disk: call them on a thread that nobody waits for, never on a runtime's.
pub trait Storage: Send + Sync {
    /// Gets values, in the order of the keys.
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Lists at most `limit` entries of the range in its order, from the first one that comes after
    /// `after` on. A page is not a snapshot: an `apply` that runs meanwhile may show in part of it.
    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError>;

    /// Makes the changes in their order. `Done` means that they are on the disk. After an error it is
    /// unknown which of them took place; they may be made again, as they are absolute values.
    ///
    /// An epoch above the store's becomes the store's with these changes; one below it changes nothing.
    fn apply(&self, changes: Vec<Change>, epoch: Epoch) -> Result<Applied, StoreError>;

    /// The store as of now, whatever is applied later. An engine without snapshots lets nothing be applied before this
    /// is dropped; so it is used for a limited time, on the thread that took it.
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError>;

    /// The greatest epoch that ever applied anything; 0 in a new store.
    fn epoch(&self) -> Epoch;

    /// Shows every value of a range in the order of the keys, those behind a damaged one as well.
    fn each_value(&self, range: &KeyRange, see: &mut SeeValue<'_>) -> Result<(), StoreError> {
        for page in pages(|after| self.scan(range, after, KEYS)) {
            page?.into_iter().for_each(|(key, value)| see(&key, Ok(value)));
        }
        Ok(())
    }

    /// Says whether the store's file is still there.
    fn check_file(&self) -> Result<(), Gone> {
        Ok(())
    }
}

/// Keys that are looked at together.
const KEYS: usize = 1_000;

/// Sees a value, or that it is damaged.
pub type SeeValue<'s> = dyn FnMut(&Key, Result<Bytes, StoreError>) + 's;

/// A store as of one moment.
pub trait Snapshot {
    /// A page of a range, as [`Storage::scan`] gives it, as of that moment.
    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError>;
}

/// Sets a key, or deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
}

impl Change {
    /// Sets a key.
    pub fn set(key: Key, value: impl Into<Bytes>) -> Self {
        Self { key, value: Some(value.into()) }
    }

    /// Deletes a key.
    pub fn delete(key: Key) -> Self {
        Self { key, value: None }
    }
}

/// Some entries of a range.
pub type Page = ironloom_types::page::Page<Key, Bytes>;

/// The result of applying changes.
#[must_use = "a fenced process must stop"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// They are on the disk.
    Done,
    /// Nothing changed: the store belongs to a later epoch, whose process has taken over.
    Fenced,
}

/// A change as an engine sees it: the value is sealed.
pub(super) type SealedChange = (Key, Option<Vec<u8>>);

/// What an engine does. It sees sealed values and blocks.
pub(super) trait Engine: Send + Sync + 'static {
    /// The name of the file that it keeps everything in.
    const FILE: &'static str;

    /// Gets values, in the order of the keys.
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// At most `limit` entries and about [`PAGE_BYTES`] of a range that is not empty.
    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError>;

    /// The engine as of now; `None` where it has no snapshots.
    fn snapshot(&self) -> Result<Option<Box<dyn EngineSnapshot>>, StoreError> {
        Ok(None)
    }

    /// Makes the changes in their order and brings them to the disk.
    fn write(&self, changes: &mut dyn Iterator<Item = SealedChange>) -> Result<(), StoreError>;
}

/// An engine as of one moment.
pub(super) trait EngineSnapshot {
    /// A page of a range, as [`Engine::scan`] gives it, as of that moment.
    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError>;
}

/// A store as of one moment.
struct Moment<'s, E> {
    store: &'s Checked<E>,
    /// The engine's own snapshot, or else what keeps it as it is.
    kept: Kept<'s>,
}

enum Kept<'s> {
    Snapshot(Box<dyn EngineSnapshot>),
    AsItIs { _epoch: MutexGuard<'s, Epoch> },
}

impl<E: Engine> Snapshot for Moment<'_, E> {
    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        scan_with(range, after, limit, || match &self.kept {
            Kept::Snapshot(engine) => engine.scan(range, after, limit),
            Kept::AsItIs { .. } => self.store.engine.scan(range, after, limit),
        })
    }
}

/// A page whose values are checked.
fn scan_with(
    range: &KeyRange,
    after: Option<&Key>,
    limit: usize,
    scan: impl FnOnce() -> Result<Page, StoreError>,
) -> Result<Page, StoreError> {
    if limit == 0 || range.is_empty_after(after) {
        return Ok(Page { entries: Vec::new(), more: limit == 0 });
    }
    let mut page = scan()?;
    for (key, entry) in &mut page.entries {
        *entry = value::open(key, std::mem::take(entry))?;
    }
    Ok(page)
}

/// An engine with what is the same for all of them.
pub(super) struct Checked<E> {
    engine: E,
    folder: PathBuf,
    /// The file that the engine keeps everything in.
    file: (PathBuf, FileId),
    /// The store's epoch. Held while writing, so that of two writers one sees the other's.
    epoch: Mutex<Epoch>,
}

impl<E: Engine> Checked<E> {
    /// Checks the format number of what the engine holds, or writes it into an empty store.
    pub(super) fn new(engine: E, folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(E::FILE);
        let id = FileId::at(&path).map_err(StoreError::io(format!("looking at {}", path.display())))?;
        let (folder_of_engine, epoch) = (folder.to_owned(), Mutex::new(Epoch(0)));
        let store = Self { engine, folder: folder_of_engine, file: (path, id), epoch };
        store.check_format(folder)?;
        let epoch = store.get_u32(&Key::epoch())?.unwrap_or(0);
        *store.epoch.lock() = Epoch(epoch);
        Ok(store)
    }

    fn check_format(&self, folder: &Path) -> Result<(), StoreError> {
        match self.get_u32(&Key::format())? {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(StoreError::Newer { found, known: FORMAT }),
            Some(found) => Err(StoreError::Older { found, known: FORMAT }),
            None if self.engine.scan(&KeyRange::everything(), None, 1)?.entries.is_empty() => {
                tracing::info!(folder = %folder.display(), format = FORMAT, "a new store");
                let change = Change::set(Key::format(), FORMAT.to_le_bytes().to_vec());
                self.engine.write(&mut std::iter::once(seal(change)))
            }
            None => Err(StoreError::Damaged {
                key: Key::format().to_string(),
                problem: "it is missing, though the store is not empty".to_owned(),
            }),
        }
    }

    /// Looks for room before anything is written: an engine whose write fails has to be opened anew, which
    /// reads all of its log again.
    fn check_room(&self, changes: &[Change]) -> Result<(), StoreError> {
        let bytes =
            |change: &Change| change.key.as_bytes().len() + change.value.as_ref().map_or(0, Bytes::len);
        let bytes: u64 = changes.iter().map(|change| bytes(change) as u64).sum();
        let needed = 2 * bytes + ROOM_BESIDES;
        match free_bytes(&self.folder) {
            Some(free) if free < needed => {
                let problem = format!("{} MiB are free and {} are needed", free >> 20, needed >> 20);
                let source = std::io::Error::new(std::io::ErrorKind::StorageFull, problem);
                Err(StoreError::Full { folder: self.folder.clone(), source })
            }
            _ => Ok(()),
        }
    }

    fn get_u32(&self, key: &Key) -> Result<Option<u32>, StoreError> {
        let Some(bytes) = self.get_many(std::slice::from_ref(key))?.pop().flatten() else { return Ok(None) };
        match bytes.as_ref().try_into() {
            Ok(bytes) => Ok(Some(u32::from_le_bytes(bytes))),
            Err(_) => Err(StoreError::Damaged {
                key: key.to_string(),
                problem: format!("it has {} bytes, not 4", bytes.len()),
            }),
        }
    }
}

impl<E: Engine> Storage for Checked<E> {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let sealed = self.engine.get_many(keys)?;
        assert_eq!(sealed.len(), keys.len(), "an engine answers each key, so that values stay with theirs");
        let open =
            |(key, sealed): (&Key, Option<Bytes>)| sealed.map(|sealed| value::open(key, sealed)).transpose();
        keys.iter().zip(sealed).map(open).collect()
    }

    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        scan_with(range, after, limit, || self.engine.scan(range, after, limit))
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError> {
        // Not while anything is being applied.
        let epoch = self.epoch.lock();
        let kept = match self.engine.snapshot()? {
            Some(snapshot) => Kept::Snapshot(snapshot),
            None => Kept::AsItIs { _epoch: epoch },
        };
        Ok(Box::new(Moment { store: self, kept }))
    }

    fn apply(&self, changes: Vec<Change>, epoch: Epoch) -> Result<Applied, StoreError> {
        let mut held = self.epoch.lock();
        if epoch < *held {
            return Ok(Applied::Fenced);
        }
        let new_epoch = (epoch > *held).then(|| Change::set(Key::epoch(), epoch.0.to_le_bytes().to_vec()));
        if new_epoch.is_some() || !changes.is_empty() {
            self.check_room(&changes)?;
            self.engine.write(&mut new_epoch.into_iter().chain(changes).map(seal))?;
        }
        *held = epoch;
        Ok(Applied::Done)
    }

    fn epoch(&self) -> Epoch {
        *self.epoch.lock()
    }

    fn each_value(&self, range: &KeyRange, see: &mut SeeValue<'_>) -> Result<(), StoreError> {
        for page in pages(|after| self.engine.scan(range, after, KEYS)) {
            page?.into_iter().for_each(|(key, sealed)| see(&key, value::open(&key, sealed)));
        }
        Ok(())
    }

    fn check_file(&self) -> Result<(), Gone> {
        let (path, id) = &self.file;
        // The engine may shorten it, but never to nothing.
        id.check(path, 1)
    }
}

fn seal(change: Change) -> SealedChange {
    let sealed = change.value.map(|bytes| value::seal(&change.key, &bytes));
    (change.key, sealed)
}

/// Gathers entries into a page until it is full. Both limits end a page behind an entry, never before
/// the first, so that each page gets on.
pub(super) struct PageBuilder {
    page: Page,
    limit: usize,
    bytes: usize,
}

impl PageBuilder {
    pub(super) fn new(limit: usize) -> Self {
        Self { page: Page::default(), limit, bytes: 0 }
    }

    /// Whether the page takes no more. Then the caller has an entry left over and there is more.
    pub(super) fn is_full(&self) -> bool {
        self.page.entries.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    pub(super) fn push(&mut self, key: Key, sealed: Bytes) {
        self.bytes += key.as_bytes().len() + sealed.len();
        self.page.entries.push((key, sealed));
    }

    pub(super) fn finish(mut self, more: bool) -> Page {
        self.page.more = more;
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Item;
    use super::super::redb::Redb;
    use super::*;
    use ironloom_types::ids::Generation;

    fn state(key: &str) -> Key {
        Item::State(Generation(1), key).key()
    }

    #[test]
    fn every_damaged_value_is_found_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checked::new(Redb::open(folder.path(), 1 << 20).unwrap(), folder.path()).unwrap();
        let keys: Vec<Key> = (0..3_000).map(|number| state(&format!("{number:04}"))).collect();
        let changes = keys.iter().map(|key| Change::set(key.clone(), "value".as_bytes().to_vec()));
        let applied = store.apply(changes.collect(), Epoch(1)).unwrap();
        assert_eq!(applied, Applied::Done);
        let damaged = [&keys[7], &keys[8], &keys[2_999]];
        // The value of another key, and bytes without a checksum.
        let other = value::seal(&keys[0], b"value");
        let wrong = damaged.iter().map(|key| ((*key).clone(), Some(other.clone())));
        store.engine.write(&mut wrong.collect::<Vec<_>>().into_iter()).unwrap();
        let (mut seen, mut found) = (0, Vec::new());
        store
            .each_value(&KeyRange::everything(), &mut |key, value| {
                seen += 1;
                if let Err(error) = value {
                    assert!(error.to_string().contains(&key.to_string()), "{error}");
                    found.push(key.clone());
                }
            })
            .unwrap();
        // With the format and the epoch.
        assert_eq!(seen, 3_002);
        assert_eq!(found.iter().collect::<Vec<_>>(), damaged);
    }
}
