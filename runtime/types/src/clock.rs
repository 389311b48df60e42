//! Time: nanoseconds since 1970, and the one clock that gives journal time.
//!
//! The committer alone asks [`Clock::now`] for journal time, so that it never goes back. With
//! `[site] clock = "feed"` time comes from the readings themselves and stands still between them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds; as text RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// The least integer that is taken for nanoseconds since 1970: 3 March 1973. Smaller ones are seconds,
/// milliseconds or microseconds of our days, which would silently become a time soon after 1970.
pub const LEAST_NANOSECONDS: u64 = 100_000_000_000_000_000;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

impl Timestamp {
    /// This much later, at most the last time there is.
    #[must_use]
    pub fn plus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds).min(i64::MAX as u64))
    }

    /// The time that an integer without a unit stands for: nanoseconds since 1970.
    ///
    /// # Errors
    /// A sentence about an integer that looks like another unit ([`LEAST_NANOSECONDS`]), or lies after 2262.
    pub fn from_integer(at: u64) -> Result<Self, String> {
        let unit = match at {
            0..100_000_000_000 => "seconds",
            100_000_000_000..100_000_000_000_000 => "milliseconds",
            100_000_000_000_000..LEAST_NANOSECONDS => "microseconds",
            _ if at > i64::MAX as u64 => return Err(format!("{at} ns is after the year 2262")),
            _ => return Ok(Self(at)),
        };
        Err(format!("{at} looks like {unit}; write the time as RFC 3339, or in nanoseconds since 1970"))
    }

    /// As `jiff` sees it. Times after the year 2262 are shown as its last nanosecond.
    pub fn to_jiff(self) -> jiff::Timestamp {
        let nanoseconds = i128::from(self.0.min(i64::MAX as u64));
        jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or(jiff::Timestamp::MAX)
    }

    /// From `jiff`; `None` before 1970 or after 2262.
    pub fn from_jiff(at: jiff::Timestamp) -> Option<Self> {
        let nanoseconds = u64::try_from(at.as_nanosecond()).ok()?;
        (nanoseconds <= i64::MAX as u64).then_some(Self(nanoseconds))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}", self.to_jiff())
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |reason: &str| format!("{text:?} is not an RFC 3339 time: {reason}");
        let at: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| refuse(&error.to_string()))?;
        // What follows the time is an offset within a day and nothing else; the parser takes more.
        let offset = text.len().checked_sub(6).and_then(|start| text.get(start..));
        let far = |offset: &str| offset.starts_with(['+', '-']) && offset.get(1..3) > Some("23");
        if text.ends_with(']') || offset.is_some_and(far) {
            return Err(refuse("it ends in Z or an offset such as +02:00"));
        }
        Self::from_jiff(at).ok_or_else(|| format!("{text:?} is before 1970 or after 2262"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

/// The site's clock.
#[derive(Debug)]
pub struct Clock {
    source: Source,
    /// The last time given out.
    last: AtomicU64,
}

/// Where time comes from: `[site] clock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The machine's own clock.
    #[default]
    Host,
    /// The `at` of what comes in: for demos, tests and replays of old data.
    Feed,
}

impl Clock {
    /// A clock that never shows less than `last`, the last journal time there is.
    pub fn new(source: Source, last: Timestamp) -> Self {
        Self { source, last: AtomicU64::new(last.0) }
    }

    /// Where its time comes from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The time now, never less than before.
    pub fn now(&self) -> Timestamp {
        let now = match self.source {
            Source::Host => host_time().0,
            Source::Feed => 0,
        };
        Timestamp(self.last.fetch_max(now, Ordering::SeqCst).max(now))
    }

    /// At start, whatever the source: nothing earlier than the last journal time is given out.
    pub fn resume(&self, last: Timestamp) {
        self.last.fetch_max(last.0, Ordering::SeqCst);
    }

    /// Under the feed's clock, moves time on to `at`; under the host's it does nothing.
    pub fn advance(&self, at: Timestamp) {
        if self.source == Source::Feed {
            self.last.fetch_max(at.0, Ordering::SeqCst);
        }
    }
}

/// What the machine's clock shows, whatever the site's clock is.
pub fn host_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(i64::MAX as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_nanoseconds_and_read_back() {
        let at = Timestamp(1_700_000_000_000_000_001);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.000000001Z");
        assert_eq!("2023-11-14T22:13:20.000000001Z".parse(), Ok(at));
        assert_eq!("2023-11-14T23:13:20+01:00".parse(), Ok(Timestamp(1_700_000_000_000_000_000)));
        for bad in [
            "1969-12-31T23:59:59Z",
            "2023-11-14T23:13:20",
            "2023-11-14T23:13:20+25:00",
            "2023-11-14T23:13:20+01:00[Europe/Berlin]",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn integers_that_are_no_nanoseconds_are_told_by_their_likely_unit() {
        let told = |at: u64| Timestamp::from_integer(at).unwrap_err();
        // 2023-11-14T22:13:20Z in each unit.
        assert!(told(1_700_000_000).contains("looks like seconds"));
        assert!(told(1_700_000_000_000).contains("looks like milliseconds"));
        assert!(told(1_700_000_000_000_000).contains("looks like microseconds"));
        let at = Timestamp(1_700_000_000_000_000_000);
        assert_eq!(Timestamp::from_integer(at.0), Ok(at));
        assert!(told(0).contains("seconds"));
        assert!(Timestamp::from_integer(LEAST_NANOSECONDS - 1).is_err());
        assert_eq!(Timestamp(LEAST_NANOSECONDS).to_string(), "1973-03-03T09:46:40.000000000Z");
        assert!(told(1 << 63).contains("after the year 2262"));
    }

    #[test]
    fn the_feed_clock_moves_only_forward_and_only_when_told() {
        let clock = Clock::new(Source::Feed, Timestamp(5));
        assert_eq!(clock.now(), Timestamp(5));
        clock.advance(Timestamp(9));
        clock.advance(Timestamp(7));
        assert_eq!(clock.now(), Timestamp(9));
    }

    #[test]
    fn the_host_clock_waits_for_time_to_catch_up() {
        let ahead = Timestamp(host_time().0 + 3600 * SECOND);
        let clock = Clock::new(Source::Host, ahead);
        assert_eq!(clock.now(), ahead);
    }
}
