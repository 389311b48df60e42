//! Routing against a search through all patterns.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::manifest::ValueType;
use crate::pattern::Pattern;
use crate::unit;
use ironloom_types::ids::{SlotName, TenantId};
use ironloom_types::limits::MAX_SHAPES;

fn input(unit: Option<&str>, patterns: &[&str]) -> InputBinding {
    InputBinding {
        name: SlotName::new("in").unwrap(),
        value_type: ValueType::Real,
        unit: unit.map(Arc::from),
        conversions: Vec::new(),
        patterns: patterns.iter().map(|text| Pattern::new(TenantId::MAIN, text).unwrap()).collect(),
    }
}

fn path(text: &str) -> PointPath {
    PointPath::new(TenantId::MAIN, text).unwrap()
}

/// The table's answer about a point: lane, input, entity.
fn shown(table: &RoutingTable, point: u32) -> Vec<(u32, u16, String)> {
    let matches = table.matches(PointNumber(point));
    let show = |one: &Match| {
        let entities = table.entities(one.lane()).unwrap();
        (one.lane(), one.input(), entities.read().text(one.entity()).to_owned())
    };
    matches.iter().map(show).collect()
}

#[test]
fn a_reading_goes_once_to_each_input_by_the_first_pattern() {
    let mut table = RoutingTable::new();
    table.set_lane(7, &[input(None, &["a/{x}/w", "{x}/b/w"]), input(None, &["a/b/w"]), input(None, &[])], []);
    assert!(table.add_point(PointNumber(0), &path("a/b/w"), None).is_empty());
    assert_eq!(shown(&table, 0), [(7, 0, "b".to_owned()), (7, 1, String::new())]);
    assert_eq!(shown(&table, 1), []);
    assert_eq!(table.matches(PointNumber(u32::MAX)), []);
}

#[test]
fn one_entity_has_one_number_in_all_inputs() {
    let mut table = RoutingTable::new();
    table.set_lane(0, &[input(None, &["{pig}/weight"]), input(None, &["{pig}/feed"])], []);
    let paths = ["a/weight", "b/weight", "b/feed"].map(path);
    for (number, path) in paths.iter().enumerate() {
        table.add_point(PointNumber(number as u32), path, None);
    }
    let entity = |table: &RoutingTable, point| table.matches(PointNumber(point))[0].entity();
    assert_eq!(entity(&table, 1), entity(&table, 2));
    assert_ne!(entity(&table, 0), entity(&table, 1));
    let entities = table.entities(0).unwrap();
    assert_eq!(entities.read().number("b"), Some(entity(&table, 1)));
    assert_eq!(entities.read().number("c"), None);
    assert_eq!(entities.read().given(), 2);
}

#[test]
fn a_second_point_of_an_entity_and_another_unit_are_left_out_and_reported() {
    let mut table = RoutingTable::new();
    table.set_lane(3, &[input(Some("kg"), &["old/{x}", "new/{x}"])], []);
    assert_eq!(table.add_point(PointNumber(0), &path("old/1"), Some("kg")), []);
    let left_out = table.add_point(PointNumber(1), &path("new/1"), None);
    let reason = LeftOutReason::SameEntity { entity: "1".to_owned() };
    assert_eq!(left_out, [LeftOut { lane: 3, input: 0, point: PointNumber(1), reason }]);
    let left_out = table.add_point(PointNumber(2), &path("new/2"), Some("s"));
    let unit = |point: &str| LeftOutReason::Unit {
        point: point.to_owned(),
        input: "kg".to_owned(),
        why: NoConversion::Unlike,
    };
    let reason = unit("s");
    assert_eq!(left_out, [LeftOut { lane: 3, input: 0, point: PointNumber(2), reason }]);
    // What was left out for its unit has taken no entity.
    assert_eq!(table.add_point(PointNumber(3), &path("old/2"), None), []);
    let sizes: Vec<usize> = (0..4).map(|point| table.matches(PointNumber(point)).len()).collect();
    assert_eq!(sizes, [1, 0, 0, 1]);
}

/// A point, and its unit.
type Point = (PointPath, Option<&'static str>);

/// Worked out for each point alone, with nothing remembered but the entities that are taken.
#[derive(Default)]
struct Naive {
    lanes: BTreeMap<u32, Vec<InputBinding>>,
    /// `None` where a point was removed.
    points: Vec<Option<Point>>,
}

/// The lane, input and entity that each point is matched to.
type Matches = Vec<Vec<(u32, u16, String)>>;

impl Naive {
    /// The matches of each point, and what is left out.
    fn matches(&self) -> (Matches, BTreeSet<(u32, u16, u32)>) {
        let (mut taken, mut left_out) = (BTreeSet::new(), BTreeSet::new());
        let mut all = Vec::new();
        for (point, known) in self.points.iter().enumerate() {
            let mut found = Vec::new();
            let Some((path, unit)) = known else {
                all.push(found);
                continue;
            };
            for (&lane, inputs) in &self.lanes {
                for (number, input) in inputs.iter().enumerate() {
                    let Some(entity) = input.patterns.iter().find_map(|pattern| pattern.entity(path)) else {
                        continue;
                    };
                    if unit::between(*unit, input.unit.as_deref()).is_ok()
                        && taken.insert((lane, number, entity.clone()))
                    {
                        found.push((lane, number as u16, entity));
                    } else {
                        left_out.insert((lane, number as u16, point as u32));
                    }
                }
            }
            all.push(found);
        }
        (all, left_out)
    }

    fn known(&self, number: PointNumber) -> Option<(&PointPath, Option<&str>)> {
        self.points[number.0 as usize].as_ref().map(|(path, unit)| (path, *unit))
    }

    fn numbered(&self) -> impl Iterator<Item = (PointNumber, &PointPath, Option<&str>)> {
        let points = (0..self.points.len() as u32).map(PointNumber);
        points.filter_map(|number| self.known(number).map(|(path, unit)| (number, path, unit)))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u8>),
    /// With its unit, and how many of the points are matched beside the table.
    Set(u32, Option<&'static str>, Vec<Vec<Vec<u8>>>, usize),
    Remove(u32),
    /// Points get a unit, where they have none, or are removed.
    Replace(Vec<(usize, Option<&'static str>)>),
}

/// Segments are a, b, c; in a pattern 3 and above are captures.
fn text(segments: &[u8]) -> String {
    let show = |(at, segment): (usize, &u8)| match segment {
        0..3 => ["a", "b", "c"][usize::from(*segment)].to_owned(),
        _ => format!("{{x{at}}}"),
    };
    segments.iter().enumerate().map(show).collect::<Vec<_>>().join("/")
}

fn unit() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("kg"), Just("s"), Just("g")]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pattern = prop::collection::vec(0..6_u8, 1..4);
    let inputs = prop::collection::vec(prop::collection::vec(pattern, 0..4), 0..3);
    let unit_of_input = prop::option::weighted(0.3, unit());
    let step = prop_oneof![
        6 => prop::collection::vec(0..3_u8, 1..4).prop_map(Step::Add),
        2 => (0..4_u32, unit_of_input, inputs, 0..20_usize).prop_map(|(lane, unit, inputs, before)| Step::Set(lane, unit, inputs, before)),
        1 => (0..4_u32).prop_map(Step::Remove),
        2 => prop::collection::vec((0..20_usize, prop::option::of(unit())), 1..4).prop_map(Step::Replace),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_table_agrees_with_a_naive_matcher(steps in steps()) {
        let mut table = RoutingTable::new();
        let mut naive = Naive::default();
        let mut left_out = BTreeSet::new();
        let name = |one: &LeftOut| (one.lane, one.input, one.point.0);
        for step in steps {
            match step {
                Step::Add(segments) => {
                    let path = path(&text(&segments));
                    if naive.points.iter().flatten().any(|(known, _)| *known == path) {
                        continue;
                    }
                    let number = PointNumber(naive.points.len() as u32);
                    left_out.extend(table.add_point(number, &path, None).iter().map(name));
                    naive.points.push(Some((path, None)));
                }
                Step::Set(lane, unit, inputs, before) => {
                    let inputs: Vec<InputBinding> = inputs
                        .iter()
                        .map(|patterns| {
                            let texts: Vec<String> = patterns.iter().map(|pattern| text(pattern)).collect();
                            input(unit, &texts.iter().map(String::as_str).collect::<Vec<_>>())
                        })
                        .collect();
                    if let Some(inputs) = naive.lanes.remove(&lane) {
                        table.remove_lane(lane, &inputs);
                    }
                    let mut prepared = Prepared::new(&inputs);
                    for (number, path, unit) in naive.numbered().take(before) {
                        prepared.add(number, path, unit);
                    }
                    let next = prepared.next();
                    let others = naive.numbered().filter(|(number, ..)| *number >= next);
                    let now = table.put_lane(lane, &inputs, prepared, others);
                    left_out.retain(|(of, ..)| *of != lane);
                    left_out.extend(now.iter().map(name));
                    naive.lanes.insert(lane, inputs);
                }
                Step::Remove(lane) => {
                    if let Some(inputs) = naive.lanes.remove(&lane) {
                        table.remove_lane(lane, &inputs);
                    }
                    left_out.retain(|(of, ..)| *of != lane);
                }
                Step::Replace(points) => {
                    let wanted: BTreeMap<usize, Option<&'static str>> = points.into_iter().collect();
                    let mut replaced = Vec::new();
                    for (number, unit) in wanted {
                        let Some(Some((path, before))) = naive.points.get(number).cloned() else { continue };
                        let unit = unit.map(|unit| before.unwrap_or(unit));
                        naive.points[number] = unit.map(|unit| (path.clone(), Some(unit)));
                        replaced.push((PointNumber(number as u32), path, unit));
                    }
                    let replaced = replaced.iter().map(|(number, path, unit)| Replaced {
                        number: *number,
                        path,
                        unit: *unit,
                        is_removed: unit.is_none(),
                    });
                    let rematched = table.replace_points(replaced, |number| naive.known(number));
                    for WasLeftOut { lane, input, point } in rematched.were_left_out {
                        prop_assert!(left_out.remove(&(lane, input, point.0)) || rematched.left_out.iter().any(|one| name(one) == (lane, input, point.0)));
                    }
                    left_out.extend(rematched.left_out.iter().map(name));
                }
            }
            let all: Vec<_> = (0..naive.points.len() as u32).map(|point| shown(&table, point)).collect();
            let (expected, expected_left_out) = naive.matches();
            prop_assert_eq!(all, expected);
            prop_assert_eq!(&left_out, &expected_left_out);
        }
    }
}

#[test]
fn points_are_matched_anew_and_free_their_entities() {
    let mut table = RoutingTable::new();
    let inputs = [input(Some("kg"), &["a/{x}", "b/{x}"]), input(None, &["{y}/1"])];
    table.set_lane(2, &inputs, []);
    let paths = ["a/1", "b/1", "c/1"].map(path);
    table.add_point(PointNumber(0), &paths[0], None);
    assert_eq!(table.add_point(PointNumber(1), &paths[1], None).len(), 1, "the entity 1 is taken");
    table.add_point(PointNumber(2), &paths[2], None);
    let both = |entity: &str| [(2, 0, "1".to_owned()), (2, 1, entity.to_owned())];
    let known = |number: PointNumber| Some((&paths[number.0 as usize], None));
    let replaced = |number: usize, unit, is_removed| Replaced {
        number: PointNumber(number as u32),
        path: &paths[number],
        unit,
        is_removed,
    };
    assert_eq!(shown(&table, 0), both("a"));
    // Its unit no longer fits the first input, so that the other point is the entity now.
    let rematched = table.replace_points([replaced(0, Some("s"), false)], known);
    let why = NoConversion::Unlike;
    let reason = LeftOutReason::Unit { point: "s".to_owned(), input: "kg".to_owned(), why };
    let left_out = vec![LeftOut { lane: 2, input: 0, point: PointNumber(0), reason }];
    let were_left_out = vec![WasLeftOut { lane: 2, input: 0, point: PointNumber(1) }];
    assert_eq!(rematched, Rematched { were_left_out, left_out });
    assert_eq!(shown(&table, 0), [(2, 1, "a".to_owned())]);
    assert_eq!(shown(&table, 1), both("b"));
    let rematched = table.replace_points([replaced(0, None, true), replaced(1, None, true)], known);
    let were_left_out = vec![WasLeftOut { lane: 2, input: 0, point: PointNumber(0) }];
    assert_eq!(rematched, Rematched { were_left_out, left_out: Vec::new() });
    assert_eq!((shown(&table, 0), shown(&table, 1)), (vec![], vec![]));
    assert_eq!(shown(&table, 2), [(2, 1, "c".to_owned())]);
    // A point of the same path is another one, and has its entity.
    assert!(table.add_point(PointNumber(3), &paths[0], None).is_empty());
    assert_eq!(shown(&table, 3), both("a"));
}

#[test]
fn entities_of_points_that_are_removed_take_no_memory_and_the_others_keep_theirs() {
    let mut table = RoutingTable::new();
    table.set_lane(0, &[input(None, &["site/{x}"]), input(None, &["apps/{x}", "other/{x}"])], []);
    let stays = path("site/shared");
    table.add_point(PointNumber(0), &stays, None);
    let shared = table.matches(PointNumber(0))[0].entity();
    // An app that is installed, purged and installed again, with other names each time.
    let (rounds, points) = (200, 100);
    for round in 0..rounds {
        let long = "x".repeat(100);
        let name =
            |n: u32| if n == 0 { path("apps/shared") } else { path(&format!("apps/{round}-{n}-{long}")) };
        let paths: Vec<PointPath> = (0..points).map(name).collect();
        let first = 1 + round * points;
        for (number, path) in (first..).zip(&paths) {
            assert_eq!(table.add_point(PointNumber(number), path, None), []);
        }
        let removed = (first..).zip(&paths).map(|(number, path)| Replaced {
            number: PointNumber(number),
            path,
            unit: None,
            is_removed: true,
        });
        table.replace_points(removed, |_| None);
    }
    let entities = table.entities(0).unwrap();
    let entities = entities.read();
    assert_eq!((entities.text(shared), entities.number("shared")), ("shared", Some(shared)));
    assert_eq!(
        (entities.lines(&[shared, shared]), entities.lines(&[])),
        ("shared\nshared".into(), String::new())
    );
    let round = points as usize * 120;
    assert!(entities.bytes() < (64 << 10) + 2 * round, "{} bytes of {rounds} rounds", entities.bytes());
    assert_eq!(entities.number(&format!("7-3-{}", "x".repeat(100))), None);
}

#[test]
fn an_entity_whose_point_lost_its_match_by_a_unit_is_kept_for_what_waits() {
    let mut table = RoutingTable::new();
    table.set_lane(0, &[input(Some("kg"), &["a/{x}"]), input(None, &["b/{x}"])], []);
    let paths = ["a/1", "b/1"].map(path);
    table.add_point(PointNumber(0), &paths[0], None);
    table.add_point(PointNumber(1), &paths[1], None);
    let waits = table.matches(PointNumber(0))[0];
    let replaced = |number: usize, unit, is_removed| Replaced {
        number: PointNumber(number as u32),
        path: &paths[number],
        unit,
        is_removed,
    };
    table.replace_points([replaced(0, Some("s"), false)], |_| None);
    table.replace_points([replaced(1, None, true)], |_| None);
    let entities = table.entities(0).unwrap();
    assert_eq!(entities.read().text(waits.entity()), "1");
}

#[test]
fn an_entity_has_the_conversion_of_the_point_that_gives_it() {
    let kept = Known { unit: "g".into(), conversion: Conversion { factor: 2.0, offset: 1.0 } };
    let input =
        InputBinding { conversions: vec![kept.clone()], ..input(Some("kg"), &["old/{x}", "new/{x}"]) };
    let mut table = RoutingTable::new();
    table.set_lane(3, &[input], []);
    let entities = table.entities(3).unwrap();
    let conversion = |entity: &str| {
        let read = entities.read();
        read.conversion(0, read.number(entity).unwrap())
    };
    let paths = ["old/1", "old/2", "old/3", "new/1"].map(path);
    for (number, unit) in [Some("g"), Some("t"), None, Some("kg")].into_iter().enumerate() {
        table.add_point(PointNumber(number as u32), &paths[number], unit);
    }
    assert_eq!(conversion("1"), Some(kept.conversion), "the revision's goes before the library's");
    assert_eq!(conversion("2"), Some(Conversion { factor: 1000.0, offset: 0.0 }));
    assert_eq!(conversion("3"), None);
    // With the first point gone, the one that waited gives the entity, and its readings need no conversion.
    let removed = Replaced { number: PointNumber(0), path: &paths[0], unit: None, is_removed: true };
    table.replace_points([removed], |number| Some((&paths[number.0 as usize], Some("kg"))));
    assert_eq!(conversion("1"), None);
    // One that is given a unit is converted from then on.
    let given = Replaced { number: PointNumber(2), path: &paths[2], unit: Some("t"), is_removed: false };
    table.replace_points([given], |_| None);
    assert_eq!(conversion("3"), Some(Conversion { factor: 1000.0, offset: 0.0 }));
}

#[test]
fn a_site_s_patterns_have_so_many_shapes_and_no_more() {
    // All choices of captures among ten segments: one more than a thousand, and some.
    let texts: Vec<String> = (0..1_024_u32)
        .map(|choice| {
            let segment = |at: u32| if choice >> at & 1 == 0 { "a".to_owned() } else { format!("{{c{at}}}") };
            (0..10).map(segment).collect::<Vec<_>>().join("/")
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bindings =
        |texts: &[&str]| crate::binding::Bindings { inputs: vec![input(None, texts)], outputs: Vec::new() };
    let mut table = RoutingTable::new();
    let others = &texts[..texts.len() - 30];
    table.set_lane(0, &bindings(others).inputs, []);
    let beside = others.len();
    assert!(table.shapes().take(&bindings(&texts[beside..beside + MAX_SHAPES - beside])));
    assert!(!table.shapes().take(&bindings(&texts[beside..=beside + MAX_SHAPES - beside])));
    // Those that there are already cost nothing more.
    assert!(table.shapes().take(&bindings(others)));
    assert!(table.about(&path("b/b")) >= MAX_SHAPES / 20, "each costs a new point a look");
}
