//! Alarms by ISA-18.2: what an invocation raises and clears, and which old ones have to go.

use super::Before;
use crate::fold::durable::Book;
use crate::records::commit::{AlarmRecord, AlarmState};
use crate::records::lane::LaneMeta;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{Effects, alarm_cost};
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

    fn put(&mut self, known: Option<&AlarmRecord>, now: &AlarmRecord) {
        let (count, bytes) = known.map_or((0, 0), |known| (1, known.cost()));
        (self.count, self.bytes) = (self.count + 1 - count, self.bytes + now.cost() - bytes);
    }

    fn drop(&mut self, alarm: &AlarmRecord) {
        (self.count, self.bytes) = (self.count - 1, self.bytes - alarm.cost());
    }
}

/// The alarms that only wait for somebody, those that were cleared longest ago first, as many as may have to go for
/// those that these effects raise. The effects' own are left out.
pub(super) fn oldest_waiting(book: &Book, effects: &Effects) -> Vec<AlarmRecord> {
    let mut kept = Kept::of(book);
    for (key @ (_, entity), message) in &effects.alarms {
        let Some(message) = message else { continue };
        let known = book.alarms().get(key);
        kept.count += usize::from(known.is_none());
        kept.bytes += alarm_cost(entity, message).saturating_sub(known.map_or(0, AlarmRecord::cost));
    }
    let waiting = book.waiting_alarms().filter(|(key, _)| !effects.alarms.contains_key(*key));
    let go = waiting.take_while(|(_, alarm)| goes(&mut kept, alarm));
    go.map(|(_, alarm)| alarm.clone()).collect()
}

/// The alarms that change, as they are then. Where more would be kept than may be, the oldest that only wait
/// for somebody go, in the end those that are cleared just now, and are counted.
pub(super) fn change(
    before: &Before,
    meta: &mut LaneMeta,
    effects: &Effects,
    time: Timestamp,
) -> Vec<AlarmRecord> {
    let mut changed = Vec::new();
    let mut kept = before.alarms_kept;
    for ((code, entity), message) in &effects.alarms {
        let known = before.alarms.get(&(code.clone(), entity.clone()));
        match (known, message) {
            (Some(alarm), Some(message)) if alarm.state.stands() => {
                let now = AlarmRecord { message: message.clone(), ..alarm.clone() };
                kept.put(known, &now);
                changed.push(now);
            }
            (_, Some(message)) => {
                let number = meta.next_alarm;
                meta.next_alarm += 1;
                meta.alarms_standing += 1;
                let now = AlarmRecord {
                    code: code.clone(),
                    entity: entity.clone(),
                    number,
                    state: AlarmState::Unacknowledged,
                    message: message.clone(),
                    raised: time,
                    acknowledged: None,
                    cleared: None,
                };
                kept.put(known, &now);
                changed.push(now);
            }
            (Some(alarm), None) if alarm.state.stands() => {
                assert!(meta.alarms_standing > 0, "an alarm that stands is counted");
                meta.alarms_standing -= 1;
                let state = match alarm.state {
                    AlarmState::Acknowledged => AlarmState::Normal,
                    _ => AlarmState::ReturnedToNormal,
                };
                if state == AlarmState::Normal {
                    kept.drop(alarm);
                }
                changed.push(AlarmRecord { state, cleared: Some(time), ..alarm.clone() });
            }
            (_, None) => {}
        }
    }
    for alarm in before.waiting_alarms.iter().take_while(|alarm| goes(&mut kept, alarm)) {
        changed.push(AlarmRecord { state: AlarmState::Normal, ..alarm.clone() });
        meta.counters.alarms_dropped += 1;
    }
    let cleared = changed.iter_mut().filter(|alarm| alarm.state == AlarmState::ReturnedToNormal);
    for alarm in cleared.take_while(|alarm| goes(&mut kept, alarm)) {
        alarm.state = AlarmState::Normal;
        meta.counters.alarms_dropped += 1;
    }
    changed
}

/// Whether an alarm that only waits for somebody has to go; if so, it is counted no longer.
fn goes(kept: &mut Kept, alarm: &AlarmRecord) -> bool {
    let goes = kept.is_too_much();
    if goes {
        kept.drop(alarm);
    }
    goes
}
