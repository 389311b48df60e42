//! Backups written, read, damaged and restored.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::restore::is_cut_off;
use super::testing::{header, sparse};
use super::*;
use ironloom_storage::store::{self, EngineKind, Item, Key, KeyRange};
use ironloom_types::ids::{Epoch, Generation};

fn head_of(engine: &str) -> Head {
    Head {
        format: FORMAT,
        store_format: store::FORMAT,
        version: "0.1.0".to_owned(),
        made: Timestamp(1),
        engine: engine.to_owned(),
        through: 7,
        folded: 3,
        epoch: 5,
        bytes: Sizes { log: 0, store: 1, packages: 3, journal: 4 },
    }
}

fn state(key: &str) -> Key {
    Item::State(Generation(1), key).key()
}

/// A backup of two keys, a package and a block file.
fn archive() -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), &head_of("redb")).unwrap();
    writer.key(&state("a"), &Bytes::from_static(b"one")).unwrap();
    writer.key(&state("b"), &Bytes::new()).unwrap();
    writer.end_keys().unwrap();
    writer.package(&"ab".repeat(32), 3, &b"tar"[..]).unwrap();
    writer.blocks("0000000001.blocks", 4, &b"rows"[..]).unwrap();
    writer.finish().unwrap()
}

fn check(bytes: &[u8]) -> Result<Check, String> {
    let mut check = Check::default();
    read(bytes, &mut check).map(|()| check).map_err(|error| error.to_string())
}

fn all_keys(data: &Path, engine: EngineKind) -> Vec<(Key, Bytes)> {
    let store = store::open(engine, &data.join("store"), 1 << 20).unwrap();
    store.scan(&KeyRange::everything(), None, 100).unwrap().entries
}

#[test]
fn a_backup_is_restored_into_either_engine() {
    let folder = tempfile::tempdir().unwrap();
    let checked = check(&archive()).unwrap();
    assert_eq!((checked.keys, checked.packages), (2, 1));
    for engine in EngineKind::ALL {
        let data = folder.path().join(engine.name());
        let restored = restore(&archive()[..], &data, Some(engine)).unwrap();
        assert_eq!((restored.head, restored.engine, restored.keys), (head_of("redb"), engine, 2));
        assert!(!is_cut_off(&data));
        assert_eq!(fs::read(data.join("packages").join("ab".repeat(32))).unwrap(), b"tar");
        assert_eq!(fs::read(data.join("journal/0000000001.blocks")).unwrap(), b"rows");
        let states: Vec<_> =
            all_keys(&data, engine).into_iter().filter(|(key, _)| key.state_text().is_some()).collect();
        let expected = [(state("a"), Bytes::from_static(b"one")), (state("b"), Bytes::new())];
        assert_eq!(states, expected);
        assert_eq!(store::open(engine, &data.join("store"), 1 << 20).unwrap().epoch(), Epoch(5));
    }
}

#[test]
fn a_folder_with_anything_in_it_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    let error = restore(&archive()[..], folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("isn't empty: it has \"log\""), "{error}");
    assert!(folder.path().join("log").exists() && !folder.path().join("store").exists());
}

#[test]
fn nothing_is_left_of_a_backup_that_is_damaged() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let whole = archive();
    let error = restore(&whole[..whole.len() - 20], &data, None).unwrap_err().to_string();
    assert!(error.contains("the backup is damaged"), "{error}");
    assert!(!data.exists(), "what was made goes");
    // A folder that was there, such as a mounted disk, stays.
    fs::create_dir(&data).unwrap();
    restore(&whole[..whole.len() - 20], &data, None).unwrap_err();
    let left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    restore(&whole[..], &data, None).unwrap();
}

#[test]
fn a_restore_that_was_cut_off_is_seen_and_begun_again() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path();
    for name in ["restoring", "log", "journal/0000000009.blocks", "store/sled/db"] {
        let path = data.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name == "log" { fs::create_dir(path).unwrap() } else { fs::write(path, b"half").unwrap() }
    }
    assert!(is_cut_off(data));
    restore(&archive()[..], data, None).unwrap();
    assert!(!is_cut_off(data) && !data.join("journal/0000000009.blocks").exists());
    assert_eq!(
        all_keys(data, EngineKind::Redb).iter().filter(|(key, _)| key.state_text().is_some()).count(),
        2
    );
}

#[test]
fn whoever_could_not_go_on_says_why() {
    let head = Head { bytes: Sizes { journal: 4_000, ..Sizes::default() }, ..head_of("redb") };
    let mut writer = Writer::begin(Vec::new(), &head).unwrap();
    // The rest of a file that can't be read is made up for, so that the reason can follow.
    let broken = writer.blocks("0000000001.blocks", 4_000, std::io::Read::chain(&b"rows"[..], Broken));
    assert!(broken.unwrap_err().to_string().contains("the disk broke"));
    let bytes = writer.fail("the disk broke").unwrap();
    let error = check(&bytes).unwrap_err();
    assert_eq!(error, "the backup isn't whole, since the server could not go on: the disk broke");
}

struct Broken;

impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the disk broke"))
    }
}

#[test]
fn keys_beyond_what_the_head_leaves_for_the_store_are_refused() {
    let room = (1 << 30) + 32 * head_of("redb").bytes.store;
    let claims = |bytes: u64| {
        let mut bounds = bounds::Bounds::of(&head_of("redb"));
        let step = 64 << 20;
        for _ in 0..bytes / step {
            bounds.take("store", &read::Place::Store, step).map_err(|error| error.to_string())?;
        }
        bounds.take("store", &read::Place::Store, bytes % step).map_err(|error| error.to_string())
    };
    assert_eq!(claims(room), Ok(()));
    assert!(claims(room + 1).unwrap_err().contains("leaves 32 for the store"), "{:?}", claims(room + 1));
}

#[test]
fn names_that_lead_elsewhere_are_no_part_of_a_backup() {
    for name in ["../x", "journal/../../x", "journal/x", "log/1.log", "packages/x", "x", "store"] {
        let mut writer = Writer::begin(Vec::new(), &head_of("redb")).unwrap();
        // The tar crate itself refuses some of them.
        if writer.entry(name, 1, &b"x"[..]).is_err() {
            continue;
        }
        let error = check(&writer.finish().unwrap()).unwrap_err();
        assert!(error.contains("is no part of a backup"), "{name}: {error}");
    }
}

/// An archive of these entries, with the bytes of a header and those that follow it, whatever the header claims.
fn archive_of(entries: &[(tar::Header, &[u8])]) -> Vec<u8> {
    let mut to = lz4_flex::frame::FrameEncoder::new(Vec::new());
    for (header, bytes) in entries {
        to.write_all(header.as_bytes()).unwrap();
        to.write_all(bytes).unwrap();
        to.write_all(&vec![0; bytes.len().next_multiple_of(512) - bytes.len()]).unwrap();
    }
    to.write_all(&[0; 1024]).unwrap();
    to.finish().unwrap()
}

/// The words of reading and restoring for an archive of which nothing is left.
fn refused(archive: &[u8]) -> String {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let error = restore(archive, &data, None).unwrap_err().to_string();
    assert!(!data.exists(), "{error}");
    assert_eq!(check(archive).unwrap_err(), error);
    error
}

#[test]
fn entries_that_claim_bytes_which_they_lack_are_refused_unread() {
    let head = serde_json::to_vec(&head_of("redb")).unwrap();
    let begin = (header(tar::EntryType::Regular, HEAD, head.len() as u64), &head[..]);
    let package = format!("packages/{}", "ab".repeat(32));
    for claims in [4 << 30, 1 << 62] {
        let error = refused(&archive_of(&[begin.clone(), (sparse(&package, claims), b"")]));
        assert!(
            error.contains(&format!(
                "{package:?} is an entry of the type GNUSparse, and a backup has regular"
            ))
        );
    }
    for (kind, said) in [(tar::EntryType::GNULongName, "GNULongName"), (tar::EntryType::XHeader, "XHeader")] {
        let long = (header(kind, "long", 3 << 30), &b"x"[..]);
        for archive in [archive_of(std::slice::from_ref(&long)), archive_of(&[begin.clone(), long])] {
            let error = refused(&archive);
            assert!(error.contains(&format!("\"long\" is an entry of the type {said}")), "{error}");
        }
    }
    // Likewise a folder, a link, and a pax header for all.
    for kind in [tar::EntryType::Directory, tar::EntryType::Symlink, tar::EntryType::XGlobalHeader] {
        let error = refused(&archive_of(&[begin.clone(), (header(kind, "packages", 0), b"")]));
        assert!(error.contains("a backup has regular files only"), "{error}");
    }
}

#[test]
fn no_part_has_more_bytes_than_its_kind_and_the_head_allow() {
    let large = Sizes { log: 1 << 40, store: 1 << 40, packages: 1 << 40, journal: 1 << 40 };
    let small = Sizes { log: 7, store: 0, packages: 7, journal: 7 };
    let said = |bytes: Sizes, name: &str, claims: u64| {
        let head = serde_json::to_vec(&Head { bytes, ..head_of("redb") }).unwrap();
        let begin = (header(tar::EntryType::Regular, HEAD, head.len() as u64), &head[..]);
        let part = (header(tar::EntryType::Regular, name, claims), &b"x"[..]);
        check(&archive_of(&[begin, part])).unwrap_err()
    };
    let package = format!("packages/{}", "ab".repeat(32));
    let names = ["log/00000000000000000001.log", package.as_str(), "journal/0000000001.blocks"];
    for (name, most) in names.into_iter().zip([1 << 30, 64 << 20, 128 << 20]) {
        let claims = format!("{name} claims {} bytes, and at most {most} are taken", most + 1);
        assert!(said(large, name, most + 1).contains(&claims), "{name}");
        assert!(
            said(large, name, most).contains("ends after 1536 of"),
            "{name}: {}",
            said(large, name, most)
        );
        let claims = format!("{name} claims 8 bytes, and the backup's head leaves 7 for the");
        assert!(said(small, name, 8).contains(&claims), "{name}: {}", said(small, name, 8));
    }
    for name in ["store/0000000001.keys", "parts.json", "failed.txt"] {
        assert!(said(large, name, 1 << 40).contains("are taken"), "{name}");
    }
    let long_head = (header(tar::EntryType::Regular, HEAD, 1 << 40), &b"x"[..]);
    assert!(check(&archive_of(&[long_head])).unwrap_err().contains("are taken"));
}

#[test]
fn parts_are_counted_together_against_the_head() {
    let mut writer = Writer::begin(Vec::new(), &head_of("redb")).unwrap();
    writer.blocks("0000000001.blocks", 3, &b"row"[..]).unwrap();
    writer.blocks("0000000002.blocks", 2, &b"ro"[..]).unwrap();
    let error = refused(&writer.finish().unwrap());
    assert!(
        error.contains("0000000002.blocks claims 2 bytes, and the backup's head leaves 1 for the journal")
    );
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let mut whole = Vec::new();
    lz4_flex::frame::FrameDecoder::new(&archive()[..]).read_to_end(&mut whole).unwrap();
    let packed = |bytes: &[u8]| {
        let mut to = lz4_flex::frame::FrameEncoder::with_frame_info(
            lz4_flex::frame::FrameInfo::new().content_checksum(true),
            Vec::new(),
        );
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    };
    check(&packed(&whole)).unwrap();
    whole.resize(whole.len() + 20 * 512, 0);
    assert!(check(&packed(&whole)).unwrap_err().contains("there are bytes behind its end"));
}

#[test]
fn other_formats_are_named() {
    let other = Head { format: FORMAT + 1, ..head_of("redb") };
    let error = check(&Writer::begin(Vec::new(), &other).unwrap().finish().unwrap()).unwrap_err();
    assert_eq!(
        error,
        "the backup has format 2, and this version knows 1: use the version that made it, 0.1.0"
    );
    let other = Head { store_format: store::FORMAT + 1, ..head_of("redb") };
    let error = check(&Writer::begin(Vec::new(), &other).unwrap().finish().unwrap()).unwrap_err();
    assert!(error.contains("a store of format"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_changed_byte_and_no_missing_end_is_taken(at in any::<proptest::sample::Index>(), flip in 1u8.., cut in any::<bool>()) {
        let mut bytes = archive();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        prop_assert!(check(&bytes).is_err(), "byte {} of {}", at, bytes.len());
    }
}

#[test]
fn each_end_that_is_missing_is_noticed() {
    let bytes = archive();
    check(&bytes).unwrap();
    for end in 0..bytes.len() {
        assert!(check(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
}

#[test]
fn many_keys_come_in_several_parts_and_in_order() {
    let mut writer = Writer::begin(Vec::new(), &head_of("redb")).unwrap();
    let value = Bytes::from(vec![7; 100_000]);
    for number in 0..100 {
        writer.key(&state(&format!("{number:03}")), &value).unwrap();
    }
    writer.end_keys().unwrap();
    assert_eq!(writer.of_store, 3, "4 MiB each");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    restore(&writer.finish().unwrap()[..], &data, None).unwrap();
    let keys = all_keys(&data, EngineKind::Redb);
    let texts: Vec<&str> = keys.iter().filter_map(|(key, _)| key.state_text()).collect();
    // A page ends after 1 MiB.
    assert_eq!(texts[..10], ["000", "001", "002", "003", "004", "005", "006", "007", "008", "009"]);
}

#[test]
fn the_form_of_keys_is_as_described() {
    let mut writer = Writer::begin(Vec::new(), &head_of("redb")).unwrap();
    writer.key(&state("k"), &Bytes::from_static(b"v")).unwrap();
    let key = state("k");
    let mut expected = vec![key.as_bytes().len() as u8, 0, 1, 0, 0, 0];
    expected.extend_from_slice(key.as_bytes());
    expected.push(b'v');
    assert_eq!(writer.keys, expected);
}
