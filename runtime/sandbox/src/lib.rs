//! Runs apps: WebAssembly components, each invocation in a fresh instance with limits on all that it
//! uses, and with nothing that its manifest doesn't declare.
//!
//! [`Sandbox::compile`] has a component checked and compiled by a subprocess, [`Sandbox::load`] links
//! it for one manifest, [`Sandbox::invoke`] calls it. An invocation's effects are plain data
//! ([`ironloom_types::effects`]): nothing of an app ever writes anywhere by itself.

mod app;
mod app_log;
mod bindings;
mod budget;
mod canonical_nan;
mod capabilities;
mod compiled;
mod engine;
mod env;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod host;
mod interrupt;
mod invocation;
mod wasi;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Component;

pub use self::app::{Declared, LoadError, Loaded, LoadedApp, Roles};
pub use self::app_log::{Level, LogLine, LogSource};
pub use self::bindings::platform::ironloom::invocation::invocation::Gap;
pub use self::bindings::types::{Batch, Frame, Quality, Values};
pub use self::env::{
    AppContext, BoxFuture, Cached, Env, HostFault, Nothing, OutputKind, OutputResolver, OutputSlot, Scan,
    Standing, StatePage, StateReader, Target, UnknownEntity,
};
pub use self::failure::Outcome;
pub use self::interrupt::{Interrupt, Interrupting};
pub use self::invocation::{Call, Report};
pub use self::worker::{CompileError, CompileLimits, Refusal, SUBCOMMAND, compile_worker};

use ironloom_types::CompiledRef;
use ironloom_types::ids::Digest;

/// How a sandbox is set up.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// The folder of compiled code.
    pub cache_dir: PathBuf,
    /// The program that compiles when called with [`SUBCOMMAND`]: `ironloom` itself.
    pub worker: PathBuf,
    /// How many invocations may be under way at once, suspended ones included.
    pub places: u32,
    /// What a compilation may use.
    pub compile: CompileLimits,
}

impl SandboxConfig {
    /// With the usual limits: one running invocation and four suspended ones for each core.
    pub fn new(cache_dir: PathBuf, worker: PathBuf) -> Self {
        let cores =
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(64));
        Self { cache_dir, worker, places: 5 * cores.min(64), compile: CompileLimits::default() }
    }
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The folder of compiled code can't be used.
    #[error("the folder for compiled code, {}, can't be used: {source}", .folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// This machine can't run WebAssembly as it is wanted here.
    #[error("the WebAssembly engine can't be started: {0}")]
    Engine(String),
}

/// What a component is, and its compiled code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The digest of the component.
    pub digest: Digest,
    /// What it imports, with versions.
    pub imports: Vec<String>,
    /// What it exports, with versions.
    pub exports: Vec<String>,
    /// What it can be called for.
    pub roles: Roles,
    /// The version of the SDK that it was built with, if any.
    pub sdk_version: Option<String>,
    /// Its compiled code, to be put into the store.
    pub compiled: CompiledRef,
}

/// The engine, its pool and its cache.
#[derive(Debug)]
pub struct Sandbox {
    engine: Engine,
    key: Digest,
    cache: Arc<compiled::Cache>,
    places: Semaphore,
    /// One compilation at a time: they are long, and want much memory.
    compiling: Semaphore,
    config: SandboxConfig,
}

impl Sandbox {
    /// Sets it up.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let failed = |error: &dyn std::fmt::Display| SandboxError::Engine(error.to_string());
        let engine = engine::engine(config.places).map_err(|error| failed(&format_args!("{error:#}")))?;
        engine::start_ticker(&engine).map_err(|error| failed(&error))?;
        let cache = compiled::Cache::open(&config.cache_dir)
            .map_err(|source| SandboxError::Cache { folder: config.cache_dir.clone(), source })?;
        Ok(Self {
            key: engine::key(&engine),
            engine,
            cache: Arc::new(cache),
            places: Semaphore::new(config.places as usize),
            compiling: Semaphore::new(1),
            config,
        })
    }

    /// Has a component validated, listed and compiled by the worker, and keeps the code.
    pub async fn compile(&self, wasm: &[u8]) -> Result<Inspection, CompileError> {
        let _turn = self.compiling.acquire().await;
        let (found, code) = worker::compile(&self.config.worker, self.config.compile, wasm).await?;
        let digest = Digest::of(wasm);
        let compiled = CompiledRef { wasm: digest, engine: self.key, code: Digest::of(&code) };
        if let Err(error) = self.cache.put(&compiled, &code) {
            let folder = self.config.cache_dir.display();
            return Err(CompileError::Worker(format!("its code can't be kept in {folder}: {error}")));
        }
        let roles = Roles::of_exports(found.exports.iter().map(String::as_str));
        let (imports, exports, sdk_version) = (found.imports, found.exports, found.sdk_version);
        Ok(Inspection { digest, imports, exports, roles, sdk_version, compiled })
    }

    /// Loads an app for a manifest. `wasm` reads the component, and is asked only where the cache has
    /// no sound code for this engine.
    pub async fn load(
        &self,
        compiled: &CompiledRef,
        wasm: impl FnOnce() -> std::io::Result<Vec<u8>> + Send + 'static,
        declared: &Declared,
    ) -> Result<Loaded, LoadError> {
        if let Some(component) = self.cached(*compiled).await {
            let app = LoadedApp::new(self, &component, declared).await?;
            return Ok(Loaded { app: app.into(), compiled: *compiled });
        }
        let read = tokio::task::spawn_blocking(wasm).await;
        let wasm = read.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(LoadError::Read)?;
        if Digest::of(&wasm) != compiled.wasm {
            return Err(LoadError::Read(std::io::Error::other("it is not the one that was installed")));
        }
        let compiled = self.compile(&wasm).await?.compiled;
        let component = self
            .cached(compiled)
            .await
            .ok_or_else(|| LoadError::Host("the code that was just compiled doesn't load".to_owned()))?;
        let app = LoadedApp::new(self, &component, declared).await?;
        Ok(Loaded { app: app.into(), compiled })
    }

    /// Removes the code of all components but these from the cache. Not to be called while something
    /// is compiled.
    pub fn retain(&self, keep: &[CompiledRef]) -> std::io::Result<()> {
        self.cache.retain(keep)
    }

    /// Reads and maps compiled code: some tens of milliseconds for the largest.
    async fn cached(&self, compiled: CompiledRef) -> Option<Component> {
        let (cache, engine, key) = (Arc::clone(&self.cache), self.engine.clone(), self.key);
        tokio::task::spawn_blocking(move || cache.get(&engine, key, &compiled)).await.ok().flatten()
    }
}
