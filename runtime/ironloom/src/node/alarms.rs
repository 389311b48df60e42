//! Alarms: listed from the lanes.

mod deeds;
mod history;

use super::Node;
use super::pages::{Smallest, fill};
use crate::api::facade::{
    self, Alarm, AlarmCleared, AlarmNote, AlarmShelved, AlarmState, Answer, Page, PageQuery, Problem,
};
use crate::fold::episodes::HistoryPlace;
use crate::records::alarm::{self, AlarmRecord, ClearedBy, Note};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, InstallationId, TenantId};

impl Node {
    /// Alarms that are active, wait for somebody or are shelved, oldest first.
    pub(super) fn list_alarms(
        &self,
        tenant: TenantId,
        installation: Option<&InstallationId>,
        page: &PageQuery,
    ) -> Answer<Page<Alarm>> {
        if let Some(id) = installation {
            self.lane(id)?;
        }
        let (after, now) = (after(tenant, page)?, self.shared.clock.now());
        let lanes = self.lanes.of_tenant(tenant);
        // Their places alone: alarms may be many, and a page shows few.
        let find = |last: Option<&HistoryPlace>, most| {
            let after = last.copied().or(after);
            let mut places = Smallest::new(most);
            for lane in lanes.iter().filter(|lane| installation.is_none_or(|id| *id == lane.id)) {
                for alarm in lane.book().alarms().values().filter(|alarm| !is_over(alarm, now)) {
                    let place = HistoryPlace::of(lane.generation, alarm);
                    if after.is_none_or(|after| place > after) {
                        places.push(place);
                    }
                }
            }
            places.into_sorted()
        };
        let shown = |place: &HistoryPlace| {
            // It may have been removed in the meantime.
            let lane = self.lanes.of_generation(place.generation)?;
            let alarm = lane.book().alarm_numbered(place.number)?.clone();
            Some(show(&lane.id, place.generation, &alarm, now))
        };
        let (items, last) = fill(page.limit, find, shown);
        Ok(Page { items, next: last.map(next) })
    }
}

/// Says whether an alarm is kept for its shelf alone, and that has ended.
fn is_over(alarm: &AlarmRecord, now: Timestamp) -> bool {
    alarm.state == alarm::AlarmState::Normal && !alarm.is_shelved(now)
}

/// A place as the `next` of a page.
fn next(place: HistoryPlace) -> String {
    let HistoryPlace { since, generation, number } = place;
    format!("{}-{generation}-{number}", since.0)
}

/// The place after which a page begins.
fn after(tenant: TenantId, page: &PageQuery) -> Answer<Option<HistoryPlace>> {
    let Some(text) = &page.after else { return Ok(None) };
    let place = || {
        let mut parts = text.split('-').map(|part| part.parse().ok());
        let (since, generation, number) = (parts.next()??, parts.next()??, parts.next()??);
        let place =
            HistoryPlace { since: Timestamp(since), generation: Generation::of(tenant, generation), number };
        parts.next().is_none().then_some(place)
    };
    place().map(Some).ok_or_else(|| {
        let detail = format!("the parameter \"after\" can't be {text:?}: it is the `next` of a page");
        Problem::malformed("bad-parameter", detail).at(facade::Place::field("after"))
    })
}

pub(super) fn show(
    installation: &InstallationId,
    generation: Generation,
    alarm: &AlarmRecord,
    now: Timestamp,
) -> Alarm {
    let shelved =
        |shelved: &alarm::Shelved| AlarmShelved { note: show_note(&shelved.note), until: shelved.until };
    let cleared = |cleared: alarm::Cleared| AlarmCleared {
        at: cleared.at,
        by: match cleared.by {
            ClearedBy::App => "app",
            ClearedBy::Removed => "removed",
            ClearedBy::Upgraded => "upgraded",
            ClearedBy::Reset => "reset",
            ClearedBy::RolledBack => "rolled-back",
        }
        .to_owned(),
    };
    let state = match alarm.state {
        _ if !alarm.over && alarm.is_shelved(now) => AlarmState::Shelved,
        alarm::AlarmState::Unacknowledged if alarm.cleared.is_some() => AlarmState::ReturnedUnacknowledged,
        alarm::AlarmState::Unacknowledged => AlarmState::Unacknowledged,
        alarm::AlarmState::Acknowledged if alarm.cleared.is_some() => AlarmState::Normal,
        alarm::AlarmState::Acknowledged => AlarmState::Acknowledged,
        alarm::AlarmState::ReturnedToNormal => AlarmState::ReturnedUnacknowledged,
        alarm::AlarmState::Normal => AlarmState::Normal,
    };
    let mut acknowledged: Vec<AlarmNote> = alarm.acknowledged.iter().map(show_note).collect();
    let last = acknowledged.pop();
    Alarm {
        id: format!("{generation}-{}", alarm.number),
        installation: installation.clone(),
        code: alarm.code.clone(),
        entity: alarm.entity.to_string(),
        severity: alarm.severity.name().to_owned(),
        state,
        message: alarm.message.to_string(),
        since: alarm.since,
        raised: alarm.raised,
        cleared: alarm.cleared.map(cleared),
        acknowledged: last,
        acknowledged_before: acknowledged,
        shelved: alarm.shelved.as_ref().map(shelved),
        comments: alarm.comments.iter().map(show_note).collect(),
    }
}

fn show_note(note: &Note) -> AlarmNote {
    AlarmNote {
        at: note.at,
        by: note.by.as_deref().map(str::to_owned),
        comment: note.comment.as_deref().map(str::to_owned),
    }
}
