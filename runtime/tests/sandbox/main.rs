//! The sandbox from outside: guests of all habits, good and bad, through the worker, the cache and
//! the pool.

mod guest;
mod harness;

mod effects;
mod hostile;
mod install;
mod same;
