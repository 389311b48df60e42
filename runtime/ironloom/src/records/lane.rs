//! What is known of a lane besides its app's state: the part of a generation that each of its
//! commits carries in full, so that a restart goes on exactly where the last commit ended.

use serde::{Deserialize, Serialize};

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Ordinal, Sequence, SlotName};
use ironloom_types::limits::{MAX_EPISODE_BYTES, MAX_EPISODES};
use ironloom_types::work::{Counters, Gap, LastError, TimerError};

/// Cursor, counters and bookkeeping of one generation, as of its last commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LaneMeta {
    /// The last reading that was dealt with.
    pub cursor: Sequence,
    /// The last invocation that left a record.
    pub ordinal: Ordinal,
    /// Attempts at the next one that left a record, so that each attempt has a number of its own.
    pub attempts: u32,
    /// The time of that invocation; no later one has an earlier time, unless time is set back.
    pub time: Timestamp,
    /// Bytes of all keys and values in `state`.
    pub state_bytes: u64,
    /// Counters since the generation began.
    pub counters: Counters,
    /// The number of the next dead letter.
    pub next_dead_letter: u64,
    /// Dead letters that are kept: neither requeued with success, deleted nor dropped.
    pub dead_letters_kept: u64,
    /// What they take together, each by its [`cost`](super::commit::DeadLetter::cost).
    pub dead_letter_bytes: u64,
    /// Alarms that stand.
    pub alarms_standing: u32,
    /// The number of the next episode of an alarm.
    pub next_alarm: u64,
    /// Episodes that are over and kept in the history.
    pub episodes: Episodes,
    /// Points that its outputs made; see [`ironloom_types::limits::Limits::points`].
    pub points: u64,
    /// The next due time of each repeating timer of the manifest.
    pub cron_due: Vec<(SlotName, Timestamp)>,
    /// The memory of the failure rules.
    pub trouble: Trouble,
    /// Set where the lane was stopped for failing too often.
    pub quarantine: Option<Quarantine>,
    /// The last failure at readings, for people, until some are taken.
    pub last_error: Option<LastError>,
    /// The last failure of a timer, until the same timer's run ends well.
    pub last_timer_error: Option<TimerError>,
    /// Gaps of which the app is to be told with its next call: one for each input that missed readings.
    pub gaps: Vec<Gap>,
    /// Where the generation began.
    pub began: Reached,
    /// What earlier generations of the installation have dealt with: what this one makes of it is not published again.
    pub published: Option<Published>,
    /// The last invocation before the first time that a person changed its state: what runs behind it rests on more
    /// than records of invocations.
    pub repaired: Option<Ordinal>,
    /// The last invocation whose summary was past its retention and is gone, with those before it.
    pub invocations_gone: Ordinal,
    /// The last stretches of the journal that it was moved over, at most [`MAX_SKIPPED`]: its readings there were never
    /// dealt with.
    pub skipped: Vec<Skipped>,
}

/// Stretches that are remembered. Those that follow each other are one.
const MAX_SKIPPED: usize = 8;

/// Readings behind the one place through the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub after: Sequence,
    pub through: Sequence,
}

/// How far a generation has come: in the journal, and in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// The last reading that was dealt with.
    pub sequence: Sequence,
    /// The time of the last invocation.
    pub time: Timestamp,
}

/// A part of the journal: readings behind the one place through the other, and timers due between the two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub after: Reached,
    pub through: Reached,
}

impl Published {
    /// Says whether a reading lies in it.
    pub(crate) fn has(&self, sequence: Sequence) -> bool {
        self.after.sequence < sequence && sequence <= self.through.sequence
    }

    /// Says whether a timer that is due then lies in it.
    pub(crate) fn has_time(&self, due: Timestamp) -> bool {
        self.after.time <= due && due <= self.through.time
    }

    /// Both, and what lies between them.
    fn with(self, other: Self) -> Self {
        let least = |a: Reached, b: Reached| Reached {
            sequence: a.sequence.min(b.sequence),
            time: a.time.min(b.time),
        };
        let most = |a: Reached, b: Reached| Reached {
            sequence: a.sequence.max(b.sequence),
            time: a.time.max(b.time),
        };
        Self { after: least(self.after, other.after), through: most(self.through, other.through) }
    }
}

/// The number of episodes that are kept, and their cost by [`cost`](super::alarm::AlarmRecord::cost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Episodes {
    pub kept: u64,
    pub bytes: u64,
}

impl Episodes {
    /// Counts one more of this cost.
    pub(crate) fn add(&mut self, cost: usize) {
        (self.kept, self.bytes) = (self.kept + 1, self.bytes + cost as u64);
    }

    /// Takes one of this cost away.
    pub(crate) fn remove(&mut self, cost: usize) {
        self.kept = self.kept.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost as u64);
    }

    /// Says whether they are more than are kept.
    pub(crate) fn are_too_many(self) -> bool {
        self.kept > MAX_EPISODES || self.bytes > MAX_EPISODE_BYTES
    }
}

impl LaneMeta {
    /// Moves the lane on over readings that it will never see; not once more where it is past them already, as after a
    /// checkpoint that was cut off.
    pub(crate) fn miss(&mut self, through: Sequence, missed: &[Gap]) {
        if through <= self.cursor {
            return;
        }
        self.skip(through);
        for new in missed {
            self.counters.missed += new.count;
            match self.gaps.iter_mut().find(|known| known.slot == new.slot) {
                Some(known) => {
                    known.first = known.first.min(new.first);
                    known.last = known.last.max(new.last);
                    known.count += new.count;
                }
                None => self.gaps.push(new.clone()),
            }
        }
    }

    /// Moves the lane on over readings that are never dealt with.
    pub(crate) fn skip(&mut self, through: Sequence) {
        if through <= self.cursor {
            return;
        }
        match self.skipped.last_mut() {
            Some(last) if last.through == self.cursor => last.through = through,
            _ => self.skipped.push(Skipped { after: self.cursor, through }),
        }
        if self.skipped.len() > MAX_SKIPPED {
            self.skipped.remove(0);
        }
        self.cursor = through;
    }

    /// Says whether it was moved over some of the readings from the one place through the other. If both are its own, some
    /// of those that it never dealt with are among them: each stretch begins behind one that it did, and has at least one.
    pub(crate) fn has_skipped(&self, first: Sequence, last: Sequence) -> bool {
        self.skipped.iter().any(|skipped| skipped.after < last && first <= skipped.through)
    }

    /// Counts what other generations of the installation have dealt with as published, too.
    pub(crate) fn note_published(&mut self, others: Option<Published>) {
        let both = |others: Published| self.published.map_or(others, |published| published.with(others));
        self.published = others.map(both).or(self.published);
    }

    /// What this generation and those before it have dealt with.
    pub(crate) fn dealt_with(&self) -> Option<Published> {
        let through = Reached { sequence: self.cursor, time: self.time };
        let own = (through != self.began).then_some(Published { after: self.began, through });
        own.map(|own| self.published.map_or(own, |published| published.with(own))).or(self.published)
    }

    /// Says whether it has yet to come to the end of what earlier generations have dealt with.
    pub(crate) fn is_catching_up(&self) -> bool {
        self.published.is_some_and(|Published { through, .. }| {
            self.cursor < through.sequence || self.time < through.time
        })
    }

    /// Forgets times behind `to`, which is the present: they come from a clock that was wrong, and what is
    /// measured from them would wait for years.
    pub(crate) fn leave_future(&mut self, to: Timestamp) {
        self.time = self.time.min(to);
        self.began.time = self.began.time.min(to);
        if let Some(Published { after, through }) = &mut self.published {
            (after.time, through.time) = (after.time.min(to), through.time.min(to));
        }
        let Trouble { retrying_since, failures, .. } = &mut self.trouble;
        for at in retrying_since.iter_mut().chain(failures) {
            *at = to.min(*at);
        }
    }
}

/// The memory of the failure rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// Attempts that failed with the same first reading (or timer) at the head, one after the other.
    pub attempts: u32,
    /// Attempts that asked for a retry, one after the other; they aren't failures.
    pub retries: u32,
    /// Since when the app has been asking for retries, by the machine's clock.
    pub retrying_since: Option<Timestamp>,
    /// Dead letters by trap, one after the other.
    pub traps_in_row: u32,
    /// The times of the last failures, by the machine's clock: at most 20.
    pub failures: Vec<Timestamp>,
}

/// The reason why a lane stopped until an admin resumes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    /// The time, by the machine's clock.
    pub at: Timestamp,
    /// The rule that stopped it, for people.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stretches_that_a_lane_was_moved_over_are_known() {
        let mut meta = LaneMeta::default();
        let skipped = |meta: &LaneMeta| {
            meta.skipped.iter().map(|skipped| (skipped.after.0, skipped.through.0)).collect::<Vec<_>>()
        };
        meta.skip(Sequence(5));
        meta.skip(Sequence(5));
        meta.miss(Sequence(9), &[]);
        assert_eq!((skipped(&meta), meta.cursor), (vec![(0, 9)], Sequence(9)), "one after the other is one");
        meta.cursor = Sequence(12);
        meta.skip(Sequence(20));
        let has = |first, last| meta.has_skipped(Sequence(first), Sequence(last));
        assert!(has(1, 1) && has(9, 12) && has(13, 13) && has(12, 13) && has(10, 30) && has(20, 21));
        assert!(!has(10, 12) && !has(21, 30));
        for n in 3..20 {
            meta.cursor = Sequence(10 * n + 1);
            meta.skip(Sequence(10 * n + 5));
        }
        assert_eq!((meta.skipped.len(), skipped(&meta)[0]), (MAX_SKIPPED, (121, 125)));
    }
}
