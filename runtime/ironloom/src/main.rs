//! The binary: arguments go to the command line, and `serve` gets its node from the one place that
//! knows all parts.

use std::process::ExitCode;

fn main() -> ExitCode {
    ironloom::cli::run(ironloom::node::start)
}
