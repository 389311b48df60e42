//! The subscriptions of a session that a broker keeps: what an earlier configuration has asked for stays in it, until it is
//! taken back.

use std::collections::{BTreeSet, HashMap, VecDeque};

use parking_lot::Mutex;

use super::config::MqttConfig;
use super::link::{Ended, Link};
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

/// Questions for topics on one connection.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// The filters of those that have no packet id yet, the oldest first.
    unnumbered: VecDeque<Vec<String>>,
    /// The filters of those that the broker is to answer.
    numbered: HashMap<u16, Vec<String>>,
}

impl Asking {
    /// Asks for all that the configuration wants. A filter that overlaps another gets a number where the broker knows
    /// such, so that the copies of a message that comes by both are known.
    pub(super) fn ask(&mut self, config: &MqttConfig, knows_numbers: bool, link: &Link) -> Result<(), Ended> {
        *self = Self::default();
        let filters = config.filters();
        let overlaps = |at: usize| {
            let mut others = filters.iter().enumerate().filter(|(other, _)| *other != at);
            knows_numbers && others.any(|(_, other)| overlap(other, &filters[at]))
        };
        let (with, without): (Vec<usize>, Vec<usize>) = (0..filters.len()).partition(|at| overlaps(*at));
        let without: Vec<String> = without.into_iter().map(|at| filters[at].clone()).collect();
        if !without.is_empty() {
            link.subscribe(&without, None, config.retained)?;
            self.unnumbered.push_back(without);
        }
        for (number, at) in (1..).zip(with) {
            let filter = vec![filters[at].clone()];
            link.subscribe(&filter, Some(number), config.retained)?;
            self.unnumbered.push_back(filter);
        }
        Ok(())
    }

    /// The oldest of those without an id has this one.
    pub(super) fn asked(&mut self, id: u16) {
        if let Some(filters) = self.unnumbered.pop_front() {
            self.numbered.insert(id, filters);
        }
    }

    /// The broker has answered one. Returns the filters that bring nothing, or not what they should, with the reasons.
    pub(super) fn answered(&mut self, id: u16, answers: Vec<Option<String>>) -> Vec<(String, String)> {
        let filters = self.numbered.remove(&id).unwrap_or_default();
        filters.into_iter().zip(answers).filter_map(|(filter, reason)| Some((filter, reason?))).collect()
    }

    /// Returns true where the broker has answered all.
    pub(super) fn is_done(&self) -> bool {
        self.unnumbered.is_empty() && self.numbered.is_empty()
    }
}

/// Returns true where some topic matches both filters.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one == "+" || other == "+" || one == other => {}
            _ => return false,
        }
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
    fn filters_overlap_where_a_topic_matches_both() {
        for (one, other, expected) in [
            ("a/+", "+/b", true),
            ("a/+/c", "a/b/+", true),
            ("a/+", "b/+", false),
            ("a/+", "a/+/c", false),
            ("a", "a", true),
        ] {
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn answers_belong_to_the_question_of_their_id() {
        let mut asking = Asking::default();
        asking.unnumbered.extend([owned(&["a", "b"]), owned(&["c"])]);
        asking.asked(7);
        asking.asked(8);
        assert_eq!(asking.answered(8, vec![Some("no".to_owned())]), [("c".to_owned(), "no".to_owned())]);
        assert!(!asking.is_done());
        assert_eq!(
            asking.answered(7, vec![None, Some("no".to_owned())]),
            [("b".to_owned(), "no".to_owned())]
        );
        assert!(asking.is_done());
        // One that nobody asked.
        assert_eq!(asking.answered(9, vec![Some("no".to_owned())]), []);
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
