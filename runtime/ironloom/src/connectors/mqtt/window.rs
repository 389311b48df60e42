//! The messages that are in the log, or on their way there, and may come again after a connection has ended: by packet id and
//! hash they are known then.
//!
//! Those are the ones that aren't acknowledged, and the last of those that are: an acknowledgement that was sent is lost where
//! the process is killed before the broker has read it. A broker that counts its ids up gives none of these to another message.
//! One that gives the lowest free id might, to a message of the same contents, and then it must not be taken for the other: of
//! such a broker the acknowledged ones are forgotten at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use sha2::{Digest as _, Sha256};

use super::link::Message;

/// The first bytes of a SHA-256 of topic and payload.
pub(super) type Hash = [u8; 8];

/// **Format**: stands in the log's records, as the first byte of a receipt. Behind it come the session, the filters that it
/// has, a zero byte behind each and one more at their end, a byte that is 1 where the broker counts its ids up, and the packet
/// ids with their hashes. Numbers are big-endian.
const VERSION: u8 = 3;
/// The group of what a receipt says.
const LEFT: u64 = 0;
/// The version and the session, the end of the filters, and how ids are given.
const HEAD_BYTES: usize = 1 + size_of::<Hash>() + 2;
/// Bytes of the filters that a receipt has. Each record carries them; those beyond aren't known after a restart.
const MAX_FILTERS: usize = 16 << 10;
/// A packet id and a hash.
const ENTRY_BYTES: usize = 2 + size_of::<Hash>();

/// Messages that are remembered after they were acknowledged, and for how long: each record carries them.
pub(super) const REMEMBERED: usize = 2_048;
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// The most bytes of a receipt with so many messages.
pub(super) const fn receipt_bytes(messages: usize) -> usize {
    HEAD_BYTES + MAX_FILTERS + messages * ENTRY_BYTES
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    hash: Hash,
    /// The number of the group of messages that it is in.
    group: u64,
}

/// The messages of one session, by their packet ids.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Tells the sessions of other brokers and clients apart.
    session: Hash,
    /// As the receipt has them.
    filters: Vec<u8>,
    entries: HashMap<u16, Entry>,
    /// Those among them that were acknowledged, the oldest first.
    acknowledged: VecDeque<(u16, Instant)>,
    /// The id of the last message that came.
    last: Option<u16>,
    ids: Ids,
}

/// The way in which a broker gives packet ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ids {
    /// Too few have come.
    #[default]
    Unknown,
    CountedUp,
    /// Some that are free again: one that was acknowledged may be of any message.
    GivenAgain,
}

impl Window {
    /// The messages that a receipt has of this session, all of which are in the log, and the filters of it.
    pub(super) fn open(session: Hash, receipt: Option<&[u8]>) -> (Self, Vec<String>) {
        let known = receipt.and_then(|receipt| decode(session, receipt));
        let Some((filters, ids, mut entries)) = known else {
            return (Self { session, ..Self::default() }, Vec::new());
        };
        // Some of these may have been acknowledged, and their ids given to other messages.
        if ids != Ids::CountedUp {
            entries.clear();
        }
        (Self { session, entries, ids, ..Self::default() }, filters)
    }

    /// The session has these filters.
    pub(super) fn set_filters<'f>(&mut self, filters: impl IntoIterator<Item = &'f String>) {
        self.filters.clear();
        for filter in filters {
            if self.filters.len() + filter.len() < MAX_FILTERS {
                self.filters.extend_from_slice(filter.as_bytes());
                self.filters.push(0);
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    /// The broker has forgotten the session: all that comes is new.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.acknowledged.clear();
        (self.last, self.ids) = (None, Ids::Unknown);
    }

    /// A message has come, whether it is known or not.
    pub(super) fn saw(&mut self, message: &Message) {
        if message.id == 0 {
            return;
        }
        let next = |last: u16| if last == u16::MAX { 1 } else { last + 1 };
        match self.last {
            Some(last) if !message.dup && message.id != next(last) => {
                self.ids = Ids::GivenAgain;
                self.forget_down_to(0);
            }
            Some(_) if !message.dup && self.ids == Ids::Unknown => self.ids = Ids::CountedUp,
            _ => {}
        }
        self.last = Some(message.id);
    }

    /// The acknowledgement of a message was sent.
    pub(super) fn acknowledged(&mut self, id: u16) {
        if !self.entries.contains_key(&id) {
            return;
        }
        self.acknowledged.push_back((id, Instant::now()));
        self.forget_down_to(if self.ids == Ids::CountedUp { REMEMBERED } else { 0 });
    }

    /// Forgets the oldest of those that were acknowledged, until so many are left.
    fn forget_down_to(&mut self, left: usize) {
        let is_old = |(_, since): &mut (u16, Instant)| since.elapsed() > REMEMBERED_FOR;
        loop {
            let oldest = match self.acknowledged.len() > left {
                true => self.acknowledged.pop_front(),
                false => self.acknowledged.pop_front_if(is_old),
            };
            let Some((oldest, _)) = oldest else { break };
            self.entries.remove(&oldest);
        }
    }

    /// The group that has a message already, where the broker sends it again.
    pub(super) fn group_of(&self, message: &Message) -> Option<u64> {
        let entry = self.entries.get(&message.id).filter(|_| message.dup)?;
        (entry.hash == hash(message)).then_some(entry.group)
    }

    /// A message goes to the log in this group. Beyond `most` those go that an earlier process has left: what the broker had
    /// to send again has come before all that is new.
    pub(super) fn add(&mut self, message: &Message, group: u64, most: usize) {
        if message.id == 0 {
            return;
        }
        if self.entries.len() >= most {
            self.entries.retain(|_, entry| entry.group != LEFT);
        }
        self.entries.insert(message.id, Entry { hash: hash(message), group });
    }

    /// A message of a group that is refused.
    pub(super) fn remove(&mut self, id: u16) {
        self.entries.remove(&id);
    }

    /// All of them, as the receipt of the record that has the last of them.
    pub(super) fn receipt(&self) -> Vec<u8> {
        let bytes = HEAD_BYTES + self.filters.len() + self.entries.len() * ENTRY_BYTES;
        let mut bytes = Vec::with_capacity(bytes);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.session);
        bytes.extend_from_slice(&self.filters);
        bytes.push(0);
        bytes.push(u8::from(self.ids == Ids::CountedUp));
        for (id, entry) in &self.entries {
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&entry.hash);
        }
        bytes
    }
}

/// Tells one session from others.
pub(super) fn session(parts: &[&str]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    first(hash)
}

fn hash(message: &Message) -> Hash {
    let mut hash = Sha256::new();
    hash.update((message.topic.len() as u64).to_be_bytes());
    hash.update(&message.topic);
    hash.update(&message.payload);
    first(hash)
}

fn first(hash: Sha256) -> Hash {
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = Hash::default();
    first.copy_from_slice(&digest[..size_of::<Hash>()]);
    first
}

/// `None` where it isn't one of this version and session.
fn decode(session: Hash, receipt: &[u8]) -> Option<(Vec<String>, Ids, HashMap<u16, Entry>)> {
    let mut rest = receipt.strip_prefix(&[VERSION])?.strip_prefix(&session)?;
    let mut filters = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (filter, behind) = rest.split_at_checked(end)?;
        rest = &behind[1..];
        if filter.is_empty() {
            break;
        }
        filters.push(String::from_utf8(filter.to_vec()).ok()?);
    }
    let (ids, rest) = rest.split_first()?;
    let ids = if *ids == 1 { Ids::CountedUp } else { Ids::Unknown };
    let (entries, odd) = rest.as_chunks::<ENTRY_BYTES>();
    if !odd.is_empty() {
        return None;
    }
    let entry = |bytes: &[u8; ENTRY_BYTES]| {
        let (id, hash) = bytes.split_first_chunk::<2>()?;
        Some((u16::from_be_bytes(*id), Entry { hash: hash.try_into().ok()?, group: LEFT }))
    };
    Some((filters, ids, entries.iter().map(entry).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u16, dup: bool, payload: &str) -> Message {
        Message {
            topic: "a/b".into(),
            payload: payload.to_owned().into(),
            id,
            dup,
            retain: false,
            subscriptions: Vec::new(),
        }
    }

    #[test]
    fn what_comes_again_is_known_by_id_and_contents() {
        let own = session(&["broker", "client"]);
        let mut window = Window::open(own, None).0;
        window.saw(&message(1, false, "20.5"));
        window.add(&message(1, false, "20.5"), 7, 10);
        // It isn't known yet how ids are given, so after a restart nothing is.
        assert_eq!(Window::open(own, Some(&window.receipt())).0.len(), 0);
        window.saw(&message(2, false, "20.5"));
        window.add(&message(2, false, "20.5"), 8, 10);
        // Nothing tells a message of quality of service 0 from another.
        window.add(&message(0, false, "20.5"), 8, 10);
        assert_eq!(window.len(), 2);
        let receipt = window.receipt();
        assert_eq!(receipt.len(), HEAD_BYTES + 2 * ENTRY_BYTES);
        let again = Window::open(own, Some(&receipt)).0;
        assert_eq!(again.group_of(&message(1, true, "20.5")), Some(0));
        assert_eq!(window.group_of(&message(2, true, "20.5")), Some(8));
        for (id, dup, payload) in [(1, false, "20.5"), (1, true, "20.6"), (3, true, "20.5")] {
            assert_eq!(again.group_of(&message(id, dup, payload)), None, "{id} {dup} {payload}");
        }
        let mut full = Window::open(own, Some(&receipt)).0;
        full.add(&message(3, false, "20.5"), 1, 2);
        assert_eq!((full.len(), full.group_of(&message(3, true, "20.5"))), (1, Some(1)));
        window.remove(2);
        assert_eq!(window.group_of(&message(2, true, "20.5")), None);
        window.clear();
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn the_last_acknowledged_ones_are_known_where_ids_are_counted_up() {
        let mut window = Window::open(session(&["broker", "client"]), None).0;
        let take = |window: &mut Window, id: u16| {
            window.saw(&message(id, false, "x"));
            window.add(&message(id, false, "x"), 1, 100_000);
            window.acknowledged(id);
        };
        let last = u16::try_from(REMEMBERED).unwrap() + 10;
        (1..=last).for_each(|id| take(&mut window, id));
        assert_eq!(window.len(), REMEMBERED);
        assert_eq!(window.group_of(&message(10, true, "x")), None);
        assert_eq!(window.group_of(&message(11, true, "x")), Some(1));
        // Those that come again are counted on from there.
        window.saw(&message(11, true, "x"));
        take(&mut window, 12);
        assert!(window.group_of(&message(12, true, "x")).is_some());
        // The lowest free id: it may be of any message.
        window.saw(&message(1, false, "x"));
        assert_eq!(window.len(), 0);
        take(&mut window, 2);
        assert_eq!(window.len(), 0);
        // Nor is anything known after a restart.
        window.add(&message(3, false, "x"), 1, 10);
        assert_eq!(Window::open(window.session, Some(&window.receipt())).0.len(), 0);
    }

    #[test]
    fn receipts_of_others_are_passed_over() {
        let own = session(&["broker", "client"]);
        let mut window = Window::open(own, None).0;
        window.ids = Ids::CountedUp;
        window.add(&message(1, false, "x"), 1, 10);
        let receipt = window.receipt();
        let known = |session, receipt: &[u8]| Window::open(session, Some(receipt)).0.len();
        assert_eq!(known(own, &receipt), 1);
        assert_eq!(known(session(&["brokerclient"]), &receipt), 0);
        assert_eq!(known(own, &receipt[..receipt.len() - 1]), 0);
        assert_eq!(known(own, &receipt[..9]), 0);
        assert_eq!(known(own, &[]), 0);
        assert_eq!(known(own, &[4; 73]), 0);
    }

    #[test]
    fn a_receipt_is_written_as_described() {
        let mut window = Window::open([7; 8], None).0;
        window.set_filters(&["a/+".to_owned(), "b".to_owned()]);
        window.entries.insert(0x0102, Entry { hash: [9; 8], group: 3 });
        window.ids = Ids::CountedUp;
        let expected = b"\x03\x07\x07\x07\x07\x07\x07\x07\x07a/+\0b\0\0\x01\x01\x02\t\t\t\t\t\t\t\t";
        assert_eq!(window.receipt(), expected);
        let (again, filters) = Window::open([7; 8], Some(expected));
        assert_eq!((again.len(), filters), (1, vec!["a/+".to_owned(), "b".to_owned()]));
        // One that is too long is left out.
        window.set_filters(&["x".repeat(MAX_FILTERS), "b".to_owned()]);
        assert_eq!(Window::open([7; 8], Some(&window.receipt())).1, ["b"]);
    }
}
