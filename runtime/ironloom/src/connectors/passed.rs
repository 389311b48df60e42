//! Counts of what a connector brings, and of everything that it passes over, by reason.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// A reason why something of a source became no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It can't be read: not in the form that it should have.
    Unreadable,
    /// Its time can't be read, or it has none and no clock says what it is.
    Time,
    /// No topic of the configuration is like it, or what it names makes no point that may be written.
    NoPoint,
    /// The point has another unit.
    Unit,
    /// The value isn't of the type that it should have.
    Type,
    /// More bytes than are taken.
    TooLong,
    /// A cell that stands for no value, by the configuration.
    Missing,
    /// It came again, and is in the log.
    Duplicate,
    /// A retained message that isn't wanted, or says what the point says already.
    Retained,
    /// The log refused it: a point too many, for example.
    Refused,
}

impl Reason {
    const ALL: [Self; 10] = [
        Self::Unreadable,
        Self::Time,
        Self::NoPoint,
        Self::Unit,
        Self::Type,
        Self::TooLong,
        Self::Missing,
        Self::Duplicate,
        Self::Retained,
        Self::Refused,
    ];

    /// Its name in API and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Time => "time",
            Self::NoPoint => "no-point",
            Self::Unit => "unit",
            Self::Type => "type",
            Self::TooLong => "too-long",
            Self::Missing => "missing",
            Self::Duplicate => "duplicate",
            Self::Retained => "retained",
            Self::Refused => "refused",
        }
    }
}

/// Something that became no reading, with a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub reason: Reason,
    pub text: String,
}

impl Reason {
    /// Says of something why it is passed over.
    pub(super) fn of(self, text: impl Into<String>) -> Passed {
        Passed { reason: self, text: text.into() }
    }
}

/// Counts by reason.
#[derive(Debug, Default)]
pub(super) struct PassedOver([AtomicU64; Reason::ALL.len()]);

impl PassedOver {
    pub(super) fn count(&self, reason: Reason, by: u64) {
        self.0[reason as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// Those that there were some of, by name.
    pub(super) fn show(&self) -> BTreeMap<String, u64> {
        let all = Reason::ALL.iter().zip(&self.0);
        let counted = all.map(|(reason, count)| (reason.name().to_owned(), count.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

/// Counts of a connector since the start of the server. They outlast its changes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Readings that it brought.
    pub readings: AtomicU64,
    /// Readings whose quality was lowered.
    pub lowered: AtomicU64,
    pub passed: PassedOver,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_count_and_a_name_of_its_own() {
        let passed = PassedOver::default();
        for (at, reason) in (1..).zip(Reason::ALL) {
            assert_eq!(reason as usize, at - 1);
            passed.count(reason, at as u64);
        }
        let shown = passed.show();
        assert_eq!(shown.len(), Reason::ALL.len());
        assert_eq!((shown["unreadable"], shown["refused"]), (1, 10));
        assert_eq!(PassedOver::default().show(), BTreeMap::new());
    }
}
