//! Alarms: listed from the lanes, acknowledged between two invocations.

use super::Node;
use crate::api::facade::{Alarm, AlarmState, Answer, Page, PageQuery, Problem};
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use crate::records::commit::{self, AlarmRecord};
use ironloom_apps::manifest::Severity;
use ironloom_types::ids::{Generation, InstallationId};

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
        let mut alarms: Vec<((u64, u64, u64), Alarm)> = Vec::new();
        for lane in self.lanes.all() {
            if installation.is_some_and(|id| *id != lane.id) {
                continue;
            }
            let book = lane.book();
            alarms.extend(
                book.alarms()
                    .values()
                    .map(|alarm| ((alarm.raised.0, lane.generation.0, alarm.number), show(&lane, alarm))),
            );
        }
        alarms.sort_by_key(|(order, _)| *order);
        if let Some(after) = &page.after {
            let after = place(after).ok_or_else(|| {
                Problem::malformed("after", format!("{after:?} is no `next` of a page of alarms"))
            })?;
            alarms.retain(|(order, _)| *order > after);
        }
        let next = alarms.get(page.limit).map(|_| {
            let (raised, generation, number) = alarms[page.limit - 1].0;
            format!("{raised}-{generation}-{number}")
        });
        Ok(Page { items: alarms.into_iter().take(page.limit).map(|(_, alarm)| alarm).collect(), next })
    }

    /// Acknowledges an alarm.
    pub(super) async fn acknowledge_alarm(&self, id: &str) -> Answer<Alarm> {
        let missing = || {
            Problem::not_found(format!("there is no alarm {id}"))
                .hint("`ironloom alarms` shows those that stand.")
        };
        let (generation, number) = id
            .split_once('-')
            .and_then(|(generation, number)| {
                Some((Generation(generation.parse().ok()?), number.parse::<u64>().ok()?))
            })
            .ok_or_else(missing)?;
        let _admin = self.admin.lock().await;
        let lane = self.lanes.of_generation(generation).ok_or_else(missing)?;
        let turn = self.turn(&lane).await;
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

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
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
        severity: severity.map_or("medium", severity_name).to_owned(),
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
