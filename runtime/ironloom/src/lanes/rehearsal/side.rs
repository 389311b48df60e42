//! One version of an app in a rehearsal: its revision and code, what it has, and what it took.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::wire;
use crate::fold::points::Points;
use crate::lanes::outcome::{Ended, Used};
use crate::lanes::replay::{MAX_STATE, Replica, Shared as SharedReplica, Surroundings};
use crate::lanes::run::{MOST_CPU, Migration, invocation_id, migrate_all, seed};
use crate::lanes::{App, context_of};
use crate::records::commit::OutcomeKind;
use crate::records::installation::Revision;
use ironloom_apps::manifest::Manifest;
use ironloom_sandbox::{AppContext, Batch, Call, Env, Interrupt, Sandbox};
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::Effects;
use ironloom_types::ids::{Generation, Ordinal};
use ironloom_types::limits::Limits;
use ironloom_types::rehearsal::RehearsedVersion;

/// A revision that can be run.
#[derive(Clone)]
pub(super) struct Stage {
    pub revision: Arc<Revision>,
    pub manifest: Arc<Manifest>,
    pub app: App,
    pub zone: jiff::tz::TimeZone,
    /// The CPU time that an invocation has on a server, in nanoseconds.
    cpu: u64,
}

impl Stage {
    /// Loads its code, which the server has compiled.
    pub(super) async fn load(sandbox: &Sandbox, stage: wire::Stage) -> Result<Self, String> {
        let wire::Stage { revision, manifest, compiled } = stage;
        let manifest = Manifest::parse(&manifest).map_err(|error| error.to_string())?;
        let gone = || Err(std::io::Error::other("its compiled code is gone; try again"));
        let loaded = sandbox.load(&compiled, gone, manifest.declared(), revision.limits.memory).await;
        let code = loaded.map_err(|error| error.to_string())?.app;
        // A machine that is slower, or busy, must not change an outcome.
        let limits = Limits { cpu: MOST_CPU, ..revision.limits.clone() };
        let context: Arc<AppContext> = Arc::new(context_of(&manifest, &revision, &limits));
        let (zone, cpu) = (revision.zone(), revision.limits.cpu);
        let (revision, manifest) = (Arc::new(revision), Arc::new(manifest));
        Ok(Self { revision, manifest, app: App { code, context }, zone, cpu })
    }
}

/// A call into one of the versions.
#[derive(Clone, Copy)]
pub(super) struct Turn<'c> {
    pub call: Call<'c>,
    pub ordinal: Ordinal,
    pub time: Timestamp,
    /// The one-shot timer that it takes away.
    pub fired: Option<&'c str>,
}

/// A version at work.
pub(super) struct Side {
    pub stage: Stage,
    pub generation: Generation,
    pub replica: SharedReplica,
    /// None: where an output goes shows by its path.
    points: Arc<Points>,
    pub took: Took,
}

/// The use that a version made of the machine, and what came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Took {
    pub invocations: u64,
    pub readings: u64,
    pub derived: u64,
    pub set_points: u64,
    pub alarms: u64,
    pub dead_letters: u64,
    pub failures: BTreeMap<String, u64>,
    pub waiting: u64,
    cpu: u64,
    longest: u64,
    beyond_cpu: u64,
    peak_memory: u64,
}

impl Took {
    pub(super) fn fail(&mut self, outcome: OutcomeKind) {
        *self.failures.entry(outcome.name().to_owned()).or_default() += 1;
    }
}

impl Side {
    pub(super) fn new(stage: Stage, generation: Generation, replica: Replica) -> Self {
        let replica = Arc::new(RwLock::new(replica));
        Self { stage, generation, replica, points: Arc::default(), took: Took::default() }
    }

    fn surroundings(&self, ordinal: Ordinal, fired: Option<&str>) -> Arc<Surroundings> {
        Arc::new(Surroundings {
            replica: Arc::clone(&self.replica),
            revision: Arc::clone(&self.stage.revision),
            points: Arc::clone(&self.points),
            of: (self.generation, ordinal),
            made: 0,
            firing: fired.map(Box::from),
        })
    }

    /// Calls the app, and takes over what it did where it ended well.
    pub(super) async fn run(&mut self, sandbox: &Sandbox, turn: Turn<'_>) -> Result<Ended, String> {
        let Turn { call, ordinal, time, fired } = turn;
        let surroundings = self.surroundings(ordinal, fired);
        let env = Env {
            id: invocation_id(self.generation, ordinal),
            now: time,
            seed: seed(self.generation, ordinal),
            gaps: Vec::new(),
            context: Arc::clone(&self.stage.app.context),
            state: surroundings.clone(),
            state_bytes: self.replica.read().state_bytes(),
            outputs: surroundings.clone(),
            holdings: surroundings,
            interrupt: Interrupt::default(),
            used: 0,
        };
        let report = sandbox.invoke(&self.stage.app.code, call, env).await;
        let used = Used::of(&report);
        self.count(used);
        let ended = Ended::of(report, used)?;
        let mut changed = self.replica.write();
        if ended.outcome == OutcomeKind::Ok {
            changed.take(&ended.effects, fired, time);
        }
        changed.come_to(time);
        if changed.state_bytes() > MAX_STATE {
            return Err(format!("its state takes more than {} MiB at invocation {ordinal}", MAX_STATE >> 20));
        }
        drop(changed);
        self.count_effects(&ended.effects);
        Ok(ended)
    }

    /// Runs it on these readings.
    pub(super) async fn readings(
        &mut self,
        sandbox: &Sandbox,
        batch: &Batch,
        ordinal: Ordinal,
        time: Timestamp,
    ) -> Result<Ended, String> {
        self.run(sandbox, Turn { call: Call::Readings(batch), ordinal, time, fired: None }).await
    }

    fn count(&mut self, used: Used) {
        let cpu = u64::try_from(used.cpu.as_nanos()).unwrap_or(u64::MAX);
        let took = &mut self.took;
        took.invocations += 1;
        took.cpu = took.cpu.saturating_add(cpu);
        took.longest = took.longest.max(cpu);
        took.beyond_cpu += u64::from(cpu > self.stage.cpu);
        took.peak_memory = took.peak_memory.max(used.memory);
    }

    fn count_effects(&mut self, effects: &Effects) {
        let took = &mut self.took;
        took.derived += effects.derived.len() as u64;
        took.set_points += effects.intents.len() as u64;
        took.alarms += effects.alarms.len() as u64;
        took.dead_letters += effects.refused.len() as u64;
    }

    /// Goes on under another revision. Another version of the app finds what its predecessor has left, in its own form.
    pub(super) async fn come_to(&mut self, sandbox: &Sandbox, stage: Stage) -> Result<bool, String> {
        let before = std::mem::replace(&mut self.stage, stage);
        if before.revision.package == self.stage.revision.package {
            return Ok(false);
        }
        let migrates = self.stage.app.code.roles().lifecycle;
        if migrates {
            self.migrate(sandbox, &before.manifest.version).await?;
        }
        self.replica.write().end_for(&self.stage.manifest);
        Ok(migrates)
    }

    async fn migrate(&mut self, sandbox: &Sandbox, previous: &str) -> Result<(), String> {
        let version = &self.stage.manifest.version;
        let migration = Migration {
            generation: self.generation,
            revision: &self.stage.revision,
            app: &self.stage.app,
            previous,
            made: 0,
            now: self.replica.read().time(),
            interrupt: Interrupt::default(),
            used: 0,
            rest: 0,
        };
        let migrated = migrate_all(sandbox, &self.points, &migration, &self.replica, |_| ()).await;
        migrated.map(drop).map_err(|error| {
            format!(
                "version {version} could not bring the state of version {previous} into its form: {error}"
            )
        })
    }

    /// The version in numbers.
    pub(super) fn shown(&self) -> RehearsedVersion {
        let Took { invocations, readings, derived, set_points, alarms, dead_letters, .. } = self.took;
        let replica = self.replica.read();
        RehearsedVersion {
            version: self.stage.manifest.version.clone(),
            package: self.stage.revision.package,
            revision: self.stage.revision.number,
            invocations,
            readings,
            derived,
            set_points,
            alarms,
            dead_letters,
            failures: self.took.failures.clone(),
            cpu_nanos: self.took.cpu,
            longest_nanos: self.took.longest,
            beyond_cpu: self.took.beyond_cpu,
            peak_memory: self.took.peak_memory,
            state_keys: replica.state().len() as u64,
            state_bytes: replica.state_bytes(),
            alarms_standing: replica.alarms().len() as u64,
            timers: replica.timers().len() as u64,
            waiting: self.took.waiting,
        }
    }
}
