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
use crate::time::Timestamp;

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
    /// The app has as many alarms active as it may have: 10,000, or 4 MiB of entities and messages with 256 bytes
    /// more for each alarm.
    #[error("the app has as many active alarms as it may have, 10,000 or 4 MiB of them: clear some")]
    TooMany,
    /// This invocation may only read.
    #[error("alarms can't be raised or cleared here: this invocation may only read")]
    ReadOnly,
    /// Anything else, in words: among others, that this invocation has changed alarms 20,000 times.
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

/// Raises an alarm for an entity; the empty text stands for the whole installation. Raising one that is active already
/// only updates its message. Each episode, from raising to clearing, is kept for people to see, also one that begins and
/// ends in the same invocation.
pub fn raise(alarm: &str, entity: &str, message: &str) -> Result<(), Error> {
    host::alarm_raise(alarm, entity, message, None)
}

/// Raises an alarm, and says since when things are so: mostly the `at` of a reading. Later than the invocation's time
/// counts as that time.
pub fn raise_since(alarm: &str, entity: &str, message: &str, since: Timestamp) -> Result<(), Error> {
    host::alarm_raise(alarm, entity, message, Some(since))
}

/// Clears an alarm. That it wasn't active is no error.
pub fn clear(alarm: &str, entity: &str) -> Result<(), Error> {
    host::alarm_clear(alarm, entity, None)
}

/// Clears an alarm, and says since when things are normal again. Later than the invocation's time counts as that time,
/// and earlier than the alarm's beginning as that.
pub fn clear_since(alarm: &str, entity: &str, since: Timestamp) -> Result<(), Error> {
    host::alarm_clear(alarm, entity, Some(since))
}
