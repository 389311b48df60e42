//! The host's checks of a batch of derived readings, in its order and with its words.

use hashbrown::HashSet;

use super::limits::{DERIVED_BYTES, ENTITY_BYTES, MAX_DERIVED, MAX_ENTITY, MAX_READING_BYTES};
use super::world::{OutputKind, Type, World};
use crate::bindings::platform::ironloom::types::types::{Batch, Frame, Values};
use crate::outputs::Error;
use crate::value::{Column as _, Quality};

/// The host's limits of a point's path.
const MAX_PATH: usize = 255;
const MAX_SEGMENTS: usize = 16;
/// Bytes that the host counts for each line of a table of entities.
const LINE_BYTES: usize = 24;

/// The default points of the test installation's outputs.
const PREFIX: &str = "apps/test";

/// A batch that was checked.
pub(super) struct Checked {
    pub readings: usize,
    /// Bytes that it counts among the effects.
    pub bytes: usize,
    /// Points that it makes: of an output, for an entity.
    pub new_points: Vec<(String, Box<str>)>,
}

/// Checks all readings of a batch.
pub(super) fn check(world: &World, batch: &Batch) -> Result<Checked, Error> {
    let entities: Vec<&str> = batch.entities.split('\n').collect();
    if entities.len() > MAX_DERIVED {
        let text = format!("the table has {} entities; at most {MAX_DERIVED} are allowed", entities.len());
        return Err(Error::Malformed(text));
    }
    let (mut readings, mut heap) = (0, 0);
    for (number, frame) in batch.frames.iter().enumerate() {
        let declared = world.output(&frame.slot, OutputKind::Derived)?;
        heap += check_frame(frame, declared, entities.len())?;
        if batch.frames[..number].iter().any(|other| other.slot == frame.slot) {
            return Err(Error::Malformed(format!("there are two frames of `{}`", frame.slot)));
        }
        readings += frame.at.len();
    }
    if world.derived() + readings > MAX_DERIVED {
        return Err(Error::TooMany);
    }
    let mut new_points: Vec<(String, Box<str>)> = Vec::new();
    let mut counted = vec![false; entities.len()];
    let mut bytes = readings * DERIVED_BYTES + heap;
    for frame in &batch.frames {
        let known = world.points_of(&frame.slot);
        // Each entity once, as the host does: most have many rows. Some stand in the table twice.
        let mut checked = vec![false; entities.len()];
        let first = new_points.len();
        let mut new = HashSet::new();
        for (row, line) in frame.entity.iter().enumerate() {
            let line = *line as usize;
            if !std::mem::replace(&mut checked[line], true) {
                let entity = entities[line];
                check_entity(&frame.slot, entity)?;
                if !std::mem::replace(&mut counted[line], true) {
                    bytes += entity.len() + ENTITY_BYTES;
                }
                if !known.is_some_and(|known| known.contains(entity)) && new.insert(entity) {
                    world.check_room(first + new.len())?;
                    new_points.push((frame.slot.clone(), entity.into()));
                }
            }
            check_value(frame, row)?;
        }
    }
    Ok(Checked { readings, bytes, new_points })
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
    let lines = batch.entities.bytes().filter(|&byte| byte == b'\n').count() + 1;
    batch.entities.len() + lines * LINE_BYTES + frames.sum::<usize>()
}

/// Returns the bytes of its texts or blobs.
fn check_frame(frame: &Frame, declared: Type, entities: usize) -> Result<usize, Error> {
    let malformed = |problem: String| Error::Malformed(format!("`{}`: {problem}", frame.slot));
    if declared.name() != frame.values.type_name() {
        let (slot, is, declared) = (&frame.slot, frame.values.type_name(), declared.name());
        return Err(Error::WrongType(format!("`{slot}` has type {declared}, and {is} was published")));
    }
    if frame.order.is_some() {
        return Err(malformed("`order` must be none".to_owned()));
    }
    let values = frame.values.len();
    let quality = frame.quality.as_ref().map_or(values, Vec::len);
    if [frame.entity.len(), frame.at.len(), quality] != [values; 3] {
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
    let lengths: &mut dyn Iterator<Item = usize> = match &frame.values {
        Values::Texts(texts) => &mut texts.iter().map(String::len),
        Values::Blobs(blobs) => &mut blobs.iter().map(Vec::len),
        _ => return Ok(0),
    };
    let (longest, all) = lengths.fold((0, 0), |(longest, all), length| (longest.max(length), all + length));
    if longest > MAX_READING_BYTES {
        return Err(malformed(format!(
            "a value has {longest} bytes; at most {MAX_READING_BYTES} are allowed"
        )));
    }
    Ok(all)
}

/// Refuses an entity that can't be part of a point's path, as it is where no admin bound the output.
fn check_entity(output: &str, entity: &str) -> Result<(), Error> {
    let refuse = |problem: String| {
        let text = format!("the output {output} has no point for the entity {entity:?}: {problem}");
        Err(Error::UnknownEntity(text))
    };
    if entity.len() > MAX_ENTITY {
        let length = entity.len();
        let text = format!(
            "the output {output} has no point for an entity of {length} bytes: it may have {MAX_ENTITY}"
        );
        return Err(Error::UnknownEntity(text));
    }
    let segments = entity.split('/').filter(|_| !entity.is_empty());
    for segment in segments.clone() {
        let odd = |letter: char| letter.is_control() || matches!(letter, '+' | '#' | '{' | '}');
        if segment.is_empty() {
            return refuse("it has an empty segment".to_owned());
        } else if matches!(segment, "." | "..") {
            return refuse("it has a segment `.` or `..`".to_owned());
        } else if segment.chars().any(odd) {
            return refuse("it has a control character or one of `+ # { }`".to_owned());
        }
    }
    let path = || format!("{PREFIX}/{output}/{entity}");
    if PREFIX.len() + output.len() + entity.len() + 2 > MAX_PATH {
        return refuse(format!("point path {:?} is longer than 255 bytes", path()));
    }
    if 3 + segments.count() > MAX_SEGMENTS {
        let path = path();
        return refuse(format!("point path {path:?} has more than 16 segments"));
    }
    Ok(())
}

/// Refuses a real that is no number, unless it is the placeholder of a bad reading.
fn check_value(frame: &Frame, row: usize) -> Result<(), Error> {
    let quality = frame.quality.as_ref().map_or(Quality::Good, |quality| quality[row]);
    match &frame.values {
        Values::Reals(reals) if !reals[row].is_finite() && quality != Quality::Bad => {
            let (slot, value) = (&frame.slot, reals[row]);
            let text =
                format!("`{slot}`: {value} is not a finite number; give such a reading the quality `bad`");
            Err(Error::Malformed(text))
        }
        _ => Ok(()),
    }
}
