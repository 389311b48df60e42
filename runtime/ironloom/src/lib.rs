//! The library of the `ironloom` binary: a runtime that runs third-party industrial apps, compiled
//! to WebAssembly components, next to the machines. `ARCHITECTURE.md` has the map.

pub mod api;
pub mod cli;
pub mod config;
pub mod connectors;
pub mod fold;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod lanes;
pub mod node;
pub mod records;
pub mod telemetry;
