//! Set-points that may come only so often.

use super::*;

const EVERY: u64 = 40;

/// A machine of which the output may change a point once in 40.
fn rarely() -> Machine {
    let mut machine = machine();
    machine.set_rights(Generation(1), granted(|grant| grant.every = Some(Span(EVERY))), at(0));
    machine
}

#[test]
fn one_that_comes_too_soon_waits_and_only_the_newest_is_sent() {
    let mut machine = rarely();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    accept(&mut machine, 1, 2);
    machine.commit([asked(2, 0, 0, 1, 20.0, 10), asked(2, 1, 1, 2, 8.0, 10)], at(10));
    assert_eq!(sent(&mut machine, 11), Some((2, 8.0)), "another point");
    assert_eq!(sent(&mut machine, 11), None);
    machine.commit([asked(3, 0, 0, 1, 24.0, 20)], at(20));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Accepted), end(1, Outcome::Superseded)]);
    assert_eq!(sent(&mut machine, 21), None);
    assert_eq!(machine.next_deadline(), Some(at(1 + EVERY)), "somebody looks then");
    machine.tick(at(EVERY));
    assert_eq!(sent(&mut machine, EVERY), None);
    machine.tick(at(1 + EVERY));
    assert_eq!(sent(&mut machine, 1 + EVERY), Some((1, 24.0)));
}

#[test]
fn a_safe_value_and_the_kill_switch_wait_for_nothing() {
    let mut machine = rarely();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    // Taken late in its life.
    assert_eq!(sent(&mut machine, 90), Some((1, 16.0)));
    accept(&mut machine, 1, 91);
    machine.commit([asked(2, 0, 0, 1, 20.0, 95)], at(95));
    assert_eq!(sent(&mut machine, 95), None);
    machine.tick(at(LIFE));
    assert_eq!(sent(&mut machine, LIFE), Some((1, 6.0)), "what is held renews nothing");
    assert_eq!(ends(&mut machine), [end(1, Outcome::Accepted), end(1, Outcome::Revoked)]);
    accept(&mut machine, 1, LIFE);

    machine.commit([asked(3, 0, 0, 1, 16.0, 150)], at(150));
    assert_eq!(sent(&mut machine, 150), Some((1, 16.0)), "a safe value doesn't count");
    accept(&mut machine, 1, 151);
    machine.commit([asked(4, 0, 0, 1, 20.0, 152)], at(152));
    ends(&mut machine);
    machine.set_halted(Halted { site: true, ..Halted::default() }, at(153));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Revoked)]);
}

#[test]
fn the_same_one_again_is_no_other() {
    let mut machine = rarely();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    machine.lost(&plc(), at(2));
    assert_eq!(sent(&mut machine, 3), Some((1, 16.0)));
    // From then on it counts.
    accept(&mut machine, 1, 4);
    machine.commit([asked(2, 0, 0, 1, 20.0, 5)], at(5));
    machine.tick(at(2 + EVERY));
    assert_eq!(sent(&mut machine, 2 + EVERY), None);
    machine.tick(at(3 + EVERY));
    assert_eq!(sent(&mut machine, 3 + EVERY), Some((1, 20.0)));
}
