//! What people do with alarms, between two invocations.

use std::sync::Arc;

use super::{is_over, show};
use crate::api::facade::{self, Alarm, AlarmDeed, Answer, NoteRequest, Problem, ShelveRequest};
use crate::fold;
use crate::lanes::Lane;
use crate::node::{Node, problems};
use crate::records::admin::AdminRecord;
use crate::records::alarm::{AlarmRecord, AlarmState, Note, Shelved};
use crate::records::lane::Episodes;
use ironloom_apps::quantity::Span;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, TenantId};
use ironloom_types::limits::{MAX_COMMENT, MAX_COMMENTS, MAX_SHELVED, MAX_SIGNATURE};
use ironloom_types::text::clean;

impl Node {
    /// Does something with an alarm for a person.
    pub(in crate::node) async fn change_alarm(
        self: Arc<Self>,
        tenant: TenantId,
        id: String,
        deed: AlarmDeed,
    ) -> Answer<Alarm> {
        let missing = || {
            Problem::not_found(format!("there is no alarm {id}"))
                .hint("`ironloom alarms` and `ironloom alarms history` list them.")
        };
        let (generation, number) = id
            .split_once('-')
            .and_then(|(generation, number)| {
                Some((Generation::of(tenant, generation.parse().ok()?), number.parse::<u64>().ok()?))
            })
            .ok_or_else(missing)?;
        let lane = self.lanes.of_generation(generation).ok_or_else(missing)?;
        let turn = self.turn_of(&lane.id).await?;
        let before = self.numbered(&lane, number).await?.ok_or_else(missing)?;
        let now = self.shared.clock.now();
        let mut alarm = before.clone();
        carry_out(&mut alarm, &deed, now)?;
        let shown = show(&lane.id, generation, &alarm, now);
        if alarm != before {
            let episodes = episodes(lane.book().meta().episodes, &before, &alarm);
            self.change(AdminRecord::Alarm { generation, alarm: Box::new(alarm), episodes }).await?;
        }
        drop(turn);
        Ok(shown)
    }

    /// The episode with this number, whether it goes on or is over.
    async fn numbered(&self, lane: &Lane, number: u64) -> Answer<Option<AlarmRecord>> {
        let current = lane.book().alarm_numbered(number).cloned();
        if current.is_some() {
            return Ok(current);
        }
        let generation = lane.generation;
        let find = move |shared: &fold::Shared| shared.episode_numbered(generation, number);
        fold::read_aside(&self.shared, find).await.map_err(|error| problems::internal(&error))
    }
}

/// The history after a change.
fn episodes(mut episodes: Episodes, before: &AlarmRecord, after: &AlarmRecord) -> Episodes {
    if before.over {
        episodes.remove(before.cost());
    }
    if after.over {
        episodes.add(after.cost());
    }
    episodes
}

fn carry_out(alarm: &mut AlarmRecord, deed: &AlarmDeed, now: Timestamp) -> Answer<()> {
    match deed {
        AlarmDeed::Acknowledge(request) => acknowledge(alarm, request, now),
        AlarmDeed::Shelve(request) => shelve(alarm, request, now),
        AlarmDeed::Unshelve(request) => unshelve(alarm, request, now),
        AlarmDeed::Comment(request) => {
            let note = note(request, now)?;
            if note.comment.is_none() {
                let detail = "`comment` is missing: it is what is to be said about the alarm";
                return Err(Problem::refused("bad-field", detail).at(facade::Place::field("comment")));
            }
            add_comment(alarm, note)
        }
    }
}

fn acknowledge(alarm: &mut AlarmRecord, request: &NoteRequest, now: Timestamp) -> Answer<()> {
    let note = note(request, now)?;
    if let Some(shelved) = alarm.shelved.as_ref().filter(|_| !alarm.over && alarm.is_shelved(now)) {
        let detail = format!("the alarm is shelved until {}", shelved.until);
        return Err(Problem::conflict("alarm-shelved", detail).hint("Unshelve it first."));
    }
    alarm.state = match alarm.state {
        AlarmState::Unacknowledged => AlarmState::Acknowledged,
        AlarmState::ReturnedToNormal => AlarmState::Normal,
        AlarmState::Acknowledged | AlarmState::Normal => return Ok(()),
    };
    alarm.over |= alarm.state == AlarmState::Normal;
    alarm.acknowledge(note);
    Ok(())
}

fn shelve(alarm: &mut AlarmRecord, request: &ShelveRequest, now: Timestamp) -> Answer<()> {
    let until = shelved_until(request, now)?;
    let note = note(&NoteRequest { by: request.by.clone(), comment: request.comment.clone() }, now)?;
    // Kept for a shelf that has ended, it is over as well.
    if alarm.over || is_over(alarm, now) {
        let detail = "this episode of the alarm is over, so there is nothing to shelve";
        return Err(Problem::conflict("alarm-over", detail));
    }
    alarm.shelved = Some(Shelved { note, until });
    // Once the shelf ends people see the alarm as if it had just been raised, if it is active then.
    alarm.state = if alarm.state.stands() { AlarmState::Unacknowledged } else { AlarmState::Normal };
    Ok(())
}

fn shelved_until(request: &ShelveRequest, now: Timestamp) -> Answer<Timestamp> {
    let refused =
        |field, detail: String| Err(Problem::refused("bad-field", detail).at(facade::Place::field(field)));
    let (field, until) = match (request.until, request.span) {
        (Some(until), None) => ("until", until),
        (None, Some(Span(span))) => ("for", now.plus(span)),
        (None, None) => {
            return refused(
                "for",
                "until when is missing: give `for`, such as \"8 h\", or `until`".to_owned(),
            );
        }
        (Some(_), Some(_)) => return refused("for", "give `for` or `until`, not both".to_owned()),
    };
    if until <= now {
        return refused(field, format!("{until} is over already: it is {now}"));
    }
    if until > now.plus(MAX_SHELVED) {
        return refused(
            field,
            format!("an alarm is shelved for at most 30 days, until {}", now.plus(MAX_SHELVED)),
        );
    }
    Ok(until)
}

fn unshelve(alarm: &mut AlarmRecord, request: &NoteRequest, now: Timestamp) -> Answer<()> {
    let note = note(request, now)?;
    if alarm.over || !alarm.is_shelved(now) {
        return Ok(());
    }
    if let Some(shelved) = &mut alarm.shelved {
        shelved.until = now;
    }
    alarm.over = alarm.state == AlarmState::Normal;
    if note.comment.is_some() {
        add_comment(alarm, note)?;
    }
    Ok(())
}

fn add_comment(alarm: &mut AlarmRecord, note: Note) -> Answer<()> {
    if alarm.comments.len() >= MAX_COMMENTS {
        let detail = format!("this episode of the alarm has {MAX_COMMENTS} comments, which is the most");
        return Err(Problem::conflict("too-many-comments", detail));
    }
    alarm.comments.push(note);
    Ok(())
}

/// Words of a person, made safe to show.
fn note(request: &NoteRequest, now: Timestamp) -> Answer<Note> {
    let text = |field: &'static str, given: &Option<String>, most: usize| {
        let Some(text) = given.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let text = clean(text);
        if text.len() > most {
            let detail = format!("`{field}` has {} bytes, and {most} is the most: shorten it", text.len());
            return Err(Problem::refused("bad-field", detail).at(facade::Place::field(field)));
        }
        Ok(Some(Box::from(&*text)))
    };
    Ok(Note {
        at: now,
        by: text("by", &request.by, MAX_SIGNATURE)?,
        comment: text("comment", &request.comment, MAX_COMMENT)?,
    })
}

#[cfg(test)]
mod tests;
