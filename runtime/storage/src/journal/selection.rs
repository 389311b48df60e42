//! Readings that pass a filter. Of a block only what they need is decoded: few readings of many are had for a part of
//! what the whole block costs.

use super::block::BlockHeader;
use super::chunk::{Chunk, ReadingRow, Run};
use super::columns::{ColumnError, Sections, damaged};
use super::filter::Filter;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, Sequence};
use ironloom_types::readings::{Columns, Quality, Tag, ValueRef};

/// Readings that pass a filter, in order.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Up to here there are no others.
    pub through: Sequence,
    columns: Columns,
    /// The place of each reading in the stream, and what its record gave it.
    facts: Vec<(Sequence, Run)>,
}

impl Selection {
    /// The first `most` readings of a chunk, which isn't empty, that pass.
    pub fn of(chunk: &Chunk, filter: &Filter, most: usize) -> Self {
        let rows = filter.rows(chunk, most);
        let last = chunk.last_sequence();
        let through =
            if rows.len() < most { last } else { rows.last().map_or(last, |row| chunk.sequence(*row)) };
        let mut columns = Columns::default();
        rows.iter().for_each(|&row| columns.push_row(&chunk.columns, row));
        let facts = rows.iter().map(|&row| (chunk.sequence(row), *chunk.run(row))).collect();
        Self { through, columns, facts }
    }

    /// The number of readings.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Returns `true` where there are none.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// The readings, in order.
    pub fn readings(&self) -> impl Iterator<Item = ReadingRow<'_>> {
        let facts = self.facts.iter().enumerate();
        facts.map(|(row, (sequence, run))| ReadingRow::of(&self.columns, row, *sequence, run))
    }
}

/// Picks the first `most` readings that pass out of a block's columns, whose checksum was right.
pub(super) fn pick(
    bytes: &[u8],
    header: &BlockHeader,
    filter: &Filter,
    most: usize,
) -> Result<Selection, ColumnError> {
    let (first, rows) = (header.first_sequence, header.readings as usize);
    let sequence = |row: usize| Sequence(first.0 + row as u64);
    let mut picked =
        Selection { through: header.last_sequence(), columns: Columns::default(), facts: Vec::new() };
    if !header.points.iter().any(|(point, _)| filter.wants(*point)) {
        return Ok(picked);
    }
    let mut rest = Sections { bytes };
    let points: Vec<u32> = rest.numbers("point", rows)?;
    let at: Vec<u64> = rest.numbers("at", rows)?;
    let begin =
        usize::try_from(filter.after.next().0.saturating_sub(first.0)).unwrap_or(usize::MAX).min(rows);
    let passes = |row: &usize| filter.passes(PointNumber(points[*row]), Timestamp(at[*row]));
    let wanted: Vec<usize> = (begin..rows).filter(passes).take(most).collect();
    let Some(&last) = wanted.last() else { return Ok(picked) };
    if wanted.len() == most {
        picked.through = sequence(last);
    }
    let qualities = rest.run_lengths("quality", rows)?;
    let values = Values::read(&mut rest, rows, &wanted)?;
    let runs = rest.runs(rows)?;
    let mut index = 0;
    for (&row, value) in wanted.iter().zip(values.each()) {
        // Together they cover all rows.
        while runs[index].end as usize <= row {
            index += 1;
        }
        let quality = Quality::from_u8(qualities[row])
            .ok_or_else(|| damaged("quality", format!("has the unknown value {}", qualities[row])))?;
        picked.columns.push(PointNumber(points[row]), Timestamp(at[row]), quality, value?);
        picked.facts.push((sequence(row), runs[index]));
    }
    Ok(picked)
}

/// The columns of values, as far as they are needed, and where in them the wanted ones are.
struct Values<'a> {
    /// The type of each wanted value, and its place among those in the same column.
    places: Vec<(Tag, usize)>,
    booleans: Vec<u8>,
    integers: Vec<i64>,
    reals: Vec<f64>,
    /// The beginnings of texts and blobs in the heap, and the end of the last one.
    starts: Vec<usize>,
    heap: &'a [u8],
}

/// Columns of values; texts and blobs share one.
const KINDS: usize = 5;

fn kind(tag: Tag) -> usize {
    match tag {
        Tag::Missing => 0,
        Tag::Boolean => 1,
        Tag::Integer => 2,
        Tag::Real => 3,
        Tag::Text | Tag::Blob => 4,
    }
}

impl<'a> Values<'a> {
    fn read(rest: &mut Sections<'a>, rows: usize, wanted: &[usize]) -> Result<Self, ColumnError> {
        let tags = rest.run_lengths("tag", rows)?;
        let (mut counts, mut needed) = ([0; KINDS], [false; KINDS]);
        let mut places = Vec::with_capacity(wanted.len());
        let mut wanted = wanted.iter().peekable();
        for (row, &number) in tags.iter().enumerate() {
            let tag = Tag::from_u8(number)
                .ok_or_else(|| damaged("tag", format!("has the unknown value {number}")))?;
            let kind = kind(tag);
            if wanted.next_if(|next| **next == row).is_some() {
                places.push((tag, counts[kind]));
                needed[kind] = true;
            }
            counts[kind] += 1;
        }
        let [_, booleans, integers, reals, texts] = counts;
        let [_, need_booleans, need_integers, need_reals, need_texts] = needed;
        let booleans = if need_booleans {
            rest.run_lengths("boolean", booleans)?
        } else {
            rest.section("boolean")?;
            Vec::new()
        };
        let integers = rest.numbers_if(need_integers, "integer", integers)?;
        let reals = rest.numbers_if(need_reals, "real", reals)?;
        let lengths: Vec<u32> = rest.numbers_if(need_texts, "length", texts)?;
        let heap = rest.section("heap")?;
        let starts = starts(&lengths);
        if need_texts && starts.last() != Some(&heap.len()) {
            return Err(damaged("heap", format!("has {} bytes, but the lengths say otherwise", heap.len())));
        }
        Ok(Self { places, booleans, integers, reals, starts, heap })
    }

    /// The wanted values, in order.
    fn each(&self) -> impl Iterator<Item = Result<ValueRef<'_>, ColumnError>> {
        self.places.iter().map(|&(tag, place)| match tag {
            Tag::Missing => Ok(ValueRef::Missing),
            Tag::Boolean => match self.booleans[place] {
                value @ 0..=1 => Ok(ValueRef::Boolean(value == 1)),
                _ => Err(damaged("boolean", "has a value that is neither 0 nor 1")),
            },
            Tag::Integer => Ok(ValueRef::Integer(self.integers[place])),
            Tag::Real => Ok(ValueRef::Real(self.reals[place])),
            Tag::Text => std::str::from_utf8(self.in_heap(place))
                .map(ValueRef::Text)
                .map_err(|_| damaged("heap", "has a text that is not UTF-8")),
            Tag::Blob => Ok(ValueRef::Blob(self.in_heap(place))),
        })
    }

    fn in_heap(&self, place: usize) -> &'a [u8] {
        &self.heap[self.starts[place]..self.starts[place + 1]]
    }
}

/// Sums of the lengths before each, and of all of them. A block has few of them, so no sum overflows.
fn starts(lengths: &[u32]) -> Vec<usize> {
    let mut end = 0_usize;
    let mut starts = Vec::with_capacity(lengths.len() + 1);
    starts.push(0);
    for &length in lengths {
        end += length as usize;
        starts.push(end);
    }
    starts
}
