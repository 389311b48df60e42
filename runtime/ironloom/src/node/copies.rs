//! Copies of installations' state: made before another version comes and now and then, within a quota, and listed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Node, Turn, problems, stopping};
use crate::access::within;
use crate::api::facade::{Answer, Copies, CopyItem, CopyReason, Problem, RETRY_SOON, Trial};
use crate::fold::Shared;
use crate::fold::copies::{CopyError, KeptCopy};
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use crate::records::copy::{Copied, CopiesDropped, CopyBegun, CopyFacts, Reason};
use ironloom_storage::{failpoint, free_bytes};
use ironloom_types::clock::host_time;
use ironloom_types::ids::{Generation, InstallationId};

/// Copies that are made at a time.
pub(super) const AT_ONCE: usize = 4;
/// The room on the disk that a copy takes while it is made, by its bytes: the store writes anew what it stands beside.
const ON_DISK: u64 = 3;
const WITHOUT: &str = "Or upgrade without a copy: \"copy\": false, `ironloom upgrade --no-copy`.";
/// Copies after which the quota is looked at again.
const THIN_EVERY: usize = 16;
/// The interval at which those that are due are looked for.
const LOOK: Duration = Duration::from_secs(60);

/// A lane that stands still for a change.
pub(super) struct StandsStill {
    pub turn: Turn,
    /// The copy that was made, of this moment.
    pub copy: Option<Generation>,
    /// The plan's place, unless it was given back.
    pub place: Option<OwnedSemaphorePermit>,
}

/// A copy in the making. What there is of it goes, unless it becomes whole.
struct Making<'s> {
    shared: &'s Shared,
    to: Generation,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.shared.abandon_copy(self.to);
    }
}

impl Node {
    /// Copies the state of an installation. Returns the lane's turn with the copy's number: since the moment of the copy
    /// nothing of the lane has run. One that is copied for an upgrade is interrupted for that.
    pub(super) async fn copy(&self, lane: &Arc<Lane>, reason: Reason) -> Answer<(Turn, Generation)> {
        let place = self.admin.copying.acquire().await;
        let _place = place.map_err(|_| stopping())?;
        let of = lane.generation;
        let to = {
            let mut given = self.admin.installing.lock().await;
            let to = self.shared.last_generation().max(*given).next();
            *given = to;
            let begun = CopyBegun { id: lane.id.clone(), of, generation: to, at: host_time() };
            self.change(AdminRecord::CopyBegun(begun)).await?;
            to
        };
        failpoint("copy-begun");
        let _making = Making { shared: &self.shared, to };
        let copied = self.shared.copy_stored(of, to).ok_or_else(|| being_copied(&lane.id))?;
        done(copied).await?;
        let turn = match reason {
            Reason::Upgrade => self.interrupt(&lane.id).await?,
            Reason::Regular => self.turn_of(&lane.id).await?,
        };
        if !Arc::ptr_eq(&turn.lane, lane) {
            return Err(Problem::conflict("gone", "it was installed again in the meantime"));
        }
        done(self.shared.copy_rest(to)).await?;
        let facts = CopyFacts { revision: (*lane.newest().revision).clone(), at: host_time(), reason };
        let copied = Copied { generation: to, of: turn.ended(), facts };
        self.change(AdminRecord::Copied(Box::new(copied))).await?;
        failpoint("copy-recorded");
        Ok((turn, to))
    }

    /// Has a lane stand still, from the moment of a copy on where there is to be one. Others don't wait for that.
    pub(super) async fn stands_still(
        &self,
        lane: &Arc<Lane>,
        copies: bool,
        place: OwnedSemaphorePermit,
    ) -> Answer<StandsStill> {
        if !copies {
            return Ok(StandsStill { turn: self.interrupt(&lane.id).await?, copy: None, place: Some(place) });
        }
        drop(place);
        let (turn, copy) = self.copy(lane, Reason::Upgrade).await?;
        Ok(StandsStill { turn, copy: Some(copy), place: None })
    }

    /// 422 where a copy of an installation would take more than the quota leaves beside those that have to stay.
    pub(super) fn check_copies(&self, lane: &Lane) -> Answer<()> {
        self.check_space()?;
        let (most, reserve) = {
            let config = self.config.load();
            (config.copies.bytes.0, config.store.reserve.0)
        };
        let bytes = lane.book().meta().state_bytes;
        if free_bytes(&self.data).is_some_and(|free| free < reserve.saturating_add(ON_DISK * bytes)) {
            let detail =
                format!("the disk has no room for a copy of the state of {}, of {bytes} bytes", lane.id);
            return Err(Problem::storage_full(detail, RETRY_SOON).hint(WITHOUT));
        }
        let needed = self.needed_copies();
        // The one of before goes once there is another.
        let own = lane.installation().trial.map(|trial| trial.copy);
        let copies = self.shared.copies.all().into_iter();
        let others = copies.filter(|(copy, _)| needed.contains(copy) && Some(*copy) != own);
        let stay: u64 = others.map(|(_, copy)| copy.bytes).sum();
        if stay + bytes <= most {
            return Ok(());
        }
        let id = &lane.id;
        let detail = format!(
            "a copy of the state of {id} takes {bytes} bytes, and {stay} of the {most} that copies may have are of upgrades that \
             nobody has committed: without one, the upgrade can't be rolled back"
        );
        Err(Problem::refused("copies-full", detail)
            .hint("Raise [copies] bytes, or commit other upgrades: `ironloom commit`.")
            .hint(WITHOUT))
    }

    /// The copies that a rollback may go back to.
    fn needed_copies(&self) -> BTreeSet<Generation> {
        self.lanes.all().iter().filter_map(|lane| Some(lane.installation().trial?.copy)).collect()
    }

    /// Lets go what copies have beyond the quota, the oldest first.
    async fn thin_copies(&self) -> Answer<()> {
        let config = self.config.load().copies;
        let _installing = self.admin.installing.lock().await;
        let goes = beyond(&self.shared.copies.all(), &self.needed_copies(), config.number, config.bytes.0);
        for (id, generations) in goes {
            self.change(AdminRecord::CopiesDropped(CopiesDropped { id, generations })).await?;
        }
        Ok(())
    }

    /// As [`Self::thin_copies`]: what fails is tried again with the next copy, and at the next look. It is nobody's deed:
    /// whoever made the copy that is one too many may not know of the one that goes.
    pub(super) async fn keep_quota(&self) {
        if let Err(problem) = within(None, self.thin_copies()).await {
            tracing::warn!(%problem, "copies beyond the quota could not be removed; it is tried again");
        }
    }

    /// The copies of an installation.
    pub(super) fn list_copies(&self, id: &InstallationId) -> Answer<Copies> {
        let lane = self.lane(id)?;
        let config = self.config.load().copies;
        let trial = lane.installation().trial.map(|trial| trial.copy);
        let bytes = self.shared.copies.bytes();
        let items = self.shared.copies.of(id).into_iter();
        let items = items.map(|(generation, copy)| shown(generation, copy, trial == Some(generation)));
        let (max_number, max_bytes) = (config.number, config.bytes.0);
        Ok(Copies { items: items.collect(), max_number, bytes, max_bytes })
    }

    /// The upgrade of an installation that may be rolled back.
    pub(super) fn trial_of(&self, lane: &Lane) -> Option<Trial> {
        let trial = lane.installation().trial?;
        let KeptCopy { version, package, cursor, .. } = self.shared.copies.get(trial.copy)?;
        Some(Trial { version, package, copy: trial.copy, cursor, until: trial.until })
    }

    /// Makes the copies that are due, one after the other.
    async fn copy_what_is_due(&self) {
        // The quota may be another one by now.
        self.keep_quota().await;
        let config = self.config.load().copies;
        let Some(every) = config.every.filter(|_| config.number > 0) else { return };
        let all = self.shared.copies.all().into_iter();
        let newest: BTreeMap<_, _> = all.map(|(_, copy)| (copy.installation.clone(), copy)).collect();
        let mut made = 0_usize;
        for lane in self.lanes.all() {
            let is_due = match newest.get(&lane.id) {
                Some(copy) => host_time() >= copy.at.plus(every.0) && has_changed(&lane, copy),
                None => self.has_run_for(&lane, every.0),
            };
            if !is_due || self.check_copies(&lane).is_err() {
                continue;
            }
            if let Err(problem) = self.copy(&lane, Reason::Regular).await {
                tracing::warn!(installation = %lane.id, %problem, "no copy could be made; it is tried again");
            }
            made += 1;
            if made.is_multiple_of(THIN_EVERY) {
                self.keep_quota().await;
            }
        }
        self.keep_quota().await;
    }

    /// Says whether a lane has begun so long ago, and has done something since: else it begins anew just as well.
    fn has_run_for(&self, lane: &Lane, span: u64) -> bool {
        let book = lane.book();
        let meta = book.meta();
        meta.counters.invocations > 0 && self.shared.clock.now() >= meta.began.time.plus(span)
    }
}

/// Says whether something has happened since a copy.
fn has_changed(lane: &Lane, copy: &KeptCopy) -> bool {
    let book = lane.book();
    let meta = book.meta();
    let is_same = copy.of == lane.generation
        && (copy.ordinal, copy.attempts, copy.cursor) == (meta.ordinal, meta.attempts, meta.cursor)
        && copy.bytes == meta.state_bytes;
    !is_same || copy.revision != lane.newest().number()
}

fn shown(generation: Generation, copy: KeptCopy, rollback: bool) -> CopyItem {
    let reason = match copy.reason {
        Reason::Upgrade => CopyReason::Upgrade,
        Reason::Regular => CopyReason::Regular,
    };
    let KeptCopy { at, version, package, revision, cursor, time, bytes, .. } = copy;
    CopyItem { generation, at, reason, version, package, revision, cursor, time, bytes, rollback }
}

/// Those beyond the quota, by installation: of each beyond its number, and then of all beyond the bytes.
fn beyond(
    all: &[(Generation, KeptCopy)],
    needed: &BTreeSet<Generation>,
    number: u32,
    bytes: u64,
) -> BTreeMap<InstallationId, Vec<Generation>> {
    let mut goes: BTreeMap<InstallationId, Vec<Generation>> = BTreeMap::new();
    let mut kept: BTreeMap<&InstallationId, u32> = BTreeMap::new();
    let mut stays = Vec::new();
    // The newest first: those stay.
    for (generation, copy) in all.iter().rev() {
        let kept = kept.entry(&copy.installation).or_default();
        if *kept < number || needed.contains(generation) {
            *kept += 1;
            stays.push((generation, copy));
        } else {
            goes.entry(copy.installation.clone()).or_default().push(*generation);
        }
    }
    let mut left: u64 = stays.iter().map(|(_, copy)| copy.bytes).sum();
    for (generation, copy) in stays.into_iter().rev().filter(|(generation, _)| !needed.contains(*generation))
    {
        if left <= bytes {
            break;
        }
        left -= copy.bytes;
        goes.entry(copy.installation.clone()).or_default().push(*generation);
    }
    goes
}

async fn done(copied: oneshot::Receiver<Result<(), CopyError>>) -> Answer<()> {
    match copied.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(CopyError::Gone)) => Err(Problem::conflict("gone", "it was uninstalled in the meantime")),
        Ok(Err(CopyError::DiskFull)) => {
            Err(Problem::storage_full("the disk is nearly full, so its state can't be copied", RETRY_SOON))
        }
        Ok(Err(error @ CopyError::Store(_))) => Err(problems::internal(&error)),
        Err(_) => Err(stopping()),
    }
}

/// 409: somebody else is about to change it.
fn being_copied(id: &InstallationId) -> Problem {
    let detail = format!("the state of {id} is being copied already");
    Problem::conflict("copying", detail).hint("Send the request again in a moment.")
}

/// Makes copies that are due, for as long as the node lives.
pub(super) async fn watch(node: Weak<Node>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(node) = node.upgrade() else { return };
        node.copy_what_is_due().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::clock::Timestamp;
    use ironloom_types::ids::{Digest, Ordinal, Revision, Sequence};

    fn copy(id: &str, bytes: u64) -> KeptCopy {
        KeptCopy {
            installation: InstallationId::new(id).unwrap(),
            of: Generation(1),
            version: "1.0.0".to_owned(),
            package: Digest([1; 32]),
            revision: Revision(1),
            at: Timestamp(1),
            reason: Reason::Regular,
            cursor: Sequence(1),
            ordinal: Ordinal(1),
            attempts: 0,
            time: Timestamp(1),
            bytes,
        }
    }

    fn gone(needed: &[u64], number: u32, bytes: u64) -> Vec<(String, Vec<u64>)> {
        let all = [("a", 2, 10), ("b", 3, 20), ("a", 5, 30), ("a", 7, 40), ("b", 8, 50)];
        let all = all.map(|(id, generation, bytes)| (Generation(generation), copy(id, bytes)));
        let needed = needed.iter().copied().map(Generation).collect();
        let goes = beyond(&all, &needed, number, bytes).into_iter();
        goes.map(|(id, all)| (id.to_string(), all.into_iter().map(|one| one.0).collect())).collect()
    }

    #[test]
    fn the_oldest_goes_of_each_and_then_of_all() {
        assert_eq!(gone(&[], 3, 150), []);
        assert_eq!(gone(&[], 2, 150), [("a".to_owned(), vec![2])]);
        assert_eq!(gone(&[], 3, 149), [("a".to_owned(), vec![2])]);
        assert_eq!(gone(&[], 3, 100), [("a".to_owned(), vec![2, 5]), ("b".to_owned(), vec![3])]);
        assert_eq!(gone(&[], 0, 150), [("a".to_owned(), vec![7, 5, 2]), ("b".to_owned(), vec![8, 3])]);
    }

    #[test]
    fn what_a_rollback_needs_stays() {
        assert_eq!(gone(&[2], 2, 150), []);
        assert_eq!(gone(&[2, 3], 3, 100), [("a".to_owned(), vec![5, 7])]);
        assert_eq!(gone(&[2, 3, 5, 7, 8], 0, 0), []);
    }
}
