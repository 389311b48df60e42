//! What one invocation may use: CPU time, time on the wall, memory, bytes over the boundary.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

use super::interrupt::Interrupt;
use ironloom_types::limits::{HOST_CALL_NANOS, Limits, MAX_EFFECT_BYTES, MAX_HOST_CALL_BYTES};

/// Sums the CPU time of an invocation.
///
/// Ticks of the epoch are no measure: an invocation that waits is charged for them all. So the
/// thread's own CPU clock is read around each poll of the call's future, and at each tick.
#[derive(Debug)]
pub struct Meter {
    cpu: u64,
    wall: Instant,
    /// Of the polls that have ended.
    spent: AtomicU64,
    /// What the thread's clock showed when the poll under way began.
    started: AtomicU64,
    calls: AtomicU64,
    over_cpu: AtomicBool,
    over_wall: AtomicBool,
    interrupt: Interrupt,
    interrupted: AtomicBool,
}

impl Meter {
    /// Starts with nothing spent.
    pub fn new(limits: &Limits, interrupt: Interrupt) -> Self {
        Self {
            cpu: limits.cpu,
            wall: Instant::now() + limits.wall(),
            spent: AtomicU64::new(0),
            started: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            over_cpu: AtomicBool::new(false),
            over_wall: AtomicBool::new(false),
            interrupt,
            interrupted: AtomicBool::new(false),
        }
    }

    /// Runs a future and charges the CPU time of its polls.
    pub async fn charge<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let before = thread_cpu();
            self.started.store(before, Relaxed);
            let poll = future.as_mut().poll(context);
            let spent = self.spent.load(Relaxed) + thread_cpu().saturating_sub(before);
            self.spent.store(spent, Relaxed);
            poll
        })
        .await
    }

    /// Counts a host call. Only the thread that runs the invocation does, so plain loads and stores suffice.
    pub fn host_call(&self) {
        self.calls.store(self.calls.load(Relaxed) + 1, Relaxed);
    }

    /// Whether the invocation may go on; asked at each tick, from within a poll.
    pub fn may_go_on(&self) -> bool {
        if self.interrupt.is_raised() {
            self.interrupted.store(true, Relaxed);
            return false;
        }
        let poll = thread_cpu().saturating_sub(self.started.load(Relaxed));
        if self.spent.load(Relaxed) + poll + self.host_calls() > self.cpu {
            self.over_cpu.store(true, Relaxed);
            return false;
        }
        if Instant::now() > self.wall {
            self.over_wall.store(true, Relaxed);
            return false;
        }
        true
    }

    fn host_calls(&self) -> u64 {
        self.calls.load(Relaxed) * HOST_CALL_NANOS
    }

    /// What was spent, each host call with at least its price.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed) + self.host_calls())
    }

    /// Whether it was stopped for its CPU time.
    pub fn is_over_cpu(&self) -> bool {
        self.over_cpu.load(Relaxed)
    }

    /// Whether it was stopped from outside.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Whether it was stopped for its time on the wall.
    pub fn is_over_wall(&self) -> bool {
        self.over_wall.load(Relaxed)
    }
}

fn thread_cpu() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Bounds all memories and tables of an invocation together.
#[derive(Debug)]
pub struct MemoryLimiter {
    limit: usize,
    used: usize,
    /// Growth that was allowed last, to be taken back where it then fails.
    last: usize,
    refused: bool,
}

impl MemoryLimiter {
    /// Allows this many bytes, at most the ceiling that the pool has.
    pub fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit.min(Limits::MAX_MEMORY)).unwrap_or(usize::MAX);
        Self { limit, used: 0, last: 0, refused: false }
    }

    /// Bytes in use. Memories never shrink, so this is the peak as well.
    pub fn used(&self) -> u64 {
        self.used as u64
    }

    /// Whether growth was refused. The app then shows no more than a plain trap.
    pub fn has_refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, bytes: usize) -> bool {
        if bytes > self.limit - self.used {
            self.refused = true;
            return false;
        }
        self.used += bytes;
        self.last = bytes;
        true
    }

    fn take_back(&mut self) {
        self.used -= std::mem::take(&mut self.last);
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond the maximum that the memory itself declares it fails whatever the limit is.
        let declared = maximum.is_some_and(|maximum| desired > maximum && maximum < self.limit);
        Ok(!declared && self.grow(desired - current))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok((desired - current).checked_mul(size_of::<usize>()).is_some_and(|bytes| self.grow(bytes)))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }
}

/// The invocation has brought more over the boundary than it may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("its host calls carried more than {MAX_HOST_CALL_BYTES} bytes together")]
pub struct HostCallBytes;

/// Counts the bytes that an invocation hands over, and those that would go into its record.
#[derive(Debug, Default)]
pub struct Quota {
    carried: usize,
    effects: usize,
}

impl Quota {
    /// Counts what a host call carried from the guest.
    pub fn carry(&mut self, bytes: usize) -> Result<(), HostCallBytes> {
        self.carried = self.carried.saturating_add(bytes);
        if self.carried > MAX_HOST_CALL_BYTES { Err(HostCallBytes) } else { Ok(()) }
    }

    /// Counts effects that come and go; refuses with a sentence what would be too much together.
    pub fn effect(&mut self, added: usize, removed: usize) -> Result<(), String> {
        let effects = (self.effects + added).saturating_sub(removed);
        if effects > MAX_EFFECT_BYTES && added > removed {
            return Err(format!(
                "all effects of one invocation together are limited to {MAX_EFFECT_BYTES} bytes; \
                 with this call they would be {effects}"
            ));
        }
        self.effects = effects;
        Ok(())
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

    #[tokio::test]
    async fn only_the_polls_are_charged() {
        let meter = Meter::new(&Limits::default(), Interrupt::default());
        meter.charge(tokio::time::sleep(Duration::from_millis(50))).await;
        assert!(meter.cpu() < Duration::from_millis(10), "{:?}", meter.cpu());
        meter.host_call();
        assert!(meter.cpu() >= Duration::from_micros(1));
    }
}
