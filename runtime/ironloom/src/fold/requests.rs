//! The recent requests by their Idempotency-Key: 24 hours, or the newest million.
//!
//! Journal time may jump, by a clock that is set right or by a source that replays a week. So a key is
//! forgotten by its age only when this process has known it for an hour besides.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::submission::Accepted;
use crate::records::readings::Idempotency;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::Sequence;

/// The time for which a key is remembered, in journal time.
pub(crate) const KEPT: u64 = 24 * 3600 * SECOND;
/// The time that this process must have known a key before it is forgotten because of its age.
const KNOWN: u32 = 3600;
/// The most keys that are remembered.
pub(crate) const MOST: usize = 1_000_000;

/// The memory of a request, in the process and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The hash of the request.
    pub request: [u8; 16],
    /// Its journal time.
    pub time: Timestamp,
    /// The number of its readings.
    pub accepted: u64,
    /// The last one's sequence.
    pub through: Sequence,
}

/// The known facts about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its key was never used, or is forgotten.
    Never,
    /// It was accepted, with this answer.
    Before(Accepted),
    /// Its key came with another request.
    OtherRequest,
}

/// The recent requests.
#[derive(Debug)]
pub(crate) struct Recent {
    by_key: HashMap<[u8; 16], Known>,
    order: VecDeque<[u8; 16]>,
    most: usize,
}

#[derive(Debug)]
struct Known {
    remembered: Remembered,
    /// Since when this process has known it, in seconds from its start.
    since: u32,
}

impl Known {
    fn is_expired(&self, now: Timestamp, up: Duration) -> bool {
        self.remembered.time.plus(KEPT) <= now && self.since.saturating_add(KNOWN) <= seconds(up)
    }
}

impl Recent {
    /// From the store and the log, in any order; at most `most` are kept from now on. Returns besides the
    /// keys that are too many: those that were forgotten since the store was written.
    pub(super) fn restore(mut requests: Vec<([u8; 16], Remembered)>, most: usize) -> (Self, Vec<[u8; 16]>) {
        requests.sort_by_key(|(_, remembered)| remembered.through);
        let kept = requests.split_off(requests.len().saturating_sub(most));
        let order = kept.iter().map(|(key, _)| *key).collect();
        let known = |(key, remembered)| (key, Known { remembered, since: 0 });
        let recent = Self { by_key: kept.into_iter().map(known).collect(), order, most };
        (recent, requests.into_iter().map(|(key, _)| key).collect())
    }

    /// Time goes back to `to`: what came in a future that was left behind counts as come now.
    pub(super) fn leave_future(&mut self, to: Timestamp) {
        for known in self.by_key.values_mut() {
            known.remembered.time = known.remembered.time.min(to);
        }
    }

    /// Returns the known facts about this request. `up` is how long this process has run.
    pub(crate) fn look(&self, request: &Idempotency, now: Timestamp, up: Duration) -> Seen {
        match self.by_key.get(&request.key) {
            Some(known) if known.is_expired(now, up) => Seen::Never,
            Some(Known { remembered, .. }) if remembered.request == request.request => {
                let (accepted, through) = (remembered.accepted, remembered.through);
                Seen::Before(Accepted { accepted, through, duplicate: true })
            }
            Some(_) => Seen::OtherRequest,
            None => Seen::Never,
        }
    }

    /// Remembers a request that [`Recent::look`] has not seen, and returns the keys that are forgotten to
    /// make room for it.
    pub(super) fn remember(&mut self, key: [u8; 16], remembered: Remembered, up: Duration) -> Vec<[u8; 16]> {
        let forgotten = self.forget(remembered.time, up);
        let before = self.by_key.insert(key, Known { remembered, since: seconds(up) });
        assert!(before.is_none(), "a key that is used again was forgotten before");
        self.order.push_back(key);
        forgotten
    }

    fn forget(&mut self, now: Timestamp, up: Duration) -> Vec<[u8; 16]> {
        let mut forgotten = Vec::new();
        while let Some(oldest) = self.order.front() {
            let expired = self.by_key.get(oldest).is_none_or(|known| known.is_expired(now, up));
            if !expired && self.order.len() < self.most {
                break;
            }
            self.by_key.remove(oldest);
            forgotten.push(*oldest);
            self.order.pop_front();
        }
        forgotten
    }
}

fn seconds(up: Duration) -> u32 {
    u32::try_from(up.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const START: Timestamp = Timestamp(1_000 * SECOND);

    fn request(key: u8, request: u8) -> Idempotency {
        Idempotency { key: [key; 16], request: [request; 16] }
    }

    fn remembered(request: u8, time: Timestamp, through: u64) -> Remembered {
        Remembered { request: [request; 16], time, accepted: 3, through: Sequence(through) }
    }

    fn empty(most: usize) -> Recent {
        Recent::restore(Vec::new(), most).0
    }

    #[test]
    fn a_key_answers_its_own_request_for_a_day_and_refuses_others() {
        let mut recent = empty(MOST);
        let up = Duration::from_secs(5);
        assert_eq!(recent.look(&request(1, 1), START, up), Seen::Never);
        assert!(recent.remember([1; 16], remembered(1, START, 9), up).is_empty());
        let answer = Accepted { accepted: 3, through: Sequence(9), duplicate: true };
        assert_eq!(recent.look(&request(1, 1), START, up), Seen::Before(answer));
        assert_eq!(recent.look(&request(1, 2), START, up), Seen::OtherRequest);
        let (later, up) = (START.plus(KEPT), up + HOUR);
        assert_eq!(recent.look(&request(1, 1), Timestamp(later.0 - 1), up), Seen::Before(answer));
        assert_eq!(recent.look(&request(1, 2), later, up), Seen::Never);
        assert_eq!(recent.remember([2; 16], remembered(1, later, 12), up), vec![[1; 16]]);
        assert!(recent.remember([3; 16], remembered(1, later, 15), up).is_empty());
    }

    #[test]
    fn a_jump_of_journal_time_forgets_nothing_that_came_within_the_last_hour() {
        let mut recent = empty(MOST);
        recent.remember([1; 16], remembered(1, START, 9), 10 * HOUR);
        let week = START.plus(7 * KEPT);
        let soon = 11 * HOUR - Duration::from_secs(1);
        assert!(matches!(recent.look(&request(1, 1), week, soon), Seen::Before(_)));
        assert!(recent.remember([2; 16], remembered(1, week, 12), soon).is_empty());
        assert_eq!(recent.look(&request(1, 1), week, 11 * HOUR), Seen::Never);
        // Requests from the disk are known from the start on.
        let (restored, _) = Recent::restore(vec![([1; 16], remembered(1, START, 9))], MOST);
        assert!(matches!(restored.look(&request(1, 1), week, HOUR / 2), Seen::Before(_)));
        assert_eq!(restored.look(&request(1, 1), week, HOUR), Seen::Never);
    }

    #[test]
    fn a_key_from_a_future_that_was_left_behind_is_forgotten_a_day_later() {
        let mut recent = empty(MOST);
        recent.remember([1; 16], remembered(1, START.plus(400 * KEPT), 9), HOUR);
        recent.leave_future(START);
        assert!(matches!(recent.look(&request(1, 1), START.plus(KEPT - 1), 25 * HOUR), Seen::Before(_)));
        assert_eq!(recent.look(&request(1, 1), START.plus(KEPT), 25 * HOUR), Seen::Never);
    }

    #[test]
    fn beyond_the_most_the_oldest_is_forgotten_whatever_its_age() {
        let mut recent = empty(2);
        assert!(recent.remember([1; 16], remembered(1, START, 1), HOUR).is_empty());
        assert!(recent.remember([2; 16], remembered(1, START, 2), HOUR).is_empty());
        assert_eq!(recent.remember([3; 16], remembered(1, START, 3), HOUR), vec![[1; 16]]);
        assert_eq!(recent.look(&request(1, 1), START, HOUR), Seen::Never);
        assert!(matches!(recent.look(&request(2, 1), START, HOUR), Seen::Before(_)));
        // A replay of the log brings back what was forgotten within it.
        let all = (1..=3).rev().map(|n| ([n; 16], remembered(1, START, u64::from(n)))).collect();
        let (recent, forgotten) = Recent::restore(all, 2);
        assert_eq!(forgotten, [[1; 16]]);
        assert_eq!(recent.look(&request(1, 1), START, HOUR), Seen::Never);
        assert!(matches!(recent.look(&request(2, 1), START, HOUR), Seen::Before(_)));
    }
}
