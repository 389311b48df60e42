//! Kind 1, *readings*: what one push, one connector's step or a part of a stream brought in, or points alone, which the
//! record behind it needs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    BodyError, NumberedPoint, Reader, audit, columns, head_len, points_max_len, put_head, put_points,
    take_points,
};
use crate::records::intent::Settled;
use ironloom_trust::audit::Entry;
use ironloom_types::ids::Generation;
use ironloom_types::readings::{Columns, NewPoint, Progress, Published};

/// The version that is written.
pub(crate) const VERSION: u8 = 7;

/// The head of a record of readings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadingsHead {
    /// The place of its source behind these readings, if the source goes on there after a restart; for outcomes, their
    /// set-points.
    pub receipt: Option<Receipt>,
    /// The request that brought them, where it named itself.
    pub idempotency: Option<Idempotency>,
}

/// Why a record came: mostly the place of a source behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Receipt {
    /// A connector's own note.
    Connector {
        /// Its name in the configuration.
        name: Box<str>,
        /// Bytes that only the connector understands, at most 256 KiB.
        note: Vec<u8>,
    },
    /// The place of a stream of readings. A record may hold it without any reading: not every line has one.
    Stream {
        /// The key that the sender has chosen, with whose it is.
        key: Arc<str>,
        /// Its progress with this record; `None` where its key won't come again.
        progress: Option<Progress>,
    },
    /// The outputs of an installation, of which some points are made before the record that needs them.
    Outputs {
        generation: Generation,
        /// The number of points that they have made with this record.
        points: u64,
    },
    /// The outbox: its readings are outcomes.
    Outbox(Vec<Settled>),
    /// A connector has published everything up to here. A record has it without any reading.
    Published {
        /// Its name in the configuration.
        name: Box<str>,
        through: Published,
    },
}

/// A request that can be repeated without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Idempotency {
    /// The first 16 bytes of the SHA-256 of its key.
    pub key: [u8; 16],
    /// The first 16 bytes of the SHA-256 of all that decides about its effect: a byte that is 1 where it is `partial`, and
    /// 0 else, and its body.
    pub request: [u8; 16],
}

/// A decoded record of readings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReadingsRecord {
    pub head: ReadingsHead,
    /// Points that appear in it for the first time.
    pub new_points: Vec<NumberedPoint>,
    pub columns: Columns,
    /// Its entry of the audit log, if it has ends of set-points.
    pub entry: Option<Box<Entry>>,
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
    let entry = audit::take_entry(reader)?;
    Ok(ReadingsRecord { head, new_points, columns, entry })
}

#[cfg(test)]
mod tests;
