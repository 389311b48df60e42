//! Views of a table that gather reads and writes: one call to get, one to store.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::full_key;
use super::{Codec, Error, Key, Packed, Values, packed};
use crate::batch::{Batch, Reading};
use crate::{host, pending};

/// One value of a view.
struct Row<V> {
    value: Option<V>,
    /// Whether the state holds a value, of this form or an older one.
    stored: bool,
    /// Whether it has to be stored or deleted.
    changed: bool,
}

impl<V> Row<V> {
    fn read<C: Codec>(bytes: Option<&[u8]>) -> Result<Self, String>
    where
        V: DeserializeOwned,
    {
        let value = bytes.map(C::decode).transpose()?;
        Ok(Self { stored: value.is_some(), value, changed: false })
    }

    /// Whether it has to be stored or deleted: what never was there need not be deleted.
    fn is_due(&self) -> bool {
        self.changed && (self.value.is_some() || self.stored)
    }

    /// It is stored as it is.
    fn saved(&mut self) {
        self.stored = self.value.is_some();
        self.changed = false;
    }

    fn get_mut(&mut self) -> Option<&mut V> {
        self.changed |= self.value.is_some();
        self.value.as_mut()
    }

    fn or_insert_with(&mut self, make: impl FnOnce() -> V) -> &mut V {
        self.changed = true;
        self.value.get_or_insert_with(make)
    }

    fn replace(&mut self, value: Option<V>) -> Option<V> {
        self.changed = true;
        std::mem::replace(&mut self.value, value)
    }
}

/// Packs values of rows, of which the others are deleted; an error has the place of the row.
fn pack<'r, V: Serialize + 'r, C: Codec>(
    rows: impl ExactSizeIterator<Item = &'r Row<V>>,
) -> Result<Packed, (usize, String)> {
    let mut values = Packed { lengths: Vec::with_capacity(rows.len()), bytes: Vec::new() };
    for (place, row) in rows.enumerate() {
        let Some(value) = &row.value else {
            packed::push(&mut values, None);
            continue;
        };
        let start = values.bytes.len();
        C::encode(value, &mut values.bytes).map_err(|reason| (place, reason))?;
        let length = values.bytes.len() - start;
        packed::push_length(&mut values, length);
    }
    Ok(values)
}

/// Names an entity of a batch: a reading (the one that it is about), or its place in [`Batch::entities`].
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// const SEEN: Table<str, u32> = Table::new("seen/");
///
/// fn consume(batch: &Batch) -> Result<(), Failure> {
///     let mut seen = SEEN.of(batch)?;
///     for reading in batch.readings() {
///         *seen.or_default(&reading) += 1;
///     }
///     for line in 0..batch.entities().len() {
///         log::info!("{}: {:?} readings", batch.entities()[line], seen.get(line));
///     }
///     Ok(seen.save()?)
/// }
/// # struct App;
/// # impl Readings for App { fn consume(batch: &Batch) -> Result<(), Failure> { consume(batch) } }
/// # use ironloom_sdk::testing::{self, Platform, Type};
/// # let mut platform = Platform::new().input("weight", Type::Real);
/// # platform.consume::<App>(&testing::batch([("weight", "42", Timestamp::EPOCH, 81.5)])).expect_ok();
/// # assert_eq!(platform.logs()[0].message, "42: Some(1) readings");
/// ```
pub trait Line {
    /// Returns the place in [`Batch::entities`].
    fn line(self) -> usize;
}

impl Line for usize {
    fn line(self) -> usize {
        self
    }
}

impl Line for u32 {
    fn line(self) -> usize {
        self as usize
    }
}

impl Line for &Reading<'_> {
    fn line(self) -> usize {
        Reading::line(self)
    }
}

/// A table's values for all entities of a batch. Made by [`Table::of`](crate::Table::of).
///
/// Changes are stored by [`save`](Self::save), or when the view goes out of scope; an error then fails the
/// invocation. It doesn't see what is stored under the same keys by other ways meanwhile, so use one view at a time.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// const LAST: Table<str, f64, Compact> = Table::new("last/");
///
/// fn consume(batch: &Batch) -> Result<(), Failure> {
///     let mut last = LAST.of(batch)?;
///     if let Some(frame) = batch.frame("weight") {
///         for (&line, &weight) in frame.lines().iter().zip(frame.reals()?) {
///             if let Some(before) = last.insert(line, weight) {
///                 log::info!("{}: from {before} to {weight} kg", batch.entities()[line as usize]);
///             }
///         }
///     }
///     Ok(last.save()?)
/// }
/// ```
pub struct EntityRows<'b, V: Serialize, C: Codec> {
    prefix: &'static str,
    entities: &'b [&'b str],
    rows: Vec<Row<V>>,
    codec: PhantomData<C>,
}

impl<'b, V: Serialize, C: Codec> EntityRows<'b, V, C> {
    pub(super) fn open(prefix: &'static str, batch: &'b Batch<'_>) -> Result<Self, Error>
    where
        V: DeserializeOwned,
    {
        let entities = batch.entities();
        let stored = Values(host::state_get_rows(prefix, entities)?);
        let rows = entities.iter().zip(stored.iter()).map(|(entity, bytes)| {
            Row::read::<C>(bytes).map_err(|reason| Error::Decode { key: full_key(prefix, *entity), reason })
        });
        Ok(Self { prefix, entities, rows: rows.collect::<Result<_, _>>()?, codec: PhantomData })
    }

    /// Gets an entity's value, if there is one.
    pub fn get(&self, line: impl Line) -> Option<&V> {
        self.rows[line.line()].value.as_ref()
    }

    /// Gets an entity's value to change it, if there is one.
    pub fn get_mut(&mut self, line: impl Line) -> Option<&mut V> {
        self.rows[line.line()].get_mut()
    }

    /// Gets an entity's value to change it; where there is none, this one.
    pub fn or_insert_with(&mut self, line: impl Line, make: impl FnOnce() -> V) -> &mut V {
        self.rows[line.line()].or_insert_with(make)
    }

    /// Gets an entity's value to change it; where there is none, the default.
    pub fn or_default(&mut self, line: impl Line) -> &mut V
    where
        V: Default,
    {
        self.or_insert_with(line, V::default)
    }

    /// Replaces an entity's value, and gives what it was.
    pub fn insert(&mut self, line: impl Line, value: V) -> Option<V> {
        self.rows[line.line()].replace(Some(value))
    }

    /// Removes an entity's value, and gives what it was.
    pub fn remove(&mut self, line: impl Line) -> Option<V> {
        self.rows[line.line()].replace(None)
    }

    /// Stores what changed, in one call.
    pub fn save(&mut self) -> Result<(), Error> {
        let due = (0..).zip(&self.rows).filter(|(_, row)| row.is_due());
        let lines: Vec<u32> = due.map(|(line, _)| line).collect();
        if !lines.is_empty() {
            let values = pack::<V, C>(lines.iter().map(|line| &self.rows[*line as usize]));
            let values = values.map_err(|(place, reason)| {
                let entity = self.entities[lines[place] as usize];
                Error::Encode { key: full_key(self.prefix, entity), reason }
            })?;
            host::state_set_rows(self.prefix, self.entities, &lines, &values)?;
        }
        self.rows.iter_mut().for_each(Row::saved);
        Ok(())
    }
}

impl<V: Serialize, C: Codec> Drop for EntityRows<'_, V, C> {
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Err(error) = self.save()
        {
            pending::park(error);
        }
    }
}

/// A table's values by key: what it has read it keeps, and what changes it stores in one call. Made by
/// [`Table::rows`](crate::Table::rows).
///
/// Changes are stored by [`save`](Self::save), or when the view goes out of scope; an error then fails the
/// invocation. It doesn't see what is stored under the same keys by other ways meanwhile, so use one view at a time.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// const VISITS: Table<str, u32> = Table::new("visits/");
///
/// fn count(names: &[&str]) -> Result<(), Failure> {
///     let mut visits = VISITS.rows();
///     visits.prefetch(names)?; // one call for all; without it there is one for each
///     for name in names {
///         *visits.or_default(*name)? += 1;
///     }
///     Ok(visits.save()?)
/// }
/// # let mut platform = ironloom_sdk::testing::Platform::new();
/// # platform.run(|| count(&["ann", "bob", "ann"])).unwrap();
/// # assert_eq!(platform.state()["visits/ann"], b"2");
/// ```
pub struct Rows<K: Key + ?Sized, V: Serialize, C: Codec> {
    prefix: &'static str,
    /// By the whole key.
    rows: BTreeMap<String, Row<V>>,
    form: PhantomData<fn(&K, C) -> C>,
}

impl<K: Key + ?Sized, V: Serialize, C: Codec> Rows<K, V, C> {
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, rows: BTreeMap::new(), form: PhantomData }
    }

    /// Gets many values in one call, for the methods below to find.
    pub fn prefetch<Q>(&mut self, keys: impl IntoIterator<Item = Q>) -> Result<(), Error>
    where
        V: DeserializeOwned,
        Q: Key<Owned = K::Owned>,
    {
        let mut keys: Vec<String> = keys.into_iter().map(|key| full_key(self.prefix, &key)).collect();
        keys.retain(|key| !self.rows.contains_key(key));
        let stored = Values(host::state_get_many(&packed::lines(keys.iter().map(String::as_str))?)?);
        for (key, bytes) in keys.into_iter().zip(stored.iter()) {
            let row = Row::read::<C>(bytes);
            let row = row.map_err(|reason| Error::Decode { key: key.clone(), reason })?;
            self.rows.insert(key, row);
        }
        Ok(())
    }

    fn row<Q>(&mut self, key: &Q) -> Result<&mut Row<V>, Error>
    where
        V: DeserializeOwned,
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        use std::collections::btree_map::Entry;
        match self.rows.entry(full_key(self.prefix, key)) {
            Entry::Occupied(row) => Ok(row.into_mut()),
            Entry::Vacant(place) => {
                let row = Row::read::<C>(host::state_get(place.key())?.as_deref());
                let row = row.map_err(|reason| Error::Decode { key: place.key().clone(), reason })?;
                Ok(place.insert(row))
            }
        }
    }

    /// Gets a value, if there is one.
    pub fn get<Q>(&mut self, key: &Q) -> Result<Option<&V>, Error>
    where
        V: DeserializeOwned,
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        Ok(self.row(key)?.value.as_ref())
    }

    /// Gets a value to change it, if there is one.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Result<Option<&mut V>, Error>
    where
        V: DeserializeOwned,
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        Ok(self.row(key)?.get_mut())
    }

    /// Gets a value to change it; where there is none, this one.
    pub fn or_insert_with<Q>(&mut self, key: &Q, make: impl FnOnce() -> V) -> Result<&mut V, Error>
    where
        V: DeserializeOwned,
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        Ok(self.row(key)?.or_insert_with(make))
    }

    /// Gets a value to change it; where there is none, the default.
    pub fn or_default<Q>(&mut self, key: &Q) -> Result<&mut V, Error>
    where
        V: DeserializeOwned + Default,
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        self.or_insert_with(key, V::default)
    }

    /// Replaces a value, and gives what it was.
    pub fn insert<Q>(&mut self, key: &Q, value: V) -> Result<Option<V>, Error>
    where
        V: DeserializeOwned,
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        Ok(self.row(key)?.replace(Some(value)))
    }

    /// Removes a value, and gives what it was.
    pub fn remove<Q>(&mut self, key: &Q) -> Result<Option<V>, Error>
    where
        V: DeserializeOwned,
        Q: Key<Owned = K::Owned> + ?Sized,
    {
        Ok(self.row(key)?.replace(None))
    }

    /// Stores what changed, in one call.
    pub fn save(&mut self) -> Result<(), Error> {
        let due: Vec<_> = self.rows.iter().filter(|(_, row)| row.is_due()).collect();
        if !due.is_empty() {
            let values = pack::<V, C>(due.iter().map(|(_, row)| *row));
            let values =
                values.map_err(|(place, reason)| Error::Encode { key: due[place].0.clone(), reason })?;
            host::state_set_many(&packed::lines(due.iter().map(|(key, _)| key.as_str()))?, &values)?;
        }
        self.rows.values_mut().for_each(Row::saved);
        Ok(())
    }
}

impl<K: Key + ?Sized, V: Serialize, C: Codec> Drop for Rows<K, V, C> {
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Err(error) = self.save()
        {
            pending::park(error);
        }
    }
}
