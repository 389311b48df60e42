//! How the scatter of the forecast was chosen: `cargo test -p pigs --release --test calibration -- --nocapture` shows it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod dietox;

use std::collections::BTreeMap;

use pigs::bands::Breed;
use pigs::growth::{Model, Scatter, Weighing};
use pigs::ledger::SCATTER;

/// The weighings of the pigs of even litters. The others have no part in the choice.
fn even_litters() -> Vec<(String, Vec<Weighing>)> {
    let mut pigs: BTreeMap<String, Vec<Weighing>> = BTreeMap::new();
    for row in dietox::rows().into_iter().filter(|row| row.litter.is_multiple_of(2)) {
        pigs.entry(row.pig).or_default().push(Weighing::new(7.0 * f64::from(row.week - 1), row.weight));
    }
    pigs.into_iter().collect()
}

fn model(scatter: &Scatter) -> Model {
    Model::new(&Breed::find("crossbred").unwrap().prior(), scatter)
}

/// The log score of the weights one and three weeks ahead, from the third weighing on.
fn log_score(pigs: &[(String, Vec<Weighing>)], scatter: &Scatter) -> f64 {
    let model = model(scatter);
    let mut score = 0.0;
    for (_, weighings) in pigs {
        for known in 3..weighings.len() {
            let fit = model.fit(weighings[..known].iter().copied()).unwrap();
            for ahead in [weighings.get(known), weighings.get(known + 2)].into_iter().flatten() {
                let step = 0.002;
                let (below, above) = (ahead.kg * (1.0 - step), ahead.kg * (1.0 + step));
                let density = (fit.chance(ahead.day, below) - fit.chance(ahead.day, above)) / (2.0 * step);
                score += density.max(1e-6).ln();
            }
        }
    }
    score
}

/// The share of days of passing 90 kg that the interval holds, from the eighth weighing on.
fn held(pigs: &[(String, Vec<Weighing>)], scatter: &Scatter) -> f64 {
    let model = model(scatter);
    let passing = dietox::passing(90.0);
    let (mut held, mut count) = (0.0, 0.0);
    for (pig, weighings) in pigs {
        let Some(day) = passing.get(pig).map(|week| 7.0 * (week - 1.0)) else { continue };
        for known in 8..=weighings.len() {
            if weighings[known - 1].day < day {
                let forecast = model.fit(weighings[..known].iter().copied()).unwrap().reaches(90.0);
                count += 1.0;
                held += if forecast.low <= day && day <= forecast.high { 1.0 } else { 0.0 };
            }
        }
    }
    held / count
}

#[test]

fn the_scatter_is_the_one_that_the_even_litters_choose() {
    let pigs = even_litters();
    let mut best = (f64::NEG_INFINITY, 0.0);
    for fill in [0.01, 0.0125, 0.015, 0.0175, 0.02, 0.0225] {
        for drift in [0.005, 0.006, 0.007, 0.008, 0.009, 0.01] {
            let score = log_score(&pigs, &Scatter { fill, drift, ..SCATTER });
            println!("fill {fill} drift {drift}: log score {score:.1}");
            if score > best.0 {
                best = (score, fill);
            }
        }
    }
    assert_eq!(best.1, SCATTER.fill);
    let share = |drift: f64| held(&pigs, &Scatter { drift, ..SCATTER });
    let drifts = [0.005, 0.006, 0.007, 0.008, 0.009, 0.01];
    for drift in drifts {
        println!("fill {} drift {drift}: {:.1} % held", SCATTER.fill, 100.0 * share(drift));
    }
    assert_eq!(drifts.into_iter().find(|&drift| share(drift) >= 0.9), Some(SCATTER.drift));
}
