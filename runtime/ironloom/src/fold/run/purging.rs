//! Removing what generations that are gone have kept, a bounded step at a time.

use std::collections::{BTreeSet, VecDeque};

use super::super::checkpoint::{self, CheckpointError};
use super::super::{Shared, episodes};
use ironloom_storage::store::{Change, Item, KeyKind, Scope};
use ironloom_types::ids::{Epoch, Generation};

/// Keys that are removed in one step.
const STEP: usize = 1_000;
/// The kinds of keys that a generation has, but for its own.
pub(in crate::fold) const OF_GENERATIONS: [KeyKind; 7] = [
    KeyKind::State,
    KeyKind::Timer,
    KeyKind::Alarm,
    KeyKind::DeadLetter,
    KeyKind::Invocation,
    KeyKind::Episode,
    KeyKind::PastRevision,
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
    let (mut changes, mut more) = (Vec::new(), false);
    for kind in OF_GENERATIONS {
        let range = Scope::MAIN.generation(kind, generation);
        let page = shared.storage.scan(&range, None, STEP.saturating_sub(changes.len()).max(1))?;
        let keys = page.entries.into_iter();
        // Found by its own key, so that goes last.
        let keys = keys.flat_map(|(key, _)| episodes::time_key(&key).into_iter().chain([key]));
        changes.extend(keys.map(Change::delete));
        more = page.more || changes.len() >= STEP;
        if more {
            break;
        }
    }
    if !changes.is_empty() {
        checkpoint::apply(shared, changes, epoch)?;
    }
    if more {
        return Ok(false);
    }
    shared.overlay.apply([(Scope::MAIN.key(Item::Lane(generation)), None)]);
    if let Some(gone) = shared.removed.lock().remove(&generation) {
        tracing::info!(installation = %gone.installation, %generation, "what an installation that is gone had kept was removed");
    }
    Ok(true)
}
