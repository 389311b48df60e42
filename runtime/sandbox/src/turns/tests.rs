//! Who gets a turn, whatever becomes of those that wait for one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;

use super::*;

const TICK: u64 = 10_000_000;

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
    let mut loops: Vec<Looping> = (0..8).map(|n| Looping(turns.turn(0), n)).collect();
    (0..100).for_each(|_| loops.iter_mut().for_each(Looping::tick));
    let mut honest = turns.turn(0);
    assert!(!is_running(&mut honest, 50), "both turns are taken");
    loops.iter_mut().for_each(Looping::tick);
    assert!(is_running(&mut honest, 50));
    honest.offer(60);
    assert!(is_running(&mut honest, 60), "it goes on, since the others have used more");
}

#[test]
fn those_that_loop_share_alike() {
    let turns = Turns::new(2);
    let mut loops: Vec<Looping> = (0..8).map(|_| Looping(turns.turn(0), 0)).collect();
    (0..1_000).for_each(|_| loops.iter_mut().for_each(Looping::tick));
    let used: Vec<u64> = loops.iter().map(|one| one.1).collect();
    let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
    assert!(most - least <= 2 * TICK && *least > 0, "{used:?}");
}

#[test]
fn who_waits_for_something_else_holds_no_turn() {
    let turns = Turns::new(1);
    let (mut reads, mut next) = (turns.turn(0), turns.turn(0));
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
    let (mut first, mut gone, mut last) = (turns.turn(0), turns.turn(0), turns.turn(0));
    assert!(is_running(&mut first, 0) && !is_running(&mut gone, 1) && !is_running(&mut last, 2));
    drop(first);
    drop(gone);
    assert!(is_running(&mut last, 2));
    let mut other = turns.turn(0);
    assert!(!is_running(&mut other, 0));
    drop(other);
    drop(last);
    assert_eq!(turns.free(), Some(1));
}

#[test]
fn one_that_burnt_long_while_it_was_alone_waits_for_a_second_of_the_others() {
    const SECOND: u64 = 100 * TICK;
    let turns = Turns::new(1);
    let mut long = Looping(turns.turn(0), 0);
    (0..500).for_each(|_| long.tick());
    assert_eq!(long.1, 5 * SECOND, "nobody else was there");
    let mut other = Looping(turns.turn(0), 0);
    assert!(!is_running(&mut other.0, 0));
    long.tick();
    let before = long.1;
    while long.1 == before {
        other.tick();
        long.tick();
    }
    assert!((SECOND..=SECOND + 2 * TICK).contains(&other.1), "{}", other.1);
    // From there on they share.
    let (long_had, other_had) = (long.1, other.1);
    for _ in 0..1_000 {
        long.tick();
        other.tick();
    }
    let (long_got, other_got) = (long.1 - long_had, other.1 - other_had);
    assert!(long_got.abs_diff(other_got) <= 2 * TICK && long_got > 2 * SECOND, "{long_got} {other_got}");
}

#[test]
fn of_those_that_have_used_the_same_the_first_that_came_is_next() {
    let turns = Turns::new(1);
    let mut runs = turns.turn(0);
    assert!(is_running(&mut runs, 0));
    let mut line: Vec<Turn> = (0..5).map(|_| turns.turn(7)).collect();
    line.iter_mut().for_each(|turn| assert!(!is_running(turn, 7)));
    // Asked again, each keeps its place.
    line.iter_mut().rev().for_each(|turn| assert!(!is_running(turn, 7)));
    runs.offer(7);
    assert!(is_running(&mut runs, 7), "the same is not less");
    drop(runs);
    while !line.is_empty() {
        assert_eq!(line.iter_mut().map(|turn| is_running(turn, 7)).position(|runs| runs), Some(0));
        line.remove(0);
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn whoever_is_given_a_turn_is_woken_by_the_waker_that_it_came_with_last() {
    let turns = Turns::new(1);
    let (mut runs, mut next, mut last) = (turns.turn(0), turns.turn(0), turns.turn(0));
    let bells: [Arc<Bell>; 3] = Default::default();
    let ring = |turn: &mut Turn, bell: usize, used| {
        turn.poll_take(used, &Context::from_waker(&Waker::from(Arc::clone(&bells[bell])))).is_ready()
    };
    assert!(is_running(&mut runs, 0) && !ring(&mut next, 0, 1) && !ring(&mut next, 1, 1));
    assert!(!ring(&mut last, 2, 2));
    let rung = || bells.each_ref().map(|bell| bell.0.load(Ordering::SeqCst));
    runs.give_back();
    assert_eq!(rung(), [0, 1, 0]);
    // It is gone before it was polled: the turn goes on.
    drop(next);
    assert_eq!(rung(), [0, 1, 1]);
    assert!(ring(&mut last, 2, 2));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Is polled, having used so much.
    Poll(u64),
    GiveBack,
    Offer(u64),
    /// Ends, and another begins in its place.
    Gone,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let used = 0..5 * MOST_DEBT;
    let step = prop_oneof![
        5 => used.clone().prop_map(Step::Poll),
        2 => Just(Step::GiveBack),
        2 => used.prop_map(Step::Offer),
        1 => Just(Step::Gone),
    ];
    proptest::collection::vec((0..6_usize, step), 0..60)
}

proptest! {
    #[test]
    fn no_turn_is_lost_or_made(steps in steps(), count in 1..4_usize) {
        let turns = Turns::new(count);
        let mut all: Vec<Turn> = (0..6).map(|_| turns.turn(0)).collect();
        for (who, step) in steps {
            let turn = &mut all[who];
            match step {
                Step::Poll(used) => drop(is_running(turn, used)),
                // Only who runs gives back or offers.
                Step::GiveBack if matches!(turn.state, State::Running) => turn.give_back(),
                Step::Offer(used) if matches!(turn.state, State::Running) => turn.offer(used),
                Step::GiveBack | Step::Offer(_) => {}
                Step::Gone => all[who] = turns.turn(0),
            }
            let waiting = turns.0.lock();
            let running = all.iter().filter(|turn| matches!(turn.state, State::Running)).count();
            prop_assert_eq!(running + waiting.given.len() + waiting.free, count);
            prop_assert!(waiting.line.is_empty() || waiting.free == 0, "somebody waits while a turn is free");
            for turn in &all {
                if let State::InLine(place) = turn.state {
                    let (waits, has) = (waiting.line.contains_key(&place), waiting.given.contains(&place.1));
                    prop_assert!(waits != has, "whoever waits stands in line, or was given a turn");
                }
            }
        }
        drop(all);
        prop_assert_eq!(turns.free(), Some(count));
    }
}
