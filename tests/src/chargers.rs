//! Simulated chargers for the sample app `charging`: what they measure in a recorded week, and the limits that they are told.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use charging_site::simulation::Simulation;
use charging_site::week::Week;
use charging_site::{LEAST, MOST};
use serde_json::{Value, json};

use crate::Client;
use crate::apps::number;

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

/// Returns true where nothing is left to do for the app of this id and its set-points: all is dealt with, sent, answered, and
/// heard of by chargers, which heard so many messages.
pub fn is_quiet(client: &Client, id: &str, connector: &str, heard: u64) -> Result<bool> {
    let status = client.get(&format!("/v1/connectors/{connector}"))?.json()?;
    let sent = |name: &str| number(&status["set_points"], name);
    if sent("sent") != sent("accepted") + sent("rejected") || heard < sent("accepted") {
        return Ok(false);
    }
    // Each outcome is a reading that the app has yet to take.
    if !client.get("/metrics")?.text().contains("\nironloom_outcomes_unrecorded 0\n") {
        return Ok(false);
    }
    let before = client.installation(id)?;
    ensure!(number(&before, "counters.failures") == 0, "it fails: {before}");
    let intents = client.all(&format!("/v1/installations/{id}/intents"))?;
    let is_settled = intents.iter().all(|point| point["intents"] == json!([]) && point["goes_safe"] == false);
    // Done before and after, and nothing in between: so nothing was on its way either.
    let after = client.installation(id)?;
    let is_same = before["counters"]["invocations"] == after["counters"]["invocations"];
    let is_idle = number(&before, "lag.readings") == 0 && number(&after, "lag.readings") == 0;
    Ok(is_settled && is_same && is_idle)
}

/// The limits that chargers were told, message by message.
#[derive(Clone, Debug, Default)]
pub struct Told(BTreeMap<String, f64>);

impl Told {
    /// Takes the message of a limit, such as `{"value":16}` at `stations/CA-303/limit`; the charger obeys from now on. Fails
    /// where no charger should have been told that: none is raised above the current that is left to all of them. To lower
    /// is always right.
    pub fn hear(&mut self, topic: &str, payload: &[u8], room: f64) -> Result<()> {
        let station = topic.split('/').nth(1).context("no station")?.to_owned();
        let payload: Value = serde_json::from_slice(payload)?;
        let limit = payload["value"].as_f64().context("no limit")?;
        ensure!(limit == 0.0 || (LEAST..=MOST).contains(&limit), "{topic}: {station} was told {limit} A");
        let before = self.sum();
        self.0.insert(station, limit);
        let sum = self.sum();
        ensure!(
            sum <= room + HAIR || sum <= before + HAIR,
            "{topic} was raised: {sum:.1} A in all, where the building leaves {room:.1} A"
        );
        Ok(())
    }

    /// The limit of a charger, in ampere; 0 before it was told any.
    pub fn limit(&self, station: &str) -> f64 {
        self.0.get(station).copied().unwrap_or_default()
    }

    /// Fails where the chargers may draw more than is left to them.
    pub fn check(&self, room: f64) -> Result<()> {
        let sum = self.sum();
        ensure!(
            sum <= room + HAIR,
            "the chargers were told {sum:.1} A in all, and the building leaves {room:.1} A"
        );
        Ok(())
    }

    /// All limits together, in ampere.
    pub fn sum(&self) -> f64 {
        self.0.values().sum()
    }
}
