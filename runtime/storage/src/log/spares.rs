//! Segment files that wait for their use.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::error::LogError;
use super::segment::{self, Spare};
use crate::disk::Disk;

/// The files that wait for their use: zero-filled or recycled, so that writing into them changes no
/// metadata and a sync costs one write.
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    bytes: u64,
    least: usize,
    most: usize,
    ready: Mutex<VecDeque<Spare>>,
    /// Held while one is made, so that the committer rather waits for that one than makes a second.
    making: Mutex<()>,
    /// Numbers the files that are made.
    count: AtomicU64,
}

impl Spares {
    /// `count` is above that of every file made before.
    pub(super) fn new(disk: Arc<dyn Disk>, bytes: u64, least: usize, most: usize, count: u64) -> Self {
        let ready = Mutex::default();
        Self {
            disk,
            bytes,
            least,
            most: most.max(least),
            ready,
            making: Mutex::new(()),
            count: AtomicU64::new(count),
        }
    }

    /// Whether one more may be kept.
    pub(super) fn has_room(&self) -> bool {
        self.ready.lock().len() < self.most
    }

    /// Keeps a file of the right length for use.
    pub(super) fn put(&self, spare: Spare) {
        self.ready.lock().push_back(spare);
    }

    /// A file to begin a segment in; makes one if none is ready.
    pub(super) fn take(&self) -> Result<Spare, LogError> {
        if let Some(spare) = self.ready.lock().pop_front() {
            return Ok(spare);
        }
        let _making = self.making.lock();
        let ready = self.ready.lock().pop_front();
        ready.map_or_else(|| self.make(), Ok)
    }

    /// Makes what is missing. For a thread of its own.
    pub(super) fn fill(&self) -> Result<(), LogError> {
        loop {
            let _making = self.making.lock();
            if self.ready.lock().len() >= self.least {
                return Ok(());
            }
            let spare = self.make()?;
            self.put(spare);
        }
    }

    fn make(&self) -> Result<Spare, LogError> {
        let name = segment::made(self.count.fetch_add(1, Ordering::Relaxed));
        let made = self.disk.create(&name, self.bytes);
        let file = made.map_err(LogError::io("create", self.disk.path(&name)))?;
        Ok(Spare { name, file, bytes: self.bytes })
    }
}
