//! The trial's real weighings through the whole app, against figures computed from the file by other code.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod dietox;

use std::collections::BTreeMap;

use ironloom_sdk::prelude::*;
use ironloom_sdk::testing::{BatchBuilder, Output, Platform};
use pigs::Pigs;

fn platform() -> Platform {
    Platform::from_manifest(include_str!("../app.toml"))
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Feeds the sample, `size` rows of weight and feed at a time.
fn feed(platform: &mut Platform, size: usize) {
    feed_in_order(platform, size, &["weight", "feed"]);
}

fn feed_in_order(platform: &mut Platform, size: usize, order: &[&str]) {
    for rows in dietox::fed().chunks(size) {
        let mut batch = BatchBuilder::new();
        for row in rows {
            let at = time(&row.at);
            for &slot in order {
                let value = if slot == "weight" { Some(row.weight) } else { row.feed };
                if let Some(value) = value {
                    batch.push(slot, &row.pig, at, value);
                }
            }
        }
        let done = platform.consume::<Pigs>(&batch.build()).expect_ok();
        assert!(done.refused.is_empty(), "every weighing of the trial is believed: {:?}", done.refused);
    }
}

/// When each pig was weighed in each week.
fn times() -> BTreeMap<(String, u32), Timestamp> {
    dietox::fed().into_iter().map(|row| ((row.pig, row.week), time(&row.at))).collect()
}

fn real(output: &Output) -> f64 {
    match output.value {
        ironloom_sdk::testing::Datum::Real(value) => value,
        ref other => panic!("{} is real, not {other:?}", output.output),
    }
}

#[test]
fn gains_and_ratios_are_those_of_the_file() {
    let mut platform = platform();
    feed(&mut platform, 100);
    let mut told: BTreeMap<(String, String, Timestamp), f64> = BTreeMap::new();
    for output in platform.outputs() {
        if !output.output.starts_with("market-day") {
            let key = (output.output.to_string(), output.entity.to_string(), output.at);
            assert!(told.insert(key, real(&output)).is_none(), "{output:?} was told twice");
        }
    }
    let times = times();
    let mut counts = [0; 3];
    for ((pig, week), expected) in dietox::expected() {
        let mut take =
            |output: &str| told.remove(&(output.to_owned(), pig.clone(), times[&(pig.clone(), week)]));
        let found = [take("daily-gain"), take("gain-since-start"), take("feed-conversion")];
        let wanted = [expected.daily_gain, Some(expected.gain), expected.conversion];
        for (place, (found, wanted)) in found.into_iter().zip(wanted).enumerate() {
            match (found, wanted) {
                (Some(found), Some(wanted)) if dietox::close(found, wanted) => counts[place] += 1,
                (None, None) => {}
                other => panic!("pig {pig} week {week}, output {place}: {other:?}"),
            }
        }
    }
    assert!(told.is_empty(), "nothing else was told: {told:?}");
    // 861 weighings of 72 pigs. Feed is missing at the first ones, and once there is no gain.
    assert_eq!(counts, [861 - 72, 861, 861 - 72 - 1]);
}

#[test]
fn neither_edges_of_batches_nor_the_order_of_columns_change_anything() {
    let run = |size, order: [&str; 2]| {
        let mut platform = platform();
        feed_in_order(&mut platform, size, &order);
        let outputs: Vec<_> = platform
            .outputs()
            .iter()
            .map(|output| {
                (output.entity.to_string(), output.output.to_string(), output.at, real(output).to_bits())
            })
            .collect();
        let mut sorted = outputs.clone();
        sorted.sort();
        (sorted, platform.state(), platform.alarms().clone())
    };
    let whole = run(861, ["weight", "feed"]);
    for other in [run(1, ["weight", "feed"]), run(7, ["weight", "feed"]), run(50, ["feed", "weight"])] {
        assert!(other == whole);
    }
}

/// How the interval did among some of the pigs.
#[derive(Default)]
struct Tally {
    held: usize,
    early: usize,
    late: usize,
    widths: Vec<f64>,
    misses: Vec<f64>,
}

impl Tally {
    fn count(&self) -> usize {
        self.held + self.early + self.late
    }

    fn share(&self) -> f64 {
        self.held as f64 / self.count() as f64
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (count, widest) = (self.count(), self.widths.iter().copied().fold(0.0, f64::max));
        write!(
            f,
            "{} of {count} held ({:.1} %), {} passed earlier, {} later; width median {:.1} d, widest {widest:.1} d; \
             the median misses by {:.1} d (median)",
            self.held,
            100.0 * self.share(),
            self.early,
            self.late,
            median(&self.widths),
            median(&self.misses)
        )
    }
}

#[test]
fn the_day_of_passing_90_kg_lies_in_the_interval() {
    let mut platform = platform();
    platform.set("market-weight", "90");
    feed(&mut platform, 64);
    let litters: BTreeMap<String, u32> =
        dietox::rows().into_iter().map(|row| (row.pig, row.litter)).collect();
    let times = times();
    let passing = dietox::passing(90.0);
    assert_eq!(passing.len(), 64);
    let (mut all, mut even, mut odd) = (Tally::default(), Tally::default(), Tally::default());
    let mut weeks: BTreeMap<u32, Tally> = BTreeMap::new();
    for (pig, &passed) in &passing {
        let first = times[&(pig.clone(), 1)].nanos() as f64 / 86_400e9;
        let day = first + 7.0 * (passed - 1.0);
        let of = |output: &str| platform.values(output, pig).into_iter().collect::<BTreeMap<_, _>>();
        let (lows, days, highs) = (of("market-day-low"), of("market-day"), of("market-day-high"));
        // From week 8 on, while the animal has yet to pass.
        for week in (8..=12).filter(|&week| f64::from(week) < passed) {
            let at = times[&(pig.clone(), week)];
            let (low, high) = (lows[&at], highs[&at]);
            let half = if litters[pig].is_multiple_of(2) { &mut even } else { &mut odd };
            for tally in [&mut all, half, weeks.entry(week).or_default()] {
                match () {
                    () if day < low => tally.early += 1,
                    () if day > high => tally.late += 1,
                    () => tally.held += 1,
                }
                tally.widths.push(high - low);
                tally.misses.push((days[&at] - day).abs());
            }
        }
        // Once it has passed, the day is known.
        let last = *times.range((pig.clone(), 0)..=(pig.clone(), 99)).next_back().unwrap().1;
        assert!((days[&last] - day).abs() < 1e-6 && lows[&last] == highs[&last], "{pig}");
    }
    println!("all pigs:     {all}");
    println!("even litters: {even} (the scatter was chosen among them)");
    println!("odd litters:  {odd} (they had no part in it)");
    for (week, tally) in &weeks {
        println!("week {week:>2}:      {tally}");
    }
    for tally in [&all, &even, &odd] {
        assert!(tally.share() >= 0.8, "{tally}");
        // A wide interval would hold everything and say nothing: two weeks at most, half of the time.
        assert!(median(&tally.widths) <= 14.0, "{tally}");
    }
    // In each week as well, and with each animal counted once.
    assert!(weeks.values().all(|tally| tally.share() >= 0.8));
}

#[test]
fn weighings_are_made_of_the_published_file() {
    let fed = dietox::fed();
    assert!(fed.is_sorted_by(|a, b| time(&a.at) < time(&b.at)), "sorted by time, no two at once");
    let mut published: Vec<_> =
        dietox::rows().into_iter().map(|row| (row.pig, row.week, row.weight, row.feed)).collect();
    let mut made: Vec<_> = fed.into_iter().map(|row| (row.pig, row.week, row.weight, row.feed)).collect();
    let order = |a: &(String, u32, f64, Option<f64>), b: &(String, u32, f64, Option<f64>)| {
        (&a.0, a.1).cmp(&(&b.0, b.1))
    };
    published.sort_by(order);
    made.sort_by(order);
    assert_eq!(published, made);
}
