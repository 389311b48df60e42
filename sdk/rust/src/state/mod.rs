//! What an app remembers between invocations. Memory doesn't last; this does.
//!
//! [`Table`] and [`Cell`] keep typed values; the functions here work on bytes. Reads see the writes of the same
//! invocation. The writes are stored when the app returns ok, all or none.
//!
//! ```
//! use ironloom_sdk::prelude::*;
//!
//! fn remember() -> Result<(), Failure> {
//!     state::set("greeting", b"hello")?;
//!     assert_eq!(state::get("greeting")?, Some(b"hello".to_vec()));
//!     Ok(())
//! }
//! # ironloom_sdk::testing::Platform::new().run(remember).unwrap();
//! ```

mod cell;
mod codec;
mod finite;
mod key;
pub(crate) mod packed;
mod rows;
mod table;

pub use cell::Cell;
pub use codec::{Codec, Compact, Json};
pub use key::Key;
pub use packed::Values;
pub use rows::{EntityRows, Line, Rows};
pub use table::{Scan, Table};

use crate::batch::Batch;
use crate::bindings::state::ironloom::state::state as raw;
use crate::host;
use raw::PackedResult as Packed;

/// Says why state could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key is empty, longer than 512 bytes or contains a line feed. Says which, in words.
    #[error("a key of the state can't be used: {0}")]
    InvalidKey(String),
    /// A value is longer than the host allows: so many bytes.
    #[error("a value is longer than the {0} bytes that the host allows: split it over several keys")]
    TooLarge(u64),
    /// The write would take the app over the size it was granted, in bytes.
    #[error(
        "the state would grow over the {0} bytes that were granted: delete some, or ask the admin for more"
    )]
    QuotaExceeded(u64),
    /// This invocation may only read.
    #[error("state can't be written here: this invocation may only read")]
    ReadOnly,
    /// A value can't be turned into bytes.
    #[error("the value for {key:?} can't be stored: {reason}")]
    Encode {
        /// The key of the value.
        key: String,
        /// The codec's message.
        reason: String,
    },
    /// The stored value doesn't have the form that the app now expects.
    #[error("the value stored under {key:?} can't be read: {reason}; if its form has changed, migrate it")]
    Decode {
        /// The key of the value.
        key: String,
        /// The codec's message.
        reason: String,
    },
    /// Anything else, in words.
    #[error("state: {0}")]
    Other(String),
}

impl From<raw::Error> for Error {
    fn from(error: raw::Error) -> Self {
        match error {
            raw::Error::InvalidKey(key) => Self::InvalidKey(key),
            raw::Error::TooLarge(bytes) => Self::TooLarge(bytes),
            raw::Error::QuotaExceeded(bytes) => Self::QuotaExceeded(bytes),
            raw::Error::ReadOnly => Self::ReadOnly,
            raw::Error::Other(text) => Self::Other(text),
        }
    }
}

/// Some of the entries, as [`scan`] lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values, in the order of the keys' bytes.
    pub entries: Vec<(String, Vec<u8>)>,
    /// Pass this as `after` to go on. None: there is no more.
    pub next: Option<String>,
}

/// Gets a value, if there is one.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::state_get(key)
}

/// Stores a value, replacing what was there.
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    host::state_set(key, value)
}

/// Deletes a key. That it was not there is no error.
pub fn delete(key: &str) -> Result<(), Error> {
    host::state_delete(key)
}

/// Gets many values in one call, in the order of the keys.
pub fn get_many(keys: &[&str]) -> Result<Values, Error> {
    host::state_get_many(&packed::lines(keys.iter().copied())?).map(Values)
}

/// Stores many values in one call: all, or on error none. Where a key occurs twice the last one counts.
pub fn set_many(entries: &[(&str, &[u8])]) -> Result<(), Error> {
    let keys = packed::lines(entries.iter().map(|(key, _)| *key))?;
    host::state_set_many(&keys, &packed::pack(entries.iter().map(|(_, value)| Some(*value))))
}

/// Deletes many keys in one call: all, or on error none.
pub fn delete_many(keys: &[&str]) -> Result<(), Error> {
    host::state_set_many(&packed::lines(keys.iter().copied())?, &packed::pack(keys.iter().map(|_| None)))
}

/// Gets a value for each entity of the batch in one call, in the order of [`Batch::entities`]: its key is the prefix
/// and the entity. No key leaves the app, so it is the quickest way to much state. [`Table::of`] does it for typed
/// values.
pub fn get_rows(batch: &Batch<'_>, prefix: &str) -> Result<Values, Error> {
    host::state_get_rows(prefix, batch.entities()).map(Values)
}

/// Stores values for entities of the batch, each with the entity's place in [`Batch::entities`], or deletes them
/// (`None`), in one call: all, or on error none. Where a place occurs twice the last one counts.
pub fn set_rows<'v>(
    batch: &Batch<'_>,
    prefix: &str,
    rows: impl IntoIterator<Item = (usize, Option<&'v [u8]>)>,
) -> Result<(), Error> {
    let (mut lines, mut values) = (Vec::new(), Packed { lengths: Vec::new(), bytes: Vec::new() });
    for (line, value) in rows {
        // What doesn't fit is more than any batch has, and is refused.
        lines.push(u32::try_from(line).unwrap_or(u32::MAX));
        packed::push(&mut values, value);
    }
    host::state_set_rows(prefix, batch.entities(), &lines, &values)
}

/// Lists the keys that start with `prefix` and come after `after`. The host may return fewer than `limit`: only
/// [`Page::next`] says whether there is more. A `limit` of 0 is an error.
pub fn scan(prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, Error> {
    host::state_scan(prefix, after, limit)
}
