//! What the trial's file says must come out, computed straight from its columns and by none of the app's code.
//!
//! Needs nothing but the standard library, so that other tests can include it by its path.

#![allow(dead_code, reason = "not each test that includes this uses all of it")]

use std::collections::BTreeMap;

/// The file as published.
pub(crate) const DIETOX: &str = include_str!("../../data/dietox.csv");
/// The file as it is fed.
pub(crate) const WEIGHINGS: &str = include_str!("../../data/weighings.csv");

/// One row of the published file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub pig: String,
    pub litter: u32,
    /// Counted from 1.
    pub week: u32,
    /// Weight at the first weighing, by the file's own column.
    pub start: f64,
    pub weight: f64,
    pub feed: Option<f64>,
}

/// One row of the file that is fed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fed {
    /// A time as RFC 3339.
    pub at: String,
    pub week: u32,
    pub pig: String,
    pub weight: f64,
    pub feed: Option<f64>,
}

/// What must come out about one weighing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    pub pig: String,
    pub week: u32,
    /// kg/d; nothing at the first weighing.
    pub daily_gain: Option<f64>,
    /// Weight in kilograms.
    pub gain: f64,
    /// Nothing without feed, and nothing where nothing was gained.
    pub conversion: Option<f64>,
}

/// The published rows, in the order of the file.
pub(crate) fn rows() -> Vec<Row> {
    DIETOX.lines().skip(1).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.split(',').collect();
    let [_, pig, _, _, litter, start, weight, feed, week] = cells[..] else {
        panic!("nine columns, not: {line}")
    };
    Row {
        pig: pig.to_owned(),
        litter: litter.parse().unwrap(),
        week: week.parse().unwrap(),
        start: start.parse().unwrap(),
        weight: weight.parse().unwrap(),
        feed: (!feed.is_empty()).then(|| feed.parse().unwrap()),
    }
}

/// The rows that are fed, in the order of their times.
pub(crate) fn fed() -> Vec<Fed> {
    let cells = |line: &'static str| line.split(',').collect::<Vec<_>>();
    let row = |line| match cells(line)[..] {
        [at, week, pig, _, weight, feed] => Fed {
            at: at.to_owned(),
            week: week.parse().unwrap(),
            pig: pig.to_owned(),
            weight: weight.parse().unwrap(),
            feed: (!feed.is_empty()).then(|| feed.parse().unwrap()),
        },
        _ => panic!("six columns, not: {line}"),
    };
    WEIGHINGS.lines().skip(1).map(row).collect()
}

/// What must come out, by pig and week: weeks are 7 days.
pub(crate) fn expected() -> BTreeMap<(String, u32), Expected> {
    let rows = rows();
    let weights: BTreeMap<(&str, u32), f64> =
        rows.iter().map(|row| ((row.pig.as_str(), row.week), row.weight)).collect();
    let expect = |row: &Row| {
        let gain = row.weight - row.start;
        Expected {
            pig: row.pig.clone(),
            week: row.week,
            daily_gain: weights
                .get(&(row.pig.as_str(), row.week - 1))
                .map(|before| (row.weight - before) / 7.0),
            gain,
            conversion: row.feed.filter(|_| row.week > 1 && gain > 0.0).map(|feed| feed / gain),
        }
    };
    rows.iter().map(|row| ((row.pig.clone(), row.week), expect(row))).collect()
}

/// The week, with fractions, in which each pig passed a weight, linear between its weighings; pigs that didn't are left out.
pub(crate) fn passing(kg: f64) -> BTreeMap<String, f64> {
    let mut passed = BTreeMap::new();
    let rows = rows();
    for pair in rows.windows(2) {
        let [before, after] = pair else { continue };
        if before.pig == after.pig
            && before.weight < kg
            && after.weight >= kg
            && !passed.contains_key(&after.pig)
        {
            let part = (kg - before.weight) / (after.weight - before.weight);
            passed.insert(
                after.pig.clone(),
                f64::from(before.week) + part * f64::from(after.week - before.week),
            );
        }
    }
    passed
}

/// Whether two figures are equal to 1e-9 of the larger.
pub(crate) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-300)
}
