//! What must hold for any bytes where a record of the log or a body of readings should be. The fuzz targets and the
//! property tests call this.

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;

use crate::api::facade::IngestRules;
use crate::api::readings::{self as body, Mode};
use crate::records::{admin, commit, readings};

/// Reads a record's body as each kind, of the version that the first byte says. It is read or refused.
pub fn record(bytes: &[u8]) {
    let Some((version, rest)) = bytes.split_first() else { return };
    if let Ok(record) = readings::decode(*version, rest) {
        assert!(record.columns.is_sound(), "columns that differ in length");
    }
    if let Ok(record) = commit::decode(*version, rest) {
        assert!(record.derived.is_sound(), "columns that differ in length");
    }
    if let Ok(record) = admin::decode(*version, rest) {
        let mut written = Vec::new();
        admin::encode(&record, &mut written);
        assert!(admin::decode(*version, &written).is_ok(), "a record that can't be written again");
    }
}

/// Reads pushed readings, whole and in part. Each line is taken or counted as bad, and the bad ones have reasons.
pub fn pushed(bytes: &[u8]) {
    let now = Timestamp(1_700_000_000_000_000_000);
    let rules = IngestRules { now: Some(now), latest: Timestamp(now.0 + 300_000_000_000) };
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for mode in [Mode::WHOLE, Mode::PARTIAL] {
        let parsed = body::parse(bytes, rules, |path| (path == "known").then_some(PointNumber(7)), mode);
        assert!(parsed.columns.is_sound(), "columns that differ in length");
        assert!(parsed.columns.len() as u64 + parsed.bad_lines <= lines as u64, "more readings than lines");
        assert!(parsed.bad.len() <= mode.named, "more bad lines named than asked for");
        assert!(parsed.bad.iter().all(|bad| !bad.kind.is_empty() && !bad.detail.is_empty()));
    }
}
