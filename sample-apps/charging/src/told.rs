//! The ledger of a station: what it may have been told.
//!
//! A limit that was requested may be in force as soon as it was sent, also where nobody answered. So a station counts with
//! the highest of all limits that may be in force: the last accepted one, and each one requested since whose outcome isn't known
//! to be that it was never sent.
//!
//! An outcome is a word about a station; which request it belongs to, it doesn't say. As long as one request is open there
//! is no doubt, and so no station is asked for more while one is: only a lower limit doesn't wait. Where several are open
//! the ledger assumes the worst: the outcome belongs to the lowest of them, or, if it may be in force, to the highest. So the
//! ledger may hold too much, but never too little, in whatever order outcomes come, and also if some get lost.

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970.
pub type Nanos = u64;

const SECOND: u64 = 1_000_000_000;
/// An outcome that hasn't come so long after the end of a request's life is late.
const GRACE: u64 = 30 * SECOND;
/// And after so many minutes more it is lost. Minutes in which the app ran: after an outage outcomes come that are hours old.
const LOST: u32 = 3;
/// A charger needs some time until its current follows a new limit.
const SETTLES: u64 = 30 * SECOND;
/// A station that doesn't take its limits is asked again after this time, and not as fast as it can refuse them.
const RETRIES: u64 = 45 * SECOND;

/// The part of a request in the list that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// It stands alone: nothing depends on it, and it on nothing.
    Alone,
    /// It frees what the raises behind it in its list need.
    Lower,
    /// It is sent only once all lowers before it in its list were accepted.
    Raise,
}

/// A limit that was requested, and whose outcome isn't known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The limit, in ampere.
    pub amps: f64,
    /// The time of the invocation that requested it.
    pub at: Nanos,
    /// The end of its life.
    pub until: Nanos,
    /// Its part in its list.
    pub part: Part,
    /// Its place there.
    pub place: usize,
    /// One before it in its list wasn't accepted: it is never sent. Its outcome is yet to come.
    pub void: bool,
    /// Minutes for which its outcome is late.
    pub late: u32,
}

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The station has taken it.
    Accepted,
    /// It was sent, and the station never answered: it may be in force.
    Sent,
    /// The station has refused it: it isn't in force.
    Refused,
    /// It was never sent: a newer request took its place.
    Superseded,
    /// It was never sent: one before it in its list wasn't accepted.
    Skipped,
    /// It was never sent: its life was over.
    Expired,
    /// It was never sent: the host has withdrawn it, such as for the kill switch, or since some point went to its safe value.
    Withdrawn,
    /// The station has taken the safe value. It belongs to no request.
    Safe,
    /// The station has refused the safe value, which is sent again. It belongs to no request.
    SafeRefused,
}

/// The ledger of one station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The highest limit that may be in force by all whose outcome is known, or lost.
    base: f64,
    /// The lowest one.
    low: f64,
    /// The life of the last accepted limit: from its request to its end. None: nothing was ever accepted.
    life: Option<(Nanos, Nanos)>,
    /// When the limit that may be in force has last become another one.
    changed: Nanos,
    /// When the last outcome came.
    answered: Nanos,
    /// Requests without an outcome, the oldest first.
    open: Vec<Request>,
    /// Which of the requests were open when an outcome came isn't certain: these may be others, and lower ones.
    mixed: bool,
    /// The limit that was requested last.
    asked: f64,
    /// It has refused the last limit, or didn't answer.
    silent: bool,
    /// So many requests in a row were withdrawn.
    withdrawn: u32,
}

impl Outcome {
    /// Reads the text of an outcome.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "accepted" => Some(Self::Accepted),
            "sent" => Some(Self::Sent),
            "rejected" => Some(Self::Refused),
            "superseded" => Some(Self::Superseded),
            "skipped" => Some(Self::Skipped),
            "expired" => Some(Self::Expired),
            "revoked" | "shadow" => Some(Self::Withdrawn),
            "safe" => Some(Self::Safe),
            "safe-rejected" => Some(Self::SafeRefused),
            _ => None,
        }
    }
}

impl Told {
    /// The highest limit that may be in force, in ampere.
    pub fn bound(&self, now: Nanos, safe: f64) -> f64 {
        self.highest(now, safe, |_| true)
    }

    /// The highest limit that may be in force as long as no raise was sent that stands behind lowers in its list.
    pub fn before_raises(&self, now: Nanos, safe: f64) -> f64 {
        self.highest(now, safe, |request| request.part != Part::Raise)
    }

    /// The highest limit that may be in force once all lowers were accepted that raises stand behind.
    pub fn after_lowers(&self, now: Nanos, safe: f64) -> f64 {
        match self.open.as_slice() {
            [lower] if lower.part == Part::Lower && !lower.void && !self.mixed => {
                // Accepted long ago it isn't renewed in time either.
                if is_half_over((lower.at, lower.until), now) { lower.amps.max(safe) } else { lower.amps }
            }
            // Where more is open, what comes last in force can't be told.
            _ => self.bound(now, safe),
        }
    }

    /// The lowest limit that may be in force: what is no higher than this raises nothing for certain.
    pub fn lowest(&self, now: Nanos, safe: f64) -> f64 {
        let low = if self.mixed { 0.0 } else { self.low };
        let known = if self.has_lapsed(now) { low.min(safe) } else { low };
        self.open.iter().map(|request| request.amps).fold(known, f64::min)
    }

    fn highest(&self, now: Nanos, safe: f64, counts: impl Fn(&Request) -> bool) -> f64 {
        let requested = self.open.iter().filter(|request| !request.void && counts(request));
        let known = if self.has_lapsed(now) { self.base.max(safe) } else { self.base };
        requested.map(|request| request.amps).fold(known, f64::max)
    }

    /// Returns whether the safe value may take the place of its limit before the app can do something about it: half of the
    /// limit's life is over, and nobody has accepted a newer one. So does a station count that was never told anything.
    pub fn has_lapsed(&self, now: Nanos) -> bool {
        self.life.is_none_or(|life| is_half_over(life, now))
    }

    /// Returns whether its limit is to be renewed.
    pub fn is_due(&self, now: Nanos) -> bool {
        self.life.is_none_or(|(from, until)| now >= from.saturating_add(until.saturating_sub(from) / 4))
    }

    /// Returns whether an outcome is awaited: until it comes only lower limits are requested, so that each outcome has
    /// one request that it can belong to.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The limit that was requested last, if its outcome is awaited.
    pub fn last_open(&self) -> Option<f64> {
        self.is_open().then_some(self.asked)
    }

    /// Returns whether a request is open that others in its list depend on, or that depends on others.
    pub fn is_in_list(&self) -> bool {
        self.open.iter().any(|request| request.part != Part::Alone && !request.void)
    }

    /// Returns whether it refused the last limit, or didn't answer.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Returns whether it may be asked again, where it didn't take the last limit or the host doesn't send any.
    pub fn may_retry(&self, now: Nanos) -> bool {
        (!self.silent && self.withdrawn < 2) || now >= self.answered.saturating_add(RETRIES)
    }

    /// The limit that it goes by, if that is known for certain.
    pub fn in_force(&self, now: Nanos) -> Option<f64> {
        (!self.is_open() && !self.silent && !self.has_lapsed(now)).then_some(self.base)
    }

    /// Returns whether a measurement of this time shows its limit, and no earlier one.
    pub fn is_settled(&self, measured: Nanos) -> bool {
        measured >= self.changed.saturating_add(SETTLES)
    }

    /// Enters a request, with its place in its list.
    pub fn request(&mut self, amps: f64, at: Nanos, time_to_live: u64, part: Part, place: usize) {
        let until = at.saturating_add(time_to_live);
        self.asked = amps;
        self.open.push(Request { amps, at, until, part, place, void: false, late: 0 });
    }

    /// Enters an outcome. Returns the place in its list behind which nothing is sent any more, if it breaks one.
    pub fn learn(&mut self, outcome: Outcome, now: Nanos, safe: f64) -> Option<usize> {
        self.answered = now;
        let before = (self.base, self.low);
        let breaks = self.enter(outcome, safe);
        if (self.base, self.low) != before {
            self.changed = now;
        }
        breaks
    }

    fn enter(&mut self, outcome: Outcome, safe: f64) -> Option<usize> {
        self.withdrawn = if outcome == Outcome::Withdrawn { self.withdrawn.saturating_add(1) } else { 0 };
        match outcome {
            Outcome::Accepted => self.silent = false,
            Outcome::Sent | Outcome::Refused => self.silent = true,
            Outcome::Safe => {
                // All older limits are gone. What was requested since counts by itself, while it is open.
                (self.base, self.low, self.life, self.silent) = (safe, safe, None, false);
                return None;
            }
            Outcome::SafeRefused => {
                self.silent = true;
                return None;
            }
            _ => {}
        }
        let is_certain = self.open.len() == 1 && !self.mixed;
        let highest = self.open.iter().map(|request| request.amps).fold(0.0, f64::max);
        let Some(request) = self.take_out(outcome) else {
            // Nothing was open. It can only be about the safe value.
            (self.base, self.low) = (self.base.max(safe), self.low.min(safe));
            return None;
        };
        match outcome {
            Outcome::Accepted => {
                self.base = highest;
                self.low = if is_certain { request.amps } else { 0.0 };
                self.life = Some((request.at, request.until));
            }
            Outcome::Sent => {
                self.base = self.base.max(highest);
                self.low = if is_certain { self.low.min(request.amps) } else { 0.0 };
            }
            _ => {}
        }
        let breaks =
            is_certain && outcome != Outcome::Accepted && request.part != Part::Alone && !request.void;
        breaks.then_some(request.place)
    }

    /// Takes a request out for an outcome: the one that it belongs to, or where that isn't certain the lowest, so that those
    /// which stay are at least as high as those that are really open. It has the time of the oldest, so that its life
    /// isn't taken for longer than it is.
    fn take_out(&mut self, outcome: Outcome) -> Option<Request> {
        let oldest = self.open.first().map(|request| (request.at, request.until))?;
        let newest = self.open.len() - 1;
        let may_be = |place: usize, request: &Request| match outcome {
            // The newest has no newer one that could take its place, and what stands alone has none before it.
            Outcome::Superseded => self.mixed || place < newest,
            Outcome::Skipped => self.mixed || request.part != Part::Alone,
            _ => true,
        };
        let places = || self.open.iter().enumerate();
        let mut candidates: Vec<_> = places().filter(|(place, request)| may_be(*place, request)).collect();
        if candidates.is_empty() {
            candidates = places().collect();
        }
        let among = candidates.len();
        let (lowest, _) = candidates.into_iter().min_by(|(_, a), (_, b)| a.amps.total_cmp(&b.amps))?;
        let request = self.open.remove(lowest);
        self.mixed = (self.mixed || among > 1) && !self.open.is_empty();
        Some(Request { at: oldest.0, until: oldest.1, ..request })
    }

    /// The request at this place of the list wasn't accepted: those behind it are never sent.
    pub fn break_list(&mut self, place: usize) {
        if let ([request], false) = (self.open.as_mut_slice(), self.mixed) {
            request.void |= request.part != Part::Alone && request.place > place;
        }
    }

    /// Another minute has passed: outcomes that are late for too long are lost, and what they were about may be in force.
    pub fn pass_minute(&mut self, now: Nanos) {
        self.open.retain_mut(|request| {
            request.late += u32::from(now > request.until.saturating_add(GRACE));
            let lost = request.late > LOST;
            if lost {
                self.silent = true;
                self.low = 0.0;
                self.base = if request.void { self.base } else { self.base.max(request.amps) };
            }
            !lost
        });
        self.mixed &= !self.open.is_empty();
    }

    /// Outcomes got lost: all that is open may be in force.
    pub fn lose_outcomes(&mut self) {
        (self.mixed, self.low) = (false, 0.0);
        let may_be_sent = self.open.drain(..).filter(|request| !request.void);
        self.base = may_be_sent.map(|request| request.amps).fold(self.base, f64::max);
    }
}

/// Returns whether half of a life is over.
fn is_half_over((from, until): (Nanos, Nanos), now: Nanos) -> bool {
    now >= from.saturating_add(until.saturating_sub(from) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: u64 = 180 * SECOND;
    const SAFE: f64 = 6.0;

    /// A station that has accepted 10 A at second 0.
    fn told() -> Told {
        let mut told = Told::default();
        told.request(10.0, 0, LIFE, Part::Alone, 0);
        told.learn(Outcome::Accepted, 0, SAFE);
        told
    }

    fn bound(told: &Told) -> f64 {
        told.bound(SECOND, SAFE)
    }

    #[test]
    fn a_station_that_was_never_told_anything_counts_with_the_safe_limit() {
        assert_eq!(bound(&Told::default()), 6.0);
        assert_eq!(Told::default().bound(SECOND, 0.0), 0.0);
    }

    #[test]
    fn what_is_open_counts_until_it_is_known_not_to_be_in_force() {
        for (outcome, expected) in [
            (Outcome::Accepted, 32.0),
            (Outcome::Sent, 32.0),
            (Outcome::Refused, 10.0),
            (Outcome::Skipped, 10.0),
            (Outcome::Expired, 10.0),
        ] {
            let mut told = told();
            told.request(32.0, SECOND, LIFE, Part::Alone, 0);
            assert_eq!(bound(&told), 32.0);
            told.learn(outcome, SECOND, SAFE);
            assert_eq!(bound(&told), expected, "{outcome:?}");
        }
        // A lower counts only once it was accepted, and nothing else takes away what was.
        for outcome in [Outcome::Sent, Outcome::Refused, Outcome::Expired] {
            let mut told = told();
            told.request(0.0, SECOND, LIFE, Part::Alone, 0);
            told.learn(outcome, SECOND, SAFE);
            assert_eq!(bound(&told), 10.0, "{outcome:?}");
        }
    }

    #[test]
    fn a_raise_that_is_taken_back_counts_until_the_lower_is_accepted() {
        let mut told = told();
        told.request(32.0, SECOND, LIFE, Part::Alone, 0);
        told.request(6.0, SECOND, LIFE, Part::Alone, 0);
        assert_eq!(told.last_open(), Some(6.0));
        told.learn(Outcome::Superseded, SECOND, SAFE);
        assert_eq!(bound(&told), 10.0, "it was never sent");
        told.learn(Outcome::Accepted, SECOND, SAFE);
        assert_eq!(bound(&told), 6.0);
    }

    #[test]
    fn where_an_outcome_may_belong_to_several_the_worst_counts() {
        let mut told = told();
        told.request(32.0, SECOND, LIFE, Part::Alone, 0);
        told.request(6.0, SECOND, LIFE, Part::Alone, 0);
        // Of 32 A, or of 6 A while the word of 32 A got lost.
        told.learn(Outcome::Accepted, SECOND, SAFE);
        assert_eq!((bound(&told), told.lowest(SECOND, SAFE)), (32.0, 0.0));
        // The next one doesn't make it certain either.
        told.learn(Outcome::Accepted, SECOND, SAFE);
        assert_eq!(bound(&told), 32.0);
        told.request(6.0, SECOND, LIFE, Part::Alone, 0);
        told.learn(Outcome::Accepted, SECOND, SAFE);
        assert_eq!((bound(&told), told.lowest(SECOND, SAFE)), (6.0, 6.0));
    }

    #[test]
    fn a_limit_that_is_not_renewed_counts_with_the_safe_value_once_half_its_life_is_over() {
        let mut told = Told::default();
        told.request(0.0, 0, LIFE, Part::Alone, 0);
        told.learn(Outcome::Accepted, 0, SAFE);
        let bounds = [0, 44, 45, 89, 90, 180].map(|second| {
            let now = second * SECOND;
            (told.is_due(now), told.bound(now, SAFE))
        });
        assert_eq!(bounds, [(false, 0.0), (false, 0.0), (true, 0.0), (true, 0.0), (true, 6.0), (true, 6.0)]);
        assert_eq!(told.bound(SECOND, SAFE), 0.0);
    }

    #[test]
    fn a_raise_behind_lowers_counts_only_in_the_case_that_they_were_accepted() {
        let (mut lower, mut raise) = (told(), told());
        lower.request(6.0, SECOND, LIFE, Part::Lower, 0);
        raise.request(14.0, SECOND, LIFE, Part::Raise, 1);
        let cases = |told: &Told| (told.before_raises(SECOND, SAFE), told.after_lowers(SECOND, SAFE));
        assert_eq!((cases(&lower), cases(&raise)), ((10.0, 6.0), (10.0, 14.0)));
        // Another one behind it isn't sent: it may be on its way all the same.
        raise.break_list(2);
        assert_eq!(cases(&raise), (10.0, 14.0));
        // The lower is refused: the raise is never sent, though the word of that is yet to come.
        assert_eq!(lower.learn(Outcome::Refused, SECOND, SAFE), Some(0));
        raise.break_list(0);
        assert_eq!((cases(&lower), cases(&raise)), ((10.0, 10.0), (10.0, 10.0)));
        assert_eq!(raise.learn(Outcome::Skipped, SECOND, SAFE), None);
        assert!(!raise.is_open());
    }

    #[test]
    fn an_outcome_that_does_not_come_is_given_up_after_minutes_in_which_the_app_ran() {
        let mut told = told();
        told.request(32.0, 0, LIFE, Part::Alone, 0);
        // Ten hours later, after an outage: its outcome is still to come.
        for minute in 0..3 {
            told.pass_minute((36_000 + 60 * minute) * SECOND);
            assert!(told.is_open() && !told.is_silent());
        }
        told.pass_minute(36_180 * SECOND);
        assert!(!told.is_open() && told.is_silent());
        assert_eq!(bound(&told), 32.0);
    }
}
