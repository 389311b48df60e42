//! A component that is linked with what it may import, and ready to be called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};

use super::bindings::{lifecycle, readings, timers};
use super::capabilities::add_to_linker;
use super::env::{AppContext, Env, Nothing};
use super::host::Host;
use super::interrupt::Interrupt;
use super::invocation;
use super::worker::CompileError;
use super::{Sandbox, wasi};
use ironloom_types::CompiledRef;
use ironloom_types::clock::Timestamp;
use ironloom_types::interfaces::{Capability, Declared, Role, Roles};
use ironloom_types::limits::{Limits, MAX_MEMORIES};

/// The reason why a component can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It had to be compiled again, which failed.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The component itself could not be read.
    #[error("the component could not be read: {0}")]
    Read(#[source] std::io::Error),
    /// It imports or exports something that this host doesn't have, or has in another form.
    #[error(
        "the app was built against other interfaces than this ironloom's: {0}; build it again with this version's SDK, or update ironloom"
    )]
    Unlinkable(String),
    /// The component breaks off before it is called.
    #[error("the app can't be started: {0}")]
    Start(String),
    /// The host's own fault.
    #[error("the app could not be loaded: {0}")]
    Host(String),
}

/// An app that can be called. Its code is let go where all code takes too much memory or nobody has called it for long,
/// and is loaded again for the next call.
pub struct LoadedApp {
    compiled: CompiledRef,
    declared: Declared,
    roles: Roles,
    memories: u32,
    /// Bytes of its code.
    bytes: u64,
    linked: Mutex<Option<Arc<Linked>>>,
    /// Held while the code is loaded again: once for all that wait for it.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// When it was last called, in nanoseconds of the sandbox's life.
    used: AtomicU64,
    /// The code could not be loaded again.
    lost: AtomicBool,
}

/// A component that is linked with what its manifest declares.
pub(super) struct Linked {
    /// Kept for others that load the same.
    component: Arc<Component>,
    pub(super) pre: InstancePre<Host>,
    pub(super) readings: Option<readings::ReadingsIndices>,
    pub(super) timers: Option<timers::TimersIndices>,
    pub(super) lifecycle: Option<lifecycle::LifecycleIndices>,
    roles: Roles,
}

impl std::fmt::Debug for LoadedApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedApp").field("roles", &self.roles).finish_non_exhaustive()
    }
}

/// An app, and the code that it was loaded from.
#[derive(Debug)]
pub struct Loaded {
    /// The app, shared by all that load the same code for the same declaration.
    pub app: Arc<LoadedApp>,
    /// To be recorded where it isn't what was asked for: the code was compiled again.
    pub compiled: CompiledRef,
}

impl LoadedApp {
    pub(super) fn new(linked: Linked, compiled: CompiledRef, declared: Declared) -> Self {
        let component = &linked.component;
        let code = component.image_range();
        Self {
            compiled,
            declared,
            roles: linked.roles,
            // A component that imports a module doesn't tell; nothing that it could import here is one.
            memories: component.resources_required().map_or(MAX_MEMORIES, |required| required.num_memories),
            bytes: (code.end.addr() - code.start.addr()) as u64,
            linked: Mutex::new(Some(Arc::new(linked))),
            loading: tokio::sync::Mutex::default(),
            used: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// Returns what it can be called for.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Whether its code could not be loaded again when it was needed, so that it has to be compiled.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub(super) fn set_lost(&self, lost: bool) {
        self.lost.store(lost, Ordering::Release);
    }

    /// The code that it was loaded from.
    pub fn compiled(&self) -> CompiledRef {
        self.compiled
    }

    /// The declarations of its manifest.
    pub fn declared(&self) -> Declared {
        self.declared
    }

    /// Returns how many memories an instance has.
    pub(super) fn memories(&self) -> u32 {
        self.memories
    }

    /// Bytes of its code.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When it was last called.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Its code, if it is in memory, to be used now.
    pub(super) fn linked(&self, now: u64) -> Option<Arc<Linked>> {
        self.used.fetch_max(now, Ordering::Relaxed);
        self.linked.lock().clone()
    }

    pub(super) fn has_code(&self) -> bool {
        self.linked.lock().is_some()
    }

    pub(super) fn put(&self, linked: Arc<Linked>) {
        *self.linked.lock() = Some(linked);
        self.set_lost(false);
    }

    /// Whether its code is in memory and nobody uses it.
    pub(super) fn is_idle(&self) -> bool {
        self.linked.lock().as_ref().is_some_and(|linked| Arc::strong_count(linked) == 1)
    }

    /// Takes its code out of memory, unless it is used.
    pub(super) fn let_go(&self) -> Option<Arc<Linked>> {
        let mut linked = self.linked.lock();
        // Others get theirs under this lock.
        linked.take_if(|linked| Arc::strong_count(linked) == 1)
    }
}

impl Linked {
    /// Whether no other app of the same code has it.
    pub(super) fn has_component_alone(&self) -> bool {
        Arc::strong_count(&self.component) == 1
    }

    /// Links a component with what its manifest declares.
    pub(super) fn new(
        engine: &Engine,
        component: Arc<Component>,
        declared: Declared,
    ) -> Result<Self, LoadError> {
        let linker = linker(engine, declared).map_err(|error| LoadError::Host(format!("{error:#}")))?;
        let unlinkable = |error: wasmtime::Error| LoadError::Unlinkable(format!("{error:#}"));
        let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
        let kind = component.component_type();
        let roles = Roles::of_exports(kind.exports(engine).map(|(name, _)| name));
        let readings = roles.readings.then(|| readings::ReadingsIndices::new(&pre)).transpose();
        let timers = roles.timers.then(|| timers::TimersIndices::new(&pre)).transpose();
        let lifecycle = roles.lifecycle.then(|| lifecycle::LifecycleIndices::new(&pre)).transpose();
        Ok(Self {
            readings: readings.map_err(unlinkable)?,
            timers: timers.map_err(unlinkable)?,
            lifecycle: lifecycle.map_err(unlinkable)?,
            component,
            pre,
            roles,
        })
    }

    /// Makes an instance and looks all roles up. The look-up of an export doesn't compare types: that, and a start
    /// function that traps, shows only so.
    pub(super) async fn start(&self, sandbox: &Sandbox, memories: u32, memory: u64) -> Result<(), LoadError> {
        let try_all = async |store: &mut Store<Host>| {
            let instance = self.pre.instantiate_async(&mut *store).await?;
            let loaded = [
                (
                    Role::Readings,
                    self.readings.as_ref().map(|role| role.load(&mut *store, &instance).map(drop)),
                ),
                (Role::Timers, self.timers.as_ref().map(|role| role.load(&mut *store, &instance).map(drop))),
                (
                    Role::Lifecycle,
                    self.lifecycle.as_ref().map(|role| role.load(&mut *store, &instance).map(drop)),
                ),
            ];
            Ok(loaded.into_iter().find_map(|(role, loaded)| Some((role, loaded?.err()?))))
        };
        let limits = Limits { memory, ..Limits::default() };
        let (result, report) = invocation::run(sandbox, memories, surroundings(limits), try_all).await;
        match result {
            Some(None) => Ok(()),
            Some(Some((role, error))) => Err(LoadError::Unlinkable(format!(
                "its export {} has another type: {error:#}",
                role.interface()
            ))),
            None => Err(LoadError::Start(report.outcome.to_string())),
        }
    }
}

fn surroundings(limits: Limits) -> Env {
    Env {
        id: "load".to_owned(),
        now: Timestamp::default(),
        seed: [0; 32],
        gaps: Vec::new(),
        context: Arc::new(AppContext { limits, ..AppContext::default() }),
        state: Arc::new(Nothing),
        state_bytes: 0,
        outputs: Arc::new(Nothing),
        holdings: Arc::new(Nothing),
        used: 0,
        interrupt: Interrupt::default(),
    }
}

/// Links exactly the app's allowed imports. Others don't exist for it.
fn linker(engine: &Engine, declared: Declared) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    for capability in Capability::ALL {
        if capability.is_declared(declared) {
            add_to_linker(capability, &mut linker)?;
        }
    }
    Ok(linker)
}
