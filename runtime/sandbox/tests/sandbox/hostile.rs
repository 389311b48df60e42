//! Apps that misbehave: the call ends with what was wrong, and the host is as it was.

use std::time::{Duration, Instant};

use ironloom_sandbox::*;
use ironloom_types::effects::Effects;
use ironloom_types::limits::Limits;
use rustix::time::{ClockId, clock_gettime};

use crate::guest::{Guest, data};
use crate::harness::*;

const LOOP: &str = "(loop $l (br $l))";
/// Calls itself with a little on its stack.
const RECURSE: &str = "(func $r (param i64) (result i64) (i64.add (i64.const 1) (call $r (i64.add (local.get 0) (i64.const 1)))))";
/// Grows until it may no more, then does what Rust's allocator does.
const GROW: &str = "(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable";

fn quick() -> Limits {
    Limits { cpu: 50_000_000, ..Limits::default() }
}

fn set(guest: Guest) -> Guest {
    let guest = guest.import("ironloom:state/state@0.1.0", "set", "$set (param i32 i32 i32 i32 i32)");
    guest.with(&data(1024, "key")).with(&data(1032, "value"))
}
const SET: &str = "(call $set (i32.const 1024) (i32.const 3) (i32.const 1032) (i32.const 5) (i32.const 64))";

fn stderr(guest: Guest) -> Guest {
    guest.import("wasi:cli/stderr@0.2.0", "get-stderr", "$stderr (result i32)").import(
        "wasi:io/streams@0.2.0",
        "[method]output-stream.blocking-write-and-flush",
        "$write (param i32 i32 i32 i32)",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_ends_with_its_cpu_time() {
    let bench = Bench::new();
    let start = Instant::now();
    let report = bench.once(&Guest::readings(LOOP), env_with(State::default(), quick())).await;
    assert_eq!(report.outcome, Outcome::CpuLimit);
    assert!(
        report.cpu >= Duration::from_millis(50) && report.cpu < Duration::from_millis(200),
        "{:?}",
        report.cpu
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_ends_at_once_when_it_is_interrupted() {
    let bench = Bench::new();
    let app = bench.install(&Guest::readings(LOOP)).await;
    let limits = Limits { cpu: 10_000_000_000, ..Limits::default() };
    let given = env_with(State::default(), limits);
    let interrupt = given.interrupt.clone();
    let sandbox = bench.sandbox.clone();
    let looping = tokio::spawn(async move { sandbox.invoke(&app, Call::Readings(&batch(1)), given).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!looping.is_finished());
    let raised = interrupt.raise();
    let report = tokio::time::timeout(Duration::from_secs(2), looping).await.unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    assert_eq!(report.effects, Effects::default());
    drop(raised);
    let good = bench.install(&Guest::readings("")).await;
    let given = Env { interrupt, ..env() };
    assert_eq!(bench.consume(&good, &batch(1), given).await.outcome, Outcome::Ok);
}

// More loops than threads, on any machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_do_not_keep_others_from_running() {
    let bench = Bench::new();
    let app = bench.install(&Guest::readings(LOOP)).await;
    let good = bench.install(&Guest::readings("")).await;
    let limits = Limits { cpu: 500_000_000, ..Limits::default() };
    let loops: Vec<_> = (0..3)
        .map(|_| {
            let (sandbox, app, limits) = (bench.sandbox.clone(), app.clone(), limits.clone());
            tokio::spawn(async move {
                sandbox
                    .invoke(&app, Call::Readings(&batch(1)), env_with(State::default(), limits))
                    .await
                    .outcome
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    assert_eq!(bench.consume(&good, &batch(1), env()).await.outcome, Outcome::Ok);
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    for one in loops {
        // On a busy machine the wall comes first.
        assert!(matches!(one.await.unwrap(), Outcome::CpuLimit | Outcome::WallLimit));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_not_charged_and_ends_with_the_wall_limit() {
    let bench = Bench::new();
    let guest = Guest::readings("(call $get (i32.const 1024) (i32.const 3) (i32.const 64))")
        .import("ironloom:state/state@0.1.0", "get", "$get (param i32 i32 i32)")
        .with(&data(1024, "key"));
    let limits = Limits { cpu: 10_000_000, ..Limits::default() };
    let stuck = Uncached(|_| -> Loading { Box::pin(std::future::pending()) });
    let env = Env { state: std::sync::Arc::new(stuck), ..env_with(State::default(), limits) };
    let report = bench.once(&guest, env).await;
    assert_eq!(report.outcome, Outcome::WallLimit);
    assert!(report.cpu < Duration::from_millis(10), "{:?}", report.cpu);
    assert!(report.wall >= Duration::from_millis(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn host_calls_cost_their_price() {
    let bench = Bench::new();
    // 30,000 calls take some 3 ms, and count as 30.
    let body = "(loop $l (drop (call $now)) (local.set $i (i32.add (local.get $i) (i32.const 1)))
                  (br_if $l (i32.lt_u (local.get $i) (i32.const 30000))))";
    let guest =
        Guest::readings(body).import("ironloom:invocation/invocation@0.1.0", "now", "$now (result i64)");
    let report = bench.once(&guest, env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
    assert!(report.cpu >= Duration::from_millis(30), "{:?}", report.cpu);
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion_is_named() {
    let bench = Bench::new();
    let report = bench.once(&Guest::readings("(drop (call $r (i64.const 0)))").with(RECURSE), env()).await;
    assert!(
        matches!(&report.outcome, Outcome::Trap(text) if text.contains("nested too deeply")),
        "{}",
        report.outcome
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_the_limit() {
    let bench = Bench::new();
    let app = bench.install(&Guest::readings(GROW)).await;
    for mebibytes in [4, 32, 256] {
        let limits = Limits { memory: mebibytes << 20, ..Limits::default() };
        let report = bench.consume(&app, &batch(1), env_with(State::default(), limits)).await;
        assert_eq!(report.outcome, Outcome::MemoryLimit);
        assert!(report.peak_memory <= mebibytes << 20 && report.peak_memory > (mebibytes - 2) << 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_growth_that_the_app_handles_is_no_failure() {
    let bench = Bench::new();
    let report = bench.once(&Guest::readings("(drop (memory.grow (i32.const 30000)))"), env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_writes_are_none() {
    let bench = Bench::new();
    let report = bench.once(&set(Guest::readings(&format!("{SET} unreachable"))), env()).await;
    assert!(matches!(report.outcome, Outcome::Trap(_)));
    assert_eq!(report.effects, Effects::default());
    // The same without the trap does take effect.
    let report = bench.once(&set(Guest::readings(SET)), env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(report.effects.state.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn panics_are_told_in_each_role() {
    let bench = Bench::new();
    let message = "thread '<unnamed>' panicked at src/lib.rs:7:9:\nno such pig\n";
    let body = format!(
        "(call $write (call $stderr) (i32.const 1024) (i32.const {}) (i32.const 64)) unreachable",
        message.len()
    );
    let guest = stderr(Guest::readings(&body)).and_timers(&body).with(&data(1024, message));
    let app = bench.try_install(guest.build(), ALL).await.unwrap();
    let readings = batch(1);
    for call in [Call::Readings(&readings), Call::Timer { name: "morning", due: NOON }] {
        let report = bench.sandbox.invoke(&app, call, env()).await;
        assert_eq!(report.outcome, Outcome::Trap("it panicked: no such pig (src/lib.rs:7:9)".to_owned()));
        assert_eq!(report.log.len(), 2, "the lines of a failed invocation are kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sleeps() {
    let bench = Bench::new();
    let clock = |body: &str| {
        Guest::readings(body)
            .import(
                "wasi:clocks/monotonic-clock@0.2.0",
                "subscribe-duration",
                "$wait (param i64) (result i32)",
            )
            .import("wasi:io/poll@0.2.0", "[method]pollable.block", "$block (param i32)")
    };
    let report = bench.once(&clock("(call $block (call $wait (i64.const 1)))"), env()).await;
    assert_eq!(report.outcome, Outcome::Trap("an app can't sleep: set a timer".to_owned()));
    let report = bench.once(&clock("(call $block (call $wait (i64.const 0)))"), env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_is_a_trap() {
    let bench = Bench::new();
    let guest = Guest::readings("(call $exit (i32.const 0))").import(
        "wasi:cli/exit@0.2.0",
        "exit",
        "$exit (param i32)",
    );
    let report = bench.once(&guest, env()).await;
    assert!(matches!(&report.outcome, Outcome::Trap(text) if text.contains("`exit`")), "{}", report.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_is_bounded_and_counted() {
    let bench = Bench::new();
    let body =
        "(loop $l (call $log (i32.const 2) (i32.const 1024) (i32.const 3) (i32.const 1024) (i32.const 3))
                  (local.set $i (i32.add (local.get $i) (i32.const 1)))
                  (br_if $l (i32.lt_u (local.get $i) (i32.const 5000))))";
    let guest = Guest::readings(body)
        .import("wasi:logging/logging@0.1.0-draft", "log", "$log (param i32 i32 i32 i32 i32)")
        .with(&data(1024, "moo"));
    let report = bench.once(&guest, env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!((report.log.len(), report.log_dropped), (100, 4_900));
    assert_eq!((report.log[0].level, report.log[0].message.as_str()), (Level::Info, "moo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_is_cut_and_what_is_cut_off_is_not_kept() {
    let bench = Bench::new();
    // Twelve mebibytes of one letter, as context and as message.
    let body = "(drop (memory.grow (i32.const 200))) (memory.fill (i32.const 65536) (i32.const 109) (i32.const 12582912))
                (call $log (i32.const 2) (i32.const 65536) (i32.const 5) (i32.const 65536) (i32.const 12582912))
                (call $log (i32.const 2) (i32.const 65536) (i32.const 12582912) (i32.const 65536) (i32.const 5))";
    let guest = Guest::readings(body).import(
        "wasi:logging/logging@0.1.0-draft",
        "log",
        "$log (param i32 i32 i32 i32 i32)",
    );
    let report = bench.once(&guest, env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!((report.log.len(), report.log_dropped), (1, 1));
    let kept: usize = report.log.iter().map(|line| line.context.capacity() + line.message.capacity()).sum();
    assert_eq!(kept, 16 << 10, "memory, not only length");
}

/// State that works for so long for each load.
fn slow(time: Duration) -> impl StateReader {
    Uncached(move |keys| {
        // Of the CPU, which a busy machine gives to others meanwhile.
        let spent = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let begin = spent();
        while spent() < begin + time {
            std::hint::spin_loop();
        }
        no_values(keys)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cpu_time_of_the_last_host_call_counts_too() {
    let bench = Bench::new();
    // No function is entered and no loop begun after the call: no tick sees it.
    let guest = Guest::readings("(call $get (i32.const 1024) (i32.const 3) (i32.const 64))")
        .import("ironloom:state/state@0.1.0", "get", "$get (param i32 i32 i32)")
        .with(&data(1024, "key"));
    let app = bench.install(&guest).await;
    for (busy, outcome) in [(0, Outcome::Ok), (200, Outcome::CpuLimit)] {
        let state = std::sync::Arc::new(slow(Duration::from_millis(busy)));
        let env = Env { state, ..env_with(State::default(), quick()) };
        assert_eq!(bench.consume(&app, &batch(1), env).await.outcome, outcome);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_on_other_threads_is_charged() {
    let meter = Meter::new(&Limits::default(), Interrupt::default());
    let begin = Instant::now();
    meter
        .aside(move || {
            while begin.elapsed() < Duration::from_millis(50) {
                std::hint::spin_loop();
            }
        })
        .await
        .unwrap();
    // On a busy machine a thread gets less of the CPU than it spins.
    assert!(meter.cpu() >= Duration::from_millis(5), "{:?}", meter.cpu());
    let ended: Result<(), _> = meter.aside(|| panic!("a fault of the host")).await;
    let fault = ended.unwrap_err();
    assert!(fault.to_string().contains("panic"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_that_are_allowed_end_as_well() {
    let bench = Bench::new();
    let guest = set(Guest::readings(
        "(drop (memory.grow (i32.const 200)))
         (loop $l (call $set (i32.const 1024) (i32.const 3) (i32.const 65536) (i32.const 10000000) (i32.const 64)) (br $l))",
    ));
    let limits = Limits { cpu: 10_000_000_000, ..Limits::default() };
    let report = bench.once(&guest, env_with(State::default(), limits)).await;
    assert_eq!(report.outcome, Outcome::HostCallLimit);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_writes_to_streams_do_nothing() {
    // What GHSA-5m8g-xhq4-4h93 is about, on all ways to write that a stream has.
    let bench = Bench::new();
    let import = |guest: Guest, function: &str, declaration: &str| {
        guest.import("wasi:io/streams@0.2.0", &format!("[method]output-stream.{function}"), declaration)
    };
    let body = "(local.set $i (call $stderr))
        (loop $l
          (call $check (local.get $i) (i32.const 64))
          (call $write (local.get $i) (i32.const 0) (i32.const 0) (i32.const 64))
          (call $write-flush (local.get $i) (i32.const 0) (i32.const 0) (i32.const 64))
          (call $flush (local.get $i) (i32.const 64))
          (call $zeroes (local.get $i) (i64.const 0) (i32.const 64))
          (call $zeroes-flush (local.get $i) (i64.const 0) (i32.const 64))
          (call $blocking-flush (local.get $i) (i32.const 64))
          (call $splice (local.get $i) (call $stdin) (i64.const 0) (i32.const 64))
          (local.set $j (i32.add (local.get $j) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $j) (i32.const 100))))";
    let mut guest = Guest::readings(body)
        .import("wasi:cli/stderr@0.2.0", "get-stderr", "$stderr (result i32)")
        .import("wasi:cli/stdin@0.2.0", "get-stdin", "$stdin (result i32)");
    for (function, declaration) in [
        ("check-write", "$check (param i32 i32)"),
        ("write", "$write (param i32 i32 i32 i32)"),
        ("blocking-write-and-flush", "$write-flush (param i32 i32 i32 i32)"),
        ("flush", "$flush (param i32 i32)"),
        ("write-zeroes", "$zeroes (param i32 i64 i32)"),
        ("blocking-write-zeroes-and-flush", "$zeroes-flush (param i32 i64 i32)"),
        ("blocking-flush", "$blocking-flush (param i32 i32)"),
        ("splice", "$splice (param i32 i32 i64 i32)"),
    ] {
        guest = import(guest, function, declaration);
    }
    let report = bench.once(&guest, env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
    assert!(report.log.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_does_not_fit_hits_the_memory_limit() {
    let bench = Bench::new();
    let app = bench.install(&Guest::readings("")).await;
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let report = bench.consume(&app, &batch(60_000), env_with(State::default(), limits)).await;
    assert_eq!(report.outcome, Outcome::MemoryLimit);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_s_own_faults_are_not_the_app_s() {
    let bench = Bench::new();
    let guest = Guest::readings("(call $get (i32.const 1024) (i32.const 3) (i32.const 64))")
        .import("ironloom:state/state@0.1.0", "get", "$get (param i32 i32 i32)")
        .with(&data(1024, "key"));
    let env = env_with(State { fails: true, ..State::default() }, Limits::default());
    assert_eq!(bench.once(&guest, env).await.outcome, Outcome::HostFault("the disk is gone".to_owned()));
}
