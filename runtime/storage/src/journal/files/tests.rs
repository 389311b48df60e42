//! Files of blocks: appending, opening, removing.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::*;
use crate::disk::Folder;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &Path, used: &BTreeMap<u32, u64>, roll_at: u64) -> Result<BlockFiles, FileError> {
    BlockFiles::open(Arc::new(Folder::open(folder).unwrap()), used, roll_at)
}

/// The names and lengths of all files, in order.
fn there(folder: &Path) -> Vec<(String, u64)> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
    };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(entry).collect();
    files.sort();
    files
}

fn used(locations: &[Location]) -> BTreeMap<u32, u64> {
    let mut used = BTreeMap::new();
    for location in locations {
        let end = used.entry(location.file).or_insert(0);
        *end = location.end().max(*end);
    }
    used
}

#[test]
fn blocks_are_read_back_from_where_they_were_put() {
    let folder = folder();
    let files = open(folder.path(), &BTreeMap::new(), 10).unwrap();
    let blocks: [&[u8]; 4] = [b"first", b"second!", b"third", b"4"];
    let locations: Vec<_> = blocks.iter().map(|block| files.append(block).unwrap()).collect();
    files.sync().unwrap();

    // The second passes ten bytes, so the third begins a new file.
    let places: Vec<_> = locations.iter().map(|l| (l.file, l.offset, l.length)).collect();
    assert_eq!(places, [(1, 0, 5), (1, 5, 7), (2, 0, 5), (2, 5, 1)]);
    for (block, &location) in blocks.iter().zip(&locations) {
        assert_eq!(files.read(location).unwrap(), *block);
    }
    assert_eq!(there(folder.path()), [("0000000001.blocks".into(), 12), ("0000000002.blocks".into(), 6)]);
}

#[test]
fn what_no_entry_names_is_cut_off_or_put_aside_until_a_checkpoint_has_followed() {
    let folder = folder();
    let files = open(folder.path(), &BTreeMap::new(), 10).unwrap();
    let kept = files.append(b"kept").unwrap();
    files.append(b"left over").unwrap();
    files.append(b"left over in a file of its own").unwrap();
    files.sync().unwrap();
    fs::write(folder.path().join("notes.txt"), "not a block file").unwrap();
    drop(files);

    let first = ("0000000001.blocks".to_owned(), 4);
    let aside = ("0000000002.blocks.left".to_owned(), 30);
    let notes = ("notes.txt".to_owned(), 16);
    // Once more: what was put aside stays.
    for _ in 0..2 {
        open(folder.path(), &used(&[kept]), 10).unwrap();
        assert_eq!(there(folder.path()), [first.clone(), aside.clone(), notes.clone()]);
    }
    let files = open(folder.path(), &used(&[kept]), 4).unwrap();
    let next = files.append(b"next").unwrap();
    assert_eq!((next.file, next.offset), (3, 0), "the number of what was put aside isn't used again");
    assert_eq!(files.read(kept).unwrap(), b"kept");
    assert_eq!(files.read(next).unwrap(), b"next");
    files.remove_left().unwrap();
    let third = ("0000000003.blocks".to_owned(), 4);
    assert_eq!(there(folder.path()), [first, third, notes]);
}

#[test]
fn nothing_is_touched_where_anything_is_missing() {
    let folder = folder();
    let files = open(folder.path(), &BTreeMap::new(), 10).unwrap();
    let kept = files.append(b"kept").unwrap();
    files.append(b"left over").unwrap();
    files.append(b"left over in a file of its own").unwrap();
    let missing = Location { file: 3, offset: 0, length: 1 };
    let before = there(folder.path());
    let error = open(folder.path(), &used(&[kept, missing]), 10).err().unwrap();
    assert!(matches!(error, FileError::Missing { .. }), "{error}");
    assert_eq!(there(folder.path()), before);
}

#[test]
fn missing_and_short_files_are_named() {
    let folder = folder();
    let files = open(folder.path(), &BTreeMap::new(), FILE_BYTES).unwrap();
    let location = files.append(b"readings").unwrap();
    drop(files);

    let path = folder.path().join("0000000001.blocks");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
    let error = open(folder.path(), &used(&[location]), FILE_BYTES).err().unwrap().to_string();
    assert!(error.contains("0000000001.blocks has 3 bytes and should have 8"), "{error}");

    fs::remove_file(&path).unwrap();
    let error = open(folder.path(), &used(&[location]), FILE_BYTES).err().unwrap().to_string();
    assert!(error.contains("0000000001.blocks is missing"), "{error}");
}

#[test]
fn a_block_that_is_cut_off_while_the_server_runs_is_named() {
    let folder = folder();
    let files = open(folder.path(), &BTreeMap::new(), FILE_BYTES).unwrap();
    let location = files.append(b"readings").unwrap();
    let path = folder.path().join("0000000001.blocks");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(5).unwrap();
    let error = files.read(location).err().unwrap().to_string();
    assert!(error.contains("has 5 bytes and should have 8"), "{error}");
}

#[test]
fn more_files_than_are_kept_open_can_be_read() {
    let folder = folder();
    let files = open(folder.path(), &BTreeMap::new(), 1).unwrap();
    let locations: Vec<_> =
        (0..OPEN_FILES + 5).map(|n| files.append(n.to_string().as_bytes()).unwrap()).collect();
    for _ in 0..2 {
        for (n, &location) in locations.iter().enumerate() {
            assert_eq!(files.read(location).unwrap(), n.to_string().as_bytes());
        }
    }
    assert_eq!(files.open.lock().len(), OPEN_FILES);
}
