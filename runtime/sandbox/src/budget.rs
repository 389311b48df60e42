//! What one invocation may use: CPU time, time on the wall, memory, bytes over the boundary.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

use super::engine::TICK;
use super::interrupt::Interrupt;
use crate::fault::HostFault;
use ironloom_types::limits::{
    HOST_CALL_NANOS, Limits, MAX_CALL_BYTES, MAX_EFFECT_BYTES, MAX_HOST_CALL_BYTES,
};

/// Sums the CPU time of an invocation.
///
/// Ticks of the epoch are no measure: an invocation that waits is charged for them all. So the
/// thread's own CPU clock is read around each poll of the call's future, and at each tick. Work that
/// is done for it on another thread is added by [`Meter::aside`].
#[derive(Debug)]
pub struct Meter {
    cpu: u64,
    wall: Option<Instant>,
    /// CPU time of the polls that have ended, and of work on other threads.
    spent: AtomicU64,
    /// The thread's CPU clock at the start of the current poll.
    started: AtomicU64,
    calls: AtomicU64,
    /// It lets others have the thread, and waits for nothing.
    yields: AtomicBool,
    /// How long it waited for turns, and since when it waits for one: nanoseconds since `begun`, 0 where it doesn't.
    waited: AtomicU64,
    waits_since: AtomicU64,
    begun: Instant,
    over_cpu: AtomicBool,
    over_wall: AtomicBool,
    interrupt: Interrupt,
    interrupted: AtomicBool,
}

/// An invocation has used up its CPU time or its time on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the invocation has used up its time")]
pub struct Overrun;

impl Meter {
    /// Starts with nothing spent.
    pub fn new(limits: &Limits, interrupt: Interrupt) -> Self {
        Self { cpu: limits.cpu, wall: Some(Instant::now() + limits.wall()), interrupt, ..Self::unlimited() }
    }

    /// For work that no invocation asks for.
    pub fn unlimited() -> Self {
        Self {
            cpu: u64::MAX,
            wall: None,
            spent: AtomicU64::new(0),
            started: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            yields: AtomicBool::new(false),
            waited: AtomicU64::new(0),
            waits_since: AtomicU64::new(0),
            begun: Instant::now(),
            over_cpu: AtomicBool::new(false),
            over_wall: AtomicBool::new(false),
            interrupt: Interrupt::default(),
            interrupted: AtomicBool::new(false),
        }
    }

    /// Runs something on this thread and charges its CPU time.
    pub fn charge_now<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu();
        self.started.store(before, Relaxed);
        let result = work();
        self.add(thread_cpu().saturating_sub(before));
        result
    }

    /// Runs something that may wait for a disk on a thread made for that, and charges its CPU time.
    pub async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HostFault> {
        let timed = move || {
            let before = thread_cpu();
            let result = work();
            (result, thread_cpu().saturating_sub(before))
        };
        let done = crate::aside(timed).await;
        let (result, cpu) = done.map_err(|error| HostFault(error.to_string()))?;
        self.add(cpu);
        Ok(result)
    }

    fn add(&self, nanos: u64) {
        self.spent.fetch_add(nanos, Relaxed);
    }

    /// Counts a host call. Only the thread that runs the invocation does, so plain loads and stores suffice.
    pub(crate) fn host_call(&self) {
        self.calls.store(self.calls.load(Relaxed) + 1, Relaxed);
    }

    /// Whether the invocation may go on; asked at each tick and in long host calls, from within a poll.
    pub fn may_go_on(&self) -> bool {
        if self.interrupt.is_raised() {
            self.interrupted.store(true, Relaxed);
            return false;
        }
        if self.nanos().saturating_add(self.of_poll()) > self.cpu {
            self.over_cpu.store(true, Relaxed);
            return false;
        }
        if self.wall.is_some_and(|wall| Instant::now() > wall + self.waited()) {
            self.over_wall.store(true, Relaxed);
            return false;
        }
        true
    }

    /// For long host calls, every few hundred microseconds: ends the call where its time is used up, and else
    /// lets others have the thread for a moment where they want it.
    pub async fn breathe(&self) -> Result<(), Overrun> {
        self.check()?;
        if self.of_poll() < TICK.as_nanos() as u64 {
            tokio::task::consume_budget().await;
        } else {
            self.yields.store(true, Relaxed);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Whether the invocation may go on, which then lets others have the thread.
    pub(crate) fn may_yield(&self) -> bool {
        let may_go_on = self.may_go_on();
        self.yields.store(may_go_on, Relaxed);
        may_go_on
    }

    /// Whether the poll that has ended waits for nothing.
    pub(crate) fn has_yielded(&self) -> bool {
        self.yields.swap(false, Relaxed)
    }

    /// Notes whether the invocation waits for a turn.
    pub(crate) fn wait_for_turn(&self, waits: bool) {
        let since = self.waits_since.load(Relaxed);
        if waits == (since > 0) {
            return;
        }
        let now = self.begun.elapsed().as_nanos() as u64;
        if !waits {
            self.waited.fetch_add(now.saturating_sub(since), Relaxed);
        }
        self.waits_since.store(if waits { now.max(1) } else { 0 }, Relaxed);
    }

    /// Whether it is to end while it waits for a turn, where no tick comes.
    pub(crate) fn is_cut_off(&self) -> bool {
        let is_cut_off = self.waits_since.load(Relaxed) > 0 && self.interrupt.is_raised();
        self.interrupted.fetch_or(is_cut_off, Relaxed);
        is_cut_off
    }

    /// How long the invocation has waited for turns.
    pub(crate) fn waited(&self) -> Duration {
        let since = match self.waits_since.load(Relaxed) {
            0 => Duration::ZERO,
            since => self.begun.elapsed().saturating_sub(Duration::from_nanos(since)),
        };
        since + Duration::from_nanos(self.waited.load(Relaxed))
    }

    /// CPU time of the poll under way.
    fn of_poll(&self) -> u64 {
        thread_cpu().saturating_sub(self.started.load(Relaxed))
    }

    /// The same for host calls that can't wait.
    pub(crate) fn check(&self) -> Result<(), Overrun> {
        if self.may_go_on() { Ok(()) } else { Err(Overrun) }
    }

    /// Whether what was spent is within the CPU time that there was; asked when the call has ended, since the
    /// last tick may be long ago by then.
    pub(crate) fn ends_in_time(&self) -> bool {
        self.nanos() <= self.cpu
    }

    /// What was spent in the polls that have ended, in nanoseconds.
    pub(crate) fn nanos(&self) -> u64 {
        self.spent.load(Relaxed) + self.calls.load(Relaxed) * HOST_CALL_NANOS
    }

    /// The CPU time spent, each host call with at least its price.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    /// Whether it was stopped for its CPU time.
    pub(crate) fn is_over_cpu(&self) -> bool {
        self.over_cpu.load(Relaxed)
    }

    /// Whether it was stopped from outside.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Whether it was stopped for its time on the wall.
    pub(crate) fn is_over_wall(&self) -> bool {
        self.over_wall.load(Relaxed)
    }
}

/// Does work on this thread, and tells the CPU time that it took.
pub(crate) fn metered<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = thread_cpu();
    let done = work();
    (done, Duration::from_nanos(thread_cpu().saturating_sub(before)))
}

fn thread_cpu() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Bounds all memories and tables of an invocation together.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: usize,
    used: usize,
    /// Growth that was allowed and has not been heard of since: it went well, or fails next.
    pending: usize,
    refused: bool,
}

impl MemoryLimiter {
    /// Allows this many bytes, at most the ceiling that the pool has.
    pub(crate) fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit.min(Limits::MAX_MEMORY)).unwrap_or(usize::MAX);
        Self { limit, used: 0, pending: 0, refused: false }
    }

    /// Bytes in use. Memories never shrink, so this is the peak as well.
    pub(crate) fn used(&self) -> u64 {
        self.used as u64
    }

    /// Whether growth was refused. The app then shows no more than a plain trap.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused
    }

    /// Counts growth, or refuses it. What a memory or table declares as its own maximum is no limit of ours.
    fn grow(&mut self, bytes: Option<usize>, beyond_own_maximum: bool) -> bool {
        self.pending = 0;
        if beyond_own_maximum {
            return false;
        }
        let Some(bytes) = bytes.filter(|bytes| *bytes <= self.limit - self.used) else {
            self.refused = true;
            return false;
        };
        self.used += bytes;
        self.pending = bytes;
        true
    }

    /// Growth that was allowed has failed: that is the machine's doing, and another run may succeed. Growth that
    /// was never asked about fails for what the guest declares.
    fn failed(&mut self, error: &wasmtime::Error) -> wasmtime::Result<()> {
        match std::mem::take(&mut self.pending) {
            0 => Ok(()),
            bytes => {
                self.used -= bytes;
                Err(HostFault(format!("an app's memory could not grow by {bytes} bytes: {error:#}")).into())
            }
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let declared = maximum.is_some_and(|maximum| desired > maximum && maximum < self.limit);
        Ok(self.grow(desired.checked_sub(current), declared))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed(&error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let declared = maximum.is_some_and(|maximum| desired > maximum);
        let elements = desired.checked_sub(current);
        Ok(self.grow(elements.and_then(|elements| elements.checked_mul(size_of::<usize>())), declared))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed(&error)
    }
}

/// The invocation has brought more over the boundary than it may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "its host calls carried more than {MAX_CALL_BYTES} bytes in one call, or {MAX_HOST_CALL_BYTES} bytes together"
)]
pub(crate) struct HostCallBytes;

/// Counts the bytes that an invocation hands over, and those that would go into its record.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    carried: usize,
    effects: usize,
}

impl Quota {
    /// Counts what a host call carried from the guest.
    pub(crate) fn carry(&mut self, bytes: usize) -> Result<(), HostCallBytes> {
        self.carried = self.carried.saturating_add(bytes);
        if self.carried > MAX_HOST_CALL_BYTES { Err(HostCallBytes) } else { Ok(()) }
    }

    /// Counts effects that come and go; refuses with a sentence what would be too much together.
    pub(crate) fn effect(&mut self, added: usize, removed: usize) -> Result<(), String> {
        let effects = self.effects.saturating_add(added).saturating_sub(removed);
        if effects > MAX_EFFECT_BYTES && added > removed {
            return Err(format!(
                "all effects of one invocation together are limited to {MAX_EFFECT_BYTES} bytes; \
                 with this call they would be {effects}"
            ));
        }
        self.effects = effects;
        Ok(())
    }

    /// Bytes that effects may still have.
    pub(crate) fn room(&self) -> usize {
        MAX_EFFECT_BYTES.saturating_sub(self.effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_beyond_the_limit_is_refused_and_remembered() {
        let mut limiter = MemoryLimiter::new(1 << 20);
        assert!(limiter.memory_growing(0, 512 << 10, None).unwrap());
        assert!(limiter.table_growing(0, 1_000, None).unwrap());
        assert!(!limiter.has_refused());
        assert!(!limiter.memory_growing(512 << 10, 1 << 20, None).unwrap());
        assert!(limiter.has_refused());
        assert_eq!(limiter.used(), (512 << 10) + 8_000);
    }

    #[test]
    fn growth_that_fails_is_taken_back() {
        let mut limiter = MemoryLimiter::new(1 << 20);
        assert!(limiter.memory_growing(0, 64 << 10, None).unwrap());
        assert!(limiter.memory_growing(64 << 10, 128 << 10, None).unwrap());
        let fault = limiter.memory_grow_failed(wasmtime::Error::msg("out of memory")).unwrap_err();
        assert!(fault.is::<HostFault>(), "the machine is to blame, not the app");
        assert_eq!(limiter.used(), 64 << 10);
        // One that was never asked about, as by a memory of one-byte pages, takes nothing back.
        limiter.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert!(!limiter.memory_growing(64 << 10, 128 << 10, Some(64 << 10)).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!(limiter.used(), 64 << 10);
    }

    #[test]
    fn a_memory_s_own_maximum_is_not_the_limit() {
        let mut limiter = MemoryLimiter::new(1 << 20);
        assert!(!limiter.memory_growing(0, 128 << 10, Some(64 << 10)).unwrap());
        assert!(!limiter.has_refused());
    }

    #[test]
    fn effects_are_bounded_together() {
        let mut quota = Quota::default();
        assert!(quota.effect(MAX_EFFECT_BYTES, 0).is_ok());
        let error = quota.effect(1, 0).unwrap_err();
        assert!(error.contains("16777216") && error.contains("16777217"), "{error}");
        assert!(quota.effect(10, 20).is_ok(), "what makes it less is never refused");
    }
}
