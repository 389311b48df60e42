//! Capsules that are read back, and those that are refused.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::*;
use crate::api::capsule::{Before, VERSION};
use crate::backup::testing::{header, sparse};
use ironloom_apps::allowance::PartialLimits;
use ironloom_types::ids::{Digest, Generation, InstallationId, Revision, TenantId};

const MANIFEST: &str = "manifest = 1\nid = \"com.example.gauge\"\nname = \"Gauge\"\nversion = \"1.2.3\"\n\
                        [inputs.level]\ntype = \"real\"\n";

fn packed() -> (Digest, Vec<u8>) {
    let (digest, tar) = package::write(MANIFEST, b"\0asm\x0d\0\x01\0", &[]).unwrap();
    (digest, tar.to_vec())
}

/// A capsule of no invocations.
fn of(package: Digest) -> String {
    let contents = Contents {
        capsule: VERSION,
        id: InstallationId::new(TenantId::MAIN, "guest").unwrap(),
        package,
        generation: Generation(1),
        revision: Revision(1),
        bindings: BTreeMap::new(),
        settings: BTreeMap::new(),
        grants: Default::default(),
        limits: PartialLimits::default(),
        timezone: "UTC".to_owned(),
        before: Before::default(),
        invocations: Vec::new(),
    };
    serde_json::to_string(&contents).unwrap()
}

fn refused(tar: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(tar).unwrap();
    let said = read(file.path()).unwrap_err().to_string();
    let begin = format!("error: {} is not a capsule: ", file.path().display());
    said.strip_prefix(&begin).map(str::to_owned).unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn a_capsule_is_read_with_the_package_that_it_names() {
    let (digest, package) = packed();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&write(&of(digest), &package).unwrap()).unwrap();
    let (capsule, read) = read(file.path()).unwrap();
    assert_eq!((capsule.package, &read[..]), (digest, &package[..]));
    let other = Digest([7; 32]);
    let said = refused(&write(&of(other), &package).unwrap());
    let expected = format!("its invocations ran the package {other}, and package.app.tar is {digest}");
    assert!(said.starts_with(&expected), "{said}");
    let said = refused(&write(&of(digest), b"no").unwrap());
    assert!(said.starts_with("package.app.tar: "), "{said}");
}

#[test]
fn members_that_claim_more_than_they_may_are_refused_unread() {
    let said = refused(&[&sparse(CAPSULE, 1 << 30).as_bytes()[..], &[0; 1024]].concat());
    assert_eq!(said, "\"capsule.json\" in it is of the type GNUSparse, not a regular file");
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
        let said = refused(&[&header(kind, "long", 3 << 30).as_bytes()[..], b"x"].concat());
        assert_eq!(said, format!("\"long\" in it is of the type {kind:?}, not a regular file"));
    }
    for (name, most) in [(CAPSULE, MAX_BYTES), (PACKAGE, MAX_PACKAGE)] {
        let said = refused(header(tar::EntryType::Regular, name, most as u64 + 1).as_bytes());
        assert_eq!(said, format!("{name} has {} bytes; at most {most} are allowed", most + 1));
    }
    let (digest, package) = packed();
    let once = write(&of(digest), &package).unwrap();
    let end = once.len() - 1024;
    let said = refused(&[&once[..end], &once[..]].concat());
    assert_eq!(said, "capsule.json is in it twice");
}
