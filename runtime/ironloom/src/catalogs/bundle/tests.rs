//! Bundles that strangers have written.

use std::io::Write as _;

use super::super::{package_path, root_path};
use super::*;
use ironloom_apps::ustar::header;

/// A tar of these members.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, bytes) in members {
        tar.extend_from_slice(&header(name, bytes.len() as u64));
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

fn open(tar: &[u8]) -> Result<Bundle, String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(tar).unwrap();
    Bundle::open(file)
}

#[test]
fn its_members_are_read_by_their_paths_up_to_a_bound() {
    let (root, package) = (root_path(1), package_path(Digest::of(b"x")));
    let bundle = open(&tar(&[(&root, b"root"), (INDEX, b"index"), (&package, &[7; 600])])).unwrap();
    assert_eq!(bundle.read(&root, 4).unwrap().unwrap(), b"root");
    assert_eq!(bundle.read(INDEX, 100).unwrap().unwrap(), b"index");
    assert_eq!(bundle.read(&package, 600).unwrap().unwrap(), [7; 600]);
    assert_eq!(bundle.read(&root_path(2), 100).unwrap(), None);
    let told = bundle.read(INDEX, 4).unwrap_err();
    assert_eq!(told, "index.json has 5 bytes; at most 4 are taken");
}

#[test]
fn nothing_in_it_leads_elsewhere_or_means_two_things() {
    let names = [
        "../index.json",
        "/etc/passwd",
        "root/../index.json",
        "root/01.json",
        "root/1.json/",
        "./index.json",
    ];
    for name in names {
        let told = open(&tar(&[(name, b"x")])).unwrap_err();
        assert!(told.contains("which no catalog has"), "{name}: {told}");
    }
    assert_eq!(open(&tar(&[(INDEX, b"a"), (INDEX, b"b")])).unwrap_err(), "index.json comes twice");
    // A link, in a header that is otherwise right.
    let mut link = tar(&[(INDEX, b"")]);
    let mut changed = tar::Header::from_byte_slice(&link[..BLOCK]).clone();
    changed.set_entry_type(tar::EntryType::Symlink);
    changed.set_cksum();
    link[..BLOCK].copy_from_slice(changed.as_bytes());
    assert!(open(&link).unwrap_err().contains("is a link"));
    let good = tar(&[(INDEX, &[1; 2000])]);
    for end in [0, 100, BLOCK, 1500, good.len() - BLOCK, good.len() - 1] {
        assert!(open(&good[..end]).is_err(), "{end}");
    }
    assert!(open(&[&good[..], &[0; BLOCK]].concat()).unwrap_err().contains("doesn't end at"));
    // A size beyond all that is there.
    let mut lie = good.clone();
    lie[..BLOCK].copy_from_slice(&header(INDEX, (8 << 30) - 1));
    assert!(open(&lie).unwrap_err().contains("is cut off"));
}
