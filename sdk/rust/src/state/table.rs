//! Typed values under keys with one prefix.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, EntityRows, Error, Json, Key, Rows};
use crate::batch::Batch;
use crate::host;

/// Typed values in the [state](crate::state), under keys that begin with one prefix.
///
/// `K` is the type of the keys ([`str`], numbers, times, pairs: see [`Key`]), `V` any type with serde, `C` how a value
/// becomes bytes: [`Json`] or [`Compact`](crate::Compact). The methods take any key that reads back as the same: a
/// table by `(String, Timestamp)` can be asked with a `(&str, Timestamp)`.
///
/// [`get`](Self::get) and [`set`](Self::set) call the host each time. For the entities of a batch, [`of`](Self::of)
/// gets all in one call and stores what changed in another; [`rows`](Self::rows) does so for any keys.
///
/// ```
/// use ironloom_sdk::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Animal {
///     weighings: u32,
///     last: f64,
/// }
///
/// const ANIMALS: Table<str, Animal> = Table::new("animal/");
///
/// fn consume(batch: &Batch) -> Result<(), Failure> {
///     let mut animals = ANIMALS.of(batch)?;
///     for reading in batch.readings() {
///         let animal = animals.or_default(&reading);
///         animal.weighings += 1;
///         animal.last = reading.real()?;
///     }
///     animals.save()?;
///     Ok(())
/// }
///
/// fn heaviest() -> Result<f64, Failure> {
///     let mut heaviest = 0.0_f64;
///     for entry in ANIMALS.scan() {
///         let (_tag, animal) = entry?;
///         heaviest = heaviest.max(animal.last);
///     }
///     Ok(heaviest)
/// }
/// # struct App;
/// # impl Readings for App { fn consume(batch: &Batch) -> Result<(), Failure> { consume(batch) } }
/// # use ironloom_sdk::testing::{self, Platform, Type};
/// # let mut platform = Platform::new().input("weight", Type::Real);
/// # let batch = testing::batch([("weight", "42", Timestamp::EPOCH, 81.5), ("weight", "43", Timestamp::EPOCH, 90.0)]);
/// # platform.consume::<App>(&batch).expect_ok();
/// # assert_eq!(platform.run(heaviest).unwrap(), 90.0);
/// # assert_eq!(platform.state()["animal/42"], br#"{"weighings":1,"last":81.5}"#);
/// ```
pub struct Table<K: ?Sized, V, C = Json> {
    prefix: &'static str,
    #[expect(clippy::type_complexity, reason = "only a mark: it neither owns nor borrows any of them")]
    form: PhantomData<fn(&K) -> (V, C)>,
}

impl<K: ?Sized, V, C> Table<K, V, C> {
    /// Names the prefix of the keys, such as `animal/`. Each table needs one of its own, none the beginning of
    /// another.
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, form: PhantomData }
    }
}

impl<K: Key + ?Sized, V: Serialize + DeserializeOwned, C: Codec> Table<K, V, C> {
    /// Gets a value, if there is one.
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>, Error>
    where
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        let key = full_key(self.prefix, key);
        host::state_get(&key)?.map(|bytes| decode::<V, C>(&key, &bytes)).transpose()
    }

    /// Stores a value, replacing what was there.
    pub fn set<Q>(&self, key: &Q, value: &V) -> Result<(), Error>
    where
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        let (key, mut bytes) = (full_key(self.prefix, key), Vec::new());
        encode::<V, C>(&key, value, &mut bytes)?;
        host::state_set(&key, &bytes)
    }

    /// Deletes a value. That there was none is no error.
    pub fn delete<Q>(&self, key: &Q) -> Result<(), Error>
    where
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        host::state_delete(&full_key(self.prefix, key))
    }

    /// Goes through all values in the order of the keys' texts. It doesn't see what an [`EntityRows`] or [`Rows`] has
    /// not saved yet. What is stored or deleted meanwhile under keys still to come shows.
    pub fn scan(&self) -> Scan<K, V, C> {
        Scan {
            prefix: self.prefix,
            page: Vec::new().into_iter(),
            after: None,
            done: false,
            form: PhantomData,
        }
    }

    /// Opens a view of any values, by key: what it has read it keeps, and what changes it stores in one call.
    pub fn rows(&self) -> Rows<K, V, C> {
        Rows::new(self.prefix)
    }
}

impl<V: Serialize + DeserializeOwned, C: Codec> Table<str, V, C> {
    /// Gets the values of all entities of a batch in one call, as a view that stores what changes in another.
    pub fn of<'b>(&self, batch: &'b Batch<'_>) -> Result<EntityRows<'b, V, C>, Error> {
        EntityRows::open(self.prefix, batch)
    }
}

/// Goes through a table. Made by [`Table::scan`].
pub struct Scan<K: ?Sized, V, C> {
    prefix: &'static str,
    page: std::vec::IntoIter<(String, Vec<u8>)>,
    after: Option<String>,
    done: bool,
    #[expect(clippy::type_complexity, reason = "only a mark: it neither owns nor borrows any of them")]
    form: PhantomData<fn(&K) -> (V, C)>,
}

/// The number of entries that a scan requests at once.
const PAGE: u32 = 1_000;

impl<K: Key + ?Sized, V: DeserializeOwned, C: Codec> Scan<K, V, C> {
    fn entry(&self, key: &str, bytes: &[u8]) -> Result<(K::Owned, V), Error> {
        let typed = key.strip_prefix(self.prefix).and_then(K::read).ok_or_else(|| Error::Decode {
            key: key.to_owned(),
            reason: "the key is not of the table's type".to_owned(),
        })?;
        Ok((typed, decode::<V, C>(key, bytes)?))
    }
}

impl<K: Key + ?Sized, V: DeserializeOwned, C: Codec> Iterator for Scan<K, V, C> {
    type Item = Result<(K::Owned, V), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, bytes)) = self.page.next() {
                return Some(self.entry(&key, &bytes));
            }
            if self.done {
                return None;
            }
            match host::state_scan(self.prefix, self.after.as_deref(), PAGE) {
                Ok(page) => {
                    self.page = page.entries.into_iter();
                    self.done = page.next.is_none();
                    self.after = page.next;
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The key in the state, of a key in a table.
pub(super) fn full_key<Q: Key + ?Sized>(prefix: &str, key: &Q) -> String {
    let mut text = String::with_capacity(prefix.len() + 24);
    text.push_str(prefix);
    key.write(&mut text);
    text
}

/// Appends a value's bytes; an error names the key.
pub(super) fn encode<V: Serialize, C: Codec>(key: &str, value: &V, to: &mut Vec<u8>) -> Result<(), Error> {
    C::encode(value, to).map_err(|reason| Error::Encode { key: key.to_owned(), reason })
}

/// Reads a value; an error names the key.
pub(super) fn decode<V: DeserializeOwned, C: Codec>(key: &str, bytes: &[u8]) -> Result<V, Error> {
    C::decode(bytes).map_err(|reason| Error::Decode { key: key.to_owned(), reason })
}
