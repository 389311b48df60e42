//! What an app can do besides computing. Each capability is one folder of the same shape: a context
//! (its part of the store's data), a view of it, `add_to_linker`, and the host functions.
//!
//! A mistake of the app is an error value that it can handle. An `Err` of a host function ends the
//! invocation: it is either a limit that the app has passed or the host's own fault.

pub mod alarms;
pub mod invocation;
pub mod logging;
pub mod outputs;
pub mod schedule;
pub mod settings;
pub mod state;

use wasmtime::component::Linker;

use super::Declared;
use super::host::Host;

/// Something that an app can import besides the WASI baseline. The matches over it are exhaustive,
/// so that a new one doesn't compile until all of it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// `ironloom:invocation/invocation`
    Invocation,
    /// `ironloom:state/state`
    State,
    /// `ironloom:outputs/outputs`
    Outputs,
    /// `ironloom:alarms/alarms`
    Alarms,
    /// `ironloom:timers/schedule`
    Schedule,
    /// `wasi:config/store`
    Settings,
    /// `wasi:logging/logging`
    Logging,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Invocation,
        Self::State,
        Self::Outputs,
        Self::Alarms,
        Self::Schedule,
        Self::Settings,
        Self::Logging,
    ];

    /// The interface, without its version.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Invocation => "ironloom:invocation/invocation",
            Self::State => "ironloom:state/state",
            Self::Outputs => "ironloom:outputs/outputs",
            Self::Alarms => "ironloom:alarms/alarms",
            Self::Schedule => "ironloom:timers/schedule",
            Self::Settings => "wasi:config/store",
            Self::Logging => "wasi:logging/logging",
        }
    }

    /// The version of the interface that this host has.
    pub fn version(self) -> &'static str {
        match self {
            Self::Invocation | Self::State | Self::Outputs | Self::Alarms | Self::Schedule => "0.1.0",
            Self::Settings => "0.2.0-rc.1",
            Self::Logging => "0.1.0-draft",
        }
    }

    /// What the manifest must have for an app to import it; `None` where every app may.
    pub fn declaration(self) -> Option<&'static str> {
        match self {
            Self::Outputs => Some("a section `[outputs.NAME]`"),
            Self::Alarms => Some("a section `[alarms.NAME]`"),
            Self::Schedule => Some("the line `schedule = true`"),
            Self::Invocation | Self::State | Self::Settings | Self::Logging => None,
        }
    }

    /// Whether an app that declares this may import it.
    pub fn is_declared(self, declared: &Declared) -> bool {
        match self {
            Self::Outputs => declared.outputs,
            Self::Alarms => declared.alarms,
            Self::Schedule => declared.schedule,
            Self::Invocation | Self::State | Self::Settings | Self::Logging => true,
        }
    }

    /// Offers its functions.
    pub fn add_to_linker(self, linker: &mut Linker<Host>) -> wasmtime::Result<()> {
        match self {
            Self::Invocation => invocation::add_to_linker(linker),
            Self::State => state::add_to_linker(linker),
            Self::Outputs => outputs::add_to_linker(linker),
            Self::Alarms => alarms::add_to_linker(linker),
            Self::Schedule => schedule::add_to_linker(linker),
            Self::Settings => settings::add_to_linker(linker),
            Self::Logging => logging::add_to_linker(linker),
        }
    }
}
