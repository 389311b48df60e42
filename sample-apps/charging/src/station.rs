//! A charging station: the car that stands there, what it draws, and what the station may have been told.

use ironloom_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::departure;
use crate::plan::Claim;
use crate::site::{LEAST, Site};
use crate::told::{Nanos, Told};

/// A car that draws less than its limit by this, in ampere, counts as one that can't draw more; and so much more than it
/// draws it is given then, so that it shows when it could.
const BELOW: f64 = 1.0;
const HEADROOM: f64 = 2.0;
/// A station may be measured so much above its limit, in ampere: meters and chargers aren't exact.
const ABOVE: f64 = 1.0;
/// More than any station measures, in ampere, or any car takes, in kWh.
const MOST_CURRENT: f64 = 1_000.0;
const MOST_ENERGY: f64 = 1_000.0;
/// A car that needs less, in kWh, has what it asked for: sums of measurements aren't exact.
const DONE: f64 = 1e-5;
const NANOS_PER_HOUR: f64 = 3.6e12;

/// All that is kept of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Station {
    /// The ledger of what it may have been told.
    pub told: Told,
    connected: bool,
    /// When its last reading of `connected` was taken.
    connected_at: Nanos,
    /// When the session began.
    since: Nanos,
    /// In kWh; none where the driver didn't say.
    asked: Option<f64>,
    departure: Option<Nanos>,
    /// kWh of the session so far.
    delivered: f64,
    /// The register's reading when the session began, in kWh: then the current isn't added up.
    register: Option<f64>,
    /// The last measurement, in ampere.
    current: f64,
    current_at: Nanos,
    /// The current of its car, in ampere, where that is less than it may draw: measured once it had time to follow its limit.
    draws: Option<f64>,
    /// When anything was last heard of it.
    heard: Nanos,
    /// Which of its alarms stand.
    standing: Standing,
}

/// Alarms of a station, and whether they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Standing {
    not_answering: bool,
    not_measured: bool,
    over_limit: bool,
}

impl Station {
    /// Takes a reading of `connected`.
    pub fn plug(&mut self, at: Nanos, connected: bool) {
        if at < self.connected_at {
            return;
        }
        self.connected_at = at;
        if connected && !self.connected {
            // What was asked for before the car was plugged in holds for it.
            (self.since, self.delivered, self.register, self.draws) = (at, 0.0, None, None);
        }
        if !connected {
            (self.asked, self.departure) = (None, None);
        }
        self.connected = connected;
    }

    /// Takes the energy that the driver asks for, in kWh. An error refuses the reading, as in what follows.
    pub fn ask(&mut self, kwh: f64) -> Result<(), String> {
        if !(0.0..=MOST_ENERGY).contains(&kwh) {
            return Err(format!("{kwh} kWh can't be asked for: 0 to {MOST_ENERGY} kWh can"));
        }
        self.asked = Some(kwh);
        Ok(())
    }

    /// Takes the time at which the driver wants to leave.
    pub fn leave(&mut self, text: &str) -> Result<(), String> {
        self.departure = Some(departure::parse(text)?.nanos());
        Ok(())
    }

    /// Takes a measurement of the current.
    pub fn measure(&mut self, at: Nanos, amps: f64, site: &Site) -> Result<(), String> {
        // A meter shows a little less than nothing now and then.
        if !(-ABOVE..=MOST_CURRENT).contains(&amps) {
            return Err(format!("{amps} A is no current of a charging station: look at its meter"));
        }
        let amps = amps.max(0.0);
        if at <= self.current_at {
            return Ok(());
        }
        if self.connected && self.register.is_none() && at > self.since {
            // It tells of the time before it, as far as a measurement may be old.
            let time = (at - self.current_at.max(self.since)).min(site.stale_after);
            self.delivered += amps * site.kilowatts * time as f64 / NANOS_PER_HOUR;
        }
        (self.current, self.current_at) = (amps, at);
        if let Some(limit) =
            self.told.in_force(at).filter(|&limit| limit >= LEAST && self.told.is_settled(at))
        {
            self.draws = (amps < limit - BELOW).then_some(amps);
        }
        Ok(())
    }

    /// Takes a reading of the energy register, in kWh.
    pub fn register(&mut self, at: Nanos, kwh: f64) -> Result<(), String> {
        if !(0.0..=1e9).contains(&kwh) {
            return Err(format!("{kwh} kWh is no reading of an energy register"));
        }
        if self.connected && at >= self.since {
            let start = *self.register.get_or_insert(kwh - self.delivered);
            // A register that was reset starts anew from what is known.
            if kwh < start {
                self.register = Some(kwh - self.delivered);
            } else {
                self.delivered = self.delivered.max(kwh - start);
            }
        }
        Ok(())
    }

    /// Notes that something was heard of it.
    pub fn hear(&mut self, at: Nanos) {
        self.heard = self.heard.max(at);
    }

    /// When something was last heard of it.
    pub fn heard(&self) -> Nanos {
        self.heard
    }

    /// Returns whether a car is plugged in.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Energy of the session so far, in kWh.
    pub fn delivered(&self) -> f64 {
        self.delivered
    }

    /// Returns whether its car can't be seen, since nothing was measured for too long.
    pub fn is_unseen(&self, now: Nanos, site: &Site) -> bool {
        self.connected && now.saturating_sub(self.current_at.max(self.since)) > site.stale_after
    }

    /// The current that it draws beyond what it may have been told, if it does, in ampere.
    pub fn beyond(&self, now: Nanos, site: &Site) -> Option<f64> {
        let shows =
            now.saturating_sub(self.current_at) <= site.stale_after && self.told.is_settled(self.current_at);
        (shows && self.current > self.told.bound(now, site.safe) + ABOVE).then_some(self.current)
    }

    /// Returns whether it counts with what it may have been told, whatever it is told now: it can't be counted on.
    pub fn is_pinned(&self, now: Nanos, site: &Site) -> bool {
        let waits_long = self.told.is_open() && self.told.has_lapsed(now);
        self.told.is_silent() || waits_long || self.beyond(now, site).is_some()
    }

    /// The claim of its car, if one is plugged in. `blind` holds each station down to the safe limit.
    pub fn claim<'a>(&self, name: &'a str, now: Nanos, site: &Site, blind: bool) -> Option<Claim<'a>> {
        if !self.connected {
            return None;
        }
        let asked = self.asked.unwrap_or(site.assumed_energy);
        let leaves = self.departure.unwrap_or(self.since.saturating_add(site.assumed_stay));
        let held_down = blind || self.is_unseen(now, site);
        Some(Claim {
            station: name,
            priority: site.priority_of(name),
            remaining: if asked - self.delivered > DONE { asked - self.delivered } else { 0.0 },
            served: if asked > 0.0 { (self.delivered / asked).min(1.0) } else { 1.0 },
            leaves_in: (leaves as f64 - now as f64) / NANOS_PER_HOUR,
            most: if held_down { site.safe } else { self.takes(site) },
            charging: self.told.in_force(now).is_some_and(|limit| limit >= LEAST),
        })
    }

    /// The highest limit that its car can use, in ampere. One that stays below its limit is given a little more than it
    /// draws: so others get what a small charger or a battery that is nearly full leaves over.
    fn takes(&self, site: &Site) -> f64 {
        self.draws.map_or(site.most, |draws| (draws + HEADROOM).clamp(LEAST, site.most))
    }

    /// Raises and clears its alarms.
    pub fn tell(&mut self, name: &str, now: Nanos, site: &Site) -> Result<(), Failure> {
        let bound = self.told.bound(now, site.safe);
        let silent = self.told.is_silent().then(|| {
            format!("it doesn't answer or refuses its limit, and counts with {bound:.1} A, which it may have been told")
        });
        set("not-answering", name, &mut self.standing.not_answering, silent)?;
        let unseen = self.is_unseen(now, site).then(|| {
            format!(
                "no measurement for more than {} s: it gets at most {} A",
                site.stale_after / 1_000_000_000,
                site.safe
            )
        });
        set("not-measured", name, &mut self.standing.not_measured, unseen)?;
        let beyond = self
            .beyond(now, site)
            .map(|current| format!("it draws {current:.1} A, and was told at most {bound:.1} A"));
        set("over-limit", name, &mut self.standing.over_limit, beyond)
    }

    /// Clears its alarms, before it is forgotten.
    pub fn hush(&mut self, name: &str) -> Result<(), Failure> {
        set("not-answering", name, &mut self.standing.not_answering, None)?;
        set("not-measured", name, &mut self.standing.not_measured, None)?;
        set("over-limit", name, &mut self.standing.over_limit, None)
    }
}

/// Raises an alarm that doesn't stand yet, or clears one that does.
pub fn set(alarm: &str, entity: &str, stands: &mut bool, message: Option<String>) -> Result<(), Failure> {
    match message {
        Some(message) if !*stands => alarms::raise(alarm, entity, &message)?,
        None if *stands => alarms::clear(alarm, entity)?,
        // What has changed since is in the outputs; each new message would be a change for people to read.
        _ => return Ok(()),
    }
    *stands = !*stands;
    Ok(())
}
