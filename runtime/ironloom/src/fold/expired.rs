//! Looks for the parts of an installation's history that are past their retention.

use super::Shared;
use super::durable::Durable;
use super::episodes::OldEpisode;
use super::invocations::PAGE;
use super::letters::Oldest;
use crate::records::alarm::{AlarmRecord, AlarmState};
use ironloom_storage::store::KeyKind;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, Ordinal};

/// Episodes, and dead letters, that go by one record.
const AT_ONCE: usize = 1_000;
/// Pages of invocations that are read for one record.
const PAGES: usize = 32;

/// The parts of one kind that are past their retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Old<T> {
    pub parts: T,
    /// The time of the oldest that stays, or an earlier one; `None` where none stays.
    pub next: Option<Timestamp>,
    /// Others of them go by another record.
    pub more: bool,
}

/// Episodes of alarms that are past their retention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OldEpisodes {
    /// Those of the history.
    pub over: Vec<OldEpisode>,
    /// Those that are kept for a shelf alone which has ended.
    pub shelved: Vec<AlarmRecord>,
}

/// Gathers what is old, and notes the time of what stays.
struct Gathering<T> {
    old: Vec<T>,
    next: Option<Timestamp>,
    more: bool,
}

impl<T> Gathering<T> {
    const fn new() -> Self {
        Self { old: Vec::new(), next: None, more: false }
    }

    fn see(&mut self, is_old: bool, time: Timestamp, one: impl FnOnce() -> T) {
        match is_old {
            true if self.old.len() < AT_ONCE => self.old.push(one()),
            true => self.more = true,
            false => self.next = Some(self.next.map_or(time, |next| next.min(time))),
        }
    }
}

impl Shared {
    /// The dead letters whose readings were recorded before this time.
    pub(crate) fn old_letters(
        &self,
        generation: Generation,
        before: Timestamp,
    ) -> Result<Old<Vec<Oldest>>, String> {
        let (mut found, mut after) = (Gathering::new(), 0);
        loop {
            let (letters, more) = self.dead_letters(generation, after, usize::MAX)?;
            for letter in letters {
                after = letter.number;
                let oldest = || Oldest { number: letter.number, cost: letter.cost() };
                found.see(letter.time < before, letter.time, oldest);
            }
            if !more || found.more {
                return Ok(Old { parts: found.old, next: found.next, more: found.more });
            }
        }
    }

    /// The episodes of alarms that are over and to which nothing has happened since this time. An alarm that is active,
    /// that nobody has acknowledged or that is shelved is none of them.
    pub(crate) fn old_episodes(&self, lane: &Durable, before: Timestamp) -> Result<Old<OldEpisodes>, String> {
        let mut found = Gathering::new();
        self.each_of(KeyKind::Episode, lane.generation, None, |_, alarm: AlarmRecord| {
            // In the order of `since`: all behind it is younger.
            let is_young = alarm.since >= before;
            let changed = if is_young { alarm.since } else { alarm.last_change() };
            found.see(changed < before, changed, || OldEpisode::of(&alarm));
            !is_young && !found.more
        })?;
        let mut shelved = Gathering { next: found.next, ..Gathering::new() };
        for (_, alarm) in lane.book().waiting_alarms().filter(|(_, alarm)| alarm.state == AlarmState::Normal)
        {
            let changed = alarm.last_change();
            shelved.see(changed < before, changed, || AlarmRecord { over: true, ..alarm.clone() });
        }
        let parts = OldEpisodes { over: found.old, shelved: shelved.old };
        Ok(Old { parts, next: shelved.next, more: found.more || shelved.more })
    }

    /// The last of the invocations, from the first one kept on, that have a time before this one, all up to it.
    pub(crate) fn old_invocations(&self, lane: &Durable, before: Timestamp) -> Result<Old<Ordinal>, String> {
        let (mut gone, last) = {
            let book = lane.book();
            (book.meta().invocations_gone, book.meta().ordinal)
        };
        for _ in 0..PAGES {
            if gone >= last {
                return Ok(Old { parts: gone, next: None, more: false });
            }
            let page = self.invocations.list(lane.generation, gone, last, PAGE as usize);
            let (page, more) = page.map_err(|error| error.to_string())?;
            for invocation in page.iter().filter(|one| one.ordinal <= last) {
                if invocation.time >= before {
                    // The attempts of an ordinal stay together.
                    let parts = gone.min(Ordinal(invocation.ordinal.0 - 1));
                    return Ok(Old { parts, next: Some(invocation.time), more: false });
                }
                gone = invocation.ordinal;
            }
            if !more {
                return Ok(Old { parts: gone, next: None, more: false });
            }
        }
        Ok(Old { parts: gone, next: None, more: true })
    }
}
