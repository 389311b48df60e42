//! A rehearsal: an old and a new version of an app beside each other over the recorded journal, each with what it has in
//! memory of its own, and with all effects held back. It runs in a subprocess that limits itself; the server reads the
//! journal and sends it what was recorded, by `lanes/run/rehearse.rs`.

mod compare;
mod newer;
mod part;
mod side;
pub(crate) mod wire;
mod worker;

pub(crate) use self::worker::rehearsal_worker;

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "rehearsal-worker";
/// The most bytes of memory.
pub(crate) const MEMORY: u64 = 3 << 30;
/// The most CPU time, in seconds.
pub(crate) const CPU: u64 = 2 * 3_600;
