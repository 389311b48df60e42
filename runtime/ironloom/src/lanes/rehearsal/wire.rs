//! The messages to and from a rehearsal's subprocess. Each is a length of four bytes and a body: postcard to it, JSON
//! from it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lanes::replay::Replica;
use crate::records::commit::Invocation;
use crate::records::installation::Revision;
use ironloom_sandbox::{Batch, Frame, Quality, Values};
use ironloom_types::CompiledRef;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmKey, OneShot};
use ironloom_types::ids::{Generation, Ordinal};
use ironloom_types::rehearsal::{RehearsalReport, RehearsalStart};

/// The longest message: the readings of one invocation, or the state to begin with.
pub(crate) const MAX_MESSAGE: usize = 512 << 20;

/// A message to the subprocess.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// The first one.
    Begin(Box<Begin>),
    /// A recorded invocation of the old version, and what the new one is offered in its place.
    Step(Box<Step>),
    /// Readings that the new version alone takes.
    OnlyNew(Offered),
    /// The journal's end.
    End,
}

/// All that is known before the first invocation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// The folder of compiled code.
    pub code: String,
    /// Code is compiled so that traps lead to lines.
    pub with_lines: bool,
    pub generation: Generation,
    pub start: RehearsalStart,
    pub before: Belongings,
    /// The revisions of the old version from the start on, in their order.
    pub old: Vec<Stage>,
    pub new: Stage,
    /// The time from which both run.
    pub from: Timestamp,
    /// Numbers that differ by no more than this share of the larger one count as the same.
    pub tolerance: f64,
}

/// A revision with the code of its package.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub revision: Revision,
    pub manifest: String,
    pub compiled: CompiledRef,
}

/// The belongings of an app between two invocations.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Belongings {
    state: BTreeMap<Box<str>, Vec<u8>>,
    alarms: Vec<(AlarmKey, usize)>,
    timers: BTreeMap<Box<str>, OneShot>,
    time: Timestamp,
}

impl From<&Replica> for Belongings {
    fn from(replica: &Replica) -> Self {
        Self {
            state: replica.state().iter().map(|(key, value)| (key.clone(), value.to_vec())).collect(),
            alarms: replica.alarms().iter().map(|(key, counts)| (key.clone(), *counts)).collect(),
            timers: replica.timers().clone(),
            time: replica.time(),
        }
    }
}

impl From<Belongings> for Replica {
    fn from(Belongings { state, alarms, timers, time }: Belongings) -> Self {
        let state = state.into_iter().map(|(key, value)| (key, Bytes::from(value)));
        Self::new(state.collect(), alarms.into_iter().collect(), timers, time)
    }
}

/// A recorded invocation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub record: Invocation,
    /// It was not tried again.
    pub is_last: bool,
    /// The readings that it took.
    pub batch: Option<WireBatch>,
    pub new: ForNew,
}

/// The readings that the new version is offered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ForNew {
    /// Those of the old one.
    Same,
    /// Those of its own inputs.
    Own(Option<WireBatch>),
}

/// Readings with the time at which they came.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offered {
    pub time: Timestamp,
    pub batch: WireBatch,
}

/// A batch in the form in which it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireBatch {
    entities: String,
    frames: Vec<WireFrame>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireFrame {
    slot: String,
    entity: Vec<u32>,
    at: Vec<u64>,
    order: Option<Vec<u32>>,
    quality: Option<Vec<u8>>,
    values: WireValues,
}

#[derive(Debug, Serialize, Deserialize)]
enum WireValues {
    Booleans(Vec<bool>),
    Integers(Vec<i64>),
    Reals(Vec<f64>),
    Texts(Vec<String>),
    Blobs(Vec<Vec<u8>>),
}

impl From<Batch> for WireBatch {
    fn from(Batch { entities, frames }: Batch) -> Self {
        let frames = frames.into_iter().map(|frame| WireFrame {
            slot: frame.slot,
            entity: frame.entity,
            at: frame.at,
            order: frame.order,
            quality: frame.quality.map(|all| all.into_iter().map(|quality| quality as u8).collect()),
            values: match frame.values {
                Values::Booleans(all) => WireValues::Booleans(all),
                Values::Integers(all) => WireValues::Integers(all),
                Values::Reals(all) => WireValues::Reals(all),
                Values::Texts(all) => WireValues::Texts(all),
                Values::Blobs(all) => WireValues::Blobs(all),
            },
        });
        Self { entities, frames: frames.collect() }
    }
}

impl From<WireBatch> for Batch {
    fn from(WireBatch { entities, frames }: WireBatch) -> Self {
        let quality = |number: u8| match number {
            0 => Quality::Good,
            1 => Quality::Uncertain,
            _ => Quality::Bad,
        };
        let frames = frames.into_iter().map(|frame| Frame {
            slot: frame.slot,
            entity: frame.entity,
            at: frame.at,
            order: frame.order,
            quality: frame.quality.map(|all| all.into_iter().map(quality).collect()),
            values: match frame.values {
                WireValues::Booleans(all) => Values::Booleans(all),
                WireValues::Integers(all) => Values::Integers(all),
                WireValues::Reals(all) => Values::Reals(all),
                WireValues::Texts(all) => Values::Texts(all),
                WireValues::Blobs(all) => Values::Blobs(all),
            },
        });
        Self { entities, frames: frames.collect() }
    }
}

/// A message from the subprocess.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FromWorker {
    Through(Through),
    /// The last one.
    Report(Box<RehearsalReport>),
    /// The last one where there is no report: the host can't go on.
    Failed(String),
}

/// The place that it has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Through {
    pub ordinal: Ordinal,
    pub time: Timestamp,
    pub readings: u64,
    pub different: u64,
}

/// A message to the subprocess as it is sent.
pub(crate) fn frame(message: &ToWorker) -> Result<Vec<u8>, String> {
    let mut bytes = postcard::to_extend(message, vec![0; 4]).map_err(|error| error.to_string())?;
    let length = bytes.len() - 4;
    if length > MAX_MESSAGE {
        return Err(format!("a message has {length} bytes, and {MAX_MESSAGE} is the most"));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// Reads the next message; `None` at the end.
pub(crate) fn read(from: &mut impl Read) -> std::io::Result<Option<ToWorker>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(std::io::Error::other("a message is too long"));
    }
    let mut body = Vec::new();
    from.take(length as u64).read_to_end(&mut body)?;
    postcard::from_bytes(&body).map(Some).map_err(std::io::Error::other)
}

/// One line that the subprocess writes.
pub(crate) fn line(message: &FromWorker) -> Vec<u8> {
    // Plain data: writing it doesn't fail.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a line of it back.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| format!("its answer makes no sense: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_over_as_it_is_to_the_bit() {
        let odd = f64::from_bits(0x7ff8_0000_0000_0001);
        let batch = Batch {
            entities: "a\nb".to_owned(),
            frames: vec![
                Frame {
                    slot: "weight".to_owned(),
                    entity: vec![1, 0],
                    at: vec![5, u64::MAX],
                    order: Some(vec![0, 2]),
                    quality: Some(vec![Quality::Bad, Quality::Good]),
                    values: Values::Reals(vec![odd, -0.0]),
                },
                Frame {
                    slot: "note".to_owned(),
                    entity: vec![0],
                    at: vec![6],
                    order: Some(vec![1]),
                    quality: None,
                    values: Values::Texts(vec!["ä".to_owned()]),
                },
            ],
        };
        let offered = Offered { time: Timestamp(2), batch: batch.clone().into() };
        let bytes = frame(&ToWorker::OnlyNew(offered)).unwrap();
        let mut rest = &bytes[..];
        let Some(ToWorker::OnlyNew(found)) = read(&mut rest).unwrap() else { panic!("another message") };
        assert!(rest.is_empty());
        let found = Batch::from(found.batch);
        let Values::Reals(values) = &found.frames[0].values else { panic!("other values") };
        assert_eq!(values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), [odd.to_bits(), 1 << 63]);
        assert_eq!(format!("{found:?}"), format!("{batch:?}"));
        assert!(read(&mut rest).unwrap().is_none(), "the end");
        assert!(read(&mut &bytes[..bytes.len() - 1]).is_err(), "cut off");
    }
}
