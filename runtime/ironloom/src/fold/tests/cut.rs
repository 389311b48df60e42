//! A store whose writes can be cut off in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use ironloom_storage::store::{Applied, Change, Item, Key, KeyRange, Page, Snapshot, Storage, StoreError};
use ironloom_storage::testing::AtRest;
use ironloom_types::ids::{Epoch, Generation};

/// Where the next cut is: after so many whole `apply`s, in the middle of the one after them. Of its changes
/// the first so many come through, or, where the number is odd, some here and there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub applies: usize,
    pub changes: usize,
}

impl Cut {
    fn comes_through(self, change: usize) -> bool {
        if self.changes.is_multiple_of(2) {
            return change < self.changes;
        }
        let mixed = ((self.changes as u64) << 32 ^ change as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed >> 63 == 0
    }
}

/// Passes everything on, until it is cut.
pub(in crate::fold) struct Cuttable {
    inner: Arc<dyn Storage>,
    cut: Mutex<Option<Cut>>,
    positions: AtomicUsize,
    /// So many times there is no room.
    full: AtomicUsize,
    /// How long a removal of an app's state takes.
    pub slow_removal: Mutex<Duration>,
    /// The next `apply` with state of a generation waits.
    pub hold: Mutex<Option<Hold>>,
}

/// One that waits says so, until it may go on.
pub(in crate::fold) struct Hold {
    pub of: Generation,
    pub waits: Sender<()>,
    pub goes_on: Receiver<()>,
}

impl Cuttable {
    pub(super) fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            cut: Mutex::default(),
            positions: AtomicUsize::new(0),
            full: AtomicUsize::new(0),
            slow_removal: Mutex::default(),
            hold: Mutex::default(),
        }
    }

    /// How often a fold position was written.
    pub(super) fn positions(&self) -> usize {
        self.positions.load(Ordering::SeqCst)
    }

    /// The disk is full for the next so many `apply`s.
    pub(super) fn fill(&self, times: usize) {
        self.full.store(times, Ordering::SeqCst);
    }

    /// Says whether the disk is full no more.
    pub(super) fn has_room(&self) -> bool {
        self.full.load(Ordering::SeqCst) == 0
    }

    pub(super) fn cut(&self, cut: Cut) {
        *self.cut.lock() = Some(cut);
    }
}

impl Storage for Cuttable {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError> {
        Ok(Box::new(AtRest(self)))
    }

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.inner.get_many(keys)
    }

    fn scan(&self, range: &KeyRange, after: Option<&Key>, limit: usize) -> Result<Page, StoreError> {
        self.inner.scan(range, after, limit)
    }

    fn apply(&self, mut changes: Vec<Change>, epoch: Epoch) -> Result<Applied, StoreError> {
        if changes.iter().any(|change| change.key == Key::folded()) {
            self.positions.fetch_add(1, Ordering::SeqCst);
        }
        let full = self.full.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |times| times.checked_sub(1));
        if full.is_ok() {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(StoreError::Full { folder: "store".into(), source });
        }
        let of = |change: &Change| match change.key.parse() {
            Some(Item::State(of, _)) => Some(of),
            _ => None,
        };
        let held = self.hold.lock().take_if(|hold| changes.iter().any(|change| of(change) == Some(hold.of)));
        if let Some(Hold { waits, goes_on, .. }) = held {
            waits.send(()).unwrap();
            goes_on.recv().unwrap();
        }
        let removes = |change: &Change| {
            let kind = change.key.parse();
            change.value.is_none() && matches!(kind, Some(Item::State(..)))
        };
        if changes.first().is_some_and(removes) {
            std::thread::sleep(*self.slow_removal.lock());
        }
        let mut cut = self.cut.lock();
        match &mut *cut {
            None => self.inner.apply(changes, epoch),
            Some(cut) if cut.applies > 0 => {
                cut.applies -= 1;
                self.inner.apply(changes, epoch)
            }
            Some(cut) => {
                let cut = *cut;
                let mut number = 0..;
                changes.retain(|_| number.next().is_some_and(|change| cut.comes_through(change)));
                let _ = self.inner.apply(changes, epoch)?;
                Err(StoreError::Io { what: "writing".into(), source: std::io::Error::other("cut off") })
            }
        }
    }

    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }
}
