//! Timers that fire once. The manifest says `schedule = true`, and the app has the role `timers`.
//!
//! ```
//! use std::time::Duration;
//! use ironloom_sdk::prelude::*;
//!
//! fn look_again() -> Result<(), Failure> {
//!     schedule::set("look-again", invocation::now() + Duration::from_secs(600))?;
//!     Ok(())
//! }
//! # let mut platform = ironloom_sdk::testing::Platform::new().schedule();
//! # platform.set_now("2026-01-01T00:00:00Z".parse().unwrap());
//! # platform.run(look_again).unwrap();
//! # assert_eq!(platform.timers()["look-again"].due.to_string(), "2026-01-01T00:10:00Z");
//! ```

use crate::bindings::platform::ironloom::timers::schedule as raw;
use crate::host;
use crate::time::Timestamp;

/// Says why a timer could not be set or cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is empty, longer than 256 bytes, or a timer of the manifest.
    #[error("this can't be a timer's name: it is empty, longer than 256 bytes, or a timer of the manifest")]
    InvalidName,
    /// The app has as many timers as it was granted.
    #[error("the app has as many timers as it was granted: cancel some")]
    TooMany,
    /// This invocation may only read.
    #[error("timers can't be set or cancelled here: this invocation may only read")]
    ReadOnly,
    /// Anything else, in words.
    #[error("timers: {0}")]
    Other(String),
}

impl From<raw::Error> for Error {
    fn from(error: raw::Error) -> Self {
        match error {
            raw::Error::InvalidName => Self::InvalidName,
            raw::Error::TooMany => Self::TooMany,
            raw::Error::ReadOnly => Self::ReadOnly,
            raw::Error::Other(text) => Self::Other(text),
        }
    }
}

/// Has [`Timers::fire`](crate::Timers::fire) called once, with this name, at or soon after `due`, but no sooner than a
/// second after this invocation's time; it is told this `due` all the same. Replaces a timer of the
/// same name.
pub fn set(timer: &str, due: Timestamp) -> Result<(), Error> {
    host::schedule_set(timer, due)
}

/// Cancels a timer, and says whether there was one.
pub fn cancel(timer: &str) -> Result<bool, Error> {
    host::schedule_cancel(timer)
}
