//! Parts of installations' histories that are past their retention.

use super::Applier;
use crate::fold::{episodes, invocations};
use crate::records::admin::Expired;
use ironloom_storage::store::Item;

impl Applier {
    /// Takes out of an installation's history what is past its retention.
    pub(super) fn expire(&self, expired: Expired) {
        let Expired {
            id,
            generation,
            invocations_gone_before,
            alarms,
            episodes_gone,
            dead_letters_gone,
            meta,
        } = expired;
        let lane = self.shared.lanes.of_generation(generation);
        let mut changes = Vec::new();
        for number in dead_letters_gone {
            changes.push((Item::DeadLetter(generation, number).key(), None));
        }
        for alarm in &alarms {
            let is_current = self.shared.is_current(lane.as_deref(), generation, alarm);
            self.shared.change_alarm(is_current, &id, generation, alarm, &mut changes);
        }
        for place in episodes_gone {
            episodes::drop(generation, place, &mut changes);
        }
        let pages = invocations::emptied(generation, invocations_gone_before, meta.invocations_gone);
        changes.extend(pages.map(|page| (page, None)));
        // Without a lane its removal follows, at a restart.
        if let Some(lane) = lane {
            changes.push(self.lane_value(&id, generation, &meta));
            lane.take_over(alarms, Vec::new());
            lane.set_meta(meta);
        }
        self.shared.overlay.apply(changes);
    }
}
