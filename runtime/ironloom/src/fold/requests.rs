//! The recent requests by their Idempotency-Key: 24 hours of journal time, or the newest million.

use std::collections::VecDeque;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::submission::Accepted;
use crate::records::readings::Idempotency;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::Sequence;

/// How long a key is remembered, in journal time.
pub const KEPT: u64 = 24 * 3600 * SECOND;
/// How many keys are remembered at most.
pub const MOST: usize = 1_000_000;

/// What is remembered of a request, in memory and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The hash of the request.
    pub request: [u8; 16],
    /// Its journal time.
    pub time: Timestamp,
    /// How many readings it had.
    pub accepted: u64,
    /// The last one's sequence.
    pub through: Sequence,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its key was never used, or is forgotten.
    Never,
    /// It was taken, and got this answer.
    Before(Accepted),
    /// Its key came with another request.
    OtherRequest,
}

/// The recent requests.
#[derive(Debug, Default)]
pub struct Recent {
    by_key: HashMap<[u8; 16], Remembered>,
    /// Oldest first.
    order: VecDeque<[u8; 16]>,
}

impl Recent {
    /// From the store and the log, in any order.
    pub fn restore(mut requests: Vec<([u8; 16], Remembered)>) -> Self {
        requests.sort_by_key(|(_, remembered)| remembered.through);
        let order = requests.iter().map(|(key, _)| *key).collect();
        Self { by_key: requests.into_iter().collect(), order }
    }

    /// What is known of this request.
    pub fn look(&self, request: &Idempotency, now: Timestamp) -> Seen {
        match self.by_key.get(&request.key) {
            Some(known) if known.time.plus(KEPT) <= now => Seen::Never,
            Some(known) if known.request == request.request => {
                Seen::Before(Accepted { accepted: known.accepted, through: known.through, duplicate: true })
            }
            Some(_) => Seen::OtherRequest,
            None => Seen::Never,
        }
    }

    /// Remembers a request that `look` has not seen.
    pub fn remember(&mut self, request: Idempotency, time: Timestamp, accepted: u64, through: Sequence) {
        let remembered = Remembered { request: request.request, time, accepted, through };
        if self.by_key.insert(request.key, remembered).is_none() {
            self.order.push_back(request.key);
        }
    }

    /// Makes room for one more, and says which are forgotten.
    pub fn forget(&mut self, now: Timestamp) -> Vec<[u8; 16]> {
        let mut forgotten = Vec::new();
        while let Some(oldest) = self.order.front() {
            let expired = self.by_key.get(oldest).is_none_or(|known| known.time.plus(KEPT) <= now);
            if !expired && self.order.len() < MOST {
                break;
            }
            self.by_key.remove(oldest);
            forgotten.push(*oldest);
            self.order.pop_front();
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: u8, request: u8) -> Idempotency {
        Idempotency { key: [key; 16], request: [request; 16] }
    }

    #[test]
    fn a_key_answers_its_own_request_for_a_day_and_refuses_others() {
        let mut recent = Recent::default();
        let start = Timestamp(1_000 * SECOND);
        assert_eq!(recent.look(&request(1, 1), start), Seen::Never);
        recent.remember(request(1, 1), start, 3, Sequence(9));
        let answer = Accepted { accepted: 3, through: Sequence(9), duplicate: true };
        assert_eq!(recent.look(&request(1, 1), start), Seen::Before(answer));
        assert_eq!(recent.look(&request(1, 2), start), Seen::OtherRequest);
        let later = start.plus(KEPT);
        assert_eq!(recent.look(&request(1, 2), later), Seen::Never);
        assert_eq!(recent.forget(later), vec![[1; 16]]);
        assert!(recent.forget(later).is_empty());
    }
}
