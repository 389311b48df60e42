//! The lanes' next due timers behind the horizon. Those due before it were notified.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use ironloom_types::clock::Timestamp;

/// For each lane the earliest time to come at which a timer of its own is due. Times that have come aren't kept:
/// one that waits all the same, of a lane that is stopped or in a back-off, must hide neither another lane's nor
/// another timer of the same lane.
#[derive(Debug, Default)]
pub(super) struct Due {
    by_time: BTreeSet<(Timestamp, u32)>,
    of: HashMap<u32, Timestamp>,
}

impl Due {
    /// Notes a lane's next time, or that there is none.
    pub(super) fn set(&mut self, number: u32, next: Option<Timestamp>) {
        let before = match next {
            Some(next) => self.of.insert(number, next),
            None => self.of.remove(&number),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before, number));
        }
        if let Some(next) = next {
            self.by_time.insert((next, number));
        }
        assert!(self.by_time.len() == self.of.len(), "each lane has one time");
    }

    /// Takes out the lanes whose times have come.
    pub(super) fn take(&mut self, through: Timestamp) -> Vec<u32> {
        let mut come = Vec::new();
        while let Some((_, number)) = self.by_time.first().copied().filter(|(due, _)| *due <= through) {
            self.set(number, None);
            come.push(number);
        }
        come
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(due, _)| *due)
    }
}
