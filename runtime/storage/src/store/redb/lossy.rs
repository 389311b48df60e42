//! Loss of power: after the last sync any part of what was written may be lost, in any order.
//!
//! The disk stands in memory. Its power goes at any write or sync, also of a start that repairs what an earlier cut
//! has left. What it holds then is, page by page or sector by sector, as it was last synced or as it was last written.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::super::keys::{Item, Key};
use super::super::tests::image_after_cut;
use super::{TABLE, open, write};
use crate::testing::Random;
use ironloom_types::ids::Generation;

const KEYS: u64 = 400;
const CACHE: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    synced: Vec<u8>,
    written: Vec<u8>,
    /// So many writes and syncs end well; the power is gone behind them.
    left: u64,
}

impl Disk {
    fn holding(bytes: Vec<u8>, left: u64) -> Self {
        Self(Arc::new(Mutex::new(Platter { synced: bytes.clone(), written: bytes, left })))
    }

    /// One of those that this may be after the cut.
    fn after_cut(&self, random: &mut Random, left: u64) -> Self {
        let platter = self.0.lock();
        let image = image_after_cut(random, &platter.synced, &platter.written);
        Self::holding(image, left)
    }

    fn open(&self) -> Result<Database, redb::Error> {
        let db = redb::Builder::new().set_cache_size(CACHE).create_with_backend(self.clone())?;
        write(&db, &mut std::iter::empty())?;
        Ok(db)
    }
}

impl Platter {
    fn do_one(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| io::Error::other("the power is gone"))?;
        Ok(())
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock();
        let found = platter.written.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.do_one()?;
        platter.written.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.do_one()?;
        platter.synced = platter.written.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.do_one()?;
        platter.written[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a checkpoint writes: most values are short, some longer than a page.
fn round(random: &mut Random, number: u64) -> Vec<(Key, Option<Vec<u8>>)> {
    let mut changes = BTreeMap::new();
    for _ in 0..1 + random.below(KEYS) {
        let key = Item::State(Generation(1), &random.below(KEYS).to_string()).key();
        let length = if random.below(30) == 0 { 20_000 } else { random.below(140) };
        let value = (random.below(6) > 0).then(|| vec![number as u8; length as usize]);
        changes.insert(key, value);
    }
    changes.into_iter().collect()
}

fn content(db: &Database) -> Result<Map, redb::Error> {
    let table = db.begin_read()?.open_table(TABLE)?;
    let mut all = Map::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        all.insert(key.value().to_vec(), value.value().to_vec());
    }
    Ok(all)
}

/// With a store that was closed: its file has its name only then.
fn made() -> Disk {
    let disk = Disk::holding(Vec::new(), u64::MAX);
    drop(disk.open().unwrap());
    let bytes = disk.0.lock().written.clone();
    Disk::holding(bytes, u64::MAX)
}

/// Writes until the power is gone: what was acknowledged, and what it may be besides.
fn run(random: &mut Random, disk: &Disk) -> (Map, Map) {
    let (mut acknowledged, mut next) = (Map::new(), Map::new());
    let Ok(db) = disk.open() else { return (acknowledged, next) };
    for number in 1.. {
        let changes = round(random, number);
        for (key, value) in &changes {
            match value {
                Some(value) => next.insert(key.as_bytes().to_vec(), value.clone()),
                None => next.remove(key.as_bytes()),
            };
        }
        if write(&db, &mut changes.into_iter()).is_err() {
            break;
        }
        acknowledged.clone_from(&next);
    }
    (acknowledged, next)
}

#[test]
fn what_was_acknowledged_outlives_a_loss_of_power() {
    let cuts = std::env::var("LOSSY_CUTS").map_or(60, |text| text.parse().unwrap());
    let (mut cut_again, mut as_written) = (0, 0);
    for seed in 1..=cuts {
        let mut random = Random::new(seed << 32);
        let left = random.below(if seed % 4 == 0 { 30 } else { 3_000 });
        let disk = made();
        disk.0.lock().left = left;
        let (acknowledged, next) = run(&mut random, &disk);
        for _ in 0..4 {
            let mut found = disk.after_cut(&mut random, u64::MAX);
            if random.below(2) == 0 {
                let left = random.below(20);
                found = found.after_cut(&mut random, left);
                if found.open().is_err() {
                    cut_again += 1;
                }
                found = found.after_cut(&mut random, u64::MAX);
            }
            let content = found.open().and_then(|db| content(&db));
            let content = content.unwrap_or_else(|error| panic!("seed {seed}, cut after {left}: {error}"));
            as_written += u64::from(content == next && next != acknowledged);
            let is_whole = content == acknowledged || content == next;
            assert!(
                is_whole,
                "seed {seed}, cut after {left}: {} keys, acknowledged {}",
                content.len(),
                acknowledged.len()
            );
        }
    }
    assert!(cut_again > 0, "no start was cut");
    assert!(as_written > 0, "no transaction was cut behind its last write");
}

#[test]
fn a_file_that_was_left_half_made_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("new.redb"), [0; 4096]).unwrap();
    drop(open(folder.path(), CACHE as u64).unwrap());
    assert!(content(&open(folder.path(), CACHE as u64).unwrap()).unwrap().is_empty());
    assert!(!folder.path().join("new.redb").exists());
}
