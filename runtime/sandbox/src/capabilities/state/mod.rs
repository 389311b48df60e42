//! `ironloom:state`: what an app remembers between invocations.
//!
//! Reads see the writes of the same invocation and else what was stored before it, which seldom
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
use crate::budget::Quota;
use crate::env::{Cached, HostFault, Scan, StateReader};
use crate::host::Host;
use ironloom_types::limits::{MAX_STATE_KEY, MAX_STATE_VALUE};

/// Entries of one page at most.
const MAX_PAGE_ENTRIES: u32 = 1_000;
/// Bytes of one page, about.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// What an entry takes in the record besides key and value.
const ENTRY_BYTES: usize = 8;

/// Writes in the order of the keys' bytes; `None` deletes.
pub type Writes = BTreeMap<Box<str>, Option<Bytes>>;

/// What the invocation has written, and the way to what was stored before.
pub struct Context {
    reader: Arc<dyn StateReader>,
    writes: Writes,
    quota: StateQuota,
    /// What one call may bring into the guest: it has no room for more.
    max_answer: usize,
}

impl Context {
    /// Nothing written yet; `stored` bytes of the `granted` ones are in use.
    pub fn new(reader: Arc<dyn StateReader>, stored: u64, granted: u64, memory: u64) -> Self {
        let max_answer = usize::try_from(memory).unwrap_or(usize::MAX);
        Self { reader, writes: Writes::new(), quota: StateQuota::new(stored, granted), max_answer }
    }

    /// What was written.
    pub fn into_writes(self) -> Writes {
        self.writes
    }
}

struct View<'a> {
    context: &'a mut Context,
    quota: &'a mut Quota,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

/// Offers the functions.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, View<'static>>(linker, |host| {
        host.meter.host_call();
        View { context: &mut host.state, quota: &mut host.quota }
    })
}

/// Either the app's mistake, which it may handle, or the host's fault.
enum Failure {
    App(Error),
    Host(HostFault),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::App(error)
    }
}

impl From<HostFault> for Failure {
    fn from(fault: HostFault) -> Self {
        Self::Host(fault)
    }
}

/// Splits a result as the boundary wants it.
fn answer<T>(result: Result<T, Failure>) -> wasmtime::Result<Result<T, Error>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::App(error)) => Ok(Err(error)),
        Err(Failure::Host(fault)) => Err(fault.into()),
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

fn cost(key: &str, value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len) + ENTRY_BYTES
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
                let loaded = load(&*self.context.reader, &[key.into()]).await?;
                Ok(loaded.into_iter().next().flatten())
            }
        }
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let mut values = Vec::with_capacity(keys.len());
        let mut room = self.context.max_answer;
        let mut missing: Vec<(usize, Box<str>)> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            check_key(key)?;
            let own =
                if self.context.writes.is_empty() { None } else { self.context.writes.get(key.as_str()) };
            let value = match own {
                Some(own) => own.clone(),
                None => match self.context.reader.cached(key) {
                    Cached::Known(value) => value,
                    Cached::Unknown => {
                        missing.push((i, key.as_str().into()));
                        None
                    }
                },
            };
            values.push(self.fit(value.as_ref(), &mut room)?);
        }
        // In parts, so that what is asked for again and again doesn't fill the host's memory.
        for part in missing.chunks(MAX_PAGE_ENTRIES as usize) {
            let keys: Vec<Box<str>> = part.iter().map(|(_, key)| key.clone()).collect();
            for ((i, _), value) in part.iter().zip(load(&*self.context.reader, &keys).await?) {
                values[*i] = self.fit(value.as_ref(), &mut room)?;
            }
        }
        Ok(values)
    }

    fn fit(&self, value: Option<&Bytes>, room: &mut usize) -> Result<Option<Vec<u8>>, Error> {
        let Some(value) = value else { return Ok(None) };
        *room = room.checked_sub(value.len()).ok_or_else(|| {
            Error::Other(format!(
                "the values together have more than the {} bytes of memory that the app has; get fewer at once",
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
        let plan = quota.plan(&**reader, writes, &batch).await?;
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
        let limit = limit.min(MAX_PAGE_ENTRIES) as usize;
        let max_bytes = MAX_PAGE_BYTES.min(self.context.max_answer);
        let stored = self.context.reader.scan(Scan { prefix, after, limit, max_bytes }).await?;
        // What is stored after the end of the page is unknown as yet: own writes there wait for it.
        let known_to = if stored.more { stored.entries.last().map(|(key, _)| key.clone()) } else { None };

        let own = own_writes(&self.context.writes, prefix, after, known_to.as_deref());
        let mut own = own.peekable();
        let mut old = stored.entries.into_iter().peekable();
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut full = false;
        loop {
            let take_own = match (own.peek(), old.peek()) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((new, _)), Some((old, _))) => new.as_ref() <= old.as_ref(),
            };
            if entries.len() == limit || bytes > max_bytes {
                full = true;
                break;
            }
            if take_own {
                let Some((key, value)) = own.next() else { break };
                if old.peek().is_some_and(|(old, _)| old == key) {
                    old.next();
                }
                if let Some(value) = value {
                    bytes += key.len() + value.len();
                    entries.push(Entry { key: key.to_string(), value: value.to_vec() });
                }
            } else if let Some((key, value)) = old.next() {
                bytes += key.len() + value.len();
                entries.push(Entry { key: key.into_string(), value: value.to_vec() });
            }
        }
        let next = if full {
            entries.last().map(|entry| entry.key.clone())
        } else {
            known_to.as_deref().map(String::from)
        };
        Ok(Page { entries, next })
    }
}

/// The own writes under a prefix, after one key and up to another.
fn own_writes<'a>(
    writes: &'a Writes,
    prefix: &'a str,
    after: Option<&'a str>,
    to: Option<&'a str>,
) -> impl Iterator<Item = (&'a Box<str>, &'a Option<Bytes>)> {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    writes
        .range::<str, _>((start, Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix) && to.is_none_or(|to| key.as_ref() <= to))
}

async fn load(reader: &dyn StateReader, keys: &[Box<str>]) -> Result<Vec<Option<Bytes>>, HostFault> {
    let values = reader.load(keys).await?;
    assert_eq!(values.len(), keys.len(), "a reader of state answers for each key");
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
        let batch = entries.into_iter().map(|entry| (entry.key.into(), Some(entry.value.into())));
        answer(self.write(batch.collect()).await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(key.len())?;
        answer(self.write(Writes::from([(key.into_boxed_str(), None)])).await)
    }

    async fn delete_many(&mut self, keys: Vec<String>) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(carried(&keys))?;
        answer(self.write(keys.into_iter().map(|key| (key.into(), None)).collect()).await)
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
