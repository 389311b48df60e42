//! Changes of an app's state, packed: each takes 20 bytes besides its own, and no allocation.

use std::fmt;

use crate::limits::{MAX_EFFECT_BYTES, MAX_HOST_CALL_BYTES};

const _: () = assert!(MAX_HOST_CALL_BYTES + MAX_EFFECT_BYTES < DELETED as usize, "places fit");

/// The length of a value where its key is deleted.
const DELETED: u32 = u32::MAX;

/// Where a cache of state holds a key: what reads a key hands this on to what writes it, which needs no look-up then.
/// A hint, since another key may be there by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot(pub u32);

impl Spot {
    /// Nobody has looked, or the key isn't there.
    pub const NONE: Self = Self(u32::MAX);
}

/// Keys that are set, or deleted (`None`), mostly in the order of the keys' bytes and each once.
#[derive(Clone, Default)]
pub struct StateChanges {
    keys: String,
    values: Vec<u8>,
    places: Vec<Place>,
}

/// Where a key and its value stand.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: u32,
    key_length: u32,
    value: u32,
    value_length: u32,
    spot: Spot,
}

impl StateChanges {
    /// None yet, and room for so many, with so many bytes of keys and of values in all.
    pub fn with_capacity(changes: usize, keys: usize, values: usize) -> Self {
        Self {
            keys: String::with_capacity(keys),
            values: Vec::with_capacity(values),
            places: Vec::with_capacity(changes),
        }
    }

    /// Adds a change behind the others.
    #[inline]
    pub fn push(&mut self, key: &str, value: Option<&[u8]>) {
        self.push_row("", key, value, Spot::NONE);
    }

    /// Adds a change of a key that consists of two parts and was last seen at a spot.
    #[inline]
    pub fn push_row(&mut self, prefix: &str, rest: &str, value: Option<&[u8]>, spot: Spot) {
        let (key, at) = (self.keys.len(), self.values.len());
        self.keys.push_str(prefix);
        self.keys.push_str(rest);
        self.values.extend_from_slice(value.unwrap_or_default());
        assert!(
            self.keys.len() < DELETED as usize && self.values.len() < DELETED as usize,
            "what an invocation writes is bounded far below"
        );
        self.places.push(Place {
            key: key as u32,
            key_length: (self.keys.len() - key) as u32,
            value: at as u32,
            value_length: value.map_or(DELETED, |value| value.len() as u32),
            spot,
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The change at a place.
    #[inline]
    pub fn get(&self, place: usize) -> (&str, Option<&[u8]>) {
        self.at(self.places[place])
    }

    /// Goes through them in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> + Clone {
        self.iter_from(0)
    }

    /// Goes through those from a place on.
    pub fn iter_from(&self, first: usize) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> + Clone {
        self.places[first..].iter().map(|place| self.at(*place))
    }

    /// Goes through their keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.places.iter().map(|place| self.key(*place))
    }

    /// Goes through those from a place on, with the spots where their keys were last seen.
    pub fn with_spots(
        &self,
        first: usize,
    ) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>, Spot)> + Clone {
        self.places[first..].iter().map(|place| {
            let (key, value) = self.at(*place);
            (key, value, place.spot)
        })
    }

    /// The place of a key, where they are in order.
    pub fn find(&self, key: &str) -> Option<usize> {
        self.places.binary_search_by(|place| self.key(*place).cmp(key)).ok()
    }

    /// How many of the first keys are as is asked, where they are in order.
    pub fn partition_point(&self, mut is_before: impl FnMut(&str) -> bool) -> usize {
        self.places.partition_point(|place| is_before(self.key(*place)))
    }

    /// Brings them into the order of their keys' bytes. Of those of one key the last one counts, and nothing stays of
    /// the others.
    pub fn sort(&mut self) {
        if self.places.is_sorted_by(|a, b| self.key(*a) < self.key(*b)) {
            return;
        }
        // Compared by eight bytes at once: those behind what all keys begin with mostly decide.
        let first = self.keys().next().unwrap_or_default().as_bytes();
        let common = self.keys().fold(first.len(), |common, key| {
            let same = key.as_bytes().iter().zip(first).take(common);
            same.take_while(|(a, b)| a == b).count()
        });
        // Head and place are one number: numbers are sorted without a branch for each comparison.
        let head = |place: &Place| u128::from(head(self.key(*place), common)) << 32;
        let mut order: Vec<u128> = (0..).zip(&self.places).map(|(n, place)| head(place) | n).collect();
        order.sort_unstable();
        let key = |number: u128| self.key(self.places[number as u32 as usize]);
        for same in order.chunk_by_mut(|a, b| a >> 32 == b >> 32).filter(|same| same.len() > 1) {
            same.sort_unstable_by(|a, b| key(*a).cmp(key(*b)).then(a.cmp(b)));
        }
        let mut sorted: Vec<Place> = Vec::with_capacity(order.len());
        for number in order {
            let place = self.places[number as u32 as usize];
            match sorted.last_mut() {
                Some(last) if self.key(*last) == self.key(place) => *last = place,
                _ => sorted.push(place),
            }
        }
        let has_replaced = sorted.len() < self.places.len();
        self.places = sorted;
        if has_replaced {
            *self = self.packed();
        }
    }

    /// These without bytes that are none of theirs.
    fn packed(&self) -> Self {
        let (keys, values) = self.iter().fold((0, 0), |(keys, values), (key, value)| {
            (keys + key.len(), values + value.map_or(0, <[u8]>::len))
        });
        let mut packed = Self::with_capacity(self.len(), keys, values);
        self.with_spots(0).for_each(|(key, value, spot)| packed.push_row("", key, value, spot));
        packed
    }

    /// These with newer ones, both in order: where both have a key, the new one counts.
    #[must_use]
    pub fn merge(self, newer: Self) -> Self {
        if self.is_empty() {
            return newer;
        }
        let (keys, values) = (self.keys.len() + newer.keys.len(), self.values.len() + newer.values.len());
        let most = self.len() + newer.len();
        let mut all = Self::with_capacity(most, keys, values);
        let mut old = self.with_spots(0).peekable();
        for (key, value, spot) in newer.with_spots(0) {
            while let Some((key, value, spot)) = old.next_if(|(earlier, ..)| *earlier < key) {
                all.push_row("", key, value, spot);
            }
            let _replaced = old.next_if(|(replaced, ..)| *replaced == key);
            all.push_row("", key, value, spot);
        }
        old.for_each(|(key, value, spot)| all.push_row("", key, value, spot));
        if all.len() < most { all.packed() } else { all }
    }

    #[inline]
    fn key(&self, Place { key, key_length, .. }: Place) -> &str {
        &self.keys[key as usize..][..key_length as usize]
    }

    #[inline]
    fn at(&self, place: Place) -> (&str, Option<&[u8]>) {
        let value = (place.value_length != DELETED)
            .then(|| &self.values[place.value as usize..][..place.value_length as usize]);
        (self.key(place), value)
    }
}

/// Eight bytes of a key from a place on, as a number that is ordered as they are.
fn head(key: &str, from: usize) -> u64 {
    let bytes = &key.as_bytes()[from..];
    match bytes.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(head)
        }
    }
}

impl PartialEq for StateChanges {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for StateChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: AsRef<str>, V: AsRef<[u8]>> FromIterator<(K, Option<V>)> for StateChanges {
    fn from_iter<I: IntoIterator<Item = (K, Option<V>)>>(changes: I) -> Self {
        let mut all = Self::default();
        for (key, value) in changes {
            all.push(key.as_ref(), value.as_ref().map(AsRef::as_ref));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Change = (String, Option<Vec<u8>>);

    fn change() -> impl Strategy<Value = Change> {
        let key = "[ab]{1,3}|aaaaaaaa[ab]{0,2}|x?\u{0}{0,2}|";
        (key, proptest::option::of(prop::collection::vec(any::<u8>(), 0..4)))
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        prop::collection::vec(change(), 0..12)
    }

    proptest! {
        #[test]
        fn in_order_they_are_a_map_and_so_is_what_two_of_them_come_to(old in changes(), new in changes()) {
            let sorted = |changes: &[Change]| {
                let mut all: StateChanges = changes.iter().cloned().collect();
                prop_assert_eq!(all.len(), changes.len());
                prop_assert!(all.keys().eq(changes.iter().map(|(key, _)| key.as_str())));
                all.sort();
                Ok(all)
            };
            let merged = sorted(&old)?.merge(sorted(&new)?);
            let model: BTreeMap<String, Option<Vec<u8>>> = old.into_iter().chain(new).collect();
            prop_assert!(merged.iter().eq(model.iter().map(|(key, value)| (key.as_str(), value.as_deref()))));
            for (place, (key, value)) in model.iter().enumerate() {
                prop_assert_eq!(merged.find(key), Some(place));
                prop_assert_eq!(merged.get(place), (key.as_str(), value.as_deref()));
                prop_assert_eq!(merged.partition_point(|other| other < key.as_str()), place);
            }
            prop_assert_eq!(merged.find("c"), None);
        }
    }

    #[test]
    fn what_is_replaced_takes_no_memory() {
        let room = |changes: &StateChanges| {
            (changes.keys.capacity(), changes.values.capacity(), changes.places.capacity())
        };
        let one = |byte: u8| {
            let written = (0..64).map(|_| ("key", Some(vec![byte; 1_000])));
            let mut changes: StateChanges = written.collect();
            changes.sort();
            assert_eq!(changes.get(0), ("key", Some(&[byte; 1_000][..])));
            changes
        };
        assert_eq!(room(&one(1)), (3, 1_000, 1));
        let merged = one(1).merge(one(2));
        assert_eq!((room(&merged), merged.get(0).1), ((3, 1_000, 1), Some(&[2; 1_000][..])));
    }

    #[test]
    fn a_value_without_bytes_is_a_value() {
        let mut changes = StateChanges::default();
        changes.push_row("animal/", "ö", Some(b""), Spot(7));
        changes.push("x", None);
        assert!(changes.with_spots(0).map(|(.., spot)| spot).eq([Spot(7), Spot::NONE]));
        assert_eq!(changes.get(0), ("animal/ö", Some(&b""[..])));
        assert_eq!(changes.get(1), ("x", None));
        assert_ne!(changes, [("animal/ö", None), ("x", None::<&[u8]>)].into_iter().collect());
    }
}
