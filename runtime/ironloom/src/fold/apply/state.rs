//! Changes of apps' states: by their invocations, and by people.

use std::sync::atomic::Ordering;

use super::Applier;
use crate::fold::durable::Durable;
use crate::records::admin::StateChanged;
use crate::records::commit::StateChanges;

impl Applier {
    /// Takes changes of an app's state over.
    pub(super) fn apply_state(&self, lane: &Durable, changes: &StateChanges) {
        let mut cache = lane.state.write();
        let before = cache.bytes().dirty;
        cache.apply(self.stretches.current(), changes);
        // A key that is written again counts once, and may be smaller than before.
        self.shared.dirty_state.fetch_add(cache.bytes().dirty.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Takes over what a person did with an app's state.
    pub(super) fn change_state(&self, changed: StateChanged) {
        let StateChanged { id, generation, key, value, bytes, repaired } = changed;
        // One that is gone by now is removed by a later record of the log.
        let Some(lane) = self.shared.lanes.of_generation(generation) else { return };
        let mut changes = StateChanges::default();
        changes.push(&key, value.as_deref());
        self.apply_state(&lane, &changes);
        lane.set_state(bytes, repaired);
        let value = self.lane_value(&id, generation, lane.book().meta());
        self.shared.overlay.apply([value]);
    }
}
