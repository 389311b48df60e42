//! A component that is linked with what it may import, and ready to be called.

use std::sync::Arc;

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
    #[error("the app doesn't fit this host: {0}; it may have been built with a newer SDK: update ironloom")]
    Unlinkable(String),
    /// The component breaks off before it is called.
    #[error("the app can't be started: {0}")]
    Start(String),
    /// The host's own fault.
    #[error("the app could not be loaded: {0}")]
    Host(String),
}

/// A component that is ready to be called.
pub struct LoadedApp {
    /// Kept for others that load the same.
    _component: Arc<Component>,
    pub(super) pre: InstancePre<Host>,
    pub(super) readings: Option<readings::ReadingsIndices>,
    pub(super) timers: Option<timers::TimersIndices>,
    lifecycle: Option<lifecycle::LifecycleIndices>,
    roles: Roles,
    memories: u32,
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
    /// Returns what it can be called for.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Returns how many memories an instance has.
    pub(super) fn memories(&self) -> u32 {
        self.memories
    }

    /// Links a component with what its manifest declares.
    pub(super) fn link(
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
            // A component that imports a module doesn't tell; nothing that it could import here is one.
            memories: component.resources_required().map_or(MAX_MEMORIES, |required| required.num_memories),
            _component: component,
            pre,
            roles,
        })
    }

    /// Makes an instance and looks all roles up. The look-up of an export doesn't compare types: that, and a start
    /// function that traps, shows only so.
    pub(super) async fn start(&self, sandbox: &Sandbox, memory: u64) -> Result<(), LoadError> {
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
        let (result, report) = invocation::run(sandbox, self.memories, surroundings(limits), try_all).await;
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
