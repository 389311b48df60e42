//! The alarms of an installation, and what all of them may take in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::records::alarm::AlarmRecord;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::AlarmKey;
use ironloom_types::limits::{MAX_ALARMS_BYTES, MAX_SITE_ALARMS_BYTES, OWN_ALARMS_BYTES};

/// The bytes that the alarms of all installations count.
#[derive(Debug, Default)]
pub(crate) struct SiteAlarms(AtomicUsize);

/// The alarms of an installation by their current episodes: they are active, wait for somebody or are shelved.
#[derive(Debug)]
pub(super) struct Alarms {
    all: BTreeMap<AlarmKey, AlarmRecord>,
    /// Those that aren't active, by when they were cleared, then by number.
    waiting: BTreeMap<(Option<Timestamp>, u64), AlarmKey>,
    /// All of them, by number.
    numbers: BTreeMap<u64, AlarmKey>,
    /// Those that are shelved, by the end of it, until somebody has asked for those that have ended.
    shelves: BTreeMap<(Timestamp, u64), AlarmKey>,
    /// Bytes that all of them count.
    bytes: usize,
    /// Bytes that those count which stand.
    standing: usize,
    site: Arc<SiteAlarms>,
}

impl Alarms {
    pub(super) fn new(site: Arc<SiteAlarms>, alarms: impl IntoIterator<Item = AlarmRecord>) -> Self {
        let (all, waiting, numbers, shelves) = Default::default();
        let mut new = Self { all, waiting, numbers, shelves, bytes: 0, standing: 0, site };
        alarms.into_iter().for_each(|alarm| new.put(alarm));
        new
    }

    pub(super) fn all(&self) -> &BTreeMap<AlarmKey, AlarmRecord> {
        &self.all
    }

    /// The one whose current episode has this number.
    pub(super) fn numbered(&self, number: u64) -> Option<&AlarmRecord> {
        self.all.get(self.numbers.get(&number)?)
    }

    /// Those that aren't active, those that were cleared longest ago first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&AlarmKey, &AlarmRecord)> {
        self.waiting.values().filter_map(|key| self.all.get_key_value(key))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn standing_bytes(&self) -> usize {
        self.standing
    }

    /// The bytes that they may count: as many as any installation may have, and less where those of all others leave
    /// less. Some are left to each.
    pub(super) fn limit(&self) -> usize {
        let others = self.site.0.load(Ordering::Relaxed).saturating_sub(self.bytes);
        MAX_SITE_ALARMS_BYTES.saturating_sub(others).clamp(OWN_ALARMS_BYTES, MAX_ALARMS_BYTES)
    }

    /// Takes over an episode as it is now. One that is over leaves its place, unless a later one has it.
    pub(super) fn put(&mut self, alarm: AlarmRecord) {
        let key = alarm.key();
        if alarm.over && self.all.get(&key).is_none_or(|current| current.number != alarm.number) {
            return;
        }
        let before = self.all.remove(&key);
        self.move_shelf(before.as_ref(), &alarm, &key);
        if let Some(before) = before {
            self.waiting.remove(&place(&before));
            self.numbers.remove(&before.number);
            self.count(&before, |counted, bytes| *counted -= bytes);
            self.site.0.fetch_sub(before.cost(), Ordering::Relaxed);
        }
        if alarm.over {
            // The next episode notes a shelf that it takes over by itself.
            if let Some(shelved) = &alarm.shelved {
                self.shelves.remove(&(shelved.until, alarm.number));
            }
            return;
        }
        if !alarm.state.stands() {
            self.waiting.insert(place(&alarm), key.clone());
        }
        self.count(&alarm, |counted, bytes| *counted += bytes);
        self.site.0.fetch_add(alarm.cost(), Ordering::Relaxed);
        self.numbers.insert(alarm.number, key.clone());
        self.all.insert(key, alarm);
    }

    /// Notes the end of a shelf that is new or has another end.
    fn move_shelf(&mut self, before: Option<&AlarmRecord>, now: &AlarmRecord, key: &AlarmKey) {
        let end = |alarm: &AlarmRecord| alarm.shelved.as_ref().map(|shelved| shelved.until);
        let old = before.and_then(|before| Some((end(before)?, before.number)));
        if before.map(end) == Some(end(now)) && before.is_some_and(|before| before.number == now.number) {
            return;
        }
        let was_noted = old.is_some_and(|old| self.shelves.remove(&old).is_some());
        // The next episode takes over a shelf that has not ended.
        if let Some(until) = end(now).filter(|until| was_noted || old.is_none_or(|old| old.0 != *until)) {
            self.shelves.insert((until, now.number), key.clone());
        }
    }

    /// The alarms whose shelves have ended since somebody asked.
    pub(super) fn take_ended(&mut self, now: Timestamp) -> Vec<AlarmRecord> {
        let mut ended = Vec::new();
        while let Some(first) = self.shelves.first_entry().filter(|first| first.key().0 <= now) {
            let (number, key) = (first.key().1, first.remove());
            ended.extend(self.all.get(&key).filter(|alarm| alarm.number == number).cloned());
        }
        ended
    }

    fn count(&mut self, alarm: &AlarmRecord, change: impl Fn(&mut usize, usize)) {
        change(&mut self.bytes, alarm.cost());
        if alarm.state.stands() {
            change(&mut self.standing, alarm.cost());
        }
    }

    /// Those that were shelved in a future that was wrong are shelved for as long from the present on. Returns them.
    pub(super) fn leave_future(&mut self, to: Timestamp) -> Vec<AlarmRecord> {
        let mut moved = Vec::new();
        for (key, alarm) in &mut self.all {
            if let Some(shelved) = alarm.shelved.as_mut().filter(|shelved| shelved.note.at > to) {
                let noted = self.shelves.remove(&(shelved.until, alarm.number));
                shelved.until = to.plus(shelved.until.0.saturating_sub(shelved.note.at.0));
                shelved.note.at = to;
                if noted.is_some() {
                    self.shelves.insert((shelved.until, alarm.number), key.clone());
                }
                moved.push(alarm.clone());
            }
        }
        moved
    }

    /// Takes all of them out.
    pub(super) fn take(&mut self) -> Vec<AlarmRecord> {
        self.site.0.fetch_sub(self.bytes, Ordering::Relaxed);
        (self.bytes, self.standing) = (0, 0);
        self.waiting.clear();
        self.numbers.clear();
        self.shelves.clear();
        std::mem::take(&mut self.all).into_values().collect()
    }
}

fn place(alarm: &AlarmRecord) -> (Option<Timestamp>, u64) {
    (alarm.cleared.map(|cleared| cleared.at), alarm.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::alarm::{AlarmState, Note, Shelved, testing};
    use ironloom_types::limits::ALARM_BYTES;

    fn alarm(entity: &str, state: AlarmState, message: usize) -> AlarmRecord {
        let number = u64::from(entity.len() as u8);
        let over = state == AlarmState::Normal;
        let cleared = (!state.stands()).then_some(2);
        let message = "x".repeat(message);
        AlarmRecord { state, over, ..testing::alarm(entity, number, &message, cleared) }
    }

    #[test]
    fn each_counts_its_texts_as_long_as_it_is_kept() {
        let site = Arc::new(SiteAlarms::default());
        let mut alarms = Alarms::new(Arc::clone(&site), [alarm("ab", AlarmState::Unacknowledged, 100)]);
        let counted = |alarms: &Alarms| (alarms.bytes(), alarms.standing_bytes(), alarms.waiting().count());
        let one = ALARM_BYTES + 2 + 100;
        assert_eq!(counted(&alarms), (one, one, 0));
        alarms.put(alarm("ab", AlarmState::Acknowledged, 40));
        assert_eq!(counted(&alarms), (one - 60, one - 60, 0));
        alarms.put(alarm("ab", AlarmState::ReturnedToNormal, 40));
        assert_eq!(counted(&alarms), (one - 60, 0, 1));
        alarms.put(alarm("c", AlarmState::Unacknowledged, 0));
        assert_eq!(counted(&alarms), (one - 60 + ALARM_BYTES + 1, ALARM_BYTES + 1, 1));
        assert_eq!(site.0.load(Ordering::Relaxed), alarms.bytes());
        alarms.put(alarm("ab", AlarmState::Normal, 40));
        assert_eq!(counted(&alarms), (ALARM_BYTES + 1, ALARM_BYTES + 1, 0));
        assert_eq!(alarms.take().len(), 1);
        assert_eq!((counted(&alarms), site.0.load(Ordering::Relaxed)), ((0, 0, 0), 0));
    }

    #[test]
    fn the_end_of_a_shelf_is_given_once() {
        let shelved = |entity, number, until| {
            let note = Note { at: Timestamp(1), by: None, comment: None };
            let shelved = Some(Shelved { note, until: Timestamp(until) });
            AlarmRecord { shelved, number, ..alarm(entity, AlarmState::Unacknowledged, 0) }
        };
        let ended = |alarms: &mut Alarms, now| {
            let ended = alarms.take_ended(Timestamp(now));
            ended.iter().map(|alarm| alarm.number).collect::<Vec<_>>()
        };
        let mut alarms = Alarms::new(Arc::default(), [shelved("a", 1, 100), shelved("b", 2, 200)]);
        assert_eq!(ended(&mut alarms, 99), [0; 0]);
        // The next episode takes the shelf over; a longer one counts.
        alarms.put(AlarmRecord { over: true, ..shelved("a", 1, 100) });
        alarms.put(shelved("a", 3, 100));
        alarms.put(shelved("b", 2, 300));
        assert_eq!(alarms.shelves.len(), 2, "one for each that is shelved");
        assert_eq!(ended(&mut alarms, 250), [3]);
        alarms.put(AlarmRecord { message: "other words".into(), ..shelved("a", 3, 100) });
        assert_eq!((ended(&mut alarms, 250), ended(&mut alarms, 300)), (vec![], vec![2]));
        alarms.put(AlarmRecord { message: "other words".into(), ..shelved("b", 2, 300) });
        assert_eq!(ended(&mut alarms, u64::MAX), [0; 0]);
    }

    #[test]
    fn a_shelf_of_a_wrong_future_lasts_as_long_from_the_present_on() {
        let shelved = |entity, at, until| {
            let note = Note { at: Timestamp(at), by: None, comment: None };
            let shelved = Some(Shelved { note, until: Timestamp(until) });
            AlarmRecord { shelved, ..alarm(entity, AlarmState::Unacknowledged, 0) }
        };
        let all = [shelved("a", 900, 950), shelved("ab", 90, 120)];
        let mut alarms = Alarms::new(Arc::default(), all);
        let moved = alarms.leave_future(Timestamp(100));
        assert_eq!(moved, [shelved("a", 100, 150)]);
        assert_eq!(
            alarms.all().values().cloned().collect::<Vec<_>>(),
            [moved[0].clone(), shelved("ab", 90, 120)]
        );
    }

    #[test]
    fn whoever_has_many_leaves_some_to_each() {
        let site = Arc::new(SiteAlarms::default());
        let mine = Alarms::new(Arc::clone(&site), [alarm("a", AlarmState::Unacknowledged, 1_000)]);
        assert_eq!(mine.limit(), MAX_ALARMS_BYTES);
        // Others have nearly all: what it has itself isn't counted against it.
        site.0.fetch_add(MAX_SITE_ALARMS_BYTES - OWN_ALARMS_BYTES - 500, Ordering::Relaxed);
        assert_eq!(mine.limit(), OWN_ALARMS_BYTES + 500);
        site.0.fetch_add(1 << 40, Ordering::Relaxed);
        assert_eq!(mine.limit(), OWN_ALARMS_BYTES);
    }
}
