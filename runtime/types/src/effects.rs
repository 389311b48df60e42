//! The effects of one invocation as plain data: made by the sandbox, written into one record of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::ids::SlotName;
use crate::limits::{ALARM_BYTES, STATE_KEY_BYTES};
use crate::readings::{Columns, NewPoint};

/// The effects of an invocation that returned ok. On any other outcome they are dropped, unread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// State that was set, or deleted (`None`), in the order of the keys' bytes, each key once.
    pub state: Vec<StateChange>,
    /// The derived readings, in the order in which they were published.
    pub derived: Columns,
    /// The points that `derived` names by a pending number.
    pub new_points: Vec<NewPoint>,
    /// One-shot timers that were set, or cancelled (`None`).
    pub timers: BTreeMap<Box<str>, Option<Timestamp>>,
    /// Alarms, the last change of each (code, entity): raised with this message, or cleared (`None`).
    pub alarms: BTreeMap<AlarmKey, Option<Box<str>>>,
    /// Readings that the app refused, one by one.
    pub refused: Vec<Refused>,
}

/// One change of the state: a key that is set, or deleted (`None`).
pub type StateChange = (Box<str>, Option<Bytes>);

/// Returns what an entry of `state` counts, against the installation's quota and among an invocation's effects.
pub fn state_cost(key: &str, value: &[u8]) -> usize {
    STATE_KEY_BYTES + key.len() + value.len()
}

/// An alarm's name: its code, and the entity that it is about.
pub type AlarmKey = (SlotName, Arc<str>);

/// Returns what an alarm counts, against the installation's limit and the site's.
pub fn alarm_cost(entity: &str, message: &str) -> usize {
    ALARM_BYTES + entity.len() + message.len()
}

/// A reading that the app could not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its frame in the batch, counted from 0.
    pub frame: u32,
    /// Its place in the frame, counted from 0.
    pub reading: u32,
    /// For the person who looks through the dead letters.
    pub reason: String,
}
