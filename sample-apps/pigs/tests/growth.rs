//! The forecast against curves that are known, since the test drew them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use pigs::bands::Breed;
use pigs::growth::{Forecast, HORIZON, Model, Weighing};
use pigs::ledger::SCATTER;

/// Draws numbers; the same ones each time.
struct Draw(u64);

impl Draw {
    /// Evenly from 0 to 1 (splitmix64).
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From the standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.even()).ln()).sqrt() * (std::f64::consts::TAU * self.even()).cos()
    }
}

/// Weighs an animal each week until it passes a weight: the weighings before, and the day of passing.
fn grow(draw: &mut Draw, target: f64) -> Option<(Vec<Weighing>, f64)> {
    let prior = Breed::find("crossbred").unwrap().prior();
    let mature = prior.mature * (prior.mature_spread * draw.normal()).exp();
    let rate = prior.rate * (prior.rate_spread * draw.normal()).exp();
    let start = 26.0 * (0.12 * draw.normal()).exp();
    // The equation itself, an eighth of a day at a time (Euler and Maruyama).
    let steps = 8;
    let pace = 1.0 / f64::from(steps);
    let mut level = start.ln();
    let mut weighings: Vec<Weighing> = Vec::new();
    for week in 0..60 {
        let day = 7.0 * f64::from(week);
        for _ in 0..if week > 0 { 7 * steps } else { 0 } {
            level += rate * (mature.ln() - level) * pace + SCATTER.drift * pace.sqrt() * draw.normal();
        }
        let scatter = (SCATTER.fill.powi(2) + (SCATTER.scale / level.exp()).powi(2)).sqrt();
        let kg = (level + scatter * draw.normal()).exp();
        if kg >= target {
            let before = weighings.last()?;
            return Some((weighings.clone(), before.day + 7.0 * (target - before.kg) / (kg - before.kg)));
        }
        weighings.push(Weighing::new(day, kg));
    }
    None
}

fn model() -> Model {
    Model::new(&Breed::find("crossbred").unwrap().prior(), &SCATTER)
}

fn reaches(weighings: &[Weighing], kg: f64) -> Forecast {
    model().fit(weighings.iter().copied()).unwrap().reaches(kg)
}

#[test]
fn the_interval_holds_nine_days_in_ten_of_animals_that_grow_as_assumed() {
    let mut draw = Draw(1);
    let (mut animals, mut held, mut early) = (0, 0, 0);
    while animals < 2_000 {
        let Some((weighings, day)) = grow(&mut draw, 90.0) else { continue };
        if weighings.len() < 6 {
            continue;
        }
        // Half way: it can't be told by the number of weighings how near the end is.
        let forecast = reaches(&weighings[..weighings.len() / 2 + 1], 90.0);
        animals += 1;
        held += i32::from(forecast.low <= day && day <= forecast.high);
        early += i32::from(day < forecast.day);
        assert!(forecast.low <= forecast.day && forecast.day <= forecast.high);
    }
    // Two thousand draws at 0.9 lie within 0.02 of it with a probability of 0.997. Weekly
    // weighings see the passing through the scatter, hence a little more room.
    let share = f64::from(held) / f64::from(animals);
    assert!((0.87..=0.93).contains(&share), "{share}");
    let early = f64::from(early) / f64::from(animals);
    assert!((0.44..=0.56).contains(&early), "{early} of the days are before the median");
}

#[test]
fn without_scatter_the_median_finds_the_day() {
    // The breed's own curve: from 27 kg to 90 kg, solved for the day.
    let (mature, rate, start) = (230.0_f64, 0.0126, 27.0);
    let kg = |day: f64| mature * (-(mature / start).ln() * (-rate * day).exp()).exp();
    let day = ((mature / start).ln() / (mature / 90.0).ln()).ln() / rate;
    for weeks in [3, 6, 9] {
        let weighings: Vec<_> =
            (0..weeks).map(|week| 7.0 * f64::from(week)).map(|day| Weighing::new(day, kg(day))).collect();
        let forecast = reaches(&weighings, 90.0);
        assert!((forecast.day - day).abs() < 2.0, "{weeks}: {forecast:?}, and {day} is right");
    }
}

#[test]
fn more_weighings_narrow_the_interval() {
    let kg = |day: f64| 230.0 * (-(230.0_f64 / 27.0).ln() * (-0.0126 * day).exp()).exp();
    let width = |weeks: i32| {
        let weighings: Vec<_> =
            (0..weeks).map(|week| 7.0 * f64::from(week)).map(|day| Weighing::new(day, kg(day))).collect();
        let forecast = reaches(&weighings, 90.0);
        forecast.high - forecast.low
    };
    assert!(width(3) > width(6) && width(6) > width(9));
}

#[test]
fn one_glitch_of_the_scale_does_not_bend_the_curve() {
    let kg = |day: f64| 230.0 * (-(230.0_f64 / 27.0).ln() * (-0.0126 * day).exp()).exp();
    let mut weighings: Vec<_> =
        (0..9).map(|week| 7.0 * f64::from(week)).map(|day| Weighing::new(day, kg(day))).collect();
    let before = reaches(&weighings, 90.0);
    weighings[6] = Weighing::new(weighings[6].day, 0.8 * weighings[6].kg);
    let after = reaches(&weighings, 90.0);
    assert!((after.day - before.day).abs() < 2.5, "{before:?} became {after:?}");
}

#[test]
fn nothing_makes_it_stray() {
    let at = Weighing::new;
    // One weighing; an animal that starves; one that is there; one that will never be; a year's gap.
    let cases: [(&[Weighing], f64); 6] = [
        (&[at(0.0, 26.0)], 90.0),
        (&[at(0.0, 60.0), at(7.0, 50.0), at(14.0, 42.0), at(21.0, 36.0)], 90.0),
        (&[at(0.0, 80.0), at(7.0, 89.9)], 90.0),
        (&[at(0.0, 26.0), at(7.0, 26.0), at(14.0, 26.0)], 200.0),
        (&[at(0.0, 1.4), at(365.0, 80.0)], 90.0),
        (&[at(0.0, 120.0), at(0.05, 120.0)], 90.0),
    ];
    for (weighings, kg) in cases {
        let last = weighings.last().unwrap().day;
        let forecast = reaches(weighings, kg);
        for day in [forecast.low, forecast.day, forecast.high] {
            assert!(day >= last && day <= last + HORIZON, "{weighings:?}: {forecast:?}");
        }
        assert!(forecast.low <= forecast.day && forecast.day <= forecast.high, "{weighings:?}: {forecast:?}");
    }
    assert!(model().fit(std::iter::empty()).is_none());
}

#[test]
fn the_chance_rises_with_the_days() {
    let mut draw = Draw(7);
    for _ in 0..200 {
        let Some((weighings, _)) = grow(&mut draw, 90.0) else { continue };
        let model = model();
        let fit = model.fit(weighings.iter().copied()).unwrap();
        let last = weighings.last().unwrap().day;
        let chances: Vec<f64> = (0..60).map(|day| fit.chance(last + f64::from(day), 90.0)).collect();
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(chances.first() < chances.last());
    }
}
