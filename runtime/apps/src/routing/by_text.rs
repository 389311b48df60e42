//! Numbers by texts that stand elsewhere.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Finds numbers by the texts that they stand for. It keeps half of each text's hash: so nobody looks at the texts,
/// which are spread over the memory, when the table grows, nor at many others to find one. The fold's thread adds to
/// many such tables at once, and everybody waits for it.
#[derive(Debug, Default)]
pub struct NumbersByText {
    table: HashTable<Entry>,
    hasher: DefaultHashBuilder,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    number: u32,
}

/// The hash that the table is given: it takes places from its low bits, and tells neighbours apart by its high ones.
fn key(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl NumbersByText {
    /// The hash by which a text is found, and put in.
    pub fn hash<T: Hash + ?Sized>(&self, text: &T) -> u32 {
        self.hasher.hash_one(text) as u32
    }

    /// The number with this hash that `is_it`.
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let is_it = |one: &Entry| one.hash == hash && is_it(one.number);
        self.table.find(key(hash), is_it).map(|found| found.number)
    }

    /// Puts in a number that isn't there.
    pub fn insert(&mut self, hash: u32, number: u32) {
        self.table.insert_unique(key(hash), Entry { hash, number }, |one| key(one.hash));
    }

    /// Takes out a number.
    pub fn remove(&mut self, hash: u32, number: u32) {
        if let Ok(known) = self.table.find_entry(key(hash), |one| one.number == number) {
            known.remove();
        }
    }

    /// The number of numbers.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Says if there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_hash_are_told_apart_and_go_one_by_one() {
        let texts = ["a", "b", "c"];
        let mut numbers = NumbersByText::default();
        let find =
            |numbers: &NumbersByText, text: &str| numbers.find(7, |number| texts[number as usize] == text);
        (0..3).for_each(|number| numbers.insert(7, number));
        assert_eq!(texts.map(|text| find(&numbers, text)), [Some(0), Some(1), Some(2)]);
        numbers.remove(7, 1);
        assert_eq!(texts.map(|text| find(&numbers, text)), [Some(0), None, Some(2)]);
        assert_eq!(numbers.find(8, |_| true), None);
        assert_eq!((numbers.len(), numbers.is_empty()), (2, false));
    }

    #[test]
    fn numbers_are_found_after_the_table_has_grown() {
        let mut numbers = NumbersByText::default();
        let text = |number: u32| format!("text {number}");
        for number in 0..10_000 {
            numbers.insert(numbers.hash(text(number).as_str()), number);
        }
        let find = |asked: &str| numbers.find(numbers.hash(asked), |number| text(number) == asked);
        assert!((0..10_000).all(|number| find(&text(number)) == Some(number)));
        assert_eq!(find("text 10000"), None);
    }
}
