//! Files of blocks: appending, opening, removing.

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
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
    let files = BlockFiles::open_with(folder.path(), &BTreeMap::new(), 10).unwrap();
    let blocks: [&[u8]; 4] = [b"first", b"second!", b"third", b"4"];
    let locations: Vec<_> = blocks.iter().map(|block| files.append(block).unwrap()).collect();
    files.sync().unwrap();

    // The second passes ten bytes, so the third begins a new file.
    let places: Vec<_> = locations.iter().map(|l| (l.file, l.offset, l.length)).collect();
    assert_eq!(places, [(1, 0, 5), (1, 5, 7), (2, 0, 5), (2, 5, 1)]);
    for (block, &location) in blocks.iter().zip(&locations) {
        assert_eq!(files.read(location).unwrap(), *block);
    }
    assert_eq!(files.size().unwrap(), 18);
}

#[test]
fn what_no_entry_names_is_gone_after_a_start() {
    let folder = folder();
    let files = BlockFiles::open_with(folder.path(), &BTreeMap::new(), 10).unwrap();
    let kept = files.append(b"kept").unwrap();
    files.append(b"left over").unwrap();
    files.append(b"left over in a file of its own").unwrap();
    files.sync().unwrap();
    fs::write(folder.path().join("notes.txt"), "not a block file").unwrap();
    drop(files);

    let files = BlockFiles::open_with(folder.path(), &used(&[kept]), 10).unwrap();
    assert_eq!(files.size().unwrap(), 4);
    let next = files.append(b"next").unwrap();
    assert_eq!((next.file, next.offset), (1, 4), "it goes on where the index ends");
    assert_eq!(files.read(kept).unwrap(), b"kept");
    assert_eq!(files.read(next).unwrap(), b"next");
    assert!(folder.path().join("notes.txt").exists());
}

#[test]
fn missing_and_short_files_are_named() {
    let folder = folder();
    let files = BlockFiles::open(folder.path(), &BTreeMap::new()).unwrap();
    let location = files.append(b"readings").unwrap();
    drop(files);

    let path = folder.path().join("0000000001.blocks");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
    let error = BlockFiles::open(folder.path(), &used(&[location])).unwrap_err().to_string();
    assert!(error.contains("0000000001.blocks has 3 bytes and should have 8"), "{error}");

    fs::remove_file(&path).unwrap();
    let error = BlockFiles::open(folder.path(), &used(&[location])).unwrap_err().to_string();
    assert!(error.contains("0000000001.blocks is missing"), "{error}");
}

#[test]
fn a_block_that_is_cut_off_while_the_server_runs_is_named() {
    let folder = folder();
    let files = BlockFiles::open(folder.path(), &BTreeMap::new()).unwrap();
    let location = files.append(b"readings").unwrap();
    let path = folder.path().join("0000000001.blocks");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(5).unwrap();
    let error = files.read(location).unwrap_err().to_string();
    assert!(error.contains("has 5 bytes and should have 8"), "{error}");
}

#[test]
fn a_removed_file_gives_its_space_back_and_its_number_is_not_used_again() {
    let folder = folder();
    let files = BlockFiles::open_with(folder.path(), &BTreeMap::new(), 4).unwrap();
    let gone = files.append(b"gone").unwrap();
    let kept = files.append(b"kept").unwrap();
    files.read(gone).unwrap();
    files.remove(gone.file).unwrap();
    assert!(matches!(files.read(gone), Err(FileError::Missing { .. })));
    assert_eq!(files.size().unwrap(), 4);
    files.remove(kept.file).unwrap();
    let next = files.append(b"next").unwrap();
    assert!(next.file > kept.file);
    files.sync().unwrap();
    assert_eq!(files.read(next).unwrap(), b"next");
}

#[test]
fn more_files_than_are_kept_open_can_be_read() {
    let folder = folder();
    let files = BlockFiles::open_with(folder.path(), &BTreeMap::new(), 1).unwrap();
    let locations: Vec<_> =
        (0..OPEN_FILES + 5).map(|n| files.append(n.to_string().as_bytes()).unwrap()).collect();
    for _ in 0..2 {
        for (n, &location) in locations.iter().enumerate() {
            assert_eq!(files.read(location).unwrap(), n.to_string().as_bytes());
        }
    }
    assert_eq!(files.open.lock().len(), OPEN_FILES);
}
