//! Readings as columns: the one form in which they travel from source to log, lane and journal.
//!
//! A number, boolean or integer is one 64-bit word; texts and blobs lie in a heap, and their word
//! holds offset and length. So a column is read and written in bulk, and a reading costs no
//! allocation of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{PointNumber, PointPath, Sequence};

/// Marks a point that has no number yet: the rest is an index into the list of new points that goes
/// with the columns. The committer puts the number in its place.
const PENDING: u32 = 1 << 31;

impl PointNumber {
    /// Stands for the new point at this index until the committer has numbered it.
    pub fn pending(index: usize) -> Self {
        assert!(index < PENDING as usize, "a record has fewer than 2^31 new points");
        Self(PENDING | index as u32)
    }

    /// The index among the new points, or `None` where the number is a real one.
    pub fn pending_index(self) -> Option<usize> {
        (self.0 & PENDING != 0).then_some((self.0 & !PENDING) as usize)
    }
}

/// A point that appears for the first time with the columns that it goes with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewPoint {
    pub path: PointPath,
    /// Its unit, where its source names one: a UCUM code.
    pub unit: Option<Arc<str>>,
}

/// The trust in a reading; the severities of OPC UA's status codes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Quality {
    /// The source vouches for the value.
    #[default]
    Good = 0,
    /// The source is unsure.
    Uncertain = 1,
    /// Not to be used; the value may be missing.
    Bad = 2,
}

impl Quality {
    /// Its name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain => "uncertain",
            Self::Bad => "bad",
        }
    }

    /// From its number in records and blocks.
    pub fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Good),
            1 => Some(Self::Uncertain),
            2 => Some(Self::Bad),
            _ => None,
        }
    }
}

/// The type of one value, by its number in records and blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Tag {
    /// No value; only with quality `bad`.
    Missing = 0,
    /// `true` or `false`.
    Boolean = 1,
    /// A 64-bit signed integer.
    Integer = 2,
    /// A 64-bit IEEE 754 number.
    Real = 3,
    Text = 4,
    Blob = 5,
}

impl Tag {
    /// From its number in records and blocks.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Missing,
            1 => Self::Boolean,
            2 => Self::Integer,
            3 => Self::Real,
            4 => Self::Text,
            5 => Self::Blob,
            _ => return None,
        })
    }

    /// Its name in manifests and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "nothing",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
            Self::Blob => "blob",
        }
    }

    /// Whether the value lies in the heap.
    pub fn in_heap(self) -> bool {
        matches!(self, Self::Text | Self::Blob)
    }
}

/// One value, borrowed from its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// No value; only with quality `bad`.
    Missing,
    /// `true` or `false`.
    Boolean(bool),
    /// A 64-bit signed integer.
    Integer(i64),
    /// A 64-bit IEEE 754 number.
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl ValueRef<'_> {
    pub fn tag(&self) -> Tag {
        match self {
            Self::Missing => Tag::Missing,
            Self::Boolean(_) => Tag::Boolean,
            Self::Integer(_) => Tag::Integer,
            Self::Real(_) => Tag::Real,
            Self::Text(_) => Tag::Text,
            Self::Blob(_) => Tag::Blob,
        }
    }
}

/// One value on its own. Reals are compared by their bits, so that each NaN equals itself.
///
/// **Format**: stands in the log, in dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Value {
    /// No value; only with quality `bad`.
    Missing,
    /// `true` or `false`.
    Boolean(bool),
    /// A 64-bit signed integer.
    Integer(i64),
    /// A 64-bit IEEE 754 number.
    Real(f64),
    Text(Box<str>),
    Blob(Box<[u8]>),
}

impl Value {
    /// Bytes that a text or blob has; others have none besides the value itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Blob(blob) => blob.len(),
            Self::Missing | Self::Boolean(_) | Self::Integer(_) | Self::Real(_) => 0,
        }
    }

    /// Borrows it, as a column would.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Missing => ValueRef::Missing,
            Self::Boolean(value) => ValueRef::Boolean(*value),
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Missing => Self::Missing,
            ValueRef::Boolean(value) => Self::Boolean(value),
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::Text(text) => Self::Text(text.into()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.into()),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self.as_ref(), other.as_ref()) {
            (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}

impl Eq for Value {}

/// The name of a real that JSON lacks, as it stands there in its place.
pub fn not_finite(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("Infinity")
    } else if value == f64::NEG_INFINITY {
        Some("-Infinity")
    } else {
        None
    }
}

/// The progress of a stream of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The lines that are dealt with.
    pub lines: u64,
    /// The readings in them.
    pub taken: u64,
    /// The bad ones among them.
    pub refused: u64,
    /// The first bytes of the SHA-256 of the last of them: a source that begins anew is known by it.
    pub mark: [u8; 8],
}

/// The place up to which something is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Readings, by the sequence of the journal.
    pub readings: Sequence,
    /// Changes of alarms, by their count.
    pub alarms: u64,
}

/// The types of a column's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// All of one type, which is the usual case.
    Same(Tag),
    /// One for each reading.
    Each(Vec<Tag>),
}

/// Readings, column by column, in the order in which they were recorded. All columns have the same length.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// The point of each reading.
    pub points: Vec<PointNumber>,
    /// The time of each at its source.
    pub at: Vec<Timestamp>,
    /// `None`: all are good.
    pub quality: Option<Vec<Quality>>,
    /// The type of each value.
    pub tags: Tags,
    /// The values: 0 or 1, the integer's or the real's bits, or `offset << 32 | length` into `heap`.
    pub words: Vec<u64>,
    /// The bytes of texts and blobs.
    pub heap: Vec<u8>,
}

impl Default for Columns {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Columns {
    /// Empty columns with room for this many readings.
    pub fn with_capacity(readings: usize) -> Self {
        Self {
            points: Vec::with_capacity(readings),
            at: Vec::with_capacity(readings),
            quality: None,
            tags: Tags::Same(Tag::Real),
            words: Vec::with_capacity(readings),
            heap: Vec::new(),
        }
    }

    /// The number of readings.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Adds a reading.
    pub fn push(&mut self, point: PointNumber, at: Timestamp, quality: Quality, value: ValueRef<'_>) {
        let row = self.words.len();
        let tag = value.tag();
        match &mut self.tags {
            Tags::Same(same) if *same == tag => {}
            Tags::Same(same) if row == 0 => *same = tag,
            Tags::Same(same) => {
                let mut each = vec![*same; row];
                each.push(tag);
                self.tags = Tags::Each(each);
            }
            Tags::Each(each) => each.push(tag),
        }
        match &mut self.quality {
            Some(column) => column.push(quality),
            None if quality == Quality::Good => {}
            None => {
                let mut column = vec![Quality::Good; row];
                column.push(quality);
                self.quality = Some(column);
            }
        }
        let word = match value {
            ValueRef::Missing => 0,
            ValueRef::Boolean(value) => u64::from(value),
            ValueRef::Integer(value) => value.cast_unsigned(),
            ValueRef::Real(value) => value.to_bits(),
            ValueRef::Text(text) => self.store(text.as_bytes()),
            ValueRef::Blob(bytes) => self.store(bytes),
        };
        self.points.push(point);
        self.at.push(at);
        self.words.push(word);
    }

    fn store(&mut self, bytes: &[u8]) -> u64 {
        let offset = self.heap.len() as u64;
        // A record is bounded by the request's limit, far below 4 GiB.
        assert!(offset + (bytes.len() as u64) < 1 << 32, "the heap of one record stays below 4 GiB");
        self.heap.extend_from_slice(bytes);
        offset << 32 | bytes.len() as u64
    }

    /// The type of the value in this row.
    pub fn tag(&self, row: usize) -> Tag {
        match &self.tags {
            Tags::Same(tag) => *tag,
            Tags::Each(each) => each[row],
        }
    }

    /// The quality of the reading in this row.
    pub fn quality(&self, row: usize) -> Quality {
        self.quality.as_ref().map_or(Quality::Good, |column| column[row])
    }

    /// The value in this row.
    pub fn value(&self, row: usize) -> ValueRef<'_> {
        let word = self.words[row];
        match self.tag(row) {
            Tag::Missing => ValueRef::Missing,
            Tag::Boolean => ValueRef::Boolean(word != 0),
            Tag::Integer => ValueRef::Integer(word.cast_signed()),
            Tag::Real => ValueRef::Real(f64::from_bits(word)),
            Tag::Text => ValueRef::Text(std::str::from_utf8(self.heap_slice(word)).unwrap_or_default()),
            Tag::Blob => ValueRef::Blob(self.heap_slice(word)),
        }
    }

    fn heap_slice(&self, word: u64) -> &[u8] {
        let start = (word >> 32) as usize;
        &self.heap[start..start + (word & 0xffff_ffff) as usize]
    }

    /// Bytes of the heap that the value in this row has.
    pub fn value_bytes(&self, row: usize) -> usize {
        if self.tag(row).in_heap() { (self.words[row] & 0xffff_ffff) as usize } else { 0 }
    }

    /// Adds a row of other columns.
    pub fn push_row(&mut self, from: &Self, row: usize) {
        self.push(from.points[row], from.at[row], from.quality(row), from.value(row));
    }

    /// About how many bytes they take in memory and in a record.
    pub fn bytes(&self) -> usize {
        self.len() * 20 + self.heap.len()
    }

    /// Whether all columns have the same length and all heap words lie in the heap: holds for
    /// everything made by `push`, and is checked wherever columns are decoded.
    pub fn is_sound(&self) -> bool {
        let rows = self.words.len();
        self.points.len() == rows
            && self.at.len() == rows
            && self.quality.as_ref().is_none_or(|column| column.len() == rows)
            && match &self.tags {
                Tags::Same(_) => true,
                Tags::Each(each) => each.len() == rows,
            }
            && (!self.may_use_heap() || (0..rows).all(|row| self.is_sound_value(row)))
    }

    fn may_use_heap(&self) -> bool {
        match &self.tags {
            Tags::Same(tag) => tag.in_heap(),
            Tags::Each(_) => true,
        }
    }

    fn is_sound_value(&self, row: usize) -> bool {
        let tag = self.tag(row);
        if !tag.in_heap() {
            return true;
        }
        let (start, length) = ((self.words[row] >> 32) as usize, (self.words[row] & 0xffff_ffff) as usize);
        match self.heap.get(start..start + length) {
            Some(bytes) => tag == Tag::Blob || std::str::from_utf8(bytes).is_ok(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_give_back_what_was_pushed() {
        let rows: Vec<(u32, u64, Quality, ValueRef)> = vec![
            (1, 10, Quality::Good, ValueRef::Real(1.5)),
            (2, 11, Quality::Good, ValueRef::Integer(-7)),
            (1, 12, Quality::Bad, ValueRef::Missing),
            (3, 13, Quality::Uncertain, ValueRef::Text("on")),
            (3, 14, Quality::Good, ValueRef::Blob(&[1, 2, 3])),
            (4, 15, Quality::Good, ValueRef::Boolean(true)),
        ];
        let mut columns = Columns::default();
        for &(point, at, quality, value) in &rows {
            columns.push(PointNumber(point), Timestamp(at), quality, value);
        }
        assert!(columns.is_sound());
        for (row, &(point, at, quality, value)) in rows.iter().enumerate() {
            assert_eq!(columns.points[row], PointNumber(point));
            assert_eq!(columns.at[row], Timestamp(at));
            assert_eq!(columns.quality(row), quality);
            assert_eq!(columns.value(row), value);
        }
    }

    #[test]
    fn unsound_columns_are_found() {
        let mut columns = Columns::default();
        columns.push(PointNumber(1), Timestamp(1), Quality::Good, ValueRef::Text("abc"));
        columns.words[0] = 2 << 32 | 2;
        assert!(!columns.is_sound());
    }
}
