//! A component that was checked against its manifest, linked, and is ready to be called.

use std::sync::Arc;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};

use super::bindings::{lifecycle, readings, timers};
use super::capabilities::Capability;
use super::env::{AppContext, Env, Nothing};
use super::host::Host;
use super::interrupt::Interrupt;
use super::invocation;
use super::worker::CompileError;
use super::{Sandbox, wasi};
use ironloom_types::CompiledRef;
use ironloom_types::clock::Timestamp;
use ironloom_types::limits::Limits;

/// What a manifest says, as far as it decides what a component may import and must export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// It has `[inputs.*]`.
    pub inputs: bool,
    /// It has `[timers.*]`.
    pub timers: bool,
    /// It has the line `schedule = true`.
    pub schedule: bool,
    /// It has `[outputs.*]`.
    pub outputs: bool,
    /// It has `[alarms.*]`.
    pub alarms: bool,
    /// Bytes of memory that an invocation may have.
    pub memory: u64,
}

/// What an app can be called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// It takes readings.
    pub readings: bool,
    /// It has timers.
    pub timers: bool,
    /// It brings its state from one version's form into the next one's.
    pub lifecycle: bool,
}

const READINGS: &str = "ironloom:feeds/readings";
const TIMERS: &str = "ironloom:timers/timers";
const LIFECYCLE: &str = "ironloom:lifecycle/migration";
/// The version of all roles.
const ROLE_VERSION: &str = "0.1.0";
/// Types alone: there is nothing to call.
const TYPES: &str = "ironloom:types/types";

impl Roles {
    /// Those among the exports of a component. Exports that are no roles, such as `wasi:cli/run`,
    /// are nobody's concern.
    pub fn of_exports<'a>(exports: impl IntoIterator<Item = &'a str>) -> Self {
        let mut roles = Self::default();
        for export in exports {
            let (interface, version) = split(export);
            if fits(ROLE_VERSION, version) {
                match interface {
                    READINGS => roles.readings = true,
                    TIMERS => roles.timers = true,
                    LIFECYCLE => roles.lifecycle = true,
                    _ => {}
                }
            }
        }
        roles
    }
}

/// Why a component can't be installed with its manifest, or not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It had to be compiled again, which failed.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The component itself could not be read.
    #[error("the component could not be read: {0}")]
    Read(#[source] std::io::Error),
    /// An import that this host doesn't have at all.
    #[error("the app imports `{0}`, which no app is given here")]
    UnknownImport(String),
    /// An import in a version that this host doesn't have.
    #[error("the app imports `{import}`, and this host has version {offered}: {hint}")]
    ImportVersion {
        /// As the component names it.
        import: String,
        /// What there is.
        offered: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// An import that the manifest doesn't declare.
    #[error(
        "the app imports `{import}`, which its manifest doesn't declare: add {declaration} to `app.toml`, or don't use it"
    )]
    Undeclared {
        /// As the component names it.
        import: String,
        /// What the manifest lacks.
        declaration: &'static str,
    },
    /// A function that this host doesn't have.
    #[error("the app doesn't fit this host: {0}; it may have been built with a newer SDK: update ironloom")]
    Unlinkable(String),
    /// A role in a version that this host doesn't have.
    #[error(
        "the app exports `{0}`, and this host calls version {ROLE_VERSION}: build the app with the SDK of this ironloom"
    )]
    ExportVersion(String),
    /// Nothing to call.
    #[error(
        "the app has no role, so that nothing would ever call it: does its code name its roles with `ironloom_sdk::app!`?"
    )]
    NoRoles,
    /// The manifest has inputs, the component doesn't take readings.
    #[error("the manifest declares inputs, but the app doesn't have the role `readings`")]
    InputsWithoutRole,
    /// The other way round.
    #[error("the app has the role `readings`, but its manifest declares no `[inputs.NAME]`")]
    RoleWithoutInputs,
    /// The manifest has timers, the component doesn't.
    #[error(
        "the manifest has `[timers.NAME]` or `schedule = true`, but the app doesn't have the role `timers`"
    )]
    TimersWithoutRole,
    /// The other way round.
    #[error(
        "the app has the role `timers`, but its manifest has neither `[timers.NAME]` nor `schedule = true`"
    )]
    RoleWithoutTimers,
    /// The component breaks off before it is called.
    #[error("the app can't be started: {0}")]
    Start(String),
    /// The host's own fault.
    #[error("the app could not be loaded: {0}")]
    Host(String),
}

/// A component that is ready to be called.
pub struct LoadedApp {
    pub(super) pre: InstancePre<Host>,
    pub(super) readings: Option<readings::ReadingsIndices>,
    pub(super) timers: Option<timers::TimersIndices>,
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
    /// The app.
    pub app: Arc<LoadedApp>,
    /// To be recorded where it isn't what was asked for: the code was compiled again.
    pub compiled: CompiledRef,
}

impl LoadedApp {
    /// What it can be called for.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Checks, links, and tries the component.
    pub(super) async fn new(
        sandbox: &Sandbox,
        component: &Component,
        declared: &Declared,
    ) -> Result<Self, LoadError> {
        let engine = &sandbox.engine;
        let kind = component.component_type();
        for (import, _) in kind.imports(engine) {
            check_import(import, declared)?;
        }
        let roles = check_roles(kind.exports(engine).map(|(name, _)| name), declared)?;

        let linker = linker(engine, declared).map_err(|error| LoadError::Host(format!("{error:#}")))?;
        let pre =
            linker.instantiate_pre(component).map_err(|error| LoadError::Unlinkable(format!("{error:#}")))?;
        let unlinkable = |error: wasmtime::Error| LoadError::Unlinkable(format!("{error:#}"));
        let readings =
            roles.readings.then(|| readings::ReadingsIndices::new(&pre)).transpose().map_err(unlinkable)?;
        let timers =
            roles.timers.then(|| timers::TimersIndices::new(&pre)).transpose().map_err(unlinkable)?;
        let lifecycle = roles.lifecycle.then(|| lifecycle::LifecycleIndices::new(&pre)).transpose();
        let lifecycle = lifecycle.map_err(unlinkable)?;

        let app = Self { pre, readings, timers, roles };
        // The look-up of an export doesn't compare types: that, and a start function that traps,
        // shows only with an instance.
        let try_all = async |store: &mut Store<Host>| {
            let instance = app.pre.instantiate_async(&mut *store).await?;
            if let Some(role) = &app.readings {
                role.load(&mut *store, &instance)?;
            }
            if let Some(role) = &app.timers {
                role.load(&mut *store, &instance)?;
            }
            if let Some(role) = &lifecycle {
                role.load(&mut *store, &instance)?;
            }
            Ok(())
        };
        let limits = Limits { memory: declared.memory, ..Limits::default() };
        let (result, report) = invocation::run(sandbox, surroundings(limits), try_all).await;
        match result {
            Some(()) => Ok(app),
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
        standing: Arc::new(Nothing),
        interrupt: Interrupt::default(),
    }
}

/// Has exactly what the app may import. What else there is doesn't exist for it.
fn linker(engine: &Engine, declared: &Declared) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    for capability in Capability::ALL {
        if capability.is_declared(declared) {
            capability.add_to_linker(&mut linker)?;
        }
    }
    Ok(linker)
}

fn check_import(import: &str, declared: &Declared) -> Result<(), LoadError> {
    const NEWER: &str = "update ironloom, or build the app with the SDK of this one";
    let (interface, version) = split(import);
    if wasi::PACKAGES.iter().any(|package| interface.starts_with(package)) {
        return if version.starts_with("0.2.") {
            Ok(())
        } else {
            let hint = "build the app for the target wasm32-wasip2";
            Err(LoadError::ImportVersion { import: import.to_owned(), offered: "0.2", hint })
        };
    }
    let offered = if interface == TYPES {
        ROLE_VERSION
    } else {
        let found = Capability::ALL.into_iter().find(|capability| capability.interface() == interface);
        let Some(capability) = found else {
            return Err(LoadError::UnknownImport(import.to_owned()));
        };
        if let Some(declaration) = capability.declaration()
            && !capability.is_declared(declared)
        {
            return Err(LoadError::Undeclared { import: import.to_owned(), declaration });
        }
        capability.version()
    };
    if !fits(offered, version) {
        return Err(LoadError::ImportVersion { import: import.to_owned(), offered, hint: NEWER });
    }
    Ok(())
}

fn check_roles<'a>(exports: impl Iterator<Item = &'a str>, declared: &Declared) -> Result<Roles, LoadError> {
    let exports: Vec<&str> = exports.collect();
    let foreign = exports.iter().find(|export| {
        let (interface, version) = split(export);
        interface.starts_with("ironloom:")
            && !([READINGS, TIMERS, LIFECYCLE].contains(&interface) && fits(ROLE_VERSION, version))
    });
    if let Some(export) = foreign {
        return Err(LoadError::ExportVersion((*export).to_owned()));
    }
    let roles = Roles::of_exports(exports);
    let wants_timers = declared.timers || declared.schedule;
    if roles == Roles::default() {
        return Err(LoadError::NoRoles);
    }
    match (declared.inputs, roles.readings) {
        (true, false) => return Err(LoadError::InputsWithoutRole),
        (false, true) => return Err(LoadError::RoleWithoutInputs),
        _ => {}
    }
    match (wants_timers, roles.timers) {
        (true, false) => Err(LoadError::TimersWithoutRole),
        (false, true) => Err(LoadError::RoleWithoutTimers),
        _ => Ok(roles),
    }
}

/// Splits `package:name/interface@version`.
fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

/// Whether a version that is offered serves one that is wanted. Below 1.0 patch releases go together
/// in both directions; a pre-release goes only with itself.
fn fits(offered: &str, wanted: &str) -> bool {
    if offered.contains('-') || wanted.contains('-') {
        return offered == wanted;
    }
    let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    minor(offered) == minor(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Declared = Declared {
        inputs: false,
        timers: false,
        schedule: false,
        outputs: false,
        alarms: false,
        memory: 1 << 20,
    };

    #[test]
    fn patch_releases_go_together_and_minors_do_not() {
        assert!(fits("0.1.0", "0.1.7") && fits("0.1.7", "0.1.0"));
        assert!(!fits("0.1.0", "0.2.0") && !fits("0.1.0", "1.1.0"));
        assert!(fits("0.2.0-rc.1", "0.2.0-rc.1") && !fits("0.2.0-rc.1", "0.2.0"));
    }

    #[test]
    fn imports_outside_the_baseline_need_a_declaration() {
        assert!(check_import("wasi:io/poll@0.2.6", &NOTHING).is_ok());
        assert!(check_import("ironloom:state/state@0.1.3", &NOTHING).is_ok());
        assert!(check_import("wasi:logging/logging@0.1.0-draft", &NOTHING).is_ok());
        let error = check_import("ironloom:outputs/outputs@0.1.0", &NOTHING).unwrap_err().to_string();
        assert!(error.contains("ironloom:outputs/outputs@0.1.0") && error.contains("[outputs."), "{error}");
        assert!(
            check_import("ironloom:outputs/outputs@0.1.0", &Declared { outputs: true, ..NOTHING }).is_ok()
        );
        assert!(matches!(
            check_import("wasi:http/outgoing-handler@0.2.3", &NOTHING),
            Err(LoadError::UnknownImport(_))
        ));
        assert!(matches!(check_import("wasi:io/poll@0.3.0", &NOTHING), Err(LoadError::ImportVersion { .. })));
        assert!(matches!(
            check_import("ironloom:state/state@0.2.0", &NOTHING),
            Err(LoadError::ImportVersion { .. })
        ));
    }

    #[test]
    fn roles_and_manifest_must_fit_both_ways() {
        let roles = |exports: &[&'static str], declared| check_roles(exports.iter().copied(), &declared);
        const R: &str = "ironloom:feeds/readings@0.1.0";
        const T: &str = "ironloom:timers/timers@0.1.2";
        let inputs = Declared { inputs: true, ..NOTHING };
        let schedule = Declared { schedule: true, ..NOTHING };
        assert!(matches!(roles(&[], inputs), Err(LoadError::NoRoles)));
        assert!(matches!(roles(&["wasi:cli/run@0.2.0"], inputs), Err(LoadError::NoRoles)));
        assert!(roles(&[R], inputs).unwrap().readings);
        assert!(matches!(roles(&[R], NOTHING), Err(LoadError::RoleWithoutInputs)));
        assert!(matches!(
            roles(&[T], Declared { inputs: true, ..schedule }),
            Err(LoadError::InputsWithoutRole)
        ));
        assert!(matches!(roles(&[R, T], inputs), Err(LoadError::RoleWithoutTimers)));
        assert!(matches!(
            roles(&[R], Declared { timers: true, ..inputs }),
            Err(LoadError::TimersWithoutRole)
        ));
        assert!(roles(&[T], schedule).unwrap().timers);
        assert!(matches!(
            roles(&["ironloom:feeds/readings@0.2.0"], inputs),
            Err(LoadError::ExportVersion(_))
        ));
        assert!(matches!(roles(&[R, "ironloom:web/pages@0.1.0"], inputs), Err(LoadError::ExportVersion(_))));
    }
}
