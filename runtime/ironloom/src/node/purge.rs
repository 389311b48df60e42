//! Purging: what an uninstalled app has kept goes, because an admin says so or because its week is over.
//!
//! The points of its outputs go with its state, as a record, so that a restart does the same. Other apps may
//! read these points: a purge waits for them. It holds no lock meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::{Node, Turn, problems};
use crate::api::facade::{Answer, Problem};
use crate::fold::durable::Durable;
use crate::fold::{Gone, read_aside};
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use ironloom_types::ids::{Generation, InstallationId};

/// How long a purge waits for those that read what it takes away.
const TO_READ: Duration = Duration::from_secs(5);
/// Ids that are purged under one hold of the lock that installs wait for.
pub(super) const PURGED_AT_ONCE: usize = 16;
/// The interval at which weeks that are over are looked for.
const LOOK: Duration = Duration::from_secs(60);

impl Node {
    /// Uninstalls and purges, or purges what is kept of an installation that was uninstalled before. It waits for those
    /// that read its outputs, and keeps nobody else from anything meanwhile.
    pub(super) async fn purge(self: &Arc<Self>, id: &InstallationId) -> Answer<()> {
        let mut purging = Purging::begin(self, id)?;
        if self.lanes.of(id).is_none() && self.keeps_of(id) {
            return self.purge_kept(id).await;
        }
        purging.hold(self.interrupt(id).await?);
        self.outputs_are_read(id).await?;
        let turn = self.interrupt(id).await?;
        if !purging.holds(&turn.lane) {
            return Err(installed_again());
        }
        // An app that reads it from the beginning may have come.
        if let Some(reader) = self.reader_of(id).await? {
            return Err(unread(id, &reader));
        }
        self.uninstall(&turn, true).await
    }

    /// Says whether something is kept of an uninstalled installation that isn't about to go anyway.
    fn keeps_of(&self, id: &InstallationId) -> bool {
        self.shared.removed.lock().values().any(|gone| gone.installation == *id && !gone.removed.purge)
    }

    /// Purges what is kept under the id of an installation that was uninstalled before.
    async fn purge_kept(&self, id: &InstallationId) -> Answer<()> {
        self.outputs_are_read(id).await?;
        // No installation of this id begins meanwhile, and none that reads it.
        let _installing = self.admin.installing.lock().await;
        if let Some(reader) = self.reader_of(id).await? {
            return Err(unread(id, &reader));
        }
        let records = self.to_purge(|_, gone| gone.installation == *id);
        for record in records {
            if matches!(record, AdminRecord::Purged { points: false, .. }) {
                return Err(installed_again());
            }
            self.change(record).await?;
        }
        Ok(())
    }

    /// Waits a moment until the others have dealt with what an installation has published; 409 where one of them
    /// stands still or takes longer. Whoever calls this sees to it that nothing is added meanwhile.
    async fn outputs_are_read(&self, id: &InstallationId) -> Answer<()> {
        let began = Instant::now();
        while let Some(reader) = self.reader_of(id).await? {
            if reader.is_stopped() || began.elapsed() >= TO_READ {
                return Err(unread(id, &reader));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// An installation that has not dealt yet with all that this one has published.
    async fn reader_of(&self, id: &InstallationId) -> Answer<Option<Arc<Durable>>> {
        let publisher = id.clone();
        let waits = read_aside(&self.shared, move |shared| {
            Ok::<_, Infallible>(shared.waits_for_outputs_of(&publisher))
        });
        waits.await.map_err(|error| problems::internal(&error))
    }

    fn to_purge(&self, which: impl Fn(Generation, &Gone) -> bool) -> Vec<AdminRecord> {
        // Copied: no other lock is taken while it is held.
        let removed = self.shared.removed.lock().clone();
        to_purge(&removed, which, |id| self.lanes.of(id).is_some())
    }

    /// Purges what was kept for a week, after the process has run for so long. What others have yet to read is left
    /// for the next time; `told` says of whom the server's log has heard that.
    async fn purge_what_is_over(&self, up: Duration, told: &mut BTreeSet<InstallationId>) -> Answer<()> {
        // A clock that can't be right ends no week.
        let Ok(now) = self.shared.clock.host() else { return Ok(()) };
        let mut left = BTreeSet::new();
        loop {
            // Given back now and then: installs and upgrades wait for it.
            let _installing = self.admin.installing.lock().await;
            let due = self.to_purge(|_, gone| {
                !left.contains(&gone.installation) && gone.removed.is_over(Some(now), up)
            });
            if due.is_empty() {
                return Ok(());
            }
            for record in due.into_iter().take(PURGED_AT_ONCE) {
                if let AdminRecord::Purged { id, points: true, .. } = &record
                    && let Some(reader) = self.reader_of(id).await?
                {
                    left.insert(id.clone());
                    if told.insert(id.clone()) {
                        tracing::warn!(
                            installation = %id,
                            reader = %reader.id,
                            "it was uninstalled a week ago; its state and points stay until the reader has dealt with all that it has published"
                        );
                    }
                    continue;
                }
                self.change(record).await?;
            }
        }
    }
}

/// The purge of one id. No second one begins before it ends, and its app runs nothing.
struct Purging<'n> {
    node: &'n Node,
    id: InstallationId,
    held: Option<Arc<Lane>>,
}

impl<'n> Purging<'n> {
    /// 409 where one is under way.
    fn begin(node: &'n Node, id: &InstallationId) -> Answer<Self> {
        if node.admin.purging.lock().insert(id.clone()) {
            return Ok(Self { node, id: id.clone(), held: None });
        }
        let detail = format!("{id} is being purged already; that waits for those that read its outputs");
        let hint = format!("Wait {} s for its answer.", TO_READ.as_secs());
        Err(Problem::conflict("purging", detail).hint(hint))
    }

    /// Has the app publish nothing from here on, and gives its turn back: whoever pauses it needn't wait.
    fn hold(&mut self, turn: Turn) {
        let lane = Arc::clone(&turn.lane);
        lane.stand_still(true);
        drop(turn);
        self.held = Some(lane);
    }

    /// Says whether it is this lane's app that publishes nothing.
    fn holds(&self, lane: &Arc<Lane>) -> bool {
        self.held.as_ref().is_some_and(|held| Arc::ptr_eq(held, lane))
    }
}

impl Drop for Purging<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.held.take() {
            lane.stand_still(false);
            self.node.lanes.wake(&lane);
        }
        self.node.admin.purging.lock().remove(&self.id);
    }
}

/// 409: purging would take away what another app has yet to read.
fn unread(id: &InstallationId, reader: &Durable) -> Problem {
    let reader = &reader.id;
    let detail = format!(
        "installation {reader} has not dealt yet with all that {id} has published; purging would take it away"
    );
    Problem::conflict("unread", detail)
        .hint(format!("Let {reader} go on, resume it with its backlog dropped, or uninstall it first."))
}

fn installed_again() -> Problem {
    Problem::conflict("gone", "it was installed again in the meantime")
}

/// Looks now and then whether the week is over for which an uninstalled app's state and points are kept.
pub(super) async fn watch_weeks(node: Weak<Node>) {
    let (began, mut told) = (Instant::now(), BTreeSet::new());
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(node) = node.upgrade() else { return };
        if let Err(problem) = node.purge_what_is_over(began.elapsed(), &mut told).await {
            tracing::warn!(%problem, "what was kept for a week could not be purged; it is tried again");
        }
    }
}

/// The records that purge these installations, one for each id. Points go with the last that has or keeps them.
fn to_purge(
    removed: &BTreeMap<Generation, Gone>,
    which: impl Fn(Generation, &Gone) -> bool,
    lives: impl Fn(&InstallationId) -> bool,
) -> Vec<AdminRecord> {
    let mut purged: BTreeMap<&InstallationId, Vec<Generation>> = BTreeMap::new();
    let mut kept = BTreeSet::new();
    for (generation, gone) in removed.iter().filter(|(_, gone)| !gone.removed.purge) {
        if which(*generation, gone) {
            purged.entry(&gone.installation).or_default().push(*generation);
        } else {
            kept.insert(&gone.installation);
        }
    }
    let record = |(id, generations): (&InstallationId, Vec<Generation>)| {
        let points = !kept.contains(id) && !lives(id);
        AdminRecord::Purged { id: id.clone(), generations, points }
    };
    purged.into_iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::Removed;
    use ironloom_types::clock::Timestamp;
    use ironloom_types::ids::TenantId;

    #[test]
    fn points_go_with_the_last_that_has_or_keeps_them() {
        let gone = |id: &str, at: u64, purge| Gone {
            installation: InstallationId::new(TenantId::MAIN, id).unwrap(),
            removed: Removed { at: Timestamp(at), purge },
            package: None,
        };
        let removed = BTreeMap::from([
            (Generation(1), gone("again", 1, false)),
            (Generation(2), gone("again", 9, false)),
            (Generation(3), gone("gone", 1, false)),
            (Generation(4), gone("lives", 1, false)),
            (Generation(5), gone("purged", 1, true)),
            (Generation(6), gone("gone", 2, false)),
            (Generation(7), gone("gone", 9, true)),
        ]);
        let records =
            to_purge(&removed, |_, gone| gone.removed.at <= Timestamp(5), |id| id.as_str() == "lives");
        let purged = |id: &str, generations: &[u64], points| AdminRecord::Purged {
            id: InstallationId::new(TenantId::MAIN, id).unwrap(),
            generations: generations.iter().copied().map(Generation).collect(),
            points,
        };
        let expected =
            [purged("again", &[1], false), purged("gone", &[3, 6], true), purged("lives", &[4], false)];
        assert_eq!(records, expected);
    }
}
