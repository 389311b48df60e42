//! States that are kept of installations that are gone, as whoever lists or adopts it reads it. Waits for the disk.

use std::ops::Bound;

use super::stored::{StoredLane, decode};
use super::{Gone, Shared};
use crate::records::alarm::{AlarmRecord, ClearedBy};
use ironloom_storage::store::{Item, KeyKind};
use ironloom_types::effects::OneShot;
use ironloom_types::ids::Generation;

/// One-shot timers by their names.
pub(crate) type OneShots = Vec<(Box<str>, OneShot)>;

impl Shared {
    /// The generations that are gone behind this one, of its tenant, at most so many.
    pub(crate) fn gone_behind(&self, after: Generation, most: usize) -> Vec<(Generation, Gone)> {
        let removed = self.removed.lock();
        let behind = removed.range((Bound::Excluded(after), Bound::Unbounded));
        let own = behind.take_while(|(generation, _)| generation.tenant() == after.tenant());
        own.take(most).map(|(generation, gone)| (*generation, gone.clone())).collect()
    }

    /// A generation, as store and changes have it.
    pub(crate) fn stored_lane(&self, generation: Generation) -> Result<Option<StoredLane>, String> {
        self.stored(&Item::Lane(generation).key())
    }

    /// The one-shot timers of a generation that is gone.
    pub(crate) fn kept_timers(&self, generation: Generation) -> Result<OneShots, String> {
        let mut timers = OneShots::new();
        self.each_of(KeyKind::Timer, generation, None, |key, set| {
            if let Some(Item::Timer(_, name)) = key.parse() {
                timers.push((name.into(), set));
            }
            true
        })?;
        Ok(timers)
    }

    /// The alarms that were there when a generation ended, by their last episodes.
    pub(crate) fn kept_alarms(
        &self,
        generation: Generation,
        gone: &Gone,
    ) -> Result<Vec<AlarmRecord>, String> {
        let mut alarms = self.stored_alarms(generation)?;
        for alarm in &mut alarms {
            let episode = Item::Episode(generation, alarm.since, alarm.number).key();
            let episode = self.overlay.get(&episode).map_err(|error| error.to_string())?;
            match episode.and_then(|episode| decode(&episode).ok()) {
                Some(episode) => *alarm = episode,
                None => alarm.end(gone.removed.at, ClearedBy::Removed),
            }
        }
        Ok(alarms)
    }
}
