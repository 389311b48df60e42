//! Set-points between their commit and the machines: which may be sent now, which may not be any more, and what became of
//! each. The fold brings what apps ask for, connectors take it to machines, and the node records the outcomes.

mod halt_files;
mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use self::halt_files::HaltFiles;
pub(crate) use self::machine::{
    Answer, Command, Halted, Machine, Rights, Router, Settlement, Shown, ShownIntent, Standing,
};
use crate::records::intent::{Asked, Driven, IntentPlace};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointPath;

/// The outbox, behind the one lock that it has. It is held for steps in memory alone: the longest go over all points that
/// are driven, where the kill switch is turned, connectors change, or an installation's rights do.
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
    pub driven: BTreeMap<PointPath, Driven>,
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

    /// Looks at the outbox.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.machine.lock())
    }

    /// Takes the next command for a connector.
    pub(crate) fn next(&self, connector: &Arc<str>, now: Timestamp) -> Option<Command> {
        let (command, has_ends) = {
            let mut machine = self.machine.lock();
            (machine.next(connector, now), machine.has_ends())
        };
        if has_ends {
            // Some may have ended on the way to it.
            self.tell_ends();
        }
        command
    }

    /// Takes ends that are to be written, the oldest first.
    pub(crate) fn take_ends(&self, most: usize) -> Vec<Settlement> {
        self.machine.lock().take_ends(most)
    }

    /// Has the writer of outcomes look, and nobody else: a connector that took a command would wake itself by it.
    fn tell_ends(&self) {
        self.ends.send_modify(|ends| *ends += 1);
    }

    /// Hears of what may have ended.
    pub(crate) fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }

    /// Hears of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
