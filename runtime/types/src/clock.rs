//! Time: nanoseconds since 1970, and the one clock that gives journal time.
//!
//! The committer alone asks [`Clock::now`] for journal time, so that it never goes back by itself. With
//! `[site] clock = "feed"` time comes from the readings themselves and stands still between them.
//!
//! The machine's clock may be wrong. One that stands before the last journal time is waited for, unless an
//! admin sets journal time back ([`Clock::set_back`]); one that is years ahead of everything known is not followed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds; as text RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-29T06:00:00.000000000Z")]
pub struct Timestamp(pub u64);

/// The least integer that is taken for nanoseconds since 1970: 3 March 1973. Smaller ones are seconds,
/// milliseconds or microseconds of our days, which would silently become a time soon after 1970.
pub const LEAST_NANOSECONDS: u64 = 100_000_000_000_000_000;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// No clock that shows an earlier time can be right: this program was not built yet.
pub const BUILT_AFTER: Timestamp = Timestamp(1_793_491_200 * SECOND);
/// The step of a clock, or its lag behind journal time, from which on people are told.
pub const NOTABLE: Duration = Duration::from_secs(300);
/// The lead over both build and journal up to which a clock is believed: ten years.
pub const FURTHEST: u64 = 10 * 365 * 24 * 3600 * SECOND;

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

    /// Converts to `jiff`. Times after the year 2262 become its last nanosecond.
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
    /// The latest time that came in since the start, under the feed's clock; 0 before.
    fed: AtomicU64,
}

/// The source of time: `[site] clock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The machine's own clock.
    #[default]
    Host,
    /// The `at` of what comes in: for demos, tests and replays of old data.
    Feed,
}

/// The reason why a machine's clock can't be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockFault {
    /// It shows a time before this program was built.
    #[error("it shows {0}, a time before this program was built")]
    BeforeBuild(Timestamp),
    /// It is more than [`FURTHEST`] ahead of build and journal.
    #[error("it shows {0}, more than ten years after this program was built and after the last reading")]
    FarAhead(Timestamp),
}

impl Clock {
    /// A clock that never shows less than `last`, the last journal time there is.
    pub fn new(source: Source, last: Timestamp) -> Self {
        Self { source, last: AtomicU64::new(last.0), fed: AtomicU64::new(0) }
    }

    /// The source of its time.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The time now, never less than before.
    pub fn now(&self) -> Timestamp {
        let now = match self.source {
            Source::Host => self.follow(host_time()).0,
            Source::Feed => 0,
        };
        Timestamp(self.last.fetch_max(now, Ordering::SeqCst).max(now))
    }

    /// Returns what [`Clock::now`] will return after `advance(at)`. Moves nothing.
    pub fn now_with(&self, at: Timestamp) -> Timestamp {
        match self.source {
            Source::Host => self.now(),
            Source::Feed => self.last().max(at),
        }
    }

    /// At start, whatever the source: time goes on from the last journal time.
    pub fn resume(&self, last: Timestamp) {
        self.last.store(last.0, Ordering::SeqCst);
    }

    /// Goes back to `to`, where time is further: a wrong future is left behind. For the committer alone, which
    /// writes that it was.
    pub fn set_back(&self, to: Timestamp) {
        self.last.fetch_min(to.0, Ordering::SeqCst);
    }

    /// Under the feed's clock, moves time on to `at`; under the host's it does nothing.
    pub fn advance(&self, at: Timestamp) {
        if self.source == Source::Feed {
            let last = self.last.fetch_max(at.0, Ordering::SeqCst);
            // A tick of the present brings nothing.
            if at.0 != last {
                self.fed.fetch_max(at.0, Ordering::SeqCst);
            }
        }
    }

    /// Under the feed's clock, the latest time that came in since the start, where journal time is ahead of it by
    /// more than [`NOTABLE`] and stands still until it is passed.
    pub fn late_feed(&self) -> Option<Timestamp> {
        let fed = Timestamp(self.fed.load(Ordering::SeqCst));
        (fed > Timestamp(0) && behind(fed, self.last()).is_some()).then_some(fed)
    }

    /// Returns the time of the machine's clock, unless it can't be right.
    pub fn host(&self) -> Result<Timestamp, ClockFault> {
        judge(host_time(), self.last())
    }

    /// How far the machine's clock stands before journal time, where that is more than [`NOTABLE`]: journal
    /// time stands still until the clock has caught up. `None` under the feed's clock.
    pub fn behind(&self) -> Option<Duration> {
        match self.source {
            Source::Host => behind(host_time(), self.last()),
            Source::Feed => None,
        }
    }

    /// The last time given out.
    pub fn last(&self) -> Timestamp {
        Timestamp(self.last.load(Ordering::SeqCst))
    }

    /// The machine's time as far as journal time follows it. One that is far ahead is not followed.
    fn follow(&self, host: Timestamp) -> Timestamp {
        match judge(host, self.last()) {
            Err(ClockFault::FarAhead(_)) => BUILT_AFTER,
            Ok(_) | Err(ClockFault::BeforeBuild(_)) => host,
        }
    }
}

fn judge(host: Timestamp, last: Timestamp) -> Result<Timestamp, ClockFault> {
    if host < BUILT_AFTER {
        Err(ClockFault::BeforeBuild(host))
    } else if host > last.max(BUILT_AFTER).plus(FURTHEST) {
        Err(ClockFault::FarAhead(host))
    } else {
        Ok(host)
    }
}

fn behind(host: Timestamp, last: Timestamp) -> Option<Duration> {
    let behind = Duration::from_nanos(last.0.saturating_sub(host.0));
    (behind > NOTABLE).then_some(behind)
}

/// Notices when the machine's clock is set, by a second clock that only counts.
#[derive(Debug)]
pub struct StepWatch {
    host: Timestamp,
    counted: Instant,
}

/// A step of the machine's clock by more than [`NOTABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The expected time.
    pub from: Timestamp,
    /// The time that it shows.
    pub to: Timestamp,
}

impl StepWatch {
    /// Begins with what both clocks show.
    pub fn new(host: Timestamp, counted: Instant) -> Self {
        Self { host, counted }
    }

    /// Compares both clocks with what they showed at the last look.
    pub fn look(&mut self, host: Timestamp, counted: Instant) -> Option<Step> {
        let passed = counted.saturating_duration_since(self.counted);
        let from = self.host.plus(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        *self = Self { host, counted };
        (Duration::from_nanos(host.0.abs_diff(from.0)) > NOTABLE).then_some(Step { from, to: host })
    }
}

/// Returns the time of the machine's clock, whatever the site's clock is.
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
    fn a_feed_that_lies_before_journal_time_is_told_until_it_has_caught_up() {
        let at = |seconds| Timestamp(seconds * SECOND);
        let clock = Clock::new(Source::Feed, at(10_000));
        assert_eq!(clock.late_feed(), None);
        clock.advance(at(500));
        // Ticks of the present and stragglers change nothing.
        clock.advance(at(10_000));
        clock.advance(at(100));
        assert_eq!(clock.late_feed(), Some(at(500)));
        clock.advance(at(9_700));
        assert_eq!(clock.late_feed(), None);
        clock.advance(at(20_000));
        clock.advance(at(100));
        assert_eq!(clock.late_feed(), None);
        let host = Clock::new(Source::Host, host_time());
        host.advance(at(500));
        assert_eq!(host.late_feed(), None);
    }

    #[test]
    fn a_wrong_future_is_left_behind_and_never_entered_by_it() {
        let clock = Clock::new(Source::Feed, Timestamp(9));
        clock.set_back(Timestamp(5));
        assert_eq!(clock.now(), Timestamp(5));
        clock.set_back(Timestamp(7));
        assert_eq!(clock.now(), Timestamp(5));
        let year = 365 * 24 * 3600 * SECOND;
        let clock = Clock::new(Source::Host, host_time().plus(year));
        let right = host_time();
        clock.set_back(right);
        let now = clock.now();
        assert!(right <= now && now < right.plus(year), "{now}");
        assert_eq!(clock.behind(), None);
    }

    #[test]
    fn the_host_clock_waits_for_time_to_catch_up_and_says_so() {
        let ahead = host_time().plus(3600 * SECOND);
        let clock = Clock::new(Source::Host, ahead);
        assert_eq!(clock.now(), ahead);
        assert!(clock.behind().is_some_and(|behind| behind > Duration::from_secs(3_000)));
        assert_eq!(Clock::new(Source::Feed, ahead).behind(), None);
        let minute = 60 * SECOND;
        assert_eq!(behind(BUILT_AFTER, BUILT_AFTER.plus(5 * minute)), None);
        assert_eq!(behind(BUILT_AFTER, BUILT_AFTER.plus(6 * minute)), Some(Duration::from_secs(360)));
        assert_eq!(behind(BUILT_AFTER.plus(minute), BUILT_AFTER), None);
    }

    #[test]
    fn a_clock_that_cant_be_right_is_named_and_one_far_ahead_is_not_followed() {
        let year = 365 * 24 * 3600 * SECOND;
        let early = Timestamp(BUILT_AFTER.0 - 1);
        assert_eq!(judge(early, Timestamp(0)), Err(ClockFault::BeforeBuild(early)));
        assert_eq!(judge(BUILT_AFTER, Timestamp(0)), Ok(BUILT_AFTER));
        let far = BUILT_AFTER.plus(11 * year);
        assert_eq!(judge(far, Timestamp(0)), Err(ClockFault::FarAhead(far)));
        assert_eq!(judge(far, BUILT_AFTER.plus(2 * year)), Ok(far));
        let clock = Clock::new(Source::Host, Timestamp(0));
        assert_eq!(clock.follow(far), BUILT_AFTER);
        assert_eq!(clock.follow(early), early);
        assert_eq!(clock.follow(BUILT_AFTER.plus(year)), BUILT_AFTER.plus(year));
    }

    #[test]
    fn a_time_to_come_is_looked_at_without_moving_the_feeds_clock() {
        let clock = Clock::new(Source::Feed, Timestamp(5));
        assert_eq!(clock.now_with(Timestamp(9)), Timestamp(9));
        assert_eq!(clock.now_with(Timestamp(3)), Timestamp(5));
        assert_eq!(clock.now(), Timestamp(5));
    }

    #[test]
    fn a_step_of_more_than_five_minutes_is_noticed_in_both_directions() {
        let (host, counted) = (BUILT_AFTER, Instant::now());
        let mut watch = StepWatch::new(host, counted);
        let later = |seconds| counted + Duration::from_secs(seconds);
        assert_eq!(watch.look(host.plus(10 * SECOND), later(10)), None);
        assert_eq!(watch.look(host.plus(300 * SECOND), later(20)), None, "slewed by less");
        let to = host.plus(1_000 * SECOND);
        assert_eq!(watch.look(to, later(30)), Some(Step { from: host.plus(310 * SECOND), to }));
        assert_eq!(watch.look(to.plus(SECOND), later(31)), None, "told once");
        assert_eq!(watch.look(host, later(32)).map(|step| step.to), Some(host));
    }
}
