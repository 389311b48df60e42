//! What only means something while nothing else runs: memory of the process, and time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as tests do"
)]
#![allow(dead_code, reason = "shares its guests and its harness with the other tests of the sandbox")]

mod fresh;
#[path = "../sandbox/guest.rs"]
mod guest;
#[path = "../sandbox/harness.rs"]
mod harness;
mod lists;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ironloom_sandbox::*;
use ironloom_types::limits::Limits;

use crate::guest::{Guest, data};
use crate::harness::*;

const HALF: &str =
    "(call $set (i32.const 1024) (i32.const 3) (i32.const 1032) (i32.const 5) (i32.const 64)) unreachable";
const LOOP: &str = "(loop $l (br $l))";
const RECURSE: &str = "(func $r (param i64) (result i64) (i64.add (i64.const 1) (call $r (i64.add (local.get 0) (i64.const 1)))))";
const GROW: &str = "(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable";
/// Sums values and entities of the first frame, and leaves the sum at 48.
const TOUCH: &str = "(local $n i32) (local $values i32) (local $ids i32) (local $sum f64)
    (local.set $n (i32.load offset=12 (local.get $frames)))
    (local.set $ids (i32.load offset=8 (local.get $frames)))
    (local.set $values (i32.load offset=52 (local.get $frames)))
    (if (local.get $n) (then (loop $l
      (local.set $sum (f64.add (local.get $sum) (f64.add
        (f64.load (i32.add (local.get $values) (i32.shl (local.get $i) (i32.const 3))))
        (f64.convert_i32_u (i32.load (i32.add (local.get $ids) (i32.shl (local.get $i) (i32.const 2))))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (local.get $n))))))
    (f64.store (i32.const 48) (local.get $sum))";
/// Publishes the frame it was given under the name of an output.
const PUBLISH: &str = "(i32.store (local.get $frames) (i32.const 1024)) (i32.store offset=4 (local.get $frames) (i32.const 10))
    (call $publish (local.get $entities) (local.get $entities_len) (local.get $frames) (local.get $frames_len) (i32.const 64))
    (if (i32.load8_u (i32.const 64)) (then unreachable))";

/// Held by each test of this process: figures of the process mean something only while nothing else runs.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn half() -> Guest {
    Guest::readings(HALF)
        .import("ironloom:state/state@0.1.0", "set", "$set (param i32 i32 i32 i32 i32)")
        .with(&data(1024, "key"))
        .with(&data(1032, "value"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_failures_leave_memory_where_it_was() {
    let _alone = ALONE.lock().await;
    let bench = Bench::new();
    let trap = bench.install(&half()).await;
    let recurse = bench.install(&Guest::readings("(drop (call $r (i64.const 0)))").with(RECURSE)).await;
    let grow = bench.install(&Guest::readings(GROW)).await;
    let endless = bench.install(&Guest::readings(LOOP)).await;
    let limits = Limits { cpu: 1_000_000, memory: 8 << 20, ..Limits::default() };
    let batch = batch(1_000);
    let mut before = 0;
    for round in 0..1_050 {
        if round == 50 {
            before = resident();
        }
        let app = [&trap, &recurse, &grow][round % 3];
        let report = bench
            .consume(app, &batch, env_with(State::default(), Limits { cpu: 200_000_000, ..limits.clone() }))
            .await;
        assert_ne!(report.outcome, Outcome::Ok);
        // A loop costs a tick each: fewer of those.
        if round % 20 == 0 {
            let report = bench.consume(&endless, &batch, env_with(State::default(), limits.clone())).await;
            // On a busy machine the wall comes first.
            assert!(matches!(report.outcome, Outcome::CpuLimit | Outcome::WallLimit));
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown} bytes");
}

async fn median(bench: &Bench, app: &LoadedApp, batch: &Batch, rounds: usize) -> Duration {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let env = env();
        let start = Instant::now();
        let report = bench.consume(app, batch, env).await;
        let time = start.elapsed();
        assert_eq!(report.outcome, Outcome::Ok);
        times.push(time);
    }
    times.sort_unstable();
    times[rounds / 2]
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// `cargo test --release --test sandbox_alone -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, which mean nothing on a busy machine"]
async fn figures() {
    let _alone = ALONE.lock().await;
    let bench = Bench::new();
    let empty = bench.install(&Guest::readings("")).await;
    let none = Batch { entities: String::new(), frames: Vec::new() };
    println!("fresh invocation, empty body: {:?}", median(&bench, &empty, &none, 5_000).await);
    let touch = bench.install(&Guest::readings(TOUCH)).await;
    let publish = Guest::readings(PUBLISH)
        .import("ironloom:outputs/outputs@0.1.0", "publish", "$publish (param i32 i32 i32 i32 i32)")
        .with(&data(1024, "daily-gain"));
    let publish = bench.install(&publish).await;
    for readings in [256, 4_096] {
        for entities in [16, readings] {
            let mut batch = batch(readings);
            batch.entities = (0..entities).map(|i| format!("barn-1/{i}")).collect::<Vec<_>>().join("\n");
            batch.frames[0].entity.iter_mut().for_each(|entity| *entity %= entities);
            for (name, app) in [("touch", &touch), ("publish each", &publish)] {
                let time = median(&bench, app, &batch, 1_000).await;
                println!(
                    "{name}: {readings} readings of {entities} entities: {time:?}, {} ns each",
                    time.as_nanos() / u128::from(readings)
                );
            }
        }
    }
}
