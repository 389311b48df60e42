//! The settings of the installation, or else the manifest's defaults.
//!
//! Each call asks the host, so read a setting once for an invocation.
//!
//! ```
//! use ironloom_sdk::prelude::*;
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! struct Settings {
//!     breed: String,
//!     age_at_first_weighing: f64,
//!     vet: Option<String>,
//! }
//!
//! fn run() -> Result<(), Failure> {
//!     let age: f64 = settings::get("age-at-first-weighing")?;
//!     let all: Settings = settings::all()?;
//!     assert_eq!((age, all.age_at_first_weighing, all.breed.as_str(), all.vet), (77.5, 77.5, "duroc", None));
//!     Ok(())
//! }
//! # let platform = ironloom_sdk::testing::Platform::new();
//! # platform.setting("breed", "duroc").setting("age-at-first-weighing", "77.5").run(run).unwrap();
//! ```

mod de;

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::host;

/// Says why a setting could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not set and has no default.
    #[error("the setting {0:?} is not set and has no default")]
    NotSet(String),
    /// Its text is not of the type that the app asks for.
    #[error("the setting {name:?} is {text:?}: {reason}")]
    Invalid {
        /// The name of the setting.
        name: String,
        /// The text that was set.
        text: String,
        /// The reason why the text doesn't fit the type.
        reason: String,
    },
    /// The settings together don't fit the app's type.
    #[error("the settings: {0}")]
    Mismatch(String),
    /// The host could not give them.
    #[error("the host could not give the settings: {0}")]
    Host(String),
}

/// Gets a setting, as a text, a number, a boolean, or any type that reads itself from a text.
pub fn get<T>(name: &str) -> Result<T, Error>
where
    T: FromStr,
    T::Err: Display,
{
    find(name)?.ok_or_else(|| Error::NotSet(name.to_owned()))
}

/// Gets a setting if it is set or has a default.
pub fn find<T>(name: &str) -> Result<Option<T>, Error>
where
    T: FromStr,
    T::Err: Display,
{
    let Some(text) = host::setting(name).map_err(Error::Host)? else { return Ok(None) };
    match text.parse() {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Error::Invalid { name: name.to_owned(), reason: error.to_string(), text }),
    }
}

/// Gets all settings as one struct, with a field for each (`#[serde(rename_all = "kebab-case")]`), an `Option` where it
/// may be missing.
pub fn all<S: DeserializeOwned>() -> Result<S, Error> {
    de::from_settings(host::settings().map_err(Error::Host)?)
}
