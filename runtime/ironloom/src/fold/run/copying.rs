//! Making copies of generations, a bounded step at a time.

use super::super::Shared;
use super::super::checkpoint::{self, CheckpointError};
use super::super::copies::{CopyError, Job, Step};
use ironloom_storage::failpoint;
use ironloom_storage::store::{Change, Item, Key, KeyKind, KeyRange, StoreError};
use ironloom_types::ids::{Epoch, Generation};
use ironloom_types::page::{Page, pages};

/// Keys that are copied in one step.
const STEP: usize = if cfg!(test) { 2 } else { 2_000 };
/// Keys of other kinds than state that are copied at once.
const AT_ONCE: usize = 256;
/// All else of a generation that a copy has, too: kinds of which there may be a bounded number.
const BESIDES: [KeyKind; 3] = [KeyKind::Timer, KeyKind::Alarm, KeyKind::DeadLetter];

/// Does one step of one copy; lanes that stand still come first. Whether there was one.
pub(in crate::fold) fn copy_step(shared: &Shared, epoch: Epoch) -> Result<bool, CheckpointError> {
    if copy_rests(shared, epoch)? {
        return Ok(true);
    }
    let next = shared.copies.jobs.lock().iter().find_map(|job| match &job.step {
        Step::Stored { after, .. } => Some((job.of, job.to, after.clone())),
        _ => None,
    });
    let Some((of, to, after)) = next else { return Ok(false) };
    let copied = match stored_step(shared, (of, to), after, epoch) {
        Err(error) if error.is_full() => Pass::Failed(CopyError::DiskFull),
        copied => copied?,
    };
    let mut jobs = shared.copies.jobs.lock();
    let Some(job) = jobs.iter_mut().find(|job| job.to == to) else { return Ok(true) };
    match copied {
        Pass::Through(last) => {
            if let Step::Stored { after, .. } = &mut job.step {
                *after = Some(last);
            }
        }
        Pass::Whole => end(job, Ok(())),
        Pass::Failed(error) => end(job, Err(error)),
    }
    Ok(true)
}

/// Copies what no checkpoint has written of those whose lanes stand still. Between two writes of a checkpoint, or of none.
pub(in crate::fold) fn copy_rests(shared: &Shared, epoch: Epoch) -> Result<bool, CheckpointError> {
    let waiting = shared.copies.jobs.lock().iter().find_map(|job| match &job.step {
        Step::Rest { .. } => Some((job.of, job.to)),
        _ => None,
    });
    let Some((of, to)) = waiting else { return Ok(false) };
    let copied = match rest(shared, of, to, epoch) {
        // There is no room. A checkpoint waits for some, and takes the log's last free segment for it.
        Err(error) if error.is_full() => Err(CopyError::DiskFull),
        copied => copied?,
    };
    failpoint("copy-rest-durable");
    let mut jobs = shared.copies.jobs.lock();
    if let Some(at) = jobs.iter().position(|job| job.to == to) {
        end(&mut jobs.swap_remove(at), copied);
    }
    Ok(true)
}

/// Tells the one who waits. Checkpoints follow from here on, until its rest is copied.
fn end(job: &mut Job, copied: Result<(), CopyError>) {
    match std::mem::replace(&mut job.step, Step::Followed) {
        // Whoever waited may be gone, and then has the copy abandoned.
        Step::Stored { done, .. } | Step::Rest { done } => drop(done.send(copied)),
        Step::Followed => {}
    }
}

/// A step of a pass through the state that the store has.
enum Pass {
    /// More follows behind this key.
    Through(Key),
    Whole,
    /// The copy has failed; the checkpoint's thread goes on.
    Failed(CopyError),
}

/// Copies some of the state that the store has.
fn stored_step(
    shared: &Shared,
    (of, to): (Generation, Generation),
    after: Option<Key>,
    epoch: Epoch,
) -> Result<Pass, CheckpointError> {
    if shared.is_disk_full() {
        return Ok(Pass::Failed(CopyError::DiskFull));
    }
    let range = KeyRange::generation(KeyKind::State, of);
    let page = match shared.storage.scan(&range, after.as_ref(), STEP) {
        Ok(page) => page,
        Err(error) => return Ok(Pass::Failed(CopyError::Store(error.to_string()))),
    };
    let last = page.entries.last().map(|(key, _)| key.clone()).filter(|_| page.more);
    let changes = page.entries.into_iter();
    let changes: Vec<_> =
        changes.filter_map(|(key, value)| Some(Change::set(moved(&key, to)?, value))).collect();
    if !changes.is_empty() {
        checkpoint::apply_at_once(shared, changes, epoch)?;
        failpoint("copy-step");
    }
    Ok(last.map_or(Pass::Whole, Pass::Through))
}

/// Copies what no checkpoint has written of the state, and all that is beside it.
fn rest(
    shared: &Shared,
    of: Generation,
    to: Generation,
    epoch: Epoch,
) -> Result<Result<(), CopyError>, CheckpointError> {
    let Some(lane) = shared.lanes.of_generation(of) else { return Ok(Err(CopyError::Gone)) };
    // The lane stands still: it isn't kept waiting for room.
    if shared.is_disk_full() {
        return Ok(Err(CopyError::DiskFull));
    }
    checkpoint::write_unfolded(shared, &lane, to, epoch)?;
    for kind in BESIDES {
        let range = KeyRange::generation(kind, of);
        let page = |after: Option<&Key>| {
            let (entries, more) = shared.overlay.scan(&range, after, AT_ONCE)?;
            Ok::<_, StoreError>(Page { entries, more })
        };
        for page in pages(page) {
            let entries = match page {
                Ok(entries) => entries,
                Err(error) => return Ok(Err(CopyError::Store(error.to_string()))),
            };
            let entries = entries.into_iter();
            let changes =
                entries.filter_map(|(key, value)| Some(Change::set(moved(&key, to)?, value))).collect();
            checkpoint::apply_at_once(shared, changes, epoch)?;
        }
    }
    Ok(Ok(()))
}

/// The same key in another generation.
fn moved(key: &Key, to: Generation) -> Option<Key> {
    let item = match key.parse()? {
        Item::State(_, key) => Item::State(to, key),
        Item::Timer(_, name) => Item::Timer(to, name),
        Item::Alarm(_, code, entity) => Item::Alarm(to, code, entity),
        Item::DeadLetter(_, number) => Item::DeadLetter(to, number),
        _ => return None,
    };
    Some(item.key())
}
