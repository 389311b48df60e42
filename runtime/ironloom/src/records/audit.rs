//! Entries of the audit log, in the records of the deeds that they tell of and in the store.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::commit::CommitHead;
use super::intent::{IntentPlace, Settled};
use super::{BodyError, Reader, put_head};
use crate::access::HOST;
use ironloom_trust::audit::{Chain, Entry, Said};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, TenantId};
use ironloom_types::readings::Value;

/// An entry as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptEntry {
    pub entry: Entry,
    /// As it was when the entry was written: an entry that was changed since has another one.
    pub hash: Digest,
}

/// A change of the audit log itself. New variants go to the end: their order is the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AuditChange {
    /// Nothing but the entry that the record has: of a deed that isn't a change in the log, or that was refused.
    Entry,
    /// The host has signed a checkpoint.
    Signed(Box<CheckpointRecord>),
    /// Entries of a chain before this number are past their retention and go, with the checkpoints among them.
    Expired { chain: Chain, before: u64 },
}

impl fmt::Display for AuditChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry => f.write_str("an entry of the audit log was written"),
            Self::Signed(made) => {
                write!(f, "entry {} of the audit log's chain {} was signed", made.number, made.chain)
            }
            Self::Expired { chain, before } => {
                write!(f, "entries of the audit log's chain {chain} before {before} are past their retention")
            }
        }
    }
}

/// A signed checkpoint of a chain, as records and the store have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    pub chain: Chain,
    /// The number of the entry that it is about.
    pub number: u64,
    /// The time when it was signed, by the journal's clock.
    pub time: Timestamp,
    /// The signed envelope.
    pub envelope: Box<str>,
}

/// Appends an entry to the body of the record that it tells of; without one the body just ends.
pub(crate) fn put_entry(entry: Option<&Entry>, body: &mut Vec<u8>) {
    if let Some(entry) = entry {
        put_head(entry, body);
    }
}

/// Takes what is left of a body: an entry or nothing.
pub(super) fn take_entry(mut reader: Reader<'_>) -> Result<Option<Box<Entry>>, BodyError> {
    if reader.is_empty() {
        return Ok(None);
    }
    let entry = reader.head()?;
    reader.end()?;
    Ok(Some(Box::new(entry)))
}

/// The entry of an invocation that asks for set-points.
pub(crate) fn asked(head: &CommitHead) -> Option<Said> {
    if head.intents.is_empty() {
        return None;
    }
    let mut lines = String::new();
    for (index, intent) in (0..).zip(&head.intents) {
        let place = IntentPlace { generation: head.generation, ordinal: head.invocation.ordinal, index };
        let life = intent.time_to_live;
        // Writing to a string can't fail.
        let _ = writeln!(lines, "{}: {} = {}, for {life} ns", place.id(), intent.point, words(&intent.value));
    }
    let installation = &head.installation;
    Some(of_lines(
        installation.tenant(),
        &format!("app:{installation}"),
        "requestSetPoints",
        format!("installations/{installation}"),
        &lines,
    ))
}

/// The entry of a record of what became of set-points.
pub(crate) fn ended(tenant: TenantId, settled: &[Settled]) -> Option<Said> {
    if settled.is_empty() {
        return None;
    }
    let mut lines = String::new();
    for Settled { place, driven } in settled {
        let id = place.map_or_else(|| "safe value".to_owned(), |place| place.id().to_string());
        let _ = match driven {
            None => writeln!(lines, "{id}: ended"),
            Some(driven) => {
                let (point, last) = (&driven.point, &driven.last);
                let reason = last.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
                writeln!(lines, "{id}: {point} = {}, {}{reason}", words(&last.value), last.outcome.name())
            }
        };
    }
    Some(of_lines(tenant, HOST, "endSetPoints", "set-points".to_owned(), &lines))
}

/// As much of the lines as there is room for, and the digest of all of them.
fn of_lines(tenant: TenantId, who: &str, action: &str, resource: String, lines: &str) -> Said {
    let digest = Some(Digest::of(lines.as_bytes()));
    Said { digest, ..Said::done(Chain::SetPoints(tenant), who, action, resource, lines) }
}

fn words(value: &Value) -> String {
    match value {
        Value::Missing => "nothing".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Blob(bytes) => format!("{} bytes, {}", bytes.len(), Digest::of(bytes)),
    }
}

#[cfg(test)]
mod tests;
