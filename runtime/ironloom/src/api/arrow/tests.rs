//! Streams that `arrow-ipc` writes, the same readings as lines, and streams that no writer makes.

mod long;
mod views;

use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type, UInt64Type};
use arrow_array::*;
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Schema, UnionFields};
use proptest::prelude::*;
use serde_json::json;

use super::messages::MAX_ROWS;
use super::*;
use crate::api::readings::{Form, parse};
use crate::api::value::JsonValue;
use ironloom_types::ids::TenantId;
use ironloom_types::readings::{Tag, Value};

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
const LATEST: Timestamp = Timestamp(NOW.0 + 300_000_000_000);
const RULES: IngestRules =
    IngestRules { tenant: TenantId::MAIN, now: Some(NOW), latest: LATEST, new_points: 100 };

fn known(path: &str) -> Option<PointNumber> {
    (path == "known").then_some(PointNumber(7))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn written(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    written(&[batch(columns)], IpcWriteOptions::default())
}

fn read_with(body: &[u8], rules: IngestRules, mode: Mode) -> Parsed {
    match Stream::open(body.to_vec().into()) {
        Ok(stream) => read(&stream, rules, || known, mode),
        Err(problems) => refused(problems),
    }
}

fn read_all(body: &[u8]) -> Parsed {
    read_with(body, RULES, Mode::WHOLE)
}

fn good(body: &[u8]) -> Parsed {
    let parsed = read_all(body);
    assert_eq!(parsed.bad, vec![]);
    parsed
}

/// Kind, batch, row and field of an error.
type Told<'a> = (&'a str, Option<u64>, Option<u64>, Option<&'a str>);

fn errors(parsed: &Parsed) -> Vec<Told<'_>> {
    let of = |bad: &'_ Detail| bad.place.clone().unwrap();
    let told = parsed.bad.iter();
    told.map(|bad| {
        (bad.kind.as_str(), of(bad).batch, of(bad).row, bad.place.as_ref().unwrap().field.as_deref())
    })
    .collect()
}

fn points(names: &[&str]) -> ArrayRef {
    Arc::new(names.iter().copied().collect::<DictionaryArray<Int32Type>>())
}

fn reals(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn values_of(parsed: &Parsed) -> Vec<Value> {
    (0..parsed.columns.len()).map(|row| parsed.columns.value(row).into()).collect()
}

#[test]
fn readings_are_taken_column_by_column() {
    let at = TimestampMicrosecondArray::from(vec![Some(1_600_000_000_000_001), None]).with_timezone("UTC");
    let quality: DictionaryArray<Int8Type> = vec![None, Some("uncertain")].into_iter().collect();
    let parsed = good(&stream(vec![
        ("value", reals(&[1.5, -0.0])),
        ("point", points(&["known", "a/b"])),
        ("at", Arc::new(at)),
        ("quality", Arc::new(quality)),
    ]));
    assert_eq!(parsed.columns.points, [PointNumber(7), PointNumber::pending(0)]);
    assert_eq!(parsed.new_points[0].path.as_str(), "a/b");
    assert_eq!(parsed.columns.at, [Timestamp(1_600_000_000_000_001_000), NOW]);
    assert_eq!(parsed.columns.quality, Some(vec![Quality::Good, Quality::Uncertain]));
    assert_eq!(values_of(&parsed), [Value::Real(1.5), Value::Real(-0.0)]);
    assert_eq!((parsed.lines, parsed.bad_lines), (2, 0));
}

#[test]
fn every_type_that_a_value_may_have_is_the_one_that_json_would_have() {
    let cases: Vec<(ArrayRef, Vec<Value>)> = vec![
        (Arc::new(Float32Array::from(vec![0.5])), vec![Value::Real(0.5)]),
        (Arc::new(Int8Array::from(vec![-128])), vec![Value::Integer(-128)]),
        (Arc::new(Int16Array::from(vec![-300])), vec![Value::Integer(-300)]),
        (Arc::new(Int32Array::from(vec![i32::MIN])), vec![Value::Integer(-2_147_483_648)]),
        (Arc::new(Int64Array::from(vec![i64::MIN])), vec![Value::Integer(i64::MIN)]),
        (Arc::new(UInt8Array::from(vec![255])), vec![Value::Integer(255)]),
        (Arc::new(UInt16Array::from(vec![65_535])), vec![Value::Integer(65_535)]),
        (Arc::new(UInt32Array::from(vec![u32::MAX])), vec![Value::Integer(4_294_967_295)]),
        (
            Arc::new(UInt64Array::from(vec![9_223_372_036_854_775_808, 9_223_372_036_854_775_807])),
            vec![Value::Real(9_223_372_036_854_775_808.0), Value::Integer(i64::MAX)],
        ),
        (
            Arc::new(BooleanArray::from(vec![true, false, true])),
            vec![Value::Boolean(true), Value::Boolean(false), Value::Boolean(true)],
        ),
        (
            Arc::new(StringArray::from(vec!["on", "", "ä"])),
            vec![Value::Text("on".into()), Value::Text("".into()), Value::Text("ä".into())],
        ),
        (Arc::new(LargeStringArray::from(vec!["off"])), vec![Value::Text("off".into())]),
        (Arc::new(BinaryArray::from(vec![&[0_u8, 255][..]])), vec![Value::Blob([0, 255].into())]),
        (Arc::new(LargeBinaryArray::from(vec![&[16_u8][..]])), vec![Value::Blob([16].into())]),
        (
            Arc::new(StringViewArray::from(vec!["up to 12 are", "more than 12 bytes", ""])),
            vec![
                Value::Text("up to 12 are".into()),
                Value::Text("more than 12 bytes".into()),
                Value::Text("".into()),
            ],
        ),
        (Arc::new(BinaryViewArray::from(vec![&[7_u8; 13][..]])), vec![Value::Blob([7; 13].into())]),
    ];
    for (array, expected) in cases {
        let names = vec!["known"; array.len()];
        let kind = array.data_type().clone();
        let parsed = good(&stream(vec![("point", Arc::new(StringArray::from(names))), ("value", array)]));
        assert_eq!(values_of(&parsed), expected, "{kind}");
    }
    let bad: ArrayRef = Arc::new(UInt8Array::from(vec![2, 2]));
    let nothing: ArrayRef = Arc::new(NullArray::new(2));
    let parsed = good(&stream(vec![("point", points(&["known"; 2])), ("value", nothing), ("quality", bad)]));
    assert_eq!(values_of(&parsed), [Value::Missing, Value::Missing]);
}

#[test]
fn times_are_instants_in_any_unit_and_need_a_zone() {
    let second = 1_600_000_000;
    let arrays: [ArrayRef; 4] = [
        Arc::new(TimestampSecondArray::from(vec![second]).with_timezone("Europe/Berlin")),
        Arc::new(TimestampMillisecondArray::from(vec![second * 1_000]).with_timezone("+02:00")),
        Arc::new(TimestampMicrosecondArray::from(vec![second * 1_000_000]).with_timezone("UTC")),
        Arc::new(TimestampNanosecondArray::from(vec![second * 1_000_000_000]).with_timezone("Z")),
    ];
    let with =
        |at: ArrayRef| stream(vec![("point", points(&["known"])), ("value", reals(&[1.0])), ("at", at)]);
    for at in arrays {
        assert_eq!(good(&with(at)).columns.at, [Timestamp(1_600_000_000_000_000_000)]);
    }
    let parsed = read_all(&with(Arc::new(TimestampSecondArray::from(vec![second]))));
    assert_eq!(errors(&parsed), [("bad-column", None, None, Some("at"))]);
    assert!(
        parsed.bad[0].detail.ends_with("and is timestamp without a time zone"),
        "{}",
        parsed.bad[0].detail
    );
    for (at, kind) in [(-1, "bad-time"), (i64::MAX, "bad-time"), (1_700_000_301, "future")] {
        let parsed = read_all(&with(Arc::new(TimestampSecondArray::from(vec![at]).with_timezone("UTC"))));
        assert_eq!(errors(&parsed), [(kind, Some(1), Some(1), Some("at"))], "{at}");
    }
}

#[test]
fn bad_rows_are_named_by_batch_and_row() {
    let names = ["known", "apps/x", "a//b", "known", "e\u{301}", "known"];
    let first =
        batch(vec![("point", points(&names)), ("value", reals(&[1.0, 2.0, 3.0, f64::NAN, 5.0, 6.0]))]);
    let second = batch(vec![("point", points(&["known"])), ("value", reals(&[f64::INFINITY]))]);
    let body = written(&[first, second], IpcWriteOptions::default());
    let parsed = read_with(&body, RULES, Mode::PARTIAL);
    let point = Some("point");
    assert_eq!(
        errors(&parsed),
        [
            ("reserved-point", Some(1), Some(2), point),
            ("bad-point", Some(1), Some(3), point),
            ("bad-value", Some(1), Some(4), Some("value")),
            ("bad-point", Some(1), Some(5), point),
            ("bad-value", Some(2), Some(1), Some("value")),
        ]
    );
    assert_eq!((parsed.lines, parsed.bad_lines, parsed.columns.len()), (7, 5, 2));
    assert!(parsed.new_points.is_empty());

    let nulls: DictionaryArray<Int32Type> = vec![None, Some("known")].into_iter().collect();
    let value: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
    let quality: ArrayRef = Arc::new(UInt8Array::from(vec![Some(0), None]));
    let columns = vec![("point", Arc::new(nulls) as ArrayRef), ("value", value), ("quality", quality)];
    let parsed = read_with(&stream(columns), RULES, Mode::PARTIAL);
    assert_eq!(
        errors(&parsed),
        [("missing-field", Some(1), Some(1), point), ("missing-value", Some(1), Some(2), Some("value")),]
    );
    let quality: ArrayRef = Arc::new(UInt8Array::from(vec![3]));
    let parsed = read_all(&stream(vec![
        ("point", points(&["known"])),
        ("value", reals(&[1.0])),
        ("quality", quality),
    ]));
    assert_eq!(errors(&parsed), [("bad-quality", Some(1), Some(1), Some("quality"))]);
}

#[test]
fn a_point_is_looked_up_once_for_all_its_rows_and_unused_names_make_no_points() {
    let keys = Int8Array::from(vec![2, 0, 2, 2, 0]);
    let names = StringArray::from(vec!["known", "never/used", "new", "apps/reserved", "not//a/path"]);
    let point: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(names)));
    let body = stream(vec![("point", point), ("value", reals(&[1.0, 2.0, 3.0, 4.0, 5.0]))]);
    let stream = Stream::open(body.into()).unwrap();
    let asked = std::cell::RefCell::new(Vec::new());
    let lookup = |path: &str| {
        asked.borrow_mut().push(path.to_owned());
        known(path)
    };
    let parsed = read(&stream, RULES, || lookup, Mode::WHOLE);
    assert_eq!(parsed.bad, vec![]);
    assert_eq!(*asked.borrow(), ["new", "known"]);
    let (new, old) = (PointNumber::pending(0), PointNumber(7));
    assert_eq!(parsed.columns.points, [new, old, new, new, old]);
    assert_eq!(parsed.new_points.len(), 1);
}

#[test]
fn dictionaries_are_replaced_and_grow_between_batches() {
    let with = |names: Vec<&'static str>, keys: Vec<i32>| {
        let values = reals(&vec![1.0; keys.len()]);
        let point = DictionaryArray::new(Int32Array::from(keys), Arc::new(StringArray::from(names)));
        batch(vec![("point", Arc::new(point) as ArrayRef), ("value", values)])
    };
    let paths = |parsed: &Parsed| -> Vec<String> {
        let path = |number: &PointNumber| parsed.new_points[number.pending_index().unwrap()].path.to_string();
        parsed.columns.points.iter().map(path).collect()
    };
    let replaced = [with(vec!["a", "b"], vec![0, 1]), with(vec!["c", "a"], vec![0, 1])];
    let parsed = good(&written(&replaced, IpcWriteOptions::default()));
    assert_eq!(paths(&parsed), ["a", "b", "c", "a"]);
    let grown = [with(vec!["a", "b"], vec![0, 1]), with(vec!["a", "b", "c"], vec![2, 0])];
    let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
    let parsed = good(&written(&grown, options));
    assert_eq!(paths(&parsed), ["a", "b", "c", "a"]);
}

#[test]
fn everything_wrong_with_a_schema_is_told_at_once() {
    let decimal: ArrayRef = Arc::new(Decimal128Array::from(vec![1]));
    let parsed = read_all(&stream(vec![
        ("point", Arc::new(Int64Array::from(vec![1]))),
        ("unit", points(&["kg"])),
        ("quality", decimal),
    ]));
    assert_eq!(
        errors(&parsed),
        [
            ("bad-column", None, None, Some("point")),
            ("unknown-field", None, None, Some("unit")),
            ("bad-column", None, None, Some("quality")),
            ("missing-field", None, None, Some("value")),
        ]
    );
    assert_eq!((parsed.lines, parsed.bad_lines), (1, 1));
    assert_eq!(parsed.bad[0].detail, "`point` must be a text, or a dictionary of texts, and is int");
    let twice = Schema::new(vec![
        Field::new("point", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
        Field::new("value", DataType::Float64, false),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec!["known"])), reals(&[1.0]), reals(&[2.0])];
    let twice = RecordBatch::try_new(Arc::new(twice), columns).unwrap();
    let parsed = read_all(&written(&[twice], IpcWriteOptions::default()));
    assert_eq!(parsed.bad[0].detail, "there are two columns \"value\"");
    let by_dictionary = stream(vec![("point", points(&["known"])), ("value", points(&["on"]))]);
    assert_eq!(errors(&read_all(&by_dictionary)), [("bad-column", None, None, Some("value"))]);
}

/// Puts bytes in the place of the only ones of their kind.
fn patched(body: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = (0..=body.len() - old.len()).filter(|at| body[*at..].starts_with(old)).collect();
    assert_eq!(places.len(), 1, "{old:?} is to be there once");
    let mut patched = body.to_vec();
    patched[places[0]..places[0] + new.len()].copy_from_slice(new);
    patched
}

fn words(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn refusal_of(body: &[u8]) -> String {
    let parsed = read_with(body, RULES, Mode::PARTIAL);
    assert!(parsed.columns.is_empty() && parsed.new_points.is_empty());
    assert_eq!((parsed.lines, parsed.bad_lines, parsed.bad.len()), (1, 1, 1), "{parsed:?}");
    parsed.bad[0].detail.clone()
}

#[test]
fn what_names_a_place_outside_of_its_column_is_refused() {
    let five = ["known", "new", "known", "new", "new"];
    let by_keys = stream(vec![("point", points(&five)), ("value", reals(&[1.5; 5]))]);
    let keys = words(&[0, 1, 0, 1, 1]);
    assert_eq!(good(&by_keys).columns.len(), 5);
    for wrong in [2, -1, i32::MAX] {
        let detail = refusal_of(&patched(&by_keys, &keys, &words(&[0, 1, 0, wrong])));
        assert!(detail.ends_with("a key is not among the entries of its dictionary"), "{detail}");
    }
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["abc", "defgh", "ij"]));
    let plain = stream(vec![("point", texts), ("value", reals(&[1.5; 3]))]);
    assert_eq!(good(&plain).columns.len(), 3);
    for wrong in [[0, 3, 2], [0, -1, 8], [0, 3, 1_000_000], [9, 3, 8]] {
        let detail = refusal_of(&patched(&plain, &words(&[0, 3, 8, 10]), &words(&wrong)));
        assert!(detail.ends_with("don't lie within it in order"), "{detail}");
    }
}

#[test]
fn a_stream_that_is_cut_off_is_refused_unless_it_ends_behind_a_message() {
    let one = batch(vec![("point", points(&["known"; 3])), ("value", reals(&[1.0, 2.0, 3.0]))]);
    let body = written(&[one.clone(), one], IpcWriteOptions::default());
    let mut ends = Vec::new();
    for end in 0..body.len() {
        let parsed = read_with(&body[..end], RULES, Mode::WHOLE);
        if parsed.bad.is_empty() {
            ends.push(parsed.columns.len());
        } else {
            let detail = &parsed.bad[0].detail;
            assert!(detail.contains("cut off") || detail.contains("empty"), "{end}: {detail}");
        }
    }
    // Behind the schema, the dictionary, and each batch; the second batch has the dictionary of the first.
    assert_eq!(ends, [0, 0, 3, 6]);
    assert_eq!(good(&body).columns.len(), 6);
    assert!(refusal_of(&[&body[..], b"x"].concat()).contains("bytes behind its end"));
    assert!(refusal_of(b"PAR1 and so on").contains("no message begins at byte 0"));
    assert!(refusal_of(&[&[0xff; 4][..], &words(&[-1]), &[0; 8]].concat()).contains("more than 65536 bytes"));
}

#[test]
fn what_is_announced_takes_no_memory_and_has_bounds() {
    let rows = MAX_ROWS + 1;
    let point: ArrayRef = Arc::new(
        DictionaryArray::<Int8Type>::try_new(
            Int8Array::from(vec![0; rows]),
            Arc::new(StringArray::from(vec!["known"])),
        )
        .unwrap(),
    );
    let value: ArrayRef = Arc::new(BooleanArray::from(vec![true; rows]));
    let most = batch(vec![("point", point), ("value", value)]);
    let detail = refusal_of(&written(std::slice::from_ref(&most), IpcWriteOptions::default()));
    assert_eq!(detail, "the stream has more than 838860 rows; send it in smaller parts");
    let fits = good(&written(&[most.slice(0, MAX_ROWS)], IpcWriteOptions::default()));
    assert_eq!((fits.columns.len(), fits.columns.points.capacity()), (MAX_ROWS, MAX_ROWS));

    // A row of 1.5 as the last 8 bytes of a body whose batch is the message before them.
    let one = batch(vec![("point", Arc::new(StringArray::from(vec!["known"]))), ("value", reals(&[1.5]))]);
    let none = written(&[one.slice(0, 0)], IpcWriteOptions::default());
    let schema = written(std::slice::from_ref(&one), IpcWriteOptions::default());
    let start = (0..none.len()).take_while(|at| none[*at] == schema[*at]).count() / 8 * 8;
    let first = (0..=start).rev().find(|at| schema[*at..].starts_with(&[0xff; 4])).unwrap();
    let (head, message) = (&schema[..first], &schema[first..schema.len() - 8]);
    let repeated = |times| [head, &message.repeat(times), &schema[schema.len() - 8..]].concat();
    assert_eq!(good(&repeated(10_000)).columns.len(), 10_000);
    assert!(refusal_of(&repeated(10_001)).starts_with("the stream has more than 10000 messages"));
}

fn union(dense: bool, views: bool, values: &[Value]) -> UnionArray {
    let (text, blob) = match views {
        true => (DataType::Utf8View, DataType::BinaryView),
        false => (DataType::Utf8, DataType::Binary),
    };
    let fields = [DataType::Null, DataType::Boolean, DataType::Int64, DataType::Float64, text, blob];
    let fields = fields
        .into_iter()
        .enumerate()
        .map(|(id, kind)| (id as i8 * 3, Arc::new(Field::new("v", kind, true))));
    let tag = |value: &Value| value.as_ref().tag() as usize;
    let rows: Vec<_> = if dense { Vec::new() } else { values.iter().map(Some).collect() };
    let of = |wanted: Tag| -> Vec<Option<&Value>> {
        let is = |value: &&Value| value.as_ref().tag() == wanted;
        if dense {
            values.iter().filter(is).map(Some).collect()
        } else {
            rows.iter().map(|value| value.filter(is)).collect()
        }
    };
    macro_rules! column {
        ($tag:ident, $array:ty, $value:pat => $into:expr) => {
            Arc::new(
                of(Tag::$tag)
                    .iter()
                    .map(|value| match value {
                        Some($value) => Some($into),
                        _ => None,
                    })
                    .collect::<$array>(),
            ) as ArrayRef
        };
    }
    let children = vec![
        Arc::new(NullArray::new(of(Tag::Missing).len())) as ArrayRef,
        column!(Boolean, BooleanArray, Value::Boolean(value) => *value),
        column!(Integer, Int64Array, Value::Integer(value) => *value),
        column!(Real, Float64Array, Value::Real(value) => *value),
        match views {
            true => column!(Text, StringViewArray, Value::Text(value) => value.as_ref()),
            false => column!(Text, StringArray, Value::Text(value) => value.as_ref()),
        },
        match views {
            true => column!(Blob, BinaryViewArray, Value::Blob(value) => value.as_ref()),
            false => column!(Blob, BinaryArray, Value::Blob(value) => value.as_ref()),
        },
    ];
    let ids: Vec<i8> = values.iter().map(|value| tag(value) as i8 * 3).collect();
    let mut next = [0; 6];
    let offsets = values.iter().map(|value| {
        next[tag(value)] += 1;
        next[tag(value)] - 1
    });
    let offsets = dense.then(|| offsets.collect::<Vec<i32>>().into());
    UnionArray::try_new(UnionFields::from_iter(fields), ids.into(), offsets, children).unwrap()
}

#[test]
fn no_value_of_a_union_is_read_twice() {
    let text = Value::Text("x".repeat(1_000).into());
    let (fields, ids, _, children) = union(true, false, &[text.clone(), text]).into_parts();
    for (given, is_good) in [(vec![0, 1], true), (vec![0, 0], false), (vec![1, 0], false)] {
        let array = UnionArray::try_new(fields.clone(), ids.clone(), Some(given.into()), children.clone());
        let body = stream(vec![("point", points(&["known"; 2])), ("value", Arc::new(array.unwrap()))]);
        if is_good {
            assert_eq!(good(&body).columns.len(), 2);
        } else {
            assert!(refusal_of(&body).ends_with("the offsets of a union don't lie within it in order"));
        }
    }
}

#[test]
fn a_part_of_a_union_has_the_bytes_of_its_rows() {
    let ints = (101..=105).map(Value::Integer);
    let values: Vec<Value> = ints.chain([Value::Boolean(true), Value::Boolean(false)]).collect();
    let body =
        stream(vec![("point", points(&["known"; 7])), ("value", Arc::new(union(true, false, &values)))]);
    assert_eq!(values_of(&good(&body)), values);
    // That of the integers comes behind that of the booleans.
    let node = |rows: i64| [2, 0, rows, 0].map(i64::to_le_bytes).concat();
    // 2^61 integers have 2^64 bytes, which is nothing to 64 bits.
    for wrong in [6, 1 << 61, i64::MAX] {
        let detail = refusal_of(&patched(&body, &node(5), &node(wrong)));
        assert!(detail.ends_with("a buffer is shorter than its column"), "{wrong}: {detail}");
    }
}

#[derive(Clone, Debug)]
struct Reading {
    point: &'static str,
    value: Value,
    at: Option<u64>,
    quality: Option<Quality>,
}

impl Reading {
    fn line(&self) -> String {
        let value = serde_json::to_string(&JsonValue(self.value.clone())).unwrap();
        let (point, at, quality) = (json!(self.point), json!(self.at), json!(self.quality));
        format!("{{\"point\":{point},\"value\":{value},\"at\":{at},\"quality\":{quality}}}\n")
    }
}

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let value = prop_oneof![
        Just(Value::Missing),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("finite", |real| real.is_finite()).prop_map(Value::Real),
        ".{0,9}".prop_map(|text| Value::Text(text.into())),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|blob| Value::Blob(blob.into())),
    ];
    let at = NOW.0 - 1_000..LATEST.0 + 1_000_000_000_000;
    let quality = proptest::sample::select(vec![Quality::Good, Quality::Uncertain, Quality::Bad]);
    let point = proptest::sample::select(vec![
        "known",
        "a/b",
        "apps/x",
        "bad//path",
        "e\u{301}",
        "new/of/more/than/12",
    ]);
    let reading = (point, value, proptest::option::of(at), proptest::option::of(quality));
    let reading = reading.prop_map(|(point, value, at, quality)| Reading { point, value, at, quality });
    proptest::collection::vec(reading, 1..40)
}

/// The columns of readings in one of the forms that they may have.
fn columns_of(readings: &[Reading], form: u8) -> RecordBatch {
    let (dense, plain, by_number, views) = (form & 1 != 0, form & 2 != 0, form & 4 != 0, form & 8 != 0);
    let values: Vec<Value> = readings.iter().map(|reading| reading.value.clone()).collect();
    let names = readings.iter().map(|reading| Some(reading.point));
    let point: ArrayRef = match (plain, views) {
        (true, false) => Arc::new(names.collect::<LargeStringArray>()),
        (true, true) => Arc::new(names.collect::<StringViewArray>()),
        (false, false) => Arc::new(names.collect::<DictionaryArray<UInt64Type>>()),
        (false, true) => {
            let by_key = names.collect::<DictionaryArray<UInt64Type>>();
            let texts: &StringArray = by_key.values().as_any().downcast_ref().unwrap();
            let texts: StringViewArray = texts.iter().collect();
            Arc::new(by_key.with_values(Arc::new(texts)))
        }
    };
    let at = readings.iter().map(|reading| reading.at.map(|at| at as i64));
    let at = at.collect::<TimestampNanosecondArray>().with_timezone("UTC");
    let quality: ArrayRef = if by_number {
        Arc::new(
            readings
                .iter()
                .map(|reading| reading.quality.map(|quality| quality as u8))
                .collect::<UInt8Array>(),
        )
    } else {
        let names = readings.iter().map(|reading| reading.quality.map(Quality::name));
        Arc::new(names.collect::<DictionaryArray<Int8Type>>())
    };
    let schema = vec![
        Field::new("quality", quality.data_type().clone(), true),
        Field::new("point", point.data_type().clone(), true),
        Field::new("at", at.data_type().clone(), true),
        Field::new("value", union(dense, views, &values).data_type().clone(), true),
    ];
    let columns = vec![quality, point, Arc::new(at), Arc::new(union(dense, views, &values))];
    RecordBatch::try_new(Arc::new(Schema::new(schema)), columns).unwrap()
}

proptest! {
    #[test]
    fn columns_are_those_of_the_same_readings_as_lines(all in readings(), form in 0..16_u8, split in any::<proptest::sample::Index>()) {
        let rules = IngestRules { new_points: 1, ..RULES };
        let lines: String = all.iter().map(Reading::line).collect();
        let as_lines = parse(lines.as_bytes(), Form::Lines, rules, || known, Mode::PARTIAL);
        let (first, second) = all.split_at(split.index(all.len()));
        let batches = [columns_of(first, form), columns_of(second, form)];
        let as_columns = read_with(&written(&batches, IpcWriteOptions::default()), rules, Mode::PARTIAL);
        prop_assert_eq!(&as_columns.columns, &as_lines.columns);
        prop_assert_eq!(&as_columns.new_points, &as_lines.new_points);
        prop_assert_eq!((as_columns.lines, as_columns.bad_lines), (as_lines.lines, as_lines.bad_lines));
        for (row, line) in as_columns.bad.iter().zip(&as_lines.bad) {
            let (at_row, at_line) = (row.place.clone().unwrap(), line.place.clone().unwrap());
            prop_assert_eq!((&row.kind, &row.detail, &at_row.field), (&line.kind, &line.detail, &at_line.field));
            let before = if at_row.batch == Some(1) { 0 } else { first.len() as u64 };
            prop_assert_eq!(before + at_row.row.unwrap(), at_line.line.unwrap());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let reading = |point, value, at, quality| Reading { point, value, at, quality };
    let all = [
        reading("known", Value::Real(1.5), None, None),
        reading("a/b", Value::Text("on".into()), Some(NOW.0), Some(Quality::Uncertain)),
        reading("known", Value::Missing, None, Some(Quality::Bad)),
        reading("a/b", Value::Blob([1, 2].into()), None, None),
    ];
    let mut seeds: Vec<_> =
        (0..16).map(|form| written(&[columns_of(&all, form)], IpcWriteOptions::default())).collect();
    let real = batch(vec![("point", points(&["known", "a/b"])), ("value", reals(&[1.0, 2.0]))]);
    seeds.push(written(&[real.clone(), real], IpcWriteOptions::default()));
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("abc"), None]));
    seeds.push(stream(vec![("point", Arc::new(StringArray::from(vec!["known", "a/b"]))), ("value", text)]));
    seeds
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(2_048))]
    #[test]
    fn any_bytes_are_a_stream_or_refused(bytes in ironloom_mutate::mutated(seeds())) {
        crate::fuzzing::pushed(&bytes);
    }
}
