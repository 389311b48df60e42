//! The app with chargers that answer, late or never, by hand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod outbox;
mod yard;

use charging::Charging;
use ironloom_sdk::invocation::Gap;
use ironloom_sdk::testing::Platform;
use outbox::Manner;
use yard::Yard;

/// 40 A for the cars, and one that has them all but a rest.
fn busy(safe: f64) -> Yard {
    let mut yard = Yard::new(60.0, safe);
    yard.read(&[("building-load", "", 20.0.into())]);
    yard.plug("a", 40.0, 10);
    yard.run(30);
    assert_eq!(yard.outbox.told("a"), 32.0);
    yard.sent.clear();
    yard
}

/// Each minute, so that nothing is too old.
fn measure(yard: &mut Yard, minutes: u64, stations: &[&str]) {
    for _ in 0..minutes {
        let load = yard.load.unwrap();
        yard.read(&[("building-load", "", load.into())]);
        for station in stations {
            let amps = yard.outbox.told(station);
            yard.read(&[("current", station, amps.into())]);
        }
        yard.run(60);
    }
}

fn order(yard: &Yard) -> Vec<(&str, f64)> {
    yard.sent.iter().map(|sent| (sent.station.as_str(), sent.amps)).collect()
}

#[test]
fn one_car_is_lowered_before_another_is_raised() {
    let mut yard = busy(6.0);
    // The new car has less time to spare, so it comes first; the other takes its time to answer.
    yard.manner("a", Manner::AnswersAfter(20));
    yard.plug("b", 20.0, 3);
    yard.run(19);
    assert_eq!(order(&yard), [("a", 8.0)]);
    yard.run(1);
    assert_eq!(order(&yard), [("a", 8.0), ("b", 32.0)]);
}

#[test]
fn no_car_is_raised_for_one_that_refuses_to_be_lowered() {
    let mut yard = busy(6.0);
    yard.manner("a", Manner::Refuses);
    yard.plug("b", 20.0, 3);
    yard.run(10);
    // It keeps its 32 A, and the other gets what is left.
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (32.0, 8.0));
    assert!(yard.platform.alarm_standing("not-answering", "a").unwrap().contains("counts with 32.0 A"));
    // It is asked again, though not as fast as it can refuse.
    measure(&mut yard, 5, &["a", "b"]);
    let asked = yard.limits("a").len();
    assert!((2..=8).contains(&asked), "{asked} times");
    assert_eq!(yard.outbox.charger("a").went_safe, 0);
    // Its limit wasn't renewed meanwhile: the first that it takes again is the safe value, and then its new one.
    yard.manner("a", Manner::Answers);
    measure(&mut yard, 10, &["a", "b"]);
    assert_eq!(yard.outbox.charger("a").went_safe, 1);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (8.0, 32.0));
    assert_eq!(yard.platform.alarm_standing("not-answering", "a"), None);
}

#[test]
fn a_charger_that_never_answers_counts_with_all_that_it_may_have_been_told() {
    let mut yard = busy(6.0);
    yard.manner("b", Manner::NeverAnswers);
    yard.plug("b", 20.0, 3);
    // Sent and not answered: 32 A may be in force there, and so no other may have them.
    measure(&mut yard, 4, &["a"]);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (8.0, 32.0));
    assert!(yard.platform.alarm_standing("not-answering", "b").is_some());
    yard.read(&[("connected", "b", false.into())]);
    measure(&mut yard, 10, &["a"]);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (8.0, 32.0), "also once its car is gone");
    yard.manner("b", Manner::Answers);
    measure(&mut yard, 5, &["a"]);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (32.0, 0.0));
}

#[test]
fn a_charger_that_cant_be_reached_falls_back_to_the_safe_value_and_that_counts() {
    let mut yard = busy(6.0);
    yard.plug("b", 20.0, 3);
    yard.run(1);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (8.0, 32.0));
    yard.manner("a", Manner::Unreachable);
    // Its limit of 8 A isn't renewed. It may be at 8 A or at the safe value of 6 A: both are within what is counted.
    measure(&mut yard, 10, &["b"]);
    assert_eq!(yard.outbox.told("a"), 8.0);
    assert_eq!(yard.outbox.told("b"), 32.0);
    // A station at 0 A goes up to its safe value when it isn't renewed: others give way before.
    yard.plug("c", 20.0, 1);
    yard.manner("d", Manner::Answers);
    yard.read(&[("connected", "d", false.into())]);
    measure(&mut yard, 2, &["b", "c"]);
    assert_eq!(yard.outbox.told("d"), 0.0);
    yard.manner("d", Manner::Unreachable);
    measure(&mut yard, 6, &["b", "c"]);
    assert_eq!(yard.outbox.told("d"), 6.0);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b") + yard.outbox.told("c")), (8.0, 26.0));
}

#[test]
fn a_jump_of_the_load_lowers_at_once_and_takes_back_what_was_not_sent_yet() {
    let mut yard = busy(6.0);
    yard.manner("a", Manner::AnswersAfter(20));
    yard.plug("b", 20.0, 3);
    yard.run(5);
    // 25 A are left. Until a has answered nobody can do anything about its 32 A, but the raise behind it never goes out.
    yard.read(&[("building-load", "", 35.0.into())]);
    yard.pass(60, true, |yard, _| assert!(yard.outbox.sum() <= 32.0));
    assert!(yard.limits("b").iter().all(|&amps| amps <= 25.0), "{:?}", order(&yard));
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (0.0, 25.0));
    assert_eq!(yard.platform.alarm_standing("over-capacity", ""), None);
}

#[test]
fn an_excess_that_lasts_is_told() {
    let mut yard = busy(0.0);
    yard.manner("a", Manner::NeverAnswers);
    yard.read(&[("building-load", "", 50.0.into())]);
    yard.pass(20, true, |_, _| ());
    assert_eq!(yard.platform.alarm_standing("over-capacity", ""), None, "lowering takes its time");
    yard.pass(60, true, |_, _| ());
    let message = yard.platform.alarm_standing("over-capacity", "").unwrap();
    assert!(message.starts_with("stations may draw 32.0 A, and 10.0 A are available"), "{message}");
    yard.manner("a", Manner::Answers);
    yard.pass(400, true, |_, _| ());
    assert_eq!(yard.platform.alarm_standing("over-capacity", ""), None);
}

#[test]
fn an_unknown_load_holds_all_stations_to_the_safe_limit() {
    let mut yard = busy(6.0);
    for _ in 0..6 {
        yard.read(&[("current", "a", 32.0.into())]);
        yard.run(60);
    }
    assert_eq!(yard.outbox.told("a"), 6.0);
    assert!(
        yard.platform.alarm_standing("load-unknown", "").unwrap().contains("no station gets more than 6 A")
    );
    measure(&mut yard, 1, &["a"]);
    assert_eq!(yard.outbox.told("a"), 32.0);
    assert_eq!(yard.platform.alarm_standing("load-unknown", ""), None);
    // Where the safe limit is 0, that is nothing.
    let mut yard = busy(0.0);
    yard.run(400);
    assert_eq!(yard.outbox.told("a"), 0.0);
}

#[test]
fn without_any_reading_of_the_load_no_car_is_charged() {
    let mut yard = Yard::new(60.0, 6.0);
    yard.plug("a", 40.0, 10);
    yard.run(120);
    assert_eq!(yard.limits("a"), [0.0, 0.0, 0.0]);
}

#[test]
fn a_station_that_isnt_measured_gets_the_safe_limit_and_others_the_rest() {
    let mut yard = busy(6.0);
    yard.plug("b", 40.0, 10);
    measure(&mut yard, 7, &["b"]);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (6.0, 32.0));
    assert!(yard.platform.alarm_standing("not-measured", "a").is_some());
    measure(&mut yard, 2, &["a", "b"]);
    assert_eq!(yard.outbox.sum(), 40.0);
    assert_eq!(yard.platform.alarm_standing("not-measured", "a"), None);
}

#[test]
fn a_car_that_draws_less_leaves_the_rest_to_others() {
    let mut yard = busy(6.0);
    yard.plug("b", 40.0, 10);
    // It charges at 16 A at most.
    for _ in 0..3 {
        let drawn = yard.outbox.told("b");
        yard.read(&[
            ("building-load", "", 20.0.into()),
            ("current", "b", drawn.into()),
            ("current", "a", 16.0.into()),
        ]);
        yard.run(60);
    }
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (18.0, 22.0));
}

#[test]
fn a_station_that_draws_more_than_it_was_told_counts_with_what_it_draws() {
    let mut yard = busy(6.0);
    yard.plug("b", 20.0, 3);
    yard.run(60);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (8.0, 32.0));
    yard.read(&[
        ("current", "a", 20.0.into()),
        ("current", "b", 32.0.into()),
        ("building-load", "", 20.0.into()),
    ]);
    yard.run(30);
    assert_eq!(yard.outbox.told("b"), 20.0);
    assert_eq!(
        yard.platform.alarm_standing("over-limit", "a"),
        Some("it draws 20.0 A, and was told at most 8.0 A")
    );
}

#[test]
fn outcomes_that_got_lost_leave_everything_in_the_count() {
    let mut yard = busy(6.0);
    yard.plug("b", 20.0, 3);
    let at = yard.at();
    yard.pass(0, false, |_, _| ());
    yard.outbox.outcomes.clear();
    yard.platform.add_gap(Gap { slot: "outcome".to_owned(), first: at, last: at, count: 2 });
    yard.read(&[("building-load", "", 20.0.into())]);
    // In truth it is 8 A and 32 A. The app asks anew, one after the other, and knows again.
    assert_eq!(yard.allocated, 64.0);
    yard.run(120);
    assert_eq!((yard.outbox.told("a"), yard.outbox.told("b")), (8.0, 32.0));
    assert_eq!(yard.allocated, 40.0);
}

#[test]
fn an_outcome_that_never_comes_is_given_up_and_the_limit_counts_on() {
    let mut yard = busy(6.0);
    yard.plug("b", 20.0, 3);
    yard.pass(0, false, |_, _| ());
    yard.outbox.outcomes.retain(|(station, _)| station != "b");
    measure(&mut yard, 9, &["a", "b"]);
    assert!(yard.allocated <= 40.0);
    assert_eq!(yard.outbox.told("b"), 32.0);
}

#[test]
fn stations_whose_safe_values_dont_fit_are_told() {
    let mut yard = busy(6.0);
    assert_eq!(yard.platform.alarm_standing("no-room-for-safe-values", ""), None);
    for station in ["b", "c", "d", "e", "f", "g"] {
        yard.read(&[("connected", station, false.into())]);
    }
    let message = yard.platform.alarm_standing("no-room-for-safe-values", "").unwrap();
    assert!(
        message.starts_with("7 stations at the safe limit of 6 A may draw 42.0 A, and 40.0 A"),
        "{message}"
    );
}

#[test]
fn without_a_grant_the_app_says_so_and_goes_on() {
    let mut platform = Platform::from_manifest(include_str!("../app.toml"));
    platform.set("capacity", "40");
    let at = "2026-03-02T08:00:00Z".parse().unwrap();
    let batch = ironloom_sdk::testing::batch([("connected", "a", at, true)]);
    platform.consume::<Charging>(&batch).expect_ok();
    assert!(platform.alarm_standing("not-granted", "").unwrap().contains("an admin has to do that"));
    let mut platform = platform.set_point("limit", ironloom_sdk::testing::Type::Real);
    platform.fire::<Charging>("minute", at).expect_ok();
    assert_eq!(platform.alarm_standing("not-granted", ""), None);
    assert_eq!(platform.intents().len(), 1);
}

#[test]
fn readings_that_make_no_sense_are_refused_one_by_one() {
    let mut platform = Platform::from_manifest(include_str!("../app.toml"))
        .set_point("limit", ironloom_sdk::testing::Type::Real);
    platform.set("capacity", "40");
    let mut batch = ironloom_sdk::testing::BatchBuilder::new();
    let at = "2026-03-02T08:00:00Z".parse().unwrap();
    batch.push("connected", "a", at, true);
    batch.push("current", "a", at, 5_000.0);
    batch.push("energy-asked", "a", at, -1.0);
    batch.push("departure", "a", at, "soon");
    batch.push("outcome", "a", at, "perhaps");
    batch.push("building-load", "hall", at, 10.0);
    let outcome = platform.consume::<Charging>(&batch.build()).expect_ok();
    let reasons: Vec<_> = outcome.refused.iter().map(|refused| refused.reason.as_str()).collect();
    assert_eq!(reasons.len(), 5);
    for expected in
        ["5000 A is no current", "-1 kWh can't", "`soon` is no time", "`perhaps` is no outcome", "one point"]
    {
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{reasons:?}");
    }
}
