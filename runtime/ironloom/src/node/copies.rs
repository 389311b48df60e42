//! Copies of installations' state: made before another version comes and now and then, within a quota, and listed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::purge::PURGED_AT_ONCE;
use super::{Node, Turn, problems, stopping};
use crate::access::within;
use crate::api::facade::{Answer, Copies, CopyItem, CopyReason, Problem, RETRY_SOON, Trial};
use crate::fold::Shared;
use crate::fold::copies::{CopyError, KeptCopy};
use crate::fold::submission::Refusal;
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use crate::records::copy::{Copied, CopiesDropped, CopyBegun, CopyFacts, Reason};
use ironloom_storage::{failpoint, free_bytes};
use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::ids::{Generation, InstallationId};

/// Copies that are made at a time.
pub(super) const AT_ONCE: usize = 4;
/// Upgrades that have a copy made, or wait for that.
pub(super) const UPGRADES: usize = 2 * AT_ONCE;
/// The room on the disk that a copy takes while it is made, by its bytes: the store writes anew what it stands beside.
const ON_DISK: u64 = 3;
const WITHOUT: &str = "Or upgrade without a copy: \"copy\": false, `ironloom upgrade --no-copy`.";
/// The part of the quota after which that is looked at again.
const THIN_PART: u64 = 16;
/// Installations that are looked at in one go.
pub(super) const AT_A_TIME: usize = 256;
/// The interval at which those that are due are looked for.
const LOOK: Duration = Duration::from_secs(60);

/// A lane that stands still for a change.
pub(super) struct StandsStill {
    pub turn: Turn,
    /// The copy that was made, of this moment.
    pub copy: Option<Held>,
    /// The plan's place, unless it was given back.
    pub place: Option<OwnedSemaphorePermit>,
}

/// Copies under way, until the record is written for which each is made, with the bytes that they will have.
pub(super) type UnderWay = BTreeMap<Generation, (Reason, u64)>;

/// A copy that is under way. Until this is dropped its room is kept from others, and no quota takes that of an upgrade.
pub(super) struct Held {
    pub(super) generation: Generation,
    under_way: Arc<Mutex<UnderWay>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.generation);
    }
}

/// A copy in the making. What there is of it goes, unless it becomes whole.
struct Making<'s> {
    shared: &'s Shared,
    to: Generation,
    /// The record that it is whole is on its way, or nobody knows what has become of it: the next start does.
    may_be_whole: bool,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if !self.may_be_whole {
            self.shared.abandon_copy(self.to);
        }
    }
}

impl Node {
    /// Copies the state of an installation. Returns the lane's turn with the copy's number: since the moment of the copy
    /// nothing of the lane has run. One that is copied for an upgrade is interrupted for that.
    pub(super) async fn copy(&self, lane: &Arc<Lane>, reason: Reason) -> Answer<(Turn, Held)> {
        let place = self.admin.copying.acquire().await;
        let _place = place.map_err(|_| stopping())?;
        let of = lane.generation;
        let held = {
            let mut given = self.admin.installing.lock().await;
            let to = self.next_generation(&given, of.tenant());
            let held = self.hold_copy(lane, reason, to)?;
            given.note(to);
            let begun = CopyBegun { id: lane.id.clone(), of, generation: to, at: host_time() };
            self.change(AdminRecord::CopyBegun(begun)).await?;
            held
        };
        let to = held.generation;
        failpoint("copy-begun");
        let mut making = Making { shared: &self.shared, to, may_be_whole: false };
        let copied = self.shared.copy_stored(of, to).ok_or_else(|| being_copied(&lane.id))?;
        done(copied).await?;
        let turn = match reason {
            Reason::Upgrade => self.interrupt(&lane.id).await?,
            Reason::Regular => {
                let turn = timeout(still_for(reason), self.turn_of(&lane.id)).await;
                turn.map_err(|_| Problem::conflict("in-use", format!("{} is long at work", lane.id)))??
            }
        };
        if !Arc::ptr_eq(&turn.lane, lane) {
            return Err(Problem::conflict("gone", "it was installed again in the meantime"));
        }
        let rest = async {
            let no_moment = self.admin.becoming_whole.read().await;
            done(self.shared.copy_rest(to)).await.map(|()| no_moment)
        };
        // Neither a disk nor a backup that keeps the checkpoint's thread waiting keeps the lane waiting for long.
        let _no_moment = timeout(still_for(reason), rest).await.map_err(|_| held_up(&lane.id))??;
        let facts = CopyFacts { revision: (*lane.newest().revision).clone(), at: host_time(), reason };
        let copied = Copied { generation: to, of: turn.ended(), facts };
        let recorded = self.hand_in(AdminRecord::Copied(Box::new(copied)))?;
        making.may_be_whole = true;
        let recorded = recorded.done().await;
        making.may_be_whole = matches!(recorded, Ok(()) | Err(Refusal::UnknownOutcome));
        recorded.map_err(|refusal| problems::change_refused(&refusal))?;
        failpoint("copy-recorded");
        Ok((turn, held))
    }

    /// Checks again what may have changed while it waited for its place, and keeps its room from others.
    fn hold_copy(&self, lane: &Lane, reason: Reason, generation: Generation) -> Answer<Held> {
        let mut under_way = self.admin.copies.lock();
        self.check_disk(lane, &under_way)?;
        if reason == Reason::Upgrade {
            self.check_quota(lane, &under_way)?;
        }
        under_way.insert(generation, (reason, lane.book().meta().state_bytes));
        Ok(Held { generation, under_way: Arc::clone(&self.admin.copies) })
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
        // What it has planned is in memory until it has its copy.
        let few = self.admin.upgrading.try_acquire();
        let _one_of_few = few.map_err(|_| {
            let detail = format!("{UPGRADES} upgrades are waiting for copies of their installations' state");
            Problem::unavailable("busy", detail, RETRY_SOON)
        })?;
        drop(place);
        let (turn, copy) = self.copy(lane, Reason::Upgrade).await?;
        Ok(StandsStill { turn, copy: Some(copy), place: None })
    }

    /// 422 where a copy of an installation would take more than the quota leaves beside those that have to stay, and 507
    /// where the disk has no room for it.
    pub(super) fn check_copies(&self, lane: &Lane) -> Answer<()> {
        let under_way = self.admin.copies.lock();
        self.check_disk(lane, &under_way)?;
        self.check_quota(lane, &under_way)
    }

    fn check_disk(&self, lane: &Lane, under_way: &UnderWay) -> Answer<()> {
        self.check_space()?;
        let bytes = lane.book().meta().state_bytes;
        let comes = under_way.iter().filter(|(copy, _)| self.shared.copies.get(**copy).is_none());
        let comes = comes.map(|(_, (_, bytes))| bytes).sum::<u64>();
        let wanted = self.config.load().store.reserve.0.saturating_add(ON_DISK * (bytes + comes));
        if free_bytes(&self.data).is_some_and(|free| free < wanted) {
            let detail =
                format!("the disk has no room for a copy of the state of {}, of {bytes} bytes", lane.id);
            return Err(Problem::storage_full(detail, RETRY_SOON).hint(WITHOUT));
        }
        Ok(())
    }

    fn check_quota(&self, lane: &Lane, under_way: &UnderWay) -> Answer<()> {
        let most = self.config.load().copies.bytes.0;
        let bytes = lane.book().meta().state_bytes;
        // The one of before goes once there is another.
        let stay = self.bytes_that_stay(lane.installation().trial.map(|trial| trial.copy), under_way);
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

    /// Bytes of the copies that no quota takes, besides this one.
    fn bytes_that_stay(&self, but: Option<Generation>, under_way: &UnderWay) -> u64 {
        let needed = self.needed_copies(under_way);
        let bytes = |copy: &Generation| match self.shared.copies.get(*copy) {
            Some(copy) => copy.bytes,
            None => under_way.get(copy).map_or(0, |(_, bytes)| *bytes),
        };
        needed.iter().filter(|copy| Some(**copy) != but).map(bytes).sum()
    }

    /// The copies that a rollback may go back to, or may have to once an upgrade that is under way is recorded.
    fn needed_copies(&self, under_way: &UnderWay) -> BTreeSet<Generation> {
        let trials = self.lanes.all().into_iter().filter_map(|lane| Some(lane.installation().trial?.copy));
        let upgrades = under_way.iter().filter(|(_, (reason, _))| *reason == Reason::Upgrade);
        trials.chain(upgrades.map(|(copy, _)| *copy)).collect()
    }

    /// Bytes of copies that go once an upgrade that is under way is recorded, since it has another one.
    fn bytes_replaced(&self, under_way: &UnderWay) -> u64 {
        let replaced = under_way.iter().filter_map(|(new, (reason, _))| {
            let lane = self.lanes.of(&self.shared.copies.get(*new)?.installation)?;
            let old = lane.installation().trial?.copy;
            let is_replaced = *reason == Reason::Upgrade && old != *new;
            is_replaced.then(|| self.shared.copies.get(old)).flatten()
        });
        replaced.map(|copy| copy.bytes).sum()
    }

    /// Lets go what copies have beyond the quota, the oldest first.
    async fn thin_copies(&self) -> Answer<()> {
        loop {
            // Given back now and then: installs and upgrades wait for it.
            let _installing = self.admin.installing.lock().await;
            let config = self.config.load().copies;
            let (needed, replaced) = {
                let under_way = self.admin.copies.lock();
                (self.needed_copies(&under_way), self.bytes_replaced(&under_way))
            };
            let bytes = config.bytes.0.saturating_add(replaced);
            let goes = beyond(&self.shared.copies.all(), &needed, config.number, bytes);
            if goes.is_empty() {
                return Ok(());
            }
            for (id, generations) in goes.into_iter().take(PURGED_AT_ONCE) {
                self.change(AdminRecord::CopiesDropped(CopiesDropped { id, generations })).await?;
            }
        }
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
        // Once for all: there may be thousands.
        let stay = self.bytes_that_stay(None, &self.admin.copies.lock());
        let mut made = 0;
        for (number, lane) in self.lanes.all().into_iter().enumerate() {
            if number % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
            let is_due = match newest.get(&lane.id) {
                Some(copy) => is_old(copy.at, host_time(), every.0) && has_changed(&lane, copy),
                None => self.has_run_for(&lane, every.0),
            };
            let bytes = lane.book().meta().state_bytes;
            if !is_due || stay + bytes > config.bytes.0 {
                continue;
            }
            match self.copy_between_invocations(&lane).await {
                Ok(()) => made += bytes,
                Err(problem) => {
                    tracing::warn!(installation = %lane.id, %problem, "no copy could be made; it is tried again");
                    // The disk has no room, or isn't to be had: none of the next ones would fare better.
                    if matches!(problem.status, 503 | 507) {
                        break;
                    }
                }
            }
            if made > config.bytes.0 / THIN_PART {
                self.keep_quota().await;
                made = 0;
            }
        }
        self.keep_quota().await;
    }

    /// Makes a copy now and then. One whose lane is long at work is left for the next time, before anything is copied.
    async fn copy_between_invocations(&self, lane: &Arc<Lane>) -> Answer<()> {
        match timeout(still_for(Reason::Regular), self.turn_of(&lane.id)).await {
            Ok(turn) => drop(turn?),
            Err(_) => return Ok(()),
        }
        self.copy(lane, Reason::Regular).await.map(drop)
    }

    /// Says whether a lane has begun so long ago, and has done something since: else it begins anew just as well.
    fn has_run_for(&self, lane: &Lane, span: u64) -> bool {
        let book = lane.book();
        let meta = book.meta();
        meta.counters.invocations > 0 && self.shared.clock.now() >= meta.began.time.plus(span)
    }
}

/// Says whether a copy of this time is so old. One of a time to come was made by a clock that was ahead.
fn is_old(at: Timestamp, now: Timestamp, span: u64) -> bool {
    at > now || now >= at.plus(span)
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

/// The longest time for which a lane stands still for what no checkpoint has written.
const fn still_for(reason: Reason) -> Duration {
    Duration::from_secs(match reason {
        Reason::Upgrade => 10,
        Reason::Regular => 2,
    })
}

/// 503: the copy would take too long now. The lane goes on.
fn held_up(id: &InstallationId) -> Problem {
    let detail = format!(
        "the state of {id} could not be copied in time: the disk is slow, or a backup holds the store; nothing is changed"
    );
    Problem::unavailable("busy", detail, RETRY_SOON).hint(WITHOUT)
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
    use ironloom_types::ids::{Digest, Ordinal, Revision, Sequence, TenantId};

    fn copy(id: &str, bytes: u64) -> KeptCopy {
        KeptCopy {
            installation: InstallationId::new(TenantId::MAIN, id).unwrap(),
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
            quarantined: None,
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
    fn a_clock_that_was_ahead_keeps_no_copy_from_being_made() {
        let is_old = |at, now| is_old(Timestamp(at), Timestamp(now), 10);
        assert!(is_old(5, 15));
        assert!(!is_old(5, 14));
        assert!(!is_old(5, 5));
        assert!(is_old(5, 4));
    }

    #[test]
    fn what_a_rollback_needs_stays() {
        assert_eq!(gone(&[2], 2, 150), []);
        assert_eq!(gone(&[2, 3], 3, 100), [("a".to_owned(), vec![5, 7])]);
        assert_eq!(gone(&[2, 3, 5, 7, 8], 0, 0), []);
    }
}
