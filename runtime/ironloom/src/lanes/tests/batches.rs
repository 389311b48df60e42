//! Batches: which readings an invocation gets.

use proptest::prelude::*;

use super::*;
use ironloom_sandbox::{Quality as WitQuality, Values};

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Missing,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Missing => ValueRef::Missing,
            Self::Boolean(value) => ValueRef::Boolean(*value),
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }

    /// As the input of this number takes it: conversions by decimal text, as unlike the code as can be.
    fn fit(&self, input: usize) -> Option<Self> {
        match (input, self) {
            (0, Self::Missing) => Some(Self::Real(f64::NAN)),
            (0, Self::Integer(value)) => {
                let real: f64 = value.to_string().parse().unwrap();
                (format!("{real:.0}") == value.to_string()).then_some(Self::Real(real))
            }
            (0, Self::Real(_)) => Some(self.clone()),
            (1, Self::Missing) => Some(Self::Integer(0)),
            (1, Self::Integer(_)) => Some(self.clone()),
            (1, Self::Real(value)) if value.fract() == 0.0 => {
                format!("{value:.0}").parse().ok().map(Self::Integer)
            }
            (2, Self::Missing) => Some(Self::Boolean(false)),
            (2, Self::Boolean(_)) => Some(self.clone()),
            (3, Self::Missing) => Some(Self::Text(String::new())),
            (3, Self::Text(_)) => Some(self.clone()),
            (4, Self::Missing) => Some(Self::Blob(Vec::new())),
            (4, Self::Blob(_)) => Some(self.clone()),
            _ => None,
        }
    }
}

fn values(column: &Values) -> Vec<Value> {
    match column {
        Values::Booleans(values) => values.iter().map(|value| Value::Boolean(*value)).collect(),
        Values::Integers(values) => values.iter().map(|value| Value::Integer(*value)).collect(),
        Values::Reals(values) => values.iter().map(|value| Value::Real(*value)).collect(),
        Values::Texts(values) => values.iter().map(|value| Value::Text(value.clone())).collect(),
        Values::Blobs(values) => values.iter().map(|value| Value::Blob(value.clone())).collect(),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
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
        "[a-z]{0,4}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(Value::Blob),
    ]
}

/// A value that mostly fits the point's input.
fn row() -> impl Strategy<Value = (u32, u64, u8, Value)> {
    let point = 0..POINTS * INPUTS.len() as u32;
    (point, 0..100u64, 0..3u8, value(), any::<i64>(), any::<u8>()).prop_map(
        |(point, at, quality, value, fitting, pick)| {
            let value = match (pick % 3, point / POINTS) {
                (0, _) => value,
                (_, 0) => Value::Real(fitting as f64),
                (_, 1) => Value::Integer(fitting),
                (_, 2) => Value::Boolean(fitting % 2 == 0),
                (_, 3) => Value::Text(fitting.to_string()),
                _ => Value::Blob(vec![fitting as u8]),
            };
            (point, at, quality, value)
        },
    )
}

proptest! {
    #[test]
    fn a_batch_is_its_readings_by_input_in_their_order(
        chunks in prop::collection::vec((prop::collection::vec(row(), 1..20), 0..17u8), 1..4),
        from: prop::sample::Index,
    ) {
        let (lane, table) = lane();
        let mut sequence = 1;
        let mut slices = Vec::new();
        let mut rows = Vec::new();
        for (at, (chunk_rows, hops)) in chunks.iter().enumerate() {
            let own: Vec<_> = chunk_rows
                .iter()
                .map(|(point, at, quality, value)| (*point, *at, Quality::from_u8(*quality).unwrap(), value.as_ref()))
                .collect();
            let chunk = chunk(sequence, &own, &[(own.len() as u32, at as u64, *hops)]);
            let mut slice = whole(note(&table, &chunk));
            if at == 0 {
                slice.from = from.index(own.len());
            }
            rows.extend(chunk_rows.iter().enumerate().skip(slice.from).map(|(row, parts)| (sequence + row as u64, at as u64, parts.clone())));
            sequence += own.len() as u64;
            slices.push(slice);
        }
        let offer = offer(&lane, slices);

        prop_assert_eq!(offer.rows, rows.len());
        prop_assert_eq!((offer.first.0, offer.last.0), (rows[0].0, rows[rows.len() - 1].0));
        prop_assert_eq!(offer.time.0, rows[rows.len() - 1].1);
        prop_assert_eq!(offer.hops, chunks.iter().map(|(_, hops)| *hops).max().unwrap());
        let unfit: Vec<usize> = offer.unfit.iter().map(|(row, _)| *row as usize).collect();
        let expected: Vec<usize> =
            rows.iter().enumerate().filter(|(_, (_, _, row))| row.3.fit((row.0 / POINTS) as usize).is_none()).map(|(at, _)| at).collect();
        prop_assert_eq!(&unfit, &expected);

        let table: Vec<&str> = if offer.batch.entities.is_empty() { Vec::new() } else { offer.batch.entities.split('\n').collect() };
        let mut seen = Vec::new();
        let mut order = 0;
        let mut cursors: BTreeMap<String, usize> = BTreeMap::new();
        for (place, (_, _, (point, at, quality, value))) in rows.iter().enumerate() {
            let input = (point / POINTS) as usize;
            let Some(value) = value.fit(input) else { continue };
            let number = offer.batch.frames.iter().position(|frame| frame.slot == INPUTS[input]).unwrap();
            let frame = &offer.batch.frames[number];
            let reading = cursors.entry(frame.slot.clone()).or_default();
            let entity = format!("e{}", point % POINTS);
            if !seen.contains(&entity) {
                seen.push(entity.clone());
            }
            prop_assert_eq!(table[frame.entity[*reading] as usize], &entity);
            prop_assert_eq!(frame.at[*reading], *at);
            prop_assert!(same(&values(&frame.values)[*reading], &value));
            let expected = match quality {
                0 => WitQuality::Good,
                1 => WitQuality::Uncertain,
                _ => WitQuality::Bad,
            };
            prop_assert_eq!(frame.quality.as_ref().map_or(WitQuality::Good, |column| column[*reading]), expected);
            match &frame.order {
                Some(column) => prop_assert_eq!(column[*reading], order),
                None => prop_assert_eq!(offer.batch.frames.len(), 1),
            }
            prop_assert_eq!(offer.row(number as u32, *reading as u32), Some(place as u32));
            order += 1;
            *reading += 1;
        }
        prop_assert_eq!(table, seen);
        let slots: Vec<usize> =
            offer.batch.frames.iter().map(|frame| INPUTS.iter().position(|input| *input == frame.slot).unwrap()).collect();
        prop_assert!(slots.is_sorted(), "frames come in the order of the manifest");
        for frame in &offer.batch.frames {
            prop_assert_eq!(cursors[&frame.slot], frame.at.len());
            prop_assert!(frame.at.len() == frame.entity.len() && !frame.at.is_empty());
            let rows = frame.at.len();
            prop_assert!(frame.quality.as_ref().is_none_or(|column| column.len() == rows && column.iter().any(|quality| *quality != WitQuality::Good)));
        }
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
    let inputs = &lane.revision.bindings.inputs;
    let batch =
        batch::single(&inputs[0], "e1", Timestamp(7), Quality::Uncertain, ValueRef::Integer(5)).unwrap();
    assert_eq!(batch.entities, "e1");
    let frame = &batch.frames[0];
    assert_eq!((frame.slot.as_str(), &frame.entity, &frame.at), ("weight", &vec![0], &vec![7]));
    assert!(matches!(&frame.values, Values::Reals(values) if *values == [5.0]));
    assert_eq!(frame.quality, Some(vec![WitQuality::Uncertain]));
    let refused =
        batch::single(&inputs[1], "e1", Timestamp(7), Quality::Good, ValueRef::Real(0.5)).unwrap_err();
    assert_eq!(refused, "type: 0.5 is no integer for input count");
}
