//! Streams of readings that have a key: how far each has come, and which connection has it.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Node;
use crate::api::facade::{Answer, OpenStream, Problem, RETRY_SOON, StreamPlace};
use crate::fold::stored::{decode, encode};
use crate::records::readings::Receipt;
use ironloom_types::clock::{SECOND, Timestamp};

/// Streams that are remembered.
const MAX_STREAMS: usize = 1_000;
/// How long one is remembered after its last reading, where there are more.
const REMEMBERED: u64 = 24 * 3600 * SECOND;
/// The names of their receipts: no connector has a name with a slash.
const PREFIX: &str = "stream/";

/// The streams that connections have.
#[derive(Default)]
pub(super) struct Streams(Mutex<HashMap<Arc<str>, Arc<Turn>>>);

struct Turn {
    place: Arc<Semaphore>,
    /// Tells the connection that has it, or waits for it, that another wants it.
    holder: Mutex<Arc<Notify>>,
}

/// What a connection keeps for as long as it has a stream.
struct Kept {
    _turn: Arc<Turn>,
    _place: Option<OwnedSemaphorePermit>,
}

/// The note in a stream's receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StreamNote {
    /// The lines that were dealt with.
    lines: u64,
    /// The journal's time when the last of them were sent to the log.
    at: Timestamp,
}

fn receipt_name(key: &str) -> Box<str> {
    format!("{PREFIX}{key}").into()
}

impl Node {
    /// Gives a stream to a connection, once the one that has it has ended.
    pub(super) async fn open_stream(&self, key: Option<Arc<str>>) -> Answer<OpenStream> {
        let wanted = Arc::new(Notify::new());
        let Some(key) = key else {
            return Ok(OpenStream { lines: 0, wanted, _kept: Box::new(()) });
        };
        let turn = {
            let mut open = self.streams.0.lock();
            open.retain(|_, turn| Arc::strong_count(turn) > 1);
            if !open.contains_key(&key) {
                self.check_remembered(&key, &open)?;
            }
            let turn = open.entry(Arc::clone(&key)).or_insert_with(|| {
                Arc::new(Turn {
                    place: Arc::new(Semaphore::new(1)),
                    holder: Mutex::new(Arc::new(Notify::new())),
                })
            });
            Arc::clone(turn)
        };
        let before = std::mem::replace(&mut *turn.holder.lock(), Arc::clone(&wanted));
        before.notify_one();
        let place = Arc::clone(&turn.place).acquire_owned().await.ok();
        let lines = self.note_of(&receipt_name(&key)).map_or(0, |note| note.lines);
        Ok(OpenStream { lines, wanted, _kept: Box::new(Kept { _turn: turn, _place: place }) })
    }

    fn note_of(&self, name: &str) -> Option<StreamNote> {
        decode(self.shared.receipts.read().get(name)?).ok()
    }

    /// Makes room for a stream that is not remembered, by those whose last reading is a day old.
    fn check_remembered(&self, key: &str, open: &HashMap<Arc<str>, Arc<Turn>>) -> Answer<()> {
        let (mut count, mut old) = (0, Vec::new());
        {
            let now = self.shared.clock.now();
            let receipts = self.shared.receipts.read();
            if receipts.contains_key(&receipt_name(key)) {
                return Ok(());
            }
            let first: Box<str> = PREFIX.into();
            for (name, note) in receipts.range(first..).take_while(|(name, _)| name.starts_with(PREFIX)) {
                count += 1;
                let is_old = decode(note).is_ok_and(|note: StreamNote| note.at.plus(REMEMBERED) <= now);
                if is_old && !open.contains_key(&name[PREFIX.len()..]) {
                    old.push(name.clone());
                }
            }
        }
        if count < MAX_STREAMS {
            return Ok(());
        }
        if old.is_empty() {
            let detail = format!(
                "{MAX_STREAMS} streams with a key are remembered, each for a day after its last reading; \
                 use the key of one of them, or none"
            );
            return Err(Problem::unavailable("too-many-streams", detail, RETRY_SOON));
        }
        self.shared.forget_receipts(&old);
        Ok(())
    }

    /// The receipt that a record of a stream carries.
    pub(super) fn stream_receipt(&self, place: &StreamPlace) -> Receipt {
        let note = StreamNote { lines: place.lines, at: self.shared.clock.now() };
        Receipt { connector: receipt_name(&place.key), note: encode(&note).to_vec() }
    }
}

#[cfg(test)]
mod tests;
