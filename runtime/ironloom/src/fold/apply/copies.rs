//! Copies of generations: begun, whole, gone back to, and gone.

use super::Applier;
use super::lives::{purged_value, stored};
use crate::fold::copies::KeptCopy;
use crate::fold::stored::{Removed, StoredLane, encode};
use crate::records::alarm::ClearedBy;
use crate::records::copy::{Committed, Copied, CopyBegun, RolledBack};
use crate::records::installation::Installation;
use ironloom_storage::store::Key;
use ironloom_types::ids::{Generation, InstallationId};

impl Applier {
    /// Notes that something may lie under a generation that is to go unless it becomes a copy.
    pub(super) fn begin_copy(&mut self, CopyBegun { id, generation, at, .. }: CopyBegun) {
        self.shared.generations.lock().note(generation);
        let removed = Removed { at, purge: true };
        self.shared.overlay.apply([purged_value(generation, &id, removed)]);
        self.shared.copies.begin(generation, &id, at);
    }

    /// Keeps a copy that is whole.
    pub(super) fn keep_copy(&mut self, Copied { generation, of, facts }: Copied) {
        // At a start the store may have it as one that is to go.
        self.shared.removed.lock().remove(&generation);
        self.shared.copies.keep(generation, KeptCopy::of(&of.installation, &of.meta, &facts));
        let (installation, ended) = (of.installation.id.clone(), Some(of.installation));
        let lane = StoredLane { installation, meta: of.meta, removed: None, ended, copy: Some(facts) };
        self.shared.overlay.apply([stored(generation, &lane)]);
    }

    /// Ends the time in which an upgrade may be rolled back.
    pub(super) fn end_trial(&self, Committed { id, generation, .. }: &Committed) {
        let Some(lane) = self.shared.lanes.of_generation(*generation) else { return };
        let installation = Installation { trial: None, ..Installation::clone(&lane.installation()) };
        let key = Key::installation(id);
        self.shared.overlay.apply([(key, Some(encode(&installation)))]);
        let meta = lane.book().meta().clone();
        lane.stand(installation, meta);
    }

    /// A copy takes the place of the generation that came after it.
    pub(super) fn roll_back(&mut self, RolledBack { ended, at, new, alarms, .. }: RolledBack) {
        self.end(ended, Removed { at, purge: false }, ClearedBy::RolledBack);
        self.install_with(new, alarms);
    }

    /// Lets all copies of an installation go.
    pub(super) fn drop_copies_of(&mut self, id: &InstallationId) {
        let of_id: Vec<_> = self.shared.copies.of(id).into_iter().map(|(generation, _)| generation).collect();
        self.drop_copies(&of_id);
    }

    /// Marks copies for the checkpoint's thread to remove.
    pub(super) fn drop_copies(&mut self, generations: &[Generation]) {
        for generation in generations {
            let Some(copy) = self.shared.copies.forget(*generation) else { continue };
            let removed = Removed { at: copy.at, purge: true };
            self.shared.overlay.apply([purged_value(*generation, &copy.installation, removed)]);
            self.shared.purge_copy(*generation, copy.installation, removed);
        }
    }
}
