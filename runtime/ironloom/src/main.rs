//! The binary: arguments go to the command line, and `serve` gets its node from the one place that
//! knows all parts.

use std::process::ExitCode;

/// Gives memory back that calls have used once; glibc's keeps it for each thread. See decision 14.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ironloom::cli::run(ironloom::node::start)
}
