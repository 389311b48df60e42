//! A disk for tests that does everything to unsynced data that a real one may do.
//!
//! Bytes: each 512-byte sector written since the last sync is kept or lost on its own at a power cut, and
//! may reach the platter early. A sync that fails keeps some sectors, and calls all of them clean: they can be
//! read until they are evicted or the power goes, and later syncs don't write them. Names: each change since the
//! last sync of the folder is kept or lost on its own. Operations are counted; at a chosen one the process
//! dies in the middle of it. A disk that is full makes no file and lets none grow.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// Small, quick and the same on every machine.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

#[derive(Default)]
struct Inode {
    /// The files as a running process sees them.
    cache: Vec<u8>,
    /// The files that survive a power cut.
    disk: Vec<u8>,
    /// Sectors written since the last sync that didn't fail to say so.
    dirty: BTreeSet<usize>,
    /// Made empty: may change its length.
    grows: bool,
}

impl Inode {
    fn write_back(&mut self, sector: usize) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.cache.len());
        if self.disk.len() < self.cache.len() {
            self.disk.resize(self.cache.len(), 0);
        }
        self.disk[range.clone()].copy_from_slice(&self.cache[range]);
    }
}

/// A change of names: the file, its old name, its new one.
#[derive(Clone)]
struct Change {
    inode: usize,
    from: Option<String>,
    to: Option<String>,
}

impl Change {
    fn is_in(&self, folder: &str) -> bool {
        self.from.as_ref().or(self.to.as_ref()).is_some_and(|name| name.starts_with(folder))
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        if let Some(from) = &self.from {
            if names.get(from) != Some(&self.inode) {
                return;
            }
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.inode);
        }
    }
}

struct State {
    random: Random,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Files that somebody lost, by the name that they had.
    lost: BTreeMap<String, usize>,
    changes: Vec<Change>,
    /// Operations until the process dies.
    lifetime: Option<u64>,
    /// Syncs until one fails.
    failing_sync: Option<u64>,
    dead: bool,
    sync_failed: bool,
    /// Whether the disk is full, and how often it has refused to take more since.
    full: bool,
    refusals: u64,
}

fn dead() -> io::Error {
    io::Error::other("the process died")
}

impl State {
    /// Counts an operation. `Ok(true)`: the process dies in the middle of this one.
    fn operation(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(dead());
        }
        match &mut self.lifetime {
            Some(0) => {
                self.dead = true;
                Ok(true)
            }
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Takes more bytes than there were, or not.
    fn take(&mut self) -> io::Result<()> {
        if !self.full {
            return Ok(());
        }
        self.refusals += 1;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync_fails(&mut self) -> bool {
        match &mut self.failing_sync {
            Some(0) => {
                self.failing_sync = None;
                self.sync_failed = true;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let dies = self.operation()?;
        if !dies || self.random.chance(2) {
            change.apply(&mut self.names);
            self.changes.push(change);
        }
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn inode_of(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// A folder of the disk. Clones are the same folder.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    folder: &'static str,
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            lost: BTreeMap::new(),
            changes: Vec::new(),
            lifetime: None,
            failing_sync: None,
            dead: false,
            sync_failed: false,
            full: false,
            refusals: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), folder: "log/" }
    }

    /// Another folder of the same disk; its name ends in `/`.
    pub fn folder(&self, folder: &'static str) -> Self {
        Self { state: Arc::clone(&self.state), folder }
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    /// Lets the process die in the operation after this many, and the sync after that many fail.
    pub fn arrange(&self, lifetime: Option<u64>, failing_sync: Option<u64>) {
        let mut state = self.state.lock();
        state.lifetime = lifetime;
        state.failing_sync = failing_sync;
    }

    /// Lets the disk be full, so that no file is made and none grows, or gives it room again.
    pub fn set_full(&self, full: bool) {
        let mut state = self.state.lock();
        (state.full, state.refusals) = (full, 0);
    }

    /// How often the full disk has refused something.
    pub fn refusals(&self) -> u64 {
        self.state.lock().refusals
    }

    /// An operation of something else in the same process, which may die in it.
    pub fn other_operation(&self) -> io::Result<()> {
        if self.state.lock().operation()? { Err(dead()) } else { Ok(()) }
    }

    /// A sync of something else in the same process, which may die in it, and which may fail.
    pub fn other_sync(&self) -> io::Result<()> {
        self.other_operation()?;
        if self.state.lock().sync_fails() { Err(io::Error::other("the sync failed")) } else { Ok(()) }
    }

    /// Whether an error is due to what was arranged.
    pub fn failed(&self) -> bool {
        let state = self.state.lock();
        state.dead || state.sync_failed
    }

    /// The process ends; what it wrote stays in the machine's memory, but for what the machine takes for
    /// clean and drops.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        for inode in &mut state.inodes {
            evict(inode, &mut state.random, 2);
        }
        restart(state);
    }

    /// The machine loses power and starts again.
    pub fn power_cut(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        // A journaling file system keeps changes of names in order, others may not.
        let in_order = state.random.chance(2);
        let kept = state.random.below(state.changes.len() as u64 + 1) as usize;
        for (i, change) in std::mem::take(&mut state.changes).into_iter().enumerate() {
            if if in_order { i < kept } else { state.random.chance(2) } {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            let keeps = state.random.below(3);
            for sector in std::mem::take(&mut inode.dirty) {
                if keeps == 2 || keeps == 1 && state.random.chance(2) {
                    inode.write_back(sector);
                }
            }
            inode.cache.clone_from(&inode.disk);
        }
        restart(state);
    }

    /// Flips bits of one byte, on the disk and in memory.
    pub fn flip(&self, name: &str, offset: u64, bits: u8) {
        let mut state = self.state.lock();
        let inode = state.names[&self.full(name)];
        let inode = &mut state.inodes[inode];
        inode.disk[offset as usize] ^= bits;
        inode.cache[offset as usize] ^= bits;
    }

    /// Loses a file.
    pub fn lose(&self, name: &str) {
        let mut state = self.state.lock();
        let name = self.full(name);
        let inode = state.names.remove(&name).unwrap();
        state.durable_names.remove(&name);
        state.lost.insert(name, inode);
    }

    /// Finds a lost file again.
    pub fn find_again(&self, name: &str) {
        let mut state = self.state.lock();
        let name = self.full(name);
        let inode = state.lost.remove(&name).unwrap();
        state.names.insert(name.clone(), inode);
        state.durable_names.insert(name, inode);
    }

    /// Cuts a file off, and gives its bytes.
    pub fn cut(&self, name: &str, length: u64) -> Vec<u8> {
        let whole = self.bytes(name);
        self.restore(name, whole[..length as usize].to_vec());
        whole
    }

    /// Puts bytes in place of a file's.
    pub fn restore(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        let inode = state.names[&self.full(name)];
        let inode = &mut state.inodes[inode];
        inode.disk.clone_from(&bytes);
        inode.cache = bytes;
    }

    /// The bytes of a file as a process sees them.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state.lock();
        state.inodes[state.names[&self.full(name)]].cache.clone()
    }
}

fn restart(state: &mut State) {
    state.lifetime = None;
    state.failing_sync = None;
    state.dead = false;
    state.sync_failed = false;
}

/// Drops sectors from memory that count as clean; what was lost in a failed sync shows its old bytes then.
fn evict(inode: &mut Inode, random: &mut Random, one_in: u64) {
    for sector in 0..inode.cache.len().div_ceil(SECTOR) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(inode.cache.len());
        let lost = !inode.dirty.contains(&sector)
            && inode.disk.len() >= range.end
            && inode.disk[range.clone()] != inode.cache[range.clone()];
        if lost && random.chance(one_in) {
            inode.cache[range.clone()].copy_from_slice(&inode.disk[range]);
        }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.state.lock().names.keys().cloned().collect::<Vec<_>>();
        Ok(names.iter().filter_map(|name| name.strip_prefix(self.folder)).map(str::to_owned).collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let name = self.full(name);
        assert!(!state.names.contains_key(&name), "{name} exists");
        state.take()?;
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        let change = Change { inode, from: None, to: Some(name) };
        state.change(change)?;
        let dies = state.operation()?;
        let length = if dies { state.random.below(bytes + 1) } else { bytes } as usize;
        state.inodes[inode].grows = bytes == 0;
        state.inodes[inode].cache = vec![0; length];
        state.inodes[inode].dirty = (0..length.div_ceil(SECTOR)).collect();
        drop(state);
        let file = SimFile { disk: self.clone(), inode };
        if dies {
            return Err(dead());
        }
        file.sync_data()?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.state.lock().inode_of(&self.full(name))?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let (from, to) = (self.full(from), self.full(to));
        assert!(!state.names.contains_key(&to), "{to} exists");
        let inode = state.inode_of(&from)?;
        state.change(Change { inode, from: Some(from), to: Some(to) })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let name = self.full(name);
        let inode = state.inode_of(&name)?;
        state.change(Change { inode, from: Some(name), to: None })
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.operation()? {
            return Err(dead());
        }
        if state.sync_fails() {
            return Err(io::Error::other("the sync failed"));
        }
        let state = &mut *state;
        state.changes.retain(|change| {
            let here = change.is_in(self.folder);
            if here {
                change.apply(&mut state.durable_names);
            }
            !here
        });
        Ok(())
    }

    fn salt(&self) -> u32 {
        self.state.lock().random.draw() as u32
    }

    fn path(&self, name: &str) -> String {
        self.full(name)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if state.dead {
            return Err(dead());
        }
        let state = &mut *state;
        let inode = &mut state.inodes[self.inode];
        if state.random.chance(4) {
            evict(inode, &mut state.random, 4);
        }
        let bytes = inode.cache.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if offset as usize + bytes.len() > state.inodes[self.inode].cache.len() {
            state.take()?;
        }
        let dies = state.operation()?;
        let state = &mut *state;
        let length = if dies { state.random.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
        let range = offset as usize..offset as usize + length;
        let inode = &mut state.inodes[self.inode];
        assert!(range.end <= inode.cache.len() || inode.grows, "only files that were made empty grow");
        inode.cache.resize(inode.cache.len().max(range.end), 0);
        inode.cache[range.clone()].copy_from_slice(&bytes[..length]);
        if length > 0 {
            inode.dirty.extend(range.start / SECTOR..=(range.end - 1) / SECTOR);
        }
        if state.random.chance(4) {
            // The machine writes some of it whenever it likes.
            let early: Vec<_> = inode.dirty.iter().copied().filter(|_| state.random.chance(2)).collect();
            early.into_iter().for_each(|sector| inode.write_back(sector));
        }
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let dies = state.operation()?;
        let fails = !dies && state.sync_fails();
        let state = &mut *state;
        let inode = &mut state.inodes[self.inode];
        for sector in inode.dirty.clone() {
            if !(dies || fails) || state.random.chance(2) {
                inode.write_back(sector);
                inode.dirty.remove(&sector);
            }
        }
        if !(dies || fails) || inode.disk.len() < inode.cache.len() {
            inode.disk.resize(inode.cache.len(), 0);
        }
        if fails {
            inode.dirty.clear();
            return Err(io::Error::other("the sync failed"));
        }
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let dies = state.operation()?;
        let state = &mut *state;
        if !dies || state.random.chance(2) {
            let inode = &mut state.inodes[self.inode];
            assert!(inode.grows && bytes <= inode.cache.len() as u64, "only files that grow are cut off");
            inode.cache.truncate(bytes as usize);
            inode.dirty.retain(|sector| sector * SECTOR < bytes as usize);
            // The disk may have been told already, or hear of it with the next sync.
            if state.random.chance(2) {
                inode.disk.truncate(bytes as usize);
            }
        }
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().inodes[self.inode].cache.len() as u64)
    }
}
