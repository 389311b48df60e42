//! The log's fold at rest: keys, the two engines that keep them, files beside them, and the
//! state of apps in memory in front of them.

mod cache;
mod error;
mod files;
mod keys;
mod lock;
mod redb;
mod reopen;
mod sled;
mod storage;
#[cfg(test)]
mod tests;
mod value;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::folders;

pub use cache::{AT_ONCE, CacheBudget, CacheBytes, Changes, Lookup, StateCache, Stretch, Ticket};
pub use error::StoreError;
pub use files::{FileError, Files};
pub use keys::{Item, Key, KeyKind, KeyRange};
pub use lock::{DataLock, LockError};
pub use storage::{Applied, Change, FORMAT, PAGE_BYTES, Page, SeeValue, Snapshot, Storage};

/// Which engine keeps the store: `store.engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    Redb,
    Sled,
}

impl EngineKind {
    /// Every engine.
    pub const ALL: [Self; 2] = [Self::Redb, Self::Sled];

    /// Its name, which is also that of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }
}

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| UnknownEngine(text.to_owned()))
    }
}

/// The name of an engine that there isn't.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an engine; the engines are redb and sled")]
pub struct UnknownEngine(String);

/// The engine of the store in a folder, if there is one.
pub fn engine_in(folder: &Path) -> Option<EngineKind> {
    EngineKind::ALL.into_iter().find(|kind| folder.join(kind.name()).exists())
}

/// Opens the store in a folder, or begins one. The engine may keep `cache_bytes` in memory.
///
/// A folder that holds a store of the other engine is refused: an empty store in its place would look
/// as if everything were lost. Blocks: meant for the start of the server.
pub fn open(kind: EngineKind, folder: &Path, cache_bytes: u64) -> Result<Arc<dyn Storage>, StoreError> {
    for other in EngineKind::ALL {
        if other != kind && folder.join(other.name()).exists() {
            let folder = folder.to_owned();
            return Err(StoreError::OtherEngine { folder, found: other.name(), asked: kind.name() });
        }
    }
    let own = folder.join(kind.name());
    folders::make(&own).map_err(StoreError::io(format!("making {}", own.display())))?;
    let store: Arc<dyn Storage> = match kind {
        EngineKind::Sled => Arc::new(storage::Checked::new(sled::Sled::open(&own, cache_bytes)?, &own)?),
        EngineKind::Redb => Arc::new(storage::Checked::new(redb::Redb::open(&own, cache_bytes)?, &own)?),
    };
    Ok(store)
}
