//! The bodies of the log's records, one file for each kind. Everything in them is absolute: a
//! record says what is, never by how much something changed, so that folding twice is folding once.
//!
//! A body is a head in `postcard` with its length before it, and behind it the parts that are read
//! and written in bulk: state changes, new points, columns.

pub(crate) mod admin;
pub(crate) mod alarm;
pub(crate) mod audit;
pub(crate) mod catalog;
pub(crate) mod columns;
pub(crate) mod commit;
pub(crate) mod connector;
pub(crate) mod consent;
pub(crate) mod copy;
pub(crate) mod installation;
pub(crate) mod intent;
pub(crate) mod lane;
pub(crate) mod owner;
pub(crate) mod readings;
pub(crate) mod tenant;
pub(crate) mod token;

use serde::Serialize;
use serde::de::DeserializeOwned;

use ironloom_types::ids::{PointNumber, PointPath, TenantId};
use ironloom_types::readings::NewPoint;

/// A body that can't be read, although its checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of a record can't be read: {0}")]
pub(crate) struct BodyError(pub &'static str);

/// Reads a body from its front.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins at the front of these bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], BodyError> {
        let (slice, rest) = self.0.split_at_checked(length).ok_or(BodyError("it ends too early"))?;
        self.0 = rest;
        Ok(slice)
    }

    fn u8(&mut self) -> Result<u8, BodyError> {
        Ok(self.slice(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, BodyError> {
        let bytes = self.slice(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// LEB128, as `put_varint` writes it.
    fn varint(&mut self) -> Result<u64, BodyError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BodyError("a number is too long"))
    }

    fn head<T: DeserializeOwned>(&mut self) -> Result<T, BodyError> {
        let length = self.u32()? as usize;
        let bytes = self.slice(length)?;
        let (head, rest) =
            postcard::take_from_bytes(bytes).map_err(|_| BodyError("its head is malformed"))?;
        if rest.is_empty() { Ok(head) } else { Err(BodyError("its head is longer than it should be")) }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn end(self) -> Result<(), BodyError> {
        if self.0.is_empty() { Ok(()) } else { Err(BodyError("it is longer than it should be")) }
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_head<T: Serialize>(head: &T, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    // Writing to a `Vec` can't fail.
    let written = postcard::to_io(head, &mut *out);
    let why = "heads hold nothing that postcard can't express: maps and sequences of unknown length";
    assert!(written.is_ok(), "{why}: {:?}", written.err());
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// The bytes that [`put_head`] appends.
fn head_len<T: Serialize>(head: &T) -> usize {
    let head = postcard::serialize_with_flavor(head, postcard::ser_flavors::Size::default());
    // What can't be encoded is larger than any record may be.
    head.map_or(usize::MAX, |bytes| bytes + 4)
}

/// The longest `LEB128` of a u32, and of a u64.
const VARINT_U32: usize = 5;
const VARINT: usize = 10;

/// A point with the number that the committer gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NumberedPoint {
    pub number: PointNumber,
    /// Its path and unit.
    pub point: NewPoint,
}

fn put_points(points: &[NumberedPoint], out: &mut Vec<u8>) {
    put_varint(out, points.len() as u64);
    for NumberedPoint { number, point } in points {
        put_varint(out, u64::from(number.0));
        put_varint(out, u64::from(point.path.tenant().0));
        put_bytes(out, point.path.as_str().as_bytes());
        match &point.unit {
            None => out.push(0),
            Some(unit) => {
                out.push(1);
                put_bytes(out, unit.as_bytes());
            }
        }
    }
}

/// At least the bytes that [`put_points`] appends for these, whatever their numbers.
fn points_max_len(points: &[NewPoint]) -> usize {
    let unit = |point: &NewPoint| 1 + point.unit.as_ref().map_or(0, |unit| VARINT + unit.len());
    let point = |point: &NewPoint| 2 * VARINT_U32 + VARINT + point.path.as_str().len() + unit(point);
    VARINT + points.iter().map(point).sum::<usize>()
}

fn take_points(reader: &mut Reader<'_>) -> Result<Vec<NumberedPoint>, BodyError> {
    let count = reader.varint()?;
    let mut points = Vec::new();
    for _ in 0..count {
        let number =
            u32::try_from(reader.varint()?).map_err(|_| BodyError("a point's number is too large"))?;
        let tenant =
            u32::try_from(reader.varint()?).map_err(|_| BodyError("a tenant's number is too large"))?;
        let path = PointPath::new(TenantId(tenant), take_text(reader)?)
            .map_err(|_| BodyError("a point's path is invalid"))?;
        let unit = match reader.u8()? {
            0 => None,
            _ => Some(take_text(reader)?.into()),
        };
        points.push(NumberedPoint { number: PointNumber(number), point: NewPoint { path, unit } });
    }
    Ok(points)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], BodyError> {
    let length = usize::try_from(reader.varint()?).map_err(|_| BodyError("a length is too large"))?;
    reader.slice(length)
}

fn take_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, BodyError> {
    std::str::from_utf8(take_bytes(reader)?).map_err(|_| BodyError("a text is not UTF-8"))
}

#[cfg(test)]
mod tests;
