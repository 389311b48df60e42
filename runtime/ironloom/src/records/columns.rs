//! The columns of readings inside a record: raw little-endian, so that a record is written and read
//! in bulk.
//!
//! ```text
//! count u32 | flags u8 | point u32 × n | at u64 × n | [quality u8 × n] | tag u8 or u8 × n | word u64 × n
//! | heap length u32 | heap
//! ```
//! Flag 1: there is a quality column. Flag 2: there is a tag for each reading.

use super::{BodyError, Reader};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::{Columns, Quality, Tag, Tags};

const QUALITY: u8 = 1;
const TAGS: u8 = 2;

/// Appends the columns.
pub(crate) fn encode(columns: &Columns, out: &mut Vec<u8>) {
    let rows = columns.len();
    assert!(u32::try_from(rows).is_ok(), "a record holds fewer than 2^32 readings");
    assert!(columns.is_sound(), "no record is written that a restart would refuse to read");
    let mut flags = 0;
    if columns.quality.is_some() {
        flags |= QUALITY;
    }
    if matches!(columns.tags, Tags::Each(_)) {
        flags |= TAGS;
    }
    out.reserve(rows * 22 + columns.heap.len() + 16);
    out.extend_from_slice(&(rows as u32).to_le_bytes());
    out.push(flags);
    put_u32s(out, columns.points.iter().map(|point| point.0), rows);
    put_u64s(out, columns.at.iter().map(|at| at.0), rows);
    if let Some(quality) = &columns.quality {
        out.extend(quality.iter().map(|&quality| quality as u8));
    }
    match &columns.tags {
        Tags::Same(tag) => out.push(*tag as u8),
        Tags::Each(tags) => out.extend(tags.iter().map(|&tag| tag as u8)),
    }
    put_u64s(out, columns.words.iter().copied(), rows);
    out.extend_from_slice(&(columns.heap.len() as u32).to_le_bytes());
    out.extend_from_slice(&columns.heap);
}

/// The bytes that [`encode`] appends.
pub(crate) fn encoded_len(columns: &Columns) -> usize {
    let rows = columns.len();
    let quality = columns.quality.as_ref().map_or(0, Vec::len);
    let tags = match &columns.tags {
        Tags::Same(_) => 1,
        Tags::Each(tags) => tags.len(),
    };
    4 + 1 + rows * (4 + 8 + 8) + quality + tags + 4 + columns.heap.len()
}

fn put_u32s(out: &mut Vec<u8>, values: impl Iterator<Item = u32>, count: usize) {
    let start = out.len();
    out.resize(start + count * 4, 0);
    for (place, value) in out[start..].chunks_exact_mut(4).zip(values) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn put_u64s(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, count: usize) {
    let start = out.len();
    out.resize(start + count * 8, 0);
    for (place, value) in out[start..].chunks_exact_mut(8).zip(values) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// Reads the columns and checks that they are sound.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Columns, BodyError> {
    let rows = reader.u32()? as usize;
    let flags = reader.u8()?;
    if flags & !(QUALITY | TAGS) != 0 {
        return Err(BodyError("unknown flags of columns"));
    }
    let points = reader.slice(rows.checked_mul(4).ok_or(BodyError("too many rows"))?)?;
    let points =
        points.chunks_exact(4).map(|c| PointNumber(u32::from_le_bytes([c[0], c[1], c[2], c[3]]))).collect();
    let at = words(reader, rows)?.map(Timestamp).collect();
    let quality = if flags & QUALITY != 0 {
        let column = reader.slice(rows)?.iter().map(|&number| Quality::from_u8(number));
        Some(column.collect::<Option<Vec<_>>>().ok_or(BodyError("unknown quality"))?)
    } else {
        None
    };
    let tag = |number: u8| Tag::from_u8(number).ok_or(BodyError("unknown type of value"));
    let tags = if flags & TAGS != 0 {
        Tags::Each(reader.slice(rows)?.iter().map(|&number| tag(number)).collect::<Result<_, _>>()?)
    } else {
        Tags::Same(tag(reader.u8()?)?)
    };
    let words = words(reader, rows)?.collect();
    let heap = reader.u32()? as usize;
    let heap = reader.slice(heap)?.to_vec();
    let columns = Columns { points, at, quality, tags, words, heap };
    if !columns.is_sound() {
        return Err(BodyError("unsound columns"));
    }
    Ok(columns)
}

fn words<'a>(reader: &mut Reader<'a>, rows: usize) -> Result<impl Iterator<Item = u64> + use<'a>, BodyError> {
    let bytes = reader.slice(rows.checked_mul(8).ok_or(BodyError("too many rows"))?)?;
    Ok(bytes.chunks_exact(8).map(|c| u64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]])))
}
