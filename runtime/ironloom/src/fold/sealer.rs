//! Gives the numbers: on the committer's thread, in the order in which things arrive.
//!
//! What it decides rests on what was *sealed* before, flushed or not. So it keeps its own view of
//! what the fold will know only after the flush: new points, request keys, live generations.

mod admit;
mod live;
mod points;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use tokio::sync::oneshot;

pub(crate) use self::live::Living;
use self::live::next_invocation;
use self::points::Watched;
use super::new_points::{OUTPUT_POINTS, Place};
use super::points::Points;
use super::requests::{Recent, Remembered, Seen};
use super::stretches::{Extent, Frozen};
use super::submission::{
    Accepted, AdminSubmission, CommitSubmission, LookSubmission, ReadingsSubmission, Refusal, Submission,
    WatchSubmission,
};
use crate::records::admin::{AdminRecord, FROM_HERE};
use crate::records::commit::{CommitHead, StateChanges};
use crate::records::readings::{Idempotency, ReadingsHead, Receipt};
use crate::records::{NumberedPoint, admin, audit, commit, readings};
use crate::telemetry::Seconds;
use ironloom_storage::journal::Chunk;
use ironloom_storage::log::{Flushed, LogError, RecordKind, Seal, Sealer};
use ironloom_trust::audit::{Entry, Heads, Said};
use ironloom_types::clock::{Clock, Timestamp};
use ironloom_types::ids::{
    Generation, InstallationId, LastGenerations, LastSequences, PointNumber, PointPath, Sequence, StreamId,
    TenantId,
};
use ironloom_types::limits::MAX_POINTS;
use ironloom_types::readings::{Columns, NewPoint};

/// A sealed item, as the fold takes it over once it is flushed.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "each is moved a few times; a box for each would cost more")]
pub(crate) enum Sealed {
    /// Readings of a source.
    Readings {
        /// The points that are new with them.
        new_points: Vec<NumberedPoint>,
        chunk: Arc<Chunk>,
        /// The place of their source behind them.
        receipt: Option<Receipt>,
        /// The request that they came with.
        request: Option<Idempotency>,
        /// Requests whose keys are forgotten now.
        forgotten: Vec<[u8; 16]>,
        /// Given back once the points are made.
        place: Option<Place>,
        reply: Option<oneshot::Sender<Result<Accepted, Refusal>>>,
    },
    Commit {
        /// What it says.
        head: CommitHead,
        state: StateChanges,
        /// The points that are new with it.
        new_points: Vec<NumberedPoint>,
        chunk: Arc<Chunk>,
        /// Given back once the points are made.
        place: Option<Place>,
        reply: Option<oneshot::Sender<Result<(), Refusal>>>,
    },
    /// A change by an admin.
    Admin { record: AdminRecord, reply: Option<oneshot::Sender<Result<(), Refusal>>> },
    /// An answer that has to wait for what stands before it.
    Answer { reply: oneshot::Sender<Result<Accepted, Refusal>>, answer: Accepted },
    /// What became of a request, which has to wait as well.
    Found { reply: oneshot::Sender<Result<Option<Accepted>, Refusal>>, answer: Option<Accepted> },
    /// Whoever watches points knows that all before has been applied.
    Watched(oneshot::Sender<()>),
    /// A barrier: every earlier record has been routed.
    Tick(Timestamp),
}

/// With its journal time.
#[derive(Debug)]
pub(crate) struct Stamped {
    /// The time at which it was sealed.
    pub time: Timestamp,
    /// What it is.
    pub sealed: Sealed,
    /// Its entry of the audit log.
    pub entry: Option<Box<Entry>>,
}

/// A message to the fold's thread.
pub(crate) enum ToFold {
    /// A group of records is on the disk.
    Group(Vec<Flushed<Stamped>>),
    /// A checkpoint begins, of so much, or of as much as the fold wants.
    Freeze(Option<Extent>, oneshot::Sender<Frozen>),
    /// A checkpoint has ended.
    Folded,
    /// The committer has ended; nothing comes any more.
    End,
}

/// The numbers that the committer continues from.
pub(crate) struct Numbers {
    /// The last sequences that were given.
    pub last_sequences: LastSequences,
    /// The number of point numbers that were given.
    pub points_given: usize,
    /// The number of points.
    pub points: usize,
    /// The recent requests.
    pub requests: Recent,
    /// The last generations that were given.
    pub generations: LastGenerations,
    /// Generations that commits may come from.
    pub live: Living,
    /// Those that are kept of installations that are gone, with the ids that these had: they may be adopted.
    pub kept: BTreeMap<Generation, InstallationId>,
    /// Copies of generations, with the ids of their installations, which may go back to them.
    pub copies: BTreeMap<Generation, InstallationId>,
    /// The ends of the chains of the audit log.
    pub audit: Heads,
}

/// The committer's side.
pub(crate) struct Numberer {
    clock: Arc<Clock>,
    points: Arc<Points>,
    numbers: Numbers,
    /// Counts how long this process has known a request.
    started: Instant,
    /// Points that have a number but aren't among `points` yet.
    unflushed: HashMap<PointPath, PointNumber>,
    /// How many of them there were when those that the fold has were last taken out.
    unflushed_before: usize,
    /// Points that the fold may take out only later: no record names them any more.
    retired: HashSet<PointNumber>,
    /// Points of which somebody wants to know if a reading comes.
    watched: Option<Watched>,
    fold: Sender<ToFold>,
    /// The duration of the log's syncs.
    log_sync: Seconds,
    /// Called when the log fails, after everybody was told.
    on_failure: Box<dyn FnMut(&LogError) + Send>,
}

impl Numberer {
    /// Goes on from these numbers; flushed groups go to `fold`.
    pub(crate) fn new(
        clock: Arc<Clock>,
        points: Arc<Points>,
        numbers: Numbers,
        fold: Sender<ToFold>,
        log_sync: Seconds,
        on_failure: Box<dyn FnMut(&LogError) + Send>,
    ) -> Self {
        Self {
            clock,
            points,
            numbers,
            started: Instant::now(),
            unflushed: HashMap::new(),
            unflushed_before: 0,
            retired: HashSet::new(),
            watched: None,
            fold,
            log_sync,
            on_failure,
        }
    }

    /// The next sequences of a tenant's stream, so many.
    fn take_sequences(&mut self, tenant: TenantId, count: usize) -> Sequence {
        let last = self.numbers.last_sequences.of(tenant);
        if count > 0 {
            self.numbers.last_sequences.set(tenant, Sequence(last.0 + count as u64));
        }
        last.next()
    }

    fn record(
        kind: RecordKind,
        version: u8,
        tenant: TenantId,
        first_sequence: Sequence,
        journal_time: Timestamp,
        sealed: Sealed,
        entry: Option<Box<Entry>>,
    ) -> Seal<Stamped> {
        let stream = StreamId::MAIN;
        let sealed = Stamped { time: journal_time, sealed, entry };
        Seal::Record { kind, version, tenant, stream, first_sequence, journal_time, sealed }
    }

    /// Gives what is said of a record its place in the audit log, and appends it to the record's body.
    fn entry(&mut self, said: Option<Said>, time: Timestamp, body: &mut Vec<u8>) -> Option<Box<Entry>> {
        let entry = self.numbers.audit.append(said?, time);
        audit::put_entry(Some(&entry), body);
        Some(Box::new(entry))
    }

    fn readings(&mut self, item: ReadingsSubmission, body: &mut Vec<u8>) -> Seal<Stamped> {
        let ReadingsSubmission { tenant, head, new_points, mut columns, place, reply } = item;
        check_form(tenant, &head, &new_points, &columns);
        let limit = match head.receipt {
            Some(Receipt::Outputs { generation, .. }) if self.numbers.live.get(generation).is_none() => {
                let _ = reply.send(Err(Refusal::Gone));
                return Seal::Nothing;
            }
            Some(Receipt::Outputs { .. }) => OUTPUT_POINTS,
            _ => MAX_POINTS,
        };
        let latest = columns.at.iter().copied().max().unwrap_or_default();
        // The feed's clock moves on only with what is taken.
        let time = self.clock.now_with(latest);
        let up = self.started.elapsed();
        if let Some(request) = &head.idempotency {
            match self.numbers.requests.look(request, time, up) {
                Seen::Before(answer) => {
                    let time = self.clock.now();
                    return Seal::Barrier(barrier(time, Sealed::Answer { reply, answer }));
                }
                Seen::OtherRequest => {
                    let _ = reply.send(Err(Refusal::KeyReused));
                    return Seal::Nothing;
                }
                Seen::Never => {}
            }
        }
        let new_points = match self.number_points(new_points, &mut columns, limit) {
            Ok(points) => points,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return Seal::Nothing;
            }
        };
        self.watch(&columns);
        self.clock.advance(latest);
        let count = columns.len();
        let first = self.take_sequences(tenant, count);
        let mut forgotten = Vec::new();
        if let Some(Idempotency { key, request }) = head.idempotency {
            let (accepted, through) = (count as u64, self.numbers.last_sequences.of(tenant));
            let remembered = Remembered { request, time, accepted, through };
            forgotten = self.numbers.requests.remember(key, remembered, up);
        }
        readings::encode(&head, &new_points, &columns, body);
        let said = match &head.receipt {
            Some(Receipt::Outbox(settled)) => audit::ended(tenant, settled),
            _ => None,
        };
        let entry = self.entry(said, time, body);
        let sealed = Sealed::Readings {
            new_points,
            chunk: Arc::new(Chunk::of_record(tenant, first, time, 0, Generation(0), columns)),
            receipt: head.receipt,
            request: head.idempotency,
            forgotten,
            place,
            reply: Some(reply),
        };
        Self::record(RecordKind::Readings, readings::VERSION, tenant, first, time, sealed, entry)
    }

    /// Says what became of a request: an answer comes behind the request's record.
    fn look(&self, LookSubmission { request, reply }: LookSubmission) -> Seal<Stamped> {
        let time = self.clock.now();
        let found = |reply, answer| Seal::Barrier(barrier(time, Sealed::Found { reply, answer }));
        let Some(request) = request else { return found(reply, None) };
        let answer = match self.numbers.requests.look(&request, time, self.started.elapsed()) {
            Seen::Before(answer) => return found(reply, Some(answer)),
            Seen::OtherRequest => Err(Refusal::KeyReused),
            Seen::Never => Ok(None),
        };
        let _ = reply.send(answer);
        Seal::Nothing
    }

    fn commit(&mut self, item: CommitSubmission, body: &mut Vec<u8>) -> Seal<Stamped> {
        let CommitSubmission { head, state, encoded, new_points, mut derived, place, reply } = item;
        let (ordinal, attempt) = (head.invocation.ordinal, head.invocation.attempt);
        let tenant = head.generation.tenant();
        let refusal = match self.numbers.live.get(head.generation) {
            None => Some(Refusal::Gone),
            // Its effects are there already, or something before it is missing.
            Some(live) if live.next != (ordinal, attempt) => Some(Refusal::OutOfTurn { ordinal, attempt }),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return Seal::Nothing;
        }
        let time = self.clock.now();
        let new_points = match self.number_points(new_points, &mut derived, OUTPUT_POINTS) {
            Ok(points) => points,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return Seal::Nothing;
            }
        };
        if let Some(live) = self.numbers.live.get_mut(head.generation) {
            live.next = next_invocation(&head.meta);
        }
        self.watch(&derived);
        let first = self.take_sequences(tenant, derived.len());
        body.extend_from_slice(&encoded);
        commit::encode_readings(&new_points, &derived, body);
        let entry = self.entry(audit::asked(&head), time, body);
        let chunk = Arc::new(Chunk::of_record(tenant, first, time, head.hops, head.generation, derived));
        let sealed = Sealed::Commit { head, state, new_points, chunk, place, reply: Some(reply) };
        Self::record(RecordKind::Commit, commit::VERSION, tenant, first, time, sealed, entry)
    }

    fn admin(
        &mut self,
        AdminSubmission { mut record, said, reply }: AdminSubmission,
        body: &mut Vec<u8>,
    ) -> Seal<Stamped> {
        if let Err(refusal) = self.admit(&mut record) {
            let _ = reply.send(Err(refusal));
            return Seal::Nothing;
        }
        let tenant = match &record {
            AdminRecord::Revised(revised) => revised.installation.id.tenant(),
            _ => TenantId::NOBODY,
        };
        let next = self.numbers.last_sequences.of(tenant).next();
        if let AdminRecord::Revised(revised) = &mut record
            && revised.revision.from == FROM_HERE
        {
            revised.revision.from = next;
        }
        admin::encode(&record, body);
        let time = self.clock.now();
        let entry = self.entry(said, time, body);
        let sealed = Sealed::Admin { record, reply: Some(reply) };
        Self::record(RecordKind::Admin, admin::VERSION, tenant, next, time, sealed, entry)
    }
}

/// What holds of each record of readings.
fn check_form(tenant: TenantId, head: &ReadingsHead, new_points: &[NewPoint], columns: &Columns) {
    assert!(new_points.iter().all(|new| new.path.tenant() == tenant), "a record makes its tenant's points");
    let is_alone =
        matches!(head.receipt, Some(Receipt::Stream { .. } | Receipt::Outbox(_) | Receipt::Published { .. }));
    assert!(
        is_alone || !new_points.is_empty() || !columns.is_empty(),
        "only a stream's place, the outbox's, what was published or new points may stand in a record without readings"
    );
}

/// Something that isn't written.
fn barrier(time: Timestamp, sealed: Sealed) -> Stamped {
    Stamped { time, sealed, entry: None }
}

impl Sealer for Numberer {
    type Item = Submission;
    type Sealed = Stamped;

    fn seal(
        &mut self,
        item: Submission,
        _position: ironloom_types::ids::Position,
        body: &mut Vec<u8>,
    ) -> Seal<Stamped> {
        match item {
            Submission::Readings(item) => self.readings(item, body),
            Submission::Commit(item) => self.commit(*item, body),
            Submission::Admin(item) => self.admin(*item, body),
            Submission::Look(item) => self.look(item),
            Submission::Watch(WatchSubmission { points, reply }) => {
                self.watched = (!points.is_empty()).then_some(Watched { points, has_come: false });
                Seal::Barrier(barrier(self.clock.now(), Sealed::Watched(reply)))
            }
            Submission::Tick(at) => {
                self.clock.advance(at);
                let time = self.clock.now();
                Seal::Barrier(barrier(time, Sealed::Tick(time)))
            }
        }
    }

    fn flushed(&mut self, group: Vec<Flushed<Stamped>>, took: Option<Duration>) {
        if let Some(took) = took {
            self.log_sync.observe(took);
        }
        // The fold ends only after the committer; where it ended by a panic, the process ends too.
        let _ = self.fold.send(ToFold::Group(group));
    }

    fn failed(&mut self, unsynced: Vec<Stamped>, waiting: Vec<Submission>, error: &LogError) {
        // Dropping a reply tells its waiter that the outcome is unknown.
        drop((unsynced, waiting));
        (self.on_failure)(error);
    }
}
