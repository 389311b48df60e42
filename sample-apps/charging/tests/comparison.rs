//! The comparison: a recorded week with the app and with four other schedulers, under an upper bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod outbox;
mod week;
mod yard;

use charging::plan::{Claim, Rules, plan};
use charging_site::baselines::{self, Baseline};
use charging_site::bound::upper_bound;
use charging_site::simulation::{Car, run};
use charging_site::week::Week;
use charging_site::{CAPACITIES, MOST, VOLTAGE};

/// As on a site without priorities and with the default fairness.
const RULES: Rules = Rules { kilowatts: VOLTAGE / 1_000.0, fairness: 0.0 };
const APP: &str = "this app";
const BOUND: &str = "upper bound";

fn claim<'c>(car: &Car<'c>) -> Claim<'c> {
    Claim {
        station: car.station,
        priority: 1,
        remaining: car.remaining,
        served: 1.0 - car.remaining / car.energy,
        leaves_in: car.leaves_in,
        most: MOST,
        charging: car.charging,
    }
}

fn plan_alone(available: f64, cars: &[Car<'_>]) -> Vec<f64> {
    plan(&RULES, available, &cars.iter().map(claim).collect::<Vec<_>>())
}

/// A line of the table: the delivered part of the energy in percent, for each capacity.
struct Line {
    name: &'static str,
    figures: [f64; CAPACITIES.len()],
}

impl Line {
    fn of(week: &Week, with_load: bool, name: &'static str, schedule: Baseline) -> Self {
        Self { name, figures: CAPACITIES.map(|capacity| run(week, capacity, with_load, schedule).unwrap()) }
    }

    fn mean(&self) -> f64 {
        self.figures.iter().sum::<f64>() / self.figures.len() as f64
    }

    /// As it stands in the README.
    fn text(&self) -> String {
        let figures = self.figures.into_iter().chain([self.mean()]).map(|figure| format!("{figure:.2} |"));
        format!("| {} | {}", self.name, figures.collect::<Vec<_>>().join(" "))
    }
}

fn compare(with_load: bool) {
    let week = Week::caltech().unwrap();
    let others: Vec<Line> =
        baselines::ALL.iter().map(|&(name, schedule)| Line::of(&week, with_load, name, schedule)).collect();
    let plan = Line::of(&week, with_load, "its plan alone", plan_alone);
    let app = Line { name: APP, figures: CAPACITIES.map(|capacity| week::run(&week, capacity, with_load)) };
    let bound =
        Line { name: BOUND, figures: CAPACITIES.map(|capacity| upper_bound(&week, capacity, with_load)) };
    for line in others.iter().chain([&plan, &app, &bound]) {
        println!("{} {:.4?} {:.4}", line.text(), line.figures, line.mean());
    }
    for ours in [&plan, &app] {
        // On the mean at least as much as the best of them, and nowhere more than half a percentage point less.
        assert!(others.iter().all(|other| ours.mean() >= other.mean()), "{}", ours.name);
        for (place, capacity) in CAPACITIES.iter().enumerate() {
            let best = others.iter().map(|other| other.figures[place]).fold(0.0, f64::max);
            assert!(ours.figures[place] >= best - 0.5, "{} at {capacity} A", ours.name);
        }
    }
    for line in others.iter().chain([&plan, &app]) {
        let holds = line.figures.iter().zip(bound.figures).all(|(figure, bound)| *figure <= bound + 1e-6);
        assert!(holds, "{} delivers more than can be", line.name);
    }
    let readme = include_str!("../README.md");
    for line in others.iter().chain([&app, &bound]) {
        assert!(readme.contains(&line.text()), "the README's table lacks the line {}", line.text());
    }
}

#[test]
fn without_a_load_of_the_building_no_scheduler_delivers_more() {
    compare(false);
}

#[test]
fn with_the_load_of_a_building_no_scheduler_delivers_more() {
    compare(true);
}
