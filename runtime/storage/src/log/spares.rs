//! Segment files that wait for their use.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::LogError;
use super::segment::{self, Spare};
use crate::disk::Disk;

/// So many bytes stay free on the disk when a file is made ahead of its use.
const KEPT_FREE: u64 = 64 << 20;
/// A file that is needed on a disk without room for a whole one and [`KEPT_FREE`]: short, so that what is left is for
/// the checkpoint that gives others back. Longer only for a record that needs it.
const SHORT: u64 = 1 << 20;
/// So long nothing is made ahead of its use after the disk had no room for it.
const PAUSE: Duration = Duration::from_secs(10);
/// Files that only a start takes, or a checkpoint that has no room: on a full disk that is the last room there is.
const OF_A_START: usize = 1;

/// The files that wait for their use: zero-filled or recycled, so that writing into them changes no
/// metadata and a sync costs one write.
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    bytes: u64,
    least: usize,
    most: usize,
    ready: Mutex<VecDeque<Spare>>,
    /// Held while one is made, so that the committer rather waits for that one than makes a second. Holds
    /// when that last failed.
    making: Mutex<Option<Instant>>,
    /// Whether the disk is nearly full, so that only the start's is kept.
    scarce: AtomicBool,
    /// Numbers the files that are made.
    count: AtomicU64,
}

impl Spares {
    /// `count` is above that of every file made before.
    pub(super) fn new(disk: Arc<dyn Disk>, bytes: u64, least: usize, most: usize, count: u64) -> Self {
        let least = least + OF_A_START;
        Self {
            disk,
            bytes,
            least,
            most: most.max(least),
            ready: Mutex::default(),
            making: Mutex::default(),
            scarce: AtomicBool::new(false),
            count: AtomicU64::new(count),
        }
    }

    /// Whether one more may be kept.
    pub(super) fn has_room(&self) -> bool {
        self.ready.lock().len() < self.most_kept()
    }

    fn most_kept(&self) -> usize {
        if self.scarce.load(Ordering::Acquire) { OF_A_START } else { self.most }
    }

    /// Keeps a file of the right length for use. Gives it back where there are enough: then it is to be removed.
    #[must_use]
    pub(super) fn put(&self, spare: Spare) -> Option<Spare> {
        let mut ready = self.ready.lock();
        if ready.len() >= self.most_kept() {
            return Some(spare);
        }
        ready.push_back(spare);
        None
    }

    /// Says whether the disk is nearly full. Returns the files that are to be removed for it.
    pub(super) fn set_scarce(&self, scarce: bool) -> Vec<Spare> {
        self.scarce.store(scarce, Ordering::Release);
        let mut ready = self.ready.lock();
        let kept = if scarce { ready.len().min(OF_A_START) } else { ready.len() };
        ready.drain(kept..).collect()
    }

    /// A file to begin the first segment of this process in.
    pub(super) fn take_at_start(&self) -> Result<Spare, LogError> {
        let ready = self.ready.lock().pop_front();
        ready.map_or_else(|| self.make_needed(0), Ok)
    }

    /// A file of at least so many bytes to begin a further segment in; makes one if none is ready.
    pub(super) fn take(&self, least: u64) -> Result<Spare, LogError> {
        if let Some(spare) = self.take_ready() {
            return Ok(spare);
        }
        let _making = self.making.lock();
        self.take_ready().map_or_else(|| self.make_needed(least), Ok)
    }

    /// The start's file too, for a checkpoint that has no room otherwise.
    pub(super) fn take_last(&self) -> Option<Spare> {
        self.ready.lock().pop_front()
    }

    fn take_ready(&self) -> Option<Spare> {
        let mut ready = self.ready.lock();
        if ready.len() > OF_A_START { ready.pop_front() } else { None }
    }

    /// Makes what is missing, as far as the disk has room. For a thread of its own.
    pub(super) fn fill(&self) -> Result<(), LogError> {
        loop {
            let mut failed = self.making.lock();
            let is_pause = failed.is_some_and(|failed| failed.elapsed() < PAUSE);
            if self.ready.lock().len() >= self.least || is_pause || !self.fits() {
                return Ok(());
            }
            match self.make(self.bytes) {
                Ok(spare) => {
                    // The disk may have become scarce meanwhile.
                    if let Some(Spare { name, .. }) = self.put(spare) {
                        self.disk.remove(&name).map_err(LogError::io("remove", self.disk.path(&name)))?;
                    }
                }
                Err(error) => {
                    *failed = Some(Instant::now());
                    return Err(error);
                }
            }
        }
    }

    /// Whether the disk has room for one that nobody needs yet.
    fn fits(&self) -> bool {
        let is_scarce = self.scarce.load(Ordering::Acquire);
        !is_scarce && self.disk.free().is_none_or(|free| free >= self.bytes + KEPT_FREE)
    }

    /// One that is needed now.
    fn make_needed(&self, least: u64) -> Result<Spare, LogError> {
        let has_room = self.disk.free().is_none_or(|free| free >= self.bytes + KEPT_FREE);
        self.make(if has_room { self.bytes } else { SHORT.max(least).min(self.bytes) })
    }

    fn make(&self, bytes: u64) -> Result<Spare, LogError> {
        let name = segment::made(self.count.fetch_add(1, Ordering::Relaxed));
        let made = self.disk.create(&name, bytes);
        let file = made.map_err(LogError::io("create", self.disk.path(&name)))?;
        Ok(Spare { name, file, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::disk::DiskFile;
    use crate::testing::SimDisk;

    /// A disk with so much room.
    struct Small {
        disk: SimDisk,
        free: Mutex<u64>,
        /// So much of it somebody else takes between the look and the making.
        taken_by_others: Mutex<u64>,
        /// Files that were asked for.
        asked: AtomicU64,
    }

    impl Small {
        fn new(free: u64) -> Arc<Self> {
            let (disk, free) = (SimDisk::new(1), Mutex::new(free));
            Arc::new(Self { disk, free, taken_by_others: Mutex::default(), asked: AtomicU64::new(0) })
        }

        fn asked(&self) -> u64 {
            self.asked.load(Ordering::SeqCst)
        }
    }

    impl Disk for Small {
        fn list(&self) -> io::Result<Vec<String>> {
            self.disk.list()
        }

        fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let mut free = self.free.lock();
            *free =
                free.checked_sub(bytes + *self.taken_by_others.lock()).ok_or(io::ErrorKind::StorageFull)?;
            self.disk.create(name, bytes)
        }

        fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
            self.disk.open(name)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.disk.rename(from, to)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.disk.remove(name)
        }

        fn sync_folder(&self) -> io::Result<()> {
            self.disk.sync_folder()
        }

        fn salt(&self) -> u32 {
            self.disk.salt()
        }

        fn free(&self) -> Option<u64> {
            Some(*self.free.lock())
        }

        fn path(&self, name: &str) -> String {
            self.disk.path(name)
        }
    }

    const BYTES: u64 = 1_000;

    fn spares(disk: &Arc<Small>) -> Spares {
        Spares::new(Arc::clone(disk) as _, BYTES, 1, 6, 0)
    }

    #[test]
    fn nothing_is_made_ahead_that_takes_the_disks_last_room() {
        let disk = Small::new(KEPT_FREE + 2 * BYTES);
        let spares = spares(&disk);
        spares.fill().unwrap();
        assert_eq!((disk.asked(), spares.ready.lock().len()), (2, 2));
        spares.take(0).unwrap();
        spares.fill().unwrap();
        assert_eq!(disk.asked(), 2);
        // The committer needs one, and gets it.
        spares.take(0).unwrap();
        assert_eq!((disk.asked(), spares.ready.lock().len()), (3, 1));
    }

    #[test]
    fn the_last_one_is_for_a_start() {
        let disk = Small::new(KEPT_FREE + 2 * BYTES);
        let spares = spares(&disk);
        spares.fill().unwrap();
        *disk.free.lock() = 0;
        spares.take(0).unwrap();
        assert!(spares.take(0).is_err());
        spares.take_at_start().unwrap();
        assert!(spares.take_at_start().is_err());
    }

    #[test]
    fn a_disk_that_had_no_room_is_not_tried_again_at_once() {
        let disk = Small::new(KEPT_FREE + BYTES);
        *disk.taken_by_others.lock() = KEPT_FREE + BYTES;
        let spares = spares(&disk);
        assert!(spares.fill().is_err());
        for _ in 0..100 {
            spares.fill().unwrap();
        }
        assert_eq!(disk.asked(), 1);
    }

    #[test]
    fn on_a_nearly_full_disk_a_needed_file_is_short_and_has_room_for_its_record() {
        const SEGMENT: u64 = 64 << 20;
        let disk = Small::new(SEGMENT + KEPT_FREE);
        let spares = Spares::new(Arc::clone(&disk) as _, SEGMENT, 0, 6, 0);
        let mut lengths = Vec::new();
        for least in [0, 0, 5 << 20] {
            lengths.push(spares.take(least).unwrap().bytes);
        }
        // The first leaves what is kept free; of that the others take no more than they need.
        assert_eq!(lengths, [SEGMENT, SHORT, 5 << 20]);
        assert!(spares.take(SEGMENT).is_err(), "58 MiB are left");
    }

    #[test]
    fn a_nearly_full_disk_gets_all_back_but_one() {
        let disk = Small::new(u64::MAX);
        let spares = spares(&disk);
        for number in 0..6 {
            let name = segment::freed(number);
            let file = disk.create(&name, BYTES).unwrap();
            assert!(spares.put(Spare { name, file, bytes: BYTES }).is_none());
        }
        assert!(spares.set_scarce(false).is_empty());
        assert_eq!(spares.set_scarce(true).len(), 5);
        assert!(!spares.has_room());
        spares.fill().unwrap();
        assert_eq!((disk.asked(), spares.ready.lock().len()), (6, 1), "nothing is made then");
        spares.set_scarce(false);
        assert!(spares.has_room());
        assert!(spares.take_last().is_some() && spares.take_last().is_none());
    }
}
