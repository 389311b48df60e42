//! Weighings of a herd, day after day.

use anyhow::Result;
use serde_json::{Value, json};

/// The time of a day's weighings, days counted from 0.
pub fn morning(day: u32) -> Result<jiff::Timestamp> {
    let begin: jiff::Timestamp = "2026-01-01T07:00:00Z".parse()?;
    Ok(begin + jiff::SignedDuration::from_hours(24 * i64::from(day)))
}

/// The line of a pig's weighing: not the same for two pigs or two days, and now and then one that is odd.
pub fn weighing(pig: u32, day: u32) -> Result<String> {
    let weight = 20.0 + f64::from(day) * (0.5 + f64::from(pig % 7) / 10.0) + f64::from(pig % 13) / 3.0;
    let value = if (pig + day).is_multiple_of(97) { Value::from("heavy") } else { Value::from(weight) };
    Ok(format!("{}\n", json!({"point": format!("farm/{pig}/weight"), "value": value, "at": morning(day)?})))
}
