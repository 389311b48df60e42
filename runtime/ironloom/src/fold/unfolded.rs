//! Changes that no checkpoint has folded: a map for each [stretch](Stretch) of the log, the oldest first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use ironloom_storage::store::Stretch;

/// The maps. What is in a later one is newer.
pub(super) struct Maps<K, V> {
    /// Those of stretches that have ended.
    ended: VecDeque<Ended<K, V>>,
    /// Takes what comes.
    pub active: BTreeMap<K, V>,
    /// About how many bytes came since the current stretch began.
    pub bytes: usize,
}

struct Ended<K, V> {
    stretch: Stretch,
    changes: Arc<BTreeMap<K, V>>,
    bytes: usize,
}

impl<K, V> Maps<K, V> {
    /// All maps, the oldest first.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &BTreeMap<K, V>> {
        self.ended.iter().map(|ended| &*ended.changes).chain(std::iter::once(&self.active))
    }
}

/// The maps behind their lock.
pub(super) struct Unfolded<K, V>(RwLock<Maps<K, V>>);

impl<K, V> Default for Unfolded<K, V> {
    fn default() -> Self {
        Self(RwLock::new(Maps { ended: VecDeque::new(), active: BTreeMap::new(), bytes: 0 }))
    }
}

impl<K: Ord + Clone, V: Clone> Unfolded<K, V> {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Maps<K, V>> {
        self.0.read()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Maps<K, V>> {
        self.0.write()
    }

    /// About how many bytes no checkpoint has folded.
    pub(super) fn bytes(&self) -> usize {
        let maps = self.read();
        maps.bytes + maps.ended.iter().map(|ended| ended.bytes).sum::<usize>()
    }

    /// Ends a stretch: what comes from now on belongs to the next one.
    pub(super) fn end(&self, stretch: Stretch) {
        let mut maps = self.write();
        let (changes, bytes) = (std::mem::take(&mut maps.active), std::mem::take(&mut maps.bytes));
        if !changes.is_empty() {
            maps.ended.push_back(Ended { stretch, changes: Arc::new(changes), bytes });
        }
    }

    /// What came through this stretch: of each key the last value.
    pub(super) fn through(&self, stretch: Stretch) -> Arc<BTreeMap<K, V>> {
        let maps: Vec<_> = {
            let maps = self.read();
            let through = maps.ended.iter().take_while(|ended| ended.stretch <= stretch);
            through.map(|ended| Arc::clone(&ended.changes)).collect()
        };
        let mut maps = maps.into_iter();
        let Some(first) = maps.next() else { return Arc::default() };
        maps.fold(first, |mut all, later| {
            let changes = later.iter().map(|(key, value)| (key.clone(), value.clone()));
            Arc::make_mut(&mut all).extend(changes);
            all
        })
    }

    /// Ends a checkpoint: the store has what came through this stretch. Returns its bytes.
    pub(super) fn folded(&self, stretch: Stretch) -> usize {
        let folded: Vec<_> = {
            let mut maps = self.write();
            let maps_through = maps.ended.partition_point(|ended| ended.stretch <= stretch);
            maps.ended.drain(..maps_through).collect()
        };
        // Dropping a large map takes a while; not under the lock.
        folded.iter().map(|ended| ended.bytes).sum()
    }
}
