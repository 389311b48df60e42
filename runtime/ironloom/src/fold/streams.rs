//! Streams of readings that have a key: how far each has come.
//!
//! They are remembered for a day of journal time. That may jump, by a clock that is set right or by a source that
//! replays a week; so one is forgotten only when this process has known its last record for an hour besides, and
//! only to make room for another.
//!
//! A sender that nobody gave a key makes one itself, for once: that is remembered for the hour only. There are as many of
//! these besides, so that neither kind takes the other's room.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::requests::KEPT;
use super::stored::StoredStream;
use ironloom_types::clock::Timestamp;
use ironloom_types::limits::STREAM_ONCE;
use ironloom_types::readings::Progress;

/// The most streams that are remembered, except for those that connections have.
pub(crate) const MOST: usize = if cfg!(test) { 1_000 } else { 10_000 };
/// The time that this process must have known a stream's last record before it is forgotten because of its age.
const KNOWN: Duration = Duration::from_secs(3600);

/// The streams that are remembered. Whoever has one keeps its key: such a stream is not forgotten.
pub(crate) struct Streams {
    by_key: HashMap<Arc<str>, Known>,
    /// Those of each kind by the time of their last record, with the keys of the map: whoever looks for old ones begins
    /// with the oldest and goes over few others.
    by_age: [BTreeSet<(Timestamp, Arc<str>)>; 2],
    started: Instant,
}

/// The map and the index have each key once; any other is a connection's.
const OWN_KEYS: usize = 2;

struct Known {
    stream: StoredStream,
    /// When this process came to know the last record, counted from its start.
    since: Duration,
}

/// The kinds of keys, each with room of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Named,
    Once,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Named, Self::Once];

    pub(crate) fn of(key: &str) -> Self {
        if key.starts_with(STREAM_ONCE) { Self::Once } else { Self::Named }
    }

    /// For how long such a stream is remembered.
    pub(crate) fn kept(self) -> &'static str {
        match self {
            Self::Named => "a day",
            Self::Once => "an hour",
        }
    }
}

impl Streams {
    pub(super) fn new() -> Self {
        Self { by_key: HashMap::new(), by_age: Default::default(), started: Instant::now() }
    }

    /// Remembers one from the store.
    pub(super) fn load(&mut self, key: Arc<str>, stream: StoredStream) {
        self.put(key, Known { stream, since: Duration::ZERO });
    }

    /// Remembers how far a stream has come, and returns the keys that are forgotten to make room for it.
    pub(super) fn take(&mut self, key: Arc<str>, stream: StoredStream) -> Vec<Arc<str>> {
        self.take_after(key, stream, self.started.elapsed())
    }

    fn take_after(&mut self, key: Arc<str>, stream: StoredStream, up: Duration) -> Vec<Arc<str>> {
        let kind = Kind::of(&key);
        // One that goes on makes nobody be forgotten, so nobody is looked for.
        if !self.put(key, Known { stream, since: up }) {
            return Vec::new();
        }
        let too_many = self.of_kind(kind).saturating_sub(MOST);
        let old: Vec<_> = self.old(kind, stream.at, up).take(too_many).map(Arc::clone).collect();
        old.iter().for_each(|key| self.forget(key));
        old
    }

    /// Remembers one, and says whether it is new. A key that is there stays the one that connections keep.
    fn put(&mut self, key: Arc<str>, known: Known) -> bool {
        let at = known.stream.at;
        let by_age = &mut self.by_age[Kind::of(&key) as usize];
        match self.by_key.entry(key) {
            Entry::Occupied(mut entry) => {
                let before = entry.insert(known);
                // The index knows the key by its letters.
                by_age.remove(&(before.stream.at, Arc::clone(entry.key())));
                by_age.insert((at, Arc::clone(entry.key())));
                false
            }
            Entry::Vacant(entry) => {
                by_age.insert((at, Arc::clone(entry.key())));
                entry.insert(known);
                true
            }
        }
    }

    /// The number of those of a kind.
    fn of_kind(&self, kind: Kind) -> usize {
        self.by_age[kind as usize].len()
    }

    /// Those that may be forgotten, by the time of their last record.
    fn old(&self, kind: Kind, now: Timestamp, up: Duration) -> impl Iterator<Item = &Arc<str>> {
        let come = self.by_age[kind as usize].iter();
        // All that follow came later; within the first hour none is old, and none is looked at.
        let come =
            come.take_while(move |(at, _)| up >= KNOWN && (kind == Kind::Once || at.plus(KEPT) <= now));
        come.map(|(_, key)| key).filter(move |key| {
            let is_known_long = |known: &Known| known.since + KNOWN <= up;
            Arc::strong_count(key) == OWN_KEYS && self.by_key.get(*key).is_some_and(is_known_long)
        })
    }

    /// Time goes back to `to`: what came in a future that was left behind counts as come now. Returns those.
    pub(super) fn leave_future(&mut self, to: Timestamp) -> Vec<(Arc<str>, StoredStream)> {
        let mut moved = Vec::new();
        for by_age in &mut self.by_age {
            while let Some((at, key)) = by_age.pop_last() {
                if at <= to {
                    by_age.insert((at, key));
                    break;
                }
                if let Some(known) = self.by_key.get_mut(&key) {
                    known.stream.at = to;
                    moved.push((key, known.stream));
                }
            }
        }
        for (key, _) in &moved {
            self.by_age[Kind::of(key) as usize].insert((to, Arc::clone(key)));
        }
        moved
    }

    /// Forgets a stream whose key won't come again.
    pub(super) fn forget(&mut self, key: &str) {
        if let Some((key, known)) = self.by_key.remove_entry(key) {
            self.by_age[Kind::of(&key) as usize].remove(&(known.stream.at, key));
        }
    }

    /// The progress of a stream. Whoever keeps the key keeps it from being forgotten.
    pub(crate) fn find(&self, key: &str) -> Option<(Arc<str>, Progress)> {
        self.by_key.get_key_value(key).map(|(key, known)| (Arc::clone(key), known.stream.progress))
    }

    /// The number of those that are remembered.
    pub(crate) fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Says if there is room for one of a kind that isn't remembered, besides as many others.
    pub(crate) fn has_room(&self, kind: Kind, others: usize, now: Timestamp) -> bool {
        self.has_room_after(kind, others, now, self.started.elapsed())
    }

    fn has_room_after(&self, kind: Kind, others: usize, now: Timestamp, up: Duration) -> bool {
        if self.by_key.len() + others < MOST {
            return true;
        }
        let count = self.of_kind(kind) + others;
        let too_many = (count + 1).saturating_sub(MOST);
        self.old(kind, now, up).take(too_many).count() == too_many
    }

    /// A note where there is little room for further ones.
    pub(crate) fn notes(&self, now: Timestamp) -> Vec<String> {
        self.notes_after(now, self.started.elapsed())
    }

    fn notes_after(&self, now: Timestamp, up: Duration) -> Vec<String> {
        let note = |kind: Kind| {
            let kept = self.of_kind(kind).saturating_sub(self.old(kind, now, up).count());
            let whose = match kind {
                Kind::Named => "keys of streams",
                Kind::Once => "streams without a key of their own",
            };
            let text = format!("{kept} of at most {MOST} {whose} are remembered, each for {}", kind.kept());
            (kept >= MOST / 10 * 9).then_some(text)
        };
        let all = self.by_key.len();
        Kind::ALL.into_iter().filter(|_| all >= MOST / 10 * 9).filter_map(note).collect()
    }

    /// All that are remembered, in the order of the keys.
    #[cfg(test)]
    pub(super) fn all(&self) -> std::collections::BTreeMap<String, (Progress, u64)> {
        let all = self.by_key.iter();
        all.map(|(key, known)| (key.to_string(), (known.stream.progress, known.stream.at.0))).collect()
    }
}

#[cfg(test)]
mod tests;
