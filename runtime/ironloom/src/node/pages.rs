//! Pages of lists: bounded in number and in bytes.

use std::collections::{BinaryHeap, VecDeque};
use std::io;

use serde::Serialize;

use crate::api::facade::{MAX_PAGE_BYTES, Page, PageQuery};

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

/// A page of a list that is in memory, in the order of its names. The place of the next one is the name of the last shown.
pub(super) fn by_name<P, T: Serialize>(
    query: &PageQuery,
    all: impl IntoIterator<Item = P>,
    name: impl Fn(&P) -> String,
    show: impl Fn(P) -> T,
) -> Page<T> {
    let mut page = Filling::new(query.limit);
    let mut last = None;
    for place in all {
        let name = name(&place);
        if query.after.as_ref().is_some_and(|after| name <= *after) {
            continue;
        }
        if !page.push(show(place)) {
            return Page { items: page.items, next: last };
        }
        last = Some(name);
    }
    Page { items: page.items, next: None }
}

/// The last of many items, as many as a page has room for.
pub(super) struct Newest<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    most: usize,
}

impl<T: Serialize> Newest<T> {
    /// Keeps so many, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, most: most.max(1) }
    }

    /// Adds a newer one, where there is one. More bytes than a page may have aren't kept, but for one item, which tells
    /// that there are more.
    pub(super) fn extend(&mut self, item: Option<T>) {
        let Some(item) = item else { return };
        let bytes = json_bytes(&item);
        self.bytes += bytes;
        self.items.push_back((bytes, item));
        while self.items.len() > self.most
            || self.items.front().is_some_and(|(first, _)| self.bytes - first > MAX_PAGE_BYTES)
        {
            self.bytes -= self.items.pop_front().map_or(0, |(bytes, _)| bytes);
        }
    }

    pub(super) fn into_newest_first(self) -> impl Iterator<Item = T> {
        self.items.into_iter().rev().map(|(_, item)| item)
    }
}

/// Shows the places of a list until a page is full. `find` finds the places behind one, at most so many, and fewer
/// only at the list's end. A place that has nothing to show is passed. Returns the last that was passed, where there
/// are more.
pub(super) fn fill<P, T: Serialize>(
    limit: usize,
    mut find: impl FnMut(Option<&P>, usize) -> Vec<P>,
    mut show: impl FnMut(&P) -> Option<T>,
) -> (Vec<T>, Option<P>) {
    // With one more it is known whether the page is the last.
    let most = limit + 1;
    let mut page = Filling::new(limit);
    let mut last = None;
    loop {
        let found = find(last.as_ref(), most);
        let is_end = found.len() < most;
        for place in found {
            if show(&place).is_some_and(|item| !page.push(item)) {
                return (page.items, last);
            }
            last = Some(place);
        }
        if is_end {
            return (page.items, None);
        }
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

    /// Says whether it would be kept.
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
    fn the_newest_are_kept_by_number_and_by_bytes() {
        let newest = |most, items: &[&str]| {
            let mut newest = Newest::new(most);
            items.iter().for_each(|item| newest.extend(Some((*item).to_owned())));
            newest.into_newest_first().map(|item| item.len()).collect::<Vec<_>>()
        };
        assert_eq!(newest(2, &["1", "22", "333"]), [3, 2]);
        assert_eq!(newest(0, &["1", "22"]), [2]);
        let half = "x".repeat(MAX_PAGE_BYTES / 2);
        // Two don't fit on a page; the second tells that there is another one.
        assert_eq!(newest(9, &["1", &half, &half]), [half.len(), half.len()]);
        assert_eq!(newest(9, &[&half, &half, "1"]), [1, half.len(), half.len()]);
    }

    #[test]
    fn places_with_nothing_to_show_are_passed_and_dont_end_a_list() {
        let page = |list: &[u32], limit| {
            let find = |after: Option<&u32>, most| {
                let behind = list.iter().filter(|place| after.is_none_or(|after| *place > after));
                behind.take(most).copied().collect()
            };
            fill(limit, find, |place: &u32| place.is_multiple_of(2).then_some(*place))
        };
        assert_eq!(page(&[], 1), (vec![], None));
        assert_eq!(page(&[2], 1), (vec![2], None));
        assert_eq!(page(&[2, 4], 1), (vec![2], Some(2)));
        assert_eq!(page(&[2, 3, 5, 7, 9], 1), (vec![2], None));
        assert_eq!(page(&[2, 3, 5, 7, 8], 1), (vec![2], Some(7)));
        assert_eq!(page(&[1, 3, 5, 7, 9], 2), (vec![], None));
        assert_eq!(page(&[1, 2, 3, 4, 5, 6], 2), (vec![2, 4], Some(5)));
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
