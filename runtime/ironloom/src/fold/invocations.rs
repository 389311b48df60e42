//! Summaries of invocations, as they are kept for people and replays: packed, [`PAGE`] ordinals to a key,
//! for a key of its own would cost the store more than what it says.
//!
//! Between checkpoints they are here, and a checkpoint merges them into their pages. Merging is done by
//! ordinal and attempt, so that a checkpoint that was cut off is done again and ends the same.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::stored::{decode, encode};
use super::unfolded::Unfolded;
use crate::records::commit::Invocation;
use ironloom_storage::store::{Item, Key, Storage, StoreError, Stretch};
use ironloom_types::ids::{Generation, Ordinal};

/// Ordinals of one key.
pub(crate) const PAGE: u64 = 256;
/// Ordinals of a generation that are kept, rounded up to whole pages.
pub(crate) const KEPT: u64 = 100_000;
/// Summaries of one key: an invocation may be attempted often, and the newest attempts are kept.
const ENTRIES: usize = 2 * PAGE as usize;
/// Bytes of a message that are kept.
const MESSAGE: usize = 256;

const _: () = assert!(ENTRIES > PAGE as usize, "every ordinal of a page has room for one attempt");

/// Summaries by generation, ordinal and attempt.
pub(crate) type Summaries = BTreeMap<(Generation, Ordinal, u32), Invocation>;

/// The reason why summaries can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvocationsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value that is damaged in spite of its checksum.
    #[error("the store's {key} can't be read: {error}")]
    Value { key: Key, error: postcard::Error },
}

/// The summaries that no checkpoint has written, and the store behind them.
pub(crate) struct Invocations {
    maps: Unfolded<(Generation, Ordinal, u32), Invocation>,
    storage: Arc<dyn Storage>,
}

impl Invocations {
    /// None yet but those of the store.
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { maps: Unfolded::default(), storage }
    }

    /// Notes an invocation.
    pub(super) fn note(&self, generation: Generation, mut invocation: Invocation) {
        if let Some(message) = &invocation.message
            && message.len() > MESSAGE
        {
            invocation.message = Some(message[..message.floor_char_boundary(MESSAGE)].into());
        }
        let bytes = size_of::<Invocation>() + 64 + invocation.message.as_ref().map_or(0, |text| text.len());
        let mut maps = self.maps.write();
        maps.bytes += bytes;
        maps.active.insert((generation, invocation.ordinal, invocation.attempt), invocation);
    }

    /// About how many bytes no checkpoint has folded.
    pub(crate) fn bytes(&self) -> usize {
        self.maps.bytes()
    }

    /// Ends a stretch of the log: what comes later belongs to the next one.
    pub(super) fn end(&self, stretch: Stretch) {
        self.maps.end(stretch);
    }

    /// What came through this stretch.
    pub(super) fn through(&self, stretch: Stretch) -> Arc<Summaries> {
        self.maps.through(stretch)
    }

    /// Ends a checkpoint: the store has what came through this stretch. Returns its bytes.
    pub(super) fn folded(&self, through: Stretch) -> usize {
        self.maps.folded(through)
    }

    /// The value of a page's key with these summaries merged into it, oldest first.
    fn merged(
        &self,
        key: &Key,
        new: impl Iterator<Item = Invocation>,
    ) -> Result<Vec<Invocation>, InvocationsError> {
        let found = self.storage.get_many(std::slice::from_ref(key))?;
        let known: Vec<Invocation> = match found.into_iter().next().flatten() {
            None => Vec::new(),
            Some(bytes) => {
                decode(&bytes).map_err(|error| InvocationsError::Value { key: key.clone(), error })?
            }
        };
        let all: BTreeMap<_, _> =
            known.into_iter().chain(new).map(|one| ((one.ordinal, one.attempt), one)).collect();
        Ok(all.into_values().collect())
    }

    /// Returns the pages that a checkpoint writes for these, each with the page that goes for it. What is `gone` of a
    /// generation is left out: the record that says so takes whole pages away.
    pub(super) fn pages<E: From<InvocationsError>>(
        &self,
        new: &Summaries,
        gone: impl Fn(Generation) -> Ordinal,
        mut write: impl FnMut(Key, Option<Bytes>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = new.iter().peekable();
        while let Some(((generation, ordinal, _), _)) = rest.peek() {
            let (generation, page) = (*generation, ordinal.0 / PAGE);
            let here =
                |(of, ordinal, _): &(Generation, Ordinal, u32)| *of == generation && ordinal.0 / PAGE == page;
            let new = std::iter::from_fn(|| rest.next_if(|(place, _)| here(place)));
            let mut merged = self.merged(&key_of(generation, page), new.map(|(_, one)| one.clone()))?;
            let gone_through = gone(generation);
            merged.retain(|one| one.ordinal > gone_through);
            merged.drain(..merged.len().saturating_sub(ENTRIES));
            if !merged.is_empty() {
                write(key_of(generation, page), Some(encode(&merged)))?;
            }
            if let Some(gone) = page.checked_sub(KEPT.div_ceil(PAGE)) {
                write(key_of(generation, gone), None)?;
            }
        }
        Ok(())
    }

    /// Summaries with an ordinal above `after` and up to `last`, oldest first: all attempts of an ordinal or
    /// none of them, and at most `limit`, but for a first ordinal with more attempts. Also whether there are
    /// more.
    pub(crate) fn list(
        &self,
        generation: Generation,
        after: Ordinal,
        last: Ordinal,
        limit: usize,
    ) -> Result<(Vec<Invocation>, bool), InvocationsError> {
        let mut found: Vec<Invocation> = Vec::new();
        let oldest = (last.0 / PAGE).saturating_sub(KEPT.div_ceil(PAGE));
        for page in oldest.max((after.0 + 1) / PAGE)..=last.0 / PAGE {
            // Before the store is read: what is folded meanwhile is in one of the two.
            let new = self.unwritten(generation, page);
            let merged = self.merged(&key_of(generation, page), new.into_iter())?;
            found.extend(merged.into_iter().filter(|one| one.ordinal > after));
            if let Some(cut) = found.get(limit).map(|one| one.ordinal) {
                let whole = if found[0].ordinal == cut { cut } else { Ordinal(cut.0 - 1) };
                let end = found.partition_point(|one| one.ordinal <= whole);
                let more = end < found.len() || whole < last;
                found.truncate(end);
                return Ok((found, more));
            }
        }
        Ok((found, false))
    }

    /// Summaries with an ordinal above `after` and below `before`, newest first: all attempts of an ordinal or none of
    /// them, and at most `limit`, but for a first ordinal with more attempts. Also whether there are more.
    pub(crate) fn newest(
        &self,
        generation: Generation,
        after: Ordinal,
        before: Ordinal,
        limit: usize,
    ) -> Result<(Vec<Invocation>, bool), InvocationsError> {
        let mut found: Vec<Invocation> = Vec::new();
        let last = before.0.saturating_sub(1);
        let oldest = (last / PAGE).saturating_sub(KEPT.div_ceil(PAGE)).max((after.0 + 1) / PAGE);
        for page in (oldest..=last / PAGE).rev() {
            // Before the store is read: what is folded meanwhile is in one of the two.
            let new = self.unwritten(generation, page);
            let merged = self.merged(&key_of(generation, page), new.into_iter())?;
            found.extend(merged.into_iter().rev().filter(|one| after < one.ordinal && one.ordinal < before));
            if let Some(cut) = found.get(limit).map(|one| one.ordinal) {
                let whole = if found[0].ordinal == cut { cut } else { cut.next() };
                let end = found.partition_point(|one| one.ordinal >= whole);
                let more = end < found.len() || whole > after.next();
                found.truncate(end);
                return Ok((found, more));
            }
        }
        Ok((found, false))
    }

    fn unwritten(&self, generation: Generation, page: u64) -> Vec<Invocation> {
        let range = places(generation, page);
        let maps = self.maps.read();
        maps.all().flat_map(|map| map.range(range.clone())).map(|(_, one)| one.clone()).collect()
    }
}

/// The keys of pages that have nothing any more once all is gone through one ordinal, where all was gone through another.
pub(super) fn emptied(generation: Generation, before: Ordinal, now: Ordinal) -> impl Iterator<Item = Key> {
    let next = |gone: Ordinal| (gone.0 + 1) / PAGE;
    // Older ones went by their number.
    let first = next(before).max(next(now).saturating_sub(KEPT.div_ceil(PAGE) + 1));
    (first..next(now)).map(move |page| key_of(generation, page))
}

fn places(generation: Generation, page: u64) -> RangeInclusive<(Generation, Ordinal, u32)> {
    (generation, Ordinal(page * PAGE), 0)..=(generation, Ordinal((page + 1) * PAGE - 1), u32::MAX)
}

fn key_of(generation: Generation, page: u64) -> Key {
    Item::Invocation(generation, Ordinal(page * PAGE), 0).key()
}

#[cfg(test)]
mod tests;
