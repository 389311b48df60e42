//! Cars that charge by limits, period by period.

use anyhow::{Result, ensure};

use crate::week::Week;
use crate::{KWH, LEAST, MOST, VOLTAGE};

/// A car that is there in a period and isn't full.
#[derive(Clone, Debug, PartialEq)]
pub struct Car<'w> {
    /// Its place among the week's sessions, which are in the order of arrivals.
    pub session: usize,
    /// The station where it stands.
    pub station: &'w str,
    /// The energy that it still needs, in kWh.
    pub remaining: f64,
    /// The energy that it needs in all, in kWh.
    pub energy: f64,
    /// Hours from the beginning of the period to its departure.
    pub leaves_in: f64,
    /// It charged in the period before.
    pub charging: bool,
}

impl Car<'_> {
    /// The limit with which it is full after the period, or the highest one, in ampere.
    pub fn need(&self) -> f64 {
        (self.remaining / KWH).clamp(LEAST, MOST)
    }

    /// Hours that it can wait and still become full.
    pub fn laxity(&self) -> f64 {
        self.leaves_in - self.remaining / (MOST * VOLTAGE / 1_000.0)
    }
}

/// A week in the course of being simulated.
///
/// A test that drives real chargers by it asks for each period who is [`present`](Self::present), tells the app so, and lets the
/// cars [`charge`](Self::charge) by the limits that the chargers were told.
#[derive(Clone, Debug)]
pub struct Simulation<'w> {
    week: &'w Week,
    /// The energy that each session still needs, in kWh.
    remaining: Vec<f64>,
    /// The mean current of each session in the period before, in ampere.
    drawn: Vec<f64>,
}

impl<'w> Simulation<'w> {
    /// Before the first period.
    pub fn new(week: &'w Week) -> Self {
        let remaining: Vec<f64> = week.sessions.iter().map(|session| session.energy).collect();
        Self { week, drawn: vec![0.0; remaining.len()], remaining }
    }

    /// The cars that are there in a period and aren't full, in the order of their arrivals.
    pub fn present(&self, period: usize) -> Vec<Car<'w>> {
        let begin = self.week.begin(period);
        let sessions = self.week.sessions.iter().enumerate();
        let there = sessions.filter(|(place, session)| {
            (session.first..session.end).contains(&period) && self.remaining[*place] > 1e-9
        });
        there
            .map(|(place, session)| Car {
                session: place,
                station: &session.station,
                remaining: self.remaining[place],
                energy: session.energy,
                leaves_in: session.departure.since(begin).as_secs_f64() / 3_600.0,
                charging: self.drawn[place] > 0.0,
            })
            .collect()
    }

    /// Lets the cars of [`present`](Self::present) charge for a period by these limits, in ampere and in that order. `available` is
    /// the most that they may be together.
    ///
    /// # Errors
    /// A limit or their sum breaks the rule.
    pub fn charge(&mut self, cars: &[Car<'_>], limits: &[f64], available: f64) -> Result<()> {
        ensure!(cars.len() == limits.len(), "{} limits for {} cars", limits.len(), cars.len());
        let sum: f64 = limits.iter().sum();
        ensure!(sum <= available + 1e-6, "{sum} A of {available} A");
        self.drawn.fill(0.0);
        for (car, &limit) in cars.iter().zip(limits) {
            ensure!(
                limit == 0.0 || (LEAST - 1e-9..=MOST + 1e-9).contains(&limit),
                "{}: a limit of {limit} A",
                car.station
            );
            let energy = (limit * KWH).min(self.remaining[car.session]);
            self.remaining[car.session] -= energy;
            self.drawn[car.session] = energy / KWH;
        }
        Ok(())
    }

    /// The mean current of a session in the period before, in ampere: what its station has measured.
    pub fn drawn(&self, session: usize) -> f64 {
        self.drawn[session]
    }

    /// The energy that a session has been given so far, in kWh.
    pub fn delivered(&self, session: usize) -> f64 {
        self.week.sessions[session].energy - self.remaining[session]
    }

    /// The part of all energy that was delivered so far, in percent.
    pub fn percentage(&self) -> f64 {
        100.0 * (1.0 - self.remaining.iter().sum::<f64>() / self.week.energy())
    }
}

/// Runs a scheduler through a week; gives the part of the energy that it delivers, in percent.
///
/// `schedule` gets what is available, in ampere, and the cars of a period, and gives a limit for each.
///
/// # Errors
/// It breaks the rule.
pub fn run(
    week: &Week,
    capacity: f64,
    with_load: bool,
    mut schedule: impl FnMut(f64, &[Car<'_>]) -> Vec<f64>,
) -> Result<f64> {
    let mut simulation = Simulation::new(week);
    for period in 0..week.periods() {
        let cars = simulation.present(period);
        let available = available(week, period, capacity, with_load);
        let limits = schedule(available, &cars);
        simulation.charge(&cars, &limits, available)?;
    }
    Ok(simulation.percentage())
}

/// The current that is available in a period: the capacity, less the building's load where it counts.
pub fn available(week: &Week, period: usize, capacity: f64, with_load: bool) -> f64 {
    if with_load { (capacity - week.load(period)).max(0.0) } else { capacity }
}
