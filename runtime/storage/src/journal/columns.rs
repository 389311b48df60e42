//! The columns of a block as bytes: each a section of its own, numbers by `pco`.
//!
//! Numbers go through `pco` at level 2, which is within a few per cent of its default level in size
//! and several times faster. Qualities and tags are run-lengths: they hardly ever change. Texts and
//! blobs lie one after the other, uncompressed: see `decisions/`.

use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec};

use super::chunk::{Chunk, Run};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, PointNumber, Sequence, TenantId};
use ironloom_types::readings::{Columns, Quality, Tag, Tags, ValueRef};

/// An error in the columns of a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its column `{column}` {problem}")]
pub struct ColumnError {
    pub column: &'static str,
    /// The problem, as the end of a sentence.
    pub problem: String,
}

pub(super) fn damaged(column: &'static str, problem: impl Into<String>) -> ColumnError {
    ColumnError { column, problem: problem.into() }
}

/// How `pco` compresses: part of the format only in so far as golden blocks have these bytes; any
/// level reads back.
fn config() -> ChunkConfig {
    ChunkConfig::default().with_compression_level(2)
}

/// Writes all columns of a chunk after what is in `out`.
pub(super) fn write(chunk: &Chunk, out: &mut Vec<u8>) -> Result<(), ColumnError> {
    let columns = &chunk.columns;
    let rows = columns.len();
    let numbers: Vec<u32> = columns.points.iter().map(|point| point.0).collect();
    write_numbers(out, "point", &numbers, DeltaSpec::Auto)?;
    let at: Vec<u64> = columns.at.iter().map(|at| at.0).collect();
    write_numbers(out, "at", &at, DeltaSpec::Auto)?;
    write_section(out, "quality", &run_lengths((0..rows).map(|row| columns.quality(row) as u8)))?;
    write_section(out, "tag", &run_lengths((0..rows).map(|row| columns.tag(row) as u8)))?;

    let (mut booleans, mut integers, mut reals) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lengths, mut heap) = (Vec::<u32>::new(), Vec::new());
    for row in 0..rows {
        match columns.value(row) {
            ValueRef::Missing => {}
            ValueRef::Boolean(value) => booleans.push(u8::from(value)),
            ValueRef::Integer(value) => integers.push(value),
            ValueRef::Real(value) => reals.push(value),
            ValueRef::Text(text) => {
                lengths.push(text.len() as u32);
                heap.extend_from_slice(text.as_bytes());
            }
            ValueRef::Blob(bytes) => {
                lengths.push(bytes.len() as u32);
                heap.extend_from_slice(bytes);
            }
        }
    }
    write_section(out, "boolean", &run_lengths(booleans.into_iter()))?;
    write_numbers(out, "integer", &integers, DeltaSpec::Auto)?;
    write_numbers(out, "real", &reals, DeltaSpec::Auto)?;
    write_numbers(out, "length", &lengths, DeltaSpec::Auto)?;
    write_section(out, "heap", &heap)?;

    let mut start = 0;
    let (mut spans, mut times, mut hops, mut origins) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in &chunk.runs {
        spans.push(run.end - start);
        start = run.end;
        times.push(run.time.0);
        hops.push(run.hops);
        origins.push(run.origin.0);
    }
    write_numbers(out, "run", &spans, DeltaSpec::Auto)?;
    write_numbers(out, "time", &times, DeltaSpec::Auto)?;
    write_section(out, "hops", &run_lengths(hops.into_iter()))?;
    write_numbers(out, "origin", &origins, DeltaSpec::Auto)
}

/// Reads what [`write`] wrote, exactly `rows` readings and all of `bytes`.
pub(super) fn read(
    bytes: &[u8],
    tenant: TenantId,
    first_sequence: Sequence,
    rows: usize,
) -> Result<Chunk, ColumnError> {
    let mut rest = Sections { bytes };
    let points: Vec<u32> = rest.numbers("point", rows)?;
    let at: Vec<u64> = rest.numbers("at", rows)?;
    let qualities = rest.run_lengths("quality", rows)?;
    let tags = rest.run_lengths("tag", rows)?;

    let quality = if qualities.iter().all(|&quality| quality == 0) {
        None
    } else {
        Some(each(&qualities, "quality", Quality::from_u8)?)
    };
    let tags = each(&tags, "tag", Tag::from_u8)?;
    let count = |wanted: &[Tag]| tags.iter().filter(|tag| wanted.contains(tag)).count();
    let booleans = rest.run_lengths("boolean", count(&[Tag::Boolean]))?;
    if booleans.iter().any(|&value| value > 1) {
        return Err(damaged("boolean", "has a value that is neither 0 nor 1"));
    }
    let integers: Vec<i64> = rest.numbers("integer", count(&[Tag::Integer]))?;
    let reals: Vec<f64> = rest.numbers("real", count(&[Tag::Real]))?;
    let lengths: Vec<u32> = rest.numbers("length", count(&[Tag::Text, Tag::Blob]))?;
    let heap = rest.section("heap")?.to_vec();
    let words = words(&tags, &booleans, &integers, &reals, &lengths, heap.len())?;
    let runs = rest.runs(rows)?;
    if !rest.bytes.is_empty() {
        return Err(damaged("origin", format!("is followed by {} bytes too many", rest.bytes.len())));
    }

    let tags = match tags.first() {
        Some(&first) if tags.iter().all(|&tag| tag == first) => Tags::Same(first),
        Some(_) => Tags::Each(tags),
        None => Tags::Same(Tag::Real),
    };
    let points = points.into_iter().map(PointNumber).collect();
    let at = at.into_iter().map(Timestamp).collect();
    let columns = Columns { points, at, quality, tags, words, heap };
    let chunk = Chunk { tenant, first_sequence, columns, runs };
    if chunk.is_sound() {
        Ok(chunk)
    } else {
        Err(damaged("heap", "has a text that is not UTF-8, or time goes back"))
    }
}

fn words(
    tags: &[Tag],
    booleans: &[u8],
    integers: &[i64],
    reals: &[f64],
    lengths: &[u32],
    heap: usize,
) -> Result<Vec<u64>, ColumnError> {
    let (mut booleans, mut integers) = (booleans.iter(), integers.iter());
    let (mut reals, mut lengths) = (reals.iter(), lengths.iter());
    let mut offset = 0_u64;
    let mut words = Vec::with_capacity(tags.len());
    for tag in tags {
        // Each column was read with as many values as there are tags of its type.
        let word = match tag {
            Tag::Missing => Some(0),
            Tag::Boolean => booleans.next().map(|&value| u64::from(value)),
            Tag::Integer => integers.next().map(|value| value.cast_unsigned()),
            Tag::Real => reals.next().map(|value| value.to_bits()),
            Tag::Text | Tag::Blob => lengths.next().map(|&length| {
                let start = offset;
                offset += u64::from(length);
                start << 32 | u64::from(length)
            }),
        };
        words.push(word.ok_or_else(|| damaged("tag", "names more values than there are"))?);
        if offset > heap as u64 {
            break;
        }
    }
    if offset != heap as u64 {
        let problem = format!("has {heap} bytes, but the lengths say otherwise");
        return Err(damaged("heap", problem));
    }
    Ok(words)
}

fn each<T>(bytes: &[u8], column: &'static str, from: fn(u8) -> Option<T>) -> Result<Vec<T>, ColumnError> {
    bytes
        .iter()
        .map(|&byte| from(byte).ok_or_else(|| damaged(column, format!("has the unknown value {byte}"))))
        .collect()
}

fn write_section(out: &mut Vec<u8>, column: &'static str, bytes: &[u8]) -> Result<(), ColumnError> {
    let length = u32::try_from(bytes.len())
        .map_err(|_| damaged(column, format!("would have {} bytes", bytes.len())))?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Numbers as a section; nothing where there are none.
pub(super) fn write_numbers<T: pco::data_types::Number>(
    out: &mut Vec<u8>,
    column: &'static str,
    numbers: &[T],
    delta: DeltaSpec,
) -> Result<(), ColumnError> {
    if numbers.is_empty() {
        return write_section(out, column, &[]);
    }
    let bytes = simple_compress(numbers, &config().with_delta_spec(delta))
        .map_err(|error| damaged(column, format!("can't be compressed: {error}")))?;
    write_section(out, column, &bytes)
}

/// Pairs of a byte and how often it comes (u32) in a row.
fn run_lengths(values: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut run: Option<(u8, u32)> = None;
    let mut flush = |run: (u8, u32)| {
        out.push(run.0);
        out.extend_from_slice(&run.1.to_le_bytes());
    };
    for value in values {
        run = Some(match run {
            Some((same, length)) if same == value => (same, length + 1),
            Some(other) => {
                flush(other);
                (value, 1)
            }
            None => (value, 1),
        });
    }
    if let Some(last) = run {
        flush(last);
    }
    out
}

/// The sections that are still to be read.
pub(super) struct Sections<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Sections<'a> {
    pub(super) fn section(&mut self, column: &'static str) -> Result<&'a [u8], ColumnError> {
        let (length, rest) = self
            .bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| damaged(column, "is missing: the bytes end before it"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > rest.len() {
            return Err(damaged(
                column,
                format!("should have {length} bytes, but only {} are left", rest.len()),
            ));
        }
        let (section, rest) = rest.split_at(length);
        self.bytes = rest;
        Ok(section)
    }

    /// Exactly `count` numbers; never more memory than they take, whatever the bytes say.
    pub(super) fn numbers<T: pco::data_types::Number + Default>(
        &mut self,
        column: &'static str,
        count: usize,
    ) -> Result<Vec<T>, ColumnError> {
        let section = self.section(column)?;
        let mut numbers = vec![T::default(); count];
        if count == 0 {
            return if section.is_empty() { Ok(numbers) } else { Err(damaged(column, "should be empty")) };
        }
        let progress = simple_decompress_into(section, &mut numbers)
            .map_err(|error| damaged(column, format!("can't be decompressed: {error}")))?;
        if progress.n_processed != count || !progress.finished {
            return Err(damaged(column, format!("has not exactly {count} values")));
        }
        Ok(numbers)
    }

    /// The same where they are needed; passes them by where they aren't.
    pub(super) fn numbers_if<T: pco::data_types::Number + Default>(
        &mut self,
        are_needed: bool,
        column: &'static str,
        count: usize,
    ) -> Result<Vec<T>, ColumnError> {
        if are_needed { self.numbers(column, count) } else { self.section(column).map(|_| Vec::new()) }
    }

    pub(super) fn run_lengths(&mut self, column: &'static str, count: usize) -> Result<Vec<u8>, ColumnError> {
        let section = self.section(column)?;
        let mut values = Vec::with_capacity(count);
        let (runs, odd) = section.as_chunks::<5>();
        if !odd.is_empty() {
            return Err(damaged(column, format!("has {} bytes too many", odd.len())));
        }
        for &[value, a, b, c, d] in runs {
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            if length > count - values.len() {
                return Err(damaged(column, format!("has more than {count} values")));
            }
            values.resize(values.len() + length, value);
        }
        if values.len() < count {
            return Err(damaged(column, format!("has {} values instead of {count}", values.len())));
        }
        Ok(values)
    }

    /// The runs, which together cover all rows.
    pub(super) fn runs(&mut self, rows: usize) -> Result<Vec<Run>, ColumnError> {
        // Their number is the one thing that nothing before them says: each covers a row at least.
        let section = self.section("run")?;
        let mut spans = vec![0_u32; rows];
        let progress = if section.is_empty() {
            0
        } else {
            let progress = simple_decompress_into(section, &mut spans)
                .map_err(|error| damaged("run", format!("can't be decompressed: {error}")))?;
            if !progress.finished {
                return Err(damaged("run", "has more runs than there are readings"));
            }
            progress.n_processed
        };
        spans.truncate(progress);
        let times: Vec<u64> = self.numbers("time", spans.len())?;
        let hops = self.run_lengths("hops", spans.len())?;
        let origins: Vec<u64> = self.numbers("origin", spans.len())?;
        let mut runs = Vec::with_capacity(spans.len());
        let mut end = 0_u32;
        for (index, &span) in spans.iter().enumerate() {
            end = end.checked_add(span).ok_or_else(|| damaged("run", "covers more than 2^32 readings"))?;
            let (time, origin) = (Timestamp(times[index]), Generation(origins[index]));
            runs.push(Run { end, time, hops: hops[index], origin });
        }
        if end as usize != rows {
            return Err(damaged("run", format!("covers {end} readings instead of {rows}")));
        }
        Ok(runs)
    }
}
