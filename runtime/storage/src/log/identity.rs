//! Ties a log to its store, so that neither is combined with another one, nor a lost one taken for a new one.

use ironloom_types::ids::{Epoch, Position};

use super::frame::u64_at;

/// The store's knowledge of the log: written before the log goes on from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The fold position.
    pub fold: Position,
    /// A record that was flushed, and by which the store has left something out: a log without it is damaged.
    pub witness: Position,
    /// The fencing epoch.
    pub epoch: Epoch,
    /// The log that the store was begun with; `None` in a new store.
    pub identity: Option<Identity>,
}

/// A log as its store remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A random number that stands in each segment, too.
    pub(super) id: u64,
    /// The newest segment that had been begun when this was written; 0 before the first.
    pub(super) newest: u64,
}

impl Identity {
    /// The store's value: id u64, newest segment u64; little-endian.
    pub fn encode(&self) -> Vec<u8> {
        [self.id.to_le_bytes(), self.newest.to_le_bytes()].concat()
    }

    /// The same segments as those of another log.
    #[must_use]
    pub fn with_id(self, id: u64) -> Self {
        Self { id, ..self }
    }

    /// Reads the store's value; `None` where these bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let identity = Self { id: u64_at(bytes, 0)?, newest: u64_at(bytes, 8)? };
        (bytes.len() == 16).then_some(identity)
    }
}
