//! Pages of an ordered list, and changes laid over them.

/// A part of an ordered list, from some place on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K, V> {
    /// In the order of their keys.
    pub entries: Vec<(K, V)>,
    /// Whether more may come after the last of them.
    pub more: bool,
}

impl<K, V> Default for Page<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), more: false }
    }
}

/// The entries of a list, page by page: `page` gives the one behind a key. Ends after an error.
pub fn pages<K: Clone, V, E>(
    mut page: impl FnMut(Option<&K>) -> Result<Page<K, V>, E>,
) -> impl Iterator<Item = Result<Vec<(K, V)>, E>> {
    let mut after = None;
    let mut has_more = true;
    std::iter::from_fn(move || {
        if !has_more {
            return None;
        }
        let found = page(after.as_ref()).map(|Page { entries, more }| {
            after = entries.last().map(|(key, _)| key.clone());
            has_more = more && after.is_some();
            entries
        });
        has_more &= found.is_ok();
        Some(found)
    })
}

/// A page with the changes laid over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged<K, V> {
    /// In the order of their keys. May be empty though there is more.
    pub entries: Vec<(K, V)>,
    /// The key after which the next page begins; `None`: there is no more.
    pub next: Option<K>,
}

/// Lays changes over a page, both from the same place on, and gives at most `limit` entries, at least one
/// where `limit` is 0. A change to `None` hides the page's entry.
///
/// If one of the two has more behind its last entry, it is unknown from there on: so neither is
/// believed beyond the end of the other.
pub fn merge_page<K: Ord + Clone, V>(
    changes: Page<K, Option<V>>,
    page: Page<K, V>,
    limit: usize,
) -> Merged<K, V> {
    // Each page must get on.
    let limit = limit.max(1);
    let end_of_page = page.entries.last().filter(|_| page.more).map(|(key, _)| key);
    let end_of_changes = changes.entries.last().filter(|_| changes.more).map(|(key, _)| key);
    let end: Option<K> = end_of_page.into_iter().chain(end_of_changes).min().cloned();
    let is_known = |key: &K| end.as_ref().is_none_or(|end| key <= end);

    let mut page = page.entries.into_iter().take_while(|(key, _)| is_known(key)).peekable();
    let mut changes = changes.entries.into_iter().take_while(|(key, _)| is_known(key)).peekable();
    let mut entries: Vec<(K, V)> = Vec::new();
    while entries.len() < limit {
        let changed = match (page.peek(), changes.peek()) {
            (None, None) => break,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some((old, _)), Some((new, _))) => {
                let (comes_first, hides) = (new <= old, new == old);
                if hides {
                    page.next();
                }
                comes_first
            }
        };
        if !changed {
            entries.extend(page.next());
        } else if let Some((key, Some(value))) = changes.next() {
            entries.push((key, value));
        }
    }
    let left_over = page.peek().is_some() || changes.any(|(_, value)| value.is_some());
    let next = if left_over { entries.last().map(|(key, _)| key.clone()) } else { end };
    Merged { entries, next }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A page of a map from behind a key on.
    fn page<V: Clone>(map: &BTreeMap<u8, V>, after: Option<u8>, limit: usize) -> Page<u8, V> {
        let mut behind = map.iter().filter(|(key, _)| after.is_none_or(|after| **key > after));
        let entries = behind.by_ref().take(limit).map(|(key, value)| (*key, value.clone())).collect();
        Page { entries, more: behind.next().is_some() }
    }

    proptest! {
        #[test]
        fn page_by_page_all_is_seen_once_and_in_order(
            stored in prop::collection::btree_map(any::<u8>(), any::<u16>(), 0..40),
            changes in prop::collection::btree_map(any::<u8>(), any::<Option<u16>>(), 0..40),
            limits in (1..9_usize, 1..9_usize, 0..9_usize),
        ) {
            let mut expected = stored.clone();
            for (key, change) in &changes {
                match change {
                    Some(value) => expected.insert(*key, *value),
                    None => expected.remove(key),
                };
            }
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let (page, over) = (page(&stored, after, limits.0), page(&changes, after, limits.1));
                let merged = merge_page(over, page, limits.2);
                prop_assert!(merged.entries.len() <= limits.2.max(1));
                seen.extend(merged.entries);
                match merged.next {
                    None => break,
                    Some(next) => {
                        prop_assert!(after.is_none_or(|after| next > after), "each page gets on");
                        after = Some(next);
                    }
                }
            }
            prop_assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
