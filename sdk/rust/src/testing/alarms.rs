//! The alarms of an app in a test: those that are active, and each episode.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::limits::{
    ALARM_BYTES, ALARM_CHANGE_BYTES, MAX_ALARM_CHANGES, MAX_ALARM_MESSAGE, MAX_ALARMS, MAX_ALARMS_BYTES,
    MAX_ENTITY,
};
use super::quota::Quota;
use crate::alarms::Error;
use crate::time::Timestamp;

/// An alarm's name and its entity.
pub(super) type Key = (String, String);

/// An alarm from its raising to its clearing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// The alarm, by its name in the manifest.
    pub alarm: String,
    /// The entity that it is about.
    pub entity: String,
    /// The last message that it was raised with.
    pub message: String,
    /// Since when things were so: as the app said, or the time of the call.
    pub since: Timestamp,
    /// Since when they are normal again, once it is cleared.
    pub cleared: Option<Timestamp>,
}

#[derive(Default)]
pub(super) struct Alarms {
    pub declared: Vec<String>,
    /// The messages of the active ones.
    pub active: BTreeMap<Key, String>,
    /// All episodes, in the order of their raising.
    pub episodes: Vec<Episode>,
    /// The episode of each active alarm.
    places: HashMap<Key, usize>,
    /// The cost of the active ones.
    bytes: usize,
    call: Call,
}

/// Changes of a call so far.
#[derive(Default)]
struct Call {
    /// In their order: raised with a message, or cleared.
    changes: Vec<(Key, Option<String>, Option<Timestamp>)>,
    /// The last change of each alarm.
    last: HashMap<Key, usize>,
    /// By how much the active alarms and their bytes have changed.
    count: isize,
    bytes: isize,
}

impl Alarms {
    fn check(&self, alarm: &str, entity: &str) -> Result<Key, Error> {
        if !self.declared.iter().any(|declared| declared == alarm) {
            return Err(Error::UnknownAlarm(alarm.to_owned()));
        }
        if entity.len() > MAX_ENTITY {
            return Err(Error::TooLong);
        }
        if entity.chars().any(char::is_control) {
            return Err(Error::Other(format!("the entity {entity:?} has a control character")));
        }
        Ok((alarm.to_owned(), entity.to_owned()))
    }

    /// The cost of an alarm, if it is active after the changes so far.
    fn is_active(&self, key: &Key) -> Option<usize> {
        let message = match self.call.last.get(key) {
            Some(last) => self.call.changes[*last].1.as_ref(),
            None => self.active.get(key),
        };
        message.map(|message| bytes(key, message))
    }

    pub(super) fn raise(
        &mut self,
        quota: &mut Quota,
        alarm: &str,
        entity: &str,
        message: &str,
        since: Option<Timestamp>,
    ) -> Result<(), Error> {
        let key = self.check(alarm, entity)?;
        if message.len() > MAX_ALARM_MESSAGE {
            return Err(Error::TooLong);
        }
        let (before, now) = (self.is_active(&key), bytes(&key, message));
        let more = now.saturating_sub(before.unwrap_or(0));
        let count = self.active.len().saturating_add_signed(self.call.count);
        let one_more = before.is_none() && count >= MAX_ALARMS;
        let all = self.bytes.saturating_add_signed(self.call.bytes);
        if one_more || more > 0 && all + more > MAX_ALARMS_BYTES {
            return Err(Error::TooMany);
        }
        let raised = self.call.last.get(&key).copied().filter(|_| before.is_some());
        match raised {
            // Raised in this call, or given other words: only the words change.
            Some(last) => {
                let change = &mut self.call.changes[last];
                let was = cost(&key, change.1.as_deref());
                quota.effect(cost(&key, Some(message)), was).map_err(Error::Other)?;
                change.1 = Some(message.to_owned());
            }
            None => self.change(quota, key, Some(message), since)?,
        }
        self.call.count += isize::from(before.is_none());
        self.call.bytes += now as isize - before.unwrap_or(0) as isize;
        Ok(())
    }

    pub(super) fn clear(
        &mut self,
        quota: &mut Quota,
        alarm: &str,
        entity: &str,
        since: Option<Timestamp>,
    ) -> Result<(), Error> {
        let key = self.check(alarm, entity)?;
        let Some(before) = self.is_active(&key) else { return Ok(()) };
        self.change(quota, key, None, since)?;
        self.call.count -= 1;
        self.call.bytes -= before as isize;
        Ok(())
    }

    fn change(
        &mut self,
        quota: &mut Quota,
        key: Key,
        message: Option<&str>,
        since: Option<Timestamp>,
    ) -> Result<(), Error> {
        if self.call.changes.len() >= MAX_ALARM_CHANGES {
            let text = format!("one invocation may change alarms {MAX_ALARM_CHANGES} times");
            return Err(Error::Other(text));
        }
        quota.effect(cost(&key, message), 0).map_err(Error::Other)?;
        self.call.last.insert(key.clone(), self.call.changes.len());
        self.call.changes.push((key, message.map(str::to_owned), since));
        Ok(())
    }

    /// Keeps what the call did, whose time this is.
    pub(super) fn commit(&mut self, now: Timestamp) {
        for (key, message, since) in std::mem::take(&mut self.call).changes {
            let since = since.unwrap_or(now).min(now);
            let place = self.places.get(&key).copied();
            match (message, place) {
                (Some(message), Some(place)) => {
                    self.episodes[place].message.clone_from(&message);
                    self.activate(key, message);
                }
                (Some(message), None) => {
                    let (alarm, entity) = key.clone();
                    self.places.insert(key.clone(), self.episodes.len());
                    let message_of = message.clone();
                    self.episodes.push(Episode { alarm, entity, message: message_of, since, cleared: None });
                    self.activate(key, message);
                }
                (None, Some(place)) => {
                    let episode = &mut self.episodes[place];
                    episode.cleared = Some(since.max(episode.since));
                    self.places.remove(&key);
                    self.bytes -= self.active.remove(&key).map_or(0, |message| bytes(&key, &message));
                }
                (None, None) => {}
            }
        }
    }

    fn activate(&mut self, key: Key, message: String) {
        self.bytes += bytes(&key, &message);
        let before = self.active.insert(key.clone(), message);
        self.bytes -= before.map_or(0, |before| bytes(&key, &before));
    }

    /// Forgets the episodes that are over.
    pub(super) fn forget(&mut self) {
        self.episodes.retain(|episode| episode.cleared.is_none());
        let key = |episode: &Episode| (episode.alarm.clone(), episode.entity.clone());
        self.places =
            self.episodes.iter().enumerate().map(|(place, episode)| (key(episode), place)).collect();
    }

    /// Takes back what the call did.
    pub(super) fn roll_back(&mut self) {
        self.call = Call::default();
    }
}

/// The cost of an active alarm.
fn bytes((_, entity): &Key, message: &str) -> usize {
    ALARM_BYTES + entity.len() + message.len()
}

/// Bytes of a change in the record.
fn cost((alarm, entity): &Key, message: Option<&str>) -> usize {
    ALARM_CHANGE_BYTES + alarm.len() + entity.len() + message.map_or(0, str::len)
}
