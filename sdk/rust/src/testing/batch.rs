//! Batches for tests.

use std::collections::BTreeMap;

use crate::bindings::platform::ironloom::types::types::{Batch, Frame, Values};
use crate::time::Timestamp;
use crate::value::{Quality, Value};

/// A value of its own, of any type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names of the manifest's types say it all")]
pub enum Datum {
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl<'a, V: Into<Value<'a>>> From<V> for Datum {
    fn from(value: V) -> Self {
        match value.into() {
            Value::Boolean(value) => Self::Boolean(value),
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value),
            Value::Text(value) => Self::Text(value.to_owned()),
            Value::Blob(value) => Self::Blob(value.to_owned()),
        }
    }
}

/// Makes a batch of good readings: (input, entity, time, value), in the order in which the site recorded them.
///
/// ```
/// use ironloom_sdk::Timestamp;
/// use ironloom_sdk::testing::{self, Datum};
///
/// let at = Timestamp::from_seconds(1_700_000_000);
/// let weights = testing::batch([("weight", "42", at, 81.5), ("weight", "43", at, 79.0)]);
/// let mixed = testing::batch([("weight", "42", at, Datum::from(81.5)), ("breed", "42", at, Datum::from("duroc"))]);
/// # let _ = (weights, mixed);
/// ```
pub fn batch<'r, D: Into<Datum>>(
    readings: impl IntoIterator<Item = (&'r str, &'r str, Timestamp, D)>,
) -> Batch {
    let mut builder = BatchBuilder::new();
    for (slot, entity, at, value) in readings {
        builder.push(slot, entity, at, value);
    }
    builder.build()
}

/// Makes a batch reading by reading.
///
/// ```
/// use ironloom_sdk::testing::BatchBuilder;
/// use ironloom_sdk::{Quality, Timestamp};
///
/// let at = Timestamp::from_seconds(1_700_000_000);
/// let mut builder = BatchBuilder::new();
/// builder.push("weight", "42", at, 81.5);
/// builder.push_with("weight", "43", at, Quality::Bad, f64::NAN);
/// let batch = builder.build();
/// # let _ = batch;
/// ```
#[derive(Clone, Debug, Default)]
pub struct BatchBuilder {
    entities: Vec<String>,
    places: BTreeMap<String, u32>,
    frames: Vec<Frame>,
    count: u32,
}

impl BatchBuilder {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a good reading.
    pub fn push(&mut self, slot: &str, entity: &str, at: Timestamp, value: impl Into<Datum>) -> &mut Self {
        self.push_with(slot, entity, at, Quality::Good, value)
    }

    /// Adds a reading.
    pub fn push_with(
        &mut self,
        slot: &str,
        entity: &str,
        at: Timestamp,
        quality: Quality,
        value: impl Into<Datum>,
    ) -> &mut Self {
        let value = value.into();
        let line = self.line(entity);
        let order = self.count;
        self.count += 1;
        let frame = self.frame(slot, &value);
        match (&mut frame.values, value) {
            (Values::Booleans(values), Datum::Boolean(value)) => values.push(value),
            (Values::Integers(values), Datum::Integer(value)) => values.push(value),
            (Values::Reals(values), Datum::Real(value)) => values.push(value),
            (Values::Texts(values), Datum::Text(value)) => values.push(value),
            (Values::Blobs(values), Datum::Blob(value)) => values.push(value),
            (_, value) => fail(&format!(
                "all values of the input {slot:?} must be of one type: {value:?} is of another"
            )),
        }
        frame.entity.push(line);
        frame.at.push(at.nanos());
        frame.order.get_or_insert_default().push(order);
        frame.quality.get_or_insert_default().push(quality);
        self
    }

    /// Gives the batch. The platform, which knows the manifest, puts its frames into the manifest's order.
    pub fn build(&self) -> Batch {
        let mut frames = self.frames.clone();
        for frame in &mut frames {
            // As on the host: what all readings have in common is left out.
            if self.frames.len() == 1 {
                frame.order = None;
            }
            if frame.quality.iter().flatten().all(|&quality| quality == Quality::Good) {
                frame.quality = None;
            }
        }
        Batch { entities: self.entities.join("\n"), frames }
    }

    fn line(&mut self, entity: &str) -> u32 {
        if let Some(&line) = self.places.get(entity) {
            return line;
        }
        assert!(!entity.contains(char::is_control), "an entity holds no control characters: {entity:?}");
        let line = self.entities.len() as u32;
        self.entities.push(entity.to_owned());
        self.places.insert(entity.to_owned(), line);
        line
    }

    fn frame(&mut self, slot: &str, value: &Datum) -> &mut Frame {
        let place = self.frames.iter().position(|frame| frame.slot == slot).unwrap_or_else(|| {
            self.frames.push(Frame {
                slot: slot.to_owned(),
                entity: Vec::new(),
                at: Vec::new(),
                order: None,
                quality: None,
                values: match value {
                    Datum::Boolean(_) => Values::Booleans(Vec::new()),
                    Datum::Integer(_) => Values::Integers(Vec::new()),
                    Datum::Real(_) => Values::Reals(Vec::new()),
                    Datum::Text(_) => Values::Texts(Vec::new()),
                    Datum::Blob(_) => Values::Blobs(Vec::new()),
                },
            });
            self.frames.len() - 1
        });
        &mut self.frames[place]
    }
}

/// Fails the test.
#[allow(clippy::panic, reason = "a slip in a test has to fail it")]
#[track_caller]
pub(super) fn fail(reason: &str) -> ! {
    panic!("{reason}")
}
