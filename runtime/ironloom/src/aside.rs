//! Work that takes long, or may wait for a disk, beside the threads that others wait for. All rooms use the function
//! that the sandbox has for it.

use std::time::Duration;

use ironloom_sandbox::BrokenOff;
pub(crate) use ironloom_sandbox::aside;

/// Does work aside where it takes long, and else at once.
pub(crate) async fn aside_if<T: Send + 'static>(
    takes_long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BrokenOff> {
    if takes_long { aside(work).await } else { Ok(work()) }
}

/// The CPU time that this thread has used so far.
pub(crate) fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}
