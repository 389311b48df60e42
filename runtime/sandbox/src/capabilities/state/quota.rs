//! Compares an app's stored state with its quota.
//!
//! What a write replaces is usually unknown, since nobody read it. So the count first takes all
//! writes as new: as long as even that fits, nothing need be looked up. Only beyond it are the sizes
//! of what was stored asked for, and the count becomes exact. Both ways decide alike.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{Failure, Writes, load};
use crate::bindings::platform::ironloom::state::state::Error;
use crate::budget::Meter;
use crate::env::{Cached, MAX_LOADED_KEYS, ReadError, StateReader};
use ironloom_types::effects::state_cost;

/// Counts what keys and values cost.
pub(super) struct StateQuota {
    granted: u64,
    /// Bytes that would be stored; an upper bound as long as it isn't exact.
    total: u64,
    exact: bool,
}

/// The count after a batch.
pub(super) struct Plan {
    total: u64,
    exact: bool,
}

fn size(key: &str, value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| state_cost(key, value) as u64)
}

impl StateQuota {
    /// Starts with what is stored.
    pub(super) fn new(stored: u64, granted: u64) -> Self {
        Self { granted, total: stored, exact: false }
    }

    /// Counts what would be stored after the batch, or refuses it.
    pub(super) async fn plan(
        &self,
        reader: &dyn StateReader,
        writes: &Writes,
        batch: &Writes,
        meter: &Meter,
    ) -> Result<Plan, Failure> {
        let added: u64 = batch.iter().map(|(key, value)| size(key, value.as_ref())).sum();
        if !self.exact {
            let own = batch.keys().filter_map(|key| writes.get_key_value(key));
            let own: u64 = own.map(|(key, value)| size(key, value.as_ref())).sum();
            let total = self.total + added - own;
            if total <= self.granted {
                return Ok(Plan { total, exact: false });
            }
        }
        // Of the own writes only their keys count here: what they replace isn't subtracted yet.
        let mut before = self.total;
        if !self.exact {
            before = before.saturating_sub(stored_sizes(reader, writes.keys(), meter).await?);
        }
        let own = batch.keys().filter_map(|key| writes.get_key_value(key));
        let own: u64 = own.map(|(key, value)| size(key, value.as_ref())).sum();
        let others = batch.keys().filter(|key| !writes.contains_key(*key));
        let stored = stored_sizes(reader, others, meter).await?;
        let total = (before + added).saturating_sub(own + stored);
        // An app that is over its quota already, since an admin lowered it, can still make room.
        if total > self.granted && total.cmp(&before) == Ordering::Greater {
            return Err(Error::QuotaExceeded(self.granted).into());
        }
        Ok(Plan { total, exact: true })
    }

    /// Takes the count of a batch that was written.
    pub(super) fn apply(&mut self, plan: Plan) {
        self.total = plan.total;
        self.exact = plan.exact;
    }
}

/// Sums the sizes of what was stored under these keys before the invocation.
async fn stored_sizes<'a>(
    reader: &dyn StateReader,
    keys: impl Iterator<Item = &'a Box<str>>,
    meter: &Meter,
) -> Result<u64, ReadError> {
    let mut sum = 0;
    let mut missing: Vec<Box<str>> = Vec::new();
    for (index, key) in keys.enumerate() {
        match reader.cached(key) {
            Cached::Known(value) => sum += size(key, value.as_ref()),
            Cached::Unknown => missing.push(key.clone()),
        }
        if index % MAX_LOADED_KEYS == MAX_LOADED_KEYS - 1 {
            meter.breathe().await?;
        }
    }
    let mut left = &missing[..];
    while !left.is_empty() {
        let values = load(reader, left, meter).await?;
        sum += left.iter().zip(&values).map(|(key, value)| size(key, value.as_ref())).sum::<u64>();
        left = &left[values.len()..];
    }
    Ok(sum)
}
