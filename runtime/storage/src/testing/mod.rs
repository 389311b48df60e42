//! For tests, here and in the crates above: a disk and a store that lose whatever a real one may lose.
//!
//! They are compiled always, so that the crates above can use them in their own tests without a build of this
//! one with other features; nothing of the server refers to them.
#![allow(clippy::unwrap_used, reason = "for tests")]

mod sim;
mod store;

pub use sim::{Random, SimDisk};
pub use store::{AtRest, SimStore};
