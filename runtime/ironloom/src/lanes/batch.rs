//! From noted rows to the batch that crosses into the app: frames by input, one table of entities.

use std::fmt::Write as _;

use crate::fold::queue::{RowNote, Slice};
use ironloom_apps::binding::InputBinding;
use ironloom_apps::manifest::ValueType;
use ironloom_apps::routing::Entities;
use ironloom_apps::unit::Conversion;
use ironloom_sandbox::{Batch, Frame, Quality as WitQuality, Values};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Sequence;
use ironloom_types::readings::{Quality, ValueRef};

/// A batch with what the lane needs to know of it.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The batch for the app.
    pub batch: Batch,
    /// The row of the offer for each reading of each frame.
    places: Vec<Vec<u32>>,
    /// Rows that the app doesn't get, with why.
    pub unfit: Vec<(u32, String)>,
    /// The number of its rows, including those.
    pub rows: usize,
    /// The number of its readings: one that several inputs take is a row of each.
    pub readings: usize,
    /// The first row's sequence.
    pub first: Sequence,
    /// The last row's sequence.
    pub last: Sequence,
    /// The journal time of the last row.
    pub time: Timestamp,
    /// The most hops of any row.
    pub hops: u8,
    slices: Vec<Slice>,
    /// The row of the offer behind the last row of each slice.
    ends: Vec<usize>,
}

impl Offer {
    /// The row of a frame's reading.
    pub(crate) fn row(&self, frame: u32, reading: u32) -> Option<u32> {
        self.places.get(frame as usize)?.get(reading as usize).copied()
    }

    /// The slice and the note of a row.
    pub(crate) fn at(&self, row: u32) -> Option<(&Slice, RowNote)> {
        let row = row as usize;
        let index = self.ends.partition_point(|end| *end <= row);
        let slice = self.slices.get(index)?;
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some((slice, slice.rows()[row - begin]))
    }
}

/// Numbers the entities of a batch; kept by the lane from batch to batch, so that none is hashed.
#[derive(Debug, Default)]
pub(crate) struct EntityNumbers {
    /// For each entity of the lane, the batch that it was numbered for, and its number in it.
    numbers: Vec<(u64, u32)>,
    batch: u64,
}

struct Column {
    entity: Vec<u32>,
    at: Vec<u64>,
    order: Vec<u32>,
    quality: Option<Vec<WitQuality>>,
    values: Values,
    places: Vec<u32>,
}

impl Column {
    fn new(value_type: ValueType, rows: usize) -> Self {
        let values = match value_type {
            ValueType::Boolean => Values::Booleans(Vec::with_capacity(rows)),
            ValueType::Integer => Values::Integers(Vec::with_capacity(rows)),
            ValueType::Real => Values::Reals(Vec::with_capacity(rows)),
            ValueType::Text => Values::Texts(Vec::new()),
            ValueType::Blob => Values::Blobs(Vec::new()),
        };
        let empty = || Vec::with_capacity(rows);
        Self {
            entity: empty(),
            at: Vec::with_capacity(rows),
            order: empty(),
            quality: None,
            values,
            places: empty(),
        }
    }

    fn push_quality(&mut self, quality: Quality) {
        if quality == Quality::Good && self.quality.is_none() {
            return;
        }
        let so_far = self.entity.len();
        let column = self.quality.get_or_insert_with(|| vec![WitQuality::Good; so_far]);
        column.push(match quality {
            Quality::Good => WitQuality::Good,
            Quality::Uncertain => WitQuality::Uncertain,
            Quality::Bad => WitQuality::Bad,
        });
    }
}

/// Makes a batch of the rows. `slices` is not empty.
pub(crate) fn build(
    slices: Vec<Slice>,
    inputs: &[InputBinding],
    entities: &Entities,
    numbers: &mut EntityNumbers,
) -> Offer {
    let rows: usize = slices.iter().map(|slice| slice.rows().len()).sum();
    assert!(rows > 0, "an offer has at least one row");
    let names = entities.read();
    numbers.batch += 1;
    if numbers.numbers.len() < names.given() {
        numbers.numbers.resize(names.given(), (0, 0));
    }
    let mut table: Vec<u32> = Vec::new();
    let mut columns: Vec<Option<Column>> = inputs.iter().map(|_| None).collect();
    let mut unfit = Vec::new();
    let mut hops = 0;
    let mut place: u32 = 0;
    let mut order: u32 = 0;
    for slice in &slices {
        let chunk = &slice.note.chunk;
        let mut run = 0;
        for note in slice.rows() {
            // Only its own: in a block others' readings stand beside them.
            while chunk.runs[run].end <= note.row {
                run += 1;
            }
            hops = chunk.runs[run].hops.max(hops);
            let (row, input) = (note.row as usize, &inputs[note.input as usize]);
            let column =
                columns[note.input as usize].get_or_insert_with(|| Column::new(input.value_type, rows));
            let quality = chunk.columns.quality(row);
            let conversion = names.conversion(note.input, note.entity);
            if let Err(problem) = push_value(&mut column.values, chunk.columns.value(row), conversion) {
                unfit.push((place, unfit_reason(&problem, input)));
                place += 1;
                continue;
            }
            column.push_quality(quality);
            let known = &mut numbers.numbers[note.entity as usize];
            if known.0 != numbers.batch {
                *known = (numbers.batch, table.len() as u32);
                table.push(note.entity);
            }
            column.entity.push(known.1);
            column.at.push(chunk.columns.at[row].0);
            column.order.push(order);
            column.places.push(place);
            order += 1;
            place += 1;
        }
    }
    let entities = names.lines(&table);
    drop(names);
    let (frames, places) = frames(columns, inputs);
    let (first, last, time) = span(&slices);
    let readings = slices.iter().map(readings).sum();
    let ends = slices.iter().scan(0, |end, slice| {
        *end += slice.rows().len();
        Some(*end)
    });
    let ends = ends.collect();
    let batch = Batch { entities, frames };
    Offer { batch, places, unfit, rows, readings, first, last, time, hops, slices, ends }
}

/// The frames of the columns that have readings, and for each reading of them which row of the offer it is.
fn frames(columns: Vec<Option<Column>>, inputs: &[InputBinding]) -> (Vec<Frame>, Vec<Vec<u32>>) {
    let is_filled = |column: &Column| !column.entity.is_empty();
    let filled = columns.iter().flatten().filter(|column| is_filled(column)).count();
    let mut frames = Vec::with_capacity(filled);
    let mut places = Vec::with_capacity(filled);
    for (column, input) in columns.into_iter().zip(inputs) {
        let Some(column) = column.filter(is_filled) else { continue };
        frames.push(Frame {
            slot: input.name.to_string(),
            entity: column.entity,
            at: column.at,
            order: (filled > 1).then_some(column.order),
            quality: column.quality,
            values: column.values,
        });
        places.push(column.places);
    }
    (frames, places)
}

/// A batch of one reading, of a point that has this unit.
pub(crate) fn single(
    input: &InputBinding,
    entity: &str,
    at: Timestamp,
    quality: Quality,
    (value, unit): (ValueRef<'_>, Option<&str>),
) -> Result<Batch, String> {
    let mut column = Column::new(input.value_type, 1);
    let conversion = input.convert(unit).map_err(|why| {
        let (own, wanted) = (unit.unwrap_or_default(), input.unit.as_deref().unwrap_or_default());
        format!("unit: {own} can't be had in {wanted}: {why}")
    })?;
    push_value(&mut column.values, value, conversion).map_err(|problem| unfit_reason(&problem, input))?;
    column.push_quality(quality);
    let slot = input.name.to_string();
    let Column { quality, values, .. } = column;
    let frame = Frame { slot, entity: vec![0], at: vec![at.0], order: None, quality, values };
    Ok(Batch { entities: entity.to_owned(), frames: vec![frame] })
}

fn unfit_reason(problem: &str, input: &InputBinding) -> String {
    format!("type: {problem} is not a valid {} for input {}", input.value_type.name(), input.name)
}

/// Counts the readings of a slice's rows; the rows of one reading are adjacent.
fn readings(slice: &Slice) -> usize {
    let rows = slice.rows();
    rows.len() - rows.windows(2).filter(|pair| pair[0].offset == pair[1].offset).count()
}

/// The first and the last sequence, and the journal time of the last.
fn span(slices: &[Slice]) -> (Sequence, Sequence, Timestamp) {
    let (first, last) = (&slices[0], &slices[slices.len() - 1]);
    (first.note.sequence(first.from), last.note.sequence(last.to - 1), last.note.time(last.to - 1))
}

/// Adds a value, in the input's unit, and in its type where that loses nothing.
fn push_value(
    values: &mut Values,
    value: ValueRef<'_>,
    conversion: Option<Conversion>,
) -> Result<(), String> {
    match (values, converted(value, conversion)?) {
        (Values::Reals(column), ValueRef::Real(value)) => column.push(value),
        (Values::Reals(column), ValueRef::Integer(value)) => {
            column.push(exact_real(value).ok_or_else(|| value.to_string())?)
        }
        (Values::Reals(column), ValueRef::Missing) => column.push(f64::NAN),
        (Values::Integers(column), ValueRef::Integer(value)) => column.push(value),
        (Values::Integers(column), ValueRef::Real(value)) => {
            column.push(exact_integer(value).ok_or_else(|| value.to_string())?)
        }
        (Values::Integers(column), ValueRef::Missing) => column.push(0),
        (Values::Booleans(column), ValueRef::Boolean(value)) => column.push(value),
        (Values::Booleans(column), ValueRef::Missing) => column.push(false),
        (Values::Texts(column), ValueRef::Text(value)) => column.push(value.to_owned()),
        (Values::Texts(column), ValueRef::Missing) => column.push(String::new()),
        (Values::Blobs(column), ValueRef::Blob(value)) => column.push(value.to_vec()),
        (Values::Blobs(column), ValueRef::Missing) => column.push(Vec::new()),
        (_, value) => return Err(describe(value)),
    }
    Ok(())
}

/// A number in another unit. Whatever else it is has none.
pub(crate) fn converted(value: ValueRef<'_>, conversion: Option<Conversion>) -> Result<ValueRef<'_>, String> {
    let Some(conversion) = conversion else { return Ok(value) };
    let real = match value {
        ValueRef::Real(real) => real,
        ValueRef::Integer(integer) => exact_real(integer).ok_or_else(|| integer.to_string())?,
        other => return Ok(other),
    };
    let converted = conversion.apply(real);
    if real.is_finite() && !converted.is_finite() {
        return Err(format!("{real} {conversion}"));
    }
    Ok(ValueRef::Real(converted))
}

/// The real of the same value, where there is one.
fn exact_real(value: i64) -> Option<f64> {
    let real = value as f64;
    // Casts back saturate: 2^63 would come back as 2^63 - 1.
    (real < 9_223_372_036_854_775_808.0 && real as i64 == value).then_some(real)
}

/// The integer of the same value, where there is one.
fn exact_integer(value: f64) -> Option<i64> {
    let in_range = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    (in_range && value.fract() == 0.0).then_some(value as i64)
}

fn describe(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Missing => "a missing value".into(),
        ValueRef::Boolean(value) => format!("boolean {value}"),
        ValueRef::Integer(value) => format!("integer {value}"),
        ValueRef::Real(value) => format!("real {value}"),
        ValueRef::Text(text) => {
            let mut short: String = text.chars().take(32).collect();
            if short.len() < text.len() {
                let _ = write!(short, "…");
            }
            format!("text {short:?}")
        }
        ValueRef::Blob(bytes) => format!("blob of {} bytes", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_another_unit_is_converted_and_then_has_to_be_of_the_type() {
        let tonnes = Conversion { factor: 1_000.0, offset: 0.0 };
        let push = |values: &mut Values, value| push_value(values, value, Some(tonnes));
        let mut integers = Values::Integers(Vec::new());
        push(&mut integers, ValueRef::Integer(2)).unwrap();
        push(&mut integers, ValueRef::Real(0.25)).unwrap();
        assert_eq!(push(&mut integers, ValueRef::Real(0.00025)), Err("0.25".to_owned()));
        push(&mut integers, ValueRef::Missing).unwrap();
        assert!(matches!(integers, Values::Integers(all) if all == [2_000, 250, 0]));
        let mut reals = Values::Reals(Vec::new());
        push(&mut reals, ValueRef::Integer(-3)).unwrap();
        assert!(push(&mut reals, ValueRef::Real(1e306)).is_err(), "beyond what a number holds");
        assert!(push(&mut reals, ValueRef::Text("heavy")).is_err());
        assert!(matches!(reals, Values::Reals(all) if all == [-3_000.0]));
    }

    #[test]
    fn numbers_are_converted_only_where_nothing_is_lost() {
        assert_eq!(exact_real(1 << 53), Some(9_007_199_254_740_992.0));
        assert_eq!(exact_real((1 << 53) + 1), None);
        assert_eq!(exact_real(i64::MAX), None);
        assert_eq!(exact_real(i64::MIN), Some(-9_223_372_036_854_775_808.0));
        assert_eq!(exact_integer(-3.0), Some(-3));
        assert_eq!(exact_integer(0.5), None);
        assert_eq!(exact_integer(f64::NAN), None);
        assert_eq!(exact_integer(9_223_372_036_854_775_808.0), None);
    }
}
