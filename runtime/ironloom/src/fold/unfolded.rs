//! What came since the last checkpoint, in a map that takes more and one that a checkpoint is writing.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The two maps. What is in the active one is newer.
pub(super) struct Maps<K, V> {
    /// Takes what comes.
    pub active: BTreeMap<K, V>,
    /// The changes that the running checkpoint writes.
    pub frozen: Option<Arc<BTreeMap<K, V>>>,
    /// About how many bytes came since the last freeze.
    pub bytes: usize,
}

/// The two maps behind their lock.
pub(super) struct Unfolded<K, V>(RwLock<Maps<K, V>>);

impl<K, V> Default for Unfolded<K, V> {
    fn default() -> Self {
        Self(RwLock::new(Maps { active: BTreeMap::new(), frozen: None, bytes: 0 }))
    }
}

impl<K: Ord, V> Unfolded<K, V> {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Maps<K, V>> {
        self.0.read()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Maps<K, V>> {
        self.0.write()
    }

    /// About how many bytes came since the last freeze.
    pub(super) fn bytes(&self) -> usize {
        self.read().bytes
    }

    /// Begins a checkpoint: what came until now is frozen.
    pub(super) fn freeze(&self) -> Arc<BTreeMap<K, V>> {
        let mut maps = self.write();
        assert!(maps.frozen.is_none(), "a checkpoint begins when the one before is folded");
        let frozen = Arc::new(std::mem::take(&mut maps.active));
        maps.bytes = 0;
        maps.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// Ends a checkpoint: the store has what was frozen.
    pub(super) fn folded(&self) {
        let frozen = self.write().frozen.take();
        // Dropping a large map takes a while; not under the lock.
        drop(frozen);
    }
}
