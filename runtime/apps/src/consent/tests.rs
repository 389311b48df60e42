//! Rights: what goes beyond others, and the sentences.

use super::*;
use crate::testing::{PIGS, id};

fn rights(text: &str, bindings: &[(&str, &str)], grants: &[(&str, &str)]) -> Rights {
    let manifest = Manifest::parse(text).unwrap();
    let slot = |name: &str| SlotName::new(name).unwrap();
    let bound = bindings
        .iter()
        .map(|(name, pattern)| (slot(name), crate::binding::Patterns::Many(vec![(*pattern).to_owned()])));
    let bindings = Bindings::new(&manifest, &id("pigs"), &bound.collect()).unwrap();
    let outputs = grants.iter().map(|(name, allow)| (slot(name), OutputGrant::of(allow.parse().unwrap())));
    let grants = Grants { outputs: outputs.collect(), ..Grants::default() };
    Rights::of(&manifest, None, &bindings, &grants, &Limits::default())
}

const WEIGHT: (&str, &str) = ("weight", "farm/{barn}/pig/{tag}/weight");
const GATE: (&str, &str) = ("gate", "farm/{barn}/gate/{tag}");

fn beyond(one: &Rights, other: &Rights) -> Vec<String> {
    one.beyond(other).into_iter().map(|excess| format!("{}: {}", excess.field, excess.text)).collect()
}

#[test]
fn the_same_and_narrower_rights_go_beyond_nothing() {
    let wide = rights(PIGS, &[WEIGHT, GATE], &[("gate", "0..10")]);
    let narrow = rights(
        PIGS,
        &[("weight", "farm/barn-2/pig/{t}/weight"), ("gate", "farm/barn-2/gate/{t}")],
        &[("gate", "0, 2..9")],
    );
    assert_eq!(beyond(&wide, &wide), [""; 0]);
    assert_eq!(beyond(&narrow, &wide), [""; 0]);
    assert_eq!(
        beyond(&wide, &narrow),
        [
            "inputs.weight: the input weight reads farm/*/pig/*/weight",
            "outputs.gate: the output gate writes farm/*/gate/*",
            "outputs.gate: the output gate sets 0..10, and not only 0, 2..9",
        ]
    );
}

#[test]
fn set_points_that_come_more_often_are_more() {
    let with = |every: Option<&str>| {
        let mut rights = rights(PIGS, &[WEIGHT, GATE], &[("gate", "6..32")]);
        let gate = rights.outputs.values_mut().find_map(|output| output.grant.as_mut()).unwrap();
        gate.every = every.map(|every| every.parse().unwrap());
        rights
    };
    let (ten, minute) = (with(Some("10 s")), with(Some("1 min")));
    assert_eq!(beyond(&minute, &ten), [""; 0]);
    assert_eq!(
        beyond(&ten, &minute),
        ["outputs.gate: set-points of the output gate come once in 10 s, and not only in 1 min"]
    );
    assert_eq!(
        beyond(&with(None), &ten),
        ["outputs.gate: set-points of the output gate come as often as it asks"]
    );
    let manifest = Manifest::parse(PIGS).unwrap();
    let told = Words::of(&ten, &manifest, |_| None, &PartialLimits::default());
    let sets = "sets farm/*/gate/*, 6 to 32, at most once in 10 s (output gate)".to_owned();
    assert!(told.gets.contains(&sets), "{told:?}");
}

#[test]
fn a_digest_names_rights_package_and_settings() {
    let wide = rights(PIGS, &[WEIGHT, GATE], &[("gate", "0..10")]);
    let narrow = rights(PIGS, &[WEIGHT, GATE], &[("gate", "0..9")]);
    let packages = [Digest::of(b"one"), Digest::of(b"other")];
    let settings = |breed: &str| BTreeMap::from([("breed".to_owned(), breed.to_owned())]);
    let one = wide.digest(packages[0], &settings("duroc"));
    assert_eq!(one, wide.clone().digest(packages[0], &settings("duroc")));
    assert_ne!(one, narrow.digest(packages[0], &settings("duroc")));
    assert_ne!(one, wide.digest(packages[1], &settings("duroc")), "another package with the same rights");
    assert_ne!(one, wide.digest(packages[0], &settings("landrace")), "another setting");
}

#[test]
fn each_kind_of_right_that_is_more_is_found() {
    let before = rights(PIGS, &[WEIGHT], &[]);
    let with_alarms = format!("{PIGS}[alarms.late]\nseverity = \"low\"\n");
    assert_eq!(
        beyond(&rights(&with_alarms, &[WEIGHT], &[]), &before),
        ["capabilities.alarms: raises alarms"]
    );
    let with_input = format!("{PIGS}[inputs.water]\ntype = \"real\"\noptional = true\n");
    assert_eq!(
        beyond(&rights(&with_input, &[WEIGHT], &[]), &before),
        ["inputs.water: the input water is new: reads nothing yet, since it isn't bound"]
    );
    let mut more = before.clone();
    more.limits.set(LimitKind::Memory, 64 << 20);
    assert_eq!(beyond(&more, &before), ["limits.memory: the limit memory is 64 MiB, more than 32 MiB"]);
    more = Rights { mode: Mode::Shadow, ..before.clone() };
    assert_eq!(beyond(&more, &before), [""; 0]);
    assert_eq!(beyond(&before, &more), ["mode: the mode of its set-points is act, not shadow"]);
}

#[test]
fn what_the_present_version_cannot_have_was_not_taken_from_it() {
    let before = rights(PIGS, &[WEIGHT, GATE], &[("gate", "0..10")]);
    let pigs = Manifest::parse(PIGS).unwrap();
    let fields = |present: &Rights, manifest: &Manifest| {
        let taken = before.taken_away(present, manifest);
        taken.into_iter().map(|excess| excess.field).collect::<Vec<_>>()
    };
    assert_eq!(fields(&before, &pigs), [""; 0]);
    // An admin's deeds.
    assert_eq!(fields(&Rights { mode: Mode::Shadow, ..before.clone() }, &pigs), ["mode"]);
    assert_eq!(fields(&rights(PIGS, &[WEIGHT, GATE], &[]), &pigs), ["outputs.gate"]);
    assert_eq!(fields(&rights(PIGS, &[WEIGHT, GATE], &[("gate", "0..9")]), &pigs), ["outputs.gate"]);
    let narrow = [("weight", "farm/barn-2/pig/{t}/weight"), ("gate", "farm/barn-2/gate/{t}")];
    let narrow = rights(PIGS, &narrow, &[("gate", "0..10")]);
    assert_eq!(fields(&narrow, &pigs), ["inputs.weight", "outputs.gate"]);
    let mut lower = before.clone();
    lower.limits.set(LimitKind::Memory, 8 << 20);
    assert_eq!(fields(&lower, &pigs), ["limits.memory"]);
    // The version's own: it asks for no more, and has neither output nor capability.
    let text = "manifest = 1\nid = \"com.example.pigs\"\nname = \"Pigs\"\nversion = \"9.0.0\"\n\
                [inputs.weight]\ntype = \"real\"\nunit = \"kg\"\n[limits]\nmemory = \"8 MiB\"\n";
    let manifest = Manifest::parse(text).unwrap();
    let mut other = rights(text, &[WEIGHT], &[]);
    (other.app, other.limits) = (before.app.clone(), lower.limits);
    assert_eq!(fields(&other, &manifest), [""; 0]);
    other.mode = Mode::Advise;
    assert_eq!(fields(&other, &manifest), ["mode"]);
}

#[test]
fn free_segments_and_many_points_are_told() {
    let manifest = Manifest::parse(PIGS).unwrap();
    let words =
        |rights: &Rights, points| Words::of(rights, &manifest, |_| Some(points), &PartialLimits::default());
    let bound = rights(PIGS, &[WEIGHT, GATE], &[("gate", "0, 6..32")]);
    let told = words(&bound, 72);
    assert_eq!(told.gets[0], "reads farm/*/pig/*/weight, 72 points now, and any that appear (input weight)");
    assert!(told.gets.contains(&"sets farm/*/gate/*, 0, 6 to 32 (output gate)".to_owned()), "{told:?}");
    assert!(told.gets.contains(&"at most 32 MiB and 200 ms a call".to_owned()), "{told:?}");
    assert_eq!(told.warnings, [""; 0]);
    let refused =
        |words: &Words, right: &str| words.refused.iter().find(|one| one.right == right).map(|one| one.by);
    assert_eq!(refused(&told, "inputs.feed"), Some(RefusedBy::Grant));
    assert_eq!(refused(&told, "capabilities.alarms"), Some(RefusedBy::Request));
    // The app asks for 300 ms.
    assert_eq!(refused(&told, "limits.cpu"), Some(RefusedBy::Grant));
    let policy = PartialLimits::from(&Limits::default());
    let of_policy = Words::of(&bound, &manifest, |_| None, &policy);
    assert_eq!(refused(&of_policy, "limits.cpu"), Some(RefusedBy::Policy));
    assert_eq!(
        words(&bound, 1_001).warnings,
        ["the input weight reads 1001 points, which is more than 1000"]
    );
    let anywhere = rights(PIGS, &[("weight", "{farm}/weight")], &[]);
    assert_eq!(
        words(&anywhere, 3).warnings,
        ["the input weight reads */weight, whatever the points begin with"]
    );
    let fixed = rights(PIGS, &[("weight", "farm/weight")], &[]);
    assert_eq!(words(&fixed, 1).gets[0], "reads farm/weight, 1 point now (input weight)");
    assert_eq!(refused(&words(&fixed, 1), "outputs.gate"), Some(RefusedBy::Grant));
}
