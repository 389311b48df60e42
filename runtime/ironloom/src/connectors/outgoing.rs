//! Readings and alarms that connectors take out, in the order in which they came, and the trait that gives them.

use super::{SinkError, Submitted};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointPath, Sequence};
use ironloom_types::readings::{Published, Quality, ValueRef};

/// A reading that may go out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutReading<'a> {
    pub sequence: Sequence,
    pub path: &'a PointPath,
    pub unit: Option<&'a str>,
    pub at: Timestamp,
    pub quality: Quality,
    pub value: ValueRef<'a>,
}

/// An alarm that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutAlarm {
    /// Counts the changes of all alarms.
    pub change: u64,
    /// `alarms/<installation>/<code>/<entity>`; without the last where it is the whole installation's.
    pub path: String,
    /// The alarm with its newest state, as the API shows it.
    pub json: Vec<u8>,
}

/// A part of the journal, or of the changes of alarms, that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// The sequence or the count of its last one.
    pub through: u64,
    /// Readings, of whatever points, that are past their retention or can't be read; changes of alarms that are forgotten.
    pub missed: u64,
}

/// The giver of what goes out: the node.
pub(crate) trait Outgoing: Send + Sync {
    /// The last that there is.
    fn last(&self) -> Published;
    /// Looks at a part of the journal behind this sequence. `take` gets what apps have derived and what became of
    /// set-points, in order, until it returns false. Waits for a disk.
    ///
    /// # Errors
    /// A sentence; the same may be tried again.
    fn read(&self, after: Sequence, take: &mut dyn FnMut(&OutReading<'_>) -> bool) -> Result<Looked, String>;
    /// Looks at changes of alarms behind this one, as [`Self::read`] does.
    ///
    /// # Errors
    /// A sentence; the same may be tried again.
    fn read_alarms(&self, after: u64, take: &mut dyn FnMut(OutAlarm) -> bool) -> Result<Looked, String>;
    /// The place up to which a connector has published, as its last durable record has it.
    ///
    /// # Errors
    /// A sentence: the place can't be read.
    fn published(&self, connector: &str) -> Result<Option<Published>, String>;
    /// Writes it down.
    fn publish_through(&self, connector: &str, through: Published) -> Result<Submitted, SinkError>;
}

/// There is nothing: where readings are only brought in.
pub(crate) struct NoOutgoing;

impl Outgoing for NoOutgoing {
    fn last(&self) -> Published {
        Published::default()
    }

    fn read(&self, after: Sequence, _: &mut dyn FnMut(&OutReading<'_>) -> bool) -> Result<Looked, String> {
        Ok(Looked { through: after.0, missed: 0 })
    }

    fn read_alarms(&self, after: u64, _: &mut dyn FnMut(OutAlarm) -> bool) -> Result<Looked, String> {
        Ok(Looked { through: after, missed: 0 })
    }

    fn published(&self, _: &str) -> Result<Option<Published>, String> {
        Ok(None)
    }

    fn publish_through(&self, _: &str, _: Published) -> Result<Submitted, SinkError> {
        Ok(Box::pin(std::future::ready(Ok(()))))
    }
}
