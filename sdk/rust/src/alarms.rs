//! Alarms for people. Which ones an app can raise, and how severe they are, stands in its manifest under `[alarms.*]`.
//!
//! ```
//! use ironloom_sdk::prelude::*;
//!
//! fn watch(animal: &str, temperature: f64) -> Result<(), Failure> {
//!     if temperature > 40.0 {
//!         alarms::raise("fever", animal, &format!("{temperature} °C"))?;
//!     } else {
//!         alarms::clear("fever", animal)?;
//!     }
//!     Ok(())
//! }
//! # ironloom_sdk::testing::Platform::new().alarm("fever").run(|| watch("42", 40.5)).unwrap();
//! ```

use crate::bindings::platform::ironloom::alarms::alarms as raw;
use crate::host;

/// Says why an alarm could not be raised or cleared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The manifest declares no such alarm.
    #[error("the manifest declares no alarm {0:?}: add a section [alarms.{0}]")]
    UnknownAlarm(String),
    /// The message is longer than 1,024 bytes, or the entity than 512.
    #[error("the alarm's message is longer than 1,024 bytes, or its entity than 512: shorten it")]
    TooLong,
    /// The app has as many alarms standing as it may have: 10,000, or 4 MiB of entities and messages with 256 bytes
    /// more for each alarm.
    #[error("the app has as many active alarms as it may have, 10,000 or 4 MiB of them: clear some")]
    TooMany,
    /// This invocation may only read.
    #[error("alarms can't be raised or cleared here: this invocation may only read")]
    ReadOnly,
    /// Anything else, in words.
    #[error("alarms: {0}")]
    Other(String),
}

impl From<raw::Error> for Error {
    fn from(error: raw::Error) -> Self {
        match error {
            raw::Error::UnknownAlarm(alarm) => Self::UnknownAlarm(alarm),
            raw::Error::TooLong => Self::TooLong,
            raw::Error::TooMany => Self::TooMany,
            raw::Error::ReadOnly => Self::ReadOnly,
            raw::Error::Other(text) => Self::Other(text),
        }
    }
}

/// Raises an alarm for an entity; the empty text stands for the whole installation. Raising one that stands already
/// only updates its message.
pub fn raise(alarm: &str, entity: &str, message: &str) -> Result<(), Error> {
    host::alarm_raise(alarm, entity, message)
}

/// Clears an alarm. That it did not stand is no error.
pub fn clear(alarm: &str, entity: &str) -> Result<(), Error> {
    host::alarm_clear(alarm, entity)
}
