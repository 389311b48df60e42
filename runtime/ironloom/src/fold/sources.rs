//! Readings that each kind of source has brought since the server's start.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::records::columns;
use crate::records::readings::Receipt;
use ironloom_types::readings::Columns;

/// Connectors that are told apart: the configuration has fewer, but names may come and go.
const MOST: usize = 1_000;

/// A source of readings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Connector(Box<str>),
    /// All streams with a key together.
    Streams,
    /// All pushes together, and streams without a key.
    Pushes,
}

/// Readings, and their bytes as the log has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brought {
    pub readings: u64,
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Sources(Mutex<BTreeMap<Source, Brought>>);

impl Sources {
    /// Counts the readings of one record.
    pub(super) fn count(&self, receipt: Option<&Receipt>, columns: &Columns) {
        if columns.is_empty() {
            return;
        }
        let source = match receipt {
            Some(Receipt::Connector { name, .. }) => Source::Connector(name.clone()),
            Some(Receipt::Stream { .. }) => Source::Streams,
            Some(Receipt::Outputs { .. }) | None => Source::Pushes,
            // What became of set-points is no source's; the place of what is published has none.
            Some(Receipt::Outbox(_) | Receipt::Published { .. }) => return,
        };
        let mut sources = self.0.lock();
        if sources.len() >= MOST && !sources.contains_key(&source) {
            return;
        }
        let brought = sources.entry(source).or_default();
        brought.readings += columns.len() as u64;
        brought.bytes += columns::encoded_len(columns) as u64;
    }

    pub(crate) fn all(&self) -> BTreeMap<Source, Brought> {
        self.0.lock().clone()
    }
}
