//! What an app can do besides computing. Each capability is one folder of the same shape: a context
//! (its part of the store's data), a view of it, `add_to_linker`, and the host functions.
//!
//! A mistake of the app is an error value that it can handle. An `Err` of a host function ends the
//! invocation: it is either a limit that the app has passed or the host's own fault.

pub(crate) mod alarms;
pub(crate) mod invocation;
pub(crate) mod logging;
pub(crate) mod outputs;
pub(crate) mod schedule;
pub(crate) mod settings;
pub(crate) mod state;

use wasmtime::component::Linker;

use super::host::Host;
use ironloom_types::interfaces::Capability;

/// Offers a capability's functions.
pub(crate) fn add_to_linker(capability: Capability, linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    match capability {
        Capability::Invocation => invocation::add_to_linker(linker),
        Capability::State => state::add_to_linker(linker),
        Capability::Outputs => outputs::add_to_linker(linker),
        Capability::Alarms => alarms::add_to_linker(linker),
        Capability::Schedule => schedule::add_to_linker(linker),
        Capability::Settings => settings::add_to_linker(linker),
        Capability::Logging => logging::add_to_linker(linker),
    }
}
