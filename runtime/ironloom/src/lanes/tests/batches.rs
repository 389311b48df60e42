//! Batches: which readings an invocation gets.

use proptest::prelude::*;

use super::*;
use ironloom_apps::binding::InputBinding;
use ironloom_sandbox::{Quality as WitQuality, Values};
use ironloom_types::readings::Value;

/// The value as the input of this number takes it: conversions by decimal text, as unlike the code as can be.
fn fit(value: &Value, input: usize) -> Option<Value> {
    match (input, value) {
        (0, Value::Missing) => Some(Value::Real(f64::NAN)),
        (0, Value::Integer(number)) => {
            let real: f64 = number.to_string().parse().unwrap();
            (format!("{real:.0}") == number.to_string()).then_some(Value::Real(real))
        }
        (0, Value::Real(_)) => Some(value.clone()),
        (1, Value::Missing) => Some(Value::Integer(0)),
        (1, Value::Integer(_)) => Some(value.clone()),
        (1, Value::Real(real)) if real.fract() == 0.0 => {
            format!("{real:.0}").parse().ok().map(Value::Integer)
        }
        (2, Value::Missing) => Some(Value::Boolean(false)),
        (2, Value::Boolean(_)) => Some(value.clone()),
        (3, Value::Missing) => Some(Value::Text("".into())),
        (3, Value::Text(_)) => Some(value.clone()),
        (4, Value::Missing) => Some(Value::Blob([].into())),
        (4, Value::Blob(_)) => Some(value.clone()),
        _ => None,
    }
}

fn values(column: &Values) -> Vec<Value> {
    match column {
        Values::Booleans(values) => values.iter().map(|value| Value::Boolean(*value)).collect(),
        Values::Integers(values) => values.iter().map(|value| Value::Integer(*value)).collect(),
        Values::Reals(values) => values.iter().map(|value| Value::Real(*value)).collect(),
        Values::Texts(values) => values.iter().map(|value| Value::Text(value.as_str().into())).collect(),
        Values::Blobs(values) => values.iter().map(|value| Value::Blob(value.as_slice().into())).collect(),
    }
}

fn value() -> impl Strategy<Value = Value> {
    let edges = prop::sample::select(vec![
        0,
        1,
        -1,
        1 << 53,
        (1 << 53) + 1,
        -(1 << 53) - 1,
        i64::MAX,
        i64::MIN,
        i64::MAX - 511,
    ]);
    let reals = prop::sample::select(vec![
        0.0,
        -0.0,
        1.0,
        -3.0,
        0.5,
        1e300,
        f64::NAN,
        f64::INFINITY,
        9_223_372_036_854_775_808.0,
        -9_223_372_036_854_775_808.0,
    ]);
    prop_oneof![
        Just(Value::Missing),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        edges.prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Real),
        reals.prop_map(Value::Real),
        "[a-z]{0,4}".prop_map(|text| Value::Text(text.into())),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| Value::Blob(bytes.into())),
    ]
}

/// A reading of one of the lane's points.
#[derive(Clone, Debug)]
struct Row {
    point: u32,
    at: u64,
    quality: Quality,
    value: Value,
}

impl Row {
    fn input(&self) -> usize {
        (self.point / POINTS) as usize
    }

    fn entity(&self) -> String {
        format!("e{}", self.point % POINTS)
    }

    /// Its value as the app gets it, where it gets it.
    fn fit(&self) -> Option<Value> {
        fit(&self.value, self.input())
    }
}

/// A reading whose value mostly fits its point's input.
fn row() -> impl Strategy<Value = Row> {
    let point = 0..POINTS * INPUTS.len() as u32;
    (point, 0..100u64, 0..3u8, value(), any::<i64>(), any::<u8>()).prop_map(
        |(point, at, quality, value, fitting, pick)| {
            let value = match (pick % 3, point / POINTS) {
                (0, _) => value,
                (_, 0) => Value::Real(fitting as f64),
                (_, 1) => Value::Integer(fitting),
                (_, 2) => Value::Boolean(fitting % 2 == 0),
                (_, 3) => Value::Text(fitting.to_string().into()),
                _ => Value::Blob([fitting as u8].into()),
            };
            Row { point, at, quality: Quality::from_u8(quality).unwrap(), value }
        },
    )
}

#[derive(Clone, Debug)]
struct Record {
    rows: Vec<Row>,
    hops: u8,
}

fn record() -> impl Strategy<Value = Record> {
    (prop::collection::vec(row(), 1..20), 0..17u8).prop_map(|(rows, hops)| Record { rows, hops })
}

/// Notes of all rows of the records, but for the first `skipped` ones. The record at place n is of journal time n.
fn slices_of(table: &RoutingTable, records: &[Record], skipped: usize) -> Vec<Slice> {
    let mut first = 1;
    let mut slices = Vec::new();
    for (time, record) in records.iter().enumerate() {
        let rows: Vec<_> =
            record.rows.iter().map(|row| (row.point, row.at, row.quality, row.value.as_ref())).collect();
        let chunk = chunk(first, &rows, &[(rows.len() as u32, time as u64, record.hops)]);
        first += rows.len() as u64;
        slices.push(whole(note(table, &chunk)));
    }
    slices[0].from = skipped;
    slices
}

/// Walks through the rows and finds each at its place in the frames. Returns the entities in the order in which they
/// appear.
fn check_frames(offer: &Offer, rows: &[&Row]) -> Vec<String> {
    let entities: Vec<&str> = offer.batch.entities.split('\n').collect();
    let mut seen: Vec<String> = Vec::new();
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    let mut order = 0;
    for (place, row) in rows.iter().enumerate() {
        let Some(value) = row.fit() else { continue };
        let slot = INPUTS[row.input()];
        let number = offer.batch.frames.iter().position(|frame| frame.slot == slot).unwrap();
        let frame = &offer.batch.frames[number];
        let reading = next.entry(slot).or_default();
        if !seen.contains(&row.entity()) {
            seen.push(row.entity());
        }
        assert_eq!(entities[frame.entity[*reading] as usize], row.entity());
        assert_eq!(frame.at[*reading], row.at);
        assert_eq!(values(&frame.values)[*reading], value);
        let quality = frame.quality.as_ref().map_or(WitQuality::Good, |column| column[*reading]);
        assert_eq!(quality, wit_quality(row.quality));
        match &frame.order {
            Some(column) => assert_eq!(column[*reading], order),
            None => assert_eq!(offer.batch.frames.len(), 1),
        }
        assert_eq!(offer.row(number as u32, *reading as u32), Some(place as u32));
        order += 1;
        *reading += 1;
    }
    for frame in &offer.batch.frames {
        let rows = next[frame.slot.as_str()];
        assert!(rows > 0 && frame.at.len() == rows && frame.entity.len() == rows);
        let is_plain = |column: &Vec<WitQuality>| column.iter().all(|quality| *quality == WitQuality::Good);
        assert!(frame.quality.as_ref().is_none_or(|column| column.len() == rows && !is_plain(column)));
    }
    seen
}

fn wit_quality(quality: Quality) -> WitQuality {
    match quality {
        Quality::Good => WitQuality::Good,
        Quality::Uncertain => WitQuality::Uncertain,
        Quality::Bad => WitQuality::Bad,
    }
}

fn check(records: &[Record], skipped: usize) {
    let (lane, table) = lane();
    let offer = offer(&lane, slices_of(&table, records, skipped));
    let all: Vec<&Row> = records.iter().flat_map(|record| &record.rows).collect();
    let rows = &all[skipped..];
    assert_eq!((offer.rows, offer.readings), (rows.len(), rows.len()));
    assert_eq!((offer.first.0, offer.last.0), (skipped as u64 + 1, all.len() as u64));
    assert_eq!(offer.time.0, records.len() as u64 - 1);
    assert_eq!(Some(offer.hops), records.iter().map(|record| record.hops).max());
    let unfit: Vec<usize> = offer.unfit.iter().map(|(row, _)| *row as usize).collect();
    let expected: Vec<usize> = (0..rows.len()).filter(|place| rows[*place].fit().is_none()).collect();
    assert_eq!(unfit, expected);
    for place in 0..rows.len() {
        let (slice, found) = offer.at(place as u32).unwrap();
        assert_eq!(slice.note.sequence_of(&found).0, (skipped + place) as u64 + 1);
    }
    assert!(offer.at(rows.len() as u32).is_none());

    assert_eq!(check_frames(&offer, rows).join("\n"), offer.batch.entities);
    let slots: Vec<_> =
        offer.batch.frames.iter().map(|frame| INPUTS.iter().position(|i| *i == frame.slot)).collect();
    assert!(slots.is_sorted(), "frames come in the order of the manifest");
}

proptest! {
    #[test]
    fn a_batch_is_its_readings_by_input_in_their_order(
        records in prop::collection::vec(record(), 1..4),
        from: prop::sample::Index,
    ) {
        check(&records, from.index(records[0].rows.len()));
    }
}

#[test]
fn others_readings_in_a_block_add_no_hops() {
    let (lane, table) = lane();
    let good = |point| (point, 1, Quality::Good, ValueRef::Real(1.0));
    // Another app's readings of 9 hops stand between a source's and those of 2 hops.
    let chunk = chunk(1, &[good(0), good(1), good(2)], &[(1, 5, 0), (1, 6, 9), (1, 7, 2)]);
    let mut note = note(&table, &chunk);
    note.rows = [note.rows[0], note.rows[2]].into();
    assert_eq!(offer(&lane, vec![whole(note.clone())]).hops, 2);
    let slice = Slice { note, from: 0, to: 1 };
    let offer = offer(&lane, vec![slice]);
    assert_eq!((offer.hops, offer.time), (0, Timestamp(5)));
}

#[test]
fn one_reading_alone_is_converted_like_among_others() {
    let (lane, _) = lane();
    let term = lane.newest();
    let inputs = &term.revision.bindings.inputs;
    let batch =
        batch::single(&inputs[0], "e1", Timestamp(7), Quality::Uncertain, (ValueRef::Integer(5), None))
            .unwrap();
    assert_eq!(batch.entities, "e1");
    let frame = &batch.frames[0];
    assert_eq!((frame.slot.as_str(), &frame.entity, &frame.at), ("weight", &vec![0], &vec![7]));
    assert!(matches!(&frame.values, Values::Reals(values) if *values == [5.0]));
    assert_eq!(frame.quality, Some(vec![WitQuality::Uncertain]));
    let single = |input: &InputBinding, value, unit| {
        batch::single(input, "e1", Timestamp(7), Quality::Good, (value, unit))
    };
    let refused = single(&inputs[1], ValueRef::Real(0.5), None).unwrap_err();
    assert_eq!(refused, "type: 0.5 is not a valid integer for input count");
    let weight = InputBinding { unit: Some("kg".into()), ..inputs[0].clone() };
    let batch = single(&weight, ValueRef::Integer(5), Some("t")).unwrap();
    assert!(matches!(&batch.frames[0].values, Values::Reals(values) if *values == [5_000.0]));
    let refused = single(&weight, ValueRef::Integer(5), Some("m")).unwrap_err();
    assert_eq!(refused, "unit: m can't be had in kg: they measure different things");
}
