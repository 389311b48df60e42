//! Points in time.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// Shows and reads RFC 3339. Sums and differences stop at the ends of the range instead of overflowing. With
/// serde it is a number of nanoseconds.
///
/// ```
/// use std::time::Duration;
/// use ironloom_sdk::Timestamp;
///
/// let weighed: Timestamp = "2026-03-01T06:00:00Z".parse()?;
/// let later = weighed + Duration::from_secs(36 * 3600);
/// assert_eq!(later.to_string(), "2026-03-02T18:00:00Z");
/// assert_eq!(later.days_since(weighed), 1.5);
/// # Ok::<(), ironloom_sdk::InvalidTimestamp>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_DAY: f64 = 86_400e9;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// Takes nanoseconds since 1970.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Takes whole seconds since 1970.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Gives nanoseconds since 1970.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Gives seconds since 1970, to about a microsecond.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / NANOS_PER_SECOND as f64
    }

    /// Gives the time from `earlier` to this, zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Gives the days of 24 hours from `other` to this, negative where `other` is later.
    pub fn days_since(self, other: Self) -> f64 {
        let days = self.0.abs_diff(other.0) as f64 / NANOS_PER_DAY;
        if self < other { -days } else { days }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_nanos(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_nanos(duration)))
    }
}

/// The nanoseconds of a duration; one of more than 584 years counts as the longest there is.
pub(crate) fn whole_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0);
        fmt::Display::fmt(&humantime::format_rfc3339(time), f)
    }
}

/// Says why a text is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an RFC 3339 time from 1970 on, such as 2026-03-01T06:00:00Z")]
pub struct InvalidTimestamp {
    text: String,
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        humantime::parse_rfc3339(text)
            .ok()
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .map(Self)
            .ok_or_else(|| InvalidTimestamp { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_rfc_3339() {
        // `date -u -d 2024-02-29T23:59:59 +%s` says 1709251199.
        assert_eq!("2024-02-29T23:59:59Z".parse(), Ok(Timestamp::from_seconds(1_709_251_199)));
        let fraction = Timestamp::from_nanos(1_709_251_199_000_000_001);
        assert_eq!("2024-02-29T23:59:59.000000001Z".parse(), Ok(fraction));
        assert_eq!(fraction.to_string().parse(), Ok(fraction));
        for bad in ["", "yesterday", "2024-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_stop_at_the_ends() {
        assert_eq!(Timestamp::EPOCH - Duration::from_secs(1), Timestamp::EPOCH);
        assert_eq!(Timestamp(u64::MAX) + Duration::MAX, Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(7)), Duration::ZERO);
        assert_eq!(Timestamp::EPOCH.days_since(Timestamp::from_seconds(43_200)), -0.5);
    }
}
