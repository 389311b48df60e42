//! Episodes of alarms: how they are written, and how their history is read.

use std::cmp::Ordering;

use bytes::Bytes;

use super::Shared;
use super::durable::Durable;
use super::stored::encode;
use crate::records::alarm::{AlarmRecord, EpisodePlace};
use crate::records::lane;
use ironloom_storage::store::{Item, Key, KeyKind, KeyRange};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, TenantId};
use ironloom_types::limits::{MAX_EPISODE_BYTES, MAX_EPISODES};

/// By how many more than necessary the history is made shorter, so that not each invocation looks for the oldest.
const SPARE: u64 = 100;

/// One of the oldest episodes of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OldEpisode {
    pub place: EpisodePlace,
    pub cost: usize,
}

impl OldEpisode {
    pub(crate) fn of(alarm: &AlarmRecord) -> Self {
        Self { place: alarm.place(), cost: alarm.cost() }
    }
}

/// Changed keys, as the overlay takes them.
pub(super) type KeyChanges = Vec<(Key, Option<Bytes>)>;

/// Adds what changes in the store with an episode; `is_current` says whether it is the current one of its alarm before.
pub(super) fn put(is_current: bool, generation: Generation, alarm: &AlarmRecord, to: &mut KeyChanges) {
    let key = Item::Alarm(generation, alarm.code.as_str().into(), &alarm.entity).key();
    if !alarm.over {
        to.push((key, Some(encode(alarm))));
        return;
    }
    if is_current {
        to.push((key, None));
    }
    let [episode, time] = keys(generation, alarm.place());
    to.push((episode, Some(encode(alarm))));
    to.push((time, Some(Bytes::new())));
}

/// Adds what changes in the store where an episode is dropped from the history.
pub(super) fn drop(generation: Generation, place: EpisodePlace, to: &mut KeyChanges) {
    to.extend(keys(generation, place).map(|key| (key, None)));
}

fn keys(generation: Generation, EpisodePlace { since, number }: EpisodePlace) -> [Key; 2] {
    [Item::Episode(generation, since, number), Item::EpisodeTime(since, generation, number)]
        .map(|item| item.key())
}

/// The key by which all episodes are found in the order of time, for the one that this key names.
pub(super) fn time_key(episode: &Key) -> Option<Key> {
    match episode.parse() {
        Some(Item::Episode(generation, since, number)) => {
            Some(Item::EpisodeTime(since, generation, number).key())
        }
        _ => None,
    }
}

/// The place of an episode among those of all installations, which is in the order of `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HistoryPlace {
    pub since: Timestamp,
    pub generation: Generation,
    pub number: u64,
}

impl HistoryPlace {
    pub(crate) fn of(generation: Generation, alarm: &AlarmRecord) -> Self {
        Self { since: alarm.since, generation, number: alarm.number }
    }
}

/// Which episodes to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Episodes {
    pub tenant: TenantId,
    /// Of these generations; of all if there are none.
    pub generations: Option<Vec<Generation>>,
    /// Since then or later.
    pub from: Option<Timestamp>,
    /// Since an earlier time.
    pub to: Option<Timestamp>,
    pub newest_first: bool,
}

impl Episodes {
    /// Says whether those of this generation are among them.
    pub(crate) fn have(&self, generation: Generation) -> bool {
        generation.tenant() == self.tenant
            && self.generations.as_ref().is_none_or(|own| own.contains(&generation))
    }

    /// Says whether a place is among them and comes after another.
    pub(crate) fn is_after(&self, after: Option<HistoryPlace>, place: HistoryPlace) -> bool {
        let is_behind = |after| if self.newest_first { place < after } else { place > after };
        after.is_none_or(is_behind) && self.is_within(place.since)
    }

    fn is_within(&self, since: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= since) && self.to.is_none_or(|to| since < to)
    }

    /// The place after which to search.
    fn start(&self, after: Option<HistoryPlace>) -> Option<HistoryPlace> {
        // Numbers begin at 1, so nothing has this place itself.
        let edge = if self.newest_first { self.to } else { self.from };
        let generation = Generation::of(self.tenant, 0);
        let edge = edge.map(|since| HistoryPlace { since, generation, number: 0 });
        match (edge, after) {
            (Some(edge), Some(after)) if self.newest_first => Some(edge.min(after)),
            (Some(edge), Some(after)) => Some(edge.max(after)),
            (edge, after) => edge.or(after),
        }
    }
}

impl Shared {
    /// The places of episodes that are over, in their order, the first behind `after`: at most `most` of all, or of each
    /// generation.
    pub(crate) fn episode_places(
        &self,
        episodes: &Episodes,
        after: Option<HistoryPlace>,
        most: usize,
    ) -> Result<Vec<HistoryPlace>, String> {
        let start = episodes.start(after);
        let mut found = Vec::new();
        let mut search = |range: KeyRange, start: Option<Key>| {
            let range = if episodes.newest_first { range.reversed() } else { range };
            let (entries, _) =
                self.overlay.scan(&range, start.as_ref(), most).map_err(|error| error.to_string())?;
            let places = entries.iter().filter_map(|(key, _)| history_place(key));
            found.extend(places.filter(|place| episodes.is_after(after, *place)));
            Ok::<_, String>(())
        };
        match &episodes.generations {
            None => {
                let key = start.map(|HistoryPlace { since, generation, number }| {
                    Item::EpisodeTime(since, generation, number).key()
                });
                search(KeyRange::tenant(KeyKind::EpisodeTime, episodes.tenant), key)?;
            }
            Some(generations) => {
                for &generation in generations {
                    let key = start.map(|start| {
                        // Where that place is among this generation's.
                        let number = match generation.cmp(&start.generation) {
                            Ordering::Less => u64::MAX,
                            Ordering::Equal => start.number,
                            Ordering::Greater => 0,
                        };
                        Item::Episode(generation, start.since, number).key()
                    });
                    search(KeyRange::generation(KeyKind::Episode, generation), key)?;
                }
            }
        }
        Ok(found)
    }

    /// An episode that is over.
    pub(crate) fn episode(&self, place: HistoryPlace) -> Result<Option<AlarmRecord>, String> {
        let HistoryPlace { since, generation, number } = place;
        let key = Item::Episode(generation, since, number).key();
        self.stored(&key)
    }

    /// An episode that is over, by its number alone: all of the installation are looked through.
    pub(crate) fn episode_numbered(
        &self,
        generation: Generation,
        number: u64,
    ) -> Result<Option<AlarmRecord>, String> {
        let mut found = None;
        self.each_of(KeyKind::Episode, generation, None, |_, alarm: AlarmRecord| {
            found = (alarm.number == number).then_some(alarm);
            found.is_none()
        })?;
        Ok(found)
    }

    /// Says whether an episode is the current one of its alarm. Without a lane, which is so only at a restart, the store knows.
    pub(super) fn is_current(
        &self,
        lane: Option<&Durable>,
        generation: Generation,
        alarm: &AlarmRecord,
    ) -> bool {
        let stored = || {
            let key = Item::Alarm(generation, alarm.code.as_str().into(), &alarm.entity).key();
            self.stored::<AlarmRecord>(&key).ok().flatten()
        };
        match lane {
            Some(lane) => lane.book().alarm_numbered(alarm.number).is_some(),
            None => stored().is_some_and(|current| current.number == alarm.number),
        }
    }

    /// The alarms of an installation as the store and its changes have them.
    pub(crate) fn stored_alarms(&self, generation: Generation) -> Result<Vec<AlarmRecord>, String> {
        let mut alarms = Vec::new();
        self.each_of(KeyKind::Alarm, generation, None, |_, alarm: AlarmRecord| {
            alarms.push(alarm);
            true
        })?;
        Ok(alarms)
    }

    /// The oldest episodes that are over, at least as many as are too many. None is left up to `gone_through`: otherwise each
    /// search would pass over all that were dropped since the last checkpoint.
    pub(crate) fn oldest_episodes(
        &self,
        generation: Generation,
        gone_through: Option<EpisodePlace>,
        kept: lane::Episodes,
    ) -> Result<Vec<OldEpisode>, String> {
        let number = (kept.kept + SPARE).saturating_sub(MAX_EPISODES);
        let bytes = kept.bytes.saturating_sub(MAX_EPISODE_BYTES);
        let (mut oldest, mut found) = (Vec::new(), 0);
        let after =
            gone_through.map(|EpisodePlace { since, number }| Item::Episode(generation, since, number).key());
        self.each_of(KeyKind::Episode, generation, after, |_, alarm: AlarmRecord| {
            found += alarm.cost() as u64;
            oldest.push(OldEpisode::of(&alarm));
            (oldest.len() as u64) < number || found < bytes
        })?;
        Ok(oldest)
    }
}

fn history_place(key: &Key) -> Option<HistoryPlace> {
    match key.parse()? {
        Item::Episode(generation, since, number) | Item::EpisodeTime(since, generation, number) => {
            Some(HistoryPlace { since, generation, number })
        }
        _ => None,
    }
}
