//! The app as a farmer meets it: alarms, odd readings, settings, and animals that come and go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use ironloom_sdk::prelude::*;
use ironloom_sdk::testing::{self, BatchBuilder, Platform};
use pigs::Pigs;

fn platform() -> Platform {
    Platform::from_manifest(include_str!("../app.toml"))
}

fn day(days: u64) -> Timestamp {
    "2026-03-02T07:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(days * 86_400)
}

/// Weighs one animal each week from day 0 on.
fn weekly(platform: &mut Platform, pig: &str, weights: &[f64]) {
    for (week, &kg) in weights.iter().enumerate() {
        platform.consume::<Pigs>(&testing::batch([("weight", pig, day(7 * week as u64), kg)])).expect_ok();
    }
}

/// Six o'clock, each morning of these days.
fn mornings(platform: &mut Platform, days: std::ops::Range<u64>) {
    for number in days {
        platform.fire::<Pigs>("morning", day(number) - Duration::from_secs(3_600)).expect_ok();
    }
}

/// Body temperatures of no real animal: normal, with a fever from the second on and over with the fifth.
const SYNTHETIC_TEMPERATURES: [f64; 6] = [39.2, 40.1, 40.9, 39.8, 39.6, 39.1];

#[test]
fn a_fever_shows_and_goes() {
    let mut platform = platform();
    let mut standing = Vec::new();
    for (hour, celsius) in SYNTHETIC_TEMPERATURES.into_iter().enumerate() {
        let at = day(0) + Duration::from_secs(3_600 * hour as u64);
        platform.consume::<Pigs>(&testing::batch([("temperature", "1", at, celsius)])).expect_ok();
        standing.push(platform.alarm_standing("fever", "1").map(str::to_owned));
    }
    let stands: Vec<_> = standing.iter().map(Option::is_some).collect();
    // 39.8 is no fever, but not yet clearly below it.
    assert_eq!(stands, [false, true, true, true, false, false]);
    assert_eq!(standing[2].as_deref(), Some("40.9 °C, fever is from 40.0 °C"));
}

#[test]
fn synthetic_temperatures_that_are_late_or_impossible_say_nothing() {
    let mut platform = platform();
    let batch = testing::batch([("temperature", "1", day(2), 39.0), ("temperature", "1", day(1), 41.0)]);
    platform.consume::<Pigs>(&batch).expect_ok();
    assert_eq!(platform.alarm_standing("fever", "1"), None);
    let done = platform.consume::<Pigs>(&testing::batch([("temperature", "1", day(3), 52.0)])).expect_ok();
    assert!(done.refused[0].reason.contains("52 °C is no temperature of a living pig"));
    assert_eq!(platform.alarm_standing("fever", "1"), None);
}

#[test]
fn growth_off_the_band_shows_and_goes() {
    let mut platform = platform();
    // Well, then hardly for three weeks, then well again.
    weekly(&mut platform, "slow", &[26.0, 30.5, 35.5, 41.0, 42.0, 43.0, 43.5]);
    let message = platform.alarm_standing("growth-off-band", "slow").unwrap().to_owned();
    assert!(message.starts_with("41.0 to 43.5 kg in 21 days: "), "{message}");
    weekly(&mut platform, "slow", &[26.0, 30.5, 35.5, 41.0, 42.0, 43.0, 43.5, 49.5, 56.0, 62.5, 70.0]);
    assert_eq!(platform.alarm_standing("growth-off-band", "slow"), None);
    weekly(&mut platform, "fast", &[26.0, 35.0, 47.0, 60.0]);
    assert!(platform.alarm_standing("growth-off-band", "fast").unwrap().contains("is it the same animal?"));
    // What is slow for one breed is well for another.
    let nero = [26.0, 29.0, 32.0, 35.5, 39.5, 43.5];
    weekly(&mut platform, "nero", &nero);
    assert!(platform.alarm_standing("growth-off-band", "nero").is_some());
    let mut parma = self::platform();
    parma.set("breed", "nero-di-parma");
    weekly(&mut parma, "nero", &nero);
    assert_eq!(parma.alarm_standing("growth-off-band", "nero"), None);
}

#[test]
fn a_vaccination_is_asked_for_then_missed() {
    let mut platform = platform();
    platform.set("vaccinations", "mycoplasma@21, erysipelas@84");
    platform.set("age-at-first-weighing", "70");
    // Seen each day; 70 days old on day 0, so day 84 of life is day 14.
    let see = |platform: &mut Platform, number: u64| {
        let synthetic_temperature = 39.0;
        let batch = testing::batch([("temperature", "1", day(number), synthetic_temperature)]);
        platform.consume::<Pigs>(&batch).expect_ok();
    };
    platform.consume::<Pigs>(&testing::batch([("weight", "1", day(0), 26.0)])).expect_ok();
    let mut stood = Vec::new();
    for number in 1..=50 {
        see(&mut platform, number);
        mornings(&mut platform, number + 1..number + 2);
        let stands = |alarm| platform.alarm_standing(alarm, "1").is_some();
        stood.push((number + 1, stands("vaccination-due"), stands("vaccination-overdue")));
    }
    let days = |of: fn(&(u64, bool, bool)) -> bool| {
        stood.iter().filter(|day| of(day)).map(|day| day.0).collect::<Vec<_>>()
    };
    // At six in the morning it is not quite a day older: due from day 15 on for its week, overdue for four.
    assert_eq!(days(|day| day.1), (15..22).collect::<Vec<_>>());
    assert_eq!(days(|day| day.2), (22..50).collect::<Vec<_>>());
}

#[test]
fn a_vaccination_that_was_given_clears_its_alarm() {
    let mut platform = platform();
    platform.set("vaccinations", "erysipelas@84, flu@85");
    platform
        .consume::<Pigs>(&testing::batch([("weight", "1", day(0), 26.0), ("weight", "1", day(7), 30.0)]))
        .expect_ok();
    mornings(&mut platform, 1..17);
    let message = platform.alarm_standing("vaccination-due", "1").unwrap().to_owned();
    assert_eq!(message, "erysipelas (day 84 of life to day 91), flu (day 85 of life to day 92)");
    let given = |platform: &mut Platform, name: &str| {
        let batch = BatchBuilder::new().push("vaccinated", "1", day(16), name).build();
        platform.consume::<Pigs>(&batch).expect_ok().refused
    };
    assert!(given(&mut platform, "measles")[0].reason.contains("erysipelas, flu"));
    assert!(given(&mut platform, "erysipelas").is_empty());
    assert_eq!(platform.alarm_standing("vaccination-due", "1"), Some("flu"));
    assert!(given(&mut platform, "flu").is_empty());
    assert_eq!(platform.alarm_standing("vaccination-due", "1"), None);
    mornings(&mut platform, 17..26);
    assert_eq!(platform.alarm_standing("vaccination-due", "1"), None);
    assert_eq!(platform.alarm_standing("vaccination-overdue", "1"), None);
}

#[test]
fn the_day_of_birth_counts_where_it_is_known() {
    let mut platform = platform();
    platform.set("vaccinations", "flu@30");
    // Born on 2 February: 28 days old on day 0.
    let batch =
        BatchBuilder::new().push("birth", "1", day(0), "2026-02-02").push("weight", "1", day(0), 7.5).build();
    platform.consume::<Pigs>(&batch).expect_ok();
    mornings(&mut platform, 1..2);
    assert_eq!(platform.alarm_standing("vaccination-due", "1"), None);
    mornings(&mut platform, 2..3);
    assert_eq!(platform.alarm_standing("vaccination-due", "1"), Some("flu (day 30 of life to day 37)"));
    let wrong = |text: &str| {
        let mut platform = self::platform();
        let batch = BatchBuilder::new().push("birth", "1", day(0), text).build();
        platform.consume::<Pigs>(&batch).expect_ok().refused
    };
    assert!(wrong("last spring")[0].reason.contains("write it as 2026-03-01"));
    assert!(wrong("2026-03-20")[0].reason.contains("-18 days old"));
    assert!(wrong("1999-01-01")[0].reason.contains("days old"));
    assert!(wrong("2026-02-02T05:00:00Z").is_empty());
}

#[test]
fn an_animal_that_stays_away_is_missed_and_in_the_end_forgotten() {
    let mut platform = platform();
    weekly(&mut platform, "1", &[26.0, 30.0]);
    mornings(&mut platform, 8..18);
    assert_eq!(platform.alarm_standing("animal-not-seen", "1"), None);
    mornings(&mut platform, 18..19);
    assert_eq!(platform.alarm_standing("animal-not-seen", "1"), Some("last seen 11 days ago"));
    platform.consume::<Pigs>(&testing::batch([("weight", "1", day(20), 38.0)])).expect_ok();
    assert_eq!(platform.alarm_standing("animal-not-seen", "1"), None);
    mornings(&mut platform, 21..80);
    assert!(platform.alarm_standing("animal-not-seen", "1").is_some());
    mornings(&mut platform, 80..82);
    assert!(platform.alarms().is_empty() && platform.state().is_empty(), "its ledger is closed");
}

#[test]
fn an_animal_with_its_weight_is_taken_as_sold() {
    let mut platform = platform();
    weekly(&mut platform, "1", &[78.0, 85.0, 92.0]);
    mornings(&mut platform, 15..60);
    assert!(platform.alarms().is_empty());
}

#[test]
fn bad_readings_are_skipped_and_impossible_ones_refused_alone() {
    let mut platform = platform();
    let batch = BatchBuilder::new()
        .push("weight", "1", day(0), 26.0)
        .push_with("weight", "1", day(7), Quality::Bad, f64::NAN)
        .push("weight", "1", day(7), 260.0)
        .push("weight", "2", day(7), 27.0)
        .push_with("weight", "1", day(7), Quality::Uncertain, 30.2)
        .build();
    let done = platform.consume::<Pigs>(&batch).expect_ok();
    let refused: Vec<_> =
        done.refused.iter().map(|refused| (refused.entity.to_string(), refused.reason.clone())).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(
        refused[0].0 == "1" && refused[0].1.starts_with("260 kg can't be, 7.0 days after 26 kg"),
        "{refused:?}"
    );
    let gains: Vec<_> = platform.values("daily-gain", "1");
    assert_eq!(gains.len(), 1);
    assert!((gains[0].1 - 0.6).abs() < 1e-12 && gains[0].0 == day(7));
}

#[test]
fn a_late_weighing_is_told_again_with_what_it_changes() {
    let mut platform = platform();
    let batch = testing::batch([
        ("weight", "1", day(0), 26.0),
        ("weight", "1", day(14), 37.0),
        ("weight", "1", day(7), 30.0),
    ]);
    platform.consume::<Pigs>(&batch).expect_ok();
    let gains = platform.values("daily-gain", "1");
    assert_eq!(gains, [(day(14), 11.0 / 14.0), (day(7), 4.0 / 7.0), (day(14), 1.0)]);
    assert_eq!(platform.values("gain-since-start", "1"), [(day(0), 0.0), (day(14), 11.0), (day(7), 4.0)]);
    // The forecast is about now, whichever weighing came last: three are enough for one.
    let times: Vec<_> = platform.values("market-day", "1").into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [day(14)]);
}

#[test]
fn a_repetition_tells_nothing() {
    let mut platform = platform();
    let batch = testing::batch([("weight", "1", day(0), 26.0), ("weight", "1", day(7), 30.0)]);
    platform.consume::<Pigs>(&batch).expect_ok();
    let (outputs, state) = (platform.outputs().len(), platform.state());
    let done = platform.consume::<Pigs>(&batch).expect_ok();
    assert!(done.refused.is_empty());
    assert_eq!((platform.outputs().len(), platform.state()), (outputs, state));
}

#[test]
fn a_wrong_setting_waits_for_the_admin_and_loses_nothing() {
    for (name, value, part) in [
        ("breed", "dachshund", "crossbred, duroc, landrace, large-white, nero-di-parma, pietrain"),
        ("market-weight", "900", "900 isn't between 5 and"),
        ("fever", "20", "20 isn't between 38 and 43"),
        ("vaccinations", "flu", "`flu` isn't `name@age`"),
        ("forget-days", "3", "3 isn't between 10 and"),
    ] {
        let mut platform = platform();
        platform.set(name, value);
        let done = platform.consume::<Pigs>(&testing::batch([("weight", "1", day(0), 26.0)]));
        let failure = done.result.unwrap_err();
        assert!(failure.is_retry(), "{name}: the readings come again");
        let text = failure.reason();
        assert!(text.contains(name) && text.contains(part), "{name}: {text}");
    }
}

#[test]
fn a_ledger_of_many_weighings_stays_small() {
    let mut platform = platform();
    for number in 0..200 {
        let kg = 26.0 + 0.4 * number as f64;
        let batch = testing::batch([
            ("weight", "1", day(number), kg),
            ("feed", "1", day(number), 1.1 * number as f64),
        ]);
        platform.consume::<Pigs>(&batch).expect_ok();
    }
    let (key, bytes) = platform.state().into_iter().next().unwrap();
    assert_eq!(key, "animal/1");
    assert!(bytes.len() < 4_096, "{} bytes", bytes.len());
}
