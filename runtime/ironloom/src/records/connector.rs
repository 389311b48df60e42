//! Connectors as people add, change and stop them: the form that log and store share.

use serde::{Deserialize, Serialize};

use ironloom_types::limits::MAX_CONNECTOR_NAME;

/// Names of which the log may have something at a time.
pub(crate) const MOST_CONNECTORS: usize = 256;
/// The longest table of one.
pub(crate) const MAX_TABLE: usize = 64 << 10;

/// All that the log has of one name; without a table and a stop, nothing. Of a connector that the configuration file names, only
/// that it is stopped counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectorRecord {
    pub name: Box<str>,
    /// Its table as JSON, with its keys in their order; `None` where only the file has one.
    pub table: Option<Box<str>>,
    /// Somebody has stopped it.
    pub stopped: bool,
}

impl ConnectorRecord {
    /// Returns true where nothing is to be kept of it.
    pub(crate) fn says_nothing(&self) -> bool {
        self.table.is_none() && !self.stopped
    }

    /// Returns true where its texts are no longer than they may be.
    pub(crate) fn is_bounded(&self) -> bool {
        let table = self.table.as_ref().map_or(0, |table| table.len());
        (1..=MAX_CONNECTOR_NAME).contains(&self.name.len()) && table <= MAX_TABLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_at_their_limits_are_bounded_and_longer_ones_are_not() {
        let record = |name: usize, table: usize| ConnectorRecord {
            name: "n".repeat(name).into(),
            table: Some("t".repeat(table).into()),
            stopped: false,
        };
        for (name, table, bounded) in [(63, 65_536, true), (64, 0, false), (0, 0, false), (1, 65_537, false)]
        {
            assert_eq!(record(name, table).is_bounded(), bounded, "{name} {table}");
        }
    }
}
