//! Set-points between their commit and the machines: which may be sent now, which may not be any more, and what became of
//! each. The fold brings what apps ask for, connectors take it to machines, and the node records the outcomes.

mod halt_files;
mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

pub(crate) use self::halt_files::HaltFiles;
pub(crate) use self::machine::{
    Answer, Command, Halted, Machine, Rights, Router, Settlement, Shown, Standing,
};
use crate::records::intent::{Asked, Driven, IntentPlace};

/// The outbox, behind the one lock that it has. Nobody holds it for longer than a few thousand steps in memory.
pub(crate) struct Outbox {
    machine: Mutex<Machine>,
    /// Counts what connectors and the writer of outcomes have to look at.
    changes: watch::Sender<u64>,
    /// Counts the times that only the latter has something.
    ends: watch::Sender<u64>,
}

/// The outbox as a start finds it: intents without an outcome, and the points that set-points go to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub intents: BTreeMap<IntentPlace, Asked>,
    pub driven: BTreeMap<Arc<str>, Driven>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { machine: Mutex::default(), changes: watch::Sender::new(0), ends: watch::Sender::new(0) }
    }
}

impl Outbox {
    /// Changes the outbox, and has everybody look who waits for it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let result = change(&mut self.machine.lock());
        self.changes.send_modify(|changes| *changes += 1);
        self.tell_ends();
        result
    }

    /// Has the writer of outcomes look, and nobody else: a connector that took a command would wake itself by it.
    pub(crate) fn tell_ends(&self) {
        self.ends.send_modify(|ends| *ends += 1);
    }

    /// Hears of what may have ended.
    pub(crate) fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }

    /// Looks at the outbox, or takes a command out of it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock()
    }

    /// Hears of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
