//! Smooths temperatures, and raises an alarm while one is above a limit.

use ironloom_sdk::prelude::*;
use serde::{Deserialize, Serialize};

struct App;
// The app and its roles: `readings` since the manifest has inputs; add `timers` with a first timer.
ironloom_sdk::app!(App: readings);

/// What the app remembers of each thermometer. Memory is gone after each call; this stays.
#[derive(Serialize, Deserialize)]
struct Thermometer {
    smoothed: f64,
    at: Timestamp,
    too_warm: bool,
}

const THERMOMETERS: Table<str, Thermometer> = Table::new("thermometer/");

/// What whoever installs the app can set, by the names of `app.toml`.
#[derive(Deserialize)]
struct Settings {
    limit: f64,
    smoothing: f64,
}

impl Readings for App {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        let settings: Settings = settings::all()?;
        let mut thermometers = THERMOMETERS.of(batch)?;
        let mut out = Outputs::new();
        for reading in batch.readings().filter(|reading| !reading.is_bad()) {
            let (temperature, at) = (reading.real()?, reading.at());
            if temperature < -273.15 {
                // This one becomes a dead letter, for somebody to look at. The rest goes on.
                reading.refuse(format!("{temperature} °C is colder than possible"));
                continue;
            }
            let first = || Thermometer { smoothed: temperature, at, too_warm: false };
            let thermometer = thermometers.or_insert_with(&reading, first);
            thermometer.take(temperature, at, settings.smoothing);
            out.derive(&reading, "smoothed", thermometer.smoothed)?;

            let too_warm = thermometer.smoothed > settings.limit;
            if too_warm && !thermometer.too_warm {
                let message = format!("{:.1} °C, more than {} °C", thermometer.smoothed, settings.limit);
                alarms::raise("too-warm", reading.entity(), &message)?;
                log::warn!("{} is too warm: {message}", reading.entity());
            } else if !too_warm && thermometer.too_warm {
                alarms::clear("too-warm", reading.entity())?;
            }
            thermometer.too_warm = too_warm;
        }
        // Both would happen at the end of the scope as well; so an error shows where it arises.
        thermometers.save()?;
        out.publish()?;
        Ok(())
    }
}

impl Thermometer {
    /// Moves the smoothed value towards a new one: the more, the longer the last one is ago.
    fn take(&mut self, temperature: f64, at: Timestamp, smoothing: f64) {
        let seconds = at.since(self.at).as_secs_f64();
        let weight = if smoothing > 0.0 { 1.0 - (-seconds / smoothing).exp() } else { 1.0 };
        self.smoothed += weight * (temperature - self.smoothed);
        // Readings can come out of order: time doesn't go back.
        self.at = self.at.max(at);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ironloom_sdk::testing::{self, Platform};

    use super::*;

    fn platform() -> Platform {
        Platform::from_manifest(include_str!("../app.toml"))
    }

    fn noon() -> Timestamp {
        "2026-07-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_change_shows_by_two_thirds_after_the_time_of_smoothing() {
        let mut platform = platform();
        platform.set("smoothing", "60");
        let later = noon() + Duration::from_secs(60);
        let readings = [("temperature", "attic", noon(), 20.0), ("temperature", "attic", later, 30.0)];
        platform.consume::<App>(&testing::batch(readings)).expect_ok();

        let smoothed = platform.values("smoothed", "attic");
        assert_eq!(smoothed[0], (noon(), 20.0));
        // 1 - 1/e = 0.632…
        assert!((smoothed[1].1 - 26.32).abs() < 0.01, "{smoothed:?}");
    }

    #[test]
    fn the_alarm_stands_while_it_is_too_warm() {
        let mut platform = platform();
        platform.set("smoothing", "0");
        let mut consume = |minute: u64, temperature: f64| {
            let at = noon() + Duration::from_secs(60 * minute);
            platform.consume::<App>(&testing::batch([("temperature", "attic", at, temperature)])).expect_ok();
            platform.alarm_standing("too-warm", "attic").is_some()
        };
        assert!(!consume(0, 30.0));
        assert!(consume(1, 30.1));
        assert!(consume(2, 35.0));
        assert!(!consume(3, 29.0));
    }

    #[test]
    fn an_impossible_reading_is_refused_alone() {
        let mut platform = platform();
        let readings = [("temperature", "attic", noon(), -300.0), ("temperature", "cellar", noon(), 12.0)];
        let done = platform.consume::<App>(&testing::batch(readings)).expect_ok();
        assert_eq!(done.refused[0].entity, "attic");
        assert_eq!(platform.values("smoothed", "cellar"), [(noon(), 12.0)]);
    }
}
