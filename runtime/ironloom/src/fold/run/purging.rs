//! Removing what generations that are gone have kept, a bounded step at a time.

use std::collections::{BTreeSet, VecDeque};

use super::super::checkpoint::{self, CheckpointError};
use super::super::{Shared, episodes};
use ironloom_storage::failpoint;
use ironloom_storage::store::{Change, Item, KeyKind, KeyRange};
use ironloom_types::ids::{Epoch, Generation};
use ironloom_types::page::pages;

/// Keys that are removed in one step.
const STEP: usize = 1_000;
/// Keys that are looked for at once. Their values come along, of at most 256 KiB each.
const AT_ONCE: usize = 64;
/// The bytes of such values beyond which a step ends.
const BYTES: usize = 16 << 20;
/// The kinds of keys that a generation has, but for its own.
pub(in crate::fold) const OF_GENERATIONS: [KeyKind; 8] = [
    KeyKind::State,
    KeyKind::Timer,
    KeyKind::Alarm,
    KeyKind::DeadLetter,
    KeyKind::Invocation,
    KeyKind::Episode,
    KeyKind::PastRevision,
    KeyKind::Intent,
];

/// Generations whose last state is in the store and has to go, the first one next.
#[derive(Default)]
pub(super) struct Purging {
    queue: VecDeque<Generation>,
    /// Those in the queue: each step asks whether one is there.
    all: BTreeSet<Generation>,
}

impl Purging {
    pub(super) fn first(&self) -> Option<Generation> {
        self.queue.front().copied()
    }

    pub(super) fn has(&self, generation: Generation) -> bool {
        self.all.contains(&generation)
    }

    pub(super) fn add(&mut self, generations: Vec<Generation>) {
        for generation in generations {
            if self.all.insert(generation) {
                self.queue.push_back(generation);
            }
        }
    }

    pub(super) fn end_first(&mut self) {
        if let Some(first) = self.queue.pop_front() {
            self.all.remove(&first);
        }
    }
}

/// Removes a part of what a generation has kept whose last state a checkpoint has written. Its own key goes last, so
/// that it is begun again after a crash. Whether it was that.
pub(in crate::fold) fn purge_step(
    shared: &Shared,
    generation: Generation,
    epoch: Epoch,
) -> Result<bool, CheckpointError> {
    let (mut changes, mut bytes, mut more) = (Vec::new(), 0, false);
    'step: for kind in OF_GENERATIONS {
        let range = KeyRange::generation(kind, generation);
        for page in pages(|after| shared.storage.scan(&range, after, AT_ONCE)) {
            for (key, value) in page? {
                bytes += value.len();
                // Found by its own key, so that goes last.
                changes.extend(episodes::time_key(&key).into_iter().chain([key]).map(Change::delete));
            }
            more = changes.len() >= STEP || bytes >= BYTES;
            if more {
                break 'step;
            }
        }
    }
    if !changes.is_empty() {
        checkpoint::apply(shared, changes, epoch)?;
        failpoint("purge-step");
    }
    if more {
        return Ok(false);
    }
    shared.overlay.apply([(Item::Lane(generation).key(), None)]);
    if let Some(gone) = shared.removed.lock().remove(&generation) {
        tracing::info!(installation = %gone.installation, %generation, "what an installation that is gone had kept was removed");
    }
    Ok(true)
}
