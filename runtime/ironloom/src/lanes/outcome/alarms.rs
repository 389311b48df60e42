//! Alarms by ISA-18.2: what an invocation raises and clears, and which old ones have to go.

use super::Before;
use crate::fold::durable::Book;
use crate::records::commit::{AlarmRecord, AlarmState};
use crate::records::lane::LaneMeta;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::Effects;
use ironloom_types::limits::MAX_ALARMS;

/// The alarms that only wait for somebody, those that were cleared longest ago first, as many as may have to go for
/// those that these effects raise. The effects' own are left out.
pub(super) fn oldest_waiting(book: &Book, effects: &Effects) -> Vec<AlarmRecord> {
    let alarms = book.alarms();
    let raised = effects.alarms.iter().filter(|(key, change)| change.is_some() && !alarms.contains_key(*key));
    let too_many = (alarms.len() + raised.count()).saturating_sub(MAX_ALARMS);
    if too_many == 0 {
        return Vec::new();
    }
    let waiting = book.waiting_alarms().filter(|(key, _)| !effects.alarms.contains_key(*key));
    waiting.take(too_many).map(|(_, alarm)| alarm.clone()).collect()
}

/// The alarms that change, as they are then. Where more would be kept than may be, the oldest that only wait
/// for somebody go, and are counted.
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
                changed.push(AlarmRecord { message: message.clone(), ..alarm.clone() });
            }
            (_, Some(message)) => {
                let number = meta.next_alarm;
                meta.next_alarm += 1;
                meta.alarms_standing += 1;
                kept += usize::from(known.is_none());
                changed.push(AlarmRecord {
                    code: code.clone(),
                    entity: entity.clone(),
                    number,
                    state: AlarmState::Unacknowledged,
                    message: message.clone(),
                    raised: time,
                    acknowledged: None,
                    cleared: None,
                });
            }
            (Some(alarm), None) if alarm.state.stands() => {
                assert!(meta.alarms_standing > 0, "an alarm that stands is counted");
                meta.alarms_standing -= 1;
                let state = match alarm.state {
                    AlarmState::Acknowledged => AlarmState::Normal,
                    _ => AlarmState::ReturnedToNormal,
                };
                kept -= usize::from(state == AlarmState::Normal);
                changed.push(AlarmRecord { state, cleared: Some(time), ..alarm.clone() });
            }
            (_, None) => {}
        }
    }
    for alarm in before.waiting_alarms.iter().take(kept.saturating_sub(MAX_ALARMS)) {
        meta.counters.alarms_dropped += 1;
        changed.push(AlarmRecord { state: AlarmState::Normal, ..alarm.clone() });
    }
    changed
}
