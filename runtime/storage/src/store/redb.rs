//! The other engine: redb, whose writes survive a power failure by themselves.

#[cfg(test)]
mod lossy;

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadableDatabase, TableDefinition};

use crate::disk::is_want_of_room;
use crate::failpoint;
use crate::folders;

use super::error::StoreError;
use super::keys::{Key, KeyRange};
use super::reopen::Reopening;
use super::storage::{Engine, EngineSnapshot, Page, PageBuilder, SealedChange};

/// The table as those see it who read.
type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("store");

/// A redb store in a folder of its own.
pub(super) struct Redb {
    folder: PathBuf,
    open: Reopening<redb::Database>,
}

impl Redb {
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let at = folder.to_owned();
        let open = Reopening::new(folder, move || open(&at, cache_bytes))?;
        Ok(Self { folder: folder.to_owned(), open })
    }

    fn with<T>(&self, work: impl FnOnce(&redb::Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let result = self.open.with(work, is_broken);
        result.map_err(|trouble| trouble.named(|error| named(error, &self.folder)))
    }
}

impl Engine for Redb {
    const FILE: &'static str = "db.redb";

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.with(|db| {
            let table = db.begin_read()?.open_table(TABLE)?;
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(table.get(key.as_bytes())?.map(|value| Bytes::copy_from_slice(value.value())));
            }
            Ok(values)
        })
    }

    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        self.with(|db| Ok(scan(&db.begin_read()?.open_table(TABLE)?, range, after, limit)?))
    }

    fn snapshot(&self) -> Result<Option<Box<dyn EngineSnapshot>>, StoreError> {
        let table = self.with(|db| Ok(db.begin_read()?.open_table(TABLE)?))?;
        Ok(Some(Box::new(RedbSnapshot { folder: self.folder.clone(), table })))
    }

    fn write(&self, changes: &mut dyn Iterator<Item = SealedChange>) -> Result<(), StoreError> {
        self.with(|db| write(db, changes))
    }
}

/// A page of the table.
fn scan(
    table: &Table,
    range: &KeyRange,
    after: Option<&Key>,
    limit: usize,
) -> Result<Page, redb::StorageError> {
    let (start, end) = range.bounds(after);
    let mut page = PageBuilder::new(limit);
    for entry in range.in_order(table.range::<&[u8]>((start, Bound::Excluded(end)))?) {
        let (key, value) = entry?;
        if page.is_full() {
            return Ok(page.finish(true));
        }
        page.push(Key::from_stored(key.value()), Bytes::copy_from_slice(value.value()));
    }
    Ok(page.finish(false))
}

/// The table as of a transaction that reads, which lives as long as this.
struct RedbSnapshot {
    folder: PathBuf,
    table: Table,
}

impl EngineSnapshot for RedbSnapshot {
    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        scan(&self.table, range, after, limit).map_err(|error| named(error.into(), &self.folder))
    }
}

/// One transaction: durable once it has returned, and all or nothing before.
fn write(db: &redb::Database, changes: &mut dyn Iterator<Item = SealedChange>) -> Result<(), redb::Error> {
    let mut transaction = db.begin_write()?;
    // Without it the first start after a crash walks the whole file.
    transaction.set_quick_repair(true);
    {
        // Reading needs the table to be there, so that it is made even where nothing is written.
        let mut table = transaction.open_table(TABLE)?;
        for (key, sealed) in changes {
            match sealed {
                Some(sealed) => table.insert(key.as_bytes(), sealed.as_slice())?,
                None => table.remove(key.as_bytes())?,
            };
        }
    }
    failpoint("store-before-sync");
    Ok(transaction.commit()?)
}

fn open(folder: &Path, cache_bytes: u64) -> Result<redb::Database, StoreError> {
    let doing = || format!("opening the redb store in {}", folder.display());
    std::fs::create_dir_all(folder)
        .and_then(|()| folders::forget_cached(folder))
        .map_err(StoreError::io(doing()))?;
    let path = folder.join(Redb::FILE);
    let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
    let with_table = |path: &Path| -> Result<redb::Database, redb::Error> {
        let db = redb::Builder::new().set_cache_size(cache_bytes).create(path)?;
        write(&db, &mut std::iter::empty())?;
        Ok(db)
    };
    if !path.try_exists().map_err(StoreError::io(doing()))? {
        // A file that the power left half made is none that redb opens, so it gets its name once it is whole.
        let new = folder.join("new.redb");
        let removed = std::fs::remove_file(&new);
        removed
            .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .map_err(StoreError::io(doing()))?;
        drop(with_table(&new).map_err(|error| named(error, folder))?);
        std::fs::rename(&new, &path).map_err(StoreError::io(doing()))?;
    }
    let db = with_table(&path).map_err(|error| named(error, folder))?;
    folders::sync(folder).map_err(StoreError::io(doing()))?;
    Ok(db)
}

/// Whether redb refuses everything from now on.
fn is_broken(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::TransactionPoisoned)
}

fn named(error: redb::Error, folder: &Path) -> StoreError {
    let folder = folder.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { folder },
        redb::Error::Io(source) if is_want_of_room(source.kind()) => StoreError::Full { folder, source },
        redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            StoreError::EngineDamaged { engine: "redb", folder, problem: source.to_string() }
        }
        redb::Error::Io(source) => {
            StoreError::Io { what: format!("using the redb store in {}", folder.display()), source }
        }
        redb::Error::Corrupted(problem) => StoreError::EngineDamaged { engine: "redb", folder, problem },
        other => StoreError::Engine { engine: "redb", folder, problem: other.to_string() },
    }
}
