//! The whole app through the recorded week, with chargers that answer at once.

use charging_site::simulation::{Simulation, available};
use charging_site::week::Week;
use ironloom_sdk::testing::Datum;

use crate::yard::Yard;

/// Runs the app through the week; gives the part of the energy that is delivered, in percent. Fails where its chargers have
/// been told more than is available.
pub(crate) fn run(week: &Week, capacity: f64, with_load: bool) -> f64 {
    let mut yard = Yard::new(capacity, 0.0);
    for (setting, value) in
        [("voltage", "208"), ("time-to-live", "900"), ("stale-after", "900"), ("max-limit", "32")]
    {
        yard.platform.set(setting, value);
    }
    yard.platform.set_now(week.begin(0));
    let mut simulation = Simulation::new(week);
    for period in 0..week.periods() {
        yard.now = week.begin(period).seconds() as u64;
        let load = capacity - available(week, period, capacity, with_load);
        let readings = readings(week, &simulation, period, load);
        let readings: Vec<(&str, &str, Datum)> =
            readings.iter().map(|(s, e, d)| (*s, e.as_str(), d.clone())).collect();
        yard.read(&readings);
        // What is sent, answered and told happens in no time here: nobody draws anything meanwhile.
        yard.pass(0, true, |_, _| ());
        let (sum, available) = (yard.outbox.sum(), yard.available());
        assert!(sum <= available + 1e-6 && yard.allocated <= available + 1e-6, "{sum} A of {available} A");
        yard.sent.clear();
        let cars = simulation.present(period);
        let limits: Vec<f64> = cars.iter().map(|car| yard.outbox.told(car.station)).collect();
        simulation.charge(&cars, &limits, available).unwrap();
    }
    simulation.percentage()
}

/// The readings at the beginning of a period: the load, what the stations measured in the period before, cars that went and
/// came.
fn readings(
    week: &Week,
    simulation: &Simulation<'_>,
    period: usize,
    load: f64,
) -> Vec<(&'static str, String, Datum)> {
    let mut readings = vec![("building-load", String::new(), Datum::from(load))];
    let sessions = || week.sessions.iter().enumerate().filter(|(_, session)| session.first < session.end);
    for (place, session) in
        sessions().filter(|(_, session)| (session.first + 1..=session.end).contains(&period))
    {
        readings.push(("current", session.station.clone(), simulation.drawn(place).into()));
    }
    for (_, session) in sessions().filter(|(_, session)| session.end == period) {
        readings.push(("connected", session.station.clone(), false.into()));
    }
    for (_, session) in sessions().filter(|(_, session)| session.first == period) {
        readings.push(("energy-asked", session.station.clone(), session.energy.into()));
        readings.push(("departure", session.station.clone(), session.departure.to_string().as_str().into()));
        readings.push(("connected", session.station.clone(), true.into()));
    }
    readings
}
