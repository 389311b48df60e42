//! Deeds of two versions against each other.

use std::collections::BTreeMap;

use super::*;
use bytes::Bytes;
use ironloom_types::changes::StateChanges;
use ironloom_types::effects::AlarmChange;
use ironloom_types::ids::{PointNumber, PointPath, SlotName, TenantId};
use ironloom_types::readings::NewPoint;

const AT: (Ordinal, Timestamp) = (Ordinal(7), Timestamp(1_000));

/// Derived readings: point, time and value.
fn derived_of(all: &[(&str, u64, f64)]) -> Effects {
    let mut effects = Effects::default();
    for (point, at, value) in all {
        let path = PointPath::new(TenantId::MAIN, point).unwrap();
        let known = effects.new_points.iter().position(|new| new.path == path);
        let index = known.unwrap_or_else(|| {
            effects.new_points.push(NewPoint { path, unit: None });
            effects.new_points.len() - 1
        });
        let (point, value) = (PointNumber::pending(index), ValueRef::Real(*value));
        effects.derived.push(point, Timestamp(*at), Quality::Good, value);
    }
    effects
}

fn facts(all: Vec<Effects>) -> Facts {
    let mut facts = Facts::default();
    all.into_iter().for_each(|effects| facts.effects(effects, None));
    facts
}

fn compared(comparison: &Comparison, kind: DifferenceKind) -> (u64, u64, u64) {
    let Compared { old, new, different, .. } = comparison.kinds.get(&kind).copied().unwrap_or_default();
    (old, new, different)
}

#[test]
fn the_same_in_other_pieces_is_the_same() {
    let mut comparison = Comparison::new(0.0, true);
    let old = facts(vec![derived_of(&[("a", 1, 1.0), ("b", 2, 2.0)])]);
    let new = facts(vec![derived_of(&[("b", 2, 2.0)]), derived_of(&[("a", 1, 1.0)])]);
    comparison.look(&old, &new, AT);
    assert_eq!(compared(&comparison, DifferenceKind::Derived), (2, 2, 0));
    // Twice the same is another thing than once.
    let twice = facts(vec![derived_of(&[("a", 3, 1.0), ("a", 3, 1.0)])]);
    comparison.look(&twice, &facts(vec![derived_of(&[("a", 3, 1.0)])]), AT);
    assert_eq!(compared(&comparison, DifferenceKind::Derived), (4, 3, 1));
    let difference = &comparison.differences[0];
    assert_eq!((difference.ordinal, difference.what.as_str(), &difference.new), (AT.0, "a", &None));
}

#[test]
fn numbers_within_the_tolerance_are_the_same_and_the_largest_difference_is_told() {
    let (old, new) =
        (facts(vec![derived_of(&[("a", 1, 100.0)])]), facts(vec![derived_of(&[("a", 1, 99.0)])]));
    for (tolerance, different) in [(0.0, 1), (0.0099, 1), (0.01, 0)] {
        let mut comparison = Comparison::new(tolerance, true);
        comparison.look(&old, &new, AT);
        assert_eq!(compared(&comparison, DifferenceKind::Derived), (1, 1, different), "{tolerance}");
        assert_eq!(comparison.kinds[&DifferenceKind::Derived].largest, Some(0.01));
    }
    let odd = |value| facts(vec![derived_of(&[("a", 1, value)])]);
    let mut comparison = Comparison::new(0.5, true);
    comparison.look(&odd(f64::NAN), &odd(f64::NAN), AT);
    assert_eq!(comparison.different(), 0, "each NaN is itself");
    comparison.look(&odd(f64::NAN), &odd(1.0), AT);
    comparison.look(&odd(f64::INFINITY), &odd(1.0), AT);
    assert_eq!(comparison.different(), 2, "no tolerance is that large");
}

#[test]
fn alarms_differ_by_what_they_say_and_timers_by_why_they_failed() {
    let raised = |message: &str| {
        let key = (SlotName::new("hot").unwrap(), "attic".into());
        let act = AlarmAct::Raise { message: message.into(), since: None };
        facts(vec![Effects { alarms: vec![AlarmChange { key, act }], ..Effects::default() }])
    };
    let mut comparison = Comparison::new(0.0, true);
    let long = "x".repeat(200);
    comparison.look(&raised(&format!("{long}1")), &raised(&format!("{long}2")), AT);
    assert_eq!(compared(&comparison, DifferenceKind::Alarm), (1, 1, 1), "also behind what is shown");
    assert_eq!(comparison.differences[0].what, "hot of attic");
    let failed = |why: &str| {
        let mut facts = Facts::default();
        facts.timer("daily", why.to_owned());
        facts
    };
    comparison.look(&failed("a trap"), &failed("a trap"), AT);
    comparison.look(&failed("a trap"), &Facts::default(), AT);
    assert_eq!(compared(&comparison, DifferenceKind::Timer), (2, 1, 1));
}

fn replica(state: &[(&str, &str)]) -> Replica {
    let state = state.iter().map(|(key, value)| ((*key).into(), Bytes::copy_from_slice(value.as_bytes())));
    Replica::new(state.collect(), BTreeMap::new(), BTreeMap::new(), Timestamp(0))
}

#[test]
fn states_are_compared_key_by_key_and_the_first_change_that_differs_is_told_once() {
    let changes = |all: &[(&str, Option<&str>)]| {
        let mut state = StateChanges::default();
        all.iter().for_each(|(key, value)| state.push(key, value.map(str::as_bytes)));
        facts(vec![Effects { state, ..Effects::default() }])
    };
    let mut comparison = Comparison::new(0.0, true);
    comparison.look(&changes(&[("a", Some("1"))]), &changes(&[("a", Some("1"))]), AT);
    assert!(comparison.differences.is_empty());
    comparison.look(
        &changes(&[("a", Some("1")), ("b", None)]),
        &changes(&[("a", Some("1")), ("c", Some("2"))]),
        AT,
    );
    comparison.look(&changes(&[("d", None)]), &changes(&[]), AT);
    let state: Vec<_> = comparison.differences.iter().map(|one| (&*one.what, one.old.as_deref())).collect();
    assert_eq!(state, [("b", Some("deleted"))]);
    let found = comparison.end(
        &replica(&[("a", "1"), ("b", "2"), ("c", "3")]),
        &replica(&[("a", "1"), ("b", "0"), ("d", "4")]),
        AT,
    );
    assert_eq!((found.same, found.different, found.only_old, found.only_new), (1, 1, 1, 1));
    assert_eq!(found.samples, ["b", "c", "d"]);
    assert_eq!(compared(&comparison, DifferenceKind::State), (3, 3, 3));

    // Forms of their own say nothing.
    let mut comparison = Comparison::new(0.0, false);
    let found = comparison.end(&replica(&[("a", "1")]), &replica(&[("b", "1")]), AT);
    assert!(found.migrated && comparison.different() == 0);
}
