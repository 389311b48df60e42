//! An episode of an alarm, from its raising on, as log and store have it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use ironloom_apps::manifest::Severity;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmKey, alarm_cost};
use ironloom_types::ids::SlotName;
use ironloom_types::limits::MAX_ACKNOWLEDGEMENTS;

/// An episode of an alarm. While it is current the store has it under (generation, code, entity), then in the history
/// under its [`EpisodePlace`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlarmRecord {
    /// Which of the manifest's alarms.
    pub code: SlotName,
    /// Its entity; empty for the whole installation.
    pub entity: Arc<str>,
    /// Counts the generation's episodes.
    pub number: u64,
    /// As the manifest had it when the alarm was raised.
    pub severity: Severity,
    /// Says if the condition is there, and if somebody has seen it. Shelving is apart.
    pub state: AlarmState,
    /// It is in the history: it is normal, or the next one has taken its place.
    pub over: bool,
    /// The app's words.
    pub message: Box<str>,
    /// Since when the condition was there: as the app says, or as `raised`.
    pub since: Timestamp,
    /// The time of the invocation that raised it.
    pub raised: Timestamp,
    /// When the condition ended.
    pub cleared: Option<Cleared>,
    /// Its acknowledgements, in order: a shelf makes it unacknowledged once more.
    pub acknowledged: Vec<Note>,
    /// The last time that it was shelved.
    pub shelved: Option<Shelved>,
    /// Further comments of people.
    pub comments: Vec<Note>,
}

/// The states of ISA-18.2 that an alarm is in by itself; while it is shelved it is in none of them for people. Their order
/// is the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum AlarmState {
    /// The condition is there, and nobody has acknowledged it.
    Unacknowledged,
    /// The condition is there, and somebody has acknowledged it.
    Acknowledged,
    /// The condition is gone, but nobody has acknowledged it.
    ReturnedToNormal,
    /// Neither is the condition there nor does it wait for anybody.
    Normal,
}

impl AlarmState {
    /// Says whether the condition is there.
    pub(crate) fn stands(self) -> bool {
        matches!(self, Self::Unacknowledged | Self::Acknowledged)
    }
}

/// The end of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cleared {
    pub at: Timestamp,
    pub by: ClearedBy,
}

/// Who ended a condition. The order is the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ClearedBy {
    /// The app cleared the alarm.
    App,
    /// The installation is gone.
    Removed,
    /// The app's next version doesn't have the alarm.
    Upgraded,
    /// The app began anew.
    Reset,
    /// The app went back to the version before.
    RolledBack,
}

/// A deed or comment of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub at: Timestamp,
    /// The name that the person gave.
    pub by: Option<Box<str>>,
    pub comment: Option<Box<str>>,
}

impl Note {
    fn bytes(&self) -> usize {
        self.by.as_ref().map_or(0, |by| by.len()) + self.comment.as_ref().map_or(0, |comment| comment.len())
    }
}

/// A time during which nobody wants to see an alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shelved {
    /// Who shelved it, and when.
    pub note: Note,
    /// When it ends, or ended.
    pub until: Timestamp,
}

impl AlarmRecord {
    /// Its cost, against the limits of its installation and of the site.
    pub(crate) fn cost(&self) -> usize {
        let shelved = self.shelved.as_ref().map(|shelved| &shelved.note);
        let notes = self.acknowledged.iter().chain(shelved).chain(&self.comments);
        let again = self.acknowledged.len().saturating_sub(1);
        alarm_cost(&self.entity, &self.message)
            + notes.map(Note::bytes).sum::<usize>()
            + again * size_of::<Note>()
    }

    /// Says whether it is shelved at this time.
    pub(crate) fn is_shelved(&self, now: Timestamp) -> bool {
        self.shelved.as_ref().is_some_and(|shelved| shelved.until > now)
    }

    /// Which alarm it is an episode of.
    pub(crate) fn key(&self) -> AlarmKey {
        (self.code.clone(), Arc::clone(&self.entity))
    }

    /// Its place in the history.
    pub(crate) fn place(&self) -> EpisodePlace {
        EpisodePlace { since: self.since, number: self.number }
    }

    /// The time at which something happened to it for the last time: its age counts from there once it is over.
    pub(crate) fn last_change(&self) -> Timestamp {
        let notes = self.acknowledged.iter().chain(&self.comments).map(|note| note.at);
        let others =
            [self.cleared.map(|cleared| cleared.at), self.shelved.as_ref().map(|shelved| shelved.until)];
        notes.chain(others.into_iter().flatten()).fold(self.raised, Timestamp::max)
    }

    /// Somebody acknowledges it. Of many the first stays, and the last ones.
    pub(crate) fn acknowledge(&mut self, note: Note) {
        if self.acknowledged.len() >= MAX_ACKNOWLEDGEMENTS {
            self.acknowledged.remove(1);
        }
        self.acknowledged.push(note);
    }

    /// Its episode is over; a condition that stands ends with it.
    pub(crate) fn end(&mut self, at: Timestamp, by: ClearedBy) {
        if self.state.stands() {
            self.clear(at, by);
        }
        self.over = true;
    }

    /// The condition ends.
    pub(crate) fn clear(&mut self, at: Timestamp, by: ClearedBy) {
        self.cleared = Some(Cleared { at: at.max(self.since), by });
    }
}

/// The place of an episode in its generation's history, which is in the order of `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct EpisodePlace {
    pub since: Timestamp,
    pub number: u64,
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An episode of `hot`, raised at 1 ns after 1970; unacknowledged.
    pub(crate) fn alarm(entity: &str, number: u64, message: &str, cleared: Option<u64>) -> AlarmRecord {
        AlarmRecord {
            code: SlotName::new("hot").unwrap(),
            entity: entity.into(),
            number,
            severity: Severity::High,
            state: if cleared.is_some() { AlarmState::ReturnedToNormal } else { AlarmState::Unacknowledged },
            over: false,
            message: message.into(),
            since: Timestamp(1),
            raised: Timestamp(1),
            cleared: cleared.map(|at| Cleared { at: Timestamp(at), by: ClearedBy::App }),
            acknowledged: Vec::new(),
            shelved: None,
            comments: Vec::new(),
        }
    }
}
