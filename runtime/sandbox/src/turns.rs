//! Who runs: an invocation has a turn only while it is polled, and there are as many turns as cores.
//!
//! Far more invocations are under way than can run. Each asks for a turn before it is polled, and gives it back
//! when it waits for something, or at a tick where somebody waits who has used less. So a short invocation of an
//! installation that has used little waits for a tick at most, however many others loop. One that has burnt seconds
//! while it was alone waits for no more than a second of the others: its debt is as small as between invocations.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// What an invocation may be behind the others for what it used, in nanoseconds.
const MOST_DEBT: u64 = 1_000_000_000;

/// The turns there are, and who waits for one.
#[derive(Debug)]
pub(crate) struct Turns(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    free: usize,
    /// By what they have used so far, then in the order in which they came. Nobody waits while a turn is free.
    line: BTreeMap<Place, Waker>,
    /// Those that were given a turn and haven't been polled since.
    given: HashSet<u64>,
    next: u64,
    /// The most that anybody had used who began, or was first in line, so far.
    floor: u64,
}

/// What an invocation's installation has used, and a number that nobody else in line has.
type Place = (u64, u64);

/// The turn of one invocation, or its place in line.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    state: State,
    /// The part of what it has used that doesn't count, since the debt was too large.
    forgiven: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Apart,
    InLine(Place),
    Running,
}

impl Turns {
    /// So many at one time.
    pub(crate) fn new(turns: usize) -> Arc<Self> {
        assert!(turns > 0, "without turns nothing would ever run");
        let waiting =
            Waiting { free: turns, line: BTreeMap::new(), given: HashSet::new(), next: 0, floor: 0 };
        Arc::new(Self(Mutex::new(waiting)))
    }

    /// An invocation that begins, and hasn't asked for a turn yet. `used` is what its installation has used so far.
    pub(crate) fn turn(self: &Arc<Self>, used: u64) -> Turn {
        let mut waiting = self.0.lock();
        waiting.floor = waiting.floor.max(used);
        drop(waiting);
        Turn { turns: Arc::clone(self), state: State::Apart, forgiven: 0 }
    }

    /// How many are free, where nobody waits for one.
    #[cfg(test)]
    pub(crate) fn free(&self) -> Option<usize> {
        let waiting = self.0.lock();
        (waiting.line.is_empty() && waiting.given.is_empty()).then_some(waiting.free)
    }
}

impl Waiting {
    /// Gives a turn that became free to the first in line.
    fn pass_on(&mut self) -> Option<Waker> {
        match self.line.pop_first() {
            Some(((used, number), waker)) => {
                self.floor = self.floor.max(used);
                self.given.insert(number);
                Some(waker)
            }
            None => {
                self.free += 1;
                None
            }
        }
    }
}

impl Turn {
    /// Ready once it has a turn. `used` is what its installation has used so far: who has used least is next.
    pub(crate) fn poll_take(&mut self, used: u64, context: &Context<'_>) -> Poll<()> {
        if matches!(self.state, State::Running) {
            return Poll::Ready(());
        }
        let mut waiting = self.turns.0.lock();
        match self.state {
            State::Running => return Poll::Ready(()),
            State::Apart if waiting.free > 0 => {
                waiting.free -= 1;
                self.state = State::Running;
                return Poll::Ready(());
            }
            State::Apart => {
                let most = waiting.floor.saturating_add(MOST_DEBT);
                let used = used.saturating_sub(self.forgiven);
                self.forgiven += used.saturating_sub(most);
                let place = (used.min(most), waiting.next);
                waiting.next += 1;
                waiting.line.insert(place, context.waker().clone());
                self.state = State::InLine(place);
            }
            State::InLine(place) if waiting.given.remove(&place.1) => {
                self.state = State::Running;
                return Poll::Ready(());
            }
            State::InLine(place) => {
                waiting.line.insert(place, context.waker().clone());
            }
        }
        Poll::Pending
    }

    /// Gives the turn back: to the first in line, whoever that is.
    pub(crate) fn give_back(&mut self) {
        let woken = {
            let mut waiting = self.turns.0.lock();
            match std::mem::replace(&mut self.state, State::Apart) {
                State::Apart => None,
                State::Running => waiting.pass_on(),
                State::InLine(place) if waiting.given.remove(&place.1) => waiting.pass_on(),
                State::InLine(place) => {
                    waiting.line.remove(&place);
                    None
                }
            }
        };
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    /// Gives the turn back where somebody waits who has used less than this.
    pub(crate) fn offer(&mut self, used: u64) {
        let is_wanted = {
            let used = used.saturating_sub(self.forgiven);
            self.turns.0.lock().line.first_key_value().is_some_and(|((other, _), _)| *other < used)
        };
        if is_wanted {
            self.give_back();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests;
