//! All stations of the site together: takes readings, plans, and says what is to be requested.

use std::collections::BTreeMap;
use std::time::Duration;

use ironloom_sdk::outputs::{self, Intent};
use ironloom_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::orders::{HAIR, Moment, Order, Orders, Place, arrange, worst};
use crate::plan::{Claim, by_laxity, plan};
use crate::site::Site;
use crate::station::{Station, set};
use crate::told::{Nanos, Outcome};

/// As many as one invocation can renew with room to spare.
const MOST_STATIONS: usize = 500;
/// A station that nothing was heard of for so long was taken down: 30 days.
const FORGETS: u64 = 30 * 86_400 * 1_000_000_000;
/// Lowering takes its time: only an excess that lasts longer is worth an alarm.
const LOWERING_TAKES: u64 = 30_000_000_000;
/// More than any building draws, in ampere.
const MOST_LOAD: f64 = 1e6;

const STATIONS: Table<str, Station> = Table::new("station/");
const GROUNDS: Cell<Grounds> = Cell::new("site");

/// The state of the site as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Grounds {
    /// The building's load, in ampere.
    load: f64,
    /// When it was measured. None: never.
    load_at: Option<Nanos>,
    /// Since when there may be more in force than is available.
    excess_since: Option<Nanos>,
    /// The figures that were published last: available and allocated.
    published: Option<(f64, f64)>,
    over_capacity: bool,
    no_room: bool,
    load_unknown: bool,
    not_granted: bool,
}

/// The stations and the site, loaded for one invocation.
pub struct Yard {
    site: Site,
    now: Nanos,
    grounds: Grounds,
    grounds_before: Option<Grounds>,
    stations: BTreeMap<String, Station>,
    stations_before: BTreeMap<String, Station>,
}

impl Yard {
    /// Loads all stations and the site; takes note of outcomes that were lost.
    pub fn load(site: Site) -> Result<Self, Failure> {
        let stations = STATIONS.scan().collect::<Result<BTreeMap<String, Station>, _>>()?;
        let grounds = GROUNDS.get()?;
        let mut yard = Self {
            site,
            now: invocation::now().nanos(),
            grounds: grounds.clone().unwrap_or_default(),
            grounds_before: grounds,
            stations_before: stations.clone(),
            stations,
        };
        if invocation::gaps().iter().any(|gap| gap.slot == "outcome") {
            yard.stations.values_mut().for_each(|station| station.told.lose_outcomes());
        }
        Ok(yard)
    }

    /// Takes a reading; an inner error refuses it.
    pub fn take(&mut self, reading: &Reading<'_>) -> Result<Result<(), String>, Failure> {
        // A clock that is ahead would keep a reading fresh for ever.
        let at = reading.at().nanos().min(self.now);
        if reading.slot() == "building-load" {
            return Ok(self.measure_load(at, reading.entity(), reading.real()?));
        }
        if reading.slot() == "outcome" {
            return Ok(self.learn(reading.entity(), reading.text()?));
        }
        if !self.stations.contains_key(reading.entity()) && self.stations.len() >= MOST_STATIONS {
            return Ok(Err(format!("the app has {MOST_STATIONS} stations, and can't take more")));
        }
        let station = self.stations.entry(reading.entity().to_owned()).or_default();
        station.hear(at);
        Ok(match reading.slot() {
            "connected" => {
                station.plug(at, reading.boolean()?);
                Ok(())
            }
            "energy-asked" => station.ask(reading.real()?),
            "departure" => station.leave(reading.text()?),
            "current" => station.measure(at, reading.real()?, &self.site),
            "energy" => station.register(at, reading.real()?),
            other => return Err(Failure::reject(format!("the app has no input `{other}`"))),
        })
    }

    fn measure_load(&mut self, at: Nanos, entity: &str, amps: f64) -> Result<(), String> {
        if !entity.is_empty() {
            return Err("the building's load is one point, bound without braces".to_owned());
        }
        if !(-MOST_LOAD..=MOST_LOAD).contains(&amps) {
            return Err(format!("{amps} A is no load of a building"));
        }
        if self.grounds.load_at.is_none_or(|last| at >= last) {
            (self.grounds.load, self.grounds.load_at) = (amps, Some(at));
        }
        Ok(())
    }

    /// Takes the outcome of a limit.
    fn learn(&mut self, name: &str, text: &str) -> Result<(), String> {
        let Some(outcome) = Outcome::parse(text) else {
            return Err(format!(
                "`{text}` is no outcome: bind the input to apps/ID/limit/{{station}}/outcome"
            ));
        };
        // One that was forgotten isn't driven any more.
        let Some(station) = self.stations.get_mut(name) else { return Ok(()) };
        if outcome == Outcome::Accepted {
            station.hear(self.now);
        }
        if let Some(place) = station.told.learn(outcome, self.now, self.site.safe) {
            self.stations.values_mut().for_each(|station| station.told.break_list(place));
        }
        Ok(())
    }

    /// Plans, requests what is to change or to be renewed, and tells people.
    pub fn decide(&mut self) -> Result<(), Failure> {
        let now = self.now;
        let blind = self.is_blind();
        let known_load = if self.grounds.load_at.is_some() { self.grounds.load } else { f64::INFINITY };
        let moment = Moment { now, safe: self.site.safe, available: self.site.available(known_load) };
        let (names, orders) = self.orders(&moment, blind);
        self.request(&names, orders)?;
        self.tell(&moment, blind)
    }

    /// Stores what has changed.
    pub fn save(self) -> Result<(), Failure> {
        let mut rows = STATIONS.rows();
        let before = &self.stations_before;
        let changed = self.stations.into_iter().filter(|(name, station)| before.get(name) != Some(station));
        let changed: Vec<(String, Station)> = changed.collect();
        rows.prefetch(changed.iter().map(|(name, _)| name.as_str()))?;
        for (name, station) in changed {
            rows.insert(name.as_str(), station)?;
        }
        rows.save()?;
        if self.grounds_before.as_ref() != Some(&self.grounds) {
            GROUNDS.set(&self.grounds)?;
        }
        Ok(())
    }

    /// A minute has passed: gives up what is lost, and forgets stations that were taken down.
    pub fn pass_minute(&mut self) -> Result<(), Failure> {
        let now = self.now;
        self.stations.values_mut().for_each(|station| station.told.pass_minute(now));
        let gone = self
            .stations
            .iter()
            .filter(|(_, station)| !station.is_connected() && now.saturating_sub(station.heard()) > FORGETS);
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        for name in gone {
            if let Some(mut station) = self.stations.remove(&name) {
                station.hush(&name)?;
                STATIONS.delete(name.as_str())?;
            }
        }
        Ok(())
    }

    /// Returns whether the building's load isn't known well enough.
    fn is_blind(&self) -> bool {
        self.grounds.load_at.is_none_or(|at| self.now.saturating_sub(at) > self.site.stale_after)
    }

    /// The orders, by places in a list of names.
    fn orders(&self, moment: &Moment, blind: bool) -> (Vec<String>, Orders) {
        let (rules, now, site) = (self.site.rules(), self.now, &self.site);
        let claims = self.stations.iter().filter_map(|(name, station)| station.claim(name, now, site, blind));
        let claims: Vec<Claim<'_>> = claims.collect();
        let pinned = |name: &str| self.stations.get(name).is_some_and(|station| station.is_pinned(now, site));
        let targets = |available: f64, claims: &[Claim<'_>]| {
            let limits = plan(&rules, available, claims);
            let names = claims.iter().map(|claim| claim.station.to_owned());
            names.zip(limits).collect::<BTreeMap<String, f64>>()
        };
        let mut limits = targets(moment.available, &claims);
        let kept = self.stations.values().filter(|station| station.is_pinned(now, site));
        let kept: Vec<f64> = kept
            .map(|station| station.told.bound(now, site.safe).max(station.beyond(now, site).unwrap_or(0.0)))
            .collect();
        if !kept.is_empty() {
            // They keep what they have, whatever they are told. The others share the rest.
            let others: Vec<Claim<'_>> =
                claims.iter().filter(|claim| !pinned(claim.station)).cloned().collect();
            limits.retain(|name, _| pinned(name));
            limits.extend(targets((moment.available - kept.iter().sum::<f64>()).max(0.0), &others));
        }

        // The most urgent car is raised first; stations without a car are only ever lowered.
        let urgent = by_laxity(&rules, &claims).into_iter().map(|place| claims[place].station);
        let mut names: Vec<String> = urgent.map(str::to_owned).collect();
        names.extend(
            self.stations.iter().filter(|(_, one)| !one.is_connected()).map(|(name, _)| name.clone()),
        );
        let places = names.iter().filter_map(|name| {
            let station = self.stations.get(name)?;
            Some(Place {
                told: &station.told,
                beyond: station.beyond(now, site).unwrap_or(0.0),
                pinned: station.is_pinned(now, site),
                target: limits.get(name).copied().unwrap_or(0.0),
            })
        });
        let places: Vec<Place<'_>> = places.collect();
        let orders = arrange(&places, moment);
        (names, orders)
    }

    /// Requests limits, and enters them into the ledgers.
    fn request(&mut self, names: &[String], orders: Orders) -> Result<(), Failure> {
        let mut problem = None;
        let lists = orders.alone.into_iter().map(|order| vec![order]).chain([orders.list]);
        for list in lists.filter(|list| !list.is_empty()) {
            if let Err(error) = self.request_list(names, &list)? {
                problem.get_or_insert(error);
            }
        }
        set("not-granted", "", &mut self.grounds.not_granted, problem)
    }

    /// Requests one list; an inner error says what an admin has to grant.
    fn request_list(&mut self, names: &[String], list: &[Order]) -> Result<Result<(), String>, Failure> {
        let life = Duration::from_nanos(self.site.time_to_live);
        let intents: Vec<Intent> = list
            .iter()
            .filter_map(|order| Some(Intent::new("limit", names.get(order.place)?, order.amps, life)))
            .collect();
        let tickets = match outputs::request(&intents) {
            Ok(tickets) => tickets,
            Err(
                error @ (outputs::Error::NotGranted(_)
                | outputs::Error::NotAllowed(_)
                | outputs::Error::UnknownEntity(_)),
            ) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let mut result = Ok(());
        for (place, (order, ticket)) in list.iter().zip(&tickets).enumerate() {
            let Some((name, station)) =
                names.get(order.place).and_then(|name| self.stations.get_mut(name).map(|one| (name, one)))
            else {
                continue;
            };
            // The grant may have moved it: the station is told what the ticket says.
            let amps = match ticket.value() {
                Value::Real(amps) => amps,
                _ => order.amps,
            };
            if amps > order.amps + HAIR {
                result = Err(format!(
                    "{name}: the grant makes {amps} A of {} A: it has to move limits `toward = \"low\"`",
                    order.amps
                ));
            }
            station.told.request(amps, self.now, self.site.time_to_live, order.part, place);
        }
        Ok(result)
    }

    /// Publishes what is available and allocated, and raises and clears alarms.
    fn tell(&mut self, moment: &Moment, blind: bool) -> Result<(), Failure> {
        let (now, site) = (self.now, &self.site);
        let places = self.stations.values().map(|station| Place {
            told: &station.told,
            beyond: station.beyond(now, site).unwrap_or(0.0),
            pinned: false,
            target: 0.0,
        });
        let allocated = worst(&places.collect::<Vec<_>>(), moment);
        let figures = (moment.available, allocated);
        let grounds = &mut self.grounds;
        if grounds.published != Some(figures) {
            let (mut out, at) = (Outputs::new(), Timestamp::from_nanos(now));
            out.push("available", "", at, figures.0)?;
            out.push("allocated", "", at, figures.1)?;
            out.publish()?;
            grounds.published = Some(figures);
        }

        let exceeds = allocated > moment.available + HAIR;
        grounds.excess_since = if exceeds { grounds.excess_since.or(Some(now)) } else { None };
        let lasts = grounds.excess_since.is_some_and(|since| now.saturating_sub(since) >= LOWERING_TAKES);
        let message = format!(
            "stations may draw {allocated:.1} A, and {:.1} A are available; see which ones don't answer",
            moment.available
        );
        set("over-capacity", "", &mut grounds.over_capacity, lasts.then_some(message))?;

        let (count, safe) = (self.stations.len(), site.safe);
        let needed = count as f64 * safe;
        let message = format!(
            "{count} stations at the safe limit of {safe} A may draw {needed:.1} A, and {:.1} A are available: set the safe \
             limit to 0, here and in the grant",
            moment.available
        );
        let no_room = needed > moment.available + HAIR && !blind;
        set("no-room-for-safe-values", "", &mut grounds.no_room, no_room.then_some(message))?;

        let message = match grounds.load_at {
            Some(at) => format!(
                "the last reading of the building's load is from {}: no station gets more than {safe} A",
                Timestamp::from_nanos(at)
            ),
            None => "no reading of the building's load yet: no car is charged".to_owned(),
        };
        set("load-unknown", "", &mut grounds.load_unknown, blind.then_some(message))?;
        for (name, station) in &mut self.stations {
            station.tell(name, now, site)?;
        }
        Ok(())
    }
}
