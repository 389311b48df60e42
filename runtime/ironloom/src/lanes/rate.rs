//! The work of an installation in each second, measured over the last minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use ironloom_types::work::Counters;

/// The time over which it is measured.
const OVER: Duration = Duration::from_secs(60);

/// Counters of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<VecDeque<(Instant, Sample)>>);

/// Counters at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    readings: u64,
    cpu_nanos: u64,
    derived_bytes: u64,
}

/// Its work in each second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    pub readings: f64,
    /// CPU time in seconds.
    pub cpu: f64,
    /// Bytes of derived readings, as the log has them.
    pub derived_bytes: f64,
    /// The time over which it was measured.
    pub over: Duration,
}

impl Sample {
    fn of(counters: &Counters) -> Self {
        let Counters { readings, cpu_nanos, derived_bytes, .. } = *counters;
        Self { readings, cpu_nanos, derived_bytes }
    }
}

impl Meter {
    /// Takes note of the counters, every few seconds.
    pub(crate) fn sample(&self, counters: &Counters, now: Instant) {
        let mut samples = self.0.lock();
        // One stays that is as old as that.
        while samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= OVER) {
            samples.pop_front();
        }
        samples.push_back((now, Sample::of(counters)));
    }

    /// The rate up to now.
    pub(crate) fn rate(&self, counters: &Counters, now: Instant) -> Rate {
        let Some((at, before)) = self.0.lock().front().copied() else { return Rate::default() };
        let (over, sample) = (now.duration_since(at), Sample::of(counters));
        if over.is_zero() {
            return Rate::default();
        }
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / over.as_secs_f64();
        Rate {
            readings: each(sample.readings, before.readings),
            cpu: each(sample.cpu_nanos, before.cpu_nanos) / 1e9,
            derived_bytes: each(sample.derived_bytes, before.derived_bytes),
            over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(readings: u64) -> Counters {
        let (cpu_nanos, derived_bytes) = (readings * 500_000, readings * 20);
        Counters { readings, cpu_nanos, derived_bytes, ..Counters::default() }
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let (meter, start) = (Meter::default(), Instant::now());
        assert_eq!(meter.rate(&counters(7), start), Rate::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        // A hundred a second for two minutes, then none.
        for tick in 0..=24 {
            meter.sample(&counters(500 * tick), at(5 * tick));
        }
        let rate = meter.rate(&counters(12_000), at(120));
        assert_eq!((rate.readings, rate.cpu, rate.derived_bytes), (100.0, 0.05, 2_000.0));
        assert_eq!(rate.over, OVER);
        for tick in 25..=36 {
            meter.sample(&counters(12_000), at(5 * tick));
        }
        assert_eq!(meter.rate(&counters(12_000), at(180)).readings, 0.0);
        assert!(meter.0.lock().len() <= 14);
    }
}
