//! A store, or a log, that lacks what the fold position says is there: named, and nothing is changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::cut::Cut;
use super::history::Row;
use super::machine::config;
use super::world::World;
use crate::fold::open::{Disks, OpenError, Opened, open};
use crate::telemetry::Metrics;
use ironloom_storage::log::LogError;
use ironloom_storage::store::{self, Applied, Change, EngineKind, Key, KeyKind, KeyRange, Storage};
use ironloom_types::ids::{Sequence, TenantId};
use ironloom_types::readings::Value;

/// A folder with blocks and points in the store, and something in the log behind them.
fn folder() -> tempfile::TempDir {
    let mut world = World::new(EngineKind::Redb);
    let row = |path| Row { path, value: Value::Real(1.0), at: 51 };
    for _ in 0..3 {
        world.push(&(0..6).map(row).collect::<Vec<_>>(), None, None);
        world.pump();
        world.checkpoint(None);
    }
    world.push(&[row(7)], None, None);
    world.pump();
    world.into_folder()
}

/// Removes the last key of a kind.
fn lose_last(folder: &Path, kind: KeyKind) {
    let storage = store::open(EngineKind::Redb, &folder.join("store"), 1 << 20).unwrap();
    let found = storage.scan(&KeyRange::all(kind), None, 1_000).unwrap();
    let (last, _) = found.entries.into_iter().next_back().unwrap();
    assert_eq!(storage.apply(vec![Change::delete(last)], storage.epoch()).unwrap(), Applied::Done);
}

fn try_open(folder: &Path, storage: &Arc<dyn Storage>) -> Result<Opened, OpenError> {
    let disks = Disks::of_folder(folder, Arc::clone(storage), false)?;
    open(disks, &config(), Arc::new(Metrics::default()), Arc::new(()))
}

fn refused(folder: &Path) -> OpenError {
    let storage = store::open(EngineKind::Redb, &folder.join("store"), 1 << 20).unwrap();
    let before = storage.get_many(&[Key::folded()]).unwrap();
    let error = try_open(folder, &storage).err().expect("the folder is refused");
    assert_eq!(storage.get_many(&[Key::folded()]).unwrap(), before);
    error
}

/// Names and contents of the block files.
fn block_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder.join("journal")).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn a_block_that_the_store_has_lost_is_named_and_its_file_stays_whole() {
    let folder = folder();
    let files = block_files(folder.path());
    lose_last(folder.path(), KeyKind::Block);
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::NotWhole { found: 12, expected: 18, .. }), "{error}");
    assert_eq!(block_files(folder.path()), files);
}

#[test]
fn a_point_that_the_store_has_lost_is_named_and_its_number_not_given_again() {
    let folder = folder();
    lose_last(folder.path(), KeyKind::PointPage);
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::NotWhole { found: 0, expected: 6, .. }), "{error}");
}

#[test]
fn a_latest_reading_that_the_log_has_lost_is_named() {
    let folder = folder();
    // A checkpoint that was cut off had written its pages of latest values, and the disk then lost the
    // records behind, though it had said that it had them.
    let storage = store::open(EngineKind::Redb, &folder.path().join("store"), 1 << 20).unwrap();
    let range = KeyRange::all(KeyKind::LatestPage);
    let (key, _) = storage.scan(&range, None, 1).unwrap().entries.into_iter().next().unwrap();
    let opened = try_open(folder.path(), &storage).unwrap();
    let mut ahead = ironloom_types::readings::Columns::default();
    let (good, value) = (Default::default(), ironloom_types::readings::ValueRef::Real(2.0));
    ahead.push(ironloom_types::ids::PointNumber(3), Default::default(), good, value);
    opened.shared.points.observe(Sequence(20), &ahead);
    let page = opened.shared.points.page(0);
    let epoch = opened.epoch;
    drop(opened);
    assert_eq!(storage.apply(vec![Change::set(key, page)], epoch).unwrap(), Applied::Done);
    drop(storage);
    let error = refused(folder.path());
    let OpenError::Ahead { last, sequence, .. } = &error else { panic!("{error}") };
    assert_eq!((*last, *sequence), (Sequence(19), Sequence(20)));
}

#[test]
fn the_store_knows_of_a_segment_before_there_is_any_record_in_it() {
    for seed in 0..8 {
        let mut world = World::simulated(seed);
        world.push(&[Row { path: 0, value: Value::Real(1.0), at: 51 }], None, None);
        world.pump();
        let machine = world.into_machine();
        // With it goes all that was acknowledged; where it was the first, nothing else of the log knows of it.
        machine.disk().lose(&machine.newest_segment());
        let error = machine.refusal();
        assert!(matches!(error, OpenError::Log(LogError::Missing { .. })), "{error}");
    }
}

#[test]
fn block_files_of_which_the_store_knows_nothing_stay_until_a_checkpoint_is_on_the_disk() {
    let mut world = World::new(EngineKind::Redb);
    world.push(&[Row { path: 0, value: Value::Real(1.0), at: 51 }], None, None);
    world.pump();
    // Cut off with its blocks on the disk and no key.
    world.checkpoint(Some(Cut { applies: 0, changes: 0 }));
    assert_eq!(world.block_files(), ["0000000001.blocks.left"]);
    // And once more with all of it but the position.
    world.checkpoint(Some(Cut { applies: 1, changes: 0 }));
    assert_eq!(world.block_files(), ["0000000001.blocks.left", "0000000002.blocks.left"]);
    world.checkpoint(None);
    assert_eq!(world.block_files(), ["0000000003.blocks"]);
}

#[test]
fn a_block_that_is_damaged_is_told_until_it_is_whole_and_the_others_are_read() {
    let folder = folder();
    let storage = store::open(EngineKind::Redb, &folder.path().join("store"), 1 << 20).unwrap();
    let opened = try_open(folder.path(), &storage).unwrap();
    let journal = &opened.shared.journal;
    let file = folder.path().join("journal/0000000001.blocks");
    let whole = std::fs::read(&file).unwrap();
    // Three blocks of six readings each, of about the same length.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let is_read = |first| journal.of(TenantId::MAIN).chunk_from(Sequence(first)).is_ok();
    assert_eq!(journal.damage(), [] as [String; 0]);
    for _ in 0..3 {
        assert!(!is_read(7));
        let told = journal.damage();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("block file 0000000001, offset "), "{told:?}");
        assert!(is_read(1) && is_read(13) && is_read(19));
    }
    std::fs::write(&file, &whole).unwrap();
    assert!(is_read(7));
    assert_eq!(journal.damage(), [] as [String; 0]);
}

#[test]
fn block_files_that_are_gone_are_told_before_anybody_reads_them() {
    let mut world = World::simulated(1);
    for n in 0..60_u32 {
        let row = |path| Row { path, value: Value::Real(f64::from(n)), at: 51 };
        world.push(&(0..12).map(row).collect::<Vec<_>>(), None, None);
        world.pump();
        world.checkpoint(None);
    }
    let shared = world.shared();
    let disk = world.disk().folder("journal/");
    let files = ironloom_storage::Disk::list(&disk).unwrap();
    assert!(files.len() > 3, "{files:?}");
    let told = || {
        // Two at a time, so that a round takes several looks.
        (0..files.len()).for_each(|_| shared.journal.look_at_files(2));
        shared.journal.damage()
    };
    assert_eq!(told(), [] as [String; 0]);
    let [first, third] = ["0000000001.blocks", "0000000003.blocks"];
    disk.lose(first);
    let bytes = disk.cut(third, 7);
    let now = told();
    assert_eq!(now.len(), 2, "{now:?}");
    assert!(now[0].contains(first) && now[0].contains("is missing"), "{now:?}");
    let short = format!("{third} has 7 bytes and should have {}", bytes.len());
    assert!(now[1].contains(&short), "{now:?}");
    assert!(shared.journal.of(TenantId::MAIN).chunk_from(shared.journal.of(TenantId::MAIN).last()).is_ok());
    disk.find_again(first);
    disk.restore(third, bytes);
    assert_eq!(told(), [] as [String; 0]);
}
