//! Finds the end of the log at start, tells a torn tail from damage, and makes what it found durable.
//!
//! The *chain* is what follows from the fold position on: records of right checksum, next position and their
//! segment's epoch, and after a segment's end the newest segment that begins with the next position. Its end is
//! held against the *witness*, the highest position that anything found knows to have been flushed: an end below
//! it is damage, anything else a torn tail. All that lies above the witness is written again before it counts.

use std::collections::VecDeque;
use std::sync::Arc;

use ironloom_types::ids::{Epoch, Position};

use super::committer::{self, CommitterHandle, Sealer};
use super::config::Config;
use super::error::LogError;
use super::frame::{self, Marks, RECORD_HEADER};
use super::identity::{Identity, Known};
use super::reader::{self, LogReader, Records};
use super::search;
use super::segment::{self, BadHeader, HEADER_BYTES, SEGMENT_HEADER, Segment, SegmentHeader, Spare};
use super::shared::{LogShared, PLACE_STEP, Place};
use super::writer::Writer;
use crate::disk::Disk;
use crate::failpoint;

/// Finds the end of the log and makes everything up to there durable.
///
/// `known` is what the store holds. Nothing may be folded before the store has taken the fold position,
/// [`Recovered::epoch`] and [`Recovered::identity`] durably: what was read of it may have been in memory only.
///
/// Errors: [`LogError::Damaged`] or [`LogError::Missing`] where something is missing that is known to have
/// been flushed, [`LogError::OtherStore`].
pub fn recover(disk: Arc<dyn Disk>, config: Config, known: Known) -> Result<Recovered, LogError> {
    let files = Files::find(&*disk)?;
    files.check_store(&*disk, &known)?;
    let fold = known.fold;
    let id = known.identity.map_or_else(|| new_id(&*disk), |identity| identity.id);
    let newest = known.identity.map_or(0, |identity| identity.newest);
    let shared = Arc::new(LogShared::new(disk, config, id, files.made));
    let mut scan = Scan::new(&shared, &known);
    let (chain, stale) = scan.run(files.segments)?;
    scan.make_durable(&chain, &stale)?;
    let numbers = chain.iter().map(|segment| segment.header.number);
    let number = numbers.chain(stale.iter().map(|segment| segment.header.number)).max().unwrap_or(0) + 1;
    let epoch = scan.epoch.next();
    Ok(Recovered { shared, epoch, fold, newest, number, stale, free: files.free })
}

/// Gives all free segments back: where the disk is nearly full, the store needs the room to be opened, and the start
/// makes do with a short segment. Before [`recover`].
pub fn make_room(disk: &dyn Disk) -> Result<(), LogError> {
    let names = disk.list().map_err(LogError::io("list", disk.path("")))?;
    for name in names.iter().filter(|name| name.ends_with(segment::FREE)) {
        disk.remove(name).map_err(LogError::io("remove", disk.path(name)))?;
    }
    Ok(())
}

fn new_id(disk: &dyn Disk) -> u64 {
    u64::from(disk.salt()) << 32 | u64::from(disk.salt())
}

/// A log whose end is found and on the disk, and that has no segment to write into yet.
pub struct Recovered {
    shared: Arc<LogShared>,
    epoch: Epoch,
    fold: Position,
    /// The newest segment that the store knows of.
    newest: u64,
    /// The number of the next segment.
    number: u64,
    /// Segments that hold nothing of the log.
    stale: Vec<Segment>,
    free: Vec<Spare>,
}

impl Recovered {
    /// The epoch of this process: above every one before.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The identity that the store must remember of the log.
    pub fn identity(&self) -> Identity {
        Identity { id: self.shared.id, newest: self.newest }
    }

    /// The position of the last record; the fold position where nothing follows it.
    pub fn end(&self) -> Position {
        self.shared.flushed()
    }

    /// The records behind the fold position, in order, marks included.
    pub fn records(&self) -> Result<Records, LogError> {
        self.reader().records(self.fold.next(), self.end())
    }

    /// Reads the records found.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// Frees what isn't needed and begins a fresh segment. Only when the store holds fold position and
    /// epoch durably.
    pub fn begin(self) -> Result<Log, LogError> {
        failpoint("log-recover-before-free");
        for segment in self.stale {
            self.shared.recycle(segment)?;
        }
        for spare in self.free {
            // Files that a crash left half made are of no use.
            let fits = spare.bytes == self.shared.config.segment_bytes;
            let left = if fits { self.shared.spares.put(spare) } else { Some(spare) };
            left.map_or(Ok(()), |left| self.shared.remove(&left.name))?;
        }
        failpoint("log-recover-before-begin");
        let end = self.shared.flushed();
        Ok(Log { writer: Writer::begin(self.shared, self.epoch, self.number, end)? })
    }
}

/// A log ready to be written.
pub struct Log {
    writer: Writer,
}

impl Log {
    /// Reads what is flushed.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.writer.shared().clone())
    }

    /// Returns the identity that the store must remember from now on.
    pub fn identity(&self) -> Identity {
        let shared = self.writer.shared();
        Identity { id: shared.id, newest: shared.active().map_or(0, |segment| segment.header.number) }
    }

    /// Starts the committer.
    pub fn start<S: Sealer>(self, sealer: S) -> Result<CommitterHandle<S::Item>, LogError> {
        committer::start(self.writer, sealer)
    }

    #[cfg(test)]
    pub(super) fn into_writer(self) -> Writer {
        self.writer
    }
}

/// The files of the folder.
struct Files {
    /// In the order of their numbers.
    segments: Vec<Segment>,
    free: Vec<Spare>,
    /// Above the number of every file that was made and never used.
    made: u64,
}

impl Files {
    fn find(disk: &dyn Disk) -> Result<Self, LogError> {
        let mut files = Self { segments: Vec::new(), free: Vec::new(), made: 0 };
        let mut names = disk.list().map_err(LogError::io("list", disk.path("")))?;
        names.sort();
        for name in names {
            let number = segment::number_of(&name);
            if number.is_none() && !name.ends_with(segment::FREE) {
                continue;
            }
            if let Some(count) = segment::made_number(&name) {
                files.made = files.made.max(count + 1);
            }
            let file = disk.open(&name).map_err(LogError::io("open", disk.path(&name)))?;
            let bytes = file.length().map_err(LogError::io("read", disk.path(&name)))?;
            let spare = Spare { name, file, bytes };
            match number {
                Some(number) => files.segments.push(open_segment(disk, spare, number)?),
                None => files.free.push(spare),
            }
        }
        Ok(files)
    }

    /// Holds the segments against what the store knows of them, before anything is made of either.
    fn check_store(&self, disk: &dyn Disk, known: &Known) -> Result<(), LogError> {
        let other = |problem: String| Err(LogError::OtherStore { path: disk.path(""), problem });
        let newest = self.segments.last().map_or(0, |segment| segment.header.number);
        let Some(identity) = known.identity else {
            return match self.segments.first() {
                None => Ok(()),
                Some(_) => other(format!(
                    "the store is empty, and the log has segments up to number {newest}; \
                     the store's files are missing or damaged"
                )),
            };
        };
        for Segment { name, header, .. } in &self.segments {
            if header.log != identity.id {
                return other(format!("the segment {name} was written with another store"));
            }
            if header.epoch > known.epoch {
                let (log, store) = (header.epoch, known.epoch);
                return other(format!(
                    "the store is older: its epoch is {store}, that of the segment {name} is {log}"
                ));
            }
        }
        if newest < identity.newest {
            let problem = format!("segment {} was begun and is missing", identity.newest);
            return Err(LogError::Missing { path: disk.path(""), problem });
        }
        Ok(())
    }
}

fn open_segment(disk: &dyn Disk, found: Spare, number: u64) -> Result<Segment, LogError> {
    let path = disk.path(&found.name);
    let damaged =
        |problem: &str| LogError::Damaged { path: path.clone(), offset: 0, problem: problem.to_owned() };
    if found.bytes < SEGMENT_HEADER as u64 {
        return Err(damaged("the file is shorter than a segment's header"));
    }
    let mut bytes = [0; HEADER_BYTES];
    found.file.read_at(&mut bytes, 0).map_err(LogError::io("read", path.clone()))?;
    match SegmentHeader::decode(&bytes) {
        Ok(header) if header.number != number => {
            Err(damaged("the segment's header has another number than its name"))
        }
        Ok(header) if header.bytes != found.bytes => {
            let problem = format!("the segment has {} bytes and should have {}", found.bytes, header.bytes);
            Err(LogError::Damaged { path, offset: found.bytes.min(header.bytes), problem })
        }
        Ok(header) => Ok(Segment::new(found.name, header, found.file, found.bytes)),
        Err(BadHeader::Damaged) => Err(damaged("the segment's header can't be read back")),
        Err(BadHeader::Newer(format)) => {
            let problem = format!("segments of format {format} aren't known here");
            Err(LogError::Newer { path, offset: 0, problem })
        }
    }
}

/// The facts that recovery learns on its way through the segments.
struct Scan<'a> {
    shared: &'a LogShared,
    fold: Position,
    /// The highest position known to have been flushed, by any trustworthy word of it.
    witness: Position,
    /// The highest epoch seen.
    epoch: Epoch,
    /// The position expected next.
    next: Position,
    /// The accepted records above the witness. They may have been read from memory that Linux takes for
    /// written though its sync failed, so these very bytes are written again.
    above: VecDeque<Above>,
    /// The first bytes of one segment, as many as were needed; kept for the next.
    buffer: Vec<u8>,
}

/// How many bytes of a segment are read at once: after many short lives most of each is empty.
const STEP: usize = 1 << 20;

struct Above {
    position: Position,
    segment: Arc<Segment>,
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a> Scan<'a> {
    fn new(shared: &'a LogShared, known: &Known) -> Self {
        let (fold, epoch, above) = (known.fold, known.epoch, VecDeque::new());
        let witness = fold.max(known.witness);
        Self { shared, fold, witness, epoch, next: fold.next(), above, buffer: Vec::new() }
    }

    fn see(&mut self, epoch: Epoch, durable: Position) {
        self.epoch = self.epoch.max(epoch);
        self.witness = self.witness.max(durable);
        while self.above.front().is_some_and(|above| above.position <= self.witness) {
            self.above.pop_front();
        }
    }

    /// Splits the segments into those that make up the log, in its order, and the rest.
    fn run(&mut self, segments: Vec<Segment>) -> Result<(Vec<Arc<Segment>>, Vec<Segment>), LogError> {
        for segment in &segments {
            self.see(segment.header.epoch, segment.header.durable);
        }
        let begun = segments.iter().rposition(|segment| segment.header.first <= self.fold.next());
        let Some(start) = begun else {
            self.check_end("", 0)?;
            return Ok((Vec::new(), segments));
        };
        self.next = segments[start].header.first;

        let mut stale = segments;
        let mut chain = Vec::new();
        let mut following = Some(start);
        let mut end = 0;
        // `stale` keeps its order, and what lies before `behind` in it comes before the last of the chain.
        let mut behind = start;
        while let Some(at) = following {
            let segment = Arc::new(stale.remove(at));
            behind = at;
            self.buffer.clear();
            end = self.accept(&segment)?;
            chain.push(segment);
            // A later segment of the same first position was begun after a crash; the earlier is void.
            let later = stale[behind..].iter().rposition(|segment| segment.header.first == self.next);
            following = later.map(|later| behind + later);
        }

        let Some(last) = chain.last().cloned() else { return Ok((chain, stale)) };
        let next = segment::noted_next(&last.header, &self.buffer);
        self.search(&last, end)?;
        for segment in &stale[behind..] {
            self.buffer.clear();
            self.search(segment, SEGMENT_HEADER)?;
        }
        self.check_end(&last.name, end)?;
        if let Some(next) = next.filter(|next| stale.iter().all(|segment| segment.header.number != *next)) {
            return Err(self.missing(format!("segment {next}, begun after {}, is missing", last.name)));
        }
        Ok((chain, stale))
    }

    /// Reads on until the buffer has at least so many of the segment's bytes, or all of them.
    fn read_through(&mut self, segment: &Segment, bytes: usize) -> Result<(), LogError> {
        let from = self.buffer.len();
        let to = bytes.min(segment.bytes as usize);
        if to > from {
            self.buffer.resize(to.next_multiple_of(STEP).min(segment.bytes as usize), 0);
            let read = segment.file.read_at(&mut self.buffer[from..], from as u64);
            read.map_err(LogError::io("read", self.shared.disk.path(&segment.name)))?;
        }
        Ok(())
    }

    /// The record that begins here in the segment that is being read, if it is whole.
    fn record_at(&mut self, segment: &Segment, at: usize) -> Result<Option<Vec<u8>>, LogError> {
        self.read_through(segment, at + RECORD_HEADER)?;
        let Some(length) = self.buffer.get(at..).and_then(frame::claimed_length) else { return Ok(None) };
        self.read_through(segment, at.saturating_add(length))?;
        let record = self.buffer.get(at..).and_then(|rest| frame::valid(rest, segment.header.salt));
        Ok(record.map(<[u8]>::to_vec))
    }

    /// Takes the records of the segment that follow, and says where they end.
    fn accept(&mut self, segment: &Arc<Segment>) -> Result<usize, LogError> {
        let total = self.shared.total();
        self.shared.add(segment.clone());
        let mut places = Vec::new();
        let mut last_place = total;
        let mut at = SEGMENT_HEADER;
        while let Some(record) = self.record_at(segment, at)? {
            let Some(Marks { epoch, position, durable }) = frame::marks(&record) else { break };
            if position != self.next || epoch != segment.header.epoch {
                break;
            }
            let offset = at as u64;
            let known = frame::header(&record);
            known.map_err(|kind| reader::newer(&*self.shared.disk, segment, offset, kind))?;
            let before = total + offset - SEGMENT_HEADER as u64;
            if before >= last_place + PLACE_STEP {
                places.push(Place { position, segment: segment.header.number, offset, before });
                last_place = before;
            }
            at += record.len();
            self.above.push_back(Above { position, segment: segment.clone(), offset, bytes: record });
            self.see(epoch, durable);
            self.next = position.next();
        }
        self.shared.extend(segment, at as u64, Position(self.next.0 - 1), &mut places);
        Ok(at)
    }

    /// Looks for words of what was flushed in what doesn't follow.
    fn search(&mut self, segment: &Segment, from: usize) -> Result<(), LogError> {
        self.read_through(segment, segment.bytes as usize)?;
        let buffer = std::mem::take(&mut self.buffer);
        search::records(&buffer, from, &segment.header, |marks| self.see(marks.epoch, marks.durable));
        self.buffer = buffer;
        Ok(())
    }

    /// An end below the witness is no torn tail.
    fn check_end(&self, name: &str, end: usize) -> Result<(), LogError> {
        if self.next.0 > self.witness.0 && (!name.is_empty() || self.witness == Position(0)) {
            return Ok(());
        }
        let (next, witness) = (self.next, self.witness);
        if name.is_empty() {
            return Err(
                self.missing(format!("the segment that position {next} lies in or follows is missing"))
            );
        }
        let problem =
            format!("record {next} should be here, for the log was flushed through record {witness}");
        Err(LogError::Damaged { path: self.shared.disk.path(name), offset: end as u64, problem })
    }

    fn missing(&self, problem: String) -> LogError {
        LogError::Missing { path: self.shared.disk.path(""), problem }
    }

    /// Writes everything again that may be in memory only, and syncs.
    fn make_durable(&self, chain: &[Arc<Segment>], stale: &[Segment]) -> Result<(), LogError> {
        let disk = &*self.shared.disk;
        let path = |segment: &Segment| disk.path(&segment.name);
        failpoint("log-recover-before-rewrite");
        let mut rewritten = None;
        for above in &self.above {
            let segment = &above.segment;
            if rewritten.replace(segment.header.number) != Some(segment.header.number) {
                let written = segment.file.write_at(&segment.header.encode(), 0);
                written.map_err(LogError::io("write", path(segment)))?;
            }
            let written = segment.file.write_at(&above.bytes, above.offset);
            written.map_err(LogError::io("write", path(segment)))?;
        }
        failpoint("log-recover-before-sync");
        for segment in chain.iter().map(|segment| &**segment).chain(stale) {
            segment.file.sync_data().map_err(LogError::io("sync", path(segment)))?;
        }
        failpoint("log-recover-before-folder-sync");
        disk.sync_folder().map_err(LogError::io("sync", disk.path("")))?;
        failpoint("log-recover-durable");
        Ok(())
    }
}
