//! The effects of one invocation as plain data: made by the sandbox, written into one record of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::changes::StateChanges;
use crate::clock::Timestamp;
use crate::ids::{PointPath, SlotName};
use crate::limits::{
    ALARM_BYTES, ALARM_CHANGE_BYTES, INTENT_BYTES, MAX_STATE_KEY, STATE_KEY_BYTES, TIMER_SOONEST,
};
use crate::readings::{Columns, NewPoint, Value};

/// The effects of an invocation that returned ok. On any other outcome they are dropped, unread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// State that was set, or deleted (`None`), in the order of the keys' bytes, each key once.
    pub state: StateChanges,
    /// The derived readings, in the order in which they were published.
    pub derived: Columns,
    /// The points that `derived` names by a pending number.
    pub new_points: Vec<NewPoint>,
    /// One-shot timers that were set, with the time that was asked for, or cancelled (`None`).
    pub timers: BTreeMap<Box<str>, Option<Timestamp>>,
    /// Changes of alarms, in their order. An alarm that is raised again while it is active has only
    /// its last message.
    pub alarms: Vec<AlarmChange>,
    /// Readings that the app refused, one by one.
    pub refused: Vec<Refused>,
    /// Set-points that the app asked for, in their order.
    pub intents: Vec<Intent>,
}

/// A set-point that an app has asked for, as it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The call that asked for it, counted from 0: what one call asks for goes out in its order, each after the one before
    /// was accepted.
    pub list: u32,
    pub output: SlotName,
    pub entity: Arc<str>,
    /// The machine's point.
    pub point: PointPath,
    /// The value that the app asked for.
    pub asked: Value,
    /// The value that is sent: `asked`, or the next one that is granted.
    pub value: Value,
    /// It isn't sent after so many nanoseconds, counted from the invocation's time.
    pub time_to_live: u64,
}

impl Intent {
    /// Bytes that it counts among an invocation's effects.
    pub fn cost(&self) -> usize {
        INTENT_BYTES + self.output.as_str().len() + self.entity.len() + self.point.as_str().len()
    }
}

/// A one-shot timer that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneShot {
    /// When it fires.
    pub due: Timestamp,
    /// The time that the app asked for. An earlier one than `due` had passed, or nearly so, when it was set: by a reading
    /// that came late, say.
    pub asked: Timestamp,
}

impl OneShot {
    /// One that is set by an invocation of this time.
    pub fn set(asked: Timestamp, now: Timestamp) -> Self {
        Self { due: asked.max(now.plus(TIMER_SOONEST)), asked }
    }

    /// The same, due at another time since time itself was set back.
    #[must_use]
    pub fn moved(self, due: Timestamp) -> Self {
        Self { due, asked: self.asked.min(due) }
    }
}

/// Says what is wrong with a key of the state.
pub fn check_state_key(key: &str) -> Result<(), String> {
    if key.contains('\n') {
        return Err("a key must not contain a line feed".to_owned());
    }
    check_state_key_length(key.len())
}

/// Says what is wrong with the length of a key, in bytes.
pub fn check_state_key_length(bytes: usize) -> Result<(), String> {
    match bytes {
        0 => Err("a key must not be empty".to_owned()),
        1..=MAX_STATE_KEY => Ok(()),
        bytes => Err(format!("a key has {bytes} bytes; at most {MAX_STATE_KEY} are allowed")),
    }
}

/// Returns what an entry of `state` counts, against the installation's quota and among an invocation's effects.
pub fn state_cost(key: &str, value: &[u8]) -> usize {
    STATE_KEY_BYTES + key.len() + value.len()
}

/// An alarm's name: its code, and the entity that it is about.
pub type AlarmKey = (SlotName, Arc<str>);

/// A change of an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmChange {
    pub key: AlarmKey,
    pub act: AlarmAct,
}

/// A deed of an app with an alarm. `since` is the time at which it came to be so, as the app says; `None` is the time of
/// the invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlarmAct {
    Raise { message: Box<str>, since: Option<Timestamp> },
    Clear { since: Option<Timestamp> },
}

impl AlarmChange {
    /// Bytes that it counts among an invocation's effects.
    pub fn cost(&self) -> usize {
        let message = match &self.act {
            AlarmAct::Raise { message, .. } => message.len(),
            AlarmAct::Clear { .. } => 0,
        };
        ALARM_CHANGE_BYTES + self.key.0.as_str().len() + self.key.1.len() + message
    }
}

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
