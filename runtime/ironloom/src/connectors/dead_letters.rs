//! The dead letters of a connector: the last messages that gave no reading. They are in memory, for whoever mends the
//! source or the configuration, and outlast a reload, but no restart.

use std::collections::VecDeque;

use parking_lot::Mutex;

use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::readings::Value;
use ironloom_types::text::shorten;

/// Letters that are kept, and bytes of their texts.
const MOST: usize = 1_000;
const MOST_BYTES: usize = 1 << 20;
/// Bytes of a payload that are kept.
const PAYLOAD: usize = 1_024;
/// Characters of a topic and of a reason that are kept.
const TOPIC: usize = 256;
const REASON: usize = 256;
/// Bytes of a letter besides its texts.
const LETTER: usize = 128;

/// A message that gave no reading.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeadLetter {
    /// Counts the connector's dead letters since the start of the server, from 1.
    pub number: u64,
    /// The time of this machine at which it was set aside.
    pub time: Timestamp,
    pub topic: String,
    /// The first bytes of the payload: a text, or a blob where they are none.
    pub payload: Value,
    /// The length of the whole payload.
    pub bytes: u64,
    pub reason: String,
}

impl DeadLetter {
    fn size(&self) -> usize {
        let payload = match &self.payload {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        LETTER + self.topic.len() + payload + self.reason.len()
    }
}

/// The last dead letters of a connector.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// The oldest first, numbered without a gap.
    letters: VecDeque<DeadLetter>,
    bytes: usize,
    /// The number of the last one.
    last: u64,
}

impl DeadLetters {
    /// Keeps one more, and forgets the oldest where there are too many.
    pub(super) fn put(&self, topic: &[u8], payload: &[u8], reason: &str) {
        let mut letter = DeadLetter {
            number: 0,
            time: host_time(),
            topic: shorten(&String::from_utf8_lossy(topic), TOPIC).into_owned(),
            payload: beginning(payload),
            bytes: payload.len() as u64,
            reason: shorten(reason, REASON).into_owned(),
        };
        let mut ring = self.0.lock();
        ring.last += 1;
        letter.number = ring.last;
        ring.bytes += letter.size();
        ring.letters.push_back(letter);
        while ring.letters.len() > MOST || ring.bytes > MOST_BYTES {
            ring.bytes -= ring.letters.pop_front().map_or(0, |oldest| oldest.size());
        }
    }

    /// The number of all that there were.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().last
    }

    /// At most so many with higher numbers than this one, the oldest first.
    pub(crate) fn after(&self, number: u64, most: usize) -> Vec<DeadLetter> {
        let ring = self.0.lock();
        let passed = ring.letters.partition_point(|letter| letter.number <= number);
        ring.letters.range(passed..).take(most).cloned().collect()
    }

    /// At most so many with lower numbers than this one, the newest first.
    pub(crate) fn before(&self, number: Option<u64>, most: usize) -> Vec<DeadLetter> {
        let ring = self.0.lock();
        let end = match number {
            Some(number) => ring.letters.partition_point(|letter| letter.number < number),
            None => ring.letters.len(),
        };
        ring.letters.range(..end).rev().take(most).cloned().collect()
    }
}

/// The beginning of a payload: a text where all of it is one.
fn beginning(payload: &[u8]) -> Value {
    let begin = &payload[..payload.len().min(PAYLOAD)];
    match std::str::from_utf8(begin) {
        Ok(text) => Value::Text(text.into()),
        // Cut within a character.
        Err(error) if error.error_len().is_none() && begin.len() < payload.len() => {
            let text = String::from_utf8_lossy(&begin[..error.valid_up_to()]);
            Value::Text(text.as_ref().into())
        }
        Err(_) => Value::Blob(begin.to_vec().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(letters: &[DeadLetter]) -> Vec<u64> {
        letters.iter().map(|letter| letter.number).collect()
    }

    #[test]
    fn the_last_thousand_are_kept_and_read_from_either_end() {
        let letters = DeadLetters::default();
        assert_eq!((letters.after(0, 10), letters.before(None, 10)), (Vec::new(), Vec::new()));
        for number in 1..=1_005 {
            letters.put(b"a/b", format!("{number}").as_bytes(), "is no real");
        }
        assert_eq!(letters.count(), 1_005);
        // The first five are gone.
        assert_eq!(numbers(&letters.after(0, 2)), [6, 7]);
        assert_eq!(numbers(&letters.after(1_003, 10)), [1_004, 1_005]);
        assert_eq!(numbers(&letters.before(None, 2)), [1_005, 1_004]);
        assert_eq!(numbers(&letters.before(Some(8), 10)), [7, 6]);
        assert_eq!(letters.before(Some(6), 10), []);
        assert_eq!(letters.before(None, usize::MAX).len(), 1_000);
        let last = letters.before(None, 1).remove(0);
        assert_eq!((&*last.topic, last.payload, last.bytes), ("a/b", Value::Text("1005".into()), 4));
        assert_eq!(last.reason, "is no real");
    }

    #[test]
    fn long_ones_are_cut_and_fewer_of_them_are_kept() {
        let letters = DeadLetters::default();
        let topic = "t".repeat(60_000);
        for _ in 0..1_000 {
            letters.put(topic.as_bytes(), &[b'x'; 100_000], &"r".repeat(1_000));
        }
        let all = letters.before(None, usize::MAX);
        let size: usize = all.iter().map(DeadLetter::size).sum();
        assert!(size <= MOST_BYTES && size > MOST_BYTES - 2_000, "{size}");
        assert_eq!(letters.0.lock().bytes, size);
        assert_eq!(all[0].payload, Value::Text("x".repeat(1_024).into()));
        assert_eq!((all[0].bytes, all[0].topic.chars().count()), (100_000, 257));
    }

    #[test]
    fn a_payload_is_a_text_unless_it_has_other_bytes() {
        // 1,023 bytes, and a character of which one more byte is kept.
        let cut = format!("{}ä", "x".repeat(1_023));
        assert_eq!(beginning(cut.as_bytes()), Value::Text("x".repeat(1_023).into()));
        assert_eq!(beginning(b"\xff\x00"), Value::Blob(vec![0xff, 0].into()));
        // Its end is missing, and it isn't cut.
        assert_eq!(beginning(b"x\xc3"), Value::Blob(vec![b'x', 0xc3].into()));
        assert_eq!(beginning(b""), Value::Text("".into()));
    }
}
