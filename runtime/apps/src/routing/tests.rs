//! Routing against a search through all patterns.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::manifest::ValueType;
use crate::pattern::Pattern;
use ironloom_types::ids::SlotName;

fn input(unit: Option<&str>, patterns: &[&str]) -> InputBinding {
    InputBinding {
        name: SlotName::new("in").unwrap(),
        value_type: ValueType::Real,
        unit: unit.map(Arc::from),
        patterns: patterns.iter().map(|text| Pattern::new(text).unwrap()).collect(),
    }
}

fn path(text: &str) -> PointPath {
    PointPath::new(text).unwrap()
}

/// What the table says about a point: lane, input, entity.
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
fn one_entity_has_one_number_in_all_inputs_and_keeps_it() {
    let mut table = RoutingTable::new();
    table.set_lane(0, &[input(None, &["{pig}/weight"]), input(None, &["{pig}/feed"])], []);
    let paths = ["a/weight", "b/weight", "b/feed"].map(path);
    for (number, path) in paths.iter().enumerate() {
        table.add_point(PointNumber(number as u32), path, None);
    }
    let entity = |table: &RoutingTable, point| table.matches(PointNumber(point))[0].entity();
    assert_eq!(entity(&table, 1), entity(&table, 2));
    assert_ne!(entity(&table, 0), entity(&table, 1));
    let before = entity(&table, 1);
    let points = paths.iter().enumerate().map(|(number, path)| (PointNumber(number as u32), path, None));
    table.set_lane(0, &[input(None, &["{pig}/weight"])], points);
    assert_eq!(entity(&table, 1), before);
    assert_eq!(table.matches(PointNumber(2)), []);
    let entities = table.entities(0).unwrap();
    assert_eq!(entities.read().number("b"), Some(before));
    assert_eq!(entities.read().number("c"), None);
    assert_eq!(entities.read().len(), 2);
}

#[test]
fn a_second_point_of_an_entity_and_another_unit_are_left_out_and_reported() {
    let mut table = RoutingTable::new();
    table.set_lane(3, &[input(Some("kg"), &["old/{x}", "new/{x}"])], []);
    assert_eq!(table.add_point(PointNumber(0), &path("old/1"), Some("kg")), []);
    let left_out = table.add_point(PointNumber(1), &path("new/1"), None);
    let reason = LeftOutReason::SameEntity { entity: "1".to_owned() };
    assert_eq!(left_out, [LeftOut { lane: 3, input: 0, point: PointNumber(1), reason }]);
    let left_out = table.add_point(PointNumber(2), &path("new/2"), Some("g"));
    let reason = LeftOutReason::Unit { point: "g".to_owned(), input: "kg".to_owned() };
    assert_eq!(left_out, [LeftOut { lane: 3, input: 0, point: PointNumber(2), reason }]);
    // What was left out for its unit has taken no entity.
    assert_eq!(table.add_point(PointNumber(3), &path("old/2"), None), []);
    let sizes: Vec<usize> = (0..4).map(|point| table.matches(PointNumber(point)).len()).collect();
    assert_eq!(sizes, [1, 0, 0, 1]);
}

/// Worked out for each point alone, with nothing remembered but the entities that are taken.
#[derive(Default)]
struct Naive {
    lanes: BTreeMap<u32, Vec<InputBinding>>,
    points: Vec<PointPath>,
}

impl Naive {
    fn matches(&self) -> Vec<Vec<(u32, u16, String)>> {
        let mut taken = BTreeSet::new();
        let mut all = Vec::new();
        for point in &self.points {
            let mut found = Vec::new();
            for (&lane, inputs) in &self.lanes {
                for (number, input) in inputs.iter().enumerate() {
                    let entity = input.patterns.iter().find_map(|pattern| pattern.entity(point));
                    if let Some(entity) = entity
                        && taken.insert((lane, number, entity.clone()))
                    {
                        found.push((lane, number as u16, entity));
                    }
                }
            }
            all.push(found);
        }
        all
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u8>),
    Set(u32, Vec<Vec<Vec<u8>>>),
    Remove(u32),
}

/// Segments are a, b, c; in a pattern 3 and above are captures.
fn text(segments: &[u8]) -> String {
    let show = |(at, segment): (usize, &u8)| match segment {
        0..3 => ["a", "b", "c"][usize::from(*segment)].to_owned(),
        _ => format!("{{x{at}}}"),
    };
    segments.iter().enumerate().map(show).collect::<Vec<_>>().join("/")
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pattern = prop::collection::vec(0..6_u8, 1..4);
    let inputs = prop::collection::vec(prop::collection::vec(pattern, 0..4), 0..3);
    let step = prop_oneof![
        4 => prop::collection::vec(0..3_u8, 1..4).prop_map(Step::Add),
        2 => (0..4_u32, inputs).prop_map(|(lane, inputs)| Step::Set(lane, inputs)),
        1 => (0..4_u32).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_naive_matcher(steps in steps()) {
        let mut table = RoutingTable::new();
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Add(segments) => {
                    let path = path(&text(&segments));
                    if naive.points.contains(&path) {
                        continue;
                    }
                    table.add_point(PointNumber(naive.points.len() as u32), &path, None);
                    naive.points.push(path);
                }
                Step::Set(lane, inputs) => {
                    let inputs: Vec<InputBinding> = inputs
                        .iter()
                        .map(|patterns| {
                            let texts: Vec<String> = patterns.iter().map(|pattern| text(pattern)).collect();
                            input(None, &texts.iter().map(String::as_str).collect::<Vec<_>>())
                        })
                        .collect();
                    let points = naive.points.iter().enumerate();
                    table.set_lane(lane, &inputs, points.map(|(number, path)| (PointNumber(number as u32), path, None)));
                    naive.lanes.insert(lane, inputs);
                }
                Step::Remove(lane) => {
                    table.remove_lane(lane);
                    naive.lanes.remove(&lane);
                }
            }
            let all: Vec<_> = (0..naive.points.len() as u32).map(|point| shown(&table, point)).collect();
            prop_assert_eq!(all, naive.matches());
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
    assert_eq!(shown(&table, 0), both("a"));
    // Its unit no longer fits the first input, so that the other point can be the entity.
    let left_out = table.replace_points([(PointNumber(0), Some((&paths[0], Some("s"))))]);
    assert_eq!(left_out.len(), 1);
    assert_eq!(shown(&table, 0), [(2, 1, "a".to_owned())]);
    assert!(table.replace_points([(PointNumber(1), Some((&paths[1], Some("kg"))))]).is_empty());
    assert_eq!(shown(&table, 1), both("b"));
    assert!(table.replace_points([(PointNumber(0), None), (PointNumber(1), None)]).is_empty());
    assert_eq!((shown(&table, 0), shown(&table, 1)), (vec![], vec![]));
    assert_eq!(shown(&table, 2), [(2, 1, "c".to_owned())]);
    // A point of the same path is another one, and has its entity.
    assert!(table.add_point(PointNumber(3), &paths[0], None).is_empty());
    assert_eq!(shown(&table, 3), both("a"));
}
