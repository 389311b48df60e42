//! Kind 2, *commit*: one invocation, with all that it did.
//!
//! ```text
//! head | state changes | new points | derived readings | entry of the audit log, if there is one
//! ```
//! State changes are in the order of their keys' bytes and front-coded: length shared with the key
//! before, length of the rest, the rest, and the value's length + 1 before the value, or 0 for a
//! deletion.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::alarm::{AlarmRecord, EpisodePlace};
use super::{
    BodyError, NumberedPoint, Reader, audit, columns, points_max_len, put_head, put_points, put_varint,
    take_points,
};
use crate::records::lane::LaneMeta;
use ironloom_apps::unit::Conversion;
use ironloom_trust::audit::Entry;
pub(crate) use ironloom_types::changes::StateChanges;
use ironloom_types::clock::Timestamp;
pub(crate) use ironloom_types::effects::Intent;
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{
    Digest, Generation, InstallationId, Ordinal, PointNumber, Revision, Sequence, SlotName,
};
use ironloom_types::readings::{Columns, NewPoint, Quality, Value};

/// The version that is written.
pub(crate) const VERSION: u8 = 9;

/// The head of a commit: everything besides state, points and readings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitHead {
    pub installation: InstallationId,
    /// The generation that it changes.
    pub generation: Generation,
    /// The invocation, as it is kept for as long as `invocations.max_age` says.
    pub invocation: Invocation,
    /// The lane's bookkeeping after it.
    pub meta: LaneMeta,
    /// One-shot timers after it: set, or gone (`None`).
    pub timers: Vec<(Box<str>, Option<OneShot>)>,
    /// Episodes of alarms that it changed, as they are after it, in the order in which it first changed them. The next
    /// episode of an alarm follows the one before.
    pub alarms: Vec<AlarmRecord>,
    /// Episodes that the history no longer has, since there were too many; they may be among `alarms`.
    pub episodes_gone: Vec<EpisodePlace>,
    /// Its dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that are gone: requeued, or dropped since there were too many or they took too much.
    pub dead_letters_gone: Vec<u64>,
    /// Hops that its derived readings have behind them.
    pub hops: u8,
    /// The set-points that it asks for, in their order.
    pub intents: Vec<Intent>,
}

/// The record that an invocation leaves: a replay takes edges, order, times and outcomes from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invocation {
    /// Counts the generation's invocations that took effect; one that didn't leaves its ordinal to the next.
    pub ordinal: Ordinal,
    /// Counts the attempts at this ordinal, from 1.
    pub attempt: u32,
    /// The reason for the call.
    pub kind: InvocationKind,
    /// The first reading that was offered; 0 for a timer.
    pub first: Sequence,
    /// The last reading that was offered; 0 for a timer.
    pub last: Sequence,
    /// The number of offered readings.
    pub readings: u32,
    pub time: Timestamp,
    /// The revision that it ran under.
    pub revision: Revision,
    pub outcome: OutcomeKind,
    /// The app's message, if it failed.
    pub message: Option<Box<str>>,
    /// The digest of its effects.
    pub digest: Digest,
}

/// The reason for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum InvocationKind {
    /// The next readings.
    Readings,
    /// A dead letter, once more.
    Requeue(u64),
    /// A timer that is due.
    Timer(Box<str>),
    /// Readings that never reach the app.
    Skip,
}

impl InvocationKind {
    /// Its name in the API.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Requeue(_) => "requeue",
            Self::Timer(_) => "timer",
            Self::Skip => "skip",
        }
    }
}

/// The outcome of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OutcomeKind {
    /// Its effects took place.
    Ok,
    /// The app said that it can't be done.
    Reject,
    /// The app asked for the same again later.
    Retry,
    /// The app trapped.
    Trap,
    /// It exceeded its CPU time.
    CpuLimit,
    /// It exceeded ten times its CPU time by the wall clock.
    WallLimit,
    /// It needed more memory than granted, and trapped.
    MemoryLimit,
    /// It passed more to the host than granted.
    HostCallLimit,
    /// The log can't take what it did: too large for one record, or too many points.
    CommitLimit,
}

impl OutcomeKind {
    const ALL: [Self; 9] = [
        Self::Ok,
        Self::Reject,
        Self::Retry,
        Self::Trap,
        Self::CpuLimit,
        Self::WallLimit,
        Self::MemoryLimit,
        Self::HostCallLimit,
        Self::CommitLimit,
    ];

    /// The outcome of this name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// Its name in API and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Reject => "reject",
            Self::Retry => "retry",
            Self::Trap => "trap",
            Self::CpuLimit => "cpu-limit",
            Self::WallLimit => "wall-limit",
            Self::MemoryLimit => "memory-limit",
            Self::HostCallLimit => "host-call-limit",
            Self::CommitLimit => "commit-limit",
        }
    }
}

/// A reading that an app could not take, with why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeadLetter {
    /// Counts the generation's dead letters.
    pub number: u64,
    /// The input it was for.
    pub input: SlotName,
    pub entity: Box<str>,
    pub point: PointNumber,
    /// Its place in the stream.
    pub sequence: Sequence,
    /// Its journal time.
    pub time: Timestamp,
    /// The time at its source.
    pub at: Timestamp,
    pub quality: Quality,
    pub value: Value,
    /// The way from the value to the unit that its input had then. Used once its point is gone, and that one's unit with it.
    pub conversion: Option<Conversion>,
    /// The unit that its input had.
    pub unit: Option<Arc<str>>,
    /// Why: `type: …`, `refused: …`, `reject: …`, `trap: …` and so on.
    pub reason: Box<str>,
    /// Whether a trap or a limit killed it.
    pub by_trap: bool,
    /// The invocation that made it.
    pub ordinal: Ordinal,
    /// The revision that it ran under.
    pub revision: Revision,
}

impl DeadLetter {
    /// About the bytes that it takes: its texts and its value, and 256 for all else.
    pub(crate) fn cost(&self) -> u64 {
        const FIXED: usize = 256;
        let unit = self.unit.as_ref().map_or(0, |unit| unit.len());
        (FIXED + self.entity.len() + self.value.heap_bytes() + unit + self.reason.len()) as u64
    }
}

/// A decoded commit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CommitRecord {
    /// Everything besides state, points and readings.
    pub head: CommitHead,
    /// State changes in the order of their keys' bytes.
    pub state: StateChanges,
    /// Points that appear in it for the first time.
    pub new_points: Vec<NumberedPoint>,
    pub derived: Columns,
    /// Its entry of the audit log, if it asks for set-points.
    pub entry: Option<Box<Entry>>,
}

/// Appends the part of the body that the lane knows before the committer gives its numbers. Returns the length of
/// the head, which comes before the state.
pub(crate) fn encode_effects(head: &CommitHead, state: &StateChanges, out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    put_head(head, out);
    let of_head = out.len() - begin;
    put_varint(out, state.len() as u64);
    let mut before: &[u8] = &[];
    for (key, value) in state.iter() {
        let key = key.as_bytes();
        let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
        put_varint(out, shared as u64);
        put_varint(out, (key.len() - shared) as u64);
        out.extend_from_slice(&key[shared..]);
        match value {
            None => out.push(0),
            Some(value) => {
                put_varint(out, value.len() as u64 + 1);
                out.extend_from_slice(value);
            }
        }
        before = key;
    }
    of_head
}

/// Appends the rest of the body: points and derived readings with their numbers.
pub(crate) fn encode_readings(new_points: &[NumberedPoint], derived: &Columns, out: &mut Vec<u8>) {
    put_points(new_points, out);
    columns::encode(derived, out);
}

/// At least the bytes that [`encode_readings`] appends, whatever numbers the points get.
pub(crate) fn readings_max_len(new_points: &[NewPoint], derived: &Columns) -> usize {
    points_max_len(new_points) + columns::encoded_len(derived)
}

/// Reads a body of any version that this binary knows.
pub(crate) fn decode(version: u8, body: &[u8]) -> Result<CommitRecord, BodyError> {
    if version != VERSION {
        return Err(BodyError("its version is not known"));
    }
    let mut reader = Reader::new(body);
    let head = reader.head()?;
    let state = take_state(&mut reader)?;
    let new_points = take_points(&mut reader)?;
    let derived = columns::decode(&mut reader)?;
    let entry = audit::take_entry(reader)?;
    Ok(CommitRecord { head, state, new_points, derived, entry })
}

fn take_state(reader: &mut Reader<'_>) -> Result<StateChanges, BodyError> {
    const TOO_LARGE: BodyError = BodyError("a length is too large");
    let count = reader.varint()?;
    let mut state = StateChanges::default();
    let mut key = Vec::new();
    for _ in 0..count {
        let shared = usize::try_from(reader.varint()?).map_err(|_| TOO_LARGE)?;
        if shared > key.len() {
            return Err(TOO_LARGE);
        }
        key.truncate(shared);
        key.extend_from_slice(super::take_bytes(reader)?);
        let text = std::str::from_utf8(&key).map_err(|_| BodyError("a key is not UTF-8"))?;
        let value = match reader.varint()? {
            0 => None,
            length => {
                let length = usize::try_from(length - 1).map_err(|_| TOO_LARGE)?;
                Some(reader.slice(length)?)
            }
        };
        state.push(text, value);
    }
    Ok(state)
}
