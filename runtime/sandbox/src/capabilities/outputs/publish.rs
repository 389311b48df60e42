//! Derived readings: a batch from the app becomes columns for the log. All of it is checked before
//! any of it is taken.

use hashbrown::HashMap;

use super::{Context, Failure, View};
use crate::bindings::platform::ironloom::outputs::outputs::{Batch, Error};
use crate::bindings::types::{Frame, Quality as WitQuality, Values};
use crate::budget::Meter;
use crate::env::{OutputKind, Target};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;
use ironloom_types::limits::{DERIVED_BYTES, ENTITY_BYTES, MAX_DERIVED, MAX_ENTITY, MAX_READING_BYTES};
use ironloom_types::readings::{Columns, NewPoint, Quality, Tag, ValueRef};

/// Bytes that the host needs for each line of a table of entities.
const LINE_BYTES: usize = size_of::<&str>() + size_of::<Option<u32>>();
/// Points that are kept at hand for each reading of a call: of an app with 200 outputs, not those of every entity.
const KNOWN_PER_READING: usize = 8;
/// After so many readings it is asked whether the invocation may go on.
const READINGS_AT_ONCE: usize = 4_096;

/// Counts the lines of a table of entities; an empty one has one, the empty entity.
fn lines(table: &str) -> usize {
    table.bytes().filter(|&byte| byte == b'\n').count() + 1
}

/// Bytes that a batch carries over the boundary.
pub(super) fn carried(batch: &Batch) -> usize {
    let frames = batch.frames.iter().map(|frame| {
        let columns =
            frame.entity.len() * 4 + frame.at.len() * 8 + frame.quality.as_ref().map_or(0, Vec::len);
        let values = match &frame.values {
            Values::Booleans(values) => values.len(),
            Values::Integers(values) => values.len() * 8,
            Values::Reals(values) => values.len() * 8,
            Values::Texts(values) => values.iter().map(|text| text.len() + size_of::<String>()).sum(),
            Values::Blobs(values) => values.iter().map(|blob| blob.len() + size_of::<Vec<u8>>()).sum(),
        };
        frame.slot.len() + columns + values
    });
    batch.entities.len() + lines(&batch.entities) * LINE_BYTES + frames.sum::<usize>()
}

/// A frame that was checked, and the output that it is for.
struct Checked<'a> {
    output: usize,
    frame: &'a Frame,
    /// Bytes of its texts or blobs.
    heap: usize,
}

/// Points of one call, found before anything is taken.
pub(super) struct Points<'a> {
    entities: &'a [&'a str],
    /// The number of outputs.
    outputs: usize,
    /// The points of all outputs are kept for each line, where they take little memory beside the readings.
    pub(super) keeps_all: bool,
    /// For each line of the table of entities, where in `known` its points begin, once it was looked for.
    lines: Vec<Option<u32>>,
    /// For each line that was looked for, the point of each output that is known; for the last one only, unless all
    /// are kept.
    known: Vec<Option<PointNumber>>,
    new_points: Vec<NewPoint>,
    pending: HashMap<(usize, Box<str>), PointNumber>,
    /// Bytes that the points count among the effects.
    bytes: usize,
}

impl<'a> Points<'a> {
    pub(super) fn new(entities: &'a [&'a str], outputs: usize, readings: usize) -> Self {
        Self {
            entities,
            outputs,
            keeps_all: entities.len().min(readings) * outputs <= readings * KNOWN_PER_READING,
            lines: vec![None; entities.len()],
            known: Vec::new(),
            new_points: Vec::new(),
            pending: HashMap::new(),
            bytes: 0,
        }
    }

    /// The point of an output for the entity on a line.
    fn point(&mut self, context: &Context, checked: &Checked<'_>, line: usize) -> Result<PointNumber, Error> {
        let output = checked.output;
        let begin = match self.lines[line] {
            Some(begin) if self.keeps_all => begin as usize,
            before => {
                let entity = self.entities[line];
                if before.is_none() {
                    self.first(&checked.frame.slot, entity)?;
                }
                if !self.keeps_all {
                    self.known.clear();
                }
                let begin = self.known.len();
                context.resolver.known(entity, &mut self.known);
                self.known.resize(begin + self.outputs, None);
                self.lines[line] = Some(begin as u32);
                begin
            }
        };
        if let Some(point) = self.known[begin + output] {
            return Ok(point);
        }
        let point = self.resolve(context, output, line)?;
        self.known[begin + output] = Some(point);
        Ok(point)
    }

    /// Counts an entity whose first reading this is.
    fn first(&mut self, output: &str, entity: &str) -> Result<(), Error> {
        if entity.len() > MAX_ENTITY {
            return Err(Error::UnknownEntity(format!(
                "the output {output} has no point for an entity of {} bytes: it may have {MAX_ENTITY}",
                entity.len()
            )));
        }
        self.bytes += entity.len() + ENTITY_BYTES;
        Ok(())
    }

    /// Finds a point that isn't known at once: one that there is, one that this invocation has made, or a
    /// new one.
    fn resolve(&mut self, context: &Context, output: usize, line: usize) -> Result<PointNumber, Error> {
        let entity = self.entities[line];
        let unknown = |error: crate::UnknownEntity| Error::UnknownEntity(error.0);
        let new = match context.resolver.resolve(output, entity).map_err(unknown)? {
            Target::Known(point) => return Ok(point),
            Target::New(new) => new,
        };
        let key = (output, Box::from(entity));
        if let Some(point) = context.pending.get(&key).or_else(|| self.pending.get(&key)) {
            return Ok(*point);
        }
        let made = context.new_points.len() + self.new_points.len();
        if made as u64 >= context.room.own {
            return Err(Error::TooManyPoints(context.room.limit));
        }
        if made as u64 >= context.room.site {
            let text =
                "the site has as many points as outputs of apps may make; uninstall with --purge frees some";
            return Err(Error::Other(text.to_owned()));
        }
        let point = PointNumber::pending(made);
        self.new_points.push(new);
        self.pending.insert(key, point);
        Ok(point)
    }
}

impl View<'_> {
    /// Takes all readings of a batch, or none.
    pub(super) fn publish(&mut self, batch: &Batch) -> Result<(), Failure> {
        let lines = lines(&batch.entities);
        if lines > MAX_DERIVED {
            let text = format!("the table has {lines} entities; at most {MAX_DERIVED} are allowed");
            return Err(Error::Malformed(text).into());
        }
        let entities: Vec<&str> = batch.entities.split('\n').collect();
        let mut frames: Vec<Checked<'_>> = Vec::with_capacity(batch.frames.len());
        for frame in &batch.frames {
            let checked = self.check(frame, entities.len())?;
            if frames.iter().any(|other| other.output == checked.output) {
                return Err(Error::Malformed(format!("there are two frames of `{}`", frame.slot)).into());
            }
            frames.push(checked);
        }
        let readings: usize = frames.iter().map(|checked| checked.frame.at.len()).sum();
        if self.context.derived.len() + readings > MAX_DERIVED {
            return Err(Error::TooMany.into());
        }
        self.meter.check()?;

        let mut points = Points::new(&entities, self.app.outputs.len(), readings);
        let mut columns = Columns::with_capacity(readings);
        for checked in &frames {
            take(self.context, self.meter, checked, &mut points, &mut columns)?;
        }
        let heap: usize = frames.iter().map(|checked| checked.heap).sum();
        self.quota.effect(readings * DERIVED_BYTES + heap + points.bytes, 0).map_err(Error::Other)?;

        let context = &mut *self.context;
        context.new_points.append(&mut points.new_points);
        context.pending.extend(points.pending);
        if context.derived.is_empty() {
            context.derived = columns;
        } else {
            for row in 0..columns.len() {
                context.derived.push_row(&columns, row);
            }
        }
        Ok(())
    }

    fn check<'a>(&self, frame: &'a Frame, entities: usize) -> Result<Checked<'a>, Error> {
        let malformed = |problem: String| Error::Malformed(format!("`{}`: {problem}", frame.slot));
        let output = self.output(&frame.slot, OutputKind::Derived)?;
        let (tag, values, longest, heap) = match &frame.values {
            Values::Booleans(values) => (Tag::Boolean, values.len(), 0, 0),
            Values::Integers(values) => (Tag::Integer, values.len(), 0, 0),
            Values::Reals(values) => (Tag::Real, values.len(), 0, 0),
            Values::Texts(values) => lengths(Tag::Text, values.iter().map(String::len)),
            Values::Blobs(values) => lengths(Tag::Blob, values.iter().map(Vec::len)),
        };
        let declared = self.app.outputs[output].value_type;
        if tag != declared {
            let (declared, tag) = (declared.name(), tag.name());
            return Err(Error::WrongType(format!(
                "`{}` has type {declared}, and {tag} was published",
                frame.slot
            )));
        }
        if frame.order.is_some() {
            return Err(malformed("`order` must be none".to_owned()));
        }
        let quality = frame.quality.as_ref().map_or(values, Vec::len);
        if frame.entity.len() != values || frame.at.len() != values || quality != values {
            return Err(malformed(format!(
                "the columns differ in length: {} entities, {} times, {quality} qualities, {values} values",
                frame.entity.len(),
                frame.at.len(),
            )));
        }
        if let Some(index) = frame.entity.iter().find(|&&index| index as usize >= entities) {
            return Err(malformed(format!("a reading names entity {index}, and the table has {entities}")));
        }
        if let Some(at) = frame.at.iter().find(|&&at| at > i64::MAX as u64) {
            return Err(malformed(format!("the time {at} is after the year 2262")));
        }
        if longest > MAX_READING_BYTES {
            let text = format!("a value has {longest} bytes; at most {MAX_READING_BYTES} are allowed");
            return Err(malformed(text));
        }
        Ok(Checked { output, frame, heap })
    }
}

fn lengths(tag: Tag, lengths: impl ExactSizeIterator<Item = usize>) -> (Tag, usize, usize, usize) {
    let count = lengths.len();
    let (longest, sum) = lengths.fold((0, 0), |(longest, sum), length| (length.max(longest), sum + length));
    (tag, count, longest, sum)
}

/// Adds the readings of a frame to the columns.
fn take(
    context: &Context,
    meter: &Meter,
    checked: &Checked<'_>,
    points: &mut Points<'_>,
    columns: &mut Columns,
) -> Result<(), Failure> {
    let frame = checked.frame;
    for row in 0..frame.at.len() {
        if row % READINGS_AT_ONCE == READINGS_AT_ONCE - 1 {
            meter.check()?;
        }
        let point = points.point(context, checked, frame.entity[row] as usize)?;
        let quality = match frame.quality.as_ref().map(|column| column[row]) {
            None | Some(WitQuality::Good) => Quality::Good,
            Some(WitQuality::Uncertain) => Quality::Uncertain,
            Some(WitQuality::Bad) => Quality::Bad,
        };
        let value = match &frame.values {
            Values::Booleans(values) => ValueRef::Boolean(values[row]),
            Values::Integers(values) => ValueRef::Integer(values[row]),
            Values::Reals(values) if values[row].is_finite() => ValueRef::Real(values[row]),
            // The placeholder of a reading that isn't to be used.
            Values::Reals(_) if quality == Quality::Bad => ValueRef::Missing,
            Values::Reals(values) => {
                let text = format!(
                    "`{}`: {} is not a finite number; give such a reading the quality `bad`",
                    frame.slot, values[row]
                );
                return Err(Error::Malformed(text).into());
            }
            Values::Texts(values) => ValueRef::Text(&values[row]),
            Values::Blobs(values) => ValueRef::Blob(&values[row]),
        };
        columns.push(point, Timestamp(frame.at[row]), quality, value);
    }
    Ok(())
}
