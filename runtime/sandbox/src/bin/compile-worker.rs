//! The compile worker by itself, for the tests of this crate: elsewhere `ironloom` is its own worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    ironloom_sandbox::compile_worker()
}
