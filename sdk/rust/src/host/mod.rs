//! The one place where this crate leaves the app: to the host's imports in a component, to the platform of the
//! current test natively. Both modules have the same functions.

#[cfg(target_family = "wasm")]
mod imports;
#[cfg(target_family = "wasm")]
pub(crate) use imports::*;

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::host::*;
