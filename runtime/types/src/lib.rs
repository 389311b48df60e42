//! The vocabulary that all parts of Ironloom share: ids, time, readings, effects, limits and pages, as plain data.
//!
//! Nothing here does I/O, and its dependencies are small.

pub mod changes;
pub mod clock;
mod compiled;
pub mod effects;
pub mod ids;
pub mod interfaces;
pub mod limits;
pub mod page;
pub mod readings;
pub mod rehearsal;
pub mod text;
pub mod work;

pub use self::compiled::CompiledRef;
