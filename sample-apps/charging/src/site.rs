//! The settings, as an admin gave them.

use std::collections::BTreeMap;

use ironloom_sdk::prelude::*;
use serde::Deserialize;

use crate::plan::Rules;

/// No car charges below this, in ampere: IEC 61851-1.
pub const LEAST: f64 = 6.0;

/// The settings of the manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    capacity: f64,
    reserve: f64,
    voltage: f64,
    phases: i64,
    max_limit: f64,
    safe_limit: f64,
    time_to_live: i64,
    stale_after: i64,
    fairness: f64,
    priority: String,
    assumed_energy: f64,
    assumed_stay: f64,
}

/// The settings, checked. Currents are in ampere, times in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The most that the connection carries.
    pub capacity: f64,
    /// The part of it that is kept free.
    pub reserve: f64,
    /// kW for each ampere.
    pub kilowatts: f64,
    /// The highest limit of a station.
    pub most: f64,
    /// The limit of a station that isn't told anything any more.
    pub safe: f64,
    /// For how long a limit holds.
    pub time_to_live: u64,
    /// The age from which a reading doesn't count any more.
    pub stale_after: u64,
    /// The part that is shared evenly.
    pub fairness: f64,
    /// Priorities of stations that have one.
    pub priority: BTreeMap<String, u32>,
    /// kWh of a session for which nobody asked for any.
    pub assumed_energy: f64,
    /// Stay of a car of which nobody knows when it leaves.
    pub assumed_stay: u64,
}

/// A setting with which the app can't work.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SettingError {
    /// A number that makes no sense.
    #[error("setting {name}: {given} isn't between {least} and {most}")]
    Range {
        /// As the manifest calls it.
        name: &'static str,
        /// The given value.
        given: f64,
        /// The least allowed value.
        least: f64,
        /// The greatest allowed value.
        most: f64,
    },
    /// Cars charge on one phase or on three.
    #[error("setting phases: {0} isn't 1 or 3")]
    Phases(i64),
    /// No car charges between 0 and 6 A.
    #[error("setting safe-limit: {given} isn't 0, and not between 6 and max-limit, which is {most}")]
    Safe {
        /// The given value.
        given: f64,
        /// The highest limit.
        most: f64,
    },
    /// A part of the priorities can't be read.
    #[error("setting priority: `{0}` isn't `station=number` with a number of 1 to 1000, such as `ward/1=2`")]
    Priority(String),
    /// A station has two priorities.
    #[error("setting priority: the station `{0}` stands in it twice")]
    Twice(String),
}

const NANOS: u64 = 1_000_000_000;

impl Site {
    /// Reads the settings. A wrong one makes the call come again later: no reading is lost over it, and the admin
    /// sees why the app waits. Limits that aren't renewed meanwhile end in the grant's safe value.
    pub fn read() -> Result<Self, Failure> {
        settings::all::<Settings>().or_retry()?.check().or_retry()
    }

    /// The most that the stations may draw together beside this load of the building.
    pub fn available(&self, load: f64) -> f64 {
        // A building that feeds in counts as one that draws nothing: clouds come faster than chargers answer.
        (self.capacity - self.reserve - load.max(0.0)).max(0.0)
    }

    /// The priority of a station: 1 where nothing is said.
    pub fn priority_of(&self, station: &str) -> u32 {
        self.priority.get(station).copied().unwrap_or(1)
    }

    /// The rules that a plan goes by.
    pub fn rules(&self) -> Rules {
        Rules { kilowatts: self.kilowatts, fairness: self.fairness }
    }
}

impl Settings {
    /// Checks the settings.
    pub fn check(self) -> Result<Site, SettingError> {
        let within = |name, given: f64, least, most| {
            let fits = (least..=most).contains(&given);
            if fits { Ok(given) } else { Err(SettingError::Range { name, given, least, most }) }
        };
        let seconds = |name, given: i64, least: f64, most: f64| {
            // Within the range they are exact.
            within(name, given as f64, least, most).map(|seconds| seconds as u64 * NANOS)
        };
        if self.phases != 1 && self.phases != 3 {
            return Err(SettingError::Phases(self.phases));
        }
        let capacity = within("capacity", self.capacity, LEAST, 100_000.0)?;
        let most = within("max-limit", self.max_limit, LEAST, 1_000.0)?;
        if self.safe_limit != 0.0 && !(LEAST..=most).contains(&self.safe_limit) {
            return Err(SettingError::Safe { given: self.safe_limit, most });
        }
        Ok(Site {
            capacity,
            reserve: within("reserve", self.reserve, 0.0, capacity)?,
            kilowatts: within("voltage", self.voltage, 50.0, 1_000.0)? * self.phases as f64 / 1_000.0,
            most,
            safe: self.safe_limit,
            // The timer fires each minute: half of a shorter life would be over before.
            time_to_live: seconds("time-to-live", self.time_to_live, 180.0, 3_600.0)?,
            stale_after: seconds("stale-after", self.stale_after, 30.0, 86_400.0)?,
            fairness: within("fairness", self.fairness, 0.0, 1.0)?,
            priority: priorities(&self.priority)?,
            assumed_energy: within("assumed-energy", self.assumed_energy, 0.0, 500.0)?,
            assumed_stay: (within("assumed-stay", self.assumed_stay, 0.1, 240.0)? * 3_600.0) as u64 * NANOS,
        })
    }
}

/// Reads `ward/1=2, ward/2=2`.
fn priorities(text: &str) -> Result<BTreeMap<String, u32>, SettingError> {
    let mut priorities = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let malformed = || SettingError::Priority(part.to_owned());
        let (station, number) = part.rsplit_once('=').ok_or_else(malformed)?;
        let number = number.trim().parse::<u32>().ok().filter(|number| (1..=1_000).contains(number));
        let (station, number) = (station.trim(), number.ok_or_else(malformed)?);
        if station.is_empty() {
            return Err(malformed());
        }
        if priorities.insert(station.to_owned(), number).is_some() {
            return Err(SettingError::Twice(station.to_owned()));
        }
    }
    Ok(priorities)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            capacity: 100.0,
            reserve: 10.0,
            voltage: 230.0,
            phases: 3,
            max_limit: 32.0,
            safe_limit: 6.0,
            time_to_live: 180,
            stale_after: 300,
            fairness: 0.0,
            priority: " ward/1=2, ,b = 3".to_owned(),
            assumed_energy: 15.0,
            assumed_stay: 0.5,
        }
    }

    #[test]
    fn settings_become_ampere_and_nanoseconds() {
        let site = settings().check().unwrap();
        assert_eq!(
            (site.kilowatts, site.time_to_live, site.assumed_stay),
            (0.69, 180 * NANOS, 1_800 * NANOS)
        );
        assert_eq!(["ward/1", "b", "c"].map(|station| site.priority_of(station)), [2, 3, 1]);
        // A building that feeds in gives nothing.
        assert_eq!([25.0, 95.0, -40.0].map(|load| site.available(load)), [65.0, 0.0, 90.0]);
    }

    #[test]
    fn a_setting_that_makes_no_sense_is_named() {
        let error = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        for (change, expected) in [
            ((|s| s.capacity = f64::NAN) as fn(&mut Settings), "capacity: NaN isn't between 6 and 100000"),
            (|s| s.phases = 2, "phases: 2 isn't 1 or 3"),
            (|s| s.safe_limit = 3.0, "safe-limit: 3 isn't 0, and not between 6 and max-limit, which is 32"),
            (|s| s.time_to_live = 120, "time-to-live: 120 isn't between 180 and 3600"),
            (|s| s.stale_after = -1, "stale-after: -1 isn't between 30 and 86400"),
            (|s| s.fairness = 1.5, "fairness: 1.5 isn't between 0 and 1"),
            (|s| s.priority = "a=2, b".to_owned(), "`b` isn't `station=number`"),
            (|s| s.priority = "a=0".to_owned(), "`a=0` isn't `station=number`"),
            (|s| s.priority = "a=2,a=3".to_owned(), "the station `a` stands in it twice"),
        ] {
            let error = error(change);
            assert!(error.contains(expected), "{error}");
        }
    }
}
