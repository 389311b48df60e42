//! Runs apps: WebAssembly components, each invocation in a fresh instance with limits on all that it
//! uses, and with nothing that its manifest doesn't declare.
//!
//! [`Sandbox::compile`] has a component checked and compiled by a subprocess, [`Sandbox::load`] links it with what
//! its manifest declares, [`Sandbox::invoke`] calls it. An invocation's effects are plain data
//! ([`ironloom_types::effects`]): nothing of an app ever writes anywhere by itself.

mod app;
mod app_log;
mod aside;
mod bindings;
mod budget;
mod canonical_nan;
mod capabilities;
mod code;
mod compiled;
mod confine;
mod engine;
mod env;
mod failure;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod host;
mod interrupt;
mod invocation;
mod keys;
mod loads;
mod names;
mod turns;
mod wasi;
mod worker;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Component;

pub use self::app::{LoadError, Loaded, LoadedApp};
pub use self::app_log::{Level, LogLine, LogSource};
pub use self::aside::{BrokenOff, aside};
pub use self::bindings::types::{Batch, Frame, Quality, Values};
pub use self::budget::{Meter, Overrun};
pub use self::code::CodeFigures;
pub use self::confine::{Confinement, NotConfined, lock_in};
pub use self::engine::{Allocator, Compiled};
pub use self::env::{
    AlarmRoom, AppContext, BoxFuture, Cached, Env, Granted, Holdings, MAX_LOADED_BYTES, MAX_LOADED_KEYS,
    NotGranted, Nothing, OutputKind, OutputResolver, OutputSlot, PointRoom, ReadError, Scan, SetPoint,
    StatePage, StateReader, Target, UnknownEntity,
};
pub use self::failure::Outcome;
pub use self::fault::HostFault;
pub use self::interrupt::{Interrupt, Interrupting};
pub use self::invocation::{Call, Report};
pub use self::keys::Keys;
pub use self::names::names;
pub use self::worker::{CompileError, CompileLimits, Refusal, SUBCOMMAND, Surface, compile_worker, look};

use self::app::Linked;
use self::code::CodeClock;
use self::loads::Loads;
use self::turns::Turns;
use ironloom_types::CompiledRef;
use ironloom_types::ids::Digest;
use ironloom_types::interfaces::Declared;

/// Invocations for each core that have a place: six of lanes, and one for an instance on its way out, what an install tries, a
/// replay or a migration.
pub const PLACES_PER_CORE: u32 = 7;

/// Cores that invocations use. With more than 64 the addresses of all places might not fit.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(64)
}

/// The setup of a sandbox.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// The folder of compiled code.
    pub cache_dir: PathBuf,
    /// The program that compiles when called with [`SUBCOMMAND`]: `ironloom` itself.
    pub worker: PathBuf,
    /// The most invocations at a time, suspended ones included.
    pub places: u32,
    /// How many of them may run at once: one for each core.
    pub turns: usize,
    /// The source of their memories.
    pub allocator: Allocator,
    /// The form in which components are compiled.
    pub compiled: Compiled,
    /// Limits of a compilation.
    pub compile: CompileLimits,
    /// Bytes of code in memory beyond which what isn't used is let go.
    pub code: u64,
}

impl SandboxConfig {
    /// With the usual limits.
    pub fn new(cache_dir: PathBuf, worker: PathBuf) -> Self {
        let cores = cores();
        let (places, turns) = (PLACES_PER_CORE * cores as u32, cores);
        let (allocator, compiled) = (Allocator::default(), Compiled::default());
        let compile = CompileLimits::default();
        Self { cache_dir, worker, places, turns, allocator, compiled, compile, code: u64::MAX }
    }
}

/// The reason why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The folder of compiled code can't be used.
    #[error("the folder for compiled code, {}, can't be used: {source}", .folder.display())]
    Cache {
        /// The folder that can't be used.
        folder: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// This machine can't run WebAssembly as it is wanted here.
    #[error("the WebAssembly engine can't be started: {0}")]
    Engine(String),
}

/// A component's imports, exports and compiled code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The digest of the component.
    pub digest: Digest,
    /// Its imports, with versions.
    pub imports: Vec<String>,
    /// Its exports, with versions.
    pub exports: Vec<String>,
    /// The version of the SDK that it was built with, if any.
    pub sdk_version: Option<String>,
    /// Its compiled code, to be put into the store.
    pub compiled: CompiledRef,
}

/// Code that is loaded again at the same time.
const LOADS_AT_ONCE: usize = 2;

/// The engine, its pool and its cache.
#[derive(Debug)]
pub struct Sandbox {
    engine: Engine,
    key: Digest,
    cache: Arc<compiled::Cache>,
    places: Semaphore,
    turns: Arc<Turns>,
    /// The pool's memories for components with more than a place has. Nobody else waits for one.
    more_memories: Semaphore,
    /// One compilation at a time: they are long, and want much memory.
    compiling: Semaphore,
    /// Loads of code at the same time: each takes a processor.
    loading: Semaphore,
    loads: Mutex<Loads>,
    clock: CodeClock,
    /// What the first compile worker found.
    confined: OnceLock<bool>,
    config: SandboxConfig,
}

impl Sandbox {
    /// Makes engine and pool, opens the cache, and starts the thread that ends what runs too long.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let sandbox = Self::without_threads(config)?;
        sandbox.start_ticker()?;
        Ok(sandbox)
    }

    /// Starts the thread that ends what runs too long.
    pub fn start_ticker(&self) -> Result<(), SandboxError> {
        engine::start_ticker(&self.engine).map_err(|error| SandboxError::Engine(error.to_string()))
    }

    /// Makes engine and pool, and opens the cache. Nothing may run before the ticker is started.
    pub fn without_threads(config: SandboxConfig) -> Result<Self, SandboxError> {
        let failed = |error: &dyn std::fmt::Display| SandboxError::Engine(error.to_string());
        let engine = engine::engine(config.places, config.allocator, config.compiled)
            .map_err(|error| failed(&format_args!("{error:#}")))?;
        let cache = compiled::Cache::open(&config.cache_dir)
            .map_err(|source| SandboxError::Cache { folder: config.cache_dir.clone(), source })?;
        Ok(Self {
            key: engine::key(&engine),
            engine,
            cache: Arc::new(cache),
            places: Semaphore::new(config.places as usize),
            turns: Turns::new(config.turns),
            more_memories: Semaphore::new(engine::MORE_MEMORIES as usize),
            compiling: Semaphore::new(1),
            loading: Semaphore::new(LOADS_AT_ONCE),
            loads: Mutex::default(),
            clock: CodeClock::default(),
            confined: OnceLock::new(),
            config,
        })
    }

    /// Has a component validated, listed and compiled by the worker, and keeps the code.
    pub async fn compile(&self, wasm: Bytes) -> Result<Inspection, CompileError> {
        let _turn = self.compiling.acquire().await;
        let folder = self.config.cache_dir.display();
        let unkept = |error: std::io::Error| {
            CompileError::Worker(format!("its code can't be kept in {folder}: {error}"))
        };
        let cache = Arc::clone(&self.cache);
        let (draft, file) = aside(move || {
            let draft = cache.draft()?;
            let file = draft.reopen()?;
            Ok((draft, file))
        })
        .await
        .map_err(std::io::Error::from)
        .flatten()
        .map_err(unkept)?;
        let SandboxConfig { worker, compiled, compile, .. } = &self.config;
        let found = worker::compile(worker, *compile, wasm.clone(), file, *compiled).await?;
        let (cache, engine, bytes) = (Arc::clone(&self.cache), self.key, found.code_bytes);
        let compiled = aside(move || cache.keep(draft, Digest::of(&wasm), engine, bytes)).await;
        let compiled = compiled.map_err(std::io::Error::from).flatten().map_err(unkept)?;
        let worker::Found { imports, exports, sdk_version, confined, .. } = found;
        self.confined.get_or_init(|| confined);
        Ok(Inspection { digest: compiled.wasm, imports, exports, sdk_version, compiled })
    }

    /// Whether the kernel keeps compile workers from all files and connections, which Linux does from 6.12 on. `None`
    /// before the first of them has run.
    pub fn confines_compiler(&self) -> Option<bool> {
        self.confined.get().copied()
    }

    /// Loads an app whose component was found to fit what its manifest declares, and tries it with so many bytes
    /// of memory. `wasm` reads the component, and is asked only where the cache has no sound code for this engine.
    pub async fn load(
        &self,
        compiled: &CompiledRef,
        wasm: impl FnOnce() -> std::io::Result<Bytes> + Send + 'static,
        declared: Declared,
        memory: u64,
    ) -> Result<Loaded, LoadError> {
        // What can't be read is compiled again as well: nothing waits for this, and it may never be read again.
        // Of an install, or a start: it comes out of no share.
        let spent = &mut Duration::default();
        let (component, compiled) = match self.component(*compiled, spent).await.unwrap_or_default() {
            Some(component) => (component, *compiled),
            None => self.component_of(wasm, compiled.wasm).await?,
        };
        let known = self.loads.lock().app(compiled, declared);
        let app = match known {
            Some(app) => app,
            None => {
                let linked = Linked::new(&self.engine, component, declared)?;
                self.clock.loaded();
                let app = Arc::new(LoadedApp::new(linked, compiled, declared));
                self.loads.lock().add_app(compiled, declared, app)
            }
        };
        // Held meanwhile, so that it isn't what goes.
        let linked = self.linked(&app, spent).await?;
        linked.start(self, app.memories(), memory).await?;
        self.make_room();
        Ok(Loaded { app, compiled })
    }

    /// Compiles a component anew.
    async fn component_of(
        &self,
        wasm: impl FnOnce() -> std::io::Result<Bytes> + Send + 'static,
        expected: Digest,
    ) -> Result<(Arc<Component>, CompiledRef), LoadError> {
        let read = move || {
            let wasm = wasm()?;
            let is_expected = Digest::of(&wasm) == expected;
            if is_expected {
                Ok(wasm)
            } else {
                Err(std::io::Error::other("it is not the component that was installed"))
            }
        };
        let read = aside(read).await.map_err(std::io::Error::from).flatten();
        let wasm = read.map_err(LoadError::Read)?;
        let compiled = self.compile(wasm).await?.compiled;
        let component = self.component(compiled, &mut Duration::default()).await?;
        let component = component
            .ok_or_else(|| LoadError::Host("the code that was just compiled doesn't load".to_owned()))?;
        Ok((component, compiled))
    }

    /// Removes the code of all components but these from the cache. Not to be called while something
    /// is compiled.
    pub fn retain(&self, keep: &[CompiledRef]) -> std::io::Result<()> {
        self.cache.retain(keep)
    }

    /// Returns code that is loaded already, or reads and maps it: some tens of milliseconds for the largest, which
    /// are added to `spent`.
    async fn component(
        &self,
        compiled: CompiledRef,
        spent: &mut Duration,
    ) -> Result<Option<Arc<Component>>, LoadError> {
        if let Some(component) = self.loads.lock().component(compiled) {
            return Ok(Some(component));
        }
        let (cache, engine, key) = (Arc::clone(&self.cache), self.engine.clone(), self.key);
        let read = aside(move || budget::metered(|| cache.get(&engine, key, &compiled))).await;
        let component = read.map_err(std::io::Error::from).and_then(|(component, cpu)| {
            *spent += cpu;
            component
        });
        let component = component
            .map_err(|error| LoadError::Host(format!("its compiled code can't be read: {error}")))?;
        let loads = &self.loads;
        Ok(component.map(|component| loads.lock().add_component(compiled, Arc::new(component))))
    }
}
