//! Apps: manifests and packages of developers; bindings, grants and settings of admins.
//!
//! Everything here is pure: text and bytes in, checked data or a full list of problems out. No code of an
//! app is parsed here; the compile worker does that, and [`roles`] judges what it found.

pub mod allowance;
pub mod binding;
pub mod consent;
pub mod cron;
pub mod cycles;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod grants;
pub mod manifest;
pub mod ordered;
pub mod package;
pub mod pattern;
pub mod plan;
pub mod problem;
pub mod quantity;
pub mod roles;
pub mod routing;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod toml_section;
pub mod unit;
pub mod ustar;
pub mod wiring;
