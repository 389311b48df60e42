//! Invariants for any bytes in place of a log record or a body of readings. The fuzz targets and the
//! property tests call this.

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, TenantId};

use crate::api::arrow;
use crate::api::facade::IngestRules;
use crate::api::intake::{Mode, Parsed};
use crate::api::readings::{self as body, Form};
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
    if let Ok((record, _)) = admin::decode(*version, rest) {
        let mut written = Vec::new();
        admin::encode(&record, &mut written);
        assert!(admin::decode(*version, &written).is_ok(), "a record that can't be written again");
    }
}

/// Reads pushed readings as lines, as JSON and as an Arrow stream, whole and in part. Each is taken or counted as bad,
/// and the bad ones have reasons.
pub fn pushed(bytes: &[u8]) {
    let now = Timestamp(1_700_000_000_000_000_000);
    let rules = IngestRules {
        tenant: TenantId::MAIN,
        now: Some(now),
        latest: Timestamp(now.0 + 300_000_000_000),
        new_points: 3,
    };
    let lookup = |path: &str| (path == "known").then_some(PointNumber(7));
    let opened = arrow::Stream::open(bytes.to_vec().into());
    for mode in [Mode::WHOLE, Mode::PARTIAL] {
        for form in [Form::Lines, Form::Json] {
            hold(&body::parse(bytes, form, rules, || lookup, mode), mode);
        }
        match &opened {
            Ok(stream) => {
                let parsed = arrow::read(stream, rules, || lookup, mode);
                assert!(
                    parsed.columns.bytes() <= stream.memory() + bytes.len() + (64 << 10),
                    "more than was said"
                );
                hold(&parsed, mode);
            }
            Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
        }
    }
}

fn hold(parsed: &Parsed, mode: Mode) {
    assert!(parsed.columns.is_sound(), "columns that differ in length");
    assert!(parsed.columns.len() as u64 + parsed.bad_lines <= parsed.lines, "more readings than lines");
    assert!(parsed.bad.len() <= mode.named, "more bad lines named than asked for");
    assert!(parsed.bad.iter().all(|bad| !bad.kind.is_empty() && !bad.detail.is_empty()));
}
