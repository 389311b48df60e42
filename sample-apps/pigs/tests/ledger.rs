//! One animal's ledger: what a farmer expects of odd weighings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use pigs::ledger::{DAY, Entered, KEPT, Ledger, Nanos};

const START: Nanos = 20_000 * DAY;

fn day(days: f64) -> Nanos {
    START + (days * DAY as f64) as Nanos
}

fn ledger(weighings: &[(f64, f64)]) -> Ledger {
    let mut ledger = Ledger::default();
    for &(at, kg) in weighings {
        ledger.weigh(day(at), kg).unwrap();
    }
    ledger
}

fn weights(ledger: &Ledger) -> Vec<f64> {
    ledger.entries().iter().map(|entry| entry.kg).collect()
}

#[test]
fn gains_are_between_neighbours_and_since_the_first() {
    let ledger = ledger(&[(0.0, 26.0), (7.0, 30.2), (14.0, 36.5)]);
    let (at, first) = ledger.figures(0).unwrap();
    assert_eq!((at, first.daily_gain, first.gain, first.conversion), (START, None, 0.0, None));
    let (_, last) = ledger.figures(2).unwrap();
    assert!((last.daily_gain.unwrap() - 0.9).abs() < 1e-12);
    assert_eq!(last.gain, 10.5);
}

#[test]
fn a_repeated_weighing_is_known_and_a_corrected_one_replaces() {
    let mut ledger = ledger(&[(0.0, 26.0), (7.0, 30.0), (14.0, 37.0)]);
    assert_eq!(ledger.weigh(day(7.0), 30.0), Ok(Entered::Known));
    let Ok(Entered::Changed(was)) = ledger.weigh(day(7.0), 31.4) else {
        panic!("a correction changes the ledger")
    };
    assert_eq!(weights(&ledger), [26.0, 31.4, 37.0]);
    // The gain of that week and the next, and the whole gain at that weighing alone.
    let changes = ledger.changes(&was);
    assert_eq!(changes.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [day(7.0), day(14.0)]);
    assert!((changes[0].1.daily_gain.unwrap() - 5.4 / 7.0).abs() < 1e-12);
    assert!((changes[0].1.gain.unwrap() - 5.4).abs() < 1e-12);
    assert!((changes[1].1.daily_gain.unwrap() - 5.6 / 7.0).abs() < 1e-12);
    assert_eq!(changes[1].1.gain, None);
}

#[test]
fn twice_on_the_scale_within_the_hour_is_one_visit() {
    let mut ledger = ledger(&[(0.0, 26.0), (7.0, 30.0)]);
    ledger.weigh(day(7.01), 30.4).unwrap();
    assert_eq!(weights(&ledger), [26.0, 30.4]);
    assert_eq!(ledger.entries()[1].at, day(7.01));
    ledger.weigh(day(7.2), 30.9).unwrap();
    assert_eq!(weights(&ledger), [26.0, 30.4, 30.9]);
}

#[test]
fn a_late_weighing_takes_its_place_and_corrects_what_follows() {
    let mut ledger = ledger(&[(0.0, 26.0), (14.0, 37.0), (21.0, 43.0)]);
    let Ok(Entered::Changed(was)) = ledger.weigh(day(7.0), 30.0) else {
        panic!("a late weighing changes the ledger")
    };
    assert_eq!(weights(&ledger), [26.0, 30.0, 37.0, 43.0]);
    let changes = ledger.changes(&was);
    let figures: Vec<_> =
        changes.iter().map(|(at, figures)| (*at, figures.daily_gain, figures.gain)).collect();
    assert_eq!(figures, [(day(7.0), Some(4.0 / 7.0), Some(4.0)), (day(14.0), Some(1.0), None)]);
}

#[test]
fn one_before_the_first_moves_the_start() {
    let mut ledger = ledger(&[(7.0, 30.0), (14.0, 37.0)]);
    let Ok(Entered::Changed(was)) = ledger.weigh(day(0.0), 26.0) else { panic!("it changes all gains") };
    let gains: Vec<_> = ledger.changes(&was).iter().map(|(_, figures)| figures.gain).collect();
    assert_eq!(gains, [Some(0.0), Some(4.0), Some(11.0)]);
}

#[test]
fn impossible_weights_are_refused_with_a_reason() {
    let mut ledger = ledger(&[(0.0, 26.0), (7.0, 30.0)]);
    for (kg, part) in [
        (f64::NAN, "no weight of a pig"),
        (f64::INFINITY, "no weight of a pig"),
        (0.0, "no weight of a pig"),
        (-3.0, "no weight of a pig"),
        (3_600.0, "no weight of a pig"),
        (360.0, "another pig"),
        (3.6, "half of this one"),
        (72.0, "7.0 days after 30 kg"),
    ] {
        let mut ledger = ledger.clone();
        let reason = ledger.weigh(day(14.0), kg).unwrap_err();
        assert!(reason.contains(part), "{kg}: {reason}");
        assert_eq!(weights(&ledger), [26.0, 30.0]);
    }
    // A late one has to fit the weighings on both sides.
    let reason = ledger.weigh(day(3.0), 90.0).unwrap_err();
    assert!(reason.contains("after 26 kg"), "{reason}");
    let mut old = self::ledger(&[(100.0, 90.0)]);
    assert!(old.weigh(day(95.0), 300.0).unwrap_err().contains("before 90 kg"));
}

#[test]
fn ordinary_glitches_are_believed() {
    // The largest in the sample data: 12.2 kg lost in a week and 25.8 gained the next.
    let ledger = ledger(&[(0.0, 75.4), (7.0, 63.2), (14.0, 89.0)]);
    assert_eq!(weights(&ledger), [75.4, 63.2, 89.0]);
}

#[test]
fn two_that_agree_overrule_a_wrong_one() {
    // The first weighing lost its decimal point: without this all later ones were refused for ever.
    let mut ledger = ledger(&[(0.0, 260.0)]);
    assert!(ledger.weigh(day(7.0), 30.0).is_err());
    assert_eq!(ledger.weigh(day(14.0), 36.0), Ok(Entered::Dropped(1)));
    assert_eq!(weights(&ledger), [36.0]);
    // Two odd ones that don't agree prove nothing, nor does the same one twice.
    let mut ledger = self::ledger(&[(0.0, 26.0), (7.0, 30.0)]);
    assert!(ledger.weigh(day(14.0), 360.0).is_err());
    assert!(ledger.weigh(day(14.0), 360.0).is_err());
    assert!(ledger.weigh(day(21.0), 4.3).is_err());
    assert_eq!(ledger.weigh(day(28.0), 50.0), Ok(Entered::Appended));
    assert!(ledger.weigh(day(35.0), 5.5).is_err());
    assert_eq!(weights(&ledger), [26.0, 30.0, 50.0]);
    // An ear tag that went to another pig: the new one begins where it stands.
    let mut ledger = self::ledger(&[(0.0, 80.0), (7.0, 88.0)]);
    assert!(ledger.weigh(day(14.0), 25.0).is_err());
    assert_eq!(ledger.weigh(day(21.0), 29.0), Ok(Entered::Dropped(2)));
    assert_eq!(weights(&ledger), [29.0]);
}

#[test]
fn a_ledger_is_bounded_and_keeps_its_first_weighing() {
    let mut ledger = Ledger::default();
    for n in 0..200 {
        ledger.weigh(day(f64::from(n)), 26.0 + 0.5 * f64::from(n)).unwrap();
    }
    assert_eq!(ledger.entries().len(), KEPT);
    assert_eq!((ledger.entries()[0].kg, ledger.entries()[1].kg), (26.0, 94.5));
    let (_, last) = ledger.figures(KEPT - 1).unwrap();
    assert_eq!((last.daily_gain, last.gain), (Some(0.5), 99.5));
    // Where weighings were dropped another one has no neighbours to count from.
    assert!(ledger.weigh(day(50.5), 51.0).unwrap_err().contains("older than"));
    // Among those that are kept it has, and the ledger stays as long as it was.
    let Ok(Entered::Changed(was)) = ledger.weigh(day(190.5), 121.5) else { panic!("it has its place") };
    assert_eq!(ledger.entries().len(), KEPT);
    let changes = ledger.changes(&was);
    assert_eq!(changes.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [day(190.5), day(191.0)]);
    // Before the first there is room as well.
    assert!(matches!(ledger.weigh(day(-7.0), 24.0), Ok(Entered::Changed(_))));
    assert_eq!((ledger.entries().len(), ledger.entries()[0].kg), (KEPT, 24.0));
}

#[test]
fn a_full_ledger_has_no_room_for_its_oldest() {
    let mut ledger = Ledger::default();
    for n in 0..KEPT {
        ledger.weigh(day(2.0 * n as f64), 26.0 + n as f64).unwrap();
    }
    assert!(ledger.weigh(day(1.0), 26.5).unwrap_err().contains("older than"));
    assert!(matches!(ledger.weigh(day(3.0), 27.5), Ok(Entered::Changed(_))));
    assert_eq!(&weights(&ledger)[..3], [26.0, 27.5, 28.0]);
}

#[test]
fn feed_belongs_to_the_nearest_weighing() {
    let mut ledger = ledger(&[(0.0, 26.0), (7.0, 30.0)]);
    assert_eq!(ledger.feed(day(7.0), 8.0), Ok(Entered::Fed(1)));
    assert_eq!(ledger.figures(1).unwrap().1.conversion, Some(2.0));
    assert_eq!(ledger.feed(day(7.0), 8.0), Ok(Entered::Known));
    // Further away than what is there: no better.
    assert_eq!(ledger.feed(day(7.3), 8.4), Ok(Entered::Known));
    assert_eq!(ledger.figures(1).unwrap().1.conversion, Some(2.0));
    // Before its weighing: it waits for it.
    assert_eq!(ledger.feed(day(13.9), 24.0), Ok(Entered::Known));
    ledger.weigh(day(14.0), 38.0).unwrap();
    assert_eq!(ledger.figures(2).unwrap().1.conversion, Some(2.0));
    // Days before, it says nothing about the weighing.
    assert_eq!(ledger.feed(day(19.0), 30.0), Ok(Entered::Known));
    ledger.weigh(day(21.0), 45.0).unwrap();
    assert_eq!(ledger.figures(3).unwrap().1.conversion, None);
}

#[test]
fn feed_at_the_first_weighing_is_where_counting_begins() {
    let mut ledger = ledger(&[(0.0, 26.0), (7.0, 30.0)]);
    ledger.feed(day(7.0), 18.0).unwrap();
    assert_eq!(ledger.figures(1).unwrap().1.conversion, Some(4.5));
    let Ok(Entered::Changed(was)) = ledger.feed(day(0.0), 10.0) else { panic!("all ratios count from it") };
    let changes = ledger.changes(&was);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].0, changes[0].1.conversion), (day(7.0), Some(2.0)));
}

#[test]
fn no_ratio_without_gain() {
    let mut ledger = ledger(&[(0.0, 26.0), (7.0, 24.1)]);
    ledger.feed(day(7.0), 5.0).unwrap();
    let (_, figures) = ledger.figures(1).unwrap();
    assert_eq!(figures.conversion, None);
    assert!(figures.gain < 0.0 && figures.daily_gain.unwrap() < 0.0);
}

#[test]
fn feed_that_falls_is_refused() {
    let mut ledger = ledger(&[(0.0, 26.0), (7.0, 30.0), (14.0, 36.0)]);
    ledger.feed(day(7.0), 12.0).unwrap();
    let reason = ledger.feed(day(14.0), 3.0).unwrap_err();
    assert!(reason.contains("from 12 to 3 kg"), "{reason}");
    assert!(ledger.feed(day(0.0), 13.0).is_err());
    for kg in [f64::NAN, -1.0, 1e6] {
        assert!(ledger.feed(day(14.0), kg).is_err());
    }
    ledger.feed(day(14.0), 25.0).unwrap();
    assert_eq!(ledger.figures(2).unwrap().1.conversion, Some(2.5));
}

#[test]
fn passing_is_linear_between_weighings_and_stays() {
    let mut pig = ledger(&[(0.0, 80.0), (7.0, 86.0), (14.0, 94.0)]);
    let passed = 20_000.0 + 7.0 + 7.0 * 4.0 / 8.0;
    assert_eq!(pig.passed(90.0), Some(passed));
    assert_eq!(pig.passed(100.0), None);
    let breed = pigs::bands::Breed::find("crossbred").unwrap();
    let model = pigs::growth::Model::new(&breed.prior(), &pigs::ledger::SCATTER);
    let reached = pig.reaches(90.0, &model).unwrap();
    assert_eq!((reached.low, reached.day, reached.high), (passed, passed, passed));
    // It may lose weight again, or its weighings may be dropped: the day stays.
    pig.weigh(day(21.0), 89.0).unwrap();
    assert_eq!(pig.passed(90.0), Some(passed));
    for n in 0..100 {
        pig.weigh(day(28.0 + f64::from(n)), 95.0).unwrap();
    }
    assert_eq!(pig.passed(90.0), Some(passed));
    assert_eq!(ledger(&[(0.0, 95.0)]).passed(90.0), Some(20_000.0));
}
