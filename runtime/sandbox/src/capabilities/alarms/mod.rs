//! `ironloom:alarms`: alarms for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker};

use crate::bindings::platform::ironloom::alarms::alarms::{self as wit, Error};
use crate::budget::Quota;
use crate::env::{AlarmRoom, AppContext, Holdings};
use crate::host::Host;
use ironloom_types::effects::{AlarmKey, alarm_cost};
use ironloom_types::ids::SlotName;
use ironloom_types::limits::{MAX_ALARM_MESSAGE, MAX_ALARMS, MAX_ALARMS_BYTES, MAX_ENTITY};

/// The last change of each alarm: raised with a message, or cleared.
pub(crate) type Changes = BTreeMap<AlarmKey, Option<Box<str>>>;

/// The alarms that this invocation raises and clears.
pub(crate) struct Context {
    holdings: Arc<dyn Holdings>,
    changes: Changes,
    /// The active alarms with the changes so far.
    room: AlarmRoom,
}

impl Context {
    /// Nothing changed yet.
    pub(crate) fn new(holdings: Arc<dyn Holdings>) -> Self {
        let room = holdings.alarms();
        Self { holdings, changes: BTreeMap::new(), room }
    }

    pub(crate) fn into_changes(self) -> Changes {
        self.changes
    }

    /// What an alarm counts, if it is active after the changes so far.
    fn active(&self, key: &AlarmKey) -> Option<usize> {
        match self.changes.get(key) {
            Some(change) => change.as_deref().map(|message| alarm_cost(&key.1, message)),
            None => self.holdings.alarm(key),
        }
    }
}

struct View<'a> {
    context: &'a mut Context,
    app: &'a AppContext,
    quota: &'a mut Quota,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, View<'static>>(linker, |host| {
        let host = host.called();
        View { context: &mut host.alarms, app: &host.app, quota: &mut host.quota }
    })
}

/// Bytes of a change in the record.
fn cost(alarm: &SlotName, entity: &str, message: Option<&str>) -> usize {
    alarm.as_str().len() + entity.len() + message.map_or(0, str::len)
}

impl View<'_> {
    fn declared(&self, alarm: String, entity: &str) -> Result<SlotName, Error> {
        let Some(name) = self.app.alarms.iter().find(|name| name.as_str() == alarm) else {
            return Err(Error::UnknownAlarm(alarm));
        };
        if entity.len() > MAX_ENTITY {
            return Err(Error::TooLong);
        }
        if entity.chars().any(char::is_control) {
            return Err(Error::Other(format!("the entity {entity:?} has a control character")));
        }
        Ok(name.clone())
    }

    fn raise(&mut self, alarm: String, entity: String, message: String) -> Result<(), Error> {
        let alarm = self.declared(alarm, &entity)?;
        if message.len() > MAX_ALARM_MESSAGE {
            return Err(Error::TooLong);
        }
        let key = (alarm, entity.into());
        let (before, now) = (self.context.active(&key), alarm_cost(&key.1, &message));
        self.check_room(before, now)?;
        let replaced = self.context.changes.get(&key);
        let replaced = replaced.map_or(0, |change| cost(&key.0, &key.1, change.as_deref()));
        self.quota.effect(cost(&key.0, &key.1, Some(&message)), replaced).map_err(Error::Other)?;
        let room = &mut self.context.room;
        room.count += usize::from(before.is_none());
        room.bytes = (room.bytes + now).saturating_sub(before.unwrap_or(0));
        self.context.changes.insert(key, Some(message.into()));
        Ok(())
    }

    /// Refuses an alarm that would add to what the installation, or the site, has no room for.
    fn check_room(&self, before: Option<usize>, now: usize) -> Result<(), Error> {
        let AlarmRoom { count, bytes, limit } = self.context.room;
        let more = now.saturating_sub(before.unwrap_or(0));
        if more == 0 {
            return Ok(());
        }
        if before.is_none() && count >= MAX_ALARMS || bytes + more > MAX_ALARMS_BYTES {
            return Err(Error::TooMany);
        }
        if bytes + more > limit {
            return Err(Error::Other(format!(
                "the alarms of all apps leave this one {limit} bytes for its own, and {bytes} are taken: clear some"
            )));
        }
        Ok(())
    }

    fn clear(&mut self, alarm: String, entity: String) -> Result<(), Error> {
        let alarm = self.declared(alarm, &entity)?;
        let key = (alarm, entity.into());
        let Some(active) = self.context.active(&key) else { return Ok(()) };
        let change = self.context.changes.get(&key);
        let before = change.map_or(0, |change| cost(&key.0, &key.1, change.as_deref()));
        if self.context.holdings.alarm(&key).is_some() {
            self.quota.effect(cost(&key.0, &key.1, None), before).map_err(Error::Other)?;
            self.context.changes.insert(key, None);
        } else {
            // Raised and cleared in one invocation: nobody has seen it.
            self.quota.effect(0, before).map_err(Error::Other)?;
            self.context.changes.remove(&key);
        }
        let room = &mut self.context.room;
        (room.count, room.bytes) = (room.count.saturating_sub(1), room.bytes.saturating_sub(active));
        Ok(())
    }
}

impl wit::Host for View<'_> {
    fn raise(
        &mut self,
        alarm: String,
        entity: String,
        message: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(alarm.len() + entity.len() + message.len())?;
        Ok(self.raise(alarm, entity, message))
    }

    fn clear(&mut self, alarm: String, entity: String) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(alarm.len() + entity.len())?;
        Ok(self.clear(alarm, entity))
    }
}

#[cfg(test)]
mod tests;
