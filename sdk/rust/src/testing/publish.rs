//! The host's checks of a batch of derived readings, in its order and with its words.

use super::world::{OutputKind, Type, World};
use crate::bindings::platform::ironloom::types::types::{Batch, Frame, Values};
use crate::outputs::Error;
use crate::value::{Column as _, Quality};

/// The host's limits.
const MAX_DERIVED: usize = 100_000;
const MAX_VALUE: usize = 64 << 10;
const MAX_PATH: usize = 255;
const MAX_SEGMENTS: usize = 16;

/// The default points of the test installation's outputs.
const PREFIX: &str = "apps/test";

/// Checks all readings of a batch, of which `derived` came before in this invocation. Returns how many they are.
pub(super) fn check(world: &World, batch: &Batch, derived: usize) -> Result<usize, Error> {
    let entities: Vec<&str> = batch.entities.split('\n').collect();
    let mut count = 0;
    for (number, frame) in batch.frames.iter().enumerate() {
        let declared = world.output(&frame.slot, OutputKind::Derived)?;
        check_frame(frame, declared, entities.len())?;
        if batch.frames[..number].iter().any(|other| other.slot == frame.slot) {
            return Err(Error::Malformed(format!("there are two frames of `{}`", frame.slot)));
        }
        count += frame.at.len();
    }
    if derived + count > MAX_DERIVED {
        return Err(Error::TooMany);
    }
    for frame in &batch.frames {
        // Each entity once, as the host does: most have many rows.
        let mut checked = vec![false; entities.len()];
        for (row, line) in frame.entity.iter().enumerate() {
            if !std::mem::replace(&mut checked[*line as usize], true) {
                check_entity(&frame.slot, entities[*line as usize])?;
            }
            check_value(frame, row)?;
        }
    }
    Ok(count)
}

fn check_frame(frame: &Frame, declared: Type, entities: usize) -> Result<(), Error> {
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
    let longest = match &frame.values {
        Values::Texts(texts) => texts.iter().map(String::len).max(),
        Values::Blobs(blobs) => blobs.iter().map(Vec::len).max(),
        _ => None,
    };
    match longest {
        Some(longest) if longest > MAX_VALUE => {
            Err(malformed(format!("a value has {longest} bytes; at most {MAX_VALUE} are allowed")))
        }
        _ => Ok(()),
    }
}

/// Refuses an entity that can't be part of a point's path, as it is where no admin bound the output.
fn check_entity(output: &str, entity: &str) -> Result<(), Error> {
    let refuse = |problem: String| {
        let text = format!("the output {output} has no point for the entity {entity:?}: {problem}");
        Err(Error::UnknownEntity(text))
    };
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
