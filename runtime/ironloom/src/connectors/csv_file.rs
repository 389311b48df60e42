//! A CSV file as records: the lines with one time, one after the other, are one record.

use std::fs::File;
use std::io::{self, Read as _};

use csv::StringRecord;
use hashbrown::HashMap;

use super::csv_config::{CellType, CsvConfig, Mapping};
use super::{Record, Sink, Status};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, PointNumber, PointPath};
use ironloom_types::limits::MAX_READING_BYTES;
use ironloom_types::readings::{NewPoint, Quality, ValueRef};

/// The most lines of one record, so that it stays far below the largest.
const MAX_LINES: usize = 4_096;

/// How far a file has come: what a receipt holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Of the file's bytes: another file under the same name begins from its start.
    pub file: Digest,
    /// Counted from 1.
    pub lap: u64,
    /// The last line that was handed over, counted from 1; 0 before the first.
    pub line: u64,
}

const RECEIPT_VERSION: u8 = 1;

impl Progress {
    /// As a receipt: version, digest, lap and line, big-endian.
    pub fn to_receipt(self) -> Vec<u8> {
        let mut bytes = vec![RECEIPT_VERSION];
        bytes.extend_from_slice(&self.file.0);
        bytes.extend_from_slice(&self.lap.to_be_bytes());
        bytes.extend_from_slice(&self.line.to_be_bytes());
        bytes
    }

    /// From a receipt; `None` where it isn't one of this version.
    pub fn from_receipt(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (file, rest) = rest.split_first_chunk::<32>()?;
        let (lap, rest) = rest.split_first_chunk::<8>()?;
        let line: [u8; 8] = rest.try_into().ok()?;
        (*version == RECEIPT_VERSION).then_some(Self {
            file: Digest(*file),
            lap: u64::from_be_bytes(*lap),
            line: u64::from_be_bytes(line),
        })
    }
}

/// The digest of a file's bytes.
pub fn digest(path: &std::path::Path) -> io::Result<Digest> {
    use sha2::Digest as _;
    let mut file = File::open(path)?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// One lap through the file.
pub struct Lap<'c> {
    config: &'c CsvConfig,
    reader: csv::Reader<File>,
    columns: HashMap<String, usize>,
    at: usize,
    /// The column of each mapping.
    cells: Vec<usize>,
    lap: u64,
    lap_text: String,
    /// Added to the times.
    shift: u64,
    /// The first line of the next record.
    ahead: Option<(Timestamp, u64, StringRecord)>,
}

impl<'c> Lap<'c> {
    /// Opens the file for the lap, after this line of it.
    pub fn open(config: &'c CsvConfig, lap: u64, after: u64, status: &Status) -> Result<Self, String> {
        let file = File::open(&config.path).map_err(|error| format!("{}: {error}", config.path.display()))?;
        let mut reader = csv::ReaderBuilder::new().from_reader(file);
        let header = reader.headers().map_err(|error| format!("{}: {error}", config.path.display()))?;
        let columns: HashMap<String, usize> =
            header.iter().enumerate().map(|(index, name)| (name.to_owned(), index)).collect();
        let find = |name: &str| {
            let all: Vec<&str> = header.iter().collect();
            let found = columns.get(name).copied();
            let path = config.path.display();
            found.ok_or_else(|| format!("{path} has no column {name:?}; it has {}", all.join(", ")))
        };
        let at = find(&config.at)?;
        let cells = config.mappings.iter().map(|mapping| find(&mapping.column)).collect::<Result<_, _>>()?;
        for name in config.mappings.iter().flat_map(|mapping| mapping.point.names()) {
            if name != LAP {
                find(name)?;
            }
        }
        let shift = config.shift.0.saturating_mul(lap - 1);
        let mut all =
            Self { config, reader, columns, at, cells, lap, lap_text: lap.to_string(), shift, ahead: None };
        loop {
            all.ahead = all.line(status);
            if all.ahead.as_ref().is_none_or(|(_, line, _)| *line > after) {
                return Ok(all);
            }
        }
    }

    /// The next line that has a time. Others are told and passed over.
    fn line(&mut self, status: &Status) -> Option<(Timestamp, u64, StringRecord)> {
        loop {
            let mut row = StringRecord::new();
            match self.reader.read_record(&mut row) {
                Ok(false) => return None,
                Ok(true) => {
                    let line = row.position().map_or(0, csv::Position::line);
                    let text = row.get(self.at).unwrap_or_default();
                    match parse_time(text) {
                        Some(at) => return Some((at.plus(self.shift), line, row)),
                        None => status.noticed(format!("line {line}: {text:?} is no time; passed over")),
                    }
                }
                Err(error) if error.is_io_error() => {
                    status.noticed(error.to_string());
                    return None;
                }
                Err(error) => status.noticed(format!("{error}; passed over")),
            }
        }
    }

    /// The time of the next record.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.ahead.as_ref().map(|(at, ..)| *at)
    }

    /// The next record, with the receipt that goes with it.
    pub fn record(&mut self, file: Digest, sink: &dyn Sink, status: &Status) -> Option<Record> {
        let at = self.next_at()?;
        let mut record = Record::default();
        let mut pending = HashMap::new();
        let trusted = at <= sink.latest();
        let mut last = 0;
        for _ in 0..MAX_LINES {
            let Some((_, line, row)) = self.ahead.take_if(|(time, ..)| *time == at) else { break };
            self.add(&row, line, at, trusted, &mut record, &mut pending, (sink, status));
            last = line;
            self.ahead = self.line(status);
        }
        record.receipt = Progress { file, lap: self.lap, line: last }.to_receipt();
        Some(record)
    }

    #[expect(clippy::too_many_arguments, reason = "one line's whole surroundings, used here alone")]
    fn add(
        &self,
        row: &StringRecord,
        line: u64,
        at: Timestamp,
        trusted: bool,
        record: &mut Record,
        pending: &mut HashMap<String, PointNumber>,
        (sink, status): (&dyn Sink, &Status),
    ) {
        let mut path = String::new();
        for (mapping, cell) in self.config.mappings.iter().zip(&self.cells) {
            let text = row.get(*cell).unwrap_or_default();
            if self.config.missing.iter().any(|missing| missing == text) {
                continue;
            }
            path.clear();
            mapping.point.fill(&mut path, |name| {
                if name == LAP { Some(&self.lap_text) } else { row.get(*self.columns.get(name)?) }
            });
            let number = match sink.point(&path).or_else(|| pending.get(&path).copied()) {
                Some(number) => number,
                None => match new_point(&path, mapping) {
                    Ok(point) => {
                        let number = PointNumber::pending(record.new_points.len());
                        record.new_points.push(point);
                        pending.insert(path.clone(), number);
                        number
                    }
                    Err(error) => {
                        status.noticed(format!("line {line}: {error}; passed over"));
                        continue;
                    }
                },
            };
            let (value, mut quality) = match parse_cell(text, mapping.r#type) {
                Some(value) => (value, Quality::Good),
                None => {
                    let (column, kind) = (&mapping.column, mapping.r#type);
                    status.noticed(format!(
                        "line {line}, column {column}: {text:?} is no {kind:?}; taken as bad"
                    ));
                    (ValueRef::Missing, Quality::Bad)
                }
            };
            if !trusted {
                quality = quality.max(Quality::Uncertain);
                status.lowered();
            }
            record.columns.push(number, at, quality, value);
        }
    }
}

/// The name of the lap's number in templates.
const LAP: &str = "lap";

fn new_point(path: &str, mapping: &Mapping) -> Result<NewPoint, String> {
    let path = PointPath::new(path).map_err(|error| error.to_string())?;
    if path.is_reserved() {
        return Err(format!("points under `apps/` belong to the runtime: {path}"));
    }
    Ok(NewPoint { path, unit: mapping.unit.clone() })
}

/// RFC 3339, a date (its midnight in UTC), or nanoseconds since 1970.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if let Ok(nanoseconds) = text.parse::<u64>() {
        return (nanoseconds <= i64::MAX as u64).then_some(Timestamp(nanoseconds));
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    Timestamp::from_jiff(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

fn parse_cell(text: &str, r#type: CellType) -> Option<ValueRef<'_>> {
    match r#type {
        CellType::Boolean => match text {
            "true" | "TRUE" | "True" | "1" => Some(ValueRef::Boolean(true)),
            "false" | "FALSE" | "False" | "0" => Some(ValueRef::Boolean(false)),
            _ => None,
        },
        CellType::Integer => text.trim().parse().ok().map(ValueRef::Integer),
        CellType::Real => text.trim().parse().ok().map(ValueRef::Real),
        CellType::Text => (text.len() <= MAX_READING_BYTES).then_some(ValueRef::Text(text)),
    }
}
