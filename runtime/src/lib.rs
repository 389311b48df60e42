//! The library of the `ironloom` binary: a runtime that runs third-party industrial apps, compiled
//! to WebAssembly components, next to the machines. `ARCHITECTURE.md` has the map.

pub mod clock;
pub mod effects;
pub mod ids;
pub mod limits;
pub mod readings;
