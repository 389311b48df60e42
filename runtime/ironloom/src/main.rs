//! The binary: the library's command line with the allocator that it is run with.

use std::process::ExitCode;

/// Gives memory back that calls have used once; glibc's keeps it for each thread. See decision 14.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ironloom::run()
}
