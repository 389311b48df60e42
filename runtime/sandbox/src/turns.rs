//! Who runs: an invocation has a turn only while it is polled, and there are as many turns as cores.
//!
//! Far more invocations are under way than can run. Each asks for a turn before it is polled, and gives it back
//! when it waits for something, or at a tick where somebody waits who has used less. So a short invocation of an
//! installation that has used little waits for a tick at most, however many others loop.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

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
}

/// What an invocation's installation has used, and a number that nobody else in line has.
type Place = (u64, u64);

/// The turn of one invocation, or its place in line.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    state: State,
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
        let waiting = Waiting { free: turns, line: BTreeMap::new(), given: HashSet::new(), next: 0 };
        Arc::new(Self(Mutex::new(waiting)))
    }

    /// Somebody who hasn't asked for a turn yet.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        Turn { turns: Arc::clone(self), state: State::Apart }
    }

    /// Gives a turn that became free to the first in line.
    fn pass_on(waiting: &mut Waiting) -> Option<Waker> {
        match waiting.line.pop_first() {
            Some(((_, number), waker)) => {
                waiting.given.insert(number);
                Some(waker)
            }
            None => {
                waiting.free += 1;
                None
            }
        }
    }
}

impl Turn {
    /// Ready once it has a turn. `used` is what its installation has used so far: who has used least is next.
    pub(crate) fn poll_take(&mut self, used: u64, context: &Context<'_>) -> Poll<()> {
        let mut waiting = self.turns.0.lock();
        match self.state {
            State::Running => return Poll::Ready(()),
            State::Apart if waiting.free > 0 => {
                waiting.free -= 1;
                self.state = State::Running;
                return Poll::Ready(());
            }
            State::Apart => {
                let place = (used, waiting.next);
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
                State::Running => Turns::pass_on(&mut waiting),
                State::InLine(place) if waiting.given.remove(&place.1) => Turns::pass_on(&mut waiting),
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
        let is_wanted =
            self.turns.0.lock().line.first_key_value().is_some_and(|((other, _), _)| *other < used);
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
mod tests {
    use super::*;

    const TICK: u64 = 10;

    fn is_running(turn: &mut Turn, used: u64) -> bool {
        turn.poll_take(used, &Context::from_waker(Waker::noop())).is_ready()
    }

    /// Who loops: asks for a turn, and uses a tick where it has one.
    struct Looping(Turn, u64);

    impl Looping {
        fn tick(&mut self) {
            if is_running(&mut self.0, self.1) {
                self.1 += TICK;
                self.0.offer(self.1);
            }
        }
    }

    #[test]
    fn whoever_has_used_less_than_those_that_loop_waits_for_a_tick_at_most() {
        let turns = Turns::new(2);
        let mut loops: Vec<Looping> = (0..8).map(|n| Looping(turns.turn(), n)).collect();
        (0..100).for_each(|_| loops.iter_mut().for_each(Looping::tick));
        let mut honest = turns.turn();
        assert!(!is_running(&mut honest, 50), "both turns are taken");
        loops.iter_mut().for_each(Looping::tick);
        assert!(is_running(&mut honest, 50));
        honest.offer(60);
        assert!(is_running(&mut honest, 60), "it goes on, since the others have used more");
    }

    #[test]
    fn those_that_loop_share_alike() {
        let turns = Turns::new(2);
        let mut loops: Vec<Looping> = (0..8).map(|_| Looping(turns.turn(), 0)).collect();
        (0..1_000).for_each(|_| loops.iter_mut().for_each(Looping::tick));
        let used: Vec<u64> = loops.iter().map(|one| one.1).collect();
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        assert!(most - least <= 2 * TICK && *least > 0, "{used:?}");
    }

    #[test]
    fn who_waits_for_something_else_holds_no_turn() {
        let turns = Turns::new(1);
        let (mut reads, mut next) = (turns.turn(), turns.turn());
        assert!(is_running(&mut reads, 0) && !is_running(&mut next, 1_000));
        reads.give_back();
        assert!(is_running(&mut next, 1_000));
        assert!(!is_running(&mut reads, 0));
        next.offer(1_000);
        assert!(is_running(&mut reads, 0));
    }

    #[test]
    fn a_turn_that_was_given_to_somebody_who_is_gone_goes_on_to_the_next() {
        let turns = Turns::new(1);
        let (mut first, mut gone, mut last) = (turns.turn(), turns.turn(), turns.turn());
        assert!(is_running(&mut first, 0) && !is_running(&mut gone, 1) && !is_running(&mut last, 2));
        drop(first);
        drop(gone);
        assert!(is_running(&mut last, 2));
        let mut other = turns.turn();
        assert!(!is_running(&mut other, 0));
        drop(other);
        drop(last);
        let waiting = turns.0.lock();
        assert_eq!((waiting.free, waiting.line.len(), waiting.given.len()), (1, 0, 0));
    }
}
