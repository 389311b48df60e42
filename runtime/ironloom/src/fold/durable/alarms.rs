//! The alarms of an installation, and what all of them may take in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::records::commit::{AlarmRecord, AlarmState};
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmKey, alarm_cost};
use ironloom_types::limits::{MAX_ALARMS_BYTES, MAX_SITE_ALARMS_BYTES, OWN_ALARMS_BYTES};

/// The bytes that the alarms of all installations count.
#[derive(Debug, Default)]
pub(crate) struct SiteAlarms(AtomicUsize);

/// The alarms of an installation that stand or wait for somebody.
#[derive(Debug)]
pub(super) struct Alarms {
    all: BTreeMap<AlarmKey, AlarmRecord>,
    /// Those that only wait for somebody, by when they were cleared, then by number.
    waiting: BTreeMap<(Option<Timestamp>, u64), AlarmKey>,
    /// Bytes that all of them count.
    bytes: usize,
    /// Bytes that those count which stand.
    standing: usize,
    site: Arc<SiteAlarms>,
}

impl AlarmRecord {
    /// What it counts, against the installation's limit and the site's.
    pub(crate) fn cost(&self) -> usize {
        alarm_cost(&self.entity, &self.message)
    }
}

impl Alarms {
    pub(super) fn new(site: Arc<SiteAlarms>, alarms: impl IntoIterator<Item = AlarmRecord>) -> Self {
        let mut new = Self { all: BTreeMap::new(), waiting: BTreeMap::new(), bytes: 0, standing: 0, site };
        alarms.into_iter().for_each(|alarm| new.put(alarm));
        new
    }

    pub(super) fn all(&self) -> &BTreeMap<AlarmKey, AlarmRecord> {
        &self.all
    }

    /// Those that only wait for somebody, those that were cleared longest ago first.
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

    /// Takes over an alarm as it is now.
    pub(super) fn put(&mut self, alarm: AlarmRecord) {
        let key = (alarm.code.clone(), Arc::clone(&alarm.entity));
        if let Some(before) = self.all.remove(&key) {
            self.waiting.remove(&place(&before));
            self.count(&before, |counted, bytes| *counted -= bytes);
            self.site.0.fetch_sub(before.cost(), Ordering::Relaxed);
        }
        if alarm.state == AlarmState::Normal {
            return;
        }
        if !alarm.state.stands() {
            self.waiting.insert(place(&alarm), key.clone());
        }
        self.count(&alarm, |counted, bytes| *counted += bytes);
        self.site.0.fetch_add(alarm.cost(), Ordering::Relaxed);
        self.all.insert(key, alarm);
    }

    fn count(&mut self, alarm: &AlarmRecord, change: impl Fn(&mut usize, usize)) {
        change(&mut self.bytes, alarm.cost());
        if alarm.state.stands() {
            change(&mut self.standing, alarm.cost());
        }
    }

    /// Takes all of them out; returns their names.
    pub(super) fn take(&mut self) -> Vec<AlarmKey> {
        self.site.0.fetch_sub(self.bytes, Ordering::Relaxed);
        (self.bytes, self.standing) = (0, 0);
        self.waiting.clear();
        std::mem::take(&mut self.all).into_keys().collect()
    }
}

fn place(alarm: &AlarmRecord) -> (Option<Timestamp>, u64) {
    (alarm.cleared, alarm.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::SlotName;
    use ironloom_types::limits::ALARM_BYTES;

    fn alarm(entity: &str, state: AlarmState, message: usize) -> AlarmRecord {
        AlarmRecord {
            code: SlotName::new("hot").unwrap(),
            entity: entity.into(),
            number: 1,
            state,
            message: "x".repeat(message).into(),
            raised: Timestamp(1),
            acknowledged: None,
            cleared: (!state.stands()).then_some(Timestamp(2)),
        }
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
