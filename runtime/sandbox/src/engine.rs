//! The one engine: settings under which the same inputs give the same result on any machine, the
//! pool from which each invocation gets its instance, and the tick that stops a loop.

use std::hash::{Hash, Hasher};
use std::num::NonZero;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::canonical_nan;
use ironloom_types::ids::Digest;
use ironloom_types::limits::{Limits, MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLES};

/// The interval at which a running invocation's budget is checked, and others get their turn.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The stack of an app's own functions. Part of what makes a deep recursion end at the same place
/// everywhere.
const WASM_STACK: usize = 512 << 10;
/// The whole stack of an invocation: the app's functions and the host's below them.
const STACK: usize = 1 << 20;
/// The longest table, in elements. SpiderMonkey, the largest in use, has some 10,000.
pub(crate) const TABLE_ELEMENTS: usize = 50_000;
/// Bytes of a table that the pool clears itself between two invocations; the rest goes back to the operating system.
const TABLE_KEEP_RESIDENT: usize = 64 << 10;
/// The same of a stack, from its top.
const STACK_KEEP_RESIDENT: usize = 64 << 10;
/// The same of a memory, from its beginning: an app's stack as `ironloom build` links it, its data, and the heap that
/// a batch of some hundred readings takes. A page fault for each page costs several times as much as clearing it.
const MEMORY_KEEP_RESIDENT: usize = 384 << 10;

/// Calls of a backtrace that are looked at, from the innermost on.
const FRAMES: usize = 64;

/// The memories that each place has. Each takes 4 GiB of addresses, of which some processors and kernels have only
/// 512 GiB.
const MEMORIES_OF_A_PLACE: u32 = 2;
/// The memories beside them, enough for two components with as many as one may have.
pub(crate) const MORE_MEMORIES: u32 = 2 * (MAX_MEMORIES - MEMORIES_OF_A_PLACE);

/// The memories that an invocation needs beside those of its place. It waits until there are as many.
pub(crate) fn more_memories(declared: u32) -> u32 {
    declared.saturating_sub(MEMORIES_OF_A_PLACE)
}

/// The source of the memories of invocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocator {
    /// A pool, in which each has its place.
    #[default]
    Pool,
    /// The system, for each anew: slower, and for comparisons. What an app does must not depend on it.
    OnDemand,
}

impl Allocator {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::OnDemand => "on-demand",
        }
    }
}

/// The form in which components are compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compiled {
    /// Rewritten so that NaNs are the same everywhere.
    #[default]
    Rewritten,
    /// As they are, so that a trap can be followed to its line; the compiler sees to NaNs, which is slower.
    WithLines,
}

/// Makes the engine. `places` is how many invocations may be under way at once.
pub(crate) fn engine(places: u32, allocator: Allocator, compiled: Compiled) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(places)
        .total_core_instances(places * MAX_CORE_INSTANCES)
        .total_memories(MEMORIES_OF_A_PLACE * places + MORE_MEMORIES)
        .total_tables(places * MAX_TABLES)
        .total_stacks(places)
        .total_gc_heaps(0)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .table_elements(TABLE_ELEMENTS)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
        .max_memory_size(usize::try_from(Limits::MAX_MEMORY)?)
        // What is kept of memories is kept for as many as can be in use, not for each that ever was.
        .max_unused_warm_slots(places);

    let mut config = Config::new();
    config
        .allocation_strategy(match allocator {
            Allocator::Pool => InstanceAllocationStrategy::Pooling(pool),
            Allocator::OnDemand => InstanceAllocationStrategy::OnDemand,
        })
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(STACK)
        // Stacks are used again, by others as well.
        .async_stack_zeroing(true)
        // The same bits on every machine; those of NaNs in rewritten code `canonical_nan` has seen to.
        .cranelift_nan_canonicalization(compiled == Compiled::WithLines)
        .relaxed_simd_deterministic(true)
        // What no toolchain for components needs is not offered: less to get wrong. Without support for garbage
        // collection there are no external references either, and no heap of it.
        .gc_support(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_stack_switching(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_compact_imports(false)
        // Where code was rewritten, a backtrace leads to no line.
        .wasm_backtrace_details(match compiled {
            Compiled::Rewritten => WasmBacktraceDetails::Disable,
            Compiled::WithLines => WasmBacktraceDetails::Enable,
        })
        .wasm_backtrace_max_frames(match compiled {
            Compiled::Rewritten => None,
            Compiled::WithLines => NonZero::new(FRAMES),
        });
    Engine::new(&config)
}

/// Names what compiled code depends on besides the app: the version of wasmtime, the engine's
/// settings and the CPU's features. Code under another key is never loaded.
pub(crate) fn key(engine: &Engine) -> Digest {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Sha(Sha256::new());
    hasher.write(b"ironloom/engine/2");
    hasher.write(&[canonical_nan::VERSION]);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Digest(hasher.0.finalize().into())
}

/// Starts the thread that ticks; it ends with the engine.
pub(crate) fn start_ticker(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("tick".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => break,
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_same_for_any_number_of_places_and_each_allocator() {
        // The worker has a pool of one place, the server one of many.
        let pool = |places| key(&engine(places, Allocator::Pool, Compiled::Rewritten).unwrap());
        assert_eq!(pool(1), pool(4));
        let on_demand = key(&engine(4, Allocator::OnDemand, Compiled::Rewritten).unwrap());
        assert_eq!(pool(1), on_demand, "code runs with either allocator");
        let with_lines = key(&engine(4, Allocator::Pool, Compiled::WithLines).unwrap());
        assert_ne!(pool(1), with_lines, "other code");
    }
}
