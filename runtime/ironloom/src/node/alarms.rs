//! Alarms: listed from the lanes, acknowledged between two invocations.

use std::sync::Arc;

use super::Node;
use super::pages::{Smallest, fill};
use crate::api::facade::{self, Alarm, AlarmState, Answer, Page, PageQuery, Problem};
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use crate::records::commit::{self, AlarmRecord};
use ironloom_apps::manifest::Severity;
use ironloom_types::effects::AlarmKey;
use ironloom_types::ids::{Generation, InstallationId};

/// An alarm's place in the list: when it was raised, generation and number; and where its lane keeps it.
type Place = ((u64, u64, u64), AlarmKey);

impl Node {
    /// Alarms that stand or wait for somebody, oldest first.
    pub(super) fn list_alarms(
        &self,
        installation: Option<&InstallationId>,
        page: &PageQuery,
    ) -> Answer<Page<Alarm>> {
        if let Some(id) = installation {
            self.lane(id)?;
        }
        let after = match &page.after {
            None => None,
            Some(after) => Some(place(after).ok_or_else(|| {
                let detail =
                    format!("the parameter \"after\" can't be {after:?}: it is the `next` of a page");
                Problem::malformed("bad-parameter", detail).at(facade::Place::field("after"))
            })?),
        };
        let lanes = self.lanes.all();
        // Their places alone: alarms may be many, and a page shows few.
        let find = |last: Option<&Place>, most| {
            let after = last.map(|last| last.0).or(after);
            let mut places = Smallest::new(most);
            for lane in lanes.iter().filter(|lane| installation.is_none_or(|id| *id == lane.id)) {
                for (key, alarm) in lane.book().alarms() {
                    let place = (alarm.raised.0, lane.generation.0, alarm.number);
                    if after.is_none_or(|after| place > after) {
                        places.push((place, key.clone()));
                    }
                }
            }
            places.into_sorted()
        };
        let shown = |(place, key): &Place| {
            // It may have been removed in the meantime.
            let lane = self.lanes.of_generation(Generation(place.1))?;
            let alarm = lane.book().alarms().get(key)?.clone();
            Some(show(&lane, &alarm))
        };
        let (items, last) = fill(page.limit, find, shown);
        let next = last.map(|((raised, generation, number), ..)| format!("{raised}-{generation}-{number}"));
        Ok(Page { items, next })
    }

    /// Acknowledges an alarm.
    pub(super) async fn acknowledge_alarm(self: Arc<Self>, id: String) -> Answer<Alarm> {
        let missing =
            || Problem::not_found(format!("there is no alarm {id}")).hint("`ironloom alarms` lists them.");
        let (generation, number) = id
            .split_once('-')
            .and_then(|(generation, number)| {
                Some((Generation(generation.parse().ok()?), number.parse::<u64>().ok()?))
            })
            .ok_or_else(missing)?;
        let lane = self.lanes.of_generation(generation).ok_or_else(missing)?;
        let turn = self.turn_of(&lane.id).await?;
        let standing = lane.book().alarms().values().find(|alarm| alarm.number == number).cloned();
        let mut alarm = standing.ok_or_else(missing)?;
        alarm.state = match alarm.state {
            commit::AlarmState::Unacknowledged => commit::AlarmState::Acknowledged,
            commit::AlarmState::ReturnedToNormal => commit::AlarmState::Normal,
            commit::AlarmState::Acknowledged | commit::AlarmState::Normal => return Ok(show(&lane, &alarm)),
        };
        alarm.acknowledged = Some(self.shared.clock.now());
        let shown = show(&lane, &alarm);
        self.change(AdminRecord::Alarm { generation, alarm: Box::new(alarm) }).await?;
        drop(turn);
        Ok(shown)
    }
}

fn place(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split('-').map(|part| part.parse().ok());
    let place = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(place)
}

fn show(lane: &Lane, alarm: &AlarmRecord) -> Alarm {
    let severity = lane.manifest.alarm(alarm.code.as_str()).map(|declared| declared.severity);
    Alarm {
        id: format!("{}-{}", lane.generation, alarm.number),
        installation: lane.id.clone(),
        code: alarm.code.clone(),
        entity: alarm.entity.to_string(),
        severity: severity.unwrap_or(Severity::Medium).name().to_owned(),
        state: match alarm.state {
            commit::AlarmState::Unacknowledged => AlarmState::Unacknowledged,
            commit::AlarmState::Acknowledged => AlarmState::Acknowledged,
            commit::AlarmState::ReturnedToNormal => AlarmState::ReturnedUnacknowledged,
            commit::AlarmState::Normal => AlarmState::Normal,
        },
        message: alarm.message.to_string(),
        raised: alarm.raised,
        acknowledged: alarm.acknowledged,
    }
}
