//! States that are kept of installations that are gone, as whoever lists or adopts it reads it. Waits for the disk.

use std::ops::Bound;

use super::stored::{StoredLane, decode};
use super::{Gone, Shared};
use crate::records::alarm::{AlarmRecord, ClearedBy};
use ironloom_storage::store::{Item, Key, KeyKind, Scope};
use ironloom_types::effects::OneShot;
use ironloom_types::ids::Generation;

/// Timers that are read in one step.
const AT_ONCE: usize = 256;

/// One-shot timers by their names.
pub(crate) type OneShots = Vec<(Box<str>, OneShot)>;

impl Shared {
    /// The generations that are gone behind this one, at most so many.
    pub(crate) fn gone_behind(&self, after: Option<Generation>, most: usize) -> Vec<(Generation, Gone)> {
        let removed = self.removed.lock();
        let behind = removed.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        behind.take(most).map(|(generation, gone)| (*generation, gone.clone())).collect()
    }

    /// A generation, as store and changes have it.
    pub(crate) fn stored_lane(&self, generation: Generation) -> Result<Option<StoredLane>, String> {
        let found = self.overlay.get(&Scope::MAIN.key(Item::Lane(generation)));
        let Some(found) = found.map_err(|error| error.to_string())? else { return Ok(None) };
        decode(&found).map(Some).map_err(|error| error.to_string())
    }

    /// The one-shot timers of a generation that is gone.
    pub(crate) fn kept_timers(&self, generation: Generation) -> Result<OneShots, String> {
        let range = Scope::MAIN.generation(KeyKind::Timer, generation);
        let (mut timers, mut after): (Vec<_>, Option<Key>) = (Vec::new(), None);
        loop {
            let page = self.overlay.scan(&range, after.as_ref(), AT_ONCE);
            let (entries, more) = page.map_err(|error| error.to_string())?;
            after = entries.last().map(|(key, _)| key.clone());
            for (key, value) in entries {
                let set = decode(&value).map_err(|error| format!("{key}: {error}"))?;
                if let Some((_, Item::Timer(_, name))) = key.parse() {
                    timers.push((name.into(), set));
                }
            }
            if !more {
                return Ok(timers);
            }
        }
    }

    /// The alarms that were there when a generation ended, by their last episodes.
    pub(crate) fn kept_alarms(
        &self,
        generation: Generation,
        gone: &Gone,
    ) -> Result<Vec<AlarmRecord>, String> {
        let mut alarms = self.stored_alarms(generation)?;
        for alarm in &mut alarms {
            let episode = Scope::MAIN.key(Item::Episode(generation, alarm.since, alarm.number));
            let episode = self.overlay.get(&episode).map_err(|error| error.to_string())?;
            match episode.and_then(|episode| decode(&episode).ok()) {
                Some(episode) => *alarm = episode,
                None => {
                    if alarm.state.stands() {
                        alarm.clear(gone.removed.at, ClearedBy::Removed);
                    }
                    alarm.over = true;
                }
            }
        }
        Ok(alarms)
    }
}
