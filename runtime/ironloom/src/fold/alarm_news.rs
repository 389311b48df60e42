//! The latest changes of alarms in their order, so that connectors can tell of them. They stand in a ring: each names its
//! episode, whose newest state is what is told.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::episodes::KeyChanges;
use super::stored::encode;
use super::{Shared, episodes};
use crate::records::alarm::{AlarmRecord, ClearedBy, EpisodePlace};
use ironloom_storage::store::{Item, Key};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId};
use ironloom_types::limits::MAX_ALARM_NEWS;

/// That an episode of an alarm has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlarmNews {
    /// Counts the changes of all alarms from 1.
    pub number: u64,
    pub installation: InstallationId,
    pub generation: Generation,
    pub episode: EpisodePlace,
}

/// The place of a change in the ring, as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewsPlace {
    Here(AlarmNews),
    /// Newer ones have taken its place, or it was never written there.
    Gone,
    /// It comes in a moment.
    NotYet,
}

/// The count of the changes.
#[derive(Debug, Default)]
pub(crate) struct NewsCount {
    last: AtomicU64,
    /// The last one that the store had at the start. A checkpoint that was cut off may have left holes up to there; the
    /// changes of these were numbered once more.
    loaded: AtomicU64,
    /// Changes of the record that is being applied.
    untold: Mutex<Vec<(InstallationId, Generation, EpisodePlace)>>,
}

impl NewsCount {
    /// Notes a change that the store has.
    pub(super) fn load(&self, news: &AlarmNews) {
        self.last.fetch_max(news.number, Ordering::SeqCst);
        self.loaded.fetch_max(news.number, Ordering::SeqCst);
    }

    /// The last change.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::SeqCst) + 1
    }
}

fn key(number: u64) -> Key {
    Item::AlarmNews((number % MAX_ALARM_NEWS) as u32).key()
}

impl Shared {
    /// Adds what changes in the store with an episode of an alarm. Of its news [`Self::tell_alarms`] tells, once the alarm itself is
    /// as it says.
    pub(super) fn change_alarm(
        &self,
        is_current: bool,
        installation: &InstallationId,
        generation: Generation,
        alarm: &AlarmRecord,
        to: &mut KeyChanges,
    ) {
        episodes::put(is_current, generation, alarm, to);
        self.alarm_news.untold.lock().push((installation.clone(), generation, alarm.place()));
    }

    /// Tells of the changes of alarms that are applied.
    pub(super) fn tell_alarms(&self) {
        let untold = std::mem::take(&mut *self.alarm_news.untold.lock());
        if untold.is_empty() {
            return;
        }
        self.overlay.apply(untold.into_iter().map(|(installation, generation, episode)| {
            let news = AlarmNews { number: self.alarm_news.next(), installation, generation, episode };
            (key(news.number), Some(encode(&news)))
        }));
    }

    /// Adds what changes in the store with the alarms of a generation that is gone: their episodes are over. The alarms
    /// themselves stay until it is purged: after a checkpoint that was cut off, the episodes are made of them again.
    pub(super) fn end_alarms(
        &self,
        (installation, generation): (&InstallationId, Generation),
        alarms: impl IntoIterator<Item = AlarmRecord>,
        (at, by): (Timestamp, ClearedBy),
        to: &mut KeyChanges,
    ) {
        for mut alarm in alarms {
            alarm.end(at, by);
            self.change_alarm(false, installation, generation, &alarm, to);
        }
    }

    /// A change of an alarm. Waits for a disk where it isn't in memory any more.
    pub(crate) fn alarm_change(&self, number: u64) -> Result<NewsPlace, String> {
        let found: Option<AlarmNews> = self.stored(&key(number))?;
        Ok(match found {
            Some(news) if news.number == number => NewsPlace::Here(news),
            Some(news) if news.number > number => NewsPlace::Gone,
            _ if number <= self.alarm_news.loaded.load(Ordering::SeqCst) => NewsPlace::Gone,
            _ => NewsPlace::NotYet,
        })
    }

    /// The newest state of the episode that has changed; `None` where it isn't kept any more.
    pub(crate) fn changed_alarm(&self, news: &AlarmNews) -> Result<Option<AlarmRecord>, String> {
        let AlarmNews { generation, episode: EpisodePlace { since, number }, .. } = *news;
        if let Some(lane) = self.lanes.of_generation(generation)
            && let Some(alarm) = lane.book().alarm_numbered(number)
        {
            return Ok(Some(alarm.clone()));
        }
        self.stored(&Item::Episode(generation, since, number).key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::TenantId;

    #[test]
    fn the_ring_goes_round() {
        assert_eq!(key(1), key(1 + MAX_ALARM_NEWS));
        assert_ne!(key(1), key(MAX_ALARM_NEWS));
    }

    #[test]
    fn counting_goes_on_behind_what_the_store_has() {
        let count = NewsCount::default();
        assert_eq!((count.next(), count.next(), count.last()), (1, 2, 2));
        let news = |number| AlarmNews {
            number,
            installation: InstallationId::new(TenantId::MAIN, "pigs").unwrap(),
            generation: Generation(1),
            episode: EpisodePlace { since: Timestamp(1), number: 1 },
        };
        let count = NewsCount::default();
        // The ring isn't in the order of its numbers.
        [9, 12, 10].map(news).iter().for_each(|news| count.load(news));
        assert_eq!((count.next(), count.loaded.load(Ordering::SeqCst)), (13, 12));
    }
}
