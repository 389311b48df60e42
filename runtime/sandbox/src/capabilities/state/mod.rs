//! `ironloom:state`: what an app remembers between invocations.
//!
//! Reads see the writes of the same invocation, or else the state stored before it, which seldom
//! waits. Writes gather in memory until the invocation returns ok.

mod loaded;
mod packed;
mod quota;
#[cfg(test)]
mod tests;
mod writes;

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use wasmtime::component::{HasData, Linker};

use self::loaded::Loaded;
use self::packed::{Packing, unpack};
use self::quota::StateQuota;
use self::writes::Writes;
use crate::bindings::platform::ironloom::state::state::{self as wit, Entry, Error, Packed, Page};
use crate::budget::{Meter, Overrun, Quota};
use crate::env::{Cached, MAX_LOADED_KEYS, ReadError, Scan, StateReader};
use crate::host::Host;
use crate::keys::Keys;
use ironloom_types::changes::{Spot, StateChanges};
use ironloom_types::effects::{check_state_key, check_state_key_length, state_cost};
use ironloom_types::limits::{MAX_STATE_KEYS, MAX_STATE_PAGE, MAX_STATE_PAGE_BYTES, MAX_STATE_VALUE};
use ironloom_types::page::{self, merge_page};

/// Keys that are looked for in the cache at once, and bytes of values after which that ends: it is locked meanwhile.
const KEYS_AT_ONCE: usize = 512;
const BYTES_AT_ONCE: usize = 64 << 10;

/// The writes of the invocation, and a reader of the state before it.
pub(crate) struct Context {
    reader: Arc<dyn StateReader>,
    writes: Writes,
    quota: StateQuota,
    /// Bytes that one call may return to the guest: it has no room for more.
    max_answer: usize,
    /// The table of the batch's entities, until a call needs them one by one.
    table: Option<String>,
    entities: Keys,
    /// The prefix under which the rows of the entities were last read, and where each was found.
    rows: (String, Vec<Spot>),
}

impl Context {
    /// Nothing written yet; `stored` bytes of the `granted` ones are in use.
    pub(crate) fn new(reader: Arc<dyn StateReader>, stored: u64, granted: u64, memory: u64) -> Self {
        let max_answer = usize::try_from(memory).unwrap_or(usize::MAX);
        let quota = StateQuota::new(stored, granted);
        let (writes, entities, rows) = Default::default();
        Self { reader, writes, quota, max_answer, table: None, entities, rows }
    }

    /// The call is about a batch with this table of entities.
    pub(crate) fn set_entities(&mut self, table: &str) {
        self.table = Some(table.to_owned());
    }

    fn entities(&mut self) -> &Keys {
        if let Some(table) = self.table.take() {
            self.entities = Keys::lines(table);
        }
        &self.entities
    }

    /// Returns the writes, in the order of the keys' bytes.
    pub(crate) fn into_writes(self) -> StateChanges {
        self.writes.into_list()
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
    check_state_key(key).map_err(Error::InvalidKey)
}

fn check_length(bytes: usize) -> Result<(), Error> {
    check_state_key_length(bytes).map_err(Error::InvalidKey)
}

fn check_number(keys: usize) -> Result<(), Error> {
    if keys > MAX_STATE_KEYS {
        let text = format!("a call names {keys} keys; at most {MAX_STATE_KEYS} are allowed");
        return Err(Error::Other(text));
    }
    Ok(())
}

/// Takes the keys of a call apart: one on each line, none where there is no text.
fn keys_of(text: String) -> Result<Keys, Error> {
    if text.is_empty() {
        return Ok(Keys::default());
    }
    check_number(text.bytes().filter(|byte| *byte == b'\n').count() + 1)?;
    let keys = Keys::lines(text);
    keys.iter().try_for_each(|key| check_length(key.len()))?;
    Ok(keys)
}

/// Checks the keys under a prefix of entities, which have no line feeds in them; returns their bytes.
fn check_rows<'e>(prefix: &str, entities: impl ExactSizeIterator<Item = &'e str>) -> Result<usize, Error> {
    if prefix.contains('\n') {
        check_key(prefix)?;
    }
    check_number(entities.len())?;
    let mut bytes = 0;
    for entity in entities {
        let length = prefix.len() + entity.len();
        check_length(length)?;
        bytes += length;
    }
    Ok(bytes)
}

/// Bytes that a change counts among the effects.
fn cost(key: &str, value: Option<&[u8]>) -> usize {
    state_cost(key, value.unwrap_or_default())
}

impl View<'_> {
    /// Gets the values of keys that were checked: those up to the first that is neither known nor loaded, then, where one
    /// is missing, what is to be loaded next, and so on. The spots of the first of them, as far as all are in the cache,
    /// go to `spots`.
    async fn get_all(&self, keys: &Keys, spots: &mut Vec<Spot>) -> Result<Packed, Failure> {
        let Context { reader, writes, max_answer, .. } = &*self.context;
        spots.reserve(keys.len());
        let mut values = Packing::new(keys.len(), *max_answer);
        let no_writes = writes.is_empty();
        let mut loaded = Loaded::default();
        while values.len() < keys.len() {
            let (first, full) = (values.len(), values.bytes() + BYTES_AT_ONCE);
            let (mut missing, mut refused) = (Missing::default(), Ok(()));
            reader.cached(keys, first, &mut |place, cached| {
                let own = if no_writes { None } else { writes.get(keys.get(place)) };
                let (value, spot) = match (own, cached) {
                    (Some(own), Cached::Known(_, spot)) => (Some(own), spot),
                    (Some(own), Cached::Unknown) => (Some(own), Spot::NONE),
                    (None, Cached::Known(value, spot)) => (Some(value), spot),
                    (None, Cached::Unknown) => (loaded.get(keys.get(place)), Spot::NONE),
                };
                match value {
                    None => missing.note(keys.get(place)),
                    Some(value) if missing.keys.is_empty() => {
                        if loaded.is_empty() {
                            spots.push(spot);
                        }
                        refused = values.push(value);
                    }
                    // It has to wait for those before it.
                    Some(_) => {}
                }
                refused.is_ok() && place + 1 - first < KEYS_AT_ONCE && values.bytes() < full
            });
            refused?;
            loaded.forget((first..values.len()).map(|place| keys.get(place)));
            if !missing.keys.is_empty() {
                let found = load(&**reader, &missing.keys, self.meter).await?;
                loaded.add((values.len()..keys.len()).map(|place| keys.get(place)), missing.named, found);
            }
            if values.len() < keys.len() {
                self.meter.breathe().await?;
            }
        }
        Ok(values.done())
    }

    async fn get_one(&self, key: String) -> Result<Option<Vec<u8>>, Failure> {
        check_key(&key)?;
        let found = self.get_all(&Keys::one(key), &mut Vec::new()).await?;
        Ok((found.lengths != [-1]).then_some(found.bytes))
    }

    /// Writes all or nothing; of the values of one key the last one counts. Only their number was checked.
    async fn write(&mut self, mut batch: StateChanges) -> Result<(), Failure> {
        let Context { reader, writes, quota, .. } = &mut *self.context;
        for (_, value) in batch.iter() {
            if value.is_some_and(|value| value.len() > MAX_STATE_VALUE) {
                return Err(Error::TooLarge(MAX_STATE_VALUE as u64).into());
            }
        }
        batch.sort();
        let mut replaced = 0;
        let mut changed = batch.len() + writes.len();
        if !writes.is_empty() {
            for key in batch.keys() {
                if let Some(own) = writes.get(key) {
                    replaced += cost(key, own);
                    changed -= 1;
                }
            }
        }
        if changed > MAX_STATE_KEYS {
            let text = format!(
                "one invocation may change {MAX_STATE_KEYS} keys; with this call it would be {changed}"
            );
            return Err(Error::Other(text).into());
        }
        let long = batch.len() > KEYS_AT_ONCE;
        if long {
            self.meter.breathe().await?;
        }
        let plan = quota.plan(&**reader, writes, &batch, self.meter).await?;
        if long {
            self.meter.breathe().await?;
        }
        let added = batch.iter().map(|(key, value)| cost(key, value)).sum();
        self.quota.effect(added, replaced).map_err(Error::Other)?;
        quota.apply(plan);
        writes.add(batch);
        Ok(())
    }

    async fn write_one(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), Failure> {
        check_key(&key)?;
        self.write([(key, value)].into_iter().collect()).await
    }

    async fn write_many(&mut self, keys: String, values: Packed) -> Result<(), Failure> {
        let keys = keys_of(keys)?;
        let bytes = values.bytes.len();
        let values = unpack(&values, keys.len())?;
        let mut batch = StateChanges::with_capacity(keys.len(), keys.bytes(), bytes);
        keys.iter().zip(values).for_each(|(key, value)| batch.push(key, value));
        self.write(batch).await
    }

    async fn get_rows(&mut self, prefix: &str) -> Result<Packed, Failure> {
        let entities = self.context.entities();
        let mut keys = Keys::with_capacity(entities.len(), check_rows(prefix, entities.iter())?);
        entities.iter().for_each(|entity| keys.push(prefix, entity));
        let mut spots = Vec::new();
        let found = self.get_all(&keys, &mut spots).await?;
        self.context.rows = (prefix.to_owned(), spots);
        Ok(found)
    }

    async fn write_rows(&mut self, prefix: &str, lines: &[u32], values: Packed) -> Result<(), Failure> {
        check_number(lines.len())?;
        self.context.entities();
        let Context { entities, rows, .. } = &*self.context;
        if let Some(line) = lines.iter().find(|line| **line as usize >= entities.len()) {
            let text = format!("there is no line {line}: the batch has {} entities", entities.len());
            return Err(Error::Other(text).into());
        }
        let entities = lines.iter().map(|line| entities.get(*line as usize));
        let bytes = check_rows(prefix, entities.clone())?;
        let mut batch = StateChanges::with_capacity(lines.len(), bytes, values.bytes.len());
        let values = unpack(&values, lines.len())?;
        let (read, spots) = rows;
        let spots = if read == prefix { &spots[..] } else { &[] };
        for ((line, entity), value) in lines.iter().zip(entities).zip(values) {
            let spot = spots.get(*line as usize).copied().unwrap_or(Spot::NONE);
            batch.push_row(prefix, entity, value, spot);
        }
        self.write(batch).await
    }

    async fn scan(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, Failure> {
        if limit == 0 {
            return Err(Error::Other("the limit of a scan must be at least 1".to_owned()).into());
        }
        let limit = limit.min(MAX_STATE_PAGE) as usize;
        let mut room = MAX_STATE_PAGE_BYTES.min(self.context.max_answer);
        let mut entries: Vec<Entry> = Vec::new();
        let mut after: Option<Box<str>> = after.map(Box::from);
        let Context { reader, writes, .. } = &mut *self.context;
        let writes = writes.settle();
        // Own writes may delete what is found: then more than the page takes is asked for.
        let at_once = if writes.is_empty() { limit } else { MAX_STATE_PAGE as usize };
        loop {
            let scan =
                Scan { prefix, after: after.as_deref(), limit: at_once, max_bytes: MAX_STATE_PAGE_BYTES };
            let stored = reader.scan(scan, self.meter).await?;
            let own = own_writes(writes, prefix, after.as_deref());
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
fn own_writes(
    writes: &StateChanges,
    prefix: &str,
    after: Option<&str>,
) -> page::Page<Box<str>, Option<Bytes>> {
    let start = match after {
        Some(after) if after >= prefix => writes.partition_point(|key| key <= after),
        _ => writes.partition_point(|key| key < prefix),
    };
    let mut own = writes.iter_from(start).take_while(|(key, _)| key.starts_with(prefix));
    let owned = |(key, value): (&str, Option<&[u8]>)| (key.into(), value.map(Bytes::copy_from_slice));
    let entries = own.by_ref().take(MAX_STATE_PAGE as usize).map(owned).collect();
    page::Page { entries, more: own.next().is_some() }
}

/// Keys that are loaded, each once.
#[derive(Default)]
struct Missing<'k> {
    keys: Vec<Box<str>>,
    named: Vec<&'k str>,
    known: HashSet<&'k str>,
}

impl<'k> Missing<'k> {
    fn note(&mut self, key: &'k str) {
        if self.known.insert(key) {
            self.keys.push(key.into());
            self.named.push(key);
        }
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

/// Bytes that values carry over the boundary.
fn carried(values: &Packed) -> usize {
    size_of_val(&*values.lengths) + values.bytes.len()
}

impl wit::Host for View<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.quota.carry(key.len())?;
        answer(self.get_one(key).await)
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(key.len() + value.len())?;
        answer(self.write_one(key, Some(value)).await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(key.len())?;
        answer(self.write_one(key, None).await)
    }

    async fn get_many(&mut self, keys: String) -> wasmtime::Result<Result<Packed, Error>> {
        self.quota.carry(keys.len())?;
        match keys_of(keys) {
            Ok(keys) => answer(self.get_all(&keys, &mut Vec::new()).await),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn set_many(&mut self, keys: String, values: Packed) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(keys.len() + carried(&values))?;
        answer(self.write_many(keys, values).await)
    }

    async fn get_rows(&mut self, prefix: String) -> wasmtime::Result<Result<Packed, Error>> {
        self.quota.carry(prefix.len())?;
        answer(View::get_rows(self, &prefix).await)
    }

    async fn set_rows(
        &mut self,
        prefix: String,
        lines: Vec<u32>,
        values: Packed,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(prefix.len() + size_of_val(&*lines) + carried(&values))?;
        answer(self.write_rows(&prefix, &lines, values).await)
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
