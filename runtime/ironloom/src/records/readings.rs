//! Kind 1, *readings*: what one push or one connector's step brought in.

use serde::{Deserialize, Serialize};

use super::{
    BodyError, NumberedPoint, Reader, columns, head_len, points_max_len, put_head, put_points, take_points,
};
use ironloom_types::readings::{Columns, NewPoint};

/// The version that is written.
pub(crate) const VERSION: u8 = 1;

/// The head of a record of readings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadingsHead {
    /// The receipt of its connector, as of these readings.
    pub receipt: Option<Receipt>,
    /// The request that brought them, where it named itself.
    pub idempotency: Option<Idempotency>,
}

/// A connector's own note of how far it has come, at most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The connector's name in the configuration.
    pub connector: Box<str>,
    /// Bytes that only the connector understands.
    pub note: Vec<u8>,
}

/// A request that can be repeated without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Idempotency {
    /// The first 16 bytes of the SHA-256 of its key.
    pub key: [u8; 16],
    /// The first 16 bytes of the SHA-256 of its method, query and body.
    pub request: [u8; 16],
}

/// A decoded record of readings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReadingsRecord {
    pub head: ReadingsHead,
    /// Points that appear in it for the first time.
    pub new_points: Vec<NumberedPoint>,
    pub columns: Columns,
}

/// Appends the body.
pub(crate) fn encode(
    head: &ReadingsHead,
    new_points: &[NumberedPoint],
    columns: &Columns,
    out: &mut Vec<u8>,
) {
    put_head(head, out);
    put_points(new_points, out);
    columns::encode(columns, out);
}

/// At least the bytes that [`encode`] appends, whatever numbers the points get.
pub(crate) fn max_len(head: &ReadingsHead, new_points: &[NewPoint], columns: &Columns) -> usize {
    head_len(head).saturating_add(points_max_len(new_points) + columns::encoded_len(columns))
}

/// Reads a body of any version that this binary knows.
pub(crate) fn decode(version: u8, body: &[u8]) -> Result<ReadingsRecord, BodyError> {
    if version != VERSION {
        return Err(BodyError("its version is not known"));
    }
    let mut reader = Reader::new(body);
    let head = reader.head()?;
    let new_points = take_points(&mut reader)?;
    let columns = columns::decode(&mut reader)?;
    reader.end()?;
    Ok(ReadingsRecord { head, new_points, columns })
}
