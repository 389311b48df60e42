//! Pushed readings: the fast path against the slow one.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::intake::BYTES_AT_ONCE;
use ironloom_types::ids::TenantId;
use ironloom_types::limits::MAX_READING_BYTES;
use ironloom_types::readings::Tag;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
const LATEST: Timestamp = Timestamp(NOW.0 + 300_000_000_000);
const RULES: IngestRules =
    IngestRules { tenant: TenantId::MAIN, now: Some(NOW), latest: LATEST, new_points: 100 };

fn parse_with(
    body: &[u8],
    rules: IngestRules,
    lookup: impl Fn(&str) -> Option<PointNumber> + Copy,
    mode: Mode,
) -> Parsed {
    parse(body, Form::Lines, rules, || lookup, mode)
}

fn read(body: &str) -> Parsed {
    parse_with(body.as_bytes(), RULES, |path| (path == "known").then_some(PointNumber(7)), Mode::WHOLE)
}

fn kind_of(line: &str) -> String {
    let parsed = read(line);
    assert_eq!(parsed.bad_lines, 1, "{line}: {parsed:?}");
    assert!(parsed.columns.is_empty());
    parsed.bad[0].kind.clone()
}

#[test]
fn values_have_the_type_that_their_json_says() {
    for (json, value) in [
        ("1", ValueRef::Integer(1)),
        ("-0", ValueRef::Integer(0)),
        ("9223372036854775807", ValueRef::Integer(i64::MAX)),
        ("-9223372036854775808", ValueRef::Integer(i64::MIN)),
        ("9223372036854775808", ValueRef::Real(9_223_372_036_854_775_808.0)),
        ("1.0", ValueRef::Real(1.0)),
        ("1e2", ValueRef::Real(100.0)),
        ("0.1", ValueRef::Real(0.1)),
        ("true", ValueRef::Boolean(true)),
        ("\"on\"", ValueRef::Text("on")),
        ("\"a\\nb\"", ValueRef::Text("a\nb")),
        ("{\"base64\":\"AP8Q\"}", ValueRef::Blob(&[0, 255, 16])),
    ] {
        let parsed = read(&format!("{{\"point\":\"known\",\"value\":{json}}}"));
        assert_eq!(parsed.bad, vec![], "{json}");
        assert_eq!(parsed.columns.value(0), value, "{json}");
        assert_eq!(parsed.columns.points[0], PointNumber(7));
        assert_eq!(parsed.columns.at[0], NOW);
    }
    let parsed = read("{\"point\":\"known\",\"value\":-0.0}");
    assert_eq!(parsed.columns.tag(0), Tag::Real);
}

#[test]
fn points_beyond_the_most_are_refused_line_by_line() {
    let line = |point: &str| format!("{{\"point\":\"{point}\",\"value\":1}}\n");
    let body = ["known", "a", "b", "c", "a", "known", "d"].map(line).concat();
    let rules = IngestRules { new_points: 2, ..RULES };
    let lookup = |path: &str| (path == "known").then_some(PointNumber(7));
    let parsed = parse_with(body.as_bytes(), rules, lookup, Mode::PARTIAL);
    assert_eq!(parsed.new_points.iter().map(|point| point.path.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((parsed.columns.len(), parsed.bad_lines, parsed.lines), (5, 2, 7));
    let places = parsed.bad.iter().map(|bad| (bad.kind.as_str(), bad.place.as_ref().unwrap().line));
    assert_eq!(places.collect::<Vec<_>>(), [("too-many-points", Some(4)), ("too-many-points", Some(7))]);
    assert!(parsed.bad[0].detail.starts_with("point \"c\" would be one too many: 1000000 are allowed."));
}

#[test]
fn new_points_get_one_pending_number_each() {
    let body = "{\"point\":\"a/b\",\"value\":1}\n{\"point\":\"known\",\"value\":2}\r\n\n \
                {\"value\":3,\"point\":\"a\\/b\"}\n{\"point\":\"c\",\"value\":4}";
    let parsed = read(body);
    assert_eq!(parsed.bad, vec![]);
    let numbers = [PointNumber::pending(0), PointNumber(7), PointNumber::pending(0), PointNumber::pending(1)];
    assert_eq!(parsed.columns.points, numbers);
    let paths: Vec<&str> = parsed.new_points.iter().map(|new| new.path.as_str()).collect();
    assert_eq!(paths, ["a/b", "c"]);
}

#[test]
fn times_are_rfc_3339_or_nanoseconds() {
    for (at, expected) in [
        ("\"2023-11-14T22:13:20Z\"", NOW),
        ("\"2023-11-14T23:13:20+01:00\"", NOW),
        ("\"2023-11-14T22:13:20.000000001Z\"", Timestamp(NOW.0 + 1)),
        ("1700000000000000001", Timestamp(NOW.0 + 1)),
        ("\"1970-01-01T00:00:00Z\"", Timestamp(0)),
        ("null", NOW),
    ] {
        let parsed = read(&format!("{{\"point\":\"known\",\"value\":1,\"at\":{at}}}"));
        assert_eq!(parsed.bad, vec![], "{at}");
        assert_eq!(parsed.columns.at[0], expected, "{at}");
    }
}

#[test]
fn each_kind_of_bad_line_is_named() {
    for (line, kind, field) in [
        ("{\"point\":\"known\",\"value\":1", "not-json", None),
        ("{\"point\":\"known\",\"value\":1}{\"point\":\"known\",\"value\":1}", "not-json", None),
        ("{\"point\":\"known\",\"value\":NaN}", "not-json", None),
        ("{\"point\":\"known\",\"value\":1e999}", "not-json", None),
        ("7", "not-an-object", None),
        ("[]", "not-an-object", None),
        ("{\"point\":\"known\",\"value\":1,\"valeu\":2}", "unknown-field", Some("valeu")),
        ("{\"value\":1}", "missing-field", Some("point")),
        ("{\"point\":\"known\"}", "missing-field", Some("value")),
        ("{\"point\":7,\"value\":1}", "bad-point", Some("point")),
        ("{\"point\":\"\",\"value\":1}", "bad-point", Some("point")),
        ("{\"point\":\"a//b\",\"value\":1}", "bad-point", Some("point")),
        ("{\"point\":\"a/+\",\"value\":1}", "bad-point", Some("point")),
        ("{\"point\":\"a\\u0000\",\"value\":1}", "bad-point", Some("point")),
        ("{\"point\":\"e\\u0301\",\"value\":1}", "bad-point", Some("point")),
        ("{\"point\":\"known\",\"value\":[1]}", "bad-value", Some("value")),
        ("{\"point\":\"known\",\"value\":{\"base64\":\"*\"}}", "bad-value", Some("value")),
        ("{\"point\":\"known\",\"value\":{}}", "bad-value", Some("value")),
        ("{\"point\":\"known\",\"value\":null}", "missing-value", Some("value")),
        ("{\"point\":\"known\",\"value\":1,\"at\":-1}", "bad-time", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"at\":1.5}", "bad-time", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"at\":1700000000}", "bad-time", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"at\":1700000000000}", "bad-time", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"at\":0}", "bad-time", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"at\":18446744073709551615}", "bad-time", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"at\":\"yesterday\"}", "bad-time", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"at\":\"1969-12-31T23:59:59Z\"}", "bad-time", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"at\":\"2023-11-14T22:18:20.000000001Z\"}", "future", Some("at")),
        ("{\"point\":\"known\",\"value\":1,\"quality\":\"superb\"}", "bad-quality", Some("quality")),
        ("{\"point\":\"known\",\"value\":1,\"value\":2}", "bad-line", None),
        ("{\"point\":\"apps/x/y\",\"value\":1}", "reserved-point", Some("point")),
        ("{\"point\":\"apps\",\"value\":1}", "reserved-point", Some("point")),
    ] {
        assert_eq!(kind_of(line), kind, "{line}");
        let place = read(line).bad[0].place.clone().unwrap();
        assert_eq!(place.field.as_deref(), field, "{line}");
        assert_eq!(place.line, Some(1));
    }
    assert_eq!(read("{\"point\":\"application\",\"value\":1}").bad, vec![]);
    assert_eq!(read("{\"point\":\"known\",\"value\":null,\"quality\":\"bad\"}").columns.tag(0), Tag::Missing);
}

#[test]
fn an_integer_time_that_is_no_nanoseconds_is_told_what_it_looks_like() {
    for (at, unit) in [(1_700_000_000_u64, "seconds"), (1_700_000_000_000, "milliseconds")] {
        let bad = read(&format!("{{\"point\":\"known\",\"value\":1,\"at\":{at}}}")).bad;
        assert!(bad[0].detail.contains(&format!("{at} looks like {unit}")), "{}", bad[0].detail);
    }
}

#[test]
fn long_texts_are_refused_at_the_limit() {
    let line = |bytes| json!({"point": "known", "value": "x".repeat(bytes)}).to_string();
    assert_eq!(read(&line(MAX_READING_BYTES)).bad, vec![]);
    assert_eq!(kind_of(&line(MAX_READING_BYTES + 1)), "value-too-long");
}

#[test]
fn bad_lines_are_counted_and_named_up_to_the_limit() {
    let good = "{\"point\":\"known\",\"value\":1}\n";
    let body = format!("{good}x\n").repeat(200);
    let whole = parse_with(body.as_bytes(), RULES, |_| Some(PointNumber(1)), Mode::WHOLE);
    let lines: Vec<u64> = whole.bad.iter().filter_map(|bad| bad.place.as_ref()?.line).collect();
    assert_eq!(lines, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
    let partial = parse_with(body.as_bytes(), RULES, |_| Some(PointNumber(1)), Mode::PARTIAL);
    assert_eq!((partial.bad.len(), partial.bad_lines, partial.columns.len()), (100, 200, 200));
}

#[test]
fn a_line_that_is_no_utf_8_doesnt_spoil_the_others() {
    let body = b"{\"point\":\"known\",\"value\":1}\n{\"point\":\"\xff\",\"value\":1}\n{\"point\":\"known\",\"value\":1}";
    let parsed = parse_with(body, RULES, |_| Some(PointNumber(1)), Mode::PARTIAL);
    assert_eq!(parsed.columns.len(), 2);
    assert_eq!(parsed.bad[0].kind, "not-utf-8");
    assert_eq!(parsed.bad[0].place, Some(Place { line: Some(2), column: Some(11), ..Place::default() }));
}

#[test]
fn without_a_clock_only_readings_with_a_time_are_taken() {
    let rules = IngestRules { now: None, ..RULES };
    let with = b"{\"point\":\"known\",\"value\":1,\"at\":\"1970-01-01T00:00:05Z\"}";
    let without = b"{\"point\":\"known\",\"value\":1}";
    assert!(!parse_with(with, rules, |_| Some(PointNumber(1)), Mode::WHOLE).needs_clock);
    assert!(parse_with(without, rules, |_| Some(PointNumber(1)), Mode::WHOLE).needs_clock);
}

#[test]
fn lines_that_are_too_long_are_refused_unread_and_only_named_ones_are_explained() {
    let long = format!("{{\"point\":\"a\",\"value\":[{}0]}}", "0,".repeat(MAX_LINE / 2));
    assert_eq!(kind_of(&long), "line-too-long");
    let fits = format!("{{\"point\":\"known\",\"value\":\"{}\"}}", "\\u0041".repeat(MAX_READING_BYTES));
    assert!(fits.len() < MAX_LINE);
    assert_eq!(read(&fits).bad, vec![]);

    let many = "x\n".repeat(1_000_000);
    let started = std::time::Instant::now();
    let parsed = parse_with(many.as_bytes(), RULES, |_| None, Mode::PARTIAL);
    assert_eq!((parsed.bad.len(), parsed.bad_lines, parsed.lines), (100, 1_000_000, 1_000_000));
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn names_are_let_go_again_and_again() {
    let line = "{\"point\":\"known\",\"value\":1}\n";
    let body = line.repeat(1 << 20 >> 5);
    let taken = std::cell::Cell::new(0);
    let lookups = || {
        taken.set(taken.get() + 1);
        |_: &str| Some(PointNumber(7))
    };
    let parsed = parse(body.as_bytes(), Form::Lines, RULES, lookups, Mode::WHOLE);
    assert_eq!(parsed.columns.len(), 1 << 20 >> 5);
    assert!(taken.get() >= body.len() / (BYTES_AT_ONCE + 100), "{}", taken.get());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let parsed = parse_with(&body, RULES, |_| None, Mode::PARTIAL);
        prop_assert!(parsed.columns.is_sound());
    }

    #[test]
    fn reals_are_read_to_the_last_bit(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
        let body = serde_json::to_string(&json!({"point": "known", "value": value})).unwrap();
        let parsed = read(&body);
        prop_assert_eq!(parsed.columns.value(0), ValueRef::Real(value));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_readings_or_bad_lines_with_reasons(
        bytes in ironloom_mutate::mutated(vec![
            b"{\"point\":\"known\",\"value\":1.5}\n{\"point\":\"a/b\",\"value\":\"on\",\"quality\":\"uncertain\"}\n".to_vec(),
            b"{\"point\":\"new\",\"value\":{\"base64\":\"AP8Q\"},\"at\":\"2023-11-14T22:13:20Z\"}\n\n".to_vec(),
            b"{\"point\":\"new\",\"value\":null,\"quality\":\"bad\",\"at\":1700000000000000000}".to_vec(),
        ])
    ) {
        crate::fuzzing::pushed(&bytes);
    }
}

#[test]
fn a_body_of_json_on_several_lines_is_told_with_line_and_column() {
    let read = |body: &str| parse(body.as_bytes(), Form::Json, RULES, || |_: &str| None, Mode::WHOLE);
    let bad = &read("{\n  \"point\": \"a\",\n  \"value\": 1x\n}\n").bad[0];
    let place = bad.place.as_ref().unwrap();
    assert_eq!((place.line, place.column), (Some(3), Some(13)));
    assert!(!bad.detail.contains("x-ndjson"), "{}", bad.detail);
    let bad = &read("{\"point\":\"a\",\"value\":1}\n{\"point\":\"b\",\"value\":1}\n").bad[0];
    assert!(bad.detail.ends_with("are sent as application/x-ndjson"), "{}", bad.detail);
}

#[test]
fn what_is_said_of_a_bad_line_is_short() {
    let line = format!("{{{:?}:1}}\n", "x".repeat(100_000));
    let parsed = parse_with(line.repeat(3).as_bytes(), RULES, |_| None, Mode::PARTIAL);
    assert_eq!(parsed.bad.len(), 3);
    for bad in parsed.bad {
        let field = bad.place.unwrap().field.unwrap();
        assert!(bad.detail.len() < 2_100 && field.len() < 2_100, "{} {}", bad.detail.len(), field.len());
        assert!(field.starts_with("xxx"));
    }
}
