//! What an app gives back to the site. It is sent when the app returns ok.

use std::time::Duration;

use crate::batch::Reading;
use crate::bindings::platform::ironloom::outputs::outputs as raw;
use crate::bindings::platform::ironloom::types::types::{Batch, Frame, Values};
use crate::time::{Timestamp, whole_nanos};
use crate::value::{Column as _, Quality, Value};
use crate::{host, pending};

/// Says why derived readings or set-points were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The manifest declares no such output, or one of the other kind.
    #[error("the manifest declares no output {0:?} of this kind: add a section [outputs.{0}]")]
    UnknownOutput(String),
    /// A set-point output is not bound, or an admin did not grant it.
    #[error("the set-point {0:?} is not bound or not granted: an admin has to do that")]
    NotGranted(String),
    /// The binding has no place for an entity. Says which, and why.
    #[error("{0}")]
    UnknownEntity(String),
    /// The value is not of the type that the manifest declares.
    #[error("a value is not of the type that the manifest declares: {0}")]
    WrongType(String),
    /// A real is infinite or not a number and its quality isn't bad, a text or blob is longer than 64 KiB, an entity
    /// contains a line feed, a time is after the year 2262, or a time to live is zero. Says which.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The value is not among those that were granted. Says what is allowed, such as `0, 6..32`.
    #[error("the value is not allowed, only these are: {0}")]
    NotAllowed(String),
    /// The app has sent as much as one invocation may: 100,000 derived readings, 1,000 intents.
    #[error("the app has sent as much as one invocation may: 100,000 derived readings, 1,000 intents")]
    TooMany,
    /// The app's outputs have as many points as it may make, this many.
    #[error(
        "the app's outputs have as many points as it may make, {0} (`limits.points`): an admin can grant more \
         with `ironloom set ID --limit points=…`"
    )]
    TooManyPoints(u64),
    /// This invocation may only read.
    #[error("nothing can be sent here: this invocation may only read")]
    ReadOnly,
    /// Anything else, in words.
    #[error("outputs: {0}")]
    Other(String),
}

impl From<raw::Error> for Error {
    fn from(error: raw::Error) -> Self {
        match error {
            raw::Error::UnknownOutput(output) => Self::UnknownOutput(output),
            raw::Error::NotGranted(output) => Self::NotGranted(output),
            raw::Error::UnknownEntity(entity) => Self::UnknownEntity(entity),
            raw::Error::WrongType(text) => Self::WrongType(text),
            raw::Error::Malformed(text) => Self::Malformed(text),
            raw::Error::NotAllowed(allowed) => Self::NotAllowed(allowed),
            raw::Error::TooMany => Self::TooMany,
            raw::Error::TooManyPoints(limit) => Self::TooManyPoints(limit),
            raw::Error::ReadOnly => Self::ReadOnly,
            raw::Error::Other(text) => Self::Other(text),
        }
    }
}

/// Gathers derived readings, column by column, and publishes them in one call.
///
/// They are recorded and routed like any other reading. What was gathered is published by
/// [`publish`](Self::publish), or when it goes out of scope; an error then fails the invocation.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// fn consume(batch: &Batch) -> Result<(), Failure> {
///     let mut out = Outputs::new();
///     for reading in batch.readings() {
///         out.derive(&reading, "weight-lb", reading.real()? / 0.453_592_37)?;
///     }
///     out.push("animals", "", invocation::now(), batch.entities().len() as i64)?;
///     out.publish()?;
///     Ok(())
/// }
/// # struct App;
/// # impl Readings for App { fn consume(batch: &Batch) -> Result<(), Failure> { consume(batch) } }
/// # use ironloom_sdk::testing::{self, Platform, Type};
/// # let mut platform = Platform::new().input("weight", Type::Real);
/// # platform = platform.output("weight-lb", Type::Real).output("animals", Type::Integer);
/// # let batch = testing::batch([("weight", "42", Timestamp::EPOCH, 0.453_592_37)]);
/// # platform.consume::<App>(&batch).expect_ok();
/// # assert_eq!(platform.values("weight-lb", "42"), [(Timestamp::EPOCH, 1.0)]);
/// ```
#[derive(Default)]
pub struct Outputs {
    columns: Vec<Column>,
    /// The column that the next reading probably goes to: apps push in turns.
    next: usize,
    entities: Entities,
}

struct Column {
    output: String,
    entity: Vec<u32>,
    at: Vec<u64>,
    /// Empty as long as all are good.
    quality: Vec<Quality>,
    values: Values,
}

impl Outputs {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reading with the entity and the time of this one.
    pub fn derive<'v>(
        &mut self,
        from: &Reading<'_>,
        output: &str,
        value: impl Into<Value<'v>>,
    ) -> Result<(), Error> {
        let entity = self.entities.of_line(from.line(), from.entity())?;
        self.add(output, entity, from.at(), Quality::Good, value.into())
    }

    /// Adds a reading. A time in the future is fine.
    pub fn push<'v>(
        &mut self,
        output: &str,
        entity: &str,
        at: Timestamp,
        value: impl Into<Value<'v>>,
    ) -> Result<(), Error> {
        self.push_with(output, entity, at, Quality::Good, value)
    }

    /// Adds a reading with a quality.
    pub fn push_with<'v>(
        &mut self,
        output: &str,
        entity: &str,
        at: Timestamp,
        quality: Quality,
        value: impl Into<Value<'v>>,
    ) -> Result<(), Error> {
        let entity = self.entities.of_text(entity)?;
        self.add(output, entity, at, quality, value.into())
    }

    /// Returns the number of gathered readings.
    pub fn len(&self) -> usize {
        self.columns.iter().map(|column| column.at.len()).sum()
    }

    /// Returns whether nothing has been gathered.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Publishes what has been gathered, and starts again with nothing.
    pub fn publish(&mut self) -> Result<(), Error> {
        let (columns, entities) = (std::mem::take(&mut self.columns), std::mem::take(&mut self.entities));
        self.next = 0;
        if columns.is_empty() {
            return Ok(());
        }
        let frames = columns.into_iter().map(|column| Frame {
            slot: column.output,
            entity: column.entity,
            at: column.at,
            order: None,
            quality: (!column.quality.is_empty()).then_some(column.quality),
            values: column.values,
        });
        host::publish(Batch { entities: entities.text, frames: frames.collect() })
    }

    fn add(
        &mut self,
        output: &str,
        entity: u32,
        at: Timestamp,
        quality: Quality,
        value: Value<'_>,
    ) -> Result<(), Error> {
        let place = self.place_of(output, &value);
        let column = &mut self.columns[place];
        match (&mut column.values, value) {
            (Values::Booleans(values), Value::Boolean(value)) => values.push(value),
            (Values::Integers(values), Value::Integer(value)) => values.push(value),
            (Values::Reals(values), Value::Real(value)) => values.push(value),
            (Values::Texts(values), Value::Text(value)) => values.push(value.to_owned()),
            (Values::Blobs(values), Value::Blob(value)) => values.push(value.to_owned()),
            (values, value) => {
                let (first, other) = (values.type_name(), value.type_name());
                return Err(Error::WrongType(format!("{output:?} got values of type {first} and {other}")));
            }
        }
        if quality != Quality::Good || !column.quality.is_empty() {
            column.quality.resize(column.at.len(), Quality::Good);
            column.quality.push(quality);
        }
        column.entity.push(entity);
        column.at.push(at.nanos());
        Ok(())
    }

    /// Returns the column of an output; adds one for values of this type if there was none.
    fn place_of(&mut self, output: &str, value: &Value<'_>) -> usize {
        let place = match self.columns.get(self.next) {
            Some(column) if same(&column.output, output) => self.next,
            _ => self.search(output, value),
        };
        self.next = if place + 1 < self.columns.len() { place + 1 } else { 0 };
        place
    }

    fn search(&mut self, output: &str, value: &Value<'_>) -> usize {
        if let Some(place) = self.columns.iter().position(|column| same(&column.output, output)) {
            return place;
        }
        self.columns.push(Column {
            output: output.to_owned(),
            entity: Vec::new(),
            at: Vec::new(),
            quality: Vec::new(),
            values: match value {
                Value::Boolean(_) => Values::Booleans(Vec::new()),
                Value::Integer(_) => Values::Integers(Vec::new()),
                Value::Real(_) => Values::Reals(Vec::new()),
                Value::Text(_) => Values::Texts(Vec::new()),
                Value::Blob(_) => Values::Blobs(Vec::new()),
            },
        });
        self.columns.len() - 1
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Err(error) = self.publish()
        {
            pending::park(error);
        }
    }
}

/// Compares two texts word by word: in a component `==` compares byte by byte.
fn same(a: &str, b: &str) -> bool {
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_bytes().as_chunks(), b.as_bytes().as_chunks());
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    a.len() == b.len()
        && a_words.iter().zip(b_words).all(|(a, b)| word(a) == word(b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

/// The entities of what was gathered. The same one may stand in it twice, since finding that out would cost more.
#[derive(Default)]
struct Entities {
    /// One on each line.
    text: String,
    /// The beginning of each.
    starts: Vec<u32>,
    /// For each entity of the batch that readings were derived from, its place here and one more; 0 where it has none.
    lines: Vec<u32>,
}

impl Entities {
    fn get(&self, place: usize) -> Option<&str> {
        let start = *self.starts.get(place)? as usize;
        let end = self.starts.get(place + 1).map_or(self.text.len(), |next| *next as usize - 1);
        self.text.get(start..end)
    }

    fn of_line(&mut self, line: usize, entity: &str) -> Result<u32, Error> {
        if let Some(place) = self.lines.get(line).and_then(|place| place.checked_sub(1))
            // Readings of two batches may come to one builder in tests.
            && self.get(place as usize).is_some_and(|known| same(known, entity))
        {
            return Ok(place);
        }
        let place = self.of_text(entity)?;
        if self.lines.len() <= line {
            self.lines.resize(line + 1, 0);
        }
        self.lines[line] = place + 1;
        Ok(place)
    }

    fn of_text(&mut self, entity: &str) -> Result<u32, Error> {
        let count = self.starts.len();
        if let Some(&last) = self.starts.last()
            && same(&self.text[last as usize..], entity)
        {
            return Ok(count as u32 - 1);
        }
        if entity.contains('\n') {
            return Err(Error::Malformed(format!("the entity {entity:?} contains a line feed")));
        }
        if count > 0 {
            self.text.push('\n');
        }
        self.starts.push(self.text.len() as u32);
        self.text.push_str(entity);
        Ok(count as u32)
    }
}

/// A set-point that the app asks for.
///
/// ```
/// use std::time::Duration;
/// use ironloom_sdk::prelude::*;
/// use ironloom_sdk::outputs::Intent;
///
/// fn heat(barn: &str) -> Result<(), Failure> {
///     let tickets = outputs::request(&[Intent::new("heating", barn, 21.5, Duration::from_secs(60))])?;
///     for ticket in tickets {
///         log::info!("{} asks for {:?}", ticket.id(), ticket.value());
///     }
///     Ok(())
/// }
/// # use ironloom_sdk::testing::{Platform, Type};
/// # let mut platform = Platform::new().set_point("heating", Type::Real);
/// # platform.run(|| heat("barn-1")).unwrap();
/// # assert_eq!(platform.intents()[0].entity, "barn-1");
/// ```
#[derive(Clone, Debug)]
pub struct Intent(pub(crate) raw::Intent);

impl Intent {
    /// Asks an output of kind `set-point` for a value. It is dropped when it could not be carried out within
    /// `time_to_live`, counted from [`invocation::now`](crate::invocation::now).
    pub fn new<'v>(output: &str, entity: &str, value: impl Into<Value<'v>>, time_to_live: Duration) -> Self {
        Self(raw::Intent {
            output: output.to_owned(),
            entity: entity.to_owned(),
            value: value.into().into(),
            time_to_live: whole_nanos(time_to_live),
        })
    }
}

/// The state of an intent so far.
#[derive(Clone, Debug)]
pub struct Ticket(pub(crate) raw::Ticket);

impl Ticket {
    /// Under this id the audit trail, the console and the outcome show it.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The value that will be sent: the one asked for, or the next one that the grant allows in the direction that it
    /// calls safe.
    pub fn value(&self) -> Value<'_> {
        (&self.0.value).into()
    }
}

/// Asks for set-points: all, or on error none. They are carried out in this order, each after the one before was
/// accepted; where one isn't, the rest is dropped. So lower one machine before raising another. Returns a ticket for
/// each. What becomes of each is a reading at `apps/INSTALLATION/OUTPUT/ENTITY/outcome`, which an input can be bound to. In
/// a test, `Platform::set_point` grants one.
pub fn request(intents: &[Intent]) -> Result<Vec<Ticket>, Error> {
    host::request(intents)
}

#[cfg(test)]
mod tests {
    use super::same;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_same_texts_are_those_that_are_equal(a in "[ab]{0,20}", b in "[ab]{0,20}", at in 0usize..20) {
            prop_assert_eq!(same(&a, &b), a == b);
            prop_assert!(same(&a, &a.clone()));
            // A difference of one byte, wherever it is.
            if at < a.len() {
                let other = format!("{}c{}", &a[..at], &a[at + 1..]);
                prop_assert!(!same(&a, &other));
            }
        }
    }
}
