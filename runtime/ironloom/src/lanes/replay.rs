//! A generation that lives a second time: the recorded invocations run again on state of its own, in memory, and
//! nothing of it is written or published.
//!
//! Edges, order, times and outcomes come from the records. Recorded are which readings were offered and not which rows
//! of which frames: those follow from the journal and the revision's bindings, as they did the first time.

mod surroundings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

pub(super) use self::surroundings::Surroundings;
use crate::records::commit::{Invocation, InvocationKind, OutcomeKind};
use ironloom_apps::manifest::Manifest;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmAct, AlarmKey, Effects, OneShot, alarm_cost, state_cost};
use ironloom_types::ids::{Digest, Ordinal};

/// The largest state that is held in memory. Beyond: the replay ends.
pub(crate) const MAX_STATE: u64 = 256 << 20;

/// The belongings of an app between two invocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replica {
    state: BTreeMap<Box<str>, Bytes>,
    /// Bytes of keys and values, each as [`state_cost`] counts it.
    bytes: u64,
    /// Standing alarms, and what each counts.
    alarms: BTreeMap<AlarmKey, usize>,
    timers: BTreeMap<Box<str>, OneShot>,
    /// The time of the last invocation.
    time: Timestamp,
}

/// A replica that invocations read while it waits to be changed.
pub(super) type Shared = Arc<RwLock<Replica>>;

impl Replica {
    pub(crate) fn state(&self) -> &BTreeMap<Box<str>, Bytes> {
        &self.state
    }

    /// Standing alarms, with what each counts.
    pub(crate) fn alarms(&self) -> &BTreeMap<AlarmKey, usize> {
        &self.alarms
    }

    /// One-shot timers that are set.
    pub(crate) fn timers(&self) -> &BTreeMap<Box<str>, OneShot> {
        &self.timers
    }

    /// The time of the last invocation.
    pub(crate) fn time(&self) -> Timestamp {
        self.time
    }

    /// One with all of this.
    pub(crate) fn new(
        state: BTreeMap<Box<str>, Bytes>,
        alarms: BTreeMap<AlarmKey, usize>,
        timers: BTreeMap<Box<str>, OneShot>,
        time: Timestamp,
    ) -> Self {
        let bytes = state.iter().map(|(key, value)| state_cost(key, value) as u64).sum();
        Self { state, bytes, alarms, timers, time }
    }

    pub(crate) fn state_bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes over what an invocation did that ended well at this time.
    pub(super) fn take(&mut self, effects: &Effects, fired: Option<&str>, time: Timestamp) {
        for (key, value) in effects.state.iter() {
            let before = match value {
                Some(value) => {
                    self.bytes += state_cost(key, value) as u64;
                    self.state.insert(key.into(), Bytes::copy_from_slice(value))
                }
                None => self.state.remove(key),
            };
            self.bytes -= before.map_or(0, |value| state_cost(key, &value) as u64);
        }
        if let Some(fired) = fired {
            self.timers.remove(fired);
        }
        for (name, due) in &effects.timers {
            match due {
                Some(asked) => self.timers.insert(name.clone(), OneShot::set(*asked, time)),
                None => self.timers.remove(name),
            };
        }
        for change in &effects.alarms {
            match &change.act {
                AlarmAct::Raise { message, .. } => {
                    self.alarms.insert(change.key.clone(), alarm_cost(&change.key.1, message));
                }
                AlarmAct::Clear { .. } => {
                    self.alarms.remove(&change.key);
                }
            }
        }
    }

    /// Another version of the app begins: what it lacks ends.
    pub(super) fn end_for(&mut self, manifest: &Manifest) {
        self.alarms.retain(|(code, _), _| manifest.alarm(code.as_str()).is_some());
        if !manifest.schedule {
            self.timers.clear();
        }
    }

    /// A one-shot timer is done with, whatever came of its run.
    pub(super) fn end_timer(&mut self, name: &str) {
        self.timers.remove(name);
    }

    /// Goes on to a time, whatever came of the invocation.
    pub(super) fn come_to(&mut self, time: Timestamp) {
        self.time = self.time.max(time);
    }

    /// The time that the timer of a recorded run is told: when it was due, of a one-shot what was asked for. The record has the
    /// run's time, which is when it was due unless an invocation before it had a later one.
    pub(super) fn due(
        &self,
        name: &str,
        run: Timestamp,
        manifest: &Manifest,
        zone: &jiff::tz::TimeZone,
    ) -> Timestamp {
        let Some(timer) = manifest.timer(name) else {
            return self.timers.get(name).map_or(run, |set| set.asked);
        };
        // Earlier where an admin has set time back since.
        if run != self.time {
            return run;
        }
        // The last time that had come by then.
        let day = 86_400 * ironloom_types::clock::SECOND;
        let after = Timestamp(run.0.saturating_sub(366 * day));
        timer.cron.last_due(after, run, zone).unwrap_or(run)
    }

    /// Entries behind a key, with a prefix.
    pub(super) fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Box<str>, &'a Bytes)> {
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let behind = self.state.range::<str, _>((from, Bound::Unbounded));
        behind.take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// An invocation of a replay beside its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub recorded: Invocation,
    /// The outcome this time.
    pub outcome: OutcomeKind,
    pub message: Option<String>,
    pub digest: Digest,
    /// Numbers of its effects this time: keys of the state, derived readings, timers, alarms, refused readings.
    pub effects: [usize; 5],
}

/// What came of a recorded invocation that was to run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// It never reached the app, or not the app ended it: there is nothing to compare.
    NotRun,
    /// The words of its failure are this time's.
    Same(Option<String>),
    Differs(Box<Difference>),
}

/// The result of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Invocations that ran again.
    pub invocations: u64,
    /// Readings that these took.
    pub readings: u64,
    /// Those of them that were compared.
    pub compared: u64,
    /// Invocations that only the clock ended: they took no effect and are left out.
    pub left_out: u64,
    /// The last ordinal.
    pub through: Ordinal,
    /// The first one that could not run again, since a person had changed the state before it.
    pub repaired: Option<Ordinal>,
    pub difference: Option<Difference>,
}

/// The numbers of [`Difference::effects`].
pub(super) fn numbers(effects: &Effects) -> [usize; 5] {
    let Effects { state, derived, timers, alarms, refused, .. } = effects;
    [state.len(), derived.len(), timers.len(), alarms.len(), refused.len()]
}

/// Returns true where the app alone decides about an outcome: not the machine's speed, and not the log.
pub(super) fn is_the_apps(outcome: OutcomeKind) -> bool {
    match outcome {
        OutcomeKind::Ok
        | OutcomeKind::Reject
        | OutcomeKind::Retry
        | OutcomeKind::Trap
        | OutcomeKind::MemoryLimit
        | OutcomeKind::HostCallLimit => true,
        OutcomeKind::CpuLimit | OutcomeKind::WallLimit | OutcomeKind::CommitLimit => false,
    }
}

/// The one-shot timer that a run takes away.
pub(super) fn fired<'a>(invocation: &'a Invocation, manifest: &Manifest) -> Option<&'a str> {
    match &invocation.kind {
        InvocationKind::Timer(name) if manifest.timer(name).is_none() => Some(name),
        _ => None,
    }
}
