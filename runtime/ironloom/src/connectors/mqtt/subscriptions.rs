//! The subscriptions of a session that a broker keeps: what an earlier configuration has asked for stays in it, until it is
//! taken back.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::window::Hash;

/// The filters that a session has, as far as this process and the log know.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    session: Hash,
    filters: BTreeSet<String>,
}

impl Subscriptions {
    /// The connector of this session begins; the log has these of it.
    pub(super) fn open(&self, session: Hash, logged: Vec<String>) {
        let mut known = self.0.lock();
        if known.session != session {
            *known = Known { session, filters: BTreeSet::new() };
        }
        known.filters.extend(logged);
    }

    /// The broker has taken a connection, with the session or without. Returns the filters that are in it and are no
    /// longer wanted; the wanted ones are asked for now.
    pub(super) fn connected(&self, session: bool, wanted: &[String]) -> Vec<String> {
        let mut known = self.0.lock();
        if !session {
            known.filters.clear();
        }
        let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
        let outdated = known.filters.difference(&wanted).cloned().collect();
        known.filters.extend(wanted);
        outdated
    }

    /// The broker has taken these out of the session.
    pub(super) fn taken_back(&self, filters: &[String]) {
        let mut known = self.0.lock();
        known.filters.retain(|filter| !filters.contains(filter));
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().filters.iter().cloned().collect()
    }
}

/// The filters without those that match only what another one matches: a broker may send a message once for each filter that
/// it matches.
pub(super) fn without_covered(filters: Vec<String>) -> Vec<String> {
    let is_covered = |at: usize| {
        let others = filters.iter().enumerate().filter(|(other, _)| *other != at);
        // Of two that match the same, the first stays.
        others
            .into_iter()
            .any(|(other, wide)| covers(wide, &filters[at]) && (other < at || !covers(&filters[at], wide)))
    };
    let kept: Vec<bool> = (0..filters.len()).map(|at| !is_covered(at)).collect();
    filters.into_iter().zip(kept).filter_map(|(filter, is_kept)| is_kept.then_some(filter)).collect()
}

/// Returns true where a filter matches all topics that the other one matches. There are no wildcards but `+`.
fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    let mut is_first = true;
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) => return true,
            // A wildcard in the first level doesn't match what the broker says of itself.
            (Some("+"), Some(level)) if !(is_first && level.starts_with('$')) => {}
            (Some(wide), Some(narrow)) if wide == narrow => {}
            _ => return false,
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(filters: &[&str]) -> Vec<String> {
        filters.iter().map(|filter| (*filter).to_owned()).collect()
    }

    #[test]
    fn what_an_earlier_configuration_asked_for_is_taken_back_once() {
        let subscriptions = Subscriptions::default();
        subscriptions.open([1; 8], owned(&["old/+"]));
        assert_eq!(subscriptions.connected(true, &owned(&["a/+", "b"])), owned(&["old/+"]));
        // It hasn't answered, and the connection is lost.
        assert_eq!(subscriptions.connected(true, &owned(&["a/+", "b"])), owned(&["old/+"]));
        subscriptions.taken_back(&owned(&["old/+"]));
        assert_eq!(subscriptions.all(), owned(&["a/+", "b"]));
        // A reload.
        subscriptions.open([1; 8], Vec::new());
        assert_eq!(subscriptions.connected(true, &owned(&["b"])), owned(&["a/+"]));
        // The broker has forgotten all of it.
        assert_eq!(subscriptions.connected(false, &owned(&["b"])), owned(&[]));
        assert_eq!(subscriptions.all(), owned(&["b"]));
        // Another broker, or another client id.
        subscriptions.open([2; 8], Vec::new());
        assert_eq!(subscriptions.connected(true, &owned(&["c"])), owned(&[]));
    }

    #[test]
    fn a_filter_that_another_covers_is_not_asked_for() {
        for (filters, expected) in [
            (&["a/b", "a/+"][..], &["a/+"][..]),
            (&["a/+", "a/b", "a/b/c"], &["a/+", "a/b/c"]),
            (&["a/+/c", "a/b/+"], &["a/+/c", "a/b/+"]),
            (&["+/+", "a/+", "+/b", "a/b"], &["+/+"]),
            (&["a", "a"], &["a"]),
            (&["$SYS/x", "+/x"], &["$SYS/x", "+/x"]),
            (&["$SYS/x", "$SYS/+"], &["$SYS/+"]),
        ] {
            assert_eq!(without_covered(owned(filters)), owned(expected));
        }
    }
}
