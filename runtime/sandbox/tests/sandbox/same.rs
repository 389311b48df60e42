//! Same inputs, same result: what an app can know of its surroundings is given, and nothing else.

use ironloom_sandbox::*;

use crate::guest::{Guest, data};
use crate::harness::*;

/// Stores 16 random bytes and what the clock shows.
fn curious() -> Guest {
    let body = "(call $random (i64.const 16) (i32.const 64))
                (call $set (i32.const 1024) (i32.const 6) (i32.load (i32.const 64)) (i32.load (i32.const 68)) (i32.const 96))
                (i64.store (i32.const 200) (call $clock))
                (call $set (i32.const 1032) (i32.const 5) (i32.const 200) (i32.const 8) (i32.const 96))";
    Guest::readings(body)
        .import("wasi:random/random@0.2.3", "get-random-bytes", "$random (param i64 i32)")
        .import("wasi:clocks/monotonic-clock@0.2.0", "now", "$clock (result i64)")
        .import("ironloom:state/state@0.1.0", "set", "$set (param i32 i32 i32 i32 i32)")
        .with(&data(1024, "random"))
        .with(&data(1032, "clock"))
}

/// What a call has stored under a key.
fn written<'r>(report: &'r Report, key: &str) -> Option<&'r [u8]> {
    report.effects.state.iter().find(|(other, _)| *other == key)?.1
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_are_the_same_and_another_seed_is_not() {
    let bench = Bench::new();
    let app = bench.install(&curious()).await;
    let first = bench.consume(&app, &batch(3), env()).await;
    let second = bench.consume(&app, &batch(3), env()).await;
    assert_eq!(first.outcome, Outcome::Ok);
    assert_eq!(first.effects, second.effects);
    assert_eq!(written(&first, "clock"), Some(&NOON.0.to_le_bytes()[..]));

    let other = bench.consume(&app, &batch(3), Env { seed: [8; 32], ..env() }).await;
    assert_ne!(written(&first, "random"), written(&other, "random"));
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_are_those_of_the_key() {
    // ChaCha20 of an all-zero key, from the test vectors of RFC 8439, A.1, number 1.
    let expected =
        [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28];
    let bench = Bench::new();
    let report = bench.once(&curious(), Env { seed: [0; 32], ..env() }).await;
    assert_eq!(written(&report, "random"), Some(&expected[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_environment_and_there_are_no_files() {
    let bench = Bench::new();
    let body = "(call $environment (i32.const 64)) (if (i32.load (i32.const 68)) (then unreachable))
                (call $directories (i32.const 64)) (if (i32.load (i32.const 68)) (then unreachable))";
    let guest = Guest::readings(body)
        .import("wasi:cli/environment@0.2.0", "get-environment", "$environment (param i32)")
        .import("wasi:filesystem/preopens@0.2.0", "get-directories", "$directories (param i32)");
    assert_eq!(bench.once(&guest, env()).await.outcome, Outcome::Ok);
}
