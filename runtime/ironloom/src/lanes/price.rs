//! What an invocation costs besides its own CPU time: one price list, charged to the installation's share.
//!
//! What follows a call is done on threads that all share: the committer, the fold, the checkpoint, the disk.
//! Without a price an app could use all of them up within its share of the processors. The prices are near
//! what each thing takes there (`decisions/0013`); that of a byte is what bounds how fast one app fills the disk:
//! with the default share, half a core, [`BYTE`] makes it 5 MB/s.

use std::time::Duration;

/// A record, whatever is in it.
pub(crate) const COMMIT: u64 = 250_000;
/// A key of `state` that is set or deleted, with [`KEY_BYTES`] of key and value.
pub(crate) const KEY: u64 = 500;
/// The bytes of a key and its value that are in the price of a key.
pub(crate) const KEY_BYTES: usize = 64;
/// A byte of keys and values beyond those. It takes the place of another one at rest, or of what the quota has left.
pub(crate) const STATE_BYTE: u64 = 20;
/// A derived reading: it is routed, kept in the journal, and makes a latest value. Its fixed columns included.
pub(crate) const DERIVED: u64 = 1_000;
/// A point that is new: it is looked for whose patterns match it.
pub(crate) const NEW_POINT: u64 = 10_000;
/// An input of any installation that takes a new point.
pub(crate) const MATCH: u64 = 1_000;
/// A dead letter, and each older one that has to go for it.
pub(crate) const DEAD_LETTER: u64 = 5_000;
/// A one-shot timer that is set or cancelled.
pub(crate) const TIMER: u64 = 2_000;
/// An alarm that changes.
pub(crate) const ALARM: u64 = 5_000;
/// A set-point that is asked for: it is kept, sent, and its outcome is a record and a reading.
pub(crate) const INTENT: u64 = 20_000;
/// A line of the app's log, dropped ones included.
pub(crate) const LOG_LINE: u64 = 5_000;
/// A byte of texts, blobs and reasons in the record, or of the app's log: it stays.
pub(crate) const BYTE: u64 = 100;

/// The items to be paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bill {
    /// State keys that are set or deleted.
    pub keys: usize,
    /// Bytes of their keys and values, but for those in the price of a key.
    pub state_bytes: usize,
    pub derived: usize,
    /// Points that are new.
    pub new_points: usize,
    /// The inputs of all installations that these match, each as often as it matches one.
    pub matches: usize,
    /// Dead letters that are made or dropped.
    pub dead_letters: usize,
    /// One-shot timers that are set or cancelled.
    pub timers: usize,
    /// Alarms that change.
    pub alarms: usize,
    /// Set-points that are asked for.
    pub intents: usize,
    /// Bytes of the record, but for state and for the fixed columns of derived readings.
    pub bytes: usize,
}

impl Bill {
    /// Returns the price of one record with all of it.
    pub(crate) fn cost(&self) -> Duration {
        let parts = [
            (self.keys, KEY),
            (self.state_bytes, STATE_BYTE),
            (self.derived, DERIVED),
            (self.new_points, NEW_POINT),
            (self.matches, MATCH),
            (self.dead_letters, DEAD_LETTER),
            (self.timers, TIMER),
            (self.alarms, ALARM),
            (self.intents, INTENT),
            (self.bytes, BYTE),
        ];
        let sum = parts.iter().map(|(count, price)| *count as u64 * price).sum::<u64>();
        Duration::from_nanos(COMMIT + sum)
    }
}

/// Returns the price of an app's log lines.
pub(crate) fn log(lines: usize, bytes: usize) -> Duration {
    Duration::from_nanos(lines as u64 * LOG_LINE + bytes as u64 * BYTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::limits::{Limits, MAX_DERIVED, MAX_EFFECT_BYTES};

    /// Computes how much of something an installation with the default share can have per second, sustained.
    fn sustained(bill: Bill) -> f64 {
        Limits::default().share as f64 / bill.cost().as_nanos() as f64
    }

    #[test]
    fn the_default_share_writes_a_few_megabytes_a_second_whatever_it_writes() {
        let texts = Bill { bytes: MAX_EFFECT_BYTES, derived: 240, ..Bill::default() };
        let mb = sustained(texts) * MAX_EFFECT_BYTES as f64 / 1e6;
        assert!((3.0..8.0).contains(&mb), "{mb} MB/s of texts");
        // A derived reading takes 20 bytes of the log, and at most as many at rest.
        let numbers = Bill { derived: MAX_DERIVED, ..Bill::default() };
        let mb = sustained(numbers) * MAX_DERIVED as f64 * 20.0 / 1e6;
        assert!((3.0..12.0).contains(&mb), "{mb} MB/s of numbers");
        // State has a quota, and the log is used again: it takes the disk's time, not its room.
        let large = Bill { keys: 256, state_bytes: 8 << 20, ..Bill::default() };
        let mb = sustained(large) * f64::from(8 << 20) / 1e6;
        assert!((10.0..30.0).contains(&mb), "{mb} MB/s of large values");
        let keys = Bill { keys: 100_000, ..Bill::default() };
        let mb = sustained(keys) * 100_000.0 * KEY_BYTES as f64 / 1e6;
        assert!((10.0..70.0).contains(&mb), "{mb} MB/s of small keys");
    }

    #[test]
    fn each_line_of_a_bill_has_its_price() {
        let none = Bill::default().cost().as_nanos();
        let cost = |bill: Bill| bill.cost().as_nanos() - none;
        assert_eq!(cost(Bill { keys: 3, ..Bill::default() }), 3 * 500);
        assert_eq!(cost(Bill { state_bytes: 3, ..Bill::default() }), 3 * 20);
        assert_eq!(cost(Bill { derived: 3, ..Bill::default() }), 3 * 1_000);
        assert_eq!(cost(Bill { new_points: 3, ..Bill::default() }), 3 * 10_000);
        assert_eq!(cost(Bill { matches: 3, ..Bill::default() }), 3 * 1_000);
        assert_eq!(cost(Bill { dead_letters: 3, ..Bill::default() }), 3 * 5_000);
        assert_eq!(cost(Bill { timers: 3, ..Bill::default() }), 3 * 2_000);
        assert_eq!(cost(Bill { alarms: 3, ..Bill::default() }), 3 * 5_000);
        assert_eq!(cost(Bill { intents: 3, ..Bill::default() }), 3 * 20_000);
        assert_eq!(cost(Bill { bytes: 3, ..Bill::default() }), 3 * 100);
        assert_eq!(log(3, 7).as_nanos(), 3 * 5_000 + 7 * 100);
    }

    #[test]
    fn a_record_without_anything_in_it_has_its_price() {
        assert_eq!(sustained(Bill::default()), 2_000.0);
    }
}
