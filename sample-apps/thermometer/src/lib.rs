//! Thermometer: the warmest it has been in each room, and an alarm where it is too warm.

use ironloom_sdk::prelude::*;

struct Thermometer;
ironloom_sdk::app!(Thermometer: readings);

/// The highest temperature so far in each room.
const WARMEST: Table<str, f64> = Table::new("warmest/");

impl Readings for Thermometer {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        let limit: f64 = settings::get("limit")?;
        let mut warmest = WARMEST.of(batch)?;
        let mut out = Outputs::new();
        for reading in batch.readings().filter(|reading| !reading.is_bad()) {
            let now = reading.real()?;
            if now < -273.15 {
                reading.refuse(format!("{now} °C is below absolute zero"));
                continue;
            }
            let before = warmest.or_insert_with(&reading, || f64::MIN);
            if now > *before {
                *before = now;
                out.derive(&reading, "record", now)?;
            }
            if now > limit {
                alarms::raise("too-warm", reading.entity(), &format!("{now} °C"))?;
            } else {
                alarms::clear("too-warm", reading.entity())?;
            }
        }
        warmest.save()?;
        out.publish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_sdk::testing::{self, Platform};

    #[test]
    fn each_room_has_its_record_and_its_alarm() {
        let mut platform = Platform::from_manifest(include_str!("../app.toml"));
        let noon: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        let batch = testing::batch([
            ("temperature", "kitchen", noon, 21.5),
            ("temperature", "attic", noon, 31.0),
            ("temperature", "attic", noon, -300.0),
        ]);
        let outcome = platform.consume::<Thermometer>(&batch).expect_ok();
        assert_eq!(outcome.refused[0].reason, "-300 °C is below absolute zero");
        assert_eq!(platform.values("record", "kitchen"), [(noon, 21.5)]);
        assert_eq!(platform.values("record", "attic"), [(noon, 31.0)]);
        assert_eq!(platform.alarm_standing("too-warm", "attic"), Some("31 °C"));

        let evening: Timestamp = "2026-07-01T20:00:00Z".parse().unwrap();
        platform
            .consume::<Thermometer>(&testing::batch([("temperature", "attic", evening, 24.0)]))
            .expect_ok();
        assert_eq!(platform.values("record", "attic").len(), 1, "no new record");
        assert_eq!(platform.alarm_standing("too-warm", "attic"), None);
    }
}
