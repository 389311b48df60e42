//! Brings what an installation has stored into the form of another version of its app: step by step, on a copy in
//! memory. What came of all steps is one record, or nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;

use super::Runner;
use super::invoke::seed;
use crate::aside::aside;
use crate::fold::points::Points;
use crate::lanes::context::scan_state;
use crate::lanes::outcome::{Ended, Used};
use crate::lanes::replay::{MAX_STATE, Replica, Shared as SharedReplica, Surroundings};
use crate::lanes::{App, Lane};
use crate::records::commit::OutcomeKind;
use crate::records::installation::Revision;
use ironloom_sandbox::{Env, HostFault, Interrupt, Outcome, Report, Sandbox, Scan};
use ironloom_storage::store::Storage;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{Generation, Ordinal};
use ironloom_types::limits::MAX_STATE_KEYS;

/// The most steps.
const MOST_STEPS: u64 = 10_000;
/// The most CPU time of all steps. Nothing holds them back meanwhile, as the share does with invocations: an admin waits.
const MOST_CPU: Duration = Duration::from_secs(60);
/// The most keys that all steps set or delete: as many as ten invocations may. The fold's thread applies all of them in one
/// step, and every push waits for that: a fifth of a second for so many, some two seconds for two million.
const MOST_KEYS: usize = 10 * MAX_STATE_KEYS;
/// The most bytes with which an app says where to go on.
const MOST_RESUME: usize = 64 << 10;
/// Entries, and bytes, of the state that are read at once.
const PAGE: (usize, usize) = (1_000, 1 << 20);

/// The reason why a migration ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    #[error("step {step} ended with {}: {message}", .outcome.name())]
    App { step: u64, outcome: OutcomeKind, message: String },
    #[error(
        "step {0} published readings or changed alarms, and a migration may change state and one-shot timers only"
    )]
    Effects(u64),
    #[error("the state takes more than {} MiB, the most that is migrated", MAX_STATE >> 20)]
    TooLarge,
    #[error("after step {step} it had changed {keys} keys of the state, and {MOST_KEYS} is the most")]
    Keys { step: u64, keys: usize },
    #[error("step {step} said by {bytes} bytes where to go on, and {MOST_RESUME} is the most")]
    Resume { step: u64, bytes: usize },
    #[error("it was not done after {MOST_STEPS} steps")]
    TooMany,
    #[error("it was not done after {} s of CPU time, in {steps} steps", MOST_CPU.as_secs())]
    TooLong { steps: u64 },
    #[error("somebody else changes the installation")]
    Interrupted,
    #[error("{0}")]
    Host(String),
}

/// What came of a migration.
#[derive(Debug, Default)]
pub(crate) struct Migrated {
    /// Keys that were set, or deleted (`None`).
    pub state: BTreeMap<Box<str>, Option<Bytes>>,
    /// Bytes of all keys and values after it.
    pub state_bytes: u64,
    /// One-shot timers that were set, or are gone (`None`).
    pub timers: BTreeMap<Box<str>, Option<OneShot>>,
}

impl Runner {
    /// Runs all steps, with the code and the limits of the revision that is to come; `previous` is the version before.
    /// Whoever calls this has the lane's turn.
    pub(crate) async fn migrate(
        &self,
        lane: &Arc<Lane>,
        revision: &Arc<Revision>,
        app: &App,
        previous: &str,
    ) -> Result<Migrated, MigrateError> {
        let before = copy(lane, Arc::clone(&self.shared.storage)).await?;
        let replica = Arc::new(RwLock::new(before.clone()));
        let (now, made) = {
            let book = lane.book();
            (book.meta().time, book.meta().points)
        };
        let (generation, interrupt, used) = (lane.generation, lane.interrupt.clone(), lane.used());
        let migration =
            Migration { generation, revision, app, previous, made, now, interrupt, used, rest: 0 };
        let written = migrate_all(&self.sandbox, &self.shared.points, &migration, &replica, |report| {
            self.pay_step(lane, report)
        })
        .await?;
        let after = replica.read();
        Ok(differences(&before, &after, written))
    }

    /// Pays for a step, and keeps its lines.
    fn pay_step(&self, lane: &Arc<Lane>, report: &mut Report) {
        self.lanes.bill(lane, report.cpu + report.loading);
        self.write_log(lane, std::mem::take(&mut report.log), report.log_dropped);
    }
}

/// Runs all steps on a replica; `pay` is shown what each took. Returns the keys that were written.
pub(in crate::lanes) async fn migrate_all(
    sandbox: &Sandbox,
    points: &Arc<Points>,
    migration: &Migration<'_>,
    replica: &SharedReplica,
    pay: impl Fn(&mut Report),
) -> Result<BTreeSet<Box<str>>, MigrateError> {
    let mut written = BTreeSet::new();
    let mut resume: Option<Vec<u8>> = None;
    let mut cpu = Duration::ZERO;
    for step in 1..=MOST_STEPS {
        let env = migration.env(step, replica, points);
        let from = (migration.previous, resume.as_deref());
        let (next, mut report) = sandbox.migrate(&migration.app.code, from, env).await;
        cpu += report.cpu;
        pay(&mut report);
        tokio::time::sleep(report.cpu.saturating_mul(migration.rest)).await;
        let ended = ended_step(step, report)?;
        written.extend(ended.effects.state.keys().map(Box::<str>::from));
        let state_bytes = {
            let mut changed = replica.write();
            changed.take(&ended.effects, None, migration.now);
            changed.state_bytes()
        };
        if state_bytes > MAX_STATE {
            return Err(MigrateError::TooLarge);
        }
        if written.len() > MOST_KEYS {
            return Err(MigrateError::Keys { step, keys: written.len() });
        }
        match next {
            None => return Ok(written),
            Some(next) if next.len() > MOST_RESUME => {
                return Err(MigrateError::Resume { step, bytes: next.len() });
            }
            Some(_) if cpu > MOST_CPU => return Err(MigrateError::TooLong { steps: step }),
            Some(next) => resume = Some(next),
        }
    }
    Err(MigrateError::TooMany)
}

/// The steps of a migration, and what they have in common.
pub(in crate::lanes) struct Migration<'m> {
    pub generation: Generation,
    /// The revision that is to come, and its code.
    pub revision: &'m Arc<Revision>,
    pub app: &'m App,
    /// The version before.
    pub previous: &'m str,
    /// The points that the installation has made.
    pub made: u64,
    pub now: Timestamp,
    pub interrupt: Interrupt,
    pub used: u64,
    /// For each second of CPU time so many of rest.
    pub rest: u32,
}

impl Migration<'_> {
    fn env(&self, step: u64, replica: &SharedReplica, points: &Arc<Points>) -> Env {
        let surroundings = Arc::new(Surroundings {
            replica: Arc::clone(replica),
            revision: Arc::clone(self.revision),
            points: Arc::clone(points),
            of: (self.generation, Ordinal(u64::MAX - step)),
            made: self.made,
            firing: None,
        });
        Env {
            id: format!("{}-migrate-{step}", self.generation),
            now: self.now,
            // As of no other invocation.
            seed: seed(self.generation, Ordinal(u64::MAX - step)),
            gaps: Vec::new(),
            context: Arc::clone(&self.app.context),
            state_bytes: replica.read().state_bytes(),
            state: surroundings.clone(),
            outputs: surroundings.clone(),
            holdings: surroundings,
            interrupt: self.interrupt.clone(),
            used: self.used,
        }
    }
}

/// Finds whether a step ended well.
fn ended_step(step: u64, report: Report) -> Result<Ended, MigrateError> {
    if report.outcome == Outcome::Interrupted {
        return Err(MigrateError::Interrupted);
    }
    let used = Used::of(&report);
    let ended = Ended::of(report, used).map_err(MigrateError::Host)?;
    if ended.outcome != OutcomeKind::Ok {
        let message = ended.message.unwrap_or_default();
        return Err(MigrateError::App { step, outcome: ended.outcome, message });
    }
    let effects = &ended.effects;
    match effects.derived.len() + effects.new_points.len() + effects.alarms.len() + effects.intents.len() {
        0 => Ok(ended),
        _ => Err(MigrateError::Effects(step)),
    }
}

/// All that an installation has stored. Its lane stands still.
async fn copy(lane: &Arc<Lane>, storage: Arc<dyn Storage>) -> Result<Replica, MigrateError> {
    let (alarms, timers, time, state_bytes) = {
        let book = lane.book();
        let standing = book.alarms().iter().filter(|(_, alarm)| alarm.state.stands());
        let alarms = standing.map(|(key, alarm)| (key.clone(), alarm.cost())).collect();
        (alarms, book.timers().clone(), book.meta().time, book.meta().state_bytes)
    };
    if state_bytes > MAX_STATE {
        return Err(MigrateError::TooLarge);
    }
    let reading = Arc::clone(lane);
    let state = aside(move || {
        let (mut state, mut after) = (BTreeMap::new(), None::<Box<str>>);
        loop {
            let scan = Scan { prefix: "", after: after.as_deref(), limit: PAGE.0, max_bytes: PAGE.1 };
            let page = scan_state(&reading, &*storage, scan)?;
            after = page.entries.last().map(|(key, _)| key.clone());
            state.extend(page.entries);
            if !page.more {
                return Ok::<_, HostFault>(state);
            }
        }
    });
    let state = state.await.map_err(|error| MigrateError::Host(error.to_string()))?;
    let state = state.map_err(|error| MigrateError::Host(error.to_string()))?;
    Ok(Replica::new(state, alarms, timers, time))
}

/// What differs afterwards; `written` are the keys that may.
fn differences(before: &Replica, after: &Replica, written: BTreeSet<Box<str>>) -> Migrated {
    let state = written.into_iter().filter(|key| before.state().get(key) != after.state().get(key));
    let state = state.map(|key| {
        let value = after.state().get(&key).cloned();
        (key, value)
    });
    let (was, is) = (before.timers(), after.timers());
    let set = is.iter().filter(|(name, set)| was.get(*name) != Some(*set));
    let gone = was.keys().filter(|name| !is.contains_key(*name));
    let timers =
        set.map(|(name, set)| (name.clone(), Some(*set))).chain(gone.map(|name| (name.clone(), None)));
    Migrated { state: state.collect(), state_bytes: after.state_bytes(), timers: timers.collect() }
}
