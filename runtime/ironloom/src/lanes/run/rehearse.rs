//! The server's side of a rehearsal: finds where to start from, and sends its subprocess what was recorded from there on.

mod start;

use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::Runner;
use super::replay::stages::stage;
use super::replay::{PastStages, ReplayError, Stage, convert_as_they_were, ends, with_last};
use crate::aside::{aside, thread_cpu};
use crate::fold::journal::JournalError;
use crate::fold::{self, Shared};
use crate::lanes::Lane;
use crate::lanes::batch::{self, EntityNumbers};
use crate::lanes::rehearsal::wire::{self, Begin, ForNew, Offered, Step, ToWorker, WireBatch};
use crate::lanes::replay::Replica;
use crate::records::commit::{Invocation, InvocationKind};
use crate::records::installation::Revision;
use ironloom_apps::routing::Prepared;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, Digest, Ordinal, Sequence, TenantId};
use ironloom_types::rehearsal::RehearsalStart;

/// For each second of the journal's reading so many of rest.
const REST: u32 = 4;
/// Sequences that are looked through at once for readings that the new version alone takes.
const AT_ONCE: u64 = 16_384;

/// A moment of the past whose state is known.
pub(crate) struct StartingPoint {
    pub start: RehearsalStart,
    /// The app's belongings then.
    pub before: Replica,
    /// The revision that it ran under.
    pub revision: ids::Revision,
    /// The last reading that it was done with.
    pub through: Sequence,
}

/// The choices of a rehearsal.
pub(crate) struct Rehearsed {
    pub start: StartingPoint,
    pub from: Timestamp,
    /// The last invocation.
    pub to: Ordinal,
    pub tolerance: f64,
    /// The revision that is tried.
    pub new: Revision,
    /// The folder of compiled code.
    pub code: String,
    /// Code is compiled so that traps lead to lines.
    pub with_lines: bool,
}

/// The recorded journal on its way to the subprocess.
struct Feed<'f> {
    runner: &'f Runner,
    lane: &'f Arc<Lane>,
    past: &'f dyn PastStages,
    /// The revisions of the old version that are left, the present one first.
    stages: Vec<Stage>,
    from: Timestamp,
    /// The new version's revision, where its inputs are bound otherwise than the present one's.
    new: Arc<Revision>,
    new_routes: Option<Arc<Prepared>>,
    /// The last reading that the old version was done with.
    edge: Sequence,
}

impl Runner {
    /// The last invocation that a rehearsal runs.
    pub(crate) fn last_invocation(&self, lane: &Lane) -> Ordinal {
        ends(lane).0
    }

    /// Sends the subprocess all that it needs, to the journal's end. It may close its end before: then it has seen enough.
    pub(crate) async fn rehearse(
        &self,
        lane: &Arc<Lane>,
        rehearsed: Rehearsed,
        past: &dyn PastStages,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<(), ReplayError> {
        let Rehearsed { start, from, to: last, tolerance, new, code, with_lines } = rehearsed;
        let stages = self.stages_from(lane, start.revision, past).await?;
        let of = |stage: &Stage| self.staged(&stage.revision, stage.app.code.compiled());
        let old = stages.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        let compiled = self.package(new.package)?.record.compiled;
        let after = start.start.after;
        let begin = Begin {
            code,
            with_lines,
            generation: lane.generation,
            start: start.start,
            before: (&start.before).into(),
            old,
            new: self.staged(&new, compiled)?,
            from,
            tolerance,
        };
        if !send(to, ToWorker::Begin(Box::new(begin))).await? {
            return Ok(());
        }
        let (new, edge) = (Arc::new(new), start.through);
        let mut feed = Feed { runner: self, lane, past, stages, from, new, new_routes: None, edge };
        if feed.all(after, last, to).await? {
            send(to, ToWorker::End).await?;
        }
        Ok(())
    }

    async fn stages_from(
        &self,
        lane: &Lane,
        first: ids::Revision,
        past: &dyn PastStages,
    ) -> Result<Vec<Stage>, ReplayError> {
        let mut stages = Vec::new();
        for number in first.0..=lane.newest().number().0 {
            stages.push(stage(lane, ids::Revision(number), past).await?);
        }
        Ok(stages)
    }

    fn package(&self, digest: Digest) -> Result<Arc<fold::KnownPackage>, ReplayError> {
        let known = self.shared.packages.read().get(&digest).cloned();
        known.ok_or_else(|| ReplayError::Host(format!("the package {digest} is missing")))
    }

    fn staged(
        &self,
        revision: &Revision,
        compiled: ironloom_types::CompiledRef,
    ) -> Result<wire::Stage, ReplayError> {
        let manifest = self.package(revision.package)?.record.manifest.clone();
        Ok(wire::Stage { revision: revision.clone(), manifest, compiled })
    }
}

/// Sends a message; `false` where nobody reads any more.
async fn send(to: &mut (impl AsyncWrite + Unpin + Send), message: ToWorker) -> Result<bool, ReplayError> {
    let frame = move || {
        let begun = thread_cpu();
        let bytes = wire::frame(&message)?;
        Ok::<_, String>((bytes, thread_cpu().saturating_sub(begun)))
    };
    let framed = aside(frame).await.map_err(|error| ReplayError::Host(error.to_string()))?;
    let (bytes, cpu) = framed.map_err(ReplayError::Host)?;
    tokio::time::sleep(cpu.saturating_mul(REST)).await;
    Ok(to.write_all(&bytes).await.is_ok())
}

impl Feed<'_> {
    /// Sends all records behind an ordinal; `false` where nobody reads them any more.
    async fn all(
        &mut self,
        mut after: Ordinal,
        last: Ordinal,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<bool, ReplayError> {
        let done = self.lane.book().meta().ordinal;
        while let Some(records) = self.runner.records(self.lane, after, last).await? {
            for (record, is_last) in with_last(records, done) {
                after = record.ordinal;
                if self.lane.book().is_closed() {
                    return Err(ReplayError::Changed);
                }
                if !self.one(record, is_last, to).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn one(
        &mut self,
        record: Invocation,
        is_last: bool,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<bool, ReplayError> {
        while self.stages.len() > 1 && self.stages[0].revision.number < record.revision {
            self.stages.remove(0);
        }
        let takes = is_last && !matches!(record.kind, InvocationKind::Timer(_));
        let (mut batch, mut new) = (None, ForNew::Same);
        if takes {
            if !matches!(record.kind, InvocationKind::Skip) {
                batch = self.recorded(&record).await?;
            }
            let is_other = self.stages[0].revision.bindings.inputs != self.new.bindings.inputs;
            if is_other && record.time >= self.from {
                let first = match record.kind {
                    InvocationKind::Requeue(_) => record.first,
                    _ => self.edge.next(),
                };
                let Some(own) = self.own(first, &record, to).await? else { return Ok(false) };
                new = ForNew::Own(own);
            }
            if !matches!(record.kind, InvocationKind::Requeue(_)) {
                self.edge = self.edge.max(record.last);
            }
        }
        let step = Step { record, is_last, batch, new };
        send(to, ToWorker::Step(Box::new(step))).await
    }

    /// The readings that a recorded invocation took.
    async fn recorded(&mut self, record: &Invocation) -> Result<Option<WireBatch>, ReplayError> {
        let stage = &mut self.stages[0];
        let routes = match &stage.routes {
            Some(routes) => Arc::clone(routes),
            None => {
                let routes = self.past.routes(&stage.revision).await?;
                Arc::clone(stage.routes.insert(routes))
            }
        };
        let revision = Arc::clone(&stage.revision);
        let all = usize::MAX;
        let Rows { batch, found, .. } =
            self.rows((routes, revision), (record.first, record.last), all).await?;
        if found != record.readings as usize {
            let (ordinal, recorded) = (record.ordinal, record.readings);
            return Err(ReplayError::Readings { ordinal, recorded, found });
        }
        Ok(batch)
    }

    /// The readings of the new version's own inputs through a record's; those beyond what is offered at once are sent
    /// before. `None` where nobody reads them any more.
    async fn own(
        &mut self,
        mut first: Sequence,
        record: &Invocation,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<Option<Option<WireBatch>>, ReplayError> {
        let routes = match &self.new_routes {
            Some(routes) => Arc::clone(routes),
            None => {
                let routes = self.past.routes(&self.new).await?;
                Arc::clone(self.new_routes.insert(routes))
            }
        };
        loop {
            let last = Sequence(first.0 + AT_ONCE - 1).min(record.last);
            let of_new = (Arc::clone(&routes), Arc::clone(&self.new));
            let most = self.runner.limits().bytes;
            let Rows { batch, time, through, .. } = self.rows(of_new, (first, last), most).await?;
            if through >= record.last {
                return Ok(Some(batch));
            }
            if let Some((batch, time)) = batch.zip(time)
                && !send(to, ToWorker::OnlyNew(Offered { time, batch })).await?
            {
                return Ok(None);
            }
            first = through.next();
        }
    }

    /// Reads rows of the journal aside, of about so many bytes at most, and rests.
    async fn rows(
        &self,
        (routes, revision): (Arc<Prepared>, Arc<Revision>),
        (first, last): (Sequence, Sequence),
        most: usize,
    ) -> Result<Rows, ReplayError> {
        let tenant = self.lane.id.tenant();
        let read = move |shared: &Shared| {
            let begun = thread_cpu();
            let rows = rows(shared, tenant, (&routes, &revision), (first, last), most)?;
            Ok::<_, JournalError>((rows, thread_cpu().saturating_sub(begun)))
        };
        let read = fold::read_aside(&self.runner.shared, read).await;
        let (rows, cpu) = read.map_err(ReplayError::Host)?;
        tokio::time::sleep(cpu.saturating_mul(REST)).await;
        Ok(rows)
    }
}

/// Readings of a part of the journal, as they are sent.
struct Rows {
    batch: Option<WireBatch>,
    found: usize,
    /// The journal time of the last one.
    time: Option<Timestamp>,
    /// The last sequence that was looked at.
    through: Sequence,
}

fn rows(
    shared: &Shared,
    tenant: TenantId,
    (routes, revision): (&Prepared, &Revision),
    between: (Sequence, Sequence),
    most: usize,
) -> Result<Rows, JournalError> {
    let (slices, through) = shared.rows_within(tenant, routes, between, most)?;
    let found: usize = slices.iter().map(|slice| slice.rows().len()).sum();
    let time = slices.last().map(|slice| slice.note.time(slice.to - 1));
    if routes.has_gone() {
        convert_as_they_were(&shared.points, routes, &slices);
    }
    let batch = (found > 0).then(|| {
        let inputs = &revision.bindings.inputs;
        batch::build(slices, inputs, &routes.entities(), &mut EntityNumbers::default()).batch.into()
    });
    Ok(Rows { batch, found, time, through })
}
