//! Pages of lists: bounded in number and in bytes.

use std::collections::BinaryHeap;
use std::io;

use serde::Serialize;

use crate::api::facade::MAX_PAGE_BYTES;

/// A page that fills.
pub(super) struct Filling<T> {
    pub(super) items: Vec<T>,
    bytes: usize,
    limit: usize,
}

impl<T: Serialize> Filling<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, limit }
    }

    /// Adds an item; `false` where it belongs to the next page. The first always has room.
    pub(super) fn push(&mut self, item: T) -> bool {
        let bytes = json_bytes(&item);
        let fits = self.items.is_empty() || self.bytes + bytes <= MAX_PAGE_BYTES;
        if self.items.len() >= self.limit || !fits {
            return false;
        }
        self.bytes += bytes;
        self.items.push(item);
        true
    }

    /// Adds items until the page is full; says whether some were left.
    pub(super) fn extend(&mut self, items: impl IntoIterator<Item = T>) -> bool {
        items.into_iter().any(|item| !self.push(item))
    }
}

/// The bytes of an item as JSON, and of the comma behind it.
fn json_bytes(item: &impl Serialize) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(1);
    // What can't be written fails where it is.
    let _ = serde_json::to_writer(&mut counter, item);
    counter.0
}

/// The smallest of many, so that a page of a long list needs no copy of it.
pub(super) struct Smallest<T> {
    heap: BinaryHeap<T>,
    most: usize,
}

impl<T: Ord> Smallest<T> {
    /// Keeps so many, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self { heap: BinaryHeap::new(), most }
    }

    /// Whether it would be kept.
    fn wants(&self, item: &T) -> bool {
        self.heap.len() < self.most || self.heap.peek().is_some_and(|greatest| item < greatest)
    }

    pub(super) fn push(&mut self, item: T) {
        if self.wants(&item) {
            if self.heap.len() == self.most {
                self.heap.pop();
            }
            self.heap.push(item);
        }
    }

    pub(super) fn into_sorted(self) -> Vec<T> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_by_number_or_by_bytes() {
        let mut page = Filling::new(3);
        assert!(page.extend([1, 2, 3, 4]));
        assert_eq!(page.items, [1, 2, 3]);
        // A control character is six bytes of JSON.
        let long = "\u{1}".repeat(MAX_PAGE_BYTES / 6);
        let mut page = Filling::new(10);
        assert!(page.extend([long.as_str(), "x"]));
        assert_eq!(page.items.len(), 1, "the first has room whatever its length");
        let half = "y".repeat(MAX_PAGE_BYTES / 2 - 3);
        let mut page = Filling::new(10);
        assert!(!page.extend([half.as_str(), half.as_str()]));
        assert!(page.extend(["z"]));
    }

    #[test]
    fn the_smallest_are_kept_in_order() {
        let mut smallest = Smallest::new(3);
        for item in [5, 1, 9, 3, 7, 2] {
            smallest.push(item);
        }
        assert_eq!(smallest.into_sorted(), [1, 2, 3]);
    }
}
