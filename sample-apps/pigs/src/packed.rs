//! Weighings in the state: 40 bytes each, one after the other.
//!
//! A ledger is read and written with nearly every reading. Field by field that costs several times as much as the bytes.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::Serializer;

use crate::ledger::{Entry, Feed};

/// Time, weight and its logarithm, feed and its time; a weighing without feed has NaN there.
const BYTES: usize = 40;

pub(crate) fn serialize<S: Serializer>(entries: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(entries.len() * BYTES);
    for entry in entries {
        let feed = entry.feed.unwrap_or(Feed { at: 0, kg: f64::NAN });
        let words = [entry.at, entry.kg.to_bits(), entry.log_kg().to_bits(), feed.kg.to_bits(), feed.at];
        for word in words {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    serializer.serialize_bytes(&bytes)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    deserializer.deserialize_bytes(Weighings)
}

struct Weighings;

impl<'de> Visitor<'de> for Weighings {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weighings of {BYTES} bytes each")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let (records, rest) = bytes.as_chunks::<BYTES>();
        if !rest.is_empty() {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        // One more than there are: most are read to add one.
        let mut entries = Vec::with_capacity(records.len() + 1);
        for record in records {
            let (words, _) = record.as_chunks::<8>();
            let word = |place: usize| words.get(place).map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let feed = Feed { at: word(4), kg: f64::from_bits(word(3)) };
            let (kg, log_kg) = (f64::from_bits(word(1)), f64::from_bits(word(2)));
            entries.push(Entry::known(word(0), kg, log_kg, (!feed.kg.is_nan()).then_some(feed)));
        }
        Ok(entries)
    }

    // A format that shows bytes as a list of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}
