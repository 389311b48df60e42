//! The app with its chargers: readings in, limits out, outcomes back, second by second.

#![allow(dead_code, clippy::panic, reason = "each test uses a part of it, and fails by panicking")]

use charging::Charging;
use ironloom_sdk::Timestamp;
use ironloom_sdk::testing::{BatchBuilder, Datum, Outcome, Platform};

use crate::outbox::{Manner, Outbox, Sent};

/// The time at which all tests begin: 2026-03-02T08:00:00Z.
pub(crate) const START: u64 = 1_772_438_400;

pub(crate) struct Yard {
    pub(crate) platform: Platform,
    pub(crate) outbox: Outbox,
    pub(crate) now: u64,
    pub(crate) capacity: f64,
    /// The building's load as the app last heard of it.
    pub(crate) load: Option<f64>,
    /// The most that stations may have been told together, as the app said at its last invocation.
    pub(crate) allocated: f64,
    /// Everything that was sent.
    pub(crate) sent: Vec<Sent>,
}

impl Yard {
    pub(crate) fn new(capacity: f64, safe: f64) -> Self {
        let mut platform = Platform::from_manifest(include_str!("../../app.toml"))
            .set_point("limit", ironloom_sdk::testing::Type::Real);
        platform.set("capacity", &capacity.to_string());
        platform.set("safe-limit", &safe.to_string());
        platform.set_now(Timestamp::from_seconds(START));
        let outbox = Outbox::new(safe);
        Self { platform, outbox, now: START, capacity, load: None, allocated: 0.0, sent: Vec::new() }
    }

    pub(crate) fn at(&self) -> Timestamp {
        Timestamp::from_seconds(self.now)
    }

    /// The current that is available as far as the app knows.
    pub(crate) fn available(&self) -> f64 {
        self.load.map_or(0.0, |load| (self.capacity - load).max(0.0))
    }

    /// Readings of this second.
    pub(crate) fn read(&mut self, readings: &[(&str, &str, Datum)]) {
        let mut batch = BatchBuilder::new();
        for (slot, entity, value) in readings {
            batch.push(slot, entity, self.at(), value.clone());
            if let ("building-load", Datum::Real(load)) = (*slot, value) {
                self.load = Some(*load);
            }
        }
        let outcome = self.platform.consume::<Charging>(&batch.build());
        self.after(outcome);
    }

    /// Tells the app the outcomes that are there, at most so many; gives whether there were any.
    pub(crate) fn tell_outcomes(&mut self, most: usize) -> bool {
        let count = self.outbox.outcomes.len().min(most);
        let told: Vec<_> = self.outbox.outcomes.drain(..count).collect();
        let readings: Vec<(&str, &str, Datum)> = told
            .iter()
            .map(|(station, outcome)| ("outcome", station.as_str(), Datum::from(*outcome)))
            .collect();
        if !readings.is_empty() {
            self.read(&readings);
        }
        count > 0
    }

    fn after(&mut self, outcome: Outcome) {
        let outcome = outcome.expect_ok();
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
        for row in self.platform.outputs_since(&outcome) {
            if let ("allocated", Datum::Real(amps)) = (row.output.as_str(), row.value) {
                self.allocated = amps;
            }
        }
        self.outbox.commit(self.platform.intents());
        self.platform.forget();
    }

    /// Lets seconds pass, with the timer at each full minute; `check` looks at each moment. Outcomes come to the app in the
    /// second in which they happen, where `prompt`.
    pub(crate) fn pass(&mut self, seconds: u64, prompt: bool, mut check: impl FnMut(&Self, &[Sent])) {
        for _ in 0..seconds {
            self.happen(prompt, &mut check);
            self.now += 1;
            if self.now.is_multiple_of(60) {
                let outcome = self.platform.fire::<Charging>("minute", self.at());
                self.after(outcome);
            }
        }
        self.happen(prompt, &mut check);
    }

    fn happen(&mut self, prompt: bool, check: &mut impl FnMut(&Self, &[Sent])) {
        for _ in 0..50 {
            let sent = self.outbox.second(self.now);
            check(self, &sent);
            self.sent.extend(sent);
            if !prompt || !self.tell_outcomes(usize::MAX) {
                return;
            }
        }
        panic!("requests and outcomes go round and round");
    }

    /// Lets seconds pass, and holds the site to what is available.
    pub(crate) fn run(&mut self, seconds: u64) {
        self.pass(seconds, true, |yard, _| {
            let (sum, available) = (yard.outbox.sum(), yard.available());
            assert!(sum <= available + 1e-6, "{sum} A of {available} A at second {}", yard.now - START);
        });
    }

    /// A car comes, asks for so much and leaves after so many hours.
    pub(crate) fn plug(&mut self, station: &str, kwh: f64, hours: u64) {
        let departure = Timestamp::from_seconds(self.now + hours * 3_600).to_string();
        self.read(&[
            ("energy-asked", station, kwh.into()),
            ("departure", station, departure.as_str().into()),
            ("connected", station, true.into()),
            ("current", station, 0.0.into()),
        ]);
    }

    pub(crate) fn manner(&mut self, station: &str, manner: Manner) {
        self.outbox.charger(station).manner = manner;
    }

    /// Seconds since the start, each limit of a station that was sent.
    pub(crate) fn limits(&self, station: &str) -> Vec<f64> {
        self.sent.iter().filter(|sent| sent.station == station).map(|sent| sent.amps).collect()
    }
}
