//! Build apps for Ironloom in Rust.
//!
//! An app takes readings, remembers what it needs, and gives back derived readings, alarms and set-points. It runs
//! as a WebAssembly component in a sandbox next to the machines, and its unit tests run natively with plain
//! `cargo test`, on the platform in [`testing`].
//!
//! ```
//! use ironloom_sdk::prelude::*;
//!
//! struct Thermometer;
//! ironloom_sdk::app!(Thermometer: readings);
//!
//! /// The highest temperature so far in each room.
//! const WARMEST: Table<str, f64> = Table::new("warmest/");
//!
//! impl Readings for Thermometer {
//!     fn consume(batch: &Batch) -> Result<(), Failure> {
//!         let limit: f64 = settings::get("limit")?;
//!         let mut warmest = WARMEST.of(batch)?;
//!         let mut out = Outputs::new();
//!         for reading in batch.readings().filter(|reading| !reading.is_bad()) {
//!             let now = reading.real()?;
//!             let before = warmest.or_insert_with(&reading, || f64::MIN);
//!             if now > *before {
//!                 *before = now;
//!                 out.derive(&reading, "record", now)?;
//!             }
//!             if now > limit {
//!                 alarms::raise("too-warm", reading.entity(), &format!("{now} °C"))?;
//!             }
//!         }
//!         warmest.save()?;
//!         out.publish()?;
//!         Ok(())
//!     }
//! }
//!
//! // In a test:
//! use ironloom_sdk::testing::{self, Platform, Type};
//!
//! let mut platform = Platform::new()
//!     .input("temperature", Type::Real)
//!     .output("record", Type::Real)
//!     .alarm("too-warm")
//!     .setting("limit", "25");
//! let noon: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
//! let batch = testing::batch([("temperature", "kitchen", noon, 21.5), ("temperature", "attic", noon, 31.0)]);
//! platform.consume::<Thermometer>(&batch).expect_ok();
//! assert_eq!(platform.values("record", "kitchen"), [(noon, 21.5)]);
//! assert_eq!(platform.alarm_standing("too-warm", "attic"), Some("31 °C"));
//! ```
//!
//! # Rules
//! - Memory lives for one invocation. What must last goes to [`state`].
//! - An invocation takes effect as a whole when it returns ok, and not at all otherwise: state, outputs, alarms,
//!   timers. Only log lines stay.
//! - Time stands still during an invocation: [`invocation::now`] and the clocks of the standard library show when
//!   its last reading was recorded. Nothing can sleep; set a timer instead.

// The export macros of the roles name this crate from outside.
extern crate self as ironloom_sdk;

#[doc(hidden)]
#[path = "bindings.rs"]
pub mod __bindings;
pub mod alarms;
mod app;
mod batch;
mod failure;
mod host;
pub mod invocation;
mod logging;
pub mod outputs;
mod pending;
mod roles;
pub mod schedule;
pub mod settings;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time;
mod value;

use __bindings as bindings;
pub use batch::{Batch, Frame, FrameReadings, InOrder, Reading};
pub use failure::{Failure, OrRetry};
pub use outputs::Outputs;
pub use roles::{Lifecycle, Migration, Readings, Timers};
pub use state::{Cell, Compact, EntityRows, Json, Rows, Table};
pub use time::{InvalidTimestamp, Timestamp};
pub use value::{Quality, Value, WrongType};

#[doc(hidden)]
pub use app::__VERSION;
#[doc(hidden)]
pub use roles::exports as __exports;
#[doc(hidden)]
pub use wit_bindgen as __wit_bindgen;

/// The items that most apps need: `use ironloom_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Batch, Cell, Compact, Failure, Frame, Json, Lifecycle, Migration, OrRetry, Outputs, Quality, Reading,
        Readings, Table, Timers, Timestamp, Value, alarms, app, invocation, outputs, schedule, settings,
        state,
    };
}

/// The guide's examples compile.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../README.md")]
    struct Sdk;
    #[doc = include_str!("../../../docs/src/develop/state.md")]
    struct State;
    #[doc = include_str!("../../../docs/src/develop/set-points.md")]
    struct SetPoints;
    #[doc = include_str!("../../../docs/src/develop/timers.md")]
    struct Timers;
}
