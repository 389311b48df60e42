//! One animal: its ledger, its age, its vaccinations, and the alarms that stand for it.

use ironloom_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bands::Standing;
use crate::farm::Farm;
use crate::ledger::{Changed, Entered, Ledger, Nanos, days};
use crate::plan::Vaccination;

/// Growth is judged over three weeks: over one, gut fill alone would leave any band.
const STRETCH: f64 = 21.0;
/// A fever is over when the temperature is this far below the threshold, °C: it shall not flicker.
const FEVER_OVER: f64 = 0.3;
/// Temperatures that no living pig has, °C.
const COLDEST: f64 = 30.0;
const HOTTEST: f64 = 45.0;
/// Nobody keeps a pig for longer, days.
const OLDEST: f64 = 7_300.0;

/// All that is kept of an animal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Animal {
    pub ledger: Ledger,
    birth: Option<Nanos>,
    first_seen: Nanos,
    last_seen: Nanos,
    temperature_at: Nanos,
    given: Vec<String>,
    off_band: bool,
    fever: bool,
    not_seen: bool,
    due: Vec<String>,
    overdue: Vec<String>,
}

/// The findings of the daily round about an animal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Same,
    /// An alarm came or went.
    Changed,
    /// Gone for so long that its ledger is closed.
    Gone,
}

impl Animal {
    /// Notes that the animal was there.
    pub fn see(&mut self, at: Nanos, entity: &str) -> Result<(), Failure> {
        if self.last_seen == 0 || at < self.first_seen {
            self.first_seen = at;
        }
        if at > self.last_seen {
            self.last_seen = at;
            if self.not_seen {
                set("animal-not-seen", entity, &mut self.not_seen, None)?;
            }
        }
        Ok(())
    }

    /// Enters a weight; an inner error refuses the reading.
    pub fn weigh(
        &mut self,
        at: Nanos,
        kg: f64,
        entity: &str,
        farm: &Farm,
        out: &mut Outputs,
    ) -> Result<Result<(), String>, Failure> {
        let entered = match self.ledger.weigh(at, kg) {
            Err(reason) => return Ok(Err(reason)),
            Ok(entered) => entered,
        };
        if entered == Entered::Known {
            return Ok(Ok(()));
        }
        if let Entered::Dropped(dropped) = entered {
            log::warn!(
                "{entity}: two weighings in a row say that the {dropped} before were wrong; they are dropped"
            );
        }
        self.publish(&entered, entity, out)?;
        let Some(newest) = self.ledger.entries().last().map(|entry| entry.at) else { return Ok(Ok(())) };
        if let Some(forecast) = self.ledger.reaches(farm.market_weight, &farm.model) {
            let at = Timestamp::from_nanos(newest);
            out.push("market-day", entity, at, forecast.day)?;
            out.push("market-day-low", entity, at, forecast.low)?;
            out.push("market-day-high", entity, at, forecast.high)?;
        }
        self.judge(entity, farm)?;
        Ok(Ok(()))
    }

    /// Enters a cumulative feed total; an inner error refuses the reading.
    pub fn eat(
        &mut self,
        at: Nanos,
        kg: f64,
        entity: &str,
        out: &mut Outputs,
    ) -> Result<Result<(), String>, Failure> {
        match self.ledger.feed(at, kg) {
            Err(reason) => Ok(Err(reason)),
            Ok(entered) => self.publish(&entered, entity, out).map(Ok),
        }
    }

    /// Publishes the figures that a reading made or changed.
    fn publish(&self, entered: &Entered, entity: &str, out: &mut Outputs) -> Result<(), Failure> {
        let one = |index: usize| self.ledger.figures(index);
        let mut tell = |at: Nanos, figures: Changed| -> Result<(), Failure> {
            let at = Timestamp::from_nanos(at);
            if let Some(gain) = figures.daily_gain {
                out.push("daily-gain", entity, at, gain)?;
            }
            if let Some(gain) = figures.gain {
                out.push("gain-since-start", entity, at, gain)?;
            }
            if let Some(ratio) = figures.conversion {
                out.push("feed-conversion", entity, at, ratio)?;
            }
            Ok(())
        };
        match entered {
            Entered::Known => Ok(()),
            Entered::Appended | Entered::Dropped(_) => {
                let last = self.ledger.entries().len().saturating_sub(1);
                one(last).map_or(Ok(()), |(at, figures)| tell(at, figures.into()))
            }
            Entered::Fed(index) => one(*index).map_or(Ok(()), |(at, figures)| {
                tell(at, Changed { conversion: figures.conversion, ..Changed::default() })
            }),
            Entered::Changed(was) => {
                self.ledger.changes(was).into_iter().try_for_each(|(at, figures)| tell(at, figures))
            }
        }
    }

    /// Compares the last weeks with the breed.
    fn judge(&mut self, entity: &str, farm: &Farm) -> Result<(), Failure> {
        let Some((from, to, span)) = self.ledger.stretch(STRETCH) else { return Ok(()) };
        let breed = farm.breed.name;
        let message = match farm.breed.judge(from.log_kg(), to.log_kg(), span, farm.growth_tolerance) {
            Standing::Within => None,
            Standing::Slow(speed) => Some(format!(
                "{:.1} to {:.1} kg in {span:.0} days: {:.0} % of the speed of {breed}",
                from.kg,
                to.kg,
                speed * 100.0
            )),
            Standing::Fast(speed) => Some(format!(
                "{:.1} to {:.1} kg in {span:.0} days: {:.0} % of the speed of {breed}, is it the same animal?",
                from.kg,
                to.kg,
                speed * 100.0
            )),
        };
        set("growth-off-band", entity, &mut self.off_band, message)
    }

    /// Takes a temperature in °C; an inner error refuses the reading.
    pub fn feel(
        &mut self,
        at: Nanos,
        celsius: f64,
        entity: &str,
        farm: &Farm,
    ) -> Result<Result<(), String>, Failure> {
        if !(COLDEST..=HOTTEST).contains(&celsius) {
            return Ok(Err(format!(
                "{celsius} °C is no temperature of a living pig ({COLDEST} to {HOTTEST} °C): look at the thermometer"
            )));
        }
        // One that arrives late says nothing about now.
        if at < self.temperature_at {
            return Ok(Ok(()));
        }
        self.temperature_at = at;
        if celsius >= farm.fever {
            let message = format!("{celsius:.1} °C, fever is from {:.1} °C", farm.fever);
            set("fever", entity, &mut self.fever, Some(message))?;
        } else if celsius < farm.fever - FEVER_OVER {
            set("fever", entity, &mut self.fever, None)?;
        }
        Ok(Ok(()))
    }

    /// Notes the day of birth, written `2026-03-01` or as a time; an inner error refuses the reading.
    pub fn born(&mut self, at: Nanos, day: &str) -> Result<(), String> {
        let day = day.trim();
        let time =
            if day.contains('T') { day.parse() } else { format!("{day}T00:00:00Z").parse::<Timestamp>() };
        let birth = time.map_err(|_| format!("`{day}` is no day of birth: write it as 2026-03-01"))?.nanos();
        let age = days(at) - days(birth);
        if !(-1.0..=OLDEST).contains(&age) {
            return Err(format!("born on {day} this pig would be {age:.0} days old"));
        }
        self.birth = Some(birth);
        Ok(())
    }

    /// Notes a vaccination that was given; an inner error refuses the reading.
    pub fn vaccinate(
        &mut self,
        name: &str,
        entity: &str,
        farm: &Farm,
    ) -> Result<Result<(), String>, Failure> {
        let name = name.trim();
        if farm.plan.find(name).is_none() {
            return Ok(Err(format!(
                "`{name}` isn't in the plan of the setting vaccinations: {}",
                farm.plan.names()
            )));
        }
        if !self.given.iter().any(|given| given == name) {
            self.given.retain(|given| farm.plan.find(given).is_some());
            self.given.push(name.to_owned());
        }
        for (alarm, names) in [("vaccination-due", &mut self.due), ("vaccination-overdue", &mut self.overdue)]
        {
            if let Some(place) = names.iter().position(|due| due == name) {
                names.remove(place);
                let left = (!names.is_empty()).then(|| names.join(", "));
                let mut standing = true;
                set(alarm, entity, &mut standing, left)?;
            }
        }
        Ok(Ok(()))
    }

    /// Age in days at a time, where it is known.
    fn age(&self, at: Nanos, farm: &Farm) -> Option<f64> {
        match (self.birth, self.ledger.entries().first()) {
            (Some(birth), _) => Some(days(at) - days(birth)),
            (None, Some(first)) => Some(days(at) - days(first.at) + farm.age_at_first_weighing),
            (None, None) => None,
        }
    }

    /// Checks an animal on the daily round: is it still there, and does it need a vaccination?
    pub fn visit(&mut self, now: Nanos, entity: &str, farm: &Farm) -> Result<Round, Failure> {
        let unseen = days(now) - days(self.last_seen);
        if unseen > farm.forget_days {
            self.close(entity)?;
            return Ok(Round::Gone);
        }
        let before = (self.not_seen, self.due.len(), self.overdue.len());
        // Once it has its weight it was most likely sold.
        let sold = self.ledger.passed(farm.market_weight).is_some();
        if unseen > farm.not_seen_days && !sold {
            if !self.not_seen {
                let message = format!("last seen {unseen:.0} days ago");
                set("animal-not-seen", entity, &mut self.not_seen, Some(message))?;
            }
        } else if self.not_seen {
            set("animal-not-seen", entity, &mut self.not_seen, None)?;
        }
        let mut changed = before.0 != self.not_seen;
        // Nobody vaccinates an animal that isn't there.
        let away = unseen > farm.not_seen_days;
        let ages = self.age(now, farm).zip(self.age(self.first_seen, farm)).filter(|_| !away);
        let needs =
            ages.map(|(age, from)| farm.plan.needs(age.floor() as i64, from.floor() as i64, &self.given));
        let needs = needs.unwrap_or_default();
        for (alarm, needed, standing) in [
            ("vaccination-due", &needs.due, &mut self.due),
            ("vaccination-overdue", &needs.overdue, &mut self.overdue),
        ] {
            let names: Vec<String> = needed.iter().map(|vaccination| vaccination.name.clone()).collect();
            if names == *standing {
                continue;
            }
            let message = (!names.is_empty()).then(|| ask(needed));
            let mut stands = !standing.is_empty();
            set(alarm, entity, &mut stands, message)?;
            *standing = if stands { names } else { Vec::new() };
            changed = true;
        }
        Ok(if changed { Round::Changed } else { Round::Same })
    }

    /// Clears what stands.
    fn close(&mut self, entity: &str) -> Result<(), Failure> {
        let stands = |alarm, mut standing| set(alarm, entity, &mut standing, None);
        stands("growth-off-band", self.off_band)?;
        stands("fever", self.fever)?;
        stands("animal-not-seen", self.not_seen)?;
        stands("vaccination-due", !self.due.is_empty())?;
        stands("vaccination-overdue", !self.overdue.is_empty())
    }
}

fn ask(needed: &[&Vaccination]) -> String {
    let one = |vaccination: &&Vaccination| {
        let (from, until) = (vaccination.age, vaccination.age + vaccination.window);
        format!("{} (day {from} of life to day {until})", vaccination.name)
    };
    needed.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Raises an alarm with a message, or clears it where it stands.
///
/// If the farm has as many active alarms as allowed, the readings go on without this one.
fn set(alarm: &str, entity: &str, standing: &mut bool, message: Option<String>) -> Result<(), Failure> {
    match message {
        Some(message) => match alarms::raise(alarm, entity, &message) {
            Ok(()) => *standing = true,
            Err(alarms::Error::TooMany) => {
                log::warn!("no room for another alarm: {alarm} of {entity}, {message}")
            }
            Err(error) => return Err(error.into()),
        },
        None if *standing => {
            alarms::clear(alarm, entity)?;
            *standing = false;
        }
        None => {}
    }
    Ok(())
}
