//! `ironloom:state`: what an app remembers between invocations.
//!
//! Reads see the writes of the same invocation, or else the state stored before it, which seldom
//! waits. Writes gather in memory until the invocation returns ok.

mod quota;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{HasData, Linker};

use self::quota::StateQuota;
use crate::bindings::platform::ironloom::state::state::{self as wit, Entry, Error, Page};
use crate::budget::{Meter, Overrun, Quota};
use crate::env::{Cached, MAX_LOADED_KEYS, ReadError, Scan, StateReader};
use crate::host::Host;
use ironloom_types::effects::state_cost;
use ironloom_types::limits::{
    MAX_STATE_KEY, MAX_STATE_KEYS, MAX_STATE_PAGE, MAX_STATE_PAGE_BYTES, MAX_STATE_VALUE,
};
use ironloom_types::page::{self, merge_page};

/// Writes in the order of the keys' bytes; `None` deletes.
pub(crate) type Writes = BTreeMap<Box<str>, Option<Bytes>>;

/// The writes of the invocation, and a reader of the state before it.
pub(crate) struct Context {
    reader: Arc<dyn StateReader>,
    writes: Writes,
    quota: StateQuota,
    /// Bytes that one call may return to the guest: it has no room for more.
    max_answer: usize,
}

impl Context {
    /// Nothing written yet; `stored` bytes of the `granted` ones are in use.
    pub(crate) fn new(reader: Arc<dyn StateReader>, stored: u64, granted: u64, memory: u64) -> Self {
        let max_answer = usize::try_from(memory).unwrap_or(usize::MAX);
        Self { reader, writes: Writes::new(), quota: StateQuota::new(stored, granted), max_answer }
    }

    /// Returns the writes.
    pub(crate) fn into_writes(self) -> Writes {
        self.writes
    }
}

struct View<'a> {
    context: &'a mut Context,
    quota: &'a mut Quota,
    meter: &'a Meter,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, View<'static>>(linker, |host| {
        let host = host.called();
        View { context: &mut host.state, quota: &mut host.quota, meter: &host.meter }
    })
}

/// The reason why a call had no effect.
#[derive(Debug)]
enum Failure {
    /// The app's mistake, which it may handle.
    App(Error),
    /// The end of the invocation.
    End(ReadError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::App(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::End(error)
    }
}

impl From<Overrun> for Failure {
    fn from(overrun: Overrun) -> Self {
        Self::End(overrun.into())
    }
}

/// Splits a result as the boundary wants it.
fn answer<T>(result: Result<T, Failure>) -> wasmtime::Result<Result<T, Error>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::App(error)) => Ok(Err(error)),
        Err(Failure::End(ReadError::Fault(fault))) => Err(fault.into()),
        Err(Failure::End(ReadError::Overrun(overrun))) => Err(overrun.into()),
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::InvalidKey("a key must not be empty".to_owned()));
    }
    if key.len() > MAX_STATE_KEY {
        let text = format!("a key has {} bytes; at most {MAX_STATE_KEY} are allowed", key.len());
        return Err(Error::InvalidKey(text));
    }
    Ok(())
}

fn check_number(keys: usize) -> Result<(), Error> {
    if keys > MAX_STATE_KEYS {
        let text = format!("a call names {keys} keys; at most {MAX_STATE_KEYS} are allowed");
        return Err(Error::Other(text));
    }
    Ok(())
}

/// Bytes that a change counts among the effects.
fn cost(key: &str, value: Option<&[u8]>) -> usize {
    state_cost(key, value.unwrap_or_default())
}

impl View<'_> {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        check_key(key)?;
        if let Some(own) = self.context.writes.get(key) {
            return Ok(own.clone());
        }
        match self.context.reader.cached(key) {
            Cached::Known(value) => Ok(value),
            Cached::Unknown => {
                let loaded = load(&*self.context.reader, &[key.into()], self.meter).await?;
                Ok(loaded.into_iter().next().flatten())
            }
        }
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        check_number(keys.len())?;
        let mut values = Vec::with_capacity(keys.len());
        let mut room = self.context.max_answer;
        let mut missing = Missing::default();
        for (i, key) in keys.iter().enumerate() {
            check_key(key)?;
            let own =
                if self.context.writes.is_empty() { None } else { self.context.writes.get(key.as_str()) };
            let value = match own {
                Some(own) => own.clone(),
                None => match self.context.reader.cached(key) {
                    Cached::Known(value) => value,
                    Cached::Unknown => {
                        missing.note(key, i);
                        None
                    }
                },
            };
            values.push(self.fit(value.as_ref(), &mut room)?);
            if i % MAX_LOADED_KEYS == MAX_LOADED_KEYS - 1 {
                self.meter.breathe().await?;
            }
        }
        // In parts, so that what is asked for again and again doesn't fill the host's memory.
        let mut loaded = 0;
        while loaded < missing.keys.len() {
            let found = load(&*self.context.reader, &missing.keys[loaded..], self.meter).await?;
            for (places, value) in missing.places[loaded..].iter().zip(&found) {
                for &place in places {
                    values[place] = self.fit(value.as_ref(), &mut room)?;
                }
            }
            loaded += found.len();
        }
        Ok(values)
    }

    fn fit(&self, value: Option<&Bytes>, room: &mut usize) -> Result<Option<Vec<u8>>, Error> {
        let Some(value) = value else { return Ok(None) };
        *room = room.checked_sub(value.len()).ok_or_else(|| {
            Error::Other(format!(
                "the values together exceed the {} bytes of memory that the app has; get fewer at once",
                self.context.max_answer
            ))
        })?;
        Ok(Some(value.to_vec()))
    }

    /// Writes all or nothing. `batch` is sorted, and no key occurs twice.
    async fn write(&mut self, batch: Writes) -> Result<(), Failure> {
        let Context { reader, writes, quota, .. } = &mut *self.context;
        for (key, value) in &batch {
            check_key(key)?;
            if value.as_ref().is_some_and(|value| value.len() > MAX_STATE_VALUE) {
                return Err(Error::TooLarge(MAX_STATE_VALUE as u64).into());
            }
        }
        let changed = batch.keys().filter(|key| !writes.contains_key(*key)).count() + writes.len();
        if changed > MAX_STATE_KEYS {
            let text = format!(
                "one invocation may change {MAX_STATE_KEYS} keys; with this call it would be {changed}"
            );
            return Err(Error::Other(text).into());
        }
        self.meter.breathe().await?;
        let plan = quota.plan(&**reader, writes, &batch, self.meter).await?;
        self.meter.breathe().await?;
        let added = batch.iter().map(|(key, value)| cost(key, value.as_deref())).sum();
        let replaced = if writes.is_empty() {
            0
        } else {
            let own = batch.keys().filter_map(|key| writes.get_key_value(key));
            own.map(|(key, value)| cost(key, value.as_deref())).sum()
        };
        self.quota.effect(added, replaced).map_err(Error::Other)?;
        quota.apply(plan);
        // One pass over both is quicker than many single insertions, unless the batch is small.
        if batch.len() >= writes.len() / 8 {
            let mut batch = batch;
            writes.append(&mut batch);
        } else {
            writes.extend(batch);
        }
        Ok(())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, Failure> {
        if limit == 0 {
            return Err(Error::Other("the limit of a scan must be at least 1".to_owned()).into());
        }
        let limit = limit.min(MAX_STATE_PAGE) as usize;
        let mut room = MAX_STATE_PAGE_BYTES.min(self.context.max_answer);
        let mut entries: Vec<Entry> = Vec::new();
        let mut after: Option<Box<str>> = after.map(Box::from);
        // Own writes may delete what is found: then more than the page takes is asked for.
        let at_once = if self.context.writes.is_empty() { limit } else { MAX_STATE_PAGE as usize };
        loop {
            let scan =
                Scan { prefix, after: after.as_deref(), limit: at_once, max_bytes: MAX_STATE_PAGE_BYTES };
            let stored = self.context.reader.scan(scan, self.meter).await?;
            let own = own_writes(&self.context.writes, prefix, after.as_deref());
            let merged = merge_page(own, stored, usize::MAX);
            for (key, value) in merged.entries {
                if entries.len() == limit || room == 0 {
                    return Ok(Page { next: entries.last().map(|entry| entry.key.clone()), entries });
                }
                room = room.saturating_sub(key.len() + value.len());
                entries.push(Entry { key: key.into_string(), value: value.to_vec() });
            }
            // Own writes took the place of all that was found, or deleted it: the page still has room.
            match merged.next {
                Some(next) => after = Some(next),
                None => return Ok(Page { entries, next: None }),
            }
            self.meter.breathe().await?;
        }
    }
}

/// The own writes under a prefix and after a key: as many as a page may have.
fn own_writes(writes: &Writes, prefix: &str, after: Option<&str>) -> page::Page<Box<str>, Option<Bytes>> {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut own =
        writes.range::<str, _>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
    let entries = own.by_ref().take(MAX_STATE_PAGE as usize);
    let entries = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
    page::Page { entries, more: own.next().is_some() }
}

/// Keys that are loaded, each once, and where their values go.
#[derive(Default)]
struct Missing<'a> {
    keys: Vec<Box<str>>,
    places: Vec<Vec<usize>>,
    known: BTreeMap<&'a str, usize>,
}

impl<'a> Missing<'a> {
    fn note(&mut self, key: &'a str, place: usize) {
        let index = *self.known.entry(key).or_insert(self.keys.len());
        if index == self.keys.len() {
            self.keys.push(key.into());
            self.places.push(Vec::new());
        }
        self.places[index].push(place);
    }
}

/// Loads the values of the first of some keys.
async fn load(
    reader: &dyn StateReader,
    keys: &[Box<str>],
    meter: &Meter,
) -> Result<Vec<Option<Bytes>>, ReadError> {
    let part = &keys[..keys.len().min(MAX_LOADED_KEYS)];
    let values = reader.load(part, meter).await?;
    assert!((1..=part.len()).contains(&values.len()), "a reader of state answers for the first of the keys");
    Ok(values)
}

/// Counts what a host call carried.
fn carried(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + size_of::<String>()).sum()
}

impl wit::Host for View<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.quota.carry(key.len())?;
        answer(View::get(self, &key).await.map(|value| value.map(Vec::from)))
    }

    async fn get_many(&mut self, keys: Vec<String>) -> wasmtime::Result<Result<Vec<Option<Vec<u8>>>, Error>> {
        self.quota.carry(carried(&keys))?;
        answer(View::get_many(self, &keys).await)
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(key.len() + value.len())?;
        answer(self.write(Writes::from([(key.into_boxed_str(), Some(Bytes::from(value)))])).await)
    }

    async fn set_many(&mut self, entries: Vec<Entry>) -> wasmtime::Result<Result<(), Error>> {
        let sizes = entries.iter().map(|entry| entry.key.len() + entry.value.len() + size_of::<Entry>());
        self.quota.carry(sizes.sum())?;
        if let Err(error) = check_number(entries.len()) {
            return Ok(Err(error));
        }
        let batch = entries.into_iter().map(|entry| (entry.key.into(), Some(entry.value.into())));
        let batch = batch.collect();
        self.meter.breathe().await?;
        answer(self.write(batch).await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(key.len())?;
        answer(self.write(Writes::from([(key.into_boxed_str(), None)])).await)
    }

    async fn delete_many(&mut self, keys: Vec<String>) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(carried(&keys))?;
        if let Err(error) = check_number(keys.len()) {
            return Ok(Err(error));
        }
        let batch = keys.into_iter().map(|key| (key.into(), None)).collect();
        self.meter.breathe().await?;
        answer(self.write(batch).await)
    }

    async fn scan(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Page, Error>> {
        self.quota.carry(prefix.len() + after.as_ref().map_or(0, String::len))?;
        answer(View::scan(self, &prefix, after.as_deref(), limit).await)
    }
}
