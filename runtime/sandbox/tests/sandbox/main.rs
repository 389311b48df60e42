//! The sandbox from outside: guests of all habits, good and bad, through the worker, the cache and
//! the pool.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as tests do"
)]

mod guest;
mod harness;

mod code;
mod effects;
mod hostile;
mod install;
mod same;
