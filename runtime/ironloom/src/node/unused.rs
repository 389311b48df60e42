//! Packages that nothing uses, neither an installation nor the kept state of one: sent for an install that failed, only
//! looked at, or left over. An hour after they were last needed they are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Node;
use ironloom_types::ids::Digest;

/// How long a package is kept after its last use.
const KEPT: Duration = Duration::from_secs(3600);
/// The interval at which unused ones are looked for.
const LOOK: Duration = Duration::from_secs(60);

/// When each package was last needed, as far as this process knows: a start counts as a use.
#[derive(Debug, Default)]
pub(super) struct LastUse {
    packages: Mutex<BTreeMap<Digest, Use>>,
}

#[derive(Debug)]
struct Use {
    last: Instant,
    /// Uploads and installs under way.
    held: usize,
}

/// Keeps a package while it is being sent or installed, and [`KEPT`] longer.
#[derive(Debug)]
pub(super) struct Held {
    uses: Arc<LastUse>,
    package: Digest,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(found) = self.uses.packages.lock().get_mut(&self.package) {
            found.held -= 1;
            found.last = Instant::now();
        }
    }
}

impl LastUse {
    /// Begins a use of a package, whether it is known yet or not.
    pub(super) fn hold(self: &Arc<Self>, package: Digest) -> Held {
        let mut packages = self.packages.lock();
        packages.entry(package).or_insert_with(|| Use { last: Instant::now(), held: 0 }).held += 1;
        Held { uses: Arc::clone(self), package }
    }

    /// Looks through the packages there are, of which these are installed; returns those that nothing has used for
    /// too long.
    fn overdue(&self, known: &BTreeSet<Digest>, installed: &BTreeSet<Digest>, kept: Duration) -> Vec<Digest> {
        let now = Instant::now();
        let mut packages = self.packages.lock();
        packages.retain(|package, found| found.held > 0 || known.contains(package));
        let mut overdue = Vec::new();
        for package in known {
            let found = packages.entry(*package).or_insert(Use { last: now, held: 0 });
            if found.held > 0 || installed.contains(package) {
                found.last = now;
            } else if now - found.last >= kept {
                overdue.push(*package);
            }
        }
        overdue
    }
}

/// Drops unused packages for as long as the node lives.
pub(super) async fn drop_unused(node: Weak<Node>) {
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            node.drop_unused_packages(KEPT).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Node {
    /// Drops the packages that nothing has used for so long.
    pub(super) async fn drop_unused_packages(&self, kept: Duration) {
        for package in self.overdue_packages(kept) {
            let _installing = self.admin.installing.lock().await;
            // Somebody may have come for it.
            if !self.overdue_packages(kept).contains(&package) {
                continue;
            }
            tracing::info!(%package, unused_for = ?kept, "a package that nothing uses is dropped");
            if let Err(problem) = self.delete_package(package).await {
                tracing::warn!(%package, problem = problem.detail, "an unused package could not be dropped");
            }
        }
    }

    fn overdue_packages(&self, kept: Duration) -> Vec<Digest> {
        let known = self.shared.packages.read().keys().copied().collect();
        let lanes = self.lanes.all();
        let installed = lanes.iter().flat_map(|lane| [lane.packages(), lane.past_packages()].concat());
        // Somebody may consent to it yet.
        let waiting: Vec<Digest> = self.shared.consents.read().values().map(|asked| asked.package).collect();
        let kept_states = self.shared.removed.lock();
        // Whoever adopts a state may have nothing but what is here.
        let adoptable = kept_states.values().filter_map(|gone| gone.package);
        let copies = self.shared.copies.all().into_iter().map(|(_, copy)| copy.package);
        let used = installed.chain(adoptable).chain(waiting).chain(copies).collect();
        self.admin.last_use.overdue(&known, &used, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    fn set(packages: &[Digest]) -> BTreeSet<Digest> {
        packages.iter().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_package_stays_for_an_hour_after_its_last_use() {
        let uses = Arc::new(LastUse::default());
        let overdue =
            |known: &BTreeSet<Digest>, installed: &BTreeSet<Digest>| uses.overdue(known, installed, KEPT);
        let (known, none) = (set(&[A, B]), set(&[]));
        let after = |minutes: u64| tokio::time::advance(Duration::from_secs(60 * minutes));
        // The first look after a start.
        assert!(overdue(&known, &none).is_empty());
        after(59).await;
        assert!(overdue(&known, &set(&[B])).is_empty());
        after(1).await;
        assert_eq!(overdue(&known, &none), [A], "the other one has been in use until a minute ago");
        assert_eq!(overdue(&known, &none), [A], "until it is gone");
        let held = uses.hold(A);
        assert!(overdue(&known, &none).is_empty());
        after(59).await;
        assert_eq!(overdue(&known, &none), [B]);
        // An install that takes long.
        after(600).await;
        assert_eq!(overdue(&set(&[A]), &none), Vec::new());
        drop(held);
        after(59).await;
        assert_eq!(overdue(&set(&[A]), &none), Vec::new());
        after(1).await;
        assert_eq!(overdue(&set(&[A]), &none), [A]);
        // One that was deleted and sent again begins anew, and nothing of what is gone is remembered.
        assert_eq!(overdue(&none, &none), Vec::new());
        assert!(uses.packages.lock().is_empty());
        assert_eq!(overdue(&set(&[A]), &none), Vec::new());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_fails_leaves_nothing_behind() {
        let uses = Arc::new(LastUse::default());
        let overdue =
            |known: &BTreeSet<Digest>, installed: &BTreeSet<Digest>| uses.overdue(known, installed, KEPT);
        drop(uses.hold(A));
        overdue(&set(&[]), &set(&[]));
        assert!(uses.packages.lock().is_empty());
    }
}
