//! Packets that were handed to a connection, until the broker answers them. Each gets its packet id once it is written, in the
//! order in which they were handed over.

use std::collections::{HashMap, VecDeque};

/// Packets of one kind, as far as they are known here.
#[derive(Debug)]
pub(super) struct Unanswered<T> {
    /// Those without a packet id, the oldest first.
    unnumbered: VecDeque<T>,
    numbered: HashMap<u16, T>,
}

impl<T> Default for Unanswered<T> {
    fn default() -> Self {
        Self { unnumbered: VecDeque::new(), numbered: HashMap::new() }
    }
}

impl<T> Unanswered<T> {
    pub(super) fn hand_over(&mut self, one: T) {
        self.unnumbered.push_back(one);
    }

    /// The next one has got this id.
    pub(super) fn number(&mut self, id: u16) {
        if let Some(one) = self.unnumbered.pop_front() {
            self.numbered.insert(id, one);
        }
    }

    /// The broker has answered; `None` where it was to something else.
    pub(super) fn answer(&mut self, id: u16) -> Option<T> {
        self.numbered.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.unnumbered.len() + self.numbered.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.unnumbered.iter().chain(self.numbered.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_in_order_and_answered_in_any() {
        let mut unanswered = Unanswered::default();
        ["a", "b", "c"].into_iter().for_each(|one| unanswered.hand_over(one));
        unanswered.number(7);
        unanswered.number(9);
        assert_eq!((unanswered.len(), unanswered.all().count()), (3, 3));
        assert_eq!(
            (unanswered.answer(9), unanswered.answer(9), unanswered.answer(8)),
            (Some("b"), None, None)
        );
        unanswered.number(9);
        assert_eq!((unanswered.answer(7), unanswered.answer(9)), (Some("a"), Some("c")));
        assert!(unanswered.is_empty());
        // Of a packet that nobody handed over.
        unanswered.number(1);
        assert!(unanswered.is_empty());
    }
}
