//! Bodies that are no records.

use super::golden::*;
use super::{admin, commit, readings, unhex};

#[test]
fn other_versions_are_refused() {
    let beside = |known: u8| [0, known - 1, known + 1, 255];
    for version in beside(readings::VERSION) {
        assert!(readings::decode(version, &unhex(READINGS)).is_err());
    }
    for version in beside(commit::VERSION) {
        assert!(commit::decode(version, &unhex(COMMIT)).is_err());
    }
    for version in beside(admin::VERSION) {
        assert!(admin::decode(version, &unhex(COMPILED)).is_err());
    }
}

#[test]
fn no_beginning_of_a_body_is_a_body_nor_is_one_with_more_behind_it() {
    type Decodes = fn(&[u8]) -> bool;
    let decoders: [(&str, Decodes); 3] = [
        (READINGS, |body| readings::decode(readings::VERSION, body).is_ok()),
        (COMMIT, |body| commit::decode(commit::VERSION, body).is_ok()),
        (STANDING, |body| admin::decode(admin::VERSION, body).is_ok()),
    ];
    for (golden, is_read) in decoders {
        let mut body = unhex(golden);
        assert!((0..body.len()).all(|length| !is_read(&body[..length])));
        body.push(0);
        assert!(!is_read(&body));
    }
}

#[test]
fn lengths_beyond_all_memory_are_refused_before_anything_is_reserved() {
    // Rows, a heap, state changes and points in numbers that no body can hold.
    let mut body = vec![2, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&u32::MAX.to_le_bytes());
    body.extend_from_slice(&[0; 64]);
    assert!(readings::decode(readings::VERSION, &body).is_err());
    let mut body = vec![2, 0, 0, 0, 0, 0];
    body.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    assert!(readings::decode(readings::VERSION, &body).is_err());
}
