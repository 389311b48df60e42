//! The platform for an app's unit tests, which run natively with plain `cargo test`.
//!
//! A [`Platform`] does in memory what the host does: it calls the app, checks what the app does against what its
//! manifest declares, keeps what it did when it returns ok, and takes all of it back otherwise. On native targets
//! the functions of this crate work only inside of a platform's calls.
//!
//! It refuses what the host refuses: more keys, bytes, readings, points, alarms or timers than an invocation or an
//! installation may have, and it keeps as many log lines. Where the host would end an invocation for the bytes that it
//! hands over, the test fails. CPU time isn't limited, nor is memory.
//!
//! ```
//! use ironloom_sdk::prelude::*;
//! use ironloom_sdk::testing::{self, Platform};
//!
//! struct Doubler;
//! ironloom_sdk::app!(Doubler: readings, timers);
//!
//! impl Readings for Doubler {
//!     fn reading(reading: &Reading) -> Result<(), Failure> {
//!         let factor: f64 = settings::get("factor")?;
//!         let mut out = Outputs::new();
//!         Ok(out.derive(reading, "twice", reading.real()? * factor)?)
//!     }
//! }
//!
//! impl Timers for Doubler {
//!     fn fire(_timer: &str, _due: Timestamp) -> Result<(), Failure> {
//!         Err(Failure::retry("not today"))
//!     }
//! }
//!
//! # let manifest = r#"
//! # manifest = 1
//! # [inputs.value]
//! # type = "real"
//! # [outputs.twice]
//! # kind = "derived"
//! # type = "real"
//! # [settings.factor]
//! # type = "real"
//! # default = 2.0
//! # "#;
//! // In an app: `let manifest = include_str!("../app.toml");`
//! let mut platform = Platform::from_manifest(manifest);
//! let noon: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
//!
//! platform.consume::<Doubler>(&testing::batch([("value", "a", noon, 4.0)])).expect_ok();
//! assert_eq!(platform.values("twice", "a"), [(noon, 8.0)]);
//!
//! assert!(platform.fire::<Doubler>("morning", noon).failure().is_retry());
//! ```

mod alarms;
mod batch;
mod current;
mod limits;
mod manifest;
mod platform;
mod publish;
mod quota;
mod state;
mod world;

pub(crate) use current::host;

pub use crate::bindings::platform::ironloom::types::types::Batch as RawBatch;
pub use alarms::Episode;
pub use batch::{BatchBuilder, Datum, batch};
pub use platform::{Outcome, Platform, Refused};
pub use world::{Log, Output, RequestedIntent, SetTimer, Type};
