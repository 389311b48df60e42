//! `ironloom:alarms`: alarms for people.

use std::sync::Arc;

use hashbrown::HashMap;
use wasmtime::component::{HasData, Linker};

use crate::bindings::platform::ironloom::alarms::alarms::{self as wit, Error};
use crate::budget::Quota;
use crate::env::{AlarmRoom, AppContext, Holdings};
use crate::host::Host;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmAct, AlarmChange, AlarmKey, alarm_cost};
use ironloom_types::ids::SlotName;
use ironloom_types::limits::{
    MAX_ALARM_CHANGES, MAX_ALARM_MESSAGE, MAX_ALARMS, MAX_ALARMS_BYTES, MAX_ENTITY,
};

/// The alarms that this invocation raises and clears.
pub(crate) struct Context {
    holdings: Arc<dyn Holdings>,
    /// In the order in which they were made.
    changes: Vec<AlarmChange>,
    /// The last change of each alarm.
    last: HashMap<AlarmKey, usize>,
    /// The active alarms with the changes so far.
    room: AlarmRoom,
}

impl Context {
    /// Nothing changed yet.
    pub(crate) fn new(holdings: Arc<dyn Holdings>) -> Self {
        let room = holdings.alarms();
        Self { holdings, changes: Vec::new(), last: HashMap::new(), room }
    }

    pub(crate) fn into_changes(self) -> Vec<AlarmChange> {
        self.changes
    }

    /// What an alarm counts, if it is active after the changes so far.
    fn active(&self, key: &AlarmKey) -> Option<usize> {
        match self.last.get(key).map(|last| &self.changes[*last].act) {
            Some(AlarmAct::Raise { message, .. }) => Some(alarm_cost(&key.1, message)),
            Some(AlarmAct::Clear { .. }) => None,
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

    fn raise(
        &mut self,
        alarm: String,
        entity: String,
        message: String,
        since: Option<u64>,
    ) -> Result<(), Error> {
        let alarm = self.declared(alarm, &entity)?;
        if message.len() > MAX_ALARM_MESSAGE {
            return Err(Error::TooLong);
        }
        let key: AlarmKey = (alarm, entity.into());
        let (before, now) = (self.context.active(&key), alarm_cost(&key.1, &message));
        self.check_room(before, now)?;
        let message: Box<str> = message.into();
        match self.context.last.get(&key) {
            // Raised in this invocation, or given other words: only the words change.
            Some(&last) if before.is_some() => self.reword(last, message)?,
            _ => {
                let act = AlarmAct::Raise { message, since: since.map(Timestamp) };
                self.change(AlarmChange { key, act })?;
            }
        }
        let room = &mut self.context.room;
        room.count += usize::from(before.is_none());
        room.bytes = (room.bytes + now).saturating_sub(before.unwrap_or(0));
        Ok(())
    }

    /// Gives an alarm that this invocation has raised other words.
    fn reword(&mut self, place: usize, new: Box<str>) -> Result<(), Error> {
        if let AlarmAct::Raise { message, .. } = &mut self.context.changes[place].act {
            self.quota.effect(new.len(), message.len()).map_err(Error::Other)?;
            *message = new;
        }
        Ok(())
    }

    fn change(&mut self, change: AlarmChange) -> Result<(), Error> {
        let Context { changes, last, .. } = &mut *self.context;
        if changes.len() >= MAX_ALARM_CHANGES {
            return Err(Error::Other(format!("one invocation may change alarms {MAX_ALARM_CHANGES} times")));
        }
        self.quota.effect(change.cost(), 0).map_err(Error::Other)?;
        last.insert(change.key.clone(), changes.len());
        changes.push(change);
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

    fn clear(&mut self, alarm: String, entity: String, since: Option<u64>) -> Result<(), Error> {
        let alarm = self.declared(alarm, &entity)?;
        let key = (alarm, entity.into());
        let Some(active) = self.context.active(&key) else { return Ok(()) };
        self.change(AlarmChange { key, act: AlarmAct::Clear { since: since.map(Timestamp) } })?;
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
        since: Option<u64>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(alarm.len() + entity.len() + message.len())?;
        Ok(self.raise(alarm, entity, message, since))
    }

    fn clear(
        &mut self,
        alarm: String,
        entity: String,
        since: Option<u64>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(alarm.len() + entity.len())?;
        Ok(self.clear(alarm, entity, since))
    }
}

#[cfg(test)]
mod tests;
