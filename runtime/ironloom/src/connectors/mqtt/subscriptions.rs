//! The subscriptions of a session that a broker keeps: what an earlier configuration has subscribed to stays in it
//! until somebody unsubscribes.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::config::MqttConfig;
use super::filters::overlap;
use super::link::Link;
use super::reasons::Ended;
use super::unanswered::Unanswered;
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
    /// longer wanted; the wanted ones are subscribed to now.
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
    pub(super) fn unsubscribed(&self, filters: &[String]) {
        let mut known = self.0.lock();
        known.filters.retain(|filter| !filters.contains(filter));
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().filters.iter().cloned().collect()
    }
}

/// The SUBSCRIBEs of one connection, with their filters.
#[derive(Debug, Default)]
pub(super) struct Subscribing(Unanswered<Vec<String>>);

impl Subscribing {
    /// Subscribes to all that the configuration wants. A filter that overlaps another gets a number where the broker knows
    /// such, so that the copies of a message that comes by both are known.
    pub(super) fn subscribe(
        &mut self,
        config: &MqttConfig,
        knows_numbers: bool,
        link: &Link,
    ) -> Result<(), Ended> {
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
            self.0.hand_over(without);
        }
        for (number, at) in (1..).zip(with) {
            let filter = vec![filters[at].clone()];
            link.subscribe(&filter, Some(number), config.retained)?;
            self.0.hand_over(filter);
        }
        Ok(())
    }

    /// The next one has this id.
    pub(super) fn sent(&mut self, id: u16) {
        self.0.number(id);
    }

    /// The broker has answered one. Returns the filters that bring nothing, or not what they should, with the reasons.
    pub(super) fn answered(&mut self, id: u16, answers: Vec<Option<String>>) -> Vec<(String, String)> {
        let filters = self.0.answer(id).unwrap_or_default();
        filters.into_iter().zip(answers).filter_map(|(filter, reason)| Some((filter, reason?))).collect()
    }

    /// Returns true where the broker has answered all.
    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(filters: &[&str]) -> Vec<String> {
        filters.iter().map(|filter| (*filter).to_owned()).collect()
    }

    #[test]
    fn what_an_earlier_configuration_subscribed_to_is_given_up_once() {
        let subscriptions = Subscriptions::default();
        subscriptions.open([1; 8], owned(&["old/+"]));
        assert_eq!(subscriptions.connected(true, &owned(&["a/+", "b"])), owned(&["old/+"]));
        // It hasn't answered, and the connection is lost.
        assert_eq!(subscriptions.connected(true, &owned(&["a/+", "b"])), owned(&["old/+"]));
        subscriptions.unsubscribed(&owned(&["old/+"]));
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
    fn answers_belong_to_the_subscribe_of_their_id() {
        let mut subscribing = Subscribing::default();
        subscribing.0.hand_over(owned(&["a", "b"]));
        subscribing.0.hand_over(owned(&["c"]));
        subscribing.sent(7);
        subscribing.sent(8);
        assert_eq!(subscribing.answered(8, vec![Some("no".to_owned())]), [("c".to_owned(), "no".to_owned())]);
        assert!(!subscribing.is_done());
        assert_eq!(
            subscribing.answered(7, vec![None, Some("no".to_owned())]),
            [("b".to_owned(), "no".to_owned())]
        );
        assert!(subscribing.is_done());
        // One that nobody sent.
        assert_eq!(subscribing.answered(9, vec![Some("no".to_owned())]), []);
    }
}
