//! Set-points as connectors take them to machines.

use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use crate::outbox::{Answer, Command};
use ironloom_types::clock::Timestamp;

/// The giver of set-points: the node.
pub(crate) trait Commands: Send + Sync {
    /// The next one for a connector, to be sent at once: from here on it counts as sent.
    fn next(&self, connector: &Arc<str>) -> Option<Command>;
    /// Tells what the machine, or the broker in front of it, has answered.
    fn answered(&self, command: &Command, answer: Answer);
    /// The connection is lost: what wasn't answered comes again, as long as it may.
    fn lost(&self, connector: &Arc<str>);
    /// Returns true where one of these may not be written any more, although it was handed over.
    fn is_halted(&self, handed: &mut dyn Iterator<Item = &Command>) -> bool;
    /// Counts changes after which there may be another one, or none may be written any more.
    fn changes(&self) -> watch::Receiver<u64>;
    /// The site's time, by which they expire.
    fn now(&self) -> Timestamp;
}

/// There are none: where only readings are brought in.
pub(crate) struct NoCommands;

impl Commands for NoCommands {
    fn next(&self, _: &Arc<str>) -> Option<Command> {
        None
    }

    fn answered(&self, _: &Command, _: Answer) {}

    fn lost(&self, _: &Arc<str>) {}

    fn is_halted(&self, _: &mut dyn Iterator<Item = &Command>) -> bool {
        false
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}
