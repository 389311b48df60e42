//! Compares an app's stored state with its quota.
//!
//! What a write replaces is usually unknown, since nobody read it. So the count first takes all
//! writes as new: as long as even that fits, nothing need be looked up. Only beyond it are the sizes
//! of what was stored asked for, and the count becomes exact. Both ways decide alike.

use std::cmp::Ordering;

use super::writes::Writes;
use super::{Failure, KEYS_AT_ONCE, load};
use crate::bindings::platform::ironloom::state::state::Error;
use crate::budget::Meter;
use crate::env::{Cached, ReadError, StateReader};
use crate::keys::Keys;
use ironloom_types::changes::StateChanges;
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

fn size(key: &str, value: Option<&[u8]>) -> u64 {
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
        writes: &mut Writes,
        batch: &StateChanges,
        meter: &Meter,
    ) -> Result<Plan, Failure> {
        let added: u64 = batch.iter().map(|(key, value)| size(key, value)).sum();
        let own = |writes: &Writes| -> u64 {
            batch.keys().filter_map(|key| Some(size(key, writes.get(key)?))).sum()
        };
        let own = if writes.is_empty() { 0 } else { own(writes) };
        if !self.exact {
            let total = self.total + added - own;
            if total <= self.granted {
                return Ok(Plan { total, exact: false });
            }
        }
        // Of the own writes only their keys count here: what they replace isn't subtracted yet.
        let mut before = self.total;
        if !self.exact {
            let written = writes.settle().keys().collect();
            before = before.saturating_sub(stored_sizes(reader, &written, meter).await?);
        }
        let others = batch.keys().filter(|key| writes.get(key).is_none()).collect();
        let stored = stored_sizes(reader, &others, meter).await?;
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

/// Sums the sizes of what was stored under these keys before the invocation. None of them occurs twice.
pub(super) async fn stored_sizes(
    reader: &dyn StateReader,
    keys: &Keys,
    meter: &Meter,
) -> Result<u64, ReadError> {
    let (mut sum, mut next) = (0, 0);
    let mut missing: Vec<Box<str>> = Vec::new();
    while next < keys.len() {
        let first = next;
        reader.cached(keys, first, &mut |place, cached| {
            match cached {
                Cached::Known(value, _) => sum += size(keys.get(place), value),
                Cached::Unknown => missing.push(keys.get(place).into()),
            }
            next = place + 1;
            next - first < KEYS_AT_ONCE
        });
        if next < keys.len() {
            meter.breathe().await?;
        }
    }
    let mut left = &missing[..];
    while !left.is_empty() {
        let values = load(reader, left, meter).await?;
        sum += left.iter().zip(&values).map(|(key, value)| size(key, value.as_deref())).sum::<u64>();
        left = &left[values.len()..];
        meter.breathe().await?;
    }
    Ok(sum)
}
