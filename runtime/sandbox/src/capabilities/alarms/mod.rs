//! `ironloom:alarms`: alarms for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker};

use crate::bindings::platform::ironloom::alarms::alarms::{self as wit, Error};
use crate::budget::Quota;
use crate::env::{AppContext, Holdings};
use crate::host::Host;
use ironloom_types::ids::SlotName;
use ironloom_types::limits::{MAX_ALARM_MESSAGE, MAX_ALARMS, MAX_ENTITY};

/// The last change of each alarm: raised with a message, or cleared.
pub(crate) type Changes = BTreeMap<(SlotName, Box<str>), Option<Box<str>>>;

/// The alarms that this invocation raises and clears.
pub(crate) struct Context {
    holdings: Arc<dyn Holdings>,
    changes: Changes,
    /// The number of active alarms with the changes so far.
    count: usize,
}

impl Context {
    /// Nothing changed yet.
    pub(crate) fn new(holdings: Arc<dyn Holdings>) -> Self {
        let count = holdings.alarms();
        Self { holdings, changes: BTreeMap::new(), count }
    }

    pub(crate) fn into_changes(self) -> Changes {
        self.changes
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
        let key = (alarm, entity.into_boxed_str());
        let change = self.context.changes.get(&key);
        let stands = match change {
            Some(change) => change.is_some(),
            None => self.context.holdings.has_alarm(&key.0, &key.1),
        };
        if !stands && self.context.count >= MAX_ALARMS {
            return Err(Error::TooMany);
        }
        let before = change.map_or(0, |change| cost(&key.0, &key.1, change.as_deref()));
        self.quota.effect(cost(&key.0, &key.1, Some(&message)), before).map_err(Error::Other)?;
        self.context.count += usize::from(!stands);
        self.context.changes.insert(key, Some(message.into()));
        Ok(())
    }

    fn clear(&mut self, alarm: String, entity: String) -> Result<(), Error> {
        let alarm = self.declared(alarm, &entity)?;
        let key = (alarm, entity.into_boxed_str());
        let change = self.context.changes.get(&key);
        let stood_before = self.context.holdings.has_alarm(&key.0, &key.1);
        let stands = change.map_or(stood_before, Option::is_some);
        if !stands {
            return Ok(());
        }
        let before = change.map_or(0, |change| cost(&key.0, &key.1, change.as_deref()));
        if stood_before {
            self.quota.effect(cost(&key.0, &key.1, None), before).map_err(Error::Other)?;
            self.context.changes.insert(key, None);
        } else {
            // Raised and cleared in one invocation: nobody has seen it.
            self.quota.effect(0, before).map_err(Error::Other)?;
            self.context.changes.remove(&key);
        }
        self.context.count = self.context.count.saturating_sub(1);
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
