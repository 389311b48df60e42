//! Invariants for any bytes in place of a log record or a body of readings. The fuzz targets and the
//! property tests call this.

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;

use crate::api::facade::IngestRules;
use crate::api::readings::{self as body, Form, Mode};
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

/// Reads pushed readings as lines and as JSON, whole and in part. Each is taken or counted as bad, and the bad ones have
/// reasons.
pub fn pushed(bytes: &[u8]) {
    let now = Timestamp(1_700_000_000_000_000_000);
    let rules = IngestRules { now: Some(now), latest: Timestamp(now.0 + 300_000_000_000), new_points: 3 };
    let lookup = |path: &str| (path == "known").then_some(PointNumber(7));
    let modes = [Mode::WHOLE, Mode::PARTIAL].into_iter();
    for (mode, form) in modes.flat_map(|mode| [(mode, Form::Lines), (mode, Form::Json)]) {
        let parsed = body::parse(bytes, form, rules, || lookup, mode);
        assert!(parsed.columns.is_sound(), "columns that differ in length");
        assert!(parsed.columns.len() as u64 + parsed.bad_lines <= parsed.lines, "more readings than lines");
        assert!(parsed.bad.len() <= mode.named, "more bad lines named than asked for");
        assert!(parsed.bad.iter().all(|bad| !bad.kind.is_empty() && !bad.detail.is_empty()));
    }
}
