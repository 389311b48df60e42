//! One invocation: a fresh store, a call under limits, and its effects.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use wasmtime::{Store, UpdateDeadline};

use super::Sandbox;
use super::app::{Linked, LoadedApp};
use super::app_log::{LogLine, beginning};
use super::bindings::readings::exports::ironloom::feeds::readings::Refused as Refusal;
use super::bindings::types::{Batch, Failure};
use super::budget::{Meter, Overrun, Quota};
use super::engine::more_memories;
use super::env::Env;
use super::failure::{BadAnswer, Outcome};
use super::fault::HostFault;
use super::host::Host;
use super::turns::Turn;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{Effects, Refused};
use ironloom_types::limits::MAX_CALL_BYTES;

/// The most handles of resources that a component may hold.
const MAX_HANDLES: usize = 1_000;
/// How often it is looked whether an invocation that waits for a turn is to end.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes that a refused reading counts among the effects, besides its reason.
const REFUSED_BYTES: usize = 32;

/// The reason for a call.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Readings have come.
    Readings(&'a Batch),
    /// A timer is due.
    Timer {
        /// The timer's name in the manifest, or the one that the app gave it.
        name: &'a str,
        /// The time at which it should have fired.
        due: Timestamp,
    },
}

/// The effects and the costs of an invocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub outcome: Outcome,
    /// Its effects; none unless the outcome is ok.
    pub effects: Effects,
    /// The part of the budget that was used: CPU time, and for each host call at least its price.
    pub cpu: Duration,
    /// The CPU time in which its code was loaded again. It tells nothing of the app: others may have needed the memory.
    pub loading: Duration,
    /// Time on the wall, without the wait for a place in the pool and for turns.
    pub wall: Duration,
    /// Bytes of all memories and tables.
    pub peak_memory: u64,
    /// The app's log lines; kept whatever the outcome is.
    pub log: Vec<LogLine>,
    /// Lines beyond the limit.
    pub log_dropped: u64,
}

/// The app's answer to a call.
type Answer = Result<Vec<Refused>, Failure>;

impl Sandbox {
    /// Runs one invocation: waits for a place in the pool, then calls the app in a fresh instance.
    /// Needs a tokio runtime with time.
    pub async fn invoke(&self, app: &LoadedApp, call: Call<'_>, env: Env) -> Report {
        let called = async |linked: &Linked, store: &mut Store<Host>| linked.call(store, call).await;
        let (answer, mut report) = self.call(app, env, called).await;
        match answer {
            None => {}
            Some(Ok(refused)) => report.effects.refused = refused,
            Some(Err(Failure::Reject(reason))) => report.outcome = Outcome::Reject(Outcome::reason(&reason)),
            Some(Err(Failure::Retry(reason))) => report.outcome = Outcome::Retry(Outcome::reason(&reason)),
        }
        report.without_effects_unless_ok()
    }

    /// Has an app bring what another version has stored into its own form, one step of it. Where it isn't done, returns
    /// what it is to be called with next. As [`Self::invoke`] in all else.
    pub async fn migrate(
        &self,
        app: &LoadedApp,
        (previous, resume): (&str, Option<&[u8]>),
        env: Env,
    ) -> (Option<Vec<u8>>, Report) {
        let called =
            async |linked: &Linked, store: &mut Store<Host>| linked.migrate(store, previous, resume).await;
        let (answer, mut report) = self.call(app, env, called).await;
        let next = match answer {
            None => None,
            Some(Ok(next)) => next,
            Some(Err(reason)) => {
                report.outcome = Outcome::Reject(Outcome::reason(&reason));
                None
            }
        };
        (next, report.without_effects_unless_ok())
    }

    /// Loads an app's code, if it has to be loaded again, and calls it in a fresh instance.
    async fn call<T>(
        &self,
        app: &LoadedApp,
        env: Env,
        call: impl AsyncFnOnce(&Linked, &mut Store<Host>) -> wasmtime::Result<T>,
    ) -> (Option<T>, Report) {
        let mut loading = Duration::ZERO;
        let linked = match self.linked(app, &mut loading).await {
            Ok(linked) => linked,
            Err(error) => {
                let report = Report::without_call(Outcome::HostFault(error.to_string()));
                return (None, Report { loading, ..report });
            }
        };
        let called = async |store: &mut Store<Host>| call(&linked, store).await;
        let (answer, mut report) = run(self, app.memories(), env, called).await;
        report.loading = loading;
        (answer, report)
    }
}

impl Report {
    fn without_effects_unless_ok(self) -> Self {
        match self.outcome {
            Outcome::Ok => self,
            _ => Self { effects: Effects::default(), ..self },
        }
    }

    /// The report of an invocation that didn't reach the app.
    pub fn without_call(outcome: Outcome) -> Self {
        Self {
            outcome,
            effects: Effects::default(),
            cpu: Duration::ZERO,
            loading: Duration::ZERO,
            wall: Duration::ZERO,
            peak_memory: 0,
            log: Vec::new(),
            log_dropped: 0,
        }
    }
}

impl Linked {
    async fn call(&self, store: &mut Store<Host>, call: Call<'_>) -> wasmtime::Result<Answer> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        match call {
            Call::Readings(batch) => {
                store.data_mut().set_entities(&batch.entities);
                let role = self.readings.as_ref().ok_or_else(|| missing("readings"))?;
                let role = role.load(&mut *store, &instance)?;
                match role.ironloom_feeds_readings().call_consume(&mut *store, batch).await? {
                    Ok(refused) => Ok(Ok(take_refused(batch, refused, store.data_mut().quota_of_answer())?)),
                    Err(failure) => Ok(Err(failure)),
                }
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

impl Linked {
    async fn migrate(
        &self,
        store: &mut Store<Host>,
        previous: &str,
        resume: Option<&[u8]>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, String>> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let role = self.lifecycle.as_ref().ok_or_else(|| missing("lifecycle"))?;
        let role = role.load(&mut *store, &instance)?;
        role.ironloom_lifecycle_migration().call_migrate(&mut *store, previous, resume).await
    }
}

fn missing(role: &str) -> HostFault {
    HostFault(format!("an app without the role `{role}` was called for it"))
}

/// Brings refused readings into order, or finds one that there isn't. They count as effects; where their
/// reasons are too long for what is left of those, all are cut to the same length.
fn take_refused(
    batch: &Batch,
    mut refused: Vec<Refusal>,
    quota: &mut Quota,
) -> Result<Vec<Refused>, BadAnswer> {
    for one in &refused {
        let readings = batch.frames.get(one.frame as usize).map_or(0, |frame| frame.at.len());
        if one.reading as usize >= readings {
            return Err(BadAnswer(format!(
                "it refused reading {} of frame {}, which has {readings} of {} frames' readings",
                one.reading,
                one.frame,
                batch.frames.len()
            )));
        }
    }
    refused.sort_by_key(|one| (one.frame, one.reading));
    refused.dedup_by_key(|one| (one.frame, one.reading));
    let cost =
        |refused: &[Refused]| refused.iter().map(|one| REFUSED_BYTES + one.reason.len()).sum::<usize>();
    let mut refused: Vec<Refused> = refused
        .into_iter()
        .map(|one| Refused { frame: one.frame, reading: one.reading, reason: Outcome::reason(&one.reason) })
        .collect();
    let room = quota.room();
    if cost(&refused) > room {
        let longest = (room / refused.len()).saturating_sub(REFUSED_BYTES);
        refused.iter_mut().for_each(|one| one.reason = beginning(&one.reason, longest).to_owned());
    }
    // Refusals are never dropped: without reasons they are at most as many as a batch has readings.
    let _ = quota.effect(cost(&refused), 0);
    Ok(refused)
}

/// Runs something in a fresh store under the limits of `env`: what it returned, unless it failed,
/// and a report whose outcome is ok where it returned.
pub(super) async fn run<T>(
    sandbox: &Sandbox,
    memories: u32,
    env: Env,
    call: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<T>,
) -> (Option<T>, Report) {
    // Never closed, so that these only wait. The place comes last: nobody has one and waits for memories.
    let _memories = sandbox.more_memories.acquire_many(more_memories(memories)).await;
    let _place = sandbox.places.acquire().await;
    let start = Instant::now();
    let limits = env.context.limits.clone();
    let meter = Arc::new(Meter::new(&limits, env.interrupt.clone()));
    let used = env.used;
    let mut made = None;
    // The store is made and taken apart in the polls of the call, so that the CPU clock is looked at once for all of it:
    // the look takes longer than most host calls.
    let whole = async {
        let store = made.insert(store(sandbox, Host::new(env, Arc::clone(&meter))));
        let result = call(store).await;
        (result, made.take().map(Store::into_data))
    };
    let called = in_turns(sandbox.turns.turn(used), used, &meter, whole);
    let called = within(limits.wall(), &meter, called).await;
    let (called, host) = match called {
        Ok((result, host)) => (Ok(result), host),
        // The end of a store clears its memory, which the app has made dirty.
        Err(overrun) => (Err(overrun), meter.charge_now(|| made.take().map(Store::into_data))),
    };
    // The last tick may be long ago: what is looked at only then could be passed by one long host call.
    let in_time = meter.ends_in_time();
    let (log, log_dropped) = host.as_ref().map(Host::end_log).unwrap_or_default();
    let has_refused = host.as_ref().is_some_and(|host| host.memory.has_refused());
    let (value, outcome) = match called {
        Ok(Ok(_)) if !in_time => (None, Outcome::CpuLimit),
        Ok(Ok(value)) => (Some(value), Outcome::Ok),
        Ok(Err(error)) => (None, Outcome::of_error(&error, &meter, has_refused, &log)),
        Err(Overrun) if meter.is_interrupted() => (None, Outcome::Interrupted),
        Err(Overrun) => (None, Outcome::WallLimit),
    };
    let peak_memory = host.as_ref().map_or(0, |host| host.memory.used());
    let effects = host.filter(|_| value.is_some()).map(Host::into_effects).unwrap_or_default();
    let wall = start.elapsed().saturating_sub(meter.waited());
    let report = Report {
        outcome,
        effects,
        cpu: meter.cpu(),
        loading: Duration::ZERO,
        wall,
        peak_memory,
        log,
        log_dropped,
    };
    (value, report)
}

/// Polls a call only while it has a turn, and charges what that takes. `used` is what its installation had used
/// before.
async fn in_turns<F: Future>(mut turn: Turn, used: u64, meter: &Meter, call: F) -> F::Output {
    let mut call = pin!(call);
    let used = || used.saturating_add(meter.nanos());
    poll_fn(|context| {
        let has_turn = turn.poll_take(used(), context).is_ready();
        meter.wait_for_turn(!has_turn);
        if !has_turn {
            return Poll::Pending;
        }
        let polled = meter.charge_now(|| call.as_mut().poll(context));
        if polled.is_pending() && meter.has_yielded() {
            turn.offer(used());
        } else {
            turn.give_back();
        }
        polled
    })
    .await
}

/// Ends a call after so long. While it waits for a turn its time stands still: that others run is not its fault.
async fn within<F: Future>(wall: Duration, meter: &Meter, call: F) -> Result<F::Output, Overrun> {
    let start = Instant::now();
    let mut call = pin!(call);
    loop {
        let left = (wall + meter.waited()).saturating_sub(start.elapsed());
        if left.is_zero() || meter.is_cut_off() {
            return Err(Overrun);
        }
        if let Ok(output) = tokio::time::timeout(left.min(LOOK), call.as_mut()).await {
            return Ok(output);
        }
    }
}

/// A store with all limits set.
fn store(sandbox: &Sandbox, host: Host) -> Store<Host> {
    let mut store = Store::new(&sandbox.engine, host);
    store.limiter(|host| &mut host.memory);
    store.set_hostcall_fuel(MAX_CALL_BYTES);
    store.set_max_component_handles(MAX_HANDLES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        Ok(if store.data().meter().may_yield() {
            UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
        } else {
            UpdateDeadline::Interrupt
        })
    });
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::types::{Frame, Values};
    use crate::interrupt::Interrupt;
    use crate::turns::Turns;
    use ironloom_types::limits::{Limits, MAX_EFFECT_BYTES};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Waker};

    fn batch(readings: u32) -> Batch {
        let n = readings as usize;
        let frame = Frame {
            slot: "weight".to_owned(),
            entity: vec![0; n],
            at: vec![0; n],
            order: None,
            quality: None,
            values: Values::Booleans(vec![true; n]),
        };
        Batch { entities: String::new(), frames: vec![frame] }
    }

    fn refuse(readings: u32, bytes: usize) -> Vec<Refusal> {
        let reason = "x".repeat(bytes);
        (0..readings).map(|reading| Refusal { frame: 0, reading, reason: reason.clone() }).collect()
    }

    fn meter() -> Meter {
        Meter::new(&Limits::default(), Interrupt::default())
    }

    #[tokio::test]
    async fn only_the_polls_are_charged() {
        let (meter, turns) = (meter(), Turns::new(1));
        let sleep = tokio::time::sleep(Duration::from_millis(50));
        in_turns(turns.turn(0), 0, &meter, sleep).await;
        assert!(meter.cpu() < Duration::from_millis(10), "{:?}", meter.cpu());
        meter.host_call();
        assert!(meter.cpu() >= Duration::from_micros(1));
    }

    #[tokio::test]
    async fn the_wait_for_a_turn_is_no_time_on_the_wall() {
        const WALL: Duration = Duration::from_millis(100);
        let turns = Turns::new(1);
        let mut other = turns.turn(0);
        assert!(other.poll_take(0, &Context::from_waker(Waker::noop())).is_ready());
        let waits = meter();
        let call = within(WALL, &waits, in_turns(turns.turn(0), 0, &waits, async {}));
        let free = async {
            tokio::time::sleep(WALL * 3).await;
            other.give_back();
        };
        assert_eq!(tokio::join!(call, free).0, Ok(()));
        assert!(waits.waited() >= WALL * 2, "{:?}", waits.waited());
        // With a turn it counts.
        let sleeps = meter();
        let call = in_turns(turns.turn(0), 0, &sleeps, std::future::pending::<()>());
        assert_eq!(within(WALL, &sleeps, call).await, Err(Overrun));
    }

    #[tokio::test]
    async fn one_that_waits_for_a_turn_is_ended_from_outside() {
        let turns = Turns::new(1);
        let mut other = turns.turn(0);
        assert!(other.poll_take(0, &Context::from_waker(Waker::noop())).is_ready());
        let interrupt = Interrupt::default();
        let meter = Meter::new(&Limits::default(), interrupt.clone());
        let _raised = interrupt.raise();
        let call = in_turns(turns.turn(0), 0, &meter, std::future::pending::<()>());
        assert_eq!(within(Duration::from_secs(600), &meter, call).await, Err(Overrun));
        assert!(meter.is_interrupted());
    }

    /// A call that is polled so often; at each poll it looks how many are polled at the same time.
    async fn busy(polls: u32, meter: &Meter, at_once: &AtomicUsize, most: usize) {
        let mut left = polls;
        poll_fn(|context| {
            let running = at_once.fetch_add(1, SeqCst) + 1;
            assert!(running <= most, "{running} run, and there are {most} turns");
            std::hint::black_box((0..500_u64).sum::<u64>());
            at_once.fetch_sub(1, SeqCst);
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            // At a tick, or while it waits for the store.
            if left.is_multiple_of(3) {
                assert!(meter.may_yield(), "it has time");
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_share_few_turns_and_all_of_them_end() {
        const TURNS: usize = 2;
        const PATIENCE: Duration = Duration::from_secs(60);
        let (turns, at_once) = (Turns::new(TURNS), Arc::new(AtomicUsize::new(0)));
        let calls: Vec<_> = (0..100_u64)
            .map(|n| {
                let (turns, at_once) = (Arc::clone(&turns), Arc::clone(&at_once));
                tokio::spawn(async move {
                    let meter = Meter::unlimited();
                    // Some never end by themselves.
                    let polls = if n % 10 == 0 { u32::MAX } else { 300 };
                    in_turns(turns.turn(n), n, &meter, busy(polls, &meter, &at_once, TURNS)).await;
                })
            })
            .collect();
        let (endless, others): (Vec<_>, Vec<_>) = (0..).zip(calls).partition(|(n, _)| n % 10 == 0);
        // Some are dropped while they run or wait, the others end beside those that are left, whatever they do.
        for (_, call) in endless.iter().take(5) {
            call.abort();
        }
        for (_, call) in others {
            tokio::time::timeout(PATIENCE, call).await.expect("no wake-up is lost").unwrap();
        }
        for (_, call) in endless {
            call.abort();
            assert!(call.await.is_err_and(|error| error.is_cancelled()));
        }
        assert_eq!(turns.free(), Some(TURNS));
    }

    #[test]
    fn reasons_share_the_room_that_effects_leave() {
        let mut quota = Quota::default();
        let refused = take_refused(&batch(3), refuse(3, 5_000), &mut quota).unwrap();
        assert!(refused.iter().all(|one| one.reason.len() == 4_096), "a reason alone is cut to 4 KiB");
        // 16,384 of 4,096 bytes would be four times what there is room for.
        let mut quota = Quota::default();
        let refused = take_refused(&batch(16_384), refuse(16_384, 4_096), &mut quota).unwrap();
        assert_eq!(refused.len(), 16_384);
        let bytes: usize = refused.iter().map(|one| one.reason.len()).sum();
        assert_eq!(bytes, 16_384 * (MAX_EFFECT_BYTES / 16_384 - REFUSED_BYTES));
        assert_eq!(quota.room(), 0);
        let refused = take_refused(&batch(2), refuse(2, 10), &mut quota).unwrap();
        assert!(refused.len() == 2 && refused.iter().all(|one| one.reason.is_empty()));
    }
}
