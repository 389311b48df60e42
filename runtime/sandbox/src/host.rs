//! The data of a wasmtime store: everything that the host functions of one invocation work on.

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::ResourceTable;

use super::app_log::{AppLog, LogLine};
use super::budget::{MemoryLimiter, Meter, Quota};
use super::capabilities::{alarms, invocation, outputs, schedule, state};
use super::env::{AppContext, Env};
use super::wasi;
use ironloom_types::effects::Effects;

/// The number of host resources, such as streams, that an app may hold at once.
const MAX_RESOURCES: usize = 1_000;

/// The data of one store.
pub(crate) struct Host {
    pub(super) memory: MemoryLimiter,
    parts: Parts,
}

/// What host functions work on; a capability sees its own part of it, through a view. The one way to it for them is
/// [`Host::called`], so that no call goes uncounted.
pub(crate) struct Parts {
    pub(super) meter: Arc<Meter>,
    pub(super) quota: Quota,
    pub(super) app: Arc<AppContext>,
    pub(super) log: Arc<Mutex<AppLog>>,
    pub(super) table: ResourceTable,
    pub(super) wasi: wasi::Context,
    pub(super) invocation: invocation::Context,
    pub(super) state: state::Context,
    pub(super) outputs: outputs::Context,
    pub(super) alarms: alarms::Context,
    pub(super) schedule: schedule::Context,
}

impl Host {
    /// For one invocation.
    pub(crate) fn new(env: Env, meter: Arc<Meter>) -> Self {
        let Env {
            id,
            now,
            seed,
            gaps,
            context,
            state,
            state_bytes,
            outputs,
            holdings,
            interrupt: _,
            used: _,
        } = env;
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let memory = MemoryLimiter::new(context.limits.memory);
        let parts = Parts {
            meter,
            quota: Quota::default(),
            log: Arc::default(),
            table,
            wasi: wasi::Context::new(now, seed),
            invocation: invocation::Context { id, now, gaps },
            state: state::Context::new(state, state_bytes, context.limits.state, context.limits.memory),
            outputs: outputs::Context::new(outputs),
            alarms: alarms::Context::new(Arc::clone(&holdings)),
            schedule: schedule::Context::new(holdings),
            app: context,
        };
        Self { memory, parts }
    }

    /// The call is about a batch with this table of entities.
    pub(super) fn set_entities(&mut self, table: &str) {
        self.parts.state.set_entities(table);
    }

    /// What a host function works on. The app pays for the call.
    pub(crate) fn called(&mut self) -> &mut Parts {
        self.parts.meter.host_call();
        &mut self.parts
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.parts.meter
    }

    /// What the answer of the app counts against.
    pub(super) fn quota_of_answer(&mut self) -> &mut Quota {
        &mut self.parts.quota
    }

    /// The app's log, which ends with the invocation, and how many lines were dropped.
    pub(super) fn end_log(&self) -> (Vec<LogLine>, u64) {
        self.parts.log.lock().finish()
    }

    /// The effects of the invocation.
    pub(crate) fn into_effects(self) -> Effects {
        let Parts { state, outputs, alarms, schedule, .. } = self.parts;
        let (derived, new_points, intents) = outputs.into_parts();
        Effects {
            state: state.into_writes(),
            derived,
            new_points,
            timers: schedule.into_timers(),
            alarms: alarms.into_changes(),
            refused: Vec::new(),
            intents,
        }
    }
}
