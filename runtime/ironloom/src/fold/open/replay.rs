//! One pass over the log behind the fold position.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::OpenError;
use crate::fold::apply::Applier;
use crate::fold::requests::Remembered;
use crate::fold::sealer::{Sealed, Stamped};
use crate::records::readings::Idempotency;
use crate::records::{admin, commit, readings};
use ironloom_storage::journal::Chunk;
use ironloom_storage::log::{Record, RecordKind, Recovered};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, Position};

/// The records that the log held.
#[derive(Default)]
pub(super) struct Replayed {
    /// The last record; zero where there is none.
    pub position: Position,
    /// The last journal time, which isn't the latest where an admin has set time back. A mark has none.
    pub time: Option<Timestamp>,
    /// The number of records, without marks.
    pub records: u64,
}

/// Applies what the log holds behind the fold position, and notes the requests in it.
pub(super) fn replay(
    recovered: &Recovered,
    applier: &mut Applier,
    requests: &mut BTreeMap<[u8; 16], Remembered>,
) -> Result<Replayed, OpenError> {
    let mut replayed = Replayed::default();
    for record in recovered.records()? {
        let record = record?;
        let time = record.header.journal_time;
        replayed.position = record.header.position;
        let Some(stamped) = sealed(&record)? else { continue };
        replayed.time = Some(time);
        if let Sealed::Readings { request: Some(Idempotency { key, request }), chunk, .. } = &stamped.sealed {
            let accepted = chunk.len() as u64;
            let through = chunk.last_sequence();
            requests.insert(*key, Remembered { request: *request, time, accepted, through });
        }
        applier.apply(Some(record.at), stamped);
        replayed.records += 1;
    }
    Ok(replayed)
}

/// A record as the fold takes it; `None` for a mark.
fn sealed(record: &Record) -> Result<Option<Stamped>, OpenError> {
    let header = &record.header;
    let body = |error| OpenError::Body { position: header.position, error };
    let chunk = |columns, hops, origin| {
        Arc::new(Chunk::of_record(
            header.tenant,
            header.first_sequence,
            header.journal_time,
            hops,
            origin,
            columns,
        ))
    };
    let (sealed, entry) = match header.kind {
        RecordKind::Mark => return Ok(None),
        RecordKind::Readings => {
            let read = readings::decode(header.version, &record.body).map_err(body)?;
            let sealed = Sealed::Readings {
                new_points: read.new_points,
                chunk: chunk(read.columns, 0, Generation(0)),
                receipt: read.head.receipt,
                request: read.head.idempotency,
                forgotten: Vec::new(),
                place: None,
                reply: None,
            };
            (sealed, read.entry)
        }
        RecordKind::Commit => {
            let read = commit::decode(header.version, &record.body).map_err(body)?;
            let chunk = chunk(read.derived, read.head.hops, read.head.generation);
            let sealed = Sealed::Commit {
                head: read.head,
                state: read.state,
                new_points: read.new_points,
                chunk,
                place: None,
                reply: None,
            };
            (sealed, read.entry)
        }
        RecordKind::Admin => {
            let (record, entry) = admin::decode(header.version, &record.body).map_err(body)?;
            (Sealed::Admin { record, reply: None }, entry)
        }
    };
    Ok(Some(Stamped { time: header.journal_time, sealed, entry }))
}
