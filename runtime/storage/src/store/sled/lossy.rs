//! Loss of power: after the last `fdatasync` any part of what was written may be lost, in any order.
//!
//! The file is copied after each sync and once more at the cut. What a disk may then hold is, page by page
//! or sector by sector, the one or the other. Nothing but our own `fdatasync` counts as a sync.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::super::keys::{Item, Key, KeyKind, KeyRange};
use super::super::tests::image_after_cut;
use super::super::value;
use super::{Open, PIECE_OF_SEGMENT, SealedChange};
use crate::testing::Random;
use ironloom_types::ids::Generation;

/// How large what is folded is.
#[derive(Clone, Copy)]
struct Sizes {
    segment: usize,
    /// Keys of state that there are, and changes of them in a round.
    keys: u64,
    changes: u64,
    /// Pages of latest values of 6 to 25 KB, and how many are written in a round.
    pages: u64,
    written_pages: u64,
    /// Values in parts.
    in_parts: u64,
}

/// Small segments, so that they are freed and used again often.
const SMALL: Sizes =
    Sizes { segment: 256 << 10, keys: 4_000, changes: 3_000, pages: 0, written_pages: 0, in_parts: 0 };
/// Segments, pages and parts as large as those of a real store.
const REAL: Sizes = Sizes {
    segment: super::SEGMENT,
    keys: 20_000,
    changes: 20_000,
    pages: 400,
    written_pages: 1_200,
    in_parts: 10,
};

type Map = BTreeMap<Key, Option<Vec<u8>>>;

fn round(sizes: Sizes, number: u64) -> Vec<SealedChange> {
    let mut random = Random::new(number);
    let mut changes = Map::new();
    for _ in 0..sizes.written_pages {
        let key = Item::LatestPage(random.below(sizes.pages) as u32).key();
        let page = vec![number as u8; 6_000 + random.below(19_000) as usize];
        changes.insert(key.clone(), Some(value::seal(&key, &page)));
    }
    for n in 0..sizes.in_parts {
        let key = Item::State(Generation(2), &n.to_string()).key();
        let length = [100, 40_000, 100_000][random.below(3) as usize];
        changes.insert(key.clone(), Some(value::seal(&key, &vec![number as u8; length])));
    }
    for _ in 0..sizes.changes {
        let key = Item::State(Generation(1), &format!("{:05}", random.below(sizes.keys))).key();
        let length = 20 + random.below(120) as usize;
        let deleted = random.below(10) == 0;
        let sealed = (!deleted).then(|| value::seal(&key, &vec![number as u8; length]));
        changes.insert(key, sealed);
    }
    changes.into_iter().collect()
}

fn as_of(sizes: Sizes, position: u64) -> Map {
    (1..=position).flat_map(|number| round(sizes, number)).collect()
}

fn position(number: u64) -> SealedChange {
    let key = Key::folded();
    let sealed = value::seal(&key, &number.to_le_bytes());
    (key, Some(sealed))
}

struct Cut {
    sizes: Sizes,
    folder: tempfile::TempDir,
    /// The file as of the last sync, and as it was written.
    synced: Vec<u8>,
    written: Vec<u8>,
    position: u64,
    keys_are_synced: bool,
}

/// A store that is synced whenever so many bytes are written.
struct Folding {
    folder: tempfile::TempDir,
    open: Open,
    piece: usize,
    synced: Vec<u8>,
}

impl Folding {
    fn write(&mut self, changes: Vec<SealedChange>) {
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            self.open.write_piece(&mut changes, self.piece).unwrap_or_else(|_| panic!("writing"));
            if changes.peek().is_some() {
                self.sync();
            }
        }
    }

    fn sync(&mut self) {
        self.open.sync().unwrap_or_else(|_| panic!("syncing"));
        self.synced = self.file();
    }

    fn file(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("db")).unwrap()
    }
}

/// Folds some rounds, and stops somewhere in the next.
fn run(random: &mut Random, sizes: Sizes, piece: usize) -> Cut {
    let folder = tempfile::tempdir().unwrap();
    let open = Open::new(folder.path(), 8 << 20, sizes.segment).unwrap_or_else(|error| panic!("{error}"));
    let mut folding = Folding { folder, open, piece, synced: Vec::new() };
    let last = 1 + random.below(if sizes.pages > 0 { 3 } else { 6 });
    for number in 1..=last {
        for changes in [round(sizes, number), vec![position(number)]] {
            folding.write(changes);
            folding.sync();
        }
    }
    let next = round(sizes, last + 1);
    let keys_are_synced = random.below(4) == 0;
    if keys_are_synced {
        folding.write(next);
        folding.sync();
        folding.write(vec![position(last + 1)]);
    } else {
        // To and fro between old and new, so that segments are freed and used again.
        let old = as_of(sizes, last);
        let back: Vec<_> =
            next.iter().map(|(key, _)| (key.clone(), old.get(key).cloned().flatten())).collect();
        let times = if sizes.pages > 0 { 2 } else { 10 };
        let some = random.below(times * next.len() as u64 + 1) as usize;
        folding.write(next.into_iter().chain(back).cycle().take(some).collect());
    }
    if random.below(4) > 0 {
        folding.open.db.flush().unwrap();
    }
    let written = folding.file();
    let Folding { folder, synced, .. } = folding;
    Cut { sizes, folder, synced, written, position: last, keys_are_synced }
}

fn check(cut: &Cut, folder: &Path) -> Result<(), String> {
    let open = Open::new(folder, 8 << 20, cut.sizes.segment).map_err(|error| error.to_string())?;
    let get = |key: &Key| match open.get(key) {
        Ok(Some(sealed)) => value::open(key, sealed).map(Some).map_err(|error| error.to_string()),
        Ok(None) => Ok(None),
        Err(failed) => Err(failed.named(folder).to_string()),
    };
    let found = get(&Key::folded())?.ok_or("the position is gone")?;
    let found = u64::from_le_bytes(found.as_ref().try_into().map_err(|_| "the position has another length")?);
    let as_it_should = found == cut.position || cut.keys_are_synced && found == cut.position + 1;
    if !as_it_should {
        return Err(format!("position {found}, synced was {}", cut.position));
    }
    let (old, new) = (as_of(cut.sizes, cut.position), as_of(cut.sizes, cut.position + 1));
    for key in new.keys() {
        let found = get(key)?;
        let is = |map: &Map| {
            let expected = map.get(key).cloned().flatten();
            expected.map(|sealed| value::open(key, sealed.into()).unwrap()) == found
        };
        if !(is(&new) || is(&old) && !cut.keys_are_synced) {
            return Err(format!("{key} is {:?}", found.map(|value: Bytes| value.len())));
        }
    }
    for kind in [KeyKind::State, KeyKind::LatestPage] {
        let page = open.scan(&KeyRange::all(kind), None, usize::MAX);
        page.map_err(|failed| failed.named(folder).to_string())?;
    }
    Ok(())
}

/// What is wrong with so many disks after each of so many cuts.
fn lost(sizes: Sizes, cuts: u64, disks: u64, piece: usize) -> Vec<String> {
    let mut lost = Vec::new();
    for seed in 1..=cuts {
        let mut random = Random::new(seed << 32);
        let cut = run(&mut random, sizes, piece);
        for _ in 0..disks {
            let folder = tempfile::tempdir().unwrap();
            for entry in fs::read_dir(cut.folder.path()).unwrap() {
                let entry = entry.unwrap();
                match entry.file_name().to_str().unwrap() {
                    "db" => fs::write(
                        folder.path().join("db"),
                        image_after_cut(&mut random, &cut.synced, &cut.written),
                    )
                    .unwrap(),
                    "blobs" => {
                        assert_eq!(fs::read_dir(entry.path()).unwrap().count(), 0, "blobs are never synced")
                    }
                    name => drop(fs::copy(entry.path(), folder.path().join(name)).unwrap()),
                }
            }
            let result = std::panic::catch_unwind(|| check(&cut, folder.path()));
            if let Err(problem) = result.unwrap_or_else(|_| Err("sled panics".to_owned())) {
                lost.push(format!("seed {seed}, after {} rounds: {problem}", cut.position));
            }
        }
    }
    lost
}

#[test]
fn what_was_synced_outlives_a_loss_of_power() {
    let cuts = std::env::var("LOSSY_CUTS").map_or(8, |text| text.parse().unwrap());
    let lost = lost(SMALL, cuts, 6, SMALL.segment / PIECE_OF_SEGMENT);
    assert!(lost.is_empty(), "of {} disks these lost something:\n{}", cuts * 6, lost.join("\n"));
}

#[test]
fn pages_and_parts_as_large_as_real_ones_outlive_it_too() {
    let cuts = std::env::var("LOSSY_CUTS").map_or(2, |text| text.parse().unwrap());
    let lost = lost(REAL, cuts, 2, REAL.segment / PIECE_OF_SEGMENT);
    assert!(lost.is_empty(), "of {} disks these lost something:\n{}", cuts * 2, lost.join("\n"));
}

#[test]
#[ignore = "shows what the syncs between are there for"]
fn without_syncs_between_it_would_not() {
    assert!(!lost(SMALL, 8, 6, usize::MAX).is_empty());
}
