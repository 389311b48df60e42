//! Cron expressions, five fields, in the time zone of an installation.
//!
//! A time that daylight saving skips fires at the jump; one that it repeats fires once, the first
//! time. A timer of any hour (`*/15 * * * *`) goes on through both: it is a matter of elapsed time.
//! To get exactly that, the crate `cronexpr` is asked in a zone without jumps (UTC, standing for the
//! wall clock) and what it says is brought into the real zone here.

mod words;

use std::fmt;
use std::str::FromStr;

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};

use ironloom_types::clock::Timestamp;

/// The due times of a timer: minute, hour, day of month, month, day of week.
#[derive(Clone)]
pub struct Cron {
    text: String,
    table: Crontab,
    /// The field of hours is a wildcard.
    any_hour: bool,
}

/// Returns the time zone with this IANA name.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("{name:?} is not a time zone; write its IANA name, such as \"Europe/Berlin\""))
}

/// The most repeated minutes that are passed over: a clock set back by a whole day and more.
const MAX_REPEATED: usize = 2 * 24 * 60;

/// The most changes of a zone's offset that are passed over: a dozen a year are more than any zone has had.
const MAX_JUMPS: usize = 4 * 12;

impl Cron {
    /// Its meaning in words, such as `every day at 06:00`; `None` where no short sentence says it.
    pub fn words(&self) -> Option<String> {
        words::words(&self.text)
    }

    /// The first due time after `after`. `None` where none comes within four years.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.any_hour {
            return self.next_elapsed(after, zone);
        }
        let mut wall = zone.to_datetime(after.to_jiff());
        // Wall-clock times grow, so do their instants; only those repeated by a clock set back lie
        // before `after`.
        for _ in 0..MAX_REPEATED {
            let from = TimeZone::UTC.to_timestamp(wall).ok()?;
            wall = self.table.find_next(from).ok()?.datetime();
            let due = instant(wall, zone)?;
            if due > after {
                return Some(due);
            }
        }
        None
    }

    /// The next due time where each stretch between two jumps of the wall clock counts for itself.
    fn next_elapsed(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut begin = after.to_jiff();
        let mut offset = zone.to_offset(begin);
        let mut before = begin;
        for _ in 0..MAX_JUMPS {
            let wall = TimeZone::UTC.to_timestamp(offset.to_datetime(before)).ok()?;
            let due = offset.to_timestamp(self.table.find_next(wall).ok()?.datetime()).ok()?;
            let Some(jump) = zone.following(begin).next().filter(|jump| jump.timestamp() <= due) else {
                return Timestamp::from_jiff(due);
            };
            (begin, offset) = (jump.timestamp(), jump.offset());
            // What is due at the jump itself comes after this.
            before = begin.checked_sub(SignedDuration::from_nanos(1)).ok()?;
        }
        None
    }

    /// The last due time after `after` and not after `until`: overdue ones collapse into it.
    pub fn last_due(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = self.next_after(after, zone).filter(|due| *due <= until)?;
        // Look back from `until` in windows that double, so that neither a rare timer nor a long
        // stop costs many steps.
        let mut window = 60 * ironloom_types::clock::SECOND;
        loop {
            let start = Timestamp(until.0.saturating_sub(window).max(first.0));
            let mut last = (start == first).then_some(first);
            let mut from = start;
            while let Some(due) = self.next_after(from, zone).filter(|due| *due <= until) {
                last = Some(due);
                from = due;
            }
            if last.is_some() {
                return last;
            }
            window = window.saturating_mul(2);
        }
    }
}

/// The instant at which the zone's wall clock first shows this, or jumps over it.
fn instant(wall: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(wall);
    let instant = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok()?,
        // With the offset from after the jump the skipped time lies before it.
        AmbiguousOffset::Gap { after, .. } => {
            let before = after.to_timestamp(wall).ok()?;
            zone.following(before).next()?.timestamp()
        }
    };
    Timestamp::from_jiff(instant)
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = text.split_whitespace().count();
        if fields != 5 {
            return Err(format!(
                "{text:?} has {fields} fields, not five: minute, hour, day of month, month, day of week"
            ));
        }
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let table = cronexpr::parse_crontab_with(text, options).map_err(|error| {
            // The crate draws an arrow below the text, which has no place in one line.
            let detail = error.to_string();
            let detail = detail.lines().next_back().unwrap_or_default().trim();
            let detail = detail.trim_start_matches(['^', ' ']);
            format!("{text:?} is not a cron expression: {detail}")
        })?;
        let any_hour = text.split_whitespace().nth(1).is_some_and(|hour| hour.starts_with('*'));
        let cron = Self { text: text.to_owned(), table, any_hour };
        // A day that no month has, such as 31 February. 2023 is followed by a leap year within four.
        if cron.next_after(Timestamp(1_700_000_000_000_000_000), &TimeZone::UTC).is_none() {
            return Err(format!("{text:?} is never due"));
        }
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl Serialize for Cron {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn times(cron: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
        let cron: Cron = cron.parse().unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let mut out = Vec::new();
        for _ in 0..count {
            at = cron.next_after(at, &zone(zone_name)).unwrap();
            out.push(at.to_string().replace(".000000000", ""));
        }
        out
    }

    #[test]
    fn a_daily_timer_is_due_once_a_day_at_local_time() {
        assert_eq!(
            times("0 6 * * *", "Europe/Berlin", "2026-06-30T04:00:00Z", 2),
            ["2026-07-01T04:00:00Z", "2026-07-02T04:00:00Z"]
        );
        assert_eq!(times("0 6 * * *", "UTC", "2026-06-30T05:59:59.999999999Z", 1), ["2026-06-30T06:00:00Z"]);
    }

    #[test]
    fn a_skipped_time_fires_at_the_jump_and_only_once() {
        // On 2026-03-29 Berlin's clocks go from 02:00 to 03:00, at 01:00 UTC.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times("*/20 * * * *", "Europe/Berlin", "2026-03-29T00:39:00Z", 4),
            ["2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z"]
        );
    }

    #[test]
    fn a_repeated_time_fires_once() {
        // On 2026-10-25 Berlin's clocks go from 03:00 back to 02:00, at 01:00 UTC.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        // Asked from within the second 02:xx, the first 02:45 has been.
        assert_eq!(times("45 2 * * *", "Europe/Berlin", "2026-10-25T01:30:00Z", 1), ["2026-10-26T01:45:00Z"]);
    }

    #[test]
    fn a_timer_of_any_hour_goes_on_while_an_hour_is_repeated() {
        // On 2019-11-03 the clocks of Los Angeles go from 02:00 back to 01:00, at 09:00 UTC.
        assert_eq!(
            times("*/15 * * * *", "America/Los_Angeles", "2019-11-03T08:30:00Z", 6),
            [
                "2019-11-03T08:45:00Z",
                "2019-11-03T09:00:00Z",
                "2019-11-03T09:15:00Z",
                "2019-11-03T09:30:00Z",
                "2019-11-03T09:45:00Z",
                "2019-11-03T10:00:00Z"
            ]
        );
        assert_eq!(
            times("0 * 3 11 *", "America/Los_Angeles", "2019-11-03T07:30:00Z", 3),
            ["2019-11-03T08:00:00Z", "2019-11-03T09:00:00Z", "2019-11-03T10:00:00Z"]
        );
    }

    /// Offsets of these zones are whole quarters of an hour, so that each quarter of UTC is due and nothing else,
    /// whatever jumps: by half an hour, by a day, four times a year.
    #[test]
    fn each_quarter_of_an_hour_is_due_in_any_zone() {
        let quarter = 900 * ironloom_types::clock::SECOND;
        let cron: Cron = "*/15 * * * *".parse().unwrap();
        let years = [
            ("Australia/Lord_Howe", 2026),
            ("Pacific/Apia", 2011),
            ("Africa/Casablanca", 2012),
            ("Asia/Kathmandu", 1986),
        ];
        for (name, year) in years {
            let zone = zone(name);
            let mut at: Timestamp = format!("{year}-01-01T00:00:00Z").parse().unwrap();
            for _ in 0..366 * 96 {
                let next = cron.next_after(at, &zone).unwrap();
                assert_eq!(next.0, at.0 + quarter, "{name} after {at}");
                at = next;
            }
        }
    }

    #[test]
    fn a_whole_day_that_is_skipped_fires_at_the_jump() {
        // Samoa had no 30 December 2011: the clocks went from the end of the 29th to the 31st.
        assert_eq!(
            times("0 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00:00Z", 1),
            ["2011-12-30T10:00:00Z"]
        );
    }

    #[test]
    fn overdue_times_collapse_into_the_last() {
        let cron: Cron = "0 6 * * *".parse().unwrap();
        let utc = TimeZone::UTC;
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let last = |from: &str, until: &str| cron.last_due(at(from), at(until), &utc);
        assert_eq!(last("2020-01-01T06:00:00Z", "2026-05-05T05:59:59Z"), Some(at("2026-05-04T06:00:00Z")));
        assert_eq!(last("2026-05-04T05:00:00Z", "2026-05-04T06:00:00Z"), Some(at("2026-05-04T06:00:00Z")));
        assert_eq!(last("2026-05-04T06:00:00Z", "2026-05-05T05:59:59Z"), None);
    }

    #[test]
    fn what_is_no_cron_expression_or_never_due_is_refused() {
        for bad in
            ["", "* * * *", "0 6 * * * UTC", "60 * * * *", "0 0 31 2 *", "@daily", "a b c d e", "H * * * *"]
        {
            assert!(bad.parse::<Cron>().is_err(), "{bad}");
        }
        let error = "61 * * * *".parse::<Cron>().unwrap_err();
        assert!(!error.contains('\n'), "{error}");
    }
}
