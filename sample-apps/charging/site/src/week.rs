//! The recorded week and the building's load.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironloom_sdk::Timestamp;

use crate::PERIOD;

const SESSIONS: &str = include_str!("../../data/sessions.csv");
const LOAD: &str = include_str!("../../data/load.csv");
/// Monday, 6 May 2019, 00:00 in Pasadena.
const MONDAY: &str = "2019-05-06T07:00:00Z";

/// A car's stay at a station.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// When it was plugged in.
    pub arrival: Timestamp,
    /// When it was unplugged.
    pub departure: Timestamp,
    /// The station, such as `CA-314`.
    pub station: String,
    /// The energy that it was given, in kWh: what it needs.
    pub energy: f64,
    /// The first period that lies wholly within the stay.
    pub first: usize,
    /// The one after the last such period.
    pub end: usize,
}

/// The sessions of a week, in the order of their arrivals.
#[derive(Clone, Debug)]
pub struct Week {
    /// When its first period begins.
    pub start: Timestamp,
    /// The sessions, in the order of their arrivals.
    pub sessions: Vec<Session>,
    /// The building's load for each hour of a local day, in ampere.
    load: [f64; 24],
}

impl Week {
    /// The week at Caltech.
    pub fn caltech() -> Result<Self> {
        let start: Timestamp = MONDAY.parse()?;
        let sessions = SESSIONS.lines().skip(1).map(|line| session(line, start));
        let mut load = [0.0; 24];
        for line in LOAD.lines().skip(1) {
            let (hour, amperes) = line.split_once(',').context("a line of load.csv has two columns")?;
            *load.get_mut(hour.parse::<usize>()?).context("a day has 24 hours")? = amperes.parse()?;
        }
        Ok(Self { start, sessions: sessions.collect::<Result<_>>()?, load })
    }

    /// A week of these sessions, for tests by hand.
    pub fn of(start: Timestamp, sessions: Vec<Session>, load: [f64; 24]) -> Self {
        Self { start, sessions, load }
    }

    /// The number of periods until the last car has left.
    pub fn periods(&self) -> usize {
        self.sessions.iter().map(|session| session.end).max().unwrap_or(0)
    }

    /// When a period begins.
    pub fn begin(&self, period: usize) -> Timestamp {
        self.start + Duration::from_secs(PERIOD * period as u64)
    }

    /// The building's load in a period, in ampere, by the local clock: the week begins at midnight.
    pub fn load(&self, period: usize) -> f64 {
        self.load[period * PERIOD as usize / 3600 % 24]
    }

    /// The energy that all cars need, in kWh.
    pub fn energy(&self) -> f64 {
        self.sessions.iter().map(|session| session.energy).sum()
    }

    /// The stations, sorted.
    pub fn stations(&self) -> Vec<&str> {
        let mut stations: Vec<&str> = self.sessions.iter().map(|session| session.station.as_str()).collect();
        stations.sort_unstable();
        stations.dedup();
        stations
    }
}

impl Session {
    /// A stay from these times on, for a week that begins at `start`.
    pub fn new(
        start: Timestamp,
        arrival: Timestamp,
        departure: Timestamp,
        station: &str,
        energy: f64,
    ) -> Self {
        let seconds = |at: Timestamp| at.since(start).as_secs();
        Self {
            arrival,
            departure,
            station: station.to_owned(),
            energy,
            first: seconds(arrival).div_ceil(PERIOD) as usize,
            end: (seconds(departure) / PERIOD) as usize,
        }
    }
}

fn session(line: &str, start: Timestamp) -> Result<Session> {
    let cells: Vec<&str> = line.split(',').collect();
    let [arrival, departure, station, _requested, delivered] = cells[..] else {
        anyhow::bail!("a line of sessions.csv has five columns: {line}");
    };
    let (arrival, departure): (Timestamp, Timestamp) = (arrival.parse()?, departure.parse()?);
    ensure!(start <= arrival && arrival < departure, "{line}");
    Ok(Session::new(start, arrival, departure, station, delivered.parse()?))
}
