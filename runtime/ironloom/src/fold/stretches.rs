//! The stretches of the log that no checkpoint has folded: the oldest is folded first.
//!
//! A stretch ends between two records, and where it ends the fold's position is noted with all that belongs to it.
//! A checkpoint that folds a stretch later writes that position. The store is then not the state as of it: a key
//! that a later stretch has written again may hold anything older, since a replay from the position writes it
//! anyway and reads nothing. So what is written all the time hardly ever gets to the store.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::durable::Durable;
use super::{FoldPosition, Shared};
use ironloom_storage::store::Stretch;
use ironloom_types::ids::{Generation, Position};

/// Installations that are gone and wait for the checkpoint of the stretch in which they went. Their dirty state counts
/// towards `store.dirty`, and what else they keep is some kilobytes each.
const MOST_GONE: usize = 1_000;

/// How much a checkpoint folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The oldest stretch, or the one under way where there is no other.
    Oldest,
    /// All that has been applied.
    All,
}

/// A stretch that has ended.
struct Ended {
    number: Stretch,
    fold: FoldPosition,
    /// Installations that were removed in it: what they have in memory goes once it is folded.
    gone: Vec<Arc<Durable>>,
}

/// The stretch that records are applied to, and those before it that wait for a checkpoint.
pub(crate) struct Stretches {
    current: Stretch,
    ended: VecDeque<Ended>,
    /// Installations that were removed in the current one.
    pub(super) gone: Vec<Arc<Durable>>,
    /// Those whose state the last checkpoint writes, or has written.
    folding: Vec<Weak<Durable>>,
}

/// What a checkpoint folds.
pub(crate) struct Frozen {
    /// The last stretch that it folds.
    pub through: Stretch,
    /// The position at its end.
    pub fold: FoldPosition,
    /// Says whether that was all that had been applied.
    pub is_all: bool,
    /// Says whether it is made because much waits, so that those pay for it who wrote that.
    pub is_paid: bool,
    /// Everything whose state may have to be written.
    pub lanes: Vec<Arc<Durable>>,
    /// What is gone with all its state: that needn't be written before.
    pub purged: Vec<Arc<Durable>>,
}

impl Default for Stretches {
    fn default() -> Self {
        Self { current: Stretch(1), ended: VecDeque::new(), gone: Vec::new(), folding: Vec::new() }
    }
}

impl Stretches {
    /// The stretch that records are applied to.
    pub(super) fn current(&self) -> Stretch {
        self.current
    }

    /// Says whether so many installations are gone of which no checkpoint has heard that one is wanted for them.
    pub(super) fn has_many_gone(&self) -> bool {
        self.gone.len() + self.ended.iter().map(|ended| ended.gone.len()).sum::<usize>() >= MOST_GONE
    }

    /// Ends the current stretch at this position. On the fold's thread, between two records.
    pub(super) fn end(&mut self, shared: &Shared, position: Position) {
        shared.overlay.end(self.current);
        shared.invocations.end(self.current);
        let fold = position_of(shared, position);
        let gone = std::mem::take(&mut self.gone);
        self.ended.push_back(Ended { number: self.current, fold, gone });
        self.current.0 += 1;
    }

    /// Takes an installation that is gone out, where its state may not all be in the store: another goes on with that,
    /// and checkpoints write it for that one.
    pub(super) fn take_gone(&mut self, generation: Generation) -> Option<Arc<Durable>> {
        let all = self.ended.iter_mut().map(|ended| &mut ended.gone).chain([&mut self.gone]);
        let is_it = |lane: &Durable| lane.generation == generation;
        for gone in all {
            if let Some(at) = gone.iter().position(|lane| is_it(lane)) {
                return Some(gone.swap_remove(at));
            }
        }
        self.folding.iter().filter_map(Weak::upgrade).find(|lane| is_it(lane))
    }

    /// Begins a checkpoint. On the fold's thread, between two records.
    pub(super) fn freeze(&mut self, shared: &Shared, extent: Extent, position: Position) -> Frozen {
        let is_all = extent == Extent::All || self.ended.is_empty();
        if is_all {
            self.end(shared, position);
        }
        let folds = if is_all { self.ended.len() } else { 1 };
        let mut frozen = Frozen {
            through: Stretch(0),
            fold: FoldPosition::default(),
            is_all,
            is_paid: extent == Extent::Oldest && !shared.is_stopping(),
            lanes: shared.lanes.all(),
            purged: Vec::new(),
        };
        let removed = shared.removed.lock();
        let is_purged = |lane: &Durable| removed.get(&lane.generation).is_some_and(|gone| gone.removed.purge);
        self.folding.clear();
        for ended in self.ended.drain(..folds) {
            (frozen.through, frozen.fold) = (ended.number, ended.fold);
            for lane in ended.gone {
                if is_purged(&lane) {
                    frozen.purged.push(lane);
                } else {
                    self.folding.push(Arc::downgrade(&lane));
                    frozen.lanes.push(lane);
                }
            }
        }
        // Those that go later may have written something in what is folded now.
        let later = self.ended.iter().flat_map(|ended| &ended.gone).chain(&self.gone);
        frozen.lanes.extend(later.filter(|lane| !is_purged(lane)).cloned());
        frozen
    }
}

/// The value of the fold position, as of now.
fn position_of(shared: &Shared, position: Position) -> FoldPosition {
    let lanes = shared.lanes.all().into_iter();
    let pending = lanes.filter_map(|lane| Some((lane.generation, lane.queue.lock().pending()?)));
    FoldPosition {
        position,
        // Said by the checkpoint that writes it.
        witness: position,
        folded_through: shared.journal.last_sequences(),
        // Not the clock's: the committer may have moved that on for records that never reach the disk.
        time: shared.horizon(),
        points: shared.points.names().given() as u32,
        generations: shared.last_generations(),
        pending: pending.collect(),
        // Said by the checkpoint that writes it.
        packages_gone: Vec::new(),
    }
}
