//! The readings of one invocation.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::bindings::platform::ironloom::types::types as raw;
use crate::time::Timestamp;
use crate::value::{Column, Quality, Value, WrongType};

/// The readings that one invocation is about: a [`Frame`] for each input that has any, and the entities that they
/// are about.
///
/// Go through them one by one with [`readings`](Self::readings), or column by column with
/// [`frame`](Self::frame), which is faster where an app computes little for each.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// struct Scale;
///
/// impl Readings for Scale {
///     fn consume(batch: &Batch) -> Result<(), Failure> {
///         for reading in batch.readings() {
///             let (animal, weight) = (reading.entity(), reading.real()?);
///             if weight <= 0.0 {
///                 reading.refuse(format!("{weight} kg is not a weight"));
///                 continue;
///             }
///             log::info!("{animal} weighs {weight} kg");
///         }
///         Ok(())
///     }
/// }
///
/// # use ironloom_sdk::testing::{self, Platform, Type};
/// # let batch = testing::batch([("weight", "42", Timestamp::EPOCH, 81.5), ("weight", "43", Timestamp::EPOCH, -1.0)]);
/// # let done = Platform::new().input("weight", Type::Real).consume::<Scale>(&batch);
/// # assert_eq!(done.refused[0].entity, "43");
/// ```
pub struct Batch<'a> {
    entities: Vec<&'a str>,
    frames: &'a [raw::Frame],
    refused: RefCell<BTreeMap<(u32, u32), String>>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(batch: &'a raw::Batch) -> Self {
        Self {
            entities: batch.entities.split('\n').collect(),
            frames: &batch.frames,
            refused: RefCell::default(),
        }
    }

    /// The entities, none of them twice. Columns and [`EntityRows`](crate::EntityRows) name one by its place in here.
    pub fn entities(&self) -> &[&'a str] {
        &self.entities
    }

    /// Returns the number of readings in all frames together.
    pub fn len(&self) -> usize {
        self.frames.iter().map(|frame| frame.at.len()).sum()
    }

    /// Returns whether there are no readings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frames, in the order of the manifest's inputs.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame<'_>> {
        self.frames.iter().enumerate().map(|(number, raw)| Frame { batch: self, raw, number })
    }

    /// The frame of an input, if it has readings.
    pub fn frame(&self, slot: &str) -> Option<Frame<'_>> {
        self.frames().find(|frame| frame.slot() == slot)
    }

    /// All readings, in the order in which the site recorded them, which is not always the order of their
    /// [`at`](Reading::at).
    pub fn readings(&self) -> InOrder<'_> {
        InOrder { heads: self.frames().map(|frame| frame.readings()).collect(), left: self.len() }
    }

    /// Refuses a single reading, by frame and place: see [`Reading::refuse`].
    pub fn refuse(&self, frame: usize, place: usize, reason: impl Into<String>) {
        let known = self.frames.get(frame).is_some_and(|frame| place < frame.at.len());
        assert!(
            known,
            "only a reading of the batch can be refused: there is no reading {place} in frame {frame}"
        );
        // Both fit: a list's length is a u32 on the way to the app.
        self.refused.borrow_mut().entry((frame as u32, place as u32)).or_insert_with(|| reason.into());
    }

    /// The refused readings, by frame and place.
    pub(crate) fn into_refused(self) -> BTreeMap<(u32, u32), String> {
        self.refused.into_inner()
    }
}

impl<'b> IntoIterator for &'b Batch<'_> {
    type Item = Reading<'b>;
    type IntoIter = InOrder<'b>;

    fn into_iter(self) -> InOrder<'b> {
        self.readings()
    }
}

/// The readings of one input, column by column: the n-th reading is the n-th of each column.
///
/// ```
/// use ironloom_sdk::prelude::*;
///
/// fn heaviest(batch: &Batch) -> Result<Option<f64>, Failure> {
///     let Some(frame) = batch.frame("weight") else { return Ok(None) };
///     Ok(frame.reals()?.iter().copied().reduce(f64::max))
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Frame<'b> {
    batch: &'b Batch<'b>,
    raw: &'b raw::Frame,
    number: usize,
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident, $case:ident, $item:ty, $type_name:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> Result<&'b [$item], WrongType> {
            match &self.raw.values {
                raw::Values::$case(values) => Ok(values),
                _ => Err(self.wrong_type($type_name)),
            }
        }
    )*};
}

impl<'b> Frame<'b> {
    fn wrong_type(&self, asked: &'static str) -> WrongType {
        WrongType { slot: self.raw.slot.clone(), is: self.raw.values.type_name(), asked }
    }

    /// The input, by its name in the manifest.
    pub fn slot(&self) -> &'b str {
        &self.raw.slot
    }

    /// The number of readings.
    pub fn len(&self) -> usize {
        self.raw.at.len()
    }

    /// Returns whether there are no readings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For each reading the entity that it is about, as a place in [`Batch::entities`].
    pub fn lines(&self) -> &'b [u32] {
        &self.raw.entity
    }

    /// For each reading when the source took it, in nanoseconds since 1970.
    pub fn at(&self) -> &'b [u64] {
        &self.raw.at
    }

    /// For each reading its place among all readings of the batch. None where the order of the frame is it.
    pub fn order(&self) -> Option<&'b [u32]> {
        self.raw.order.as_deref()
    }

    /// For each reading its quality. None where all are good.
    pub fn qualities(&self) -> Option<&'b [Quality]> {
        self.raw.quality.as_deref()
    }

    columns! {
        /// The values of an input of type `boolean`.
        booleans, Booleans, bool, "boolean";
        /// The values of an input of type `integer`.
        integers, Integers, i64, "integer";
        /// The values of an input of type `real`. Those of bad readings are NaN.
        reals, Reals, f64, "real";
        /// The values of an input of type `text`.
        texts, Texts, String, "text";
        /// The values of an input of type `blob`.
        blobs, Blobs, Vec<u8>, "blob";
    }

    /// The readings of this frame, in the order in which the site recorded them.
    pub fn readings(&self) -> FrameReadings<'b> {
        FrameReadings { frame: *self, next: 0 }
    }
}

/// One reading. It only points into the batch: copying it costs nothing.
#[derive(Clone, Copy)]
pub struct Reading<'b> {
    frame: Frame<'b>,
    place: usize,
}

macro_rules! typed {
    ($($(#[$doc:meta])* $name:ident, $case:ident, $item:ty, $type_name:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> Result<$item, WrongType> {
            match &self.frame.raw.values {
                raw::Values::$case(values) => Ok(values[self.place].to_owned()),
                _ => Err(self.frame.wrong_type($type_name)),
            }
        }
    )*};
}

impl<'b> Reading<'b> {
    /// The input, by its name in the manifest.
    pub fn slot(&self) -> &'b str {
        self.frame.slot()
    }

    /// Returns its entity: the segments that the braces of the binding matched, such as `barn-2/0042`, or the empty
    /// text.
    pub fn entity(&self) -> &'b str {
        self.frame.batch.entities[self.line()]
    }

    /// The entity, as a place in [`Batch::entities`].
    pub fn line(&self) -> usize {
        self.frame.raw.entity[self.place] as usize
    }

    /// The time at its source.
    pub fn at(&self) -> Timestamp {
        Timestamp::from_nanos(self.frame.raw.at[self.place])
    }

    /// Returns how far its value can be trusted.
    pub fn quality(&self) -> Quality {
        self.frame.raw.quality.as_ref().map_or(Quality::Good, |quality| quality[self.place])
    }

    /// Returns whether its value must not be used: then it is a placeholder (false, 0, NaN or empty).
    pub fn is_bad(&self) -> bool {
        self.quality() == Quality::Bad
    }

    /// Its value, of whatever type.
    pub fn value(&self) -> Value<'b> {
        self.frame.raw.values.value(self.place)
    }

    typed! {
        /// The value of an input of type `boolean`.
        boolean, Booleans, bool, "boolean";
        /// The value of an input of type `integer`.
        integer, Integers, i64, "integer";
        /// The value of an input of type `real`. Of a bad reading it is NaN.
        real, Reals, f64, "real";
    }

    /// The value of an input of type `text`.
    pub fn text(&self) -> Result<&'b str, WrongType> {
        self.frame.texts().map(|texts| texts[self.place].as_str())
    }

    /// The value of an input of type `blob`.
    pub fn blob(&self) -> Result<&'b [u8], WrongType> {
        self.frame.blobs().map(|blobs| blobs[self.place].as_slice())
    }

    /// Refuses this reading alone: it becomes a dead letter with this reason, and the rest of the batch goes on.
    /// Refusing it again changes nothing.
    pub fn refuse(&self, reason: impl Into<String>) {
        self.frame.batch.refuse(self.frame.number, self.place, reason);
    }

    /// Its place among all readings of the batch.
    fn rank(&self) -> u32 {
        self.frame.order().map_or(self.place as u32, |order| order[self.place])
    }
}

/// The readings of one frame. Made by [`Frame::readings`].
#[derive(Clone)]
pub struct FrameReadings<'b> {
    frame: Frame<'b>,
    next: usize,
}

impl<'b> FrameReadings<'b> {
    fn peek(&self) -> Option<Reading<'b>> {
        (self.next < self.frame.len()).then_some(Reading { frame: self.frame, place: self.next })
    }
}

impl<'b> Iterator for FrameReadings<'b> {
    type Item = Reading<'b>;

    fn next(&mut self) -> Option<Reading<'b>> {
        let reading = self.peek()?;
        self.next += 1;
        Some(reading)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.frame.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for FrameReadings<'_> {}

/// All readings of a batch in the order of the journal. Made by [`Batch::readings`].
#[derive(Clone)]
pub struct InOrder<'b> {
    heads: Vec<FrameReadings<'b>>,
    left: usize,
}

impl<'b> Iterator for InOrder<'b> {
    type Item = Reading<'b>;

    fn next(&mut self) -> Option<Reading<'b>> {
        self.left = self.left.saturating_sub(1);
        if let [only] = self.heads.as_mut_slice() {
            return only.next();
        }
        // Frames are few, and each is in order: the first of their heads comes next.
        let ranks = self.heads.iter().enumerate().filter_map(|(i, head)| Some((head.peek()?.rank(), i)));
        let (_, first) = ranks.min()?;
        self.heads[first].next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for InOrder<'_> {}
