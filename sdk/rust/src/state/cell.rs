//! One typed value.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::{decode, encode};
use super::{Codec, Error, Json};
use crate::host;

/// One typed value under one key of the [state](crate::state).
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// const LAST_RUN: Cell<Timestamp> = Cell::new("last-run");
///
/// fn run() -> Result<(), Failure> {
///     if let Some(last) = LAST_RUN.get()? {
///         log::info!("the last run was {:?} ago", invocation::now().since(last));
///     }
///     LAST_RUN.set(&invocation::now())?;
///     Ok(())
/// }
/// # ironloom_sdk::testing::Platform::new().run(|| { run()?; run() }).unwrap();
/// ```
pub struct Cell<V, C = Json> {
    key: &'static str,
    form: PhantomData<fn() -> (V, C)>,
}

impl<V, C> Cell<V, C> {
    /// Names the key.
    pub const fn new(key: &'static str) -> Self {
        Self { key, form: PhantomData }
    }
}

impl<V: Serialize + DeserializeOwned, C: Codec> Cell<V, C> {
    /// Gets the value, if there is one.
    pub fn get(&self) -> Result<Option<V>, Error> {
        host::state_get(self.key)?.map(|bytes| decode::<V, C>(self.key, &bytes)).transpose()
    }

    /// Stores the value.
    pub fn set(&self, value: &V) -> Result<(), Error> {
        let mut bytes = Vec::new();
        encode::<V, C>(self.key, value, &mut bytes)?;
        host::state_set(self.key, &bytes)
    }

    /// Deletes the value. That there was none is no error.
    pub fn delete(&self) -> Result<(), Error> {
        host::state_delete(self.key)
    }
}
