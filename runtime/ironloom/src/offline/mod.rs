//! A data folder while no server runs on it: checking it, and copying it with another engine.

mod check;
mod copy;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::check::{Looked, Report, check};
pub(crate) use self::copy::copy;
use crate::backup::{BackupError, CutOff, refuse_cut_off};
use crate::fold::FoldPosition;
use crate::fold::moment::MomentError;
use crate::fold::stored::decode;
use ironloom_storage::log::{self, LogError};
use ironloom_storage::store::{
    self, DataLock, EngineKind, FileError, Key, LockError, Storage, StoreError, engine_in,
};
use ironloom_storage::{Disk, Folder};

/// Memory for the engine.
const ENGINE_CACHE: u64 = 64 << 20;

/// The reason why nothing can be done to a folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfflineError {
    #[error("{0} isn't a data folder: it has no store")]
    NoData(PathBuf),
    #[error(transparent)]
    CutOff(#[from] CutOff),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Packages(#[from] FileError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Moment(#[from] MomentError),
    #[error("{what} {path} failed: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
}

/// A data folder that nobody else has.
struct Offline {
    data: PathBuf,
    engine: EngineKind,
    store: Arc<dyn Storage>,
    _lock: DataLock,
}

impl Offline {
    fn open(data: &Path) -> Result<Self, OfflineError> {
        let folder = data.join("store");
        let engine = engine_in(&folder).ok_or_else(|| OfflineError::NoData(data.to_owned()))?;
        let lock = DataLock::acquire(data)?;
        refuse_cut_off(data)?;
        let store = store::open(engine, &folder, ENGINE_CACHE)?;
        Ok(Self { data: data.to_owned(), engine, store, _lock: lock })
    }

    /// A folder of the log or of the journal.
    fn disk(&self, name: &str) -> Result<Arc<dyn Disk>, OfflineError> {
        let path = self.data.join(name);
        match Folder::open(&path) {
            Ok(folder) => Ok(Arc::new(folder)),
            Err(source) => Err(OfflineError::Io { what: "opening", path, source }),
        }
    }

    /// The fold position, as far as it can be read.
    fn fold(&self) -> FoldPosition {
        self.value(&Key::folded()).and_then(|bytes| decode(&bytes).ok()).unwrap_or_default()
    }

    fn value(&self, key: &Key) -> Option<Bytes> {
        self.store.get_many(std::slice::from_ref(key)).ok()?.pop().flatten()
    }

    /// The store's knowledge of the log.
    fn known(&self) -> log::Known {
        let fold = self.fold();
        log::Known {
            fold: fold.position,
            witness: fold.witness,
            epoch: self.store.epoch(),
            identity: self.value(&Key::log()).and_then(|bytes| log::Identity::decode(&bytes)),
        }
    }
}
