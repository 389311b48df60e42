//! Courses of events that were found at random, each as an example.

use super::*;
use ironloom_types::ids::TenantId;

fn zero(grant: &mut OutputGrant) {
    *grant = OutputGrant { safe: Some(Safe::Number(0.0)), ..OutputGrant::of("0".parse().unwrap()) };
}

fn hold(grant: &mut OutputGrant) {
    grant.safe = Some(Safe::Hold);
}

fn safe(point: u8, value: f64) -> Option<(PointPath, Value, What)> {
    Some((path(point), Value::Real(value), What::Safe))
}

/// 16 at point 1, accepted; the installation is stopped, and the safe value of 6 is on its way.
fn on_its_way_to_safe() -> Machine {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    accept(&mut machine, 1, 2);
    machine.set_rights(Generation(1), rights(Mode::Act, true), at(3));
    assert_eq!(next(&mut machine, 4), safe(1, 6.0));
    machine.set_rights(Generation(1), Rights { stopped: true, ..granted(zero) }, at(5));
    machine
}

#[test]
fn a_connection_that_is_lost_just_after_the_end_of_a_life_still_leaves_a_safe_value() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    // Nobody has looked since its life was over.
    machine.lost(&plc(), at(LIFE));
    machine.tick(at(LIFE));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Sent)]);
    assert_eq!(next(&mut machine, LIFE), safe(1, 6.0));
}

#[test]
fn a_renewal_that_is_withdrawn_since_another_point_lapsed_leaves_a_safe_value() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0), asked(1, 1, 1, 2, 16.0, 0)], at(0));
    assert_eq!((sent(&mut machine, 1), sent(&mut machine, 1)), (Some((1, 16.0)), Some((2, 16.0))));
    // No answer comes, and only the first is renewed; both are looked at together.
    machine.commit([asked(2, 0, 0, 1, 20.0, 50)], at(50));
    machine.tick(at(LIFE));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Sent), end(2, Outcome::Sent), end(1, Outcome::Revoked)]);
    let all: BTreeSet<_> = std::iter::from_fn(|| sent(&mut machine, LIFE)).map(|(point, _)| point).collect();
    assert_eq!(all, [1, 2].into());
}

#[test]
fn a_renewal_that_needs_a_person_now_is_none() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    machine.commit([asked(2, 0, 0, 1, 20.0, 50)], at(50));
    accept(&mut machine, 1, 51);
    machine.tick(at(LIFE));
    machine.set_rights(Generation(1), rights(Mode::Advise, false), at(LIFE));
    machine.tick(at(LIFE));
    assert_eq!(next(&mut machine, LIFE), safe(1, 6.0));
}

#[test]
fn what_may_have_been_sent_is_not_called_rejected_when_its_connector_goes() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    machine.lost(&plc(), at(2));
    machine.set_router(Arc::new(|_| None), at(3));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Sent)]);
}

#[test]
fn a_safe_value_that_is_sent_again_is_that_of_the_present_grant() {
    let mut machine = on_its_way_to_safe();
    machine.lost(&plc(), at(6));
    assert_eq!(next(&mut machine, 7), safe(1, 0.0));
    let mut machine = on_its_way_to_safe();
    machine.answered(&path(1), What::Safe, Answer::Rejected("no".to_owned()), at(6));
    assert_eq!(next(&mut machine, 7), None);
    machine.tick(at(6 + send::SAFE_AGAIN));
    assert_eq!(next(&mut machine, 6 + send::SAFE_AGAIN), safe(1, 0.0));
    // What the machine has taken isn't the safe value any more; both are said.
    let mut machine = on_its_way_to_safe();
    for _ in 0..2 {
        machine.answered(&path(1), What::Safe, Answer::Accepted, at(6));
        drop(next(&mut machine, 7));
    }
    let all = machine.take_ends(usize::MAX).into_iter().filter(|end| end.outcome == Outcome::Safe);
    let values: Vec<Value> = all.map(|end| end.settled.driven.unwrap().last.value).collect();
    assert_eq!(values, [Value::Real(6.0), Value::Real(0.0)]);
}

#[test]
fn a_refused_set_point_falls_back_to_the_safe_value_of_the_present_grant() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    accept(&mut machine, 1, 2);
    machine.commit([asked(2, 0, 0, 1, 20.0, 3)], at(3));
    assert_eq!(sent(&mut machine, 3), Some((1, 20.0)));
    machine.set_rights(Generation(1), granted(zero), at(4));
    let what = What::Intent(asked(2, 0, 0, 1, 20.0, 3).place);
    machine.answered(&path(1), what, Answer::Rejected("no".to_owned()), at(5));
    machine.tick(at(LIFE));
    assert_eq!(next(&mut machine, LIFE), safe(1, 0.0));
}

#[test]
fn a_restart_leaves_alone_what_is_vouched_for_though_it_had_no_safe_value_then() {
    let mut before = machine();
    before.set_rights(Generation(1), granted(hold), at(0));
    let kept = Asked { safe: None, ..asked(1, 0, 0, 1, 16.0, 0) };
    before.commit([kept], at(0));
    assert_eq!(sent(&mut before, 1), Some((1, 16.0)));
    accept(&mut before, 1, 2);
    let driven = *before.take_ends(1).remove(0).settled.driven.unwrap();
    // A safe value is granted, and then the process begins anew.
    let mut machine = machine();
    machine.load(Found { driven: [(path(1), driven)].into(), ..Found::default() }, at(50));
    assert_eq!(next(&mut machine, 50), None);
    machine.tick(at(LIFE));
    assert_eq!(next(&mut machine, LIFE), safe(1, 6.0));
}

#[test]
fn a_restart_sends_no_older_set_point_where_the_later_one_has_no_right_any_more() {
    let (older, later) = (asked_of(2, (1, 0, 0), 1, 16.0, 0), asked(2, 0, 0, 1, 20.0, 1));
    let mut machine = machine();
    let elsewhere = Target::Pattern {
        pattern: Pattern::new(TenantId::MAIN, "test/{point}/limit").unwrap(),
        order: vec![0],
    };
    machine.set_rights(Generation(1), Rights { outputs: bound_to(elsewhere), ..granted(|_| {}) }, at(2));
    // The process ended before the end of the older one was recorded, and the later one may have been sent.
    let intents = [older, later].map(|asked| (asked.place, asked)).into();
    machine.load(Found { intents, ..Found::default() }, at(2));
    assert_eq!(sent(&mut machine, 3), None);
    assert_eq!(ends(&mut machine), [end(1, Outcome::Sent), end(1, Outcome::Sent)]);
}

#[test]
fn a_point_that_is_kept_is_forgotten_when_the_last_answer_comes_after_its_installation_has_gone() {
    let mut machine = machine();
    machine.set_rights(Generation(1), granted(hold), at(0));
    machine.commit([Asked { safe: None, ..asked(1, 0, 0, 1, 16.0, 0) }], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    machine.gone(Generation(1), at(2));
    accept(&mut machine, 1, 3);
    assert_eq!((machine.points.len(), machine.counts.len(), machine.deadlines.len()), (0, 0, 0));
}

#[test]
fn a_safe_value_that_changed_on_its_way_is_the_last_that_was_granted_also_once_its_installation_has_gone() {
    let mut machine = on_its_way_to_safe();
    machine.gone(Generation(1), at(6));
    machine.lost(&plc(), at(7));
    assert_eq!(next(&mut machine, 8), safe(1, 0.0));
}

#[test]
fn a_shorter_life_counts_for_what_waits_behind_another_installations_set_point() {
    let mut machine = machine();
    machine.commit([asked_of(2, (1, 0, 0), 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    machine.commit([asked(2, 0, 0, 1, 20.0, 2)], at(2));
    machine.set_rights(Generation(1), granted(|grant| grant.ttl = Some(Span(50))), at(3));
    machine.tick(at(52));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Expired)]);
}

#[test]
fn a_log_that_has_the_end_of_a_later_one_knows_that_the_older_was_overtaken() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 2, 16.0, 0), asked(1, 1, 1, 3, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((2, 16.0)));
    // The first isn't granted, and so what follows it is skipped.
    let list = [(1, 40.0), (2, 8.0), (3, 8.0)].map(|(point, value)| (u32::from(point) - 1, point, value));
    machine.commit(list.map(|(index, point, value)| asked(2, index, 0, point, value, 2)), at(2));
    let ends = machine.take_ends(usize::MAX);
    let outcomes: Vec<_> = ends.iter().map(|end| (end.entity.to_string(), end.outcome)).collect();
    let later = [end(1, Outcome::Revoked), end(2, Outcome::Skipped), end(3, Outcome::Skipped)];
    assert_eq!(outcomes, [vec![end(3, Outcome::Superseded)], later.to_vec()].concat());
    let passed = ends[2].settled.driven.as_ref().unwrap().passed;
    assert_eq!(passed, asked(1, 0, 0, 2, 16.0, 0).number);
}
