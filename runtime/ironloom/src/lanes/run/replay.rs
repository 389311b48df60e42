//! Runs the recorded invocations of an installation again, and compares what comes of them with the records.

mod error;
pub(super) mod stages;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;

pub(crate) use self::error::ReplayError;
use self::stages::NoPast;
pub(crate) use self::stages::{PastStages, Stage};
use super::Runner;
use super::invoke::{invocation_id, seed};
use crate::fold::points::Points;
use crate::fold::queue::Slice;
use crate::fold::{self, Shared};
use crate::lanes::batch::{self, EntityNumbers};
use crate::lanes::outcome::{Ended, Used};
use crate::lanes::replay::{
    self, Came, Difference, MAX_STATE, Replayed, Replica, Shared as SharedReplica, Surroundings, is_the_apps,
};
use crate::lanes::{Lane, digest};
use crate::records::commit::{Invocation, InvocationKind, OutcomeKind};
use crate::records::installation;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::Prepared;
use ironloom_sandbox::{Batch, Call, Env, Frame, Interrupt, Values};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Generation, Ordinal, PointNumber, Revision};

/// Records that are read at once.
const PAGE: usize = 256;
/// For each second of CPU time so many of rest: it takes a fifth of a processor.
const REST: u32 = 4;
/// The most CPU time that a grant can give an invocation, in nanoseconds.
pub(in crate::lanes) const MOST_CPU: u64 = 10_000_000_000;
/// More than any installation has used: of those that wait for a processor it goes last.
const LAST: u64 = u64::MAX / 2;

/// A recorded invocation with what it is called with again.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    pub record: Invocation,
    /// Readings that it is called with, where it took some.
    pub batch: Option<Batch>,
    /// The time at which its timer was due.
    pub due: Option<Timestamp>,
    /// It was not tried again.
    pub is_last: bool,
}

impl Again {
    /// Returns true where none of its readings has the type that its input takes.
    fn never_reached_the_app(&self) -> bool {
        let has_none = self.batch.as_ref().is_none_or(|batch| batch.frames.is_empty());
        has_none && !matches!(self.record.kind, InvocationKind::Timer(_))
    }
}

/// The last invocations of a generation that ran under one revision, and what the app had before them.
pub(crate) struct Captured {
    pub generation: Generation,
    /// The revision that they ran under, and the manifest of its package.
    pub revision: Arc<installation::Revision>,
    pub manifest: Arc<Manifest>,
    pub replica: Replica,
    pub invocations: Vec<Again>,
}

/// Readings of all invocations of a capsule. Beyond: refused.
const MOST_READINGS: usize = 200_000;
/// Bytes of the state before them and of their readings. Beyond: refused, before more is read.
const MOST_BYTES: usize = 32 << 20;

/// One generation that lives again.
struct Rerun<'p> {
    lane: Arc<Lane>,
    /// The revision under which it is just now.
    stage: Stage,
    past: &'p dyn PastStages,
    /// The generation whose times and random numbers it has.
    generation: Generation,
    replica: SharedReplica,
    replayed: Replayed,
    /// The last invocation that is done with: one behind it may be tried again.
    done: Ordinal,
    /// Raised once the rest is for nobody.
    interrupt: Interrupt,
}

impl<'p> Rerun<'p> {
    fn new(lane: &Arc<Lane>, stage: Stage, past: &'p dyn PastStages, interrupt: Interrupt) -> Self {
        Self {
            lane: Arc::clone(lane),
            stage,
            past,
            generation: lane.generation,
            replica: SharedReplica::default(),
            replayed: Replayed::default(),
            done: lane.book().meta().ordinal,
            interrupt,
        }
    }

    /// A generation from its first revision on.
    async fn from_the_first(
        lane: &Arc<Lane>,
        past: &'p dyn PastStages,
        interrupt: Interrupt,
    ) -> Result<Self, ReplayError> {
        let first = stages::stage(lane, lane.first_revision(), past).await?;
        let rerun = Self::new(lane, first, past, interrupt);
        rerun.replica.write().come_to(lane.book().meta().began.time);
        Ok(rerun)
    }

    /// Fails once the rest is for nobody.
    fn goes_on(&self) -> Result<(), ReplayError> {
        if self.interrupt.is_raised() { Err(ReplayError::Changed) } else { Ok(()) }
    }
}

impl Runner {
    /// Runs a generation's invocations again, from the first through `to`, and compares them from `from` on, until one
    /// differs. Nothing of it is written, and other invocations go first.
    pub(crate) async fn replay(
        &self,
        lane: &Arc<Lane>,
        (from, to): (Ordinal, Option<Ordinal>),
        past: &dyn PastStages,
        interrupt: Interrupt,
    ) -> Result<Replayed, ReplayError> {
        let mut rerun = Rerun::from_the_first(lane, past, interrupt).await?;
        let (last, repaired) = ends(lane);
        let to = to.map_or(last, |to| to.min(last));
        let repaired = repaired.filter(|repaired| *repaired < to);
        if let Some(repaired) = repaired.filter(|repaired| *repaired < from) {
            return Err(ReplayError::Repaired(repaired.next()));
        }
        self.through(&mut rerun, from, repaired.unwrap_or(to)).await?;
        match rerun.replayed.through {
            Ordinal(0) => {
                let repaired = repaired.map(|repaired| ReplayError::Repaired(repaired.next()));
                return Err(repaired.unwrap_or(ReplayError::Nothing));
            }
            last if last < from => return Err(ReplayError::Beyond { from, last }),
            _ => {}
        }
        if rerun.replayed.difference.is_none() {
            rerun.replayed.repaired = repaired.map(Ordinal::next);
        }
        Ok(rerun.replayed)
    }

    /// Runs a generation's invocations again but for the last ones, and returns those with what the app had before them: of
    /// the last `count` those that ran under the same revision as the last.
    pub(crate) async fn capture(
        &self,
        lane: &Arc<Lane>,
        count: u64,
        past: &dyn PastStages,
        interrupt: Interrupt,
    ) -> Result<Captured, ReplayError> {
        let mut rerun = Rerun::from_the_first(lane, past, interrupt).await?;
        let (last, repaired) = ends(lane);
        if let Some(repaired) = repaired.filter(|repaired| *repaired < last) {
            return Err(ReplayError::Repaired(repaired.next()));
        }
        let (before, revision) =
            self.under_the_last(lane, Ordinal(last.0.saturating_sub(count)), last).await?;
        self.through(&mut rerun, Ordinal(1), before).await?;
        if let Some(difference) = &rerun.replayed.difference {
            return Err(ReplayError::Differs(difference.recorded.ordinal));
        }
        self.come_to(&mut rerun, revision).await?;
        let mut bytes = usize::try_from(rerun.replica.read().state_bytes()).unwrap_or(usize::MAX);
        if bytes > MOST_BYTES {
            return Err(ReplayError::StateTooMuch);
        }
        let replica = rerun.replica.read().clone();
        let (mut after, mut invocations, mut readings) = (before, Vec::new(), 0);
        while let Some(records) = self.records(lane, after, last).await? {
            for (record, is_last) in with_last(records, rerun.done) {
                after = record.ordinal;
                if record.revision < revision {
                    // An attempt that took no effect, before the change.
                    continue;
                }
                readings += record.readings as usize;
                if readings > MOST_READINGS {
                    return Err(ReplayError::TooMany);
                }
                let again = self.again(&mut rerun, record, is_last).await?;
                bytes += again.batch.as_ref().map_or(0, bytes_of);
                if bytes > MOST_BYTES {
                    return Err(ReplayError::TooMuch);
                }
                // The next one's timer may be one that this one sets. Whether they do the same again, a run of the capsule says.
                self.once_more(&mut rerun, &again).await?;
                invocations.push(again);
            }
        }
        if invocations.is_empty() {
            return Err(ReplayError::Nothing);
        }
        let Stage { revision, manifest, .. } = rerun.stage;
        Ok(Captured { generation: lane.generation, revision, manifest, replica, invocations })
    }

    /// Of the invocations behind `before`, the place before those that ran under the same revision as the last, and that
    /// revision.
    async fn under_the_last(
        &self,
        lane: &Arc<Lane>,
        before: Ordinal,
        last: Ordinal,
    ) -> Result<(Ordinal, Revision), ReplayError> {
        let (mut after, mut found) = (before, None::<(Ordinal, Revision)>);
        while let Some(records) = self.records(lane, after, last).await? {
            for record in &records {
                if found.is_none_or(|(_, revision)| revision != record.revision) {
                    found = Some((Ordinal(record.ordinal.0 - 1), record.revision));
                }
                after = record.ordinal;
            }
        }
        found.ok_or(ReplayError::Nothing)
    }

    /// Runs what was captured again, with the code of a lane that has the same package and revision. Returns each with
    /// what came of it.
    pub(crate) async fn rerun(
        &self,
        lane: &Arc<Lane>,
        generation: Generation,
        replica: Replica,
        invocations: Vec<Again>,
    ) -> Result<Vec<(Invocation, Came)>, ReplayError> {
        let stage = Stage::of(lane, &lane.newest())?;
        let replica = Arc::new(RwLock::new(replica));
        let mut rerun =
            Rerun { generation, replica, ..Rerun::new(lane, stage, &NoPast, Interrupt::default()) };
        let mut all = Vec::with_capacity(invocations.len());
        for again in invocations {
            let came = self.once_more(&mut rerun, &again).await?;
            all.push((again.record, came));
        }
        Ok(all)
    }

    /// Runs all through `last`, and compares from `from` on.
    async fn through(&self, rerun: &mut Rerun<'_>, from: Ordinal, last: Ordinal) -> Result<(), ReplayError> {
        let mut after = Ordinal(0);
        while let Some(records) = self.records(&Arc::clone(&rerun.lane), after, last).await? {
            for (record, is_last) in with_last(records, rerun.done) {
                after = record.ordinal;
                let compare = record.ordinal >= from;
                let again = self.again(rerun, record, is_last).await?;
                match self.once_more(rerun, &again).await? {
                    Came::Differs(difference) if compare => {
                        rerun.replayed.difference = Some(*difference);
                        return Ok(());
                    }
                    Came::Same(_) => rerun.replayed.compared += u64::from(compare),
                    Came::NotRun | Came::Differs(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The records behind an ordinal, all attempts of each; `None` at the end.
    pub(super) async fn records(
        &self,
        lane: &Arc<Lane>,
        after: Ordinal,
        last: Ordinal,
    ) -> Result<Option<Vec<Invocation>>, ReplayError> {
        if after >= last {
            return Ok(None);
        }
        let (generation, gone) = (lane.generation, lane.book().meta().invocations_gone);
        if after < gone {
            return Err(ReplayError::NotKept(gone.next()));
        }
        let list = move |shared: &Shared| shared.invocations.list(generation, after, last, PAGE);
        let (mut records, _) = fold::read_aside(&self.shared, list).await.map_err(ReplayError::Host)?;
        records.retain(|record| record.ordinal <= last);
        match records.first() {
            None => Ok(None),
            Some(first) if first.ordinal > after.next() => Err(ReplayError::NotKept(first.ordinal)),
            Some(_) => Ok(Some(records)),
        }
    }

    /// Runs one of them again.
    async fn once_more(&self, rerun: &mut Rerun<'_>, again: &Again) -> Result<Came, ReplayError> {
        let (time, ordinal) = (again.record.time, again.record.ordinal);
        rerun.replayed.through = ordinal;
        let is_skip = again.never_reached_the_app();
        let given_up = (again.is_last && again.record.outcome != OutcomeKind::Ok)
            .then(|| replay::fired(&again.record, &rerun.stage.manifest).map(Box::<str>::from))
            .flatten();
        if is_skip || !is_the_apps(again.record.outcome) {
            rerun.replayed.left_out += u64::from(!is_skip);
            let mut changed = rerun.replica.write();
            changed.come_to(time);
            given_up.iter().for_each(|name| changed.end_timer(name));
            return Ok(Came::NotRun);
        }
        let (ended, found) = self.call_again(rerun, again).await?;
        // One that was interrupted ended otherwise than it did.
        rerun.goes_on()?;
        let record = &again.record;
        rerun.replayed.invocations += 1;
        rerun.replayed.readings += u64::from(record.readings);
        let is_same = ended.outcome == record.outcome && found == record.digest;
        let mut changed = rerun.replica.write();
        if ended.outcome == OutcomeKind::Ok {
            changed.take(&ended.effects, replay::fired(record, &rerun.stage.manifest), time);
        }
        changed.come_to(time);
        given_up.iter().for_each(|name| changed.end_timer(name));
        if changed.state_bytes() > MAX_STATE {
            return Err(ReplayError::TooLarge { ordinal });
        }
        drop(changed);
        if is_same {
            return Ok(Came::Same(ended.message));
        }
        let effects = replay::numbers(&ended.effects);
        let (outcome, message) = (ended.outcome, ended.message);
        let difference = Difference { recorded: record.clone(), outcome, message, digest: found, effects };
        Ok(Came::Differs(Box::new(difference)))
    }

    /// Finds what an invocation was called with: its readings in the journal, or the time of its timer.
    async fn again(
        &self,
        rerun: &mut Rerun<'_>,
        record: Invocation,
        is_last: bool,
    ) -> Result<Again, ReplayError> {
        self.come_to(rerun, record.revision).await?;
        match &record.kind {
            InvocationKind::Skip => return Ok(Again { record, batch: None, due: None, is_last }),
            InvocationKind::Timer(name) => {
                let Stage { revision, manifest, .. } = &rerun.stage;
                let due = rerun.replica.read().due(name, record.time, manifest, &revision.zone());
                return Ok(Again { record, batch: None, due: Some(due), is_last });
            }
            InvocationKind::Readings | InvocationKind::Requeue(_) => {}
        }
        let (ordinal, first, last) = (record.ordinal, record.first, record.last);
        let routes = rerun.routes().await?;
        let entities = routes.entities();
        let bound = Arc::clone(&routes);
        let tenant = rerun.lane.id.tenant();
        let rows = move |shared: &Shared| shared.rows_between(tenant, &bound, first, last);
        let slices = fold::read_aside(&self.shared, rows).await.map_err(ReplayError::Host)?;
        if rerun.lane.book().is_closed() {
            return Err(ReplayError::Changed);
        }
        let found: usize = slices.iter().map(|slice| slice.rows().len()).sum();
        if found != record.readings as usize {
            return Err(ReplayError::Readings { ordinal, recorded: record.readings, found });
        }
        if slices.is_empty() {
            return Ok(Again { record, batch: None, due: None, is_last });
        }
        if routes.has_gone() {
            convert_as_they_were(&self.shared.points, &routes, &slices);
        }
        let inputs = &rerun.stage.revision.bindings.inputs;
        let offer = batch::build(slices, inputs, &entities, &mut EntityNumbers::default());
        Ok(Again { record, batch: Some(offer.batch), due: None, is_last })
    }

    async fn call_again(&self, rerun: &Rerun<'_>, again: &Again) -> Result<(Ended, Digest), ReplayError> {
        let Again { record, batch, due, .. } = again;
        let Rerun { stage: Stage { revision, manifest, app, .. }, generation, replica, .. } = rerun;
        let surroundings = Arc::new(Surroundings {
            replica: Arc::clone(replica),
            revision: Arc::clone(revision),
            points: Arc::clone(&self.shared.points),
            of: (*generation, record.ordinal),
            made: rerun.lane.book().meta().points,
            firing: replay::fired(record, manifest).map(Box::from),
        });
        let env = Env {
            id: invocation_id(*generation, record.ordinal),
            now: record.time,
            seed: seed(*generation, record.ordinal),
            gaps: Vec::new(),
            context: Arc::clone(&app.context),
            state: surroundings.clone(),
            state_bytes: replica.read().state_bytes(),
            outputs: surroundings.clone(),
            holdings: surroundings,
            interrupt: rerun.interrupt.clone(),
            used: LAST,
        };
        let call = match (&record.kind, batch) {
            (InvocationKind::Timer(name), _) => Call::Timer { name, due: due.unwrap_or(record.time) },
            (_, Some(batch)) => Call::Readings(batch),
            (_, None) => return Err(ReplayError::Host("it has no readings".to_owned())),
        };
        let report = self.sandbox.invoke(&app.code, call, env).await;
        tokio::time::sleep(report.cpu.saturating_mul(REST)).await;
        let used = Used::of(&report);
        let ended = Ended::of(report, used).map_err(ReplayError::Host)?;
        if ended.outcome != OutcomeKind::Ok {
            return Ok((ended, Digest([0; 32])));
        }
        let points = digest::Points::of(&ended.effects);
        let paths = points.paths(&ended.effects, &self.shared.points.names());
        let found = digest::of(&ended.effects, &points, &paths);
        Ok((ended, found))
    }
}

/// Has each reading of one invocation come in by the unit of its own point, whoever gives its entity now. Of two points
/// of one entity only one is in it: the other came once all of its readings were taken.
pub(super) fn convert_as_they_were(points: &Points, routes: &Prepared, slices: &[Slice]) {
    let rows = slices.iter().flat_map(|slice| {
        let chunk = &slice.note.chunk;
        slice.rows().iter().map(|note| chunk.row(note.row as usize).point)
    });
    let taken: BTreeSet<PointNumber> = rows.collect();
    let units: Vec<_> = {
        let names = points.names();
        taken.into_iter().map(|point| (point, names.unit_ever(point))).collect()
    };
    units.iter().for_each(|(point, unit)| routes.convert_as(*point, unit.as_deref()));
}

/// Says of each record if it is the last attempt of its invocation. Of a page that is known, since it has all attempts
/// of each; one above `done` may be tried again.
pub(super) fn with_last(records: Vec<Invocation>, done: Ordinal) -> Vec<(Invocation, bool)> {
    let next: Vec<_> = records.iter().skip(1).map(|next| Some(next.ordinal)).chain([None]).collect();
    let is_last = |record: &Invocation, next: Option<Ordinal>| {
        record.ordinal <= done && next.is_none_or(|next| next > record.ordinal)
    };
    let with = |(record, next): (Invocation, _)| {
        let is_last = is_last(&record, next);
        (record, is_last)
    };
    records.into_iter().zip(next).map(with).collect()
}

/// About the memory of a batch.
fn bytes_of(batch: &Batch) -> usize {
    let frames = batch.frames.iter().map(|frame| {
        let Frame { slot, entity, at, order, quality, values } = frame;
        let columns = size_of_val(&entity[..])
            + size_of_val(&at[..])
            + order.as_ref().map_or(0, |order| size_of_val(&order[..]))
            + quality.as_ref().map_or(0, Vec::len);
        let values = match values {
            Values::Booleans(all) => size_of_val(&all[..]),
            Values::Integers(all) => size_of_val(&all[..]),
            Values::Reals(all) => size_of_val(&all[..]),
            Values::Texts(all) => all.iter().map(|text| size_of_val(text) + text.len()).sum(),
            Values::Blobs(all) => all.iter().map(|blob| size_of_val(blob) + blob.len()).sum(),
        };
        slot.len() + columns + values
    });
    batch.entities.len() + frames.sum::<usize>()
}

/// The last ordinal that has records, and the last one before a person changed the state. Attempts that failed stand
/// under the ordinal of the next invocation.
pub(super) fn ends(lane: &Lane) -> (Ordinal, Option<Ordinal>) {
    let book = lane.book();
    let meta = book.meta();
    (if meta.attempts > 0 { meta.ordinal.next() } else { meta.ordinal }, meta.repaired)
}
