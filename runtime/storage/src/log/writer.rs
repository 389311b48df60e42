//! Writes records into segments. A record is opened, its body appended, and then closed or cancelled; the group
//! of closed records is flushed at once. Belongs to the committer's thread alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Epoch, Position, Sequence, StreamId, TenantId};

use super::error::LogError;
use super::frame::{self, Header, RECORD_HEADER, RecordKind};
use super::reader::RecordRef;
use super::segment::{self, SEGMENT_HEADER, Segment, SegmentHeader, Spare};
use super::shared::{LogShared, PLACE_STEP, Place};
use crate::failpoint;

/// Gathers records into a group and writes the group. It alone writes segments.
pub(super) struct Writer {
    shared: Arc<LogShared>,
    epoch: Epoch,
    segment: Arc<Segment>,
    /// The offset in the segment at which the group begins.
    at: u64,
    group: Vec<u8>,
    /// Places in the group that are remembered once it is flushed.
    places: Vec<Place>,
    /// The bytes of records before the last remembered place.
    last_place: u64,
    /// The bytes of records before the group.
    before: u64,
    /// The position of the next record.
    next: Position,
    flushed: Position,
    /// The highest *durable* that is itself flushed.
    covered: Position,
    /// The last flushed record that isn't a mark.
    acknowledged: Position,
}

/// The fields of a record's header that the writer doesn't know by itself.
pub(super) struct About {
    pub kind: RecordKind,
    pub version: u8,
    pub tenant: TenantId,
    pub stream: StreamId,
    pub first_sequence: Sequence,
    pub journal_time: Timestamp,
}

/// A record whose body is being appended: where it begins in the group. Ends by [`Writer::close`] or
/// [`Writer::cancel`].
#[must_use]
pub(super) struct OpenRecord {
    start: usize,
}

impl Writer {
    /// Begins a fresh segment behind everything flushed. `number` is above that of every segment.
    pub(super) fn begin(
        shared: Arc<LogShared>,
        epoch: Epoch,
        number: u64,
        flushed: Position,
    ) -> Result<Self, LogError> {
        let spare = shared.spares.take_at_start()?;
        let segment = begin_segment(&shared, spare, epoch, number, flushed)?;
        let total = shared.total();
        Ok(Self {
            shared,
            epoch,
            segment,
            at: SEGMENT_HEADER as u64,
            group: Vec::new(),
            places: Vec::new(),
            last_place: total,
            before: total,
            next: flushed.next(),
            flushed,
            covered: flushed,
            acknowledged: flushed,
        })
    }

    pub(super) fn shared(&self) -> &Arc<LogShared> {
        &self.shared
    }

    /// The position of the record that is opened next.
    pub(super) fn next(&self) -> Position {
        self.next
    }

    /// The bytes of the group, for the body of an open record to be appended.
    pub(super) fn group(&mut self) -> &mut Vec<u8> {
        &mut self.group
    }

    /// Begins a record: its body is then appended to [`Writer::group`].
    pub(super) fn open(&mut self) -> OpenRecord {
        let start = self.group.len();
        self.group.resize(start + RECORD_HEADER, 0);
        OpenRecord { start }
    }

    /// Takes an open record back.
    pub(super) fn cancel(&mut self, record: OpenRecord) {
        self.group.truncate(record.start);
    }

    /// The bytes of the open record's body.
    pub(super) fn body_len(&self, record: &OpenRecord) -> usize {
        self.group.len() - record.start - RECORD_HEADER
    }

    /// Whether the group, with the open record, still fits the segment.
    pub(super) fn fits(&self) -> bool {
        self.at + self.group.len() as u64 <= self.segment.bytes
    }

    /// Goes on in a fresh segment. Everything before the open record, if there is one, is flushed.
    pub(super) fn roll(&mut self) -> Result<(), LogError> {
        assert!(self.flushed.next() == self.next, "a segment begins only when all before it is flushed");
        let spare = self.shared.spares.take((SEGMENT_HEADER + self.group.len()) as u64)?;
        let number = self.segment.header.number + 1;
        self.segment = begin_segment(&self.shared, spare, self.epoch, number, self.flushed)?;
        self.at = SEGMENT_HEADER as u64;
        self.covered = self.flushed;
        Ok(())
    }

    /// Completes the open record, which takes the next position.
    pub(super) fn close(&mut self, OpenRecord { start }: OpenRecord, about: About) -> RecordRef {
        assert!(self.fits(), "records that no segment holds are refused before they are opened");
        let position = self.next;
        let header = Header {
            epoch: self.epoch,
            position,
            durable: self.flushed,
            kind: about.kind,
            version: about.version,
            tenant: about.tenant,
            stream: about.stream,
            first_sequence: about.first_sequence,
            journal_time: about.journal_time,
        };
        frame::seal(&mut self.group[start..], &header, self.segment.header.salt);
        self.next = position.next();
        let segment = self.segment.header.number;
        let offset = self.at + start as u64;
        let before = self.before + start as u64;
        if before >= self.last_place + PLACE_STEP {
            self.places.push(Place { position, segment, offset, before });
            self.last_place = before;
        }
        RecordRef { position, segment, offset: offset as u32, length: (self.group.len() - start) as u32 }
    }

    /// Writes and syncs all of the group. Returns how long the sync took; `None` where there was nothing to write.
    pub(super) fn flush(&mut self) -> Result<Option<Duration>, LogError> {
        self.flush_bytes(self.group.len())
    }

    /// Writes and syncs what stands before the open record, which then comes first in the group. Returns how
    /// long the sync took as well.
    pub(super) fn flush_before(
        &mut self,
        record: OpenRecord,
    ) -> Result<(OpenRecord, Option<Duration>), LogError> {
        let took = self.flush_bytes(record.start)?;
        Ok((OpenRecord { start: 0 }, took))
    }

    /// Writes and syncs the first `bytes` of the group, all of them completed records; then everything
    /// before [`Writer::next`] is flushed.
    fn flush_bytes(&mut self, bytes: usize) -> Result<Option<Duration>, LogError> {
        if bytes == 0 {
            return Ok(None);
        }
        let path = || self.shared.disk.path(&self.segment.name);
        failpoint("log-group-before-write");
        let written = self.segment.file.write_at(&self.group[..bytes], self.at);
        written.map_err(LogError::io("write", path()))?;
        failpoint("log-group-before-sync");
        let began = Instant::now();
        self.segment.file.sync_data().map_err(LogError::io("sync", path()))?;
        failpoint("log-group-flushed");
        let took = began.elapsed();
        let records = self.next.0 - 1 - self.flushed.0;
        self.shared.counters.flushed(records, bytes as u64);

        self.group.drain(..bytes);
        self.group.shrink_to(2 * self.shared.config.group_bytes);
        self.at += bytes as u64;
        self.before += bytes as u64;
        self.covered = self.flushed;
        self.flushed = Position(self.next.0 - 1);
        self.acknowledged = self.flushed;
        self.shared.extend(&self.segment, self.at, self.flushed, &mut self.places);
        Ok(Some(took))
    }

    /// The length of the group in bytes.
    pub(super) fn group_len(&self) -> usize {
        self.group.len()
    }

    /// Whether something acknowledged is known to be flushed to this process only.
    pub(super) fn wants_mark(&self) -> bool {
        self.acknowledged > self.covered
    }

    /// Writes and syncs a record that says how far the log is flushed.
    pub(super) fn mark(&mut self) -> Result<(), LogError> {
        assert!(self.group.is_empty(), "a mark stands alone");
        let record = self.open();
        if !self.fits() {
            // The header of the new segment says it as well.
            self.cancel(record);
            return self.roll();
        }
        let about = About {
            kind: RecordKind::Mark,
            version: 1,
            tenant: TenantId(0),
            stream: StreamId(0),
            first_sequence: Sequence(0),
            journal_time: Timestamp(0),
        };
        self.close(record, about);
        let acknowledged = self.acknowledged;
        self.flush()?;
        self.acknowledged = acknowledged;
        Ok(())
    }
}

fn begin_segment(
    shared: &LogShared,
    spare: Spare,
    epoch: Epoch,
    number: u64,
    flushed: Position,
) -> Result<Arc<Segment>, LogError> {
    let header = SegmentHeader {
        number,
        epoch,
        first: flushed.next(),
        durable: flushed,
        salt: shared.disk.salt(),
        bytes: spare.bytes,
        log: shared.id,
    };
    let segment = Arc::new(segment::begin(&*shared.disk, spare, header)?);
    if let Some(previous) = shared.active() {
        segment::note_next(&*shared.disk, &previous, number)?;
    }
    shared.add(segment.clone());
    Ok(segment)
}
