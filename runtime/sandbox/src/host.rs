//! The data of a wasmtime store: everything that the host functions of one invocation work on.

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::ResourceTable;

use super::app_log::AppLog;
use super::budget::{MemoryLimiter, Meter, Quota};
use super::capabilities::{alarms, invocation, outputs, schedule, state};
use super::env::{AppContext, Env};
use super::wasi;
use ironloom_types::effects::Effects;

/// The number of host resources, such as streams, that an app may hold at once.
const MAX_RESOURCES: usize = 1_000;

/// The data of one store. A capability sees its own part of it, through a view that counts the call.
pub(crate) struct Host {
    pub(super) meter: Arc<Meter>,
    pub(super) memory: MemoryLimiter,
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
        Self {
            meter,
            memory: MemoryLimiter::new(context.limits.memory),
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
        }
    }

    /// The effects of the invocation.
    pub(crate) fn into_effects(self) -> Effects {
        let (derived, new_points) = self.outputs.into_derived();
        Effects {
            state: self.state.into_writes(),
            derived,
            new_points,
            timers: self.schedule.into_timers(),
            alarms: self.alarms.into_changes(),
            refused: Vec::new(),
        }
    }
}
