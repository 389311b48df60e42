//! A CSV file as records: the lines with one time, one after the other, are one record.

use std::io;
use std::sync::Arc;

use csv::StringRecord;
use hashbrown::HashMap;
use sha2::Sha256;

use super::cells::LineTime;
use super::config::{CsvConfig, Mapping};
use super::error::FileError;
use super::tail::Seen;
use super::tracked::{Progress, Tracked};
use crate::connectors::{KnownPoint, Record, Sink, Status};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, PointPath};
use ironloom_types::readings::{NewPoint, Quality, ValueRef};
use ironloom_types::text::shorten;

/// The most lines of one record.
const MAX_LINES: usize = 4_096;
/// Bytes of a record after which no further line is added to it: far below the largest that the log
/// takes, whatever one more line adds.
const ENOUGH_BYTES: usize = 1 << 20;
/// Bytes that a new point adds to a record, at most.
const POINT_BYTES: usize = 512;

/// A line with a time.
struct Line {
    at: Timestamp,
    /// Whether the time is the line's own.
    trusted: bool,
    row: StringRecord,
    number: u64,
    /// Where it begins, if it has no line feed.
    unended: Option<u64>,
    /// The place at which the next line begins.
    end: csv::Position,
}

/// One lap through the file.
pub(super) struct Lap {
    config: Arc<CsvConfig>,
    reader: csv::Reader<Tracked>,
    columns: HashMap<String, usize>,
    at: usize,
    /// The column of each mapping.
    cells: Vec<usize>,
    lap: u64,
    lap_text: String,
    /// Added to the times.
    shift: u64,
    /// The first line of the next record.
    ahead: Option<Line>,
    /// The number of the first line that was not handed over.
    next_line: u64,
    /// The length up to which the file is known to be whole, even where its last line has no line feed.
    settled: Option<u64>,
    /// The file ends in a line without a line feed that may still be written.
    unfinished: Option<Seen>,
    /// Whether there was a line below the header.
    has_lines: bool,
    /// Points whose unit was looked at, and whether it is the column's.
    units: HashMap<PointNumber, bool>,
    /// The reason why there is no line ahead, if it isn't the end.
    failure: Option<FileError>,
}

impl Lap {
    /// Opens the file where `progress` has come to; `hash` is the one over all before. A last line without
    /// a line feed is taken only where it ends at the `settled` length.
    pub(super) fn open(
        config: &Arc<CsvConfig>,
        progress: Progress,
        hash: Sha256,
        settled: Option<u64>,
        status: &Status,
    ) -> Result<Self, FileError> {
        let path = config.path.display();
        let failed = |error: io::Error| FileError::Io(format!("{path}: {error}"));
        let wrong = |error: csv::Error| match error.into_kind() {
            csv::ErrorKind::Io(error) => broken(&error),
            _ => FileError::Wrong(format!("{path}: the header line is not UTF-8")),
        };
        let tracked = Tracked::open(&config.path).map_err(failed)?;
        let mut reader = csv::ReaderBuilder::new().delimiter(config.delimiter).from_reader(tracked);
        let header = reader.headers().map_err(wrong)?.clone();
        let end = reader.position().byte();
        let is_whole = reader.get_ref().ends_line(end) || settled == Some(end);
        if header.is_empty() || !is_whole {
            return Err(FileError::Io(format!("{path} has no whole header line yet")));
        }
        let find = |name: &str| {
            column(&header, name).map_err(|problem| FileError::Wrong(format!("{path} {problem}")))
        };
        let at = find(&config.at)?;
        let cells = config.mappings.iter().map(|mapping| find(&mapping.column)).collect::<Result<_, _>>()?;
        let mut columns = HashMap::new();
        for name in config.mappings.iter().flat_map(|mapping| mapping.point.names()) {
            if name != LAP {
                columns.insert(name.to_owned(), find(name)?);
            }
        }
        if progress.offset > 0 {
            let mut place = csv::Position::new();
            place.set_byte(progress.offset).set_line(progress.line);
            reader.seek(place).map_err(wrong)?;
            reader.get_mut().go_on_from(progress.offset, hash);
        }
        let mut lap = Self {
            config: Arc::clone(config),
            reader,
            columns,
            at,
            cells,
            lap: progress.lap,
            lap_text: progress.lap.to_string(),
            shift: config.shift.0.saturating_mul(progress.lap - 1),
            ahead: None,
            next_line: progress.line,
            settled,
            unfinished: None,
            has_lines: progress.offset > 0,
            units: HashMap::new(),
            failure: None,
        };
        lap.look_ahead(status);
        Ok(lap)
    }

    /// Returns why it ended before the file did, if it did.
    pub(super) fn failure(&mut self) -> Option<FileError> {
        self.failure.take()
    }

    /// The file as far as it was read, where its last line may still be written.
    pub(super) fn unfinished(&self) -> Option<Seen> {
        self.unfinished
    }

    /// The first place that was not handed over or passed over, and the hash over all before.
    pub(super) fn place(&self) -> (Progress, Sha256) {
        self.reader.get_ref().place(self.lap, self.next_line)
    }

    /// What is wrong with a file that brings nothing.
    pub(super) fn empty(&self) -> FileError {
        let path = self.config.path.display();
        if self.has_lines {
            FileError::Wrong(format!("{path} has no line with a time"))
        } else {
            FileError::Io(format!("{path} has no line below its header yet"))
        }
    }

    /// The time of the next record.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.ahead.as_ref().map(|line| line.at)
    }

    /// Reads on to the next line with a time. Others are counted and passed over.
    fn look_ahead(&mut self, status: &Status) {
        loop {
            let mut row = StringRecord::new();
            let read = self.reader.read_record(&mut row);
            let end = self.reader.position().clone();
            let number = row.position().map_or(0, csv::Position::line);
            let begin = row.position().map_or(0, csv::Position::byte);
            let unended = (!self.reader.get_ref().ends_line(end.byte())).then_some(begin);
            let is_line = match &read {
                Ok(some) => *some,
                Err(error) => !error.is_io_error(),
            };
            self.has_lines |= is_line;
            if is_line && unended.is_some() && self.is_unfinished(end.byte()) {
                return;
            }
            let problem = match read {
                Ok(false) => return,
                Ok(true) => match self.config.times.parse(row.get(self.at).unwrap_or_default()) {
                    Ok(time) => {
                        let (at, trusted) = match time {
                            LineTime::At(at) => (at.plus(self.shift), true),
                            LineTime::TooEarly => (Timestamp(0), false),
                        };
                        self.ahead = Some(Line { at, trusted, row, number, unended, end });
                        return;
                    }
                    Err(problem) => format!("line {number}: {problem}"),
                },
                Err(error) => match error.into_kind() {
                    csv::ErrorKind::Io(error) => {
                        self.failure = Some(broken(&error));
                        return;
                    }
                    csv::ErrorKind::UnequalLengths { expected_len, len, pos } => {
                        let line = pos.map_or(number, |pos| pos.line());
                        format!("line {line}: has {len} cells, the header {expected_len}")
                    }
                    csv::ErrorKind::Utf8 { pos, .. } => {
                        format!("line {}: is not UTF-8", pos.map_or(number, |pos| pos.line()))
                    }
                    _ => "a line can't be read".to_owned(),
                },
            };
            status.skipped(format!("{problem}; skipped"));
            self.pass(&end);
        }
    }

    /// Whether the last line, which ends here without a line feed, has to wait.
    fn is_unfinished(&mut self, end: u64) -> bool {
        if self.settled == Some(end) {
            return false;
        }
        match self.reader.get_ref().seen() {
            Ok(seen) => self.unfinished = Some(Seen { length: end, ..seen }),
            Err(error) => self.failure = Some(broken(&error)),
        }
        true
    }

    /// Everything before this place was submitted or skipped.
    fn pass(&mut self, end: &csv::Position) {
        self.next_line = end.line();
        self.reader.get_mut().pass(end.byte());
    }

    /// The next record, with the receipt that goes with it. Reads the file: not on a thread that
    /// others wait for.
    pub(super) fn record(&mut self, sink: &dyn Sink, status: &Status) -> Option<Record> {
        let at = self.next_at()?;
        let mut unended = None;
        let mut making = Making { record: Record::default(), pending: HashMap::new() };
        let latest = sink.latest();
        for _ in 0..MAX_LINES {
            let same = |line: &mut Line| line.at == at;
            if making.bytes() >= ENOUGH_BYTES {
                break;
            }
            let Some(line) = self.ahead.take_if(same) else { break };
            self.add(&line, line.trusted && at <= latest, &mut making, sink, status);
            self.pass(&line.end);
            if line.unended.is_some() {
                let path = self.config.path.display();
                tracing::info!(%path, line = line.number, "the last line has no line feed; taken as it stands");
            }
            unended = line.unended;
            self.look_ahead(status);
        }
        let mut record = making.record;
        let (progress, _) = self.place();
        record.receipt = Progress { unended, ..progress }.to_receipt();
        Some(record)
    }

    fn add(&mut self, line: &Line, trusted: bool, making: &mut Making, sink: &dyn Sink, status: &Status) {
        let (row, number) = (&line.row, line.number);
        let mut path = String::new();
        for (mapping, cell) in self.config.mappings.iter().zip(&self.cells) {
            let text = row.get(*cell).unwrap_or_default();
            if self.config.missing.iter().any(|missing| missing == text.trim()) {
                continue;
            }
            path.clear();
            mapping.point.fill(&mut path, |name| {
                if name == LAP { Some(&self.lap_text) } else { row.get(*self.columns.get(name)?) }
            });
            let point = match making.point(&path, mapping, &mut self.units, sink) {
                Ok(point) => point,
                Err(problem) => {
                    let column = &mapping.column;
                    status.skipped(format!("line {number}, column {column}: {problem}; skipped"));
                    continue;
                }
            };
            let (value, mut quality) = match mapping.r#type.parse(text, self.config.decimal_comma) {
                Some(value) => (value, Quality::Good),
                None => {
                    let (column, kind, text) = (&mapping.column, mapping.r#type.name(), shorten(text, 60));
                    status.noticed(format!(
                        "line {number}, column {column}: {text:?} is not a valid {kind}; recorded as bad"
                    ));
                    (ValueRef::Missing, Quality::Bad)
                }
            };
            if !trusted {
                quality = quality.max(Quality::Uncertain);
                status.lowered();
            }
            making.record.columns.push(point, line.at, quality, value);
        }
    }
}

fn broken(error: &io::Error) -> FileError {
    // `Tracked` says so of a line without an end.
    if error.kind() == io::ErrorKind::InvalidData {
        FileError::Wrong(error.to_string())
    } else {
        FileError::Io(error.to_string())
    }
}

/// The place of a column that the header names once.
fn column(header: &StringRecord, name: &str) -> Result<usize, String> {
    let mut places = header.iter().enumerate().filter(|(_, column)| *column == name);
    match (places.next(), places.next()) {
        (Some((place, _)), None) => Ok(place),
        (Some(_), Some(_)) => Err(format!("has the column {name:?} twice")),
        (None, _) => {
            let all: Vec<&str> = header.iter().collect();
            Err(format!("has no column {name:?}; it has {}", shorten(&all.join(", "), 500)))
        }
    }
}

/// A record in the making.
struct Making {
    record: Record,
    pending: HashMap<String, PointNumber>,
}

impl Making {
    fn bytes(&self) -> usize {
        let points = self.record.new_points.len() + self.record.units.len();
        self.record.columns.bytes() + points * POINT_BYTES
    }

    /// The number of a point. The first time that a known one is met, its unit is held against the column's.
    fn point(
        &mut self,
        path: &str,
        mapping: &Mapping,
        units: &mut HashMap<PointNumber, bool>,
        sink: &dyn Sink,
    ) -> Result<PointNumber, String> {
        if let Some(number) = self.pending.get(path) {
            return Ok(*number);
        }
        let checked = PointPath::new(path).map_err(|error| error.to_string())?;
        // Also of a point that an app has made: whoever is bound to it would take this for the app's.
        if checked.is_reserved() {
            return Err(format!("points under `apps/` belong to the runtime: {path}"));
        }
        if let Some(KnownPoint { number, unit }) = sink.point(path) {
            let Some(own) = &mapping.unit else { return Ok(number) };
            let fits = *units.entry(number).or_insert_with(|| match &unit {
                Some(unit) => unit == own,
                None => {
                    self.record.units.push((number, Arc::clone(own)));
                    true
                }
            });
            let has = unit.as_deref().unwrap_or_default();
            return if fits {
                Ok(number)
            } else {
                Err(format!("the point {path} has the unit {has}, the column {own}"))
            };
        }
        let number = PointNumber::pending(self.record.new_points.len());
        self.record.new_points.push(NewPoint { path: checked, unit: mapping.unit.clone() });
        self.pending.insert(path.to_owned(), number);
        Ok(number)
    }
}

/// The name of the lap's number in templates.
const LAP: &str = "lap";
