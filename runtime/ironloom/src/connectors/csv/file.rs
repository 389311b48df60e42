//! A CSV file as records: the lines with one time, one after the other, are one record.

use std::io::{self, Read as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use csv::{ByteRecord, StringRecord};
use hashbrown::HashMap;
use sha2::Sha256;

use super::config::CsvConfig;
use super::error::FileError;
use super::progress::Progress;
use super::tail::Seen;
use super::tracked::Tracked;
use crate::connectors::cells::LineTime;
use crate::connectors::making::{Making, Units};
use crate::connectors::passed::{Passed, Reason};
use crate::connectors::{Part, Record, Sink, Status};
use ironloom_types::clock::Timestamp;
use ironloom_types::readings::{Quality, ValueRef};
use ironloom_types::text::shorten;

/// The most lines of one record.
const MAX_LINES: usize = 4_096;
/// Bytes of a record after which no further line is added to it: far below the largest that the log
/// takes, whatever one more line adds.
const ENOUGH_BYTES: usize = 1 << 20;

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
    units: Units,
    /// The reason why there is no line ahead, if it isn't the end.
    failure: Option<FileError>,
}

impl Lap {
    /// Opens the file where `progress` has come to; `hash` is the one over all before.
    pub(super) fn open(
        config: &Arc<CsvConfig>,
        progress: Progress,
        hash: Sha256,
        status: &Status,
    ) -> Result<Self, FileError> {
        let (mut reader, Places { at, cells, columns }) = open_header(config)?;
        if progress.offset > 0 {
            seek(&mut reader, progress.offset, progress.line)
                .map_err(|error| header_error(&config.path, error))?;
            reader.get_mut().go_on_with(hash);
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
            settled: None,
            unfinished: None,
            has_lines: progress.offset > 0,
            units: Units::new(),
            failure: None,
        };
        lap.look_ahead(status);
        Ok(lap)
    }

    /// Reads on behind what was handed over or passed over, after the file has ended in an unfinished line. That
    /// is taken if it still ends at the `settled` length.
    pub(super) fn go_on(&mut self, settled: Option<u64>, status: &Status) -> Result<(), FileError> {
        (self.settled, self.unfinished) = (settled, None);
        let passed = self.reader.get_ref().passed();
        seek(&mut self.reader, passed, self.next_line)
            .map_err(|error| header_error(&self.config.path, error))?;
        self.look_ahead(status);
        Ok(())
    }

    /// Returns why it ended before the file did, if it did.
    pub(super) fn failure(&mut self) -> Option<FileError> {
        self.failure.take()
    }

    /// The file as far as it was read, where its last line may still be written.
    pub(super) fn unfinished(&self) -> Option<Seen> {
        self.unfinished
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
            let begin = self.reader.position().clone();
            let read = self.reader.read_record(&mut row).map_err(csv::Error::into_kind);
            let end = self.reader.position().clone();
            let tracked = self.reader.get_ref();
            let bytes = tracked.between(begin.byte(), end.byte());
            // The rest of the line feed before, and empty lines.
            let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
            let number = begin.line() + blank.filter(|byte| **byte == b'\n').count() as u64;
            let unended = tracked.has_ended().then_some(begin.byte());
            let is_open = unended.is_some() && self.is_open(bytes);
            let problem = match read {
                Ok(false) => return,
                Err(csv::ErrorKind::Io(error)) => {
                    self.failure = Some(broken(&self.config.path, Some(number), &error));
                    return;
                }
                _ if unended.is_some() && self.is_unfinished(end.byte()) => return,
                _ if is_open => {
                    Reason::Unreadable.of("has a quoted cell that doesn't end before the file does")
                }
                Ok(true) => match self.config.times.parse(row.get(self.at).unwrap_or_default()) {
                    Ok(time) => {
                        let (at, trusted) = match time {
                            LineTime::At(at) => (at.plus(self.shift), true),
                            LineTime::TooEarly => (Timestamp(0), false),
                        };
                        self.has_lines = true;
                        self.ahead = Some(Line { at, trusted, row, number, unended, end });
                        return;
                    }
                    Err(problem) => Reason::Time.of(problem),
                },
                Err(csv::ErrorKind::UnequalLengths { expected_len, len, .. }) => {
                    Reason::Unreadable.of(format!("has {len} cells, the header {expected_len}"))
                }
                Err(csv::ErrorKind::Utf8 { .. }) => Reason::Unreadable.of("is not UTF-8"),
                Err(_) => Reason::Unreadable.of("can't be read"),
            };
            self.has_lines = true;
            if !self.is_as_read() {
                return;
            }
            status.skipped(problem.reason, &format!("line {number}: {}; skipped", problem.text));
            self.pass(&end);
        }
    }

    /// Whether a line without a line feed ends within quotes: one would belong to the cell.
    fn is_open(&self, line: &[u8]) -> bool {
        let mut builder = csv::ReaderBuilder::new();
        builder.delimiter(self.config.delimiter).has_headers(false).flexible(true);
        let mut reader = builder.from_reader(line.chain(&b"\n\n"[..]));
        let read = reader.read_byte_record(&mut ByteRecord::new());
        read.is_ok() && reader.position().byte() > line.len() as u64 + 1
    }

    /// Whether the last line, which ends here without a line feed, has to wait.
    fn is_unfinished(&mut self, end: u64) -> bool {
        self.has_lines = true;
        if self.settled == Some(end) {
            return false;
        }
        match self.reader.get_ref().seen() {
            Ok(seen) => self.unfinished = Some(Seen { length: end, ..seen }),
            Err(error) => self.failure = Some(broken(&self.config.path, None, &error)),
        }
        true
    }

    /// Whether what was read last still stands in the file. Otherwise two contents would be read as one.
    fn is_as_read(&mut self) -> bool {
        let same = self.reader.get_mut().is_as_read();
        self.hold_against(same)
    }

    /// Whether the file still is what was read, now that it was read to its end. May read all of it once more.
    pub(super) fn check_end(&mut self, stop: impl Fn() -> bool) -> Result<(), FileError> {
        let path = &self.config.path;
        let seen = self.reader.get_ref().seen().map_err(|error| broken(path, None, &error))?;
        // One that was renamed or deleted was read to its end all the same.
        if std::fs::metadata(path).is_ok_and(|now| Seen::of(&now).identity != seen.identity) {
            return Err(FileError::replaced(path));
        }
        let same = self.reader.get_mut().is_all_as_read(stop);
        self.hold_against(same);
        self.failure.take().map_or(Ok(()), Err)
    }

    fn hold_against(&mut self, same: io::Result<bool>) -> bool {
        let path = &self.config.path;
        let failure = match same {
            Ok(true) => return true,
            Ok(false) => {
                let path = path.display();
                FileError::Io(format!("{path} was cut or written anew while it was read"))
            }
            Err(error) => broken(path, None, &error),
        };
        (self.ahead, self.failure) = (None, Some(failure));
        false
    }

    /// Everything before this place was submitted or skipped.
    fn pass(&mut self, end: &csv::Position) {
        self.next_line = end.line();
        self.reader.get_mut().pass(end.byte());
    }

    /// The next records, at most so many.
    pub(super) fn records(&mut self, most: usize, sink: &dyn Sink, status: &Status) -> Vec<Record> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < most && bytes < ENOUGH_BYTES {
            let Some(record) = self.record(sink, status) else { break };
            bytes += record.bytes();
            // Whether its new points have a place is known before the next is read.
            let is_last = !record.new_points.is_empty();
            records.push(record);
            if is_last {
                break;
            }
        }
        records
    }

    /// The next record, with the receipt that goes with it; `None` where there is none or the file has changed
    /// meanwhile. Reads the file: not on a thread that others wait for.
    fn record(&mut self, sink: &dyn Sink, status: &Status) -> Option<Record> {
        let at = self.next_at()?;
        let mut unended = None;
        let mut making = Making::default();
        let latest = sink.latest();
        for _ in 0..MAX_LINES {
            let same = |line: &mut Line| line.at == at;
            if making.record.bytes() >= ENOUGH_BYTES {
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
        if !self.is_as_read() {
            return None;
        }
        let mut record = making.record;
        let progress = self.reader.get_ref().place(self.lap, self.next_line, status.count_skipped());
        record.receipt = Progress { unended, ..progress }.to_receipt();
        Some(record)
    }

    fn add(&mut self, line: &Line, trusted: bool, making: &mut Making, sink: &dyn Sink, status: &Status) {
        let (row, number) = (&line.row, line.number);
        let mut path = String::new();
        for (mapping, cell) in self.config.mappings.iter().zip(&self.cells) {
            let text = row.get(*cell).unwrap_or_default();
            if self.config.missing.iter().any(|missing| missing == text.trim()) {
                status.passed_over(Reason::Missing, 1);
                continue;
            }
            path.clear();
            let filled = mapping.point.fill(&mut path, |name| {
                if name == LAP { Some(&self.lap_text) } else { row.get(*self.columns.get(name)?) }
            });
            let point = filled
                .map_err(|problem| Reason::NoPoint.of(problem))
                .and_then(|()| making.point(&path, mapping.unit.as_ref(), &mut self.units, sink));
            let point = match point {
                Ok(point) => point,
                Err(Passed { reason, text }) => {
                    let column = &mapping.column;
                    status.skipped(reason, &format!("line {number}, column {column}: {text}; skipped"));
                    continue;
                }
            };
            let (value, mut quality) = match mapping.r#type.parse(text, self.config.decimal_comma) {
                Some(value) => (value, Quality::Good),
                None => {
                    let (column, kind, text) = (&mapping.column, mapping.r#type.name(), shorten(text, 60));
                    let notice = format!(
                        "line {number}, column {column}: {text:?} is not a valid {kind}; recorded as bad"
                    );
                    status.noticed(Part::Readings, &notice);
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

/// Moves on to a place where a line begins.
fn seek(reader: &mut csv::Reader<Tracked>, offset: u64, line: u64) -> csv::Result<()> {
    let mut place = csv::Position::new();
    place.set_byte(offset).set_line(line);
    // Not `seek`, which stays at the end of the file where it is there already.
    reader.seek_raw(SeekFrom::Start(offset), place)
}

/// The places of the columns that a configuration names.
pub(super) struct Places {
    at: usize,
    /// The column of each mapping.
    cells: Vec<usize>,
    /// Those that names of points are made of.
    columns: HashMap<String, usize>,
}

/// Opens the file and finds the columns in its header line.
pub(super) fn open_header(config: &CsvConfig) -> Result<(csv::Reader<Tracked>, Places), FileError> {
    let path = config.path.display();
    let tracked = Tracked::open(&config.path).map_err(|error| broken(&config.path, None, &error))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(config.delimiter).from_reader(tracked);
    let header = reader.headers().map_err(|error| header_error(&config.path, error))?.clone();
    if header.is_empty() || reader.get_ref().has_ended() {
        return Err(FileError::Io(format!("{path} has no whole header line yet")));
    }
    let find =
        |name: &str| column(&header, name).map_err(|problem| FileError::Wrong(format!("{path} {problem}")));
    let at = find(&config.at)?;
    let cells = config.mappings.iter().map(|mapping| find(&mapping.column)).collect::<Result<_, _>>()?;
    let mut columns = HashMap::new();
    for name in config.mappings.iter().flat_map(|mapping| mapping.point.names()) {
        if name != LAP {
            columns.insert(name.to_owned(), find(name)?);
        }
    }
    Ok((reader, Places { at, cells, columns }))
}

fn header_error(path: &Path, error: csv::Error) -> FileError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => broken(path, Some(1), &error),
        _ => FileError::Wrong(format!("{}: the header line is not UTF-8", path.display())),
    }
}

fn broken(path: &Path, line: Option<u64>, error: &io::Error) -> FileError {
    let path = path.display();
    let place = line.map_or_else(|| path.to_string(), |line| format!("{path}, line {line}"));
    // `Tracked` says so of a line without an end.
    if error.kind() == io::ErrorKind::InvalidData {
        FileError::Wrong(format!("{place}: {error}"))
    } else {
        FileError::Io(format!("{path}: {error}"))
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

/// The name of the lap's number in templates.
const LAP: &str = "lap";
