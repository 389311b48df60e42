//! The outbox against its rules: by examples, and by any course of events.

mod any;
mod found;
mod rate;

use super::*;
use crate::records::intent::Driven;
use ironloom_apps::binding::{OutputBinding, Target};
use ironloom_apps::grants::{Grants, Mode, OutputGrant, Safe};
use ironloom_apps::manifest::{OutputKind, ValueType};
use ironloom_apps::pattern::Pattern;
use ironloom_apps::quantity::Span;
use ironloom_types::effects::Intent;
use ironloom_types::ids::{PointPath, TenantId};
use ironloom_types::readings::Value;

const LIFE: u64 = 100;

fn grants(mode: Mode) -> Arc<Grants> {
    let limit = OutputGrant { safe: Some(Safe::Number(6.0)), ..OutputGrant::of("0, 6..32".parse().unwrap()) };
    Arc::new(Grants { mode, outputs: [(SlotName::new("limit").unwrap(), limit)].into() })
}

fn rights(mode: Mode, stopped: bool) -> Rights {
    Rights { grants: grants(mode), outputs: outputs(), stopped }
}

fn outputs() -> Arc<[OutputBinding]> {
    bound_to(Target::Pattern {
        pattern: Pattern::new(TenantId::MAIN, "plant/{point}/limit").unwrap(),
        order: vec![0],
    })
}

fn bound_to(target: Target) -> Arc<[OutputBinding]> {
    let (name, kind) = (SlotName::new("limit").unwrap(), OutputKind::SetPoint);
    [OutputBinding { name, kind, value_type: ValueType::Real, unit: None, target }].into()
}

fn plc() -> Arc<str> {
    "plc".into()
}

fn path(point: u8) -> PointPath {
    PointPath::new(TenantId::MAIN, &format!("plant/{point}/limit")).unwrap()
}

fn at(now: u64) -> Timestamp {
    Timestamp(now)
}

/// An intent of an invocation of generation 1; its safe value is 6.
fn asked(ordinal: u64, index: u32, list: u32, point: u8, value: f64, now: u64) -> Asked {
    asked_of(1, (ordinal, index, list), point, value, now)
}

fn asked_of(
    generation: u64,
    (ordinal, index, list): (u64, u32, u32),
    point: u8,
    value: f64,
    now: u64,
) -> Asked {
    let value = Value::Real(value);
    Asked {
        installation: InstallationId::new(TenantId::MAIN, &format!("app-{generation}")).unwrap(),
        place: IntentPlace { generation: Generation(generation), ordinal: Ordinal(ordinal), index },
        at: Timestamp(now),
        number: (ordinal << 11) + (u64::from(index) << 1),
        intent: Intent {
            list,
            output: SlotName::new("limit").unwrap(),
            entity: point.to_string().into(),
            point: path(point),
            asked: value.clone(),
            value,
            time_to_live: LIFE,
        },
        safe: Some(Value::Real(6.0)),
        acts: true,
        confirmed: false,
    }
}

fn machine() -> Machine {
    let mut machine = Machine::default();
    for generation in [1, 2] {
        machine.set_rights(Generation(generation), rights(Mode::Act, false), at(0));
    }
    machine.set_router(Arc::new(|path| path.as_str().starts_with("plant/").then(plc)), at(0));
    machine
}

/// Takes what is sent: the point, the value, and whether it is a safe one.
fn next(machine: &mut Machine, now: u64) -> Option<(PointPath, Value, What)> {
    let command = machine.next(&plc(), at(now))?;
    Some((command.point, command.value, command.what))
}

fn sent(machine: &mut Machine, now: u64) -> Option<(u8, f64)> {
    let (point, value, _) = next(machine, now)?;
    let Value::Real(value) = value else { panic!("{value:?}") };
    Some((point.as_str().split('/').nth(1).unwrap().parse().unwrap(), value))
}

fn accept(machine: &mut Machine, point: u8, now: u64) {
    let what = machine.points[&path(point)].flying.as_ref().unwrap().what;
    machine.answered(&path(point), what, Answer::Accepted, at(now));
}

fn ends(machine: &mut Machine) -> Vec<(String, Outcome)> {
    let ends = machine.take_ends(usize::MAX).into_iter();
    ends.map(|end| (end.entity.to_string(), end.outcome)).collect()
}

fn end(point: u8, outcome: Outcome) -> (String, Outcome) {
    (point.to_string(), outcome)
}

#[test]
fn a_list_goes_out_in_its_order_each_after_the_one_before_was_accepted() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 6.0, 0), asked(1, 1, 0, 2, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 6.0)));
    assert_eq!(sent(&mut machine, 1), None, "the second waits for the first");
    accept(&mut machine, 1, 2);
    assert_eq!(sent(&mut machine, 3), Some((2, 16.0)));
    let what = machine.points[&path(2)].flying.as_ref().unwrap().what;
    machine.answered(&path(2), what, Answer::Rejected("no".to_owned()), at(4));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Accepted), end(2, Outcome::Rejected)]);
    assert_eq!(machine.points[&path(2)].told, None, "a refused value is not in force");
}

#[test]
fn what_follows_one_that_was_not_accepted_is_skipped() {
    let mut machine = machine();
    let list = [asked(1, 0, 0, 1, 0.0, 0), asked(1, 1, 0, 2, 16.0, 0), asked(1, 2, 0, 3, 16.0, 0)];
    machine.commit(list, at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 0.0)));
    // A later invocation for the second one's point: what follows it can't count on it any more.
    machine.commit([asked(2, 0, 0, 2, 10.0, 5)], at(5));
    assert_eq!(ends(&mut machine), [end(2, Outcome::Superseded), end(3, Outcome::Skipped)]);
    assert_eq!(sent(&mut machine, 6), Some((2, 10.0)), "another list doesn't wait for the first");
    accept(&mut machine, 1, 7);
    assert_eq!(sent(&mut machine, 8), None);
}

#[test]
fn nothing_is_sent_past_its_life_nor_twice_at_a_time() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, LIFE), None);
    assert_eq!(ends(&mut machine), [end(1, Outcome::Expired)]);
    machine.commit([asked(2, 0, 0, 1, 16.0, 200)], at(200));
    assert_eq!(sent(&mut machine, 201), Some((1, 16.0)));
    machine.commit([asked(3, 0, 0, 1, 8.0, 210)], at(210));
    assert_eq!(sent(&mut machine, 211), None, "one is on its way");
    accept(&mut machine, 1, 212);
    assert_eq!(sent(&mut machine, 213), Some((1, 8.0)));
    // Sent, and never answered: it may be in force, and so the safe value follows.
    machine.tick(at(320));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Accepted), end(1, Outcome::Sent)]);
    assert_eq!(sent(&mut machine, 320), Some((1, 6.0)));
    accept(&mut machine, 1, 321);
    assert_eq!(ends(&mut machine), [end(1, Outcome::Safe)]);
    machine.tick(at(10_000));
    assert_eq!(sent(&mut machine, 10_000), None, "a safe value needs no renewal");
}

#[test]
fn a_set_point_that_is_not_renewed_is_followed_by_its_safe_value() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    accept(&mut machine, 1, 2);
    machine.commit([asked(2, 0, 0, 1, 20.0, 50)], at(50));
    assert_eq!(sent(&mut machine, 51), Some((1, 20.0)));
    accept(&mut machine, 1, 52);
    machine.tick(at(120));
    assert_eq!(sent(&mut machine, 120), None, "it was renewed");
    // Another point's intent waits behind one that isn't answered: going safe withdraws it first.
    machine.commit([asked(3, 0, 0, 2, 8.0, 140), asked(3, 1, 0, 3, 8.0, 140)], at(140));
    assert_eq!(sent(&mut machine, 140), Some((2, 8.0)));
    drop(ends(&mut machine));
    machine.tick(at(150));
    assert_eq!(ends(&mut machine), [end(3, Outcome::Revoked)]);
    assert_eq!(sent(&mut machine, 151), Some((1, 6.0)));
}

#[test]
fn an_installation_that_is_stopped_leaves_safe_values_behind() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0), asked(1, 1, 1, 2, 16.0, 0)], at(0));
    machine.commit([asked_of(2, (1, 0, 0), 3, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    machine.set_rights(Generation(1), rights(Mode::Act, true), at(2));
    assert_eq!(ends(&mut machine), [end(2, Outcome::Revoked)]);
    // At once: the answer to what is on its way isn't waited for.
    let all: Vec<_> = std::iter::from_fn(|| sent(&mut machine, 3)).collect();
    assert_eq!(all, [(3, 16.0), (1, 6.0)]);
    assert_eq!(ends(&mut machine), [end(1, Outcome::Sent)]);
    machine.commit([asked(2, 0, 0, 1, 16.0, 4)], at(4));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Revoked)]);
}

#[test]
fn a_lost_connection_has_what_was_not_answered_sent_again_unless_there_is_something_newer() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0), asked(1, 1, 1, 2, 16.0, 0)], at(0));
    assert_eq!((sent(&mut machine, 1), sent(&mut machine, 1)), (Some((1, 16.0)), Some((2, 16.0))));
    machine.commit([asked(2, 0, 0, 2, 8.0, 5)], at(5));
    machine.lost(&plc(), at(6));
    assert_eq!(ends(&mut machine), [end(2, Outcome::Sent)], "it may be in force");
    let mut all: Vec<_> = std::iter::from_fn(|| sent(&mut machine, 7)).collect();
    all.sort_by_key(|(point, _)| *point);
    assert_eq!(all, [(1, 16.0), (2, 8.0)]);
    // Of one that was sent nobody says that it never was.
    machine.lost(&plc(), at(8));
    machine.tick(at(200));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Sent), end(2, Outcome::Sent)]);
}

#[test]
fn the_kill_switch_holds_everything_back() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0), asked(1, 1, 1, 2, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    machine.set_halted(Halted { site: true, ..Halted::default() }, at(2));
    assert_eq!(ends(&mut machine), [end(2, Outcome::Revoked), end(1, Outcome::Sent)]);
    machine.commit([asked(2, 0, 0, 2, 8.0, 3)], at(3));
    machine.tick(at(150));
    assert_eq!(sent(&mut machine, 150), None, "no safe value either");
    machine.set_halted(Halted::default(), at(160));
    assert_eq!(sent(&mut machine, 160), Some((1, 6.0)));
    assert_eq!(sent(&mut machine, 160), None);
}

#[test]
fn a_person_confirms_what_is_only_advised() {
    let mut machine = machine();
    machine.set_rights(Generation(1), rights(Mode::Advise, false), at(0));
    machine.commit([asked(1, 0, 0, 2, 16.0, 0)], at(0));
    machine.dismiss(asked(1, 0, 0, 2, 16.0, 0).place, at(1));
    machine.commit([asked(2, 0, 0, 2, 16.0, 2)], at(2));
    machine.tick(at(102));
    assert_eq!(ends(&mut machine), [end(2, Outcome::Revoked), end(2, Outcome::Expired)]);
    let advised = Asked { acts: false, ..asked(3, 0, 0, 1, 16.0, 200) };
    machine.commit([advised], at(200));
    assert_eq!(sent(&mut machine, 201), None);
    // What was only advised stays so, whatever the mode is now.
    machine.set_rights(Generation(1), rights(Mode::Act, false), at(202));
    assert_eq!(sent(&mut machine, 202), None);
    let id = asked(3, 0, 0, 1, 16.0, 200).place.id();
    let found = machine.unconfirmed(Generation(1), id).unwrap();
    machine.confirm(Asked { confirmed: true, ..Asked::clone(&found) }, at(250));
    assert_eq!(sent(&mut machine, 250), Some((1, 16.0)));
    assert!(machine.unconfirmed(Generation(1), id).is_none());
}

#[test]
fn a_shadow_is_recorded_and_a_right_that_is_lost_is_lost_at_once() {
    let mut machine = machine();
    machine.set_rights(Generation(1), rights(Mode::Shadow, false), at(0));
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!((ends(&mut machine), sent(&mut machine, 0)), (vec![end(1, Outcome::Shadow)], None));
    machine.set_rights(Generation(1), rights(Mode::Act, false), at(1));
    machine.commit([asked(2, 0, 0, 1, 16.0, 1)], at(1));
    let mut less = Grants::clone(&grants(Mode::Act));
    less.outputs.values_mut().for_each(|grant| grant.allow = "0..10".parse().unwrap());
    machine.set_rights(Generation(1), Rights { grants: Arc::new(less), ..rights(Mode::Act, false) }, at(2));
    assert_eq!((ends(&mut machine), sent(&mut machine, 2)), (vec![end(1, Outcome::Revoked)], None));
    machine.set_rights(Generation(1), Rights { grants: Arc::default(), ..rights(Mode::Act, false) }, at(2));
    machine.commit([asked(3, 0, 0, 1, 8.0, 3)], at(3));
    assert_eq!((ends(&mut machine), sent(&mut machine, 3)), (vec![end(1, Outcome::Revoked)], None));
}

#[test]
fn what_is_refused_at_once_has_the_rest_of_its_list_skipped() {
    let mut machine = machine();
    // 40 isn't granted; the second list stands for itself.
    machine
        .commit([asked(1, 0, 0, 1, 40.0, 0), asked(1, 1, 0, 2, 16.0, 0), asked(1, 2, 1, 3, 16.0, 0)], at(0));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Revoked), end(2, Outcome::Skipped)]);
    assert_eq!((sent(&mut machine, 0), sent(&mut machine, 0)), (Some((3, 16.0)), None));
}

#[test]
fn a_point_that_no_connector_drives_rejects() {
    let mut machine = machine();
    let elsewhere = Target::Pattern {
        pattern: Pattern::new(TenantId::MAIN, "elsewhere/{point}").unwrap(),
        order: vec![0],
    };
    let rights = Rights { outputs: bound_to(elsewhere), ..rights(Mode::Act, false) };
    machine.set_rights(Generation(1), rights, at(0));
    let mut one = asked(1, 0, 0, 1, 16.0, 0);
    one.intent.point = PointPath::new(TenantId::MAIN, "elsewhere/1").unwrap();
    machine.commit([one], at(0));
    let end = machine.take_ends(1).remove(0);
    assert_eq!(end.outcome, Outcome::Rejected);
    let reason = end.settled.driven.unwrap().last.reason.unwrap();
    assert_eq!(&*reason, "no connector has set_points for it");
}

#[test]
fn a_restart_takes_up_what_may_have_been_sent_and_goes_safe_where_nobody_vouches_for_it() {
    let mut before = machine();
    before.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut before, 1), Some((1, 16.0)));
    accept(&mut before, 1, 2);
    let driven = before.take_ends(1).remove(0).settled.driven.unwrap();
    let open = asked(2, 0, 0, 2, 16.0, 50);
    let found = || Found {
        intents: [(open.place, open.clone())].into(),
        driven: [(path(1), Driven::clone(&driven))].into(),
    };
    // In time: both are as before.
    let mut machine = machine();
    machine.load(found(), at(60));
    assert_eq!((sent(&mut machine, 60), sent(&mut machine, 60)), (Some((2, 16.0)), None));
    // Too late: nobody vouches for either any more.
    let mut machine = self::machine();
    machine.load(found(), at(1_000));
    assert_eq!(ends(&mut machine), [end(2, Outcome::Sent)]);
    let all: BTreeSet<_> = std::iter::from_fn(|| sent(&mut machine, 1_000)).map(|(point, _)| point).collect();
    assert_eq!(all, [1, 2].into());
    // Its installation is gone.
    let mut machine = Machine::default();
    machine.set_router(Arc::new(|_| Some(plc())), at(60));
    machine.load(found(), at(60));
    let all: BTreeSet<_> = std::iter::from_fn(|| sent(&mut machine, 60)).map(|(point, _)| point).collect();
    assert_eq!(all, [1, 2].into());
    // Nobody had given leave to send the other one.
    let mut machine = self::machine();
    let advised = Asked { acts: false, ..open.clone() };
    machine.load(Found { intents: [(open.place, advised)].into(), ..found() }, at(1_000));
    assert_eq!(ends(&mut machine), [end(2, Outcome::Expired)]);
    assert_eq!((sent(&mut machine, 1_000), sent(&mut machine, 1_000)), (Some((1, 6.0)), None));
}

#[test]
fn numbers_rise_for_each_point_safe_values_included() {
    let mut machine = machine();
    let mut numbers = Vec::new();
    for ordinal in 1..4 {
        let now = ordinal * 1_000;
        machine.commit([asked(ordinal, 0, 0, 1, 16.0, now)], at(now));
        numbers.push(machine.next(&plc(), at(now)).unwrap().number);
        accept(&mut machine, 1, now + 1);
        machine.tick(at(now + LIFE));
        numbers.push(machine.next(&plc(), at(now + LIFE)).unwrap().number);
        accept(&mut machine, 1, now + LIFE + 1);
    }
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

#[test]
fn equipment_that_is_offline_for_hours_gets_only_what_still_lives() {
    const MINUTE: u64 = 60_000_000_000;
    let mut machine = machine();
    // A value every five minutes, each of which lives for ten; nobody takes any for eight hours.
    let asked = |step: u64| {
        let mut asked = asked(step + 1, 0, 0, 1, 6.0 + step as f64 % 26.0, step * 5 * MINUTE);
        asked.intent.time_to_live = 10 * MINUTE;
        asked
    };
    for step in 0..96 {
        machine.commit([asked(step)], at(step * 5 * MINUTE));
        machine.tick(at(step * 5 * MINUTE + MINUTE));
    }
    let superseded = vec![end(1, Outcome::Superseded); 95];
    assert_eq!(ends(&mut machine), superseded);
    let back = 95 * 5 * MINUTE + 2 * MINUTE;
    assert_eq!(sent(&mut machine, back), Some((1, 6.0 + 95.0 % 26.0)), "the newest, and only that");
    accept(&mut machine, 1, back);
    assert_eq!(sent(&mut machine, back), None);
    assert_eq!(ends(&mut machine), [end(1, Outcome::Accepted)]);

    // The app stops with the equipment away: nothing that is hours old moves it when it is back.
    machine.commit([asked(96)], at(96 * 5 * MINUTE));
    machine.tick(at(96 * 5 * MINUTE + 10 * MINUTE));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Expired)]);
    let hours_later = 96 * 5 * MINUTE + 6 * 60 * MINUTE;
    machine.tick(at(hours_later));
    // What it was told last has lapsed meanwhile, so the safe value is all that goes out.
    assert_eq!(next(&mut machine, hours_later), Some((path(1), Value::Real(6.0), What::Safe)));
    assert_eq!(sent(&mut machine, hours_later), None);
}

/// Rights of generation 1 with another grant.
fn granted(change: impl FnOnce(&mut OutputGrant)) -> Rights {
    let mut grants = Grants::clone(&grants(Mode::Act));
    change(grants.outputs.values_mut().next().unwrap());
    Rights { grants: Arc::new(grants), ..rights(Mode::Act, false) }
}

#[test]
fn a_safe_value_is_that_of_the_present_grant() {
    let mut machine = machine();
    machine.set_rights(Generation(1), granted(|_| {}), at(0));
    machine.commit([asked(1, 0, 0, 1, 30.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 30.0)));
    accept(&mut machine, 1, 2);
    let narrow = |grant: &mut OutputGrant| {
        *grant = OutputGrant { safe: Some(Safe::Number(0.0)), ..OutputGrant::of("0".parse().unwrap()) };
    };
    machine.set_rights(Generation(1), granted(narrow), at(3));
    machine.tick(at(LIFE));
    assert_eq!(next(&mut machine, LIFE), Some((path(1), Value::Real(0.0), What::Safe)));
    // One that was told to hold has a safe value by a later grant.
    machine.set_rights(Generation(1), granted(|grant| grant.safe = Some(Safe::Hold)), at(200));
    machine.commit([asked(2, 0, 0, 2, 30.0, 200)], at(200));
    assert_eq!(sent(&mut machine, 201), Some((2, 30.0)));
    accept(&mut machine, 2, 202);
    machine.set_rights(Generation(1), granted(|_| {}), at(203));
    machine.tick(at(200 + LIFE));
    let safe = std::iter::from_fn(|| next(&mut machine, 200 + LIFE));
    assert!(safe.into_iter().any(|sent| sent == (path(2), Value::Real(6.0), What::Safe)));
}

#[test]
fn what_waits_goes_out_when_the_one_before_it_has_run_out() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0)], at(0));
    assert_eq!(sent(&mut machine, 1), Some((1, 16.0)));
    machine.commit([asked(2, 0, 0, 1, 8.0, 50)], at(50));
    assert_eq!(sent(&mut machine, 51), None);
    machine.tick(at(LIFE));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Sent)]);
    assert_eq!(sent(&mut machine, LIFE), Some((1, 8.0)));
}

#[test]
fn whoever_only_advises_takes_nobody_elses_place() {
    let mut machine = machine();
    machine.set_rights(Generation(2), rights(Mode::Advise, false), at(0));
    machine.commit([asked(1, 0, 0, 1, 16.0, 0), asked(1, 1, 0, 2, 16.0, 0)], at(0));
    let advised =
        |ordinal, point, now| Asked { acts: false, ..asked_of(2, (ordinal, 0, 0), point, 8.0, now) };
    machine.commit([advised(2, 1, 1)], at(1));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Superseded)]);
    assert_eq!(sent(&mut machine, 2), Some((1, 16.0)));
    // Where the other's is on its way, it waits for a person, and the other's is sent again after a lost connection.
    machine.commit([advised(3, 1, 3)], at(3));
    machine.lost(&plc(), at(4));
    assert_eq!(sent(&mut machine, 5), Some((1, 16.0)));
    accept(&mut machine, 1, 6);
    assert_eq!(sent(&mut machine, 7), Some((2, 16.0)), "its list goes on");
}

#[test]
fn what_waits_ends_where_its_point_or_its_life_is_no_longer_granted() {
    let mut machine = machine();
    machine.set_router(Arc::new(|_| None), at(0));
    machine.router = None;
    let far = |ordinal, point| {
        let mut asked = asked(ordinal, 0, 0, point, 16.0, 0);
        asked.intent.time_to_live = 1_000;
        asked
    };
    machine.commit([far(1, 1)], at(0));
    machine.set_rights(Generation(1), granted(|grant| grant.ttl = Some(Span(50))), at(60));
    assert_eq!(ends(&mut machine), [end(1, Outcome::Expired)]);
    machine.set_rights(Generation(1), granted(|_| {}), at(60));
    machine.commit([far(2, 2)], at(60));
    let elsewhere = Target::Pattern {
        pattern: Pattern::new(TenantId::MAIN, "test/{point}/limit").unwrap(),
        order: vec![0],
    };
    let rebound = Rights { outputs: bound_to(elsewhere), ..granted(|_| {}) };
    machine.set_rights(Generation(1), rebound, at(61));
    assert_eq!(ends(&mut machine), [end(2, Outcome::Revoked)]);
}

#[test]
fn nothing_grows_while_the_connector_is_away() {
    let mut machine = machine();
    for ordinal in 1..=1_000 {
        machine.commit([asked(ordinal, 0, 0, 1, 16.0, ordinal)], at(ordinal));
        machine.take_ends(usize::MAX);
    }
    assert_eq!(machine.ready[&plc()].len(), 1);
    assert_eq!((machine.open.len(), machine.lists.len(), machine.deadlines.len()), (1, 1, 1));
}

#[test]
fn points_of_an_installation_that_is_gone_are_forgotten_once_they_are_safe() {
    let mut machine = machine();
    machine.commit([asked(1, 0, 0, 1, 16.0, 0), asked(1, 1, 1, 2, 16.0, 0)], at(0));
    assert_eq!((sent(&mut machine, 1), sent(&mut machine, 1)), (Some((1, 16.0)), Some((2, 16.0))));
    accept(&mut machine, 1, 2);
    accept(&mut machine, 2, 2);
    machine.gone(Generation(1), at(3));
    assert_eq!(machine.owed().0, 2);
    for _ in 0..2 {
        let (point, value, what) = next(&mut machine, 4).unwrap();
        assert_eq!((value, what), (Value::Real(6.0), What::Safe));
        machine.answered(&point, What::Safe, Answer::Accepted, at(5));
    }
    assert_eq!((machine.points.len(), machine.counts.len(), machine.deadlines.len()), (0, 0, 0));
    assert_eq!(ends(&mut machine).len(), 4);
}

#[test]
fn the_ends_of_one_list_stay_together() {
    let mut machine = machine();
    machine
        .commit([asked(1, 0, 0, 1, 16.0, 0), asked(1, 1, 0, 2, 16.0, 0), asked(1, 2, 0, 3, 16.0, 0)], at(0));
    machine.tick(at(LIFE));
    machine.commit([asked(2, 0, 0, 4, 99.0, LIFE)], at(LIFE));
    assert_eq!(machine.take_ends(1).len(), 3);
    assert_eq!((machine.take_ends(1).len(), machine.ended()), (1, 4));
}

#[test]
fn nobody_vouches_beyond_a_time_that_was_set_back() {
    let mut machine = machine();
    let later = 1_000_000;
    machine.commit([asked(1, 0, 0, 1, 16.0, later)], at(later));
    assert_eq!(sent(&mut machine, later), Some((1, 16.0)));
    accept(&mut machine, 1, later);
    machine.commit([asked(2, 0, 0, 2, 16.0, later)], at(later));
    let (intents, driven) = machine.set_back(at(10));
    assert_eq!((intents.len(), intents[0].at, driven.len()), (1, at(10), 1));
    assert_eq!(driven[0].told.as_ref().unwrap().until, Some(at(10)));
    let all: Vec<_> = std::iter::from_fn(|| next(&mut machine, 11)).collect();
    assert!(all.contains(&(path(1), Value::Real(6.0), What::Safe)), "{all:?}");
    machine.tick(at(10 + LIFE));
    assert!(machine.open.keys().all(|place| place.ordinal != Ordinal(2)) || all.len() == 2);
}
