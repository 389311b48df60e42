//! The library of the `ironloom` binary: a runtime that runs third-party industrial apps, compiled
//! to WebAssembly components, next to the machines. `ARCHITECTURE.md` has the map.
//!
//! What is public here is what the binary, the benchmark and the fuzz targets call; nothing else is an interface.

mod access;
mod api;
mod aside;
mod authorities;
mod backup;
mod catalogs;
mod cli;
mod config;
mod connectors;
mod feeds;
mod fold;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod lanes;
mod node;
mod offline;
mod outbox;
mod records;
mod telemetry;

use std::process::ExitCode;

/// Where an app's outputs go by its bindings. The benchmark calls apps without a server, and resolves them with it.
pub use self::lanes::targets::Targets;

/// Runs the command that the arguments name. `serve` gets its node from here, the one place that knows all parts.
pub fn run() -> ExitCode {
    // The server starts itself as the subprocess of a rehearsal.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == lanes::rehearsal::SUBCOMMAND) {
        return lanes::rehearsal::rehearsal_worker();
    }
    cli::run(node::start)
}
