//! Simulated chargers for the sample app `charging`: what they measure in a recorded week, and the limits that they are told.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use charging_site::simulation::Simulation;
use charging_site::week::Week;
use charging_site::{LEAST, MOST};
use serde_json::{Value, json};

/// More than what sums of tenths in floating point are wrong by, in ampere.
pub const HAIR: f64 = 1e-6;

/// Gives the readings at the beginning of a period, by the ends of their points such as `CA-303/current`: the load, what the
/// stations measured in the period before, cars that went and came.
pub fn readings(week: &Week, simulation: &Simulation<'_>, period: usize, load: f64) -> Vec<(String, Value)> {
    let mut readings = vec![("building/load".to_owned(), json!(load))];
    let sessions = || week.sessions.iter().enumerate().filter(|(_, session)| session.first < session.end);
    for (place, session) in sessions() {
        let station = &session.station;
        if (session.first + 1..=session.end).contains(&period) {
            readings.push((format!("{station}/current"), json!(simulation.drawn(place))));
        }
        if session.end == period {
            readings.push((format!("{station}/connected"), json!(false)));
        }
    }
    for (_, session) in sessions().filter(|(_, session)| session.first == period) {
        let station = &session.station;
        readings.push((format!("{station}/energy-asked"), json!(session.energy)));
        readings.push((format!("{station}/departure"), json!(session.departure.to_string())));
        readings.push((format!("{station}/connected"), json!(true)));
    }
    readings
}

/// The limits that chargers were told, message by message.
#[derive(Clone, Debug, Default)]
pub struct Told(BTreeMap<String, f64>);

impl Told {
    /// Takes the message of a limit, such as `{"value":16}` at `stations/CA-303/limit`; the charger obeys from now on.
    pub fn hear(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        let station = topic.split('/').nth(1).context("no station")?.to_owned();
        let payload: Value = serde_json::from_slice(payload)?;
        let limit = payload["value"].as_f64().context("no limit")?;
        ensure!(limit == 0.0 || (LEAST..=MOST).contains(&limit), "{station} was told {limit} A");
        self.0.insert(station, limit);
        Ok(())
    }

    /// The limit of a charger, in ampere; 0 before it was told any.
    pub fn limit(&self, station: &str) -> f64 {
        self.0.get(station).copied().unwrap_or_default()
    }

    /// All limits together, in ampere.
    pub fn sum(&self) -> f64 {
        self.0.values().sum()
    }
}
