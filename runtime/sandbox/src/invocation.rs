//! One invocation: a fresh store, a call under limits, and what it did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{Store, UpdateDeadline};

use super::Sandbox;
use super::app::LoadedApp;
use super::app_log::LogLine;
use super::bindings::types::{Batch, Failure};
use super::budget::Meter;
use super::env::{Env, HostFault};
use super::failure::Outcome;
use super::host::Host;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{Effects, Refused};
use ironloom_types::limits::MAX_HOST_CALL_BYTES;

/// The most handles of resources that a component may hold.
const MAX_HANDLES: usize = 1_000;

/// What an app is called for.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Readings have come.
    Readings(&'a Batch),
    /// A timer is due.
    Timer {
        /// Its name.
        name: &'a str,
        /// When it should have fired.
        due: Timestamp,
    },
}

/// What an invocation did and used.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What it did; nothing unless the outcome is ok.
    pub effects: Effects,
    /// What counts against the budget: CPU time, and for each host call at least its price.
    pub cpu: Duration,
    /// Time on the wall, without the wait for a place in the pool.
    pub wall: Duration,
    /// Bytes of all memories and tables.
    pub peak_memory: u64,
    /// What the app said; kept whatever the outcome is.
    pub log: Vec<LogLine>,
    /// Lines beyond the limit.
    pub log_dropped: u64,
}

/// What the app answered to a call.
type Answer = Result<Vec<Refused>, Failure>;

impl Sandbox {
    /// Runs one invocation: waits for a place in the pool, then calls the app in a fresh instance.
    /// Needs a tokio runtime with time.
    pub async fn invoke(&self, app: &LoadedApp, call: Call<'_>, env: Env) -> Report {
        let (answer, mut report) =
            run(self, env, async |store: &mut Store<Host>| app.call(store, call).await).await;
        match answer {
            None => {}
            Some(Ok(refused)) => match check_refused(call, refused) {
                Ok(refused) => {
                    report.effects.refused = refused;
                }
                Err(problem) => report.outcome = Outcome::Trap(problem),
            },
            Some(Err(Failure::Reject(reason))) => report.outcome = Outcome::Reject(Outcome::reason(reason)),
            Some(Err(Failure::Retry(reason))) => report.outcome = Outcome::Retry(Outcome::reason(reason)),
        }
        if report.outcome != Outcome::Ok {
            report.effects = Effects::default();
        }
        report
    }
}

impl LoadedApp {
    async fn call(&self, store: &mut Store<Host>, call: Call<'_>) -> wasmtime::Result<Answer> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        match call {
            Call::Readings(batch) => {
                let role = self.readings.as_ref().ok_or_else(|| missing("readings"))?;
                let role = role.load(&mut *store, &instance)?;
                let answer = role.ironloom_feeds_readings().call_consume(&mut *store, batch).await?;
                Ok(answer.map(|refused| {
                    let refused = refused.into_iter();
                    refused
                        .map(|r| Refused {
                            frame: r.frame,
                            reading: r.reading,
                            reason: Outcome::reason(r.reason),
                        })
                        .collect()
                }))
            }
            Call::Timer { name, due } => {
                let role = self.timers.as_ref().ok_or_else(|| missing("timers"))?;
                let role = role.load(&mut *store, &instance)?;
                let answer = role.ironloom_timers_timers().call_fire(&mut *store, name, due.0).await?;
                Ok(answer.map(|()| Vec::new()))
            }
        }
    }
}

fn missing(role: &str) -> HostFault {
    HostFault(format!("an app without the role `{role}` was called for it"))
}

/// Brings refused readings into order, or finds one that there isn't.
fn check_refused(call: Call<'_>, mut refused: Vec<Refused>) -> Result<Vec<Refused>, String> {
    let Call::Readings(batch) = call else { return Ok(refused) };
    for one in &refused {
        let readings = batch.frames.get(one.frame as usize).map_or(0, |frame| frame.at.len());
        if one.reading as usize >= readings {
            return Err(format!(
                "it refused reading {} of frame {}, which has {readings} of {} frames' readings",
                one.reading,
                one.frame,
                batch.frames.len()
            ));
        }
    }
    refused.sort_by_key(|one| (one.frame, one.reading));
    refused.dedup_by_key(|one| (one.frame, one.reading));
    Ok(refused)
}

/// Runs something in a fresh store under the limits of `env`: what it returned, unless it failed,
/// and a report whose outcome is ok where it returned.
pub(super) async fn run<T>(
    sandbox: &Sandbox,
    env: Env,
    call: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<T>,
) -> (Option<T>, Report) {
    // Never closed, so that this only waits.
    let _place = sandbox.places.acquire().await;
    let start = Instant::now();
    let limits = env.context.limits.clone();
    let meter = Arc::new(Meter::new(&limits, env.interrupt.clone()));
    let mut store = Store::new(&sandbox.engine, Host::new(env, Arc::clone(&meter)));
    store.limiter(|host| &mut host.memory);
    store.set_hostcall_fuel(MAX_HOST_CALL_BYTES);
    store.set_max_component_handles(MAX_HANDLES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        Ok(if store.data().meter.may_go_on() {
            UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
        } else {
            UpdateDeadline::Interrupt
        })
    });

    let called = tokio::time::timeout(limits.wall(), meter.charge(call(&mut store))).await;
    let host = store.into_data();
    let (log, log_dropped) = host.log.lock().finish();
    let (value, outcome) = match called {
        Ok(Ok(value)) => (Some(value), Outcome::Ok),
        Ok(Err(error)) => (None, Outcome::of_error(&error, &meter, host.memory.has_refused(), &log)),
        Err(_) => (None, Outcome::WallLimit),
    };
    let peak_memory = host.memory.used();
    let effects = if value.is_some() { host.into_effects() } else { Effects::default() };
    let report =
        Report { outcome, effects, cpu: meter.cpu(), wall: start.elapsed(), peak_memory, log, log_dropped };
    (value, report)
}
