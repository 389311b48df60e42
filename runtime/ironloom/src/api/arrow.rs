//! Reads pushed readings out of an Arrow IPC stream (`application/vnd.apache.arrow.stream`) into columns.
//!
//! The metadata of the messages are flatbuffers, which `arrow-ipc` verifies and reads. The columns are read where they
//! lie: the crate's own reader takes bodies for sound and panics where a buffer lies outside of its message, makes arrays
//! of what is only announced, and checks each name for UTF-8 that is looked up once.

mod columns;
mod messages;
mod schema;
#[cfg(test)]
mod tests;

use self::columns::{Fault, Ints, Nullable, Parts, TextColumn, ValueColumn, text};
pub(crate) use self::messages::Stream;
use self::messages::{Part, ROW_BYTES, Record, not_arrow};
use self::schema::{Column, Dictionary, Names, Qualities, Times};
use hashbrown::HashMap;

use super::explain;
use super::facade::{Detail, IngestRules, Place};
use super::intake::{Given, Intake, Mode, Parsed};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{MAX_PATH_BYTES, PointNumber};
use ironloom_types::readings::{Quality, ValueRef};

/// The result for a body that is no stream, or whose schema is not one of readings: its problems.
pub(crate) fn refused(problems: Vec<Detail>) -> Parsed {
    Parsed::unusable(problems)
}

/// Reads the readings of a stream; `lookups` as [`Intake`] has them.
pub(crate) fn read<L: Fn(&str) -> Option<PointNumber>>(
    stream: &Stream,
    rules: IngestRules,
    lookups: impl Fn() -> L,
    mode: Mode,
) -> Parsed {
    let mut reader = Reader {
        stream,
        intake: Intake::new(rules, lookups, mode, stream.rows),
        points: Entries::default(),
        qualities: Entries::default(),
        batch: 0,
    };
    if let Err(detail) = reader.parts() {
        reader.intake.refuse(detail);
    }
    reader.intake.parsed
}

/// The bytes of values of a batch that several rows may have in common, so that they are more than the body has. What
/// can't be read has none, and is refused when it is read.
fn viewed(columns: &[Column], record: Record<'_>) -> usize {
    let batch = Batch::of(columns, record).ok();
    batch.and_then(|batch| Some(batch.values?.viewed(record.rows))).unwrap_or(0)
}

struct Reader<'a, F, L> {
    stream: &'a Stream,
    intake: Intake<F, L>,
    points: Entries<'a, PointNumber>,
    qualities: Entries<'a, Quality>,
    /// The number of the batch at hand, from 1 on.
    batch: u64,
}

/// The most bytes of the name of a quality: more than any has.
const MAX_QUALITY_BYTES: usize = 16;
/// Entries of a dictionary that are remembered as bad, each with its error. Others are looked at for each row: an entry
/// is short.
const MOST_BAD: usize = 256;

/// The entries of a dictionary, and what those that a row had stand for.
struct Entries<'a, T> {
    texts: Vec<Option<&'a [u8]>>,
    known: Vec<Option<T>>,
    bad: HashMap<usize, Box<Detail>>,
}

impl<T> Default for Entries<'_, T> {
    fn default() -> Self {
        Self { texts: Vec::new(), known: Vec::new(), bad: HashMap::new() }
    }
}

impl<'a, T: Copy> Entries<'a, T> {
    fn put(&mut self, is_delta: bool, dictionary: Dictionary, record: Record<'a>) -> Result<(), Fault> {
        if !is_delta {
            *self = Self::default();
        }
        let mut texts = Parts::of(record).texts(dictionary.texts, record.rows)?;
        for row in 0..record.rows {
            self.texts.push(texts.bytes(row)?);
        }
        self.known.resize(self.texts.len(), None);
        Ok(())
    }

    /// The name of this key's entry, or what is wrong with it: found once for all rows that have it.
    fn get(
        &mut self,
        key: i128,
        find: impl FnOnce(Option<&'a [u8]>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let outside = Fault::Broken("a key is not among the entries of its dictionary");
        let index = usize::try_from(key).ok().filter(|index| *index < self.texts.len()).ok_or(outside)?;
        if let Some(known) = self.known[index] {
            return Ok(known);
        }
        if let Some(detail) = self.bad.get(&index) {
            return Err(Fault::Row(detail.clone()));
        }
        let found = find(self.texts[index]);
        match &found {
            Ok(found) => self.known[index] = Some(*found),
            Err(Fault::Row(detail)) if self.bad.len() < MOST_BAD => {
                self.bad.insert(index, detail.clone());
            }
            Err(_) => {}
        }
        found
    }
}

/// Texts of a batch, plain or by keys.
enum NameColumn<'a> {
    Plain(TextColumn<'a>),
    Keys(Nullable<'a, Ints<'a>>),
}

impl<'a> NameColumn<'a> {
    fn of(names: Names, parts: &mut Parts<'a>, rows: usize) -> Result<Self, Fault> {
        Ok(match names {
            Names::Plain(width) => Self::Plain(parts.texts(width, rows)?),
            Names::Dictionary(dictionary) => Self::Keys(parts.ints(dictionary.keys, rows)?),
        })
    }

    fn get<T: Copy>(
        &mut self,
        row: usize,
        entries: &mut Entries<'a, T>,
        find: impl FnOnce(Option<&'a [u8]>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        match self {
            Self::Plain(texts) => find(texts.bytes(row)?),
            Self::Keys(keys) => match keys.int(row) {
                Some(key) => entries.get(key, find),
                None => find(None),
            },
        }
    }
}

enum QualityColumn<'a> {
    Good,
    Numbers(Nullable<'a, Ints<'a>>),
    Names(NameColumn<'a>),
}

/// The columns of one batch.
struct Batch<'a> {
    points: Option<NameColumn<'a>>,
    values: Option<ValueColumn<'a>>,
    at: Option<(Nullable<'a, Ints<'a>>, i64)>,
    quality: QualityColumn<'a>,
}

impl<'a> Batch<'a> {
    fn of(columns: &'a [Column], record: Record<'a>) -> Result<Self, Fault> {
        let (rows, mut parts) = (record.rows, Parts::of(record));
        let mut batch = Self { points: None, values: None, at: None, quality: QualityColumn::Good };
        for column in columns {
            match column {
                Column::Point(names) => batch.points = Some(NameColumn::of(*names, &mut parts, rows)?),
                Column::Value(values) => batch.values = Some(parts.values(values, rows)?),
                Column::At(Times::Every(unit)) => batch.at = Some((parts.ints(schema::NUMBER, rows)?, *unit)),
                Column::Quality(Qualities::Number) => {
                    batch.quality = QualityColumn::Numbers(parts.ints(schema::BYTE, rows)?);
                }
                Column::Quality(Qualities::Name(names)) => {
                    batch.quality = QualityColumn::Names(NameColumn::of(*names, &mut parts, rows)?);
                }
                Column::At(Times::Null) | Column::Quality(Qualities::Null) => parts.nulls(rows)?,
            }
        }
        Ok(batch)
    }

    fn time(&self, row: usize) -> Result<Option<Timestamp>, Fault> {
        let Some((column, unit)) = &self.at else { return Ok(None) };
        let Some(at) = column.int(row) else { return Ok(None) };
        let at = i64::try_from(at * i128::from(*unit)).ok().and_then(|at| u64::try_from(at).ok());
        match at {
            Some(at) => Ok(Some(Timestamp(at))),
            None => Err(row_fault("bad-time", "`at` is before 1970 or after 2262", "at")),
        }
    }

    fn quality(&mut self, row: usize, entries: &mut Entries<'a, Quality>) -> Result<Quality, Fault> {
        let named = |bytes: Option<&'a [u8]>| {
            let Some(bytes) = bytes else { return Ok(Quality::Good) };
            if bytes.len() > MAX_QUALITY_BYTES {
                return Err(bad_quality(&format!("a text of {} bytes", bytes.len())));
            }
            let name = text(bytes, "quality")?;
            let all = [Quality::Good, Quality::Uncertain, Quality::Bad];
            all.into_iter()
                .find(|quality| quality.name() == name)
                .ok_or_else(|| bad_quality(&format!("{name:?}")))
        };
        match &mut self.quality {
            QualityColumn::Good => Ok(Quality::Good),
            QualityColumn::Names(names) => names.get(row, entries, named),
            QualityColumn::Numbers(numbers) => match numbers.int(row) {
                Some(number) => u8::try_from(number)
                    .ok()
                    .and_then(Quality::from_u8)
                    .ok_or_else(|| bad_quality(&format!("the number {number}"))),
                None => Ok(Quality::Good),
            },
        }
    }
}

fn bad_quality(given: &str) -> Fault {
    let detail = format!("`quality` must be `good`, `uncertain` or `bad`, or 0, 1 or 2, not {given}");
    row_fault("bad-quality", &detail, "quality")
}

fn row_fault(kind: &str, detail: &str, field: &str) -> Fault {
    Fault::Row(explain::detail_of(kind, detail, Place::field(field)).into())
}

impl<'a, F: Fn() -> L, L: Fn(&str) -> Option<PointNumber>> Reader<'a, F, L> {
    fn parts(&mut self) -> Result<(), Detail> {
        for part in self.stream.parts() {
            let done = match part? {
                Part::Dictionary { id, is_delta, texts } => {
                    self.dictionary(id, is_delta, texts).map(|()| true)
                }
                Part::Batch(record) => {
                    self.batch += 1;
                    self.batch(record)
                }
            };
            match done {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Fault::Row(detail)) => return Err(*detail),
                Err(Fault::Broken(reason)) => {
                    let batch = Some(self.batch).filter(|batch| *batch > 0);
                    let place = Place { batch, ..Place::default() };
                    return Err(Detail { place: Some(place), ..not_arrow(reason.to_owned()) });
                }
            }
        }
        Ok(())
    }

    /// Takes a dictionary, or more entries of it. One that no column has is passed over.
    fn dictionary(&mut self, id: i64, is_delta: bool, record: Record<'a>) -> Result<(), Fault> {
        for column in &self.stream.schema.columns {
            match column {
                Column::Point(Names::Dictionary(dictionary)) if dictionary.id == id => {
                    self.points.put(is_delta, *dictionary, record)?;
                }
                Column::Quality(Qualities::Name(Names::Dictionary(dictionary))) if dictionary.id == id => {
                    self.qualities.put(is_delta, *dictionary, record)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the rows of a batch; `false` where it is no use to go on.
    fn batch(&mut self, record: Record<'a>) -> Result<bool, Fault> {
        let mut batch = Batch::of(&self.stream.schema.columns, record)?;
        for row in 0..record.rows {
            self.intake.begin(ROW_BYTES);
            match self.row(&mut batch, row) {
                Ok(()) => {}
                Err(Fault::Row(detail)) => {
                    let (batch, row) = (Some(self.batch), Some(row as u64 + 1));
                    if !self.intake.bad(|| Place { batch, row, ..Place::default() }, || *detail) {
                        return Ok(false);
                    }
                }
                Err(broken) => return Err(broken),
            }
        }
        Ok(true)
    }

    fn row(&mut self, batch: &mut Batch<'a>, row: usize) -> Result<(), Fault> {
        let value = batch.values.as_mut().map_or(Ok(ValueRef::Missing), |values| values.value(row))?;
        let length = match value {
            ValueRef::Text(text) => text.len(),
            ValueRef::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        if length > 0 && self.intake.parsed.columns.heap.len() > self.stream.text_bytes() {
            return Err(Fault::Broken("its columns have the same texts in common"));
        }
        self.intake.look(length);
        let quality = batch.quality(row, &mut self.qualities)?;
        let given = Given { value, at: batch.time(row)?, quality };
        let (points, most) = (&mut self.points, self.stream.body_bytes());
        self.intake.take(given, |intake| {
            let find = |bytes: Option<&[u8]>| match bytes {
                Some(bytes) if bytes.len() > MAX_PATH_BYTES => {
                    let detail =
                        format!("a point may have {MAX_PATH_BYTES} bytes, and this one has {}", bytes.len());
                    Err(row_fault("bad-point", &detail, "point"))
                }
                Some(bytes) => {
                    intake.look(bytes.len());
                    let number = intake.number(text(bytes, "point")?)?;
                    // As views may; others name each byte of the body once.
                    if intake.new_bytes > most {
                        return Err(Fault::Broken("its points have the same texts in common"));
                    }
                    Ok(number)
                }
                None => Err(row_fault("missing-field", "`point` is null", "point")),
            };
            match &mut batch.points {
                Some(names) => names.get(row, points, find),
                None => Err(Fault::Broken("it has no points")),
            }
        })
    }
}
