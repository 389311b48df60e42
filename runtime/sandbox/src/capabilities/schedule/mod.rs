//! `ironloom:timers/schedule`: timers that fire once.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker};

use crate::bindings::platform::ironloom::timers::schedule::{self as wit, Error};
use crate::budget::Quota;
use crate::env::{AppContext, Holdings};
use crate::host::Host;
use ironloom_types::clock::Timestamp;
use ironloom_types::limits::{MAX_TIMER_NAME, MAX_TIMERS};

/// The timers that this invocation sets and cancels.
pub(crate) struct Context {
    holdings: Arc<dyn Holdings>,
    /// `None`: cancelled, and it stood before.
    changes: BTreeMap<Box<str>, Option<Timestamp>>,
    /// The number of timers with the changes so far.
    count: usize,
}

impl Context {
    /// Nothing changed yet.
    pub(crate) fn new(holdings: Arc<dyn Holdings>) -> Self {
        let count = holdings.timers();
        Self { holdings, changes: BTreeMap::new(), count }
    }

    pub(crate) fn into_timers(self) -> BTreeMap<Box<str>, Option<Timestamp>> {
        self.changes
    }

    fn is_set(&self, timer: &str) -> bool {
        match self.changes.get(timer) {
            Some(change) => change.is_some(),
            None => self.holdings.has_timer(timer),
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
        View { context: &mut host.schedule, app: &host.app, quota: &mut host.quota }
    })
}

impl View<'_> {
    fn set(&mut self, timer: String, due: u64) -> Result<(), Error> {
        let of_manifest = self.app.timers.iter().any(|name| name.as_str() == timer);
        if timer.is_empty() || timer.len() > MAX_TIMER_NAME || of_manifest {
            return Err(Error::InvalidName);
        }
        let is_set = self.context.is_set(&timer);
        if !is_set && self.context.count >= MAX_TIMERS {
            return Err(Error::TooMany);
        }
        let cost = timer.len() + size_of::<Timestamp>();
        let before = if self.context.changes.contains_key(timer.as_str()) { cost } else { 0 };
        self.quota.effect(cost, before).map_err(Error::Other)?;
        self.context.count += usize::from(!is_set);
        // Times after 2262 can't be written; such a timer never fires in any case.
        let due = Timestamp(due.min(i64::MAX as u64));
        self.context.changes.insert(timer.into(), Some(due));
        Ok(())
    }

    fn cancel(&mut self, timer: String) -> Result<bool, Error> {
        if !self.context.is_set(&timer) {
            return Ok(false);
        }
        let cost = timer.len() + size_of::<Timestamp>();
        let before = if self.context.changes.contains_key(timer.as_str()) { cost } else { 0 };
        if self.context.holdings.has_timer(&timer) {
            self.quota.effect(cost, before).map_err(Error::Other)?;
            self.context.changes.insert(timer.into(), None);
        } else {
            // Set and cancelled in one invocation: nothing happened.
            self.quota.effect(0, before).map_err(Error::Other)?;
            self.context.changes.remove(timer.as_str());
        }
        self.context.count = self.context.count.saturating_sub(1);
        Ok(true)
    }
}

impl wit::Host for View<'_> {
    fn set(&mut self, timer: String, due: u64) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(timer.len())?;
        Ok(self.set(timer, due))
    }

    fn cancel(&mut self, timer: String) -> wasmtime::Result<Result<bool, Error>> {
        self.quota.carry(timer.len())?;
        Ok(self.cancel(timer))
    }
}

#[cfg(test)]
mod tests;
