//! Copies of generations. A copy lies in the store as any generation does, under a number of its own, and isn't changed
//! any more: whoever rolls back points to it, and whoever rehearses reads it.
//!
//! It is made beside the lane. First the checkpoint's thread copies what the store has, a step at a time, while checkpoints
//! write what they write of the generation into the copy, too: from its end on the copy is what the store has of the
//! generation. Then, with the lane standing still, it takes over what no checkpoint has written. So the lane waits for
//! what has changed lately, and not for the whole state.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::stored::{Removed, StoredLane};
use super::{Gone, Shared};
use crate::records::copy::{CopyFacts, Reason};
use crate::records::installation::{Installation, Revision};
use crate::records::lane::LaneMeta;
use ironloom_storage::store::{Key, KeyKind, KeyRange};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, Digest, Generation, InstallationId, Ordinal, Sequence};
use ironloom_types::page::pages;

/// Keys of a copy that are read at once.
const AT_ONCE: usize = 1_000;

/// The reason why there is no copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("the installation is gone")]
    Gone,
    #[error("the disk is nearly full")]
    DiskFull,
    /// A value of the store.
    #[error("{0}")]
    Store(String),
}

/// A copy that is whole, as far as it is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptCopy {
    pub installation: InstallationId,
    /// The generation that it is a copy of.
    pub of: Generation,
    pub version: String,
    /// The package that a rollback needs.
    pub package: Digest,
    pub revision: ids::Revision,
    /// The moment, by the machine's clock.
    pub at: Timestamp,
    pub reason: Reason,
    /// The last reading that had been dealt with, the last invocation, and its time.
    pub cursor: Sequence,
    pub ordinal: Ordinal,
    pub attempts: u32,
    pub time: Timestamp,
    /// When it had been quarantined, by the machine's clock, if it was.
    pub quarantined: Option<Timestamp>,
    /// Bytes of its state's keys and values.
    pub bytes: u64,
}

impl KeptCopy {
    pub(super) fn of(installation: &Installation, meta: &LaneMeta, facts: &CopyFacts) -> Self {
        Self {
            installation: installation.id.clone(),
            of: installation.generation,
            version: installation.version.clone(),
            package: facts.revision.package,
            revision: facts.revision.number,
            at: facts.at,
            reason: facts.reason,
            cursor: meta.cursor,
            ordinal: meta.ordinal,
            attempts: meta.attempts,
            time: meta.time,
            quarantined: meta.quarantine.as_ref().map(|quarantine| quarantine.at),
            bytes: meta.state_bytes,
        }
    }
}

/// A copy with all that a rollback or a rehearsal begins with, besides its state, timers, alarms and dead letters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReadCopy {
    pub installation: Installation,
    pub meta: LaneMeta,
    pub revision: Revision,
}

/// The copies that are kept, and those that are made.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    kept: Mutex<BTreeMap<Generation, KeptCopy>>,
    /// Those without a record that says they are whole.
    begun: Mutex<BTreeMap<Generation, (InstallationId, Timestamp)>>,
    pub(super) jobs: Mutex<Vec<Job>>,
    /// Those that are to go: nothing of one is in memory, so that waits for no checkpoint.
    gone: Mutex<Vec<Generation>>,
}

/// A copy that is made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) of: Generation,
    pub(super) to: Generation,
    pub(super) step: Step,
}

/// The stages of one.
#[derive(Debug)]
pub(super) enum Step {
    /// The state of the store is copied, behind this key.
    Stored { after: Option<Key>, done: oneshot::Sender<Result<(), CopyError>> },
    /// Checkpoints keep it like the store's.
    Followed,
    /// The lane stands still, and what no checkpoint has written is copied.
    Rest { done: oneshot::Sender<Result<(), CopyError>> },
}

impl Copies {
    pub(super) fn begin(&self, generation: Generation, id: &InstallationId, at: Timestamp) {
        self.begun.lock().insert(generation, (id.clone(), at));
    }

    pub(super) fn keep(&self, generation: Generation, copy: KeptCopy) {
        self.begun.lock().remove(&generation);
        self.kept.lock().insert(generation, copy);
    }

    /// Keeps what the store has under a generation, if it is a copy.
    pub(super) fn load(&self, generation: Generation, lane: &StoredLane) -> bool {
        let copy = lane.ended.as_ref().zip(lane.copy.as_ref());
        let copy = copy.map(|(of, facts)| KeptCopy::of(of, &lane.meta, facts));
        copy.map(|copy| self.keep(generation, copy)).is_some()
    }

    /// Takes a copy out.
    pub(super) fn forget(&self, generation: Generation) -> Option<KeptCopy> {
        self.kept.lock().remove(&generation)
    }

    /// Takes those that are to go. Whoever calls this holds what is known of all that is removed.
    pub(super) fn take_gone(&self) -> Vec<Generation> {
        std::mem::take(&mut *self.gone.lock())
    }

    /// The copies of an installation, the oldest first.
    pub(crate) fn of(&self, id: &InstallationId) -> Vec<(Generation, KeptCopy)> {
        let kept = self.kept.lock();
        let of_id = kept.iter().filter(|(_, copy)| copy.installation == *id);
        of_id.map(|(generation, copy)| (*generation, copy.clone())).collect()
    }

    /// All copies, in the order of their numbers, which is that of their time.
    pub(crate) fn all(&self) -> Vec<(Generation, KeptCopy)> {
        self.kept.lock().iter().map(|(generation, copy)| (*generation, copy.clone())).collect()
    }

    /// Bytes of state in all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept.lock().values().map(|copy| copy.bytes).sum()
    }

    pub(crate) fn get(&self, generation: Generation) -> Option<KeptCopy> {
        self.kept.lock().get(&generation).cloned()
    }

    /// Says whether a lane stands still until the rest of its state is copied.
    pub(super) fn has_rest(&self) -> bool {
        self.jobs.lock().iter().any(|job| matches!(job.step, Step::Rest { .. }))
    }

    /// The generation that checkpoints write into as well.
    pub(super) fn follower_of(&self, of: Generation) -> Option<Generation> {
        self.jobs.lock().iter().find(|job| job.of == of).map(|job| job.to)
    }
}

impl Shared {
    /// Has what the store has of a generation copied; `None` where another copy of it is made.
    pub(crate) fn copy_stored(
        &self,
        of: Generation,
        to: Generation,
    ) -> Option<oneshot::Receiver<Result<(), CopyError>>> {
        let (done, copied) = oneshot::channel();
        {
            let mut jobs = self.copies.jobs.lock();
            if jobs.iter().any(|job| job.of == of) {
                return None;
            }
            // Else whoever waits hears of the stop.
            if !self.is_stopping() {
                jobs.push(Job { of, to, step: Step::Stored { after: None, done } });
            }
        }
        self.wishes.wake();
        Some(copied)
    }

    /// Has the rest of it copied. Whoever calls this has the lane's turn until it is.
    pub(crate) fn copy_rest(&self, to: Generation) -> oneshot::Receiver<Result<(), CopyError>> {
        let (done, copied) = oneshot::channel();
        if let Some(job) = self.copies.jobs.lock().iter_mut().find(|job| job.to == to) {
            job.step = Step::Rest { done };
        }
        self.wishes.wake();
        copied
    }

    /// Ends a copy that nobody wants any more, unless it is whole: what lies under its number goes.
    pub(crate) fn abandon_copy(&self, to: Generation) {
        self.copies.jobs.lock().retain(|job| job.to != to);
        let begun = self.copies.begun.lock().remove(&to);
        if let Some((installation, at)) = begun {
            self.purge_copy(to, installation, Removed { at, purge: true });
        }
    }

    /// Has the checkpoint's thread remove a copy.
    pub(super) fn purge_copy(&self, copy: Generation, installation: InstallationId, removed: Removed) {
        let mut all = self.removed.lock();
        all.insert(copy, Gone { installation, removed, package: None });
        self.copies.gone.lock().push(copy);
        drop(all);
        self.wishes.wake();
    }

    /// Sends away whoever waits for a copy: the process is about to end.
    pub(super) fn end_copies(&self) {
        self.copies.jobs.lock().clear();
    }

    /// Has all go that a process which ended had begun.
    pub(super) fn abandon_begun(&self) {
        let begun: Vec<_> = self.copies.begun.lock().keys().copied().collect();
        begun.into_iter().for_each(|generation| self.abandon_copy(generation));
    }

    /// The state that a copy has. Waits for the disk.
    pub(crate) fn copied_state(&self, generation: Generation) -> Result<BTreeMap<Box<str>, Bytes>, String> {
        let range = KeyRange::generation(KeyKind::State, generation);
        let mut state = BTreeMap::new();
        for page in pages(|after: Option<&Key>| self.storage.scan(&range, after, AT_ONCE)) {
            for (key, value) in page.map_err(|error| error.to_string())? {
                if let Some(key) = key.state_text() {
                    state.insert(key.into(), value);
                }
            }
        }
        Ok(state)
    }

    /// Reads a copy; `None` where it is gone by now. Waits for the disk.
    pub(crate) fn read_copy(&self, generation: Generation) -> Result<Option<ReadCopy>, String> {
        let Some(lane) = self.stored_lane(generation)? else { return Ok(None) };
        let (Some(installation), Some(facts)) = (lane.ended, lane.copy) else { return Ok(None) };
        Ok(Some(ReadCopy { installation, meta: lane.meta, revision: facts.revision }))
    }
}
