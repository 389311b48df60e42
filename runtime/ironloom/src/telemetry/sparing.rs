//! Log lines that may be caused often are written seldom.

use std::time::{Duration, Instant};

/// The lines of one kind that may still be written: some at once, and then one in each span of time.
#[derive(Debug)]
pub(crate) struct Sparing {
    most: u32,
    every: Duration,
    left: u32,
    /// The time at which `left` was right.
    at: Instant,
}

impl Sparing {
    /// Allows `most` lines at once, and one more in each `every`.
    pub(crate) fn new(most: u32, every: Duration) -> Self {
        Self { most, every, left: most, at: Instant::now() }
    }

    /// Takes a line; `false` where there is none.
    pub(crate) fn take(&mut self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_nanos() / self.every.as_nanos().max(1);
        if passed > 0 {
            let more = u32::try_from(passed).unwrap_or(u32::MAX);
            (self.left, self.at) = (self.left.saturating_add(more).min(self.most), now);
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_all_written_and_later_ones_now_and_then() {
        let mut lines = Sparing::new(20, Duration::from_secs(10));
        let start = lines.at;
        let mut written = |seconds| {
            let now = start + Duration::from_secs(seconds);
            (0..100).filter(|_| lines.take_at(now)).count()
        };
        assert_eq!(written(1), 20);
        assert_eq!(written(9), 0);
        assert_eq!(written(10), 1);
        assert_eq!(written(19), 0);
        assert_eq!(written(3_600), 20);
    }

    #[test]
    fn one_a_minute_begins_with_one() {
        let mut lines = Sparing::new(1, Duration::from_secs(60));
        let start = lines.at;
        let mut written = |seconds| lines.take_at(start + Duration::from_secs(seconds));
        assert!(written(0) && !written(0) && !written(59));
        assert!(written(60) && !written(119) && written(120));
    }
}
