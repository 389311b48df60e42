//! Alarms by ISA-18.2: the episodes that an invocation begins and ends, and which old ones have to go.

use std::collections::{BTreeMap, HashSet};

use hashbrown::HashMap;

use super::Before;
use crate::fold::durable::{Book, Term};
use crate::fold::episodes::OldEpisode;
use crate::records::alarm::{AlarmRecord, AlarmState, ClearedBy, EpisodePlace};
use crate::records::commit::CommitHead;
use crate::records::lane::LaneMeta;
use ironloom_apps::manifest::Severity;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmAct, AlarmChange, AlarmKey, Effects, alarm_cost};
use ironloom_types::limits::MAX_ALARMS;

/// The alarms that are kept, and how many bytes they may count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    count: usize,
    bytes: usize,
    limit: usize,
}

impl Kept {
    pub(super) fn of(book: &Book) -> Self {
        Self { count: book.alarms().len(), bytes: book.alarms_bytes(), limit: book.alarms_limit() }
    }

    fn is_too_much(&self) -> bool {
        self.count > MAX_ALARMS || self.bytes > self.limit
    }

    fn put(&mut self, alarm: &AlarmRecord) {
        (self.count, self.bytes) = (self.count + 1, self.bytes + alarm.cost());
    }

    fn drop(&mut self, alarm: &AlarmRecord) {
        (self.count, self.bytes) = (self.count - 1, self.bytes - alarm.cost());
    }
}

/// The alarms that these effects change, as they are before.
pub(super) fn touched(book: &Book, effects: &Effects) -> BTreeMap<AlarmKey, AlarmRecord> {
    let keys = effects.alarms.iter().map(|change| &change.key);
    keys.filter_map(|key| Some((key.clone(), book.alarms().get(key)?.clone()))).collect()
}

/// The alarms that aren't active, those that were cleared longest ago first, at least as many as may have to go for
/// those that these effects raise. The effects' own are left out.
pub(super) fn oldest_waiting(book: &Book, effects: &Effects) -> Vec<AlarmRecord> {
    let mut raised: HashMap<&AlarmKey, usize> = HashMap::new();
    for AlarmChange { key, act } in &effects.alarms {
        if let AlarmAct::Raise { message, .. } = act {
            let most = raised.entry(key).or_default();
            *most = alarm_cost(&key.1, message).max(*most);
        }
    }
    let mut kept = Kept::of(book);
    kept.count += raised.keys().filter(|key| !book.alarms().contains_key(**key)).count();
    kept.bytes += raised.values().sum::<usize>();
    if !kept.is_too_much() {
        return Vec::new();
    }
    let own: HashSet<&AlarmKey> = effects.alarms.iter().map(|change| &change.key).collect();
    let waiting = book.waiting_alarms().filter(|(key, _)| !own.contains(key));
    let go = waiting.take_while(|(_, alarm)| goes(&mut kept, alarm));
    go.map(|(_, alarm)| alarm.clone()).collect()
}

/// The episodes that change, as they are then, in the order in which they first do. Where more would be kept than may
/// be, the oldest that aren't active are over, in the end those that are cleared just now, and are counted.
pub(super) fn change(
    term: &Term,
    before: &Before,
    meta: &mut LaneMeta,
    effects: &Effects,
    time: Timestamp,
) -> Vec<AlarmRecord> {
    let mut changes =
        Changes { term, before: &before.alarms, meta, time, records: Vec::new(), places: HashMap::new() };
    for AlarmChange { key, act } in &effects.alarms {
        match act {
            AlarmAct::Raise { message, since } => changes.raise(key, message, *since),
            AlarmAct::Clear { since } => changes.clear(key, *since),
        }
    }
    let Changes { records: mut changed, places, .. } = changes;
    let mut kept = before.alarms_kept;
    for (key, place) in places {
        before.alarms.get(key).into_iter().for_each(|known| kept.drop(known));
        changed.get(place).filter(|now| !now.over).into_iter().for_each(|now| kept.put(now));
    }
    for alarm in before.waiting_alarms.iter().take_while(|alarm| goes(&mut kept, alarm)) {
        changed.push(AlarmRecord { over: true, ..alarm.clone() });
        meta.counters.alarms_dropped += u64::from(alarm.state == AlarmState::ReturnedToNormal);
    }
    let cleared = changed.iter_mut().filter(|alarm| !alarm.over && !alarm.state.stands());
    for alarm in cleared.take_while(|alarm| goes(&mut kept, alarm)) {
        alarm.over = true;
        meta.counters.alarms_dropped += u64::from(alarm.state == AlarmState::ReturnedToNormal);
    }
    changed.iter().filter(|alarm| alarm.over).for_each(|alarm| meta.episodes.add(alarm.cost()));
    changed
}

/// The changes of one invocation so far.
struct Changes<'a, 'm> {
    term: &'a Term,
    before: &'a BTreeMap<AlarmKey, AlarmRecord>,
    meta: &'m mut LaneMeta,
    time: Timestamp,
    records: Vec<AlarmRecord>,
    /// The place of each alarm's current episode among the records.
    places: HashMap<&'a AlarmKey, usize>,
}

impl<'a> Changes<'a, '_> {
    fn stands(&self, key: &AlarmKey) -> bool {
        let current = match self.places.get(key) {
            Some(place) => self.records.get(*place),
            None => self.before.get(key),
        };
        current.is_some_and(|alarm| alarm.state.stands())
    }

    /// The current episode of an alarm, to be changed.
    fn current(&mut self, key: &'a AlarmKey) -> Option<&mut AlarmRecord> {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => {
                self.records.push(self.before.get(key)?.clone());
                self.places.insert(key, self.records.len() - 1);
                self.records.len() - 1
            }
        };
        self.records.get_mut(place)
    }

    fn raise(&mut self, key: &'a AlarmKey, message: &str, since: Option<Timestamp>) {
        let (stands, time) = (self.stands(key), self.time);
        let mut shelved = None;
        if let Some(alarm) = self.current(key) {
            if stands {
                alarm.message = message.into();
                return;
            }
            alarm.over = true;
            shelved = alarm.shelved.clone().filter(|_| alarm.is_shelved(time));
        }
        let declared = self.term.manifest.alarm(key.0.as_str());
        let number = self.meta.next_alarm;
        self.meta.next_alarm += 1;
        self.meta.alarms_standing += 1;
        self.places.insert(key, self.records.len());
        self.records.push(AlarmRecord {
            code: key.0.clone(),
            entity: key.1.clone(),
            number,
            severity: declared.map_or(Severity::Medium, |declared| declared.severity),
            state: AlarmState::Unacknowledged,
            over: false,
            message: message.into(),
            since: since.unwrap_or(time).min(time),
            raised: time,
            cleared: None,
            acknowledged: Vec::new(),
            shelved,
            comments: Vec::new(),
        });
    }

    fn clear(&mut self, key: &'a AlarmKey, since: Option<Timestamp>) {
        if !self.stands(key) {
            return;
        }
        assert!(self.meta.alarms_standing > 0, "an alarm that stands is counted");
        self.meta.alarms_standing -= 1;
        let time = self.time;
        let Some(alarm) = self.current(key) else { return };
        alarm.clear(since.unwrap_or(time).min(time), ClearedBy::App);
        let is_shelved = alarm.is_shelved(time);
        // Nobody is to look at what is over while it is shelved.
        let is_seen = alarm.state == AlarmState::Acknowledged || is_shelved;
        alarm.state = if is_seen { AlarmState::Normal } else { AlarmState::ReturnedToNormal };
        // The shelf stays, and holds the next episode, too.
        alarm.over = is_seen && !is_shelved;
    }
}

/// Has episodes that end leave no trace, since an earlier generation has told them already: they are over, and not in the
/// history. Those that somebody has seen or said something about stay. Returns the places of the others.
pub(super) fn pass_over(meta: &mut LaneMeta, changed: &mut [AlarmRecord]) -> Vec<EpisodePlace> {
    let mut gone = Vec::new();
    for alarm in changed {
        let is_seen = !alarm.acknowledged.is_empty() || alarm.shelved.is_some() || !alarm.comments.is_empty();
        if is_seen || (!alarm.over && alarm.state.stands()) {
            continue;
        }
        if alarm.over {
            meta.episodes.remove(alarm.cost());
        }
        (alarm.over, alarm.state) = (true, AlarmState::Normal);
        gone.push(alarm.place());
    }
    gone
}

/// Says whether an alarm that isn't active has to go; if so, it is counted no longer.
fn goes(kept: &mut Kept, alarm: &AlarmRecord) -> bool {
    let goes = kept.is_too_much();
    if goes {
        kept.drop(alarm);
    }
    goes
}

/// Drops episodes from the history until what is left may be kept: first the oldest of those that were kept so far, then
/// those of this invocation.
pub(super) fn drop_episodes(head: &mut CommitHead, oldest: &[OldEpisode]) {
    let CommitHead { meta, alarms, episodes_gone: gone, .. } = head;
    let own = alarms.iter().filter(|alarm| alarm.over).map(OldEpisode::of);
    for old in oldest.iter().copied().chain(own) {
        if !meta.episodes.are_too_many() {
            return;
        }
        meta.episodes.remove(old.cost);
        meta.counters.episodes_dropped += 1;
        gone.push(old.place);
    }
}
