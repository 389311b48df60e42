//! What good calls leave behind.

use std::collections::BTreeMap;

use ironloom_sandbox::*;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmAct, AlarmChange};
use ironloom_types::ids::PointNumber;
use ironloom_types::limits::Limits;
use ironloom_types::readings::{Quality, ValueRef};

use crate::guest::{Guest, data};
use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_passes_its_batch_on_derives_from_each_reading() {
    let bench = Bench::new();
    // The frame it was given, under the name of an output; the batch's record is passed flat.
    let body = "(i32.store (local.get $frames) (i32.const 1024)) (i32.store offset=4 (local.get $frames) (i32.const 10))
                (call $publish (local.get $entities) (local.get $entities_len) (local.get $frames) (local.get $frames_len) (i32.const 64))
                (if (i32.load8_u (i32.const 64)) (then unreachable))";
    let guest = Guest::readings(body)
        .import("ironloom:outputs/outputs@0.1.0", "publish", "$publish (param i32 i32 i32 i32 i32)")
        .with(&data(1024, "daily-gain"));
    let mut batch = batch(3);
    batch.frames[0].entity = vec![1, 0, 1];
    batch.frames[0].quality = Some(vec![
        ironloom_sandbox::Quality::Good,
        ironloom_sandbox::Quality::Good,
        ironloom_sandbox::Quality::Bad,
    ]);
    let app = bench.install(&guest).await;
    let report = bench.consume(&app, &batch, env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
    let derived = &report.effects.derived;
    let new = PointNumber::pending(0);
    assert_eq!(derived.points, [new, PointNumber(7), new]);
    assert_eq!(derived.at, [NOON, Timestamp(NOON.0 + 1), Timestamp(NOON.0 + 2)]);
    assert_eq!(
        (0..3).map(|row| derived.quality(row)).collect::<Vec<_>>(),
        [Quality::Good, Quality::Good, Quality::Bad]
    );
    assert_eq!(derived.value(1), ValueRef::Real(1.5));
    assert_eq!(report.effects.new_points.len(), 1);
    assert_eq!(report.effects.new_points[0].path.as_str(), "apps/test/daily-gain/barn-1/1");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_failures_come_through() {
    let bench = Bench::new();
    // ok, with one refused: frame 0, reading 2, reason "sick".
    let refuse = "(i32.store (i32.const 20) (i32.const 128)) (i32.store (i32.const 24) (i32.const 1))
                  (i32.store (i32.const 132) (i32.const 2)) (i32.store (i32.const 136) (i32.const 1024)) (i32.store (i32.const 140) (i32.const 4))";
    let guest = Guest::readings(refuse).with(&data(1024, "sick"));
    let report = bench.once(&guest, env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(report.effects.refused.len(), 1);
    let refused = &report.effects.refused[0];
    assert_eq!((refused.frame, refused.reading, refused.reason.as_str()), (0, 2, "sick"));
    // A reading that there isn't.
    let app = bench.install(&guest).await;
    let report = bench.consume(&app, &batch(2), env()).await;
    assert!(
        matches!(&report.outcome, Outcome::Trap(text) if text.contains("reading 2 of frame 0")),
        "{}",
        report.outcome
    );

    for (case, outcome) in [(0, Outcome::Reject("sick".to_owned())), (1, Outcome::Retry("sick".to_owned()))] {
        let body = format!(
            "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 20) (i32.const {case}))
             (i32.store (i32.const 24) (i32.const 1024)) (i32.store (i32.const 28) (i32.const 4))"
        );
        assert_eq!(
            bench.once(&Guest::readings(&body).with(&data(1024, "sick")), env()).await.outcome,
            outcome
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_read_from_store_and_own_writes() {
    let bench = Bench::new();
    // Gets `old` (a miss in the cache), stores its value under `new!`, gets that, stores it under `newer`.
    let body = "(call $get (i32.const 1024) (i32.const 3) (i32.const 64))
                (call $set (i32.const 1032) (i32.const 4) (i32.load (i32.const 76)) (i32.load (i32.const 80)) (i32.const 96))
                (call $get (i32.const 1032) (i32.const 4) (i32.const 64))
                (call $set (i32.const 1040) (i32.const 5) (i32.load (i32.const 76)) (i32.load (i32.const 80)) (i32.const 96))
                (call $delete (i32.const 1024) (i32.const 3) (i32.const 96))";
    let guest = Guest::readings(body)
        .import("ironloom:state/state@0.1.0", "get", "$get (param i32 i32 i32)")
        .import("ironloom:state/state@0.1.0", "set", "$set (param i32 i32 i32 i32 i32)")
        .import("ironloom:state/state@0.1.0", "delete", "$delete (param i32 i32 i32)")
        .with(&data(1024, "old"))
        .with(&data(1032, "new!"))
        .with(&data(1040, "newer"));
    let state = State { map: [("old".to_owned(), "42".into())].into(), ..State::default() };
    let report = bench.once(&guest, env_with(state, Limits::default())).await;
    assert_eq!(report.outcome, Outcome::Ok);
    let expected = [("new!", Some("42")), ("newer", Some("42")), ("old", None)];
    assert_eq!(report.effects.state, expected.into_iter().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_alarms_and_settings_reach_their_places() {
    let bench = Bench::new();
    // Raises `fever` with the setting `breed` as message, since 7 ns after 1970, and sets the timer `check` for the due time.
    let body = "(call $config (i32.const 1024) (i32.const 5) (i32.const 64))
                (call $raise (i32.const 1032) (i32.const 5) (i32.const 1040) (i32.const 5) (i32.load (i32.const 72)) (i32.load (i32.const 76)) (i32.const 1) (i64.const 7) (i32.const 96))
                (call $timer (i32.const 1048) (i32.const 5) (local.get $due) (i32.const 96))";
    let guest = Guest::timers(body)
        .import("wasi:config/store@0.2.0-rc.1", "get", "$config (param i32 i32 i32)")
        .import("ironloom:alarms/alarms@0.1.0", "raise", "$raise (param i32 i32 i32 i32 i32 i32 i32 i64 i32)")
        .import("ironloom:timers/schedule@0.1.0", "set", "$timer (param i32 i32 i64 i32)")
        .with(&data(1024, "breed"))
        .with(&data(1032, "fever"))
        .with(&data(1040, "0042/"))
        .with(&data(1048, "check"));
    let app = bench.try_install(guest.build(), ALL).await.unwrap();
    let due = Timestamp(NOON.0 + 5);
    let report = bench.sandbox.invoke(&app, Call::Timer { name: "morning", due }, env()).await;
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(report.effects.timers, BTreeMap::from([("check".into(), Some(due))]));
    let act = AlarmAct::Raise { message: "duroc".into(), since: Some(Timestamp(7)) };
    assert_eq!(report.effects.alarms, [AlarmChange { key: (slot("fever"), "0042/".into()), act }]);
}
