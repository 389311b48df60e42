//! The subprocess of a rehearsal: limits itself, loads the code of both versions, locks itself in, and runs them on what it
//! reads from its stdin.

use std::collections::VecDeque;
use std::io::{BufReader, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::compare::{Comparison, Facts};
use super::newer::Newer;
use super::part::readings;
use super::side::{Side, Stage, Took, Turn};
use super::wire::{Begin, ForNew, FromWorker, Offered, Step, Through, ToWorker, line, read};
use super::{CPU, MEMORY};
use crate::lanes::digest;
use crate::lanes::outcome::Ended;
use crate::lanes::replay::{self, is_the_apps};
use crate::records::commit::{Invocation, InvocationKind, OutcomeKind};
use ironloom_sandbox::{Batch, Call, Compiled, Confinement, Sandbox, SandboxConfig, lock_in};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Ordinal};
use ironloom_types::rehearsal::{DifferenceKind, RehearsalReport, RehearsalStart};

/// The interval at which it says how far it has come.
const TELL: Duration = Duration::from_millis(200);
/// The lowest priority there is.
const NICE: i32 = 19;
/// Descriptors that it may have: its pipes, files of code, what engine and runtime open.
const DESCRIPTORS: u64 = 64;

/// Runs the subprocess. Its one argument is the server's process id.
pub(crate) fn rehearsal_worker() -> ExitCode {
    let last = match work() {
        Ok(report) => FromWorker::Report(Box::new(report)),
        Err(error) => FromWorker::Failed(error),
    };
    match tell(&last) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn tell(message: &FromWorker) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(&line(message))?;
    out.flush()
}

fn work() -> Result<RehearsalReport, String> {
    let server = std::env::args().nth(2).and_then(|text| text.parse().ok());
    let server = server.ok_or("it isn't told who has started it")?;
    // It writes no file, and may open none; the engine has some in memory.
    let confinement = Confinement {
        server,
        memory: MEMORY,
        cpu: CPU,
        file: MEMORY,
        descriptors: DESCRIPTORS,
        threads: true,
        nice: NICE,
        idle: true,
    };
    confinement.limit().map_err(|error| error.to_string())?;
    let mut input = BufReader::with_capacity(64 << 10, std::io::stdin().lock());
    let Some(ToWorker::Begin(begin)) = read(&mut input).map_err(|error| error.to_string())? else {
        return Err("it isn't told what to run".to_owned());
    };
    // Its threads end with it: those that a runtime has made before stay outside.
    let mut rehearsal = runtime()?.block_on(Rehearsal::begin(*begin))?;
    // All code is loaded; from here on there are apps.
    lock_in().map_err(|error| error.to_string())?;
    rehearsal.sandbox.start_ticker().map_err(|error| error.to_string())?;
    rehearsal.run(&runtime()?, &mut input)
}

fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| error.to_string())
}

/// Both versions at work.
struct Rehearsal {
    sandbox: Sandbox,
    /// Revisions of the old version that are still to come.
    stages: VecDeque<Stage>,
    old: Side,
    /// The revision of the new version until it begins.
    waiting: Option<Stage>,
    newer: Option<Newer>,
    from: Timestamp,
    begun: Option<Timestamp>,
    start: RehearsalStart,
    comparison: Comparison,
    tolerance: f64,
    of_old: Facts,
    of_new: Facts,
    through: Through,
    as_recorded: u64,
    otherwise: Option<Ordinal>,
    left_out: u64,
    /// The reason why the new version can't even begin.
    failed: Option<String>,
}

impl Rehearsal {
    async fn begin(begin: Begin) -> Result<Self, String> {
        let Begin { code, with_lines, generation, start, before, old, new, from, tolerance } = begin;
        let compiled = if with_lines { Compiled::WithLines } else { Compiled::Rewritten };
        // Code isn't compiled here.
        let config = SandboxConfig::new(code.into(), "/nonexistent".into());
        let config = SandboxConfig { places: 2, turns: 1, compiled, ..config };
        let sandbox = Sandbox::without_threads(config).map_err(|error| error.to_string())?;
        let mut stages = VecDeque::new();
        for stage in old {
            stages.push_back(Stage::load(&sandbox, stage).await?);
        }
        let waiting = Some(Stage::load(&sandbox, new).await?);
        let first = stages.pop_front().ok_or("there is no old version")?;
        Ok(Self {
            sandbox,
            stages,
            old: Side::new(first, generation, before.into()),
            waiting,
            newer: None,
            from,
            begun: None,
            start,
            comparison: Comparison::new(tolerance, true),
            tolerance,
            of_old: Facts::default(),
            of_new: Facts::default(),
            through: Through::default(),
            as_recorded: 0,
            otherwise: None,
            left_out: 0,
            failed: None,
        })
    }

    fn run(&mut self, runtime: &Runtime, input: &mut impl std::io::Read) -> Result<RehearsalReport, String> {
        let mut told = Instant::now();
        loop {
            match read(input).map_err(|error| error.to_string())? {
                Some(ToWorker::Step(step)) => runtime.block_on(self.step(*step))?,
                Some(ToWorker::OnlyNew(offered)) => runtime.block_on(self.only_new(offered))?,
                Some(ToWorker::End) => break,
                Some(ToWorker::Begin(_)) => return Err("it is told twice what to run".to_owned()),
                None => return Err("the server has broken off".to_owned()),
            }
            if self.has_ended() {
                break;
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                self.tell_through()?;
            }
        }
        let report = runtime.block_on(self.end());
        self.tell_through()?;
        report
    }

    fn tell_through(&mut self) -> Result<(), String> {
        self.through.different = self.comparison.different();
        tell(&FromWorker::Through(self.through)).map_err(|error| error.to_string())
    }

    fn has_ended(&self) -> bool {
        self.failed.is_some() || self.newer.as_ref().is_some_and(|newer| newer.ended.is_some())
    }

    /// Goes on with the revision under which an invocation ran.
    async fn come_to(&mut self, record: &Invocation) -> Result<(), String> {
        while self.old.stage.revision.number < record.revision {
            let Some(next) = self.stages.pop_front() else {
                return Err(format!("revision {} is not among those that it knows", record.revision));
            };
            self.old.come_to(&self.sandbox, next).await?;
        }
        Ok(())
    }

    /// Begins with the new version, on a copy of what the old one has.
    async fn fork(&mut self, time: Timestamp) -> Result<(), String> {
        let Some(stage) = self.waiting.take() else { return Ok(()) };
        self.begun = Some(time);
        self.old.took = Took::default();
        let replica = self.old.replica.read().clone();
        let first = self.old.stage.clone();
        let mut side = Side::new(first, self.old.generation, replica);
        match side.come_to(&self.sandbox, stage).await {
            Ok(migrated) => {
                self.comparison = Comparison::new(self.tolerance, !migrated);
                self.newer = Some(Newer::new(side));
            }
            Err(problem) => {
                self.newer = Some(Newer::new(side));
                self.failed = Some(problem);
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        let Step { record, is_last, batch, new } = step;
        self.come_to(&record).await?;
        if self.newer.is_none() && record.time >= self.from && self.failed.is_none() {
            self.fork(record.time).await?;
            if self.failed.is_some() {
                return Ok(());
            }
        }
        self.through.ordinal = record.ordinal;
        self.through.time = self.through.time.max(record.time);
        if !is_last {
            // It had no effect, and was tried again.
            return Ok(());
        }
        self.through.readings += u64::from(record.readings);
        if let Some(newer) = &mut self.newer {
            newer.own_timers(&self.sandbox, &self.old, record.time, &mut self.of_new).await?;
            newer.work_off(&self.sandbox, &mut self.of_new).await?;
        }
        let batch = batch.map(Batch::from);
        let fired = replay::fired(&record, &self.old.stage.manifest).map(Box::<str>::from);
        if !is_the_apps(record.outcome) {
            self.left_out += 1;
            let mut changed = self.old.replica.write();
            changed.come_to(record.time);
            fired.iter().for_each(|name| changed.end_timer(name));
            drop(changed);
            if let Some(newer) = &mut self.newer {
                newer.leave_out(fired.as_deref(), record.time);
            }
            return Ok(());
        }
        // Before the old one's run changes its timers.
        let follows = match (&record.kind, &self.newer) {
            (InvocationKind::Timer(name), Some(newer)) => newer.has_same_timer(&self.old, name),
            _ => false,
        };
        let own = match new {
            ForNew::Same => batch.clone(),
            ForNew::Own(own) => own.map(Batch::from),
        };
        // They take turns at being first, where what both need isn't in the caches yet.
        if record.ordinal.0.is_multiple_of(2) {
            self.run_old(&record, batch.as_ref(), fired.as_deref()).await?;
            self.run_new(&record, own, follows).await?;
        } else {
            self.run_new(&record, own, follows).await?;
            self.run_old(&record, batch.as_ref(), fired.as_deref()).await?;
        }
        self.look(&record, false);
        Ok(())
    }

    async fn run_old(
        &mut self,
        record: &Invocation,
        batch: Option<&Batch>,
        fired: Option<&str>,
    ) -> Result<(), String> {
        let (ordinal, time) = (record.ordinal, record.time);
        let call = match (&record.kind, batch) {
            (InvocationKind::Timer(name), _) => {
                let Stage { manifest, zone, .. } = &self.old.stage;
                Call::Timer { name, due: self.old.replica.read().due(name, time, manifest, zone) }
            }
            (_, Some(batch)) if !batch.frames.is_empty() => Call::Readings(batch),
            // It never reached the app.
            _ => {
                self.old.replica.write().come_to(time);
                return Ok(());
            }
        };
        let turn = Turn { call, ordinal, time, fired };
        let ended = self.old.run(&self.sandbox, turn).await?;
        let is_same = ended.outcome == record.outcome && digest_of(&ended) == record.digest;
        if is_same {
            self.as_recorded += 1;
        } else {
            self.otherwise.get_or_insert(ordinal);
        }
        if ended.outcome != OutcomeKind::Ok {
            self.old.took.fail(ended.outcome);
            fired.iter().for_each(|name| self.old.replica.write().end_timer(name));
        }
        self.old.took.readings += batch.map_or(0, readings) as u64;
        if self.newer.is_none() {
            return Ok(());
        }
        let message = ended.message.unwrap_or_default();
        match (ended.outcome, batch, &record.kind) {
            (OutcomeKind::Ok, ..) => self.of_old.effects(ended.effects, batch),
            (_, _, InvocationKind::Timer(name)) => self.of_old.timer(name, message),
            (_, Some(batch), _) => {
                self.old.took.dead_letters += 1;
                self.of_old.letter(batch, message);
            }
            _ => {}
        }
        Ok(())
    }

    async fn run_new(
        &mut self,
        record: &Invocation,
        batch: Option<Batch>,
        follows: bool,
    ) -> Result<(), String> {
        let Some(newer) = &mut self.newer else { return Ok(()) };
        let (ordinal, time) = (record.ordinal, record.time);
        match &record.kind {
            InvocationKind::Timer(name) if follows => {
                newer.follow_timer(&self.sandbox, (name, ordinal, time), &mut self.of_new).await?;
            }
            InvocationKind::Timer(_) => {}
            // Only as long as both have set the same readings aside.
            InvocationKind::Requeue(_) if self.comparison.has_different(DifferenceKind::DeadLetter) => {}
            InvocationKind::Readings | InvocationKind::Skip | InvocationKind::Requeue(_) => {
                if let Some(batch) = batch {
                    let excused = record.outcome != OutcomeKind::Ok;
                    let of = (Some(ordinal), time, excused);
                    newer.offer(&self.sandbox, batch, of, &mut self.of_new).await?;
                }
            }
        }
        newer.side.replica.write().come_to(time);
        Ok(())
    }

    async fn only_new(&mut self, offered: Offered) -> Result<(), String> {
        let Some(newer) = &mut self.newer else { return Ok(()) };
        let Offered { time, batch } = offered;
        newer.own_timers(&self.sandbox, &self.old, time, &mut self.of_new).await?;
        newer.offer(&self.sandbox, batch.into(), (None, time, false), &mut self.of_new).await
    }

    /// Compares what both did, once both are done with the same.
    fn look(&mut self, record: &Invocation, is_end: bool) {
        let Some(newer) = &self.newer else { return };
        if newer.is_done() || is_end || self.of_old.is_much() || self.of_new.is_much() {
            let at = (record.ordinal, record.time);
            self.look_at(at);
        }
    }

    fn look_at(&mut self, at: (Ordinal, Timestamp)) {
        let (old, new) = (std::mem::take(&mut self.of_old), std::mem::take(&mut self.of_new));
        self.comparison.look(&old, &new, at);
    }

    async fn end(&mut self) -> Result<RehearsalReport, String> {
        let at = (self.through.ordinal, self.through.time);
        let Some(mut newer) = self.newer.take() else {
            return Err(format!(
                "nothing was recorded from {} on, so there is nothing to compare",
                self.from.to_jiff()
            ));
        };
        if self.failed.is_none() && newer.ended.is_none() {
            newer.own_timers(&self.sandbox, &self.old, at.1, &mut self.of_new).await?;
            newer.work_off(&self.sandbox, &mut self.of_new).await?;
        }
        newer.end();
        self.look_at(at);
        let ended = self.failed.take().or_else(|| newer.ended.clone());
        let state = {
            let (old, new) = (self.old.replica.read(), newer.side.replica.read());
            self.comparison.end(&old, &new, at)
        };
        let waits = newer.side.took.waiting > 0;
        Ok(RehearsalReport {
            same: self.comparison.different() == 0 && ended.is_none() && !waits,
            start: self.start.clone(),
            from: self.begun.unwrap_or(self.from),
            to: at.1,
            old: self.old.shown(),
            new: newer.side.shown(),
            compared: self.comparison.kinds.clone(),
            differences: std::mem::take(&mut self.comparison.differences),
            state,
            as_recorded: self.as_recorded,
            otherwise: self.otherwise,
            left_out: self.left_out,
            ended,
        })
    }
}

/// The digest of what an invocation did, as its record has it.
fn digest_of(ended: &Ended) -> Digest {
    if ended.outcome != OutcomeKind::Ok {
        return Digest([0; 32]);
    }
    let points = digest::Points::of(&ended.effects);
    let paths = points.new_paths(&ended.effects);
    digest::of(&ended.effects, &points, &paths)
}
