//! The library of the `ironloom` binary: a runtime that runs third-party industrial apps, compiled
//! to WebAssembly components, next to the machines. `ARCHITECTURE.md` has the map.

pub mod api;
pub mod apps;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connectors;
pub mod effects;
pub mod fold;
pub mod ids;
pub mod journal;
pub mod lanes;
pub mod limits;
pub mod log;
pub mod node;
pub mod readings;
pub mod routing;
pub mod sandbox;
pub mod store;
pub mod telemetry;
