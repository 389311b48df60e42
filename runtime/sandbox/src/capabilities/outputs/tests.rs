//! Outputs: derived readings, and what is refused.

use super::*;
use crate::bindings::types::{Frame, Quality, Value as WitValue, Values};
use crate::env::{Granted, NotGranted, OutputSlot, SetPoint, Target, UnknownEntity};
use ironloom_types::ids::{IntentId, PointPath, SlotName, TenantId};
use ironloom_types::limits::{MAX_DERIVED, MAX_EFFECT_BYTES, MAX_ENTITY};
use ironloom_types::readings::{Tag, Value, ValueRef};

/// Every entity makes a point, but `known` has one and `bad` has no place.
struct Bound;

impl OutputResolver for Bound {
    fn resolve(&self, output: usize, entity: &str) -> Result<Target, UnknownEntity> {
        match entity {
            "known" => Ok(Target::Known(PointNumber(output as u32))),
            "bad" => Err(UnknownEntity("`bad` has no place".to_owned())),
            _ => Ok(Target::New(NewPoint {
                path: PointPath::new(TenantId::MAIN, &format!("{output}/x{entity}")).unwrap(),
                unit: None,
            })),
        }
    }

    fn room(&self) -> PointRoom {
        PointRoom { own: 10, limit: 12, site: 11 }
    }

    /// Halves what is asked for; refuses what is below 1.
    fn set_point(&self, output: usize, asked: SetPoint<'_>) -> Result<Granted, NotGranted> {
        let value = match asked.value {
            Value::Real(value) if *value >= 1.0 => Value::Real(value / 2.0),
            value => return Err(NotGranted::Value(format!("{value:?}"))),
        };
        if asked.entity == "bad" {
            return Err(NotGranted::Entity("`bad` has no place".to_owned()));
        }
        let point = PointPath::new(TenantId::MAIN, &format!("{output}/{}", asked.entity)).unwrap();
        Ok(Granted { point, value, time_to_live: asked.time_to_live.min(10) })
    }

    fn intent_id(&self, index: u32) -> IntentId {
        IntentId([index as u8; 16])
    }
}

/// Why a batch isn't published.
fn refusal(view: &mut View<'_>, batch: &Batch) -> Error {
    match view.publish(batch).unwrap_err() {
        Failure::App(error) => error,
        Failure::End(overrun) => panic!("{overrun}"),
    }
}

struct Published {
    columns: Columns,
    new_points: Vec<NewPoint>,
}

fn with(call: impl FnOnce(&mut View<'_>)) -> Published {
    with_more_outputs(0, call)
}

/// An app with three outputs, and some more that nothing is published to.
fn with_more_outputs(more: usize, call: impl FnOnce(&mut View<'_>)) -> Published {
    let mut context = Context::new(Arc::new(Bound));
    let output =
        |name: &str, kind, value_type| OutputSlot { name: SlotName::new(name).unwrap(), kind, value_type };
    let mut outputs = vec![
        output("gain", OutputKind::Derived, Tag::Real),
        output("note", OutputKind::Derived, Tag::Text),
        output("heat", OutputKind::SetPoint, Tag::Real),
    ];
    outputs.extend((0..more).map(|number| output(&format!("more-{number}"), OutputKind::Derived, Tag::Real)));
    let app = AppContext { outputs, ..AppContext::default() };
    let (mut quota, meter) = (Quota::default(), Meter::unlimited());
    call(&mut View { context: &mut context, app: &app, quota: &mut quota, meter: &meter });
    let (columns, new_points, _) = context.into_parts();
    assert!(columns.is_sound());
    Published { columns, new_points }
}

fn frame(slot: &str, entity: &[u32], values: Values) -> Frame {
    let at = (0..entity.len() as u64).collect();
    Frame { slot: slot.to_owned(), entity: entity.to_vec(), at, order: None, quality: None, values }
}

fn batch(entities: &str, frames: &[Frame]) -> Batch {
    Batch { entities: entities.to_owned(), frames: frames.to_vec() }
}

fn reals(slot: &str, entity: &[u32]) -> Frame {
    frame(slot, entity, Values::Reals((0..entity.len()).map(|i| i as f64).collect()))
}

#[test]
fn a_new_point_is_made_once_for_each_output_and_entity() {
    let published = with(|view| {
        let texts = Values::Texts(vec!["x".to_owned(), "y".to_owned()]);
        // Entities repeat, within the table and over the calls.
        view.publish(&batch("a\nknown\na", &[reals("gain", &[0, 1, 2, 0]), frame("note", &[0, 2], texts)]))
            .unwrap();
        view.publish(&batch("a\nb", &[reals("gain", &[1, 0])])).unwrap();
    });
    let (gain_a, note_a, gain_b) =
        (PointNumber::pending(0), PointNumber::pending(1), PointNumber::pending(2));
    let known = PointNumber(0);
    assert_eq!(published.columns.points, [gain_a, known, gain_a, gain_a, note_a, note_a, gain_b, gain_a]);
    let paths: Vec<&str> = published.new_points.iter().map(|point| point.path.as_str()).collect();
    assert_eq!(paths, ["0/xa", "1/xa", "0/xb"]);
    assert_eq!(published.columns.value(5), ValueRef::Text("y"));
}

#[test]
fn an_empty_table_is_one_entity() {
    let published = with(|view| view.publish(&batch("", &[reals("gain", &[0])])).unwrap());
    assert_eq!(published.new_points[0].path.as_str(), "0/x");
}

#[test]
fn all_or_nothing_is_taken() {
    let published = with(|view| {
        let error = refusal(view, &batch("a\nbad", &[reals("gain", &[0, 1])]));
        assert!(matches!(error, Error::UnknownEntity(text) if text.contains("bad")));
        view.publish(&batch("b", &[reals("gain", &[0])])).unwrap();
    });
    assert_eq!((published.columns.len(), published.new_points.len()), (1, 1));
    assert_eq!(published.new_points[0].path.as_str(), "0/xb");
}

#[test]
fn malformed_batches_are_refused_with_the_output_s_name() {
    with(|view| {
        let mut refused = |frames: &[Frame]| refusal(view, &batch("a", frames));
        assert!(matches!(refused(&[reals("weight", &[0])]), Error::UnknownOutput(name) if name == "weight"));
        assert!(matches!(refused(&[reals("heat", &[0])]), Error::UnknownOutput(name) if name == "heat"));
        let integers = frame("gain", &[0], Values::Integers(vec![1]));
        assert!(
            matches!(refused(&[integers]), Error::WrongType(text) if text.contains("real") && text.contains("integer"))
        );
        let mut malformed = |frames: &[Frame]| match refused(frames) {
            Error::Malformed(text) => assert!(text.contains("gain") || text.contains("note"), "{text}"),
            other => panic!("{other:?}"),
        };
        malformed(&[reals("gain", &[1])]);
        malformed(&[reals("gain", &[0]), reals("gain", &[0])]);
        malformed(&[Frame { at: vec![], ..reals("gain", &[0]) }]);
        malformed(&[Frame { at: vec![u64::MAX], ..reals("gain", &[0]) }]);
        malformed(&[Frame { entity: vec![0, 0], ..reals("gain", &[0]) }]);
        malformed(&[Frame { quality: Some(vec![]), ..reals("gain", &[0]) }]);
        malformed(&[Frame { order: Some(vec![0]), ..reals("gain", &[0]) }]);
        malformed(&[frame("gain", &[0], Values::Reals(vec![f64::NAN]))]);
        malformed(&[frame("gain", &[0], Values::Reals(vec![f64::INFINITY]))]);
        malformed(&[frame("note", &[0], Values::Texts(vec!["x".repeat((64 << 10) + 1)]))]);
    });
}

#[test]
fn a_placeholder_of_bad_quality_is_no_value() {
    let published = with(|view| {
        let nan = frame("gain", &[0, 0], Values::Reals(vec![f64::NAN, 1.0]));
        view.publish(&batch("a", &[Frame { quality: Some(vec![Quality::Bad, Quality::Bad]), ..nan }]))
            .unwrap();
    });
    assert_eq!(published.columns.value(0), ValueRef::Missing);
    assert_eq!(published.columns.value(1), ValueRef::Real(1.0));
}

#[test]
fn readings_and_bytes_of_one_invocation_are_bounded() {
    with(|view| {
        view.publish(&batch("a", &[reals("gain", &vec![0; MAX_DERIVED])])).unwrap();
        assert!(matches!(refusal(view, &batch("a", &[reals("gain", &[0])])), Error::TooMany));
    });
    let published = with(|view| {
        let texts = vec!["x".repeat(64 << 10); MAX_EFFECT_BYTES >> 16];
        let error = refusal(view, &batch("a", &[frame("note", &vec![0; texts.len()], Values::Texts(texts))]));
        assert!(matches!(error, Error::Other(_)));
    });
    assert!(published.columns.is_empty() && published.new_points.is_empty());
}

fn intent(output: &str, entity: &str, value: f64) -> Intent {
    let (output, entity) = (output.to_owned(), entity.to_owned());
    Intent { output, entity, value: WitValue::Real(value), time_to_live: 60 }
}

fn not_requested(view: &mut View<'_>, list: Vec<Intent>) -> Error {
    match View::request(view, list).unwrap_err() {
        Failure::App(error) => error,
        Failure::End(overrun) => panic!("{overrun}"),
    }
}

#[test]
fn set_points_are_moved_as_granted_and_told_with_their_ids() {
    with(|view| {
        let tickets = View::request(view, vec![intent("heat", "a", 8.0), intent("heat", "b", 3.0)]).unwrap();
        let told: Vec<_> = tickets.iter().map(|ticket| (&*ticket.id, &ticket.value)).collect();
        let ids = ["00".repeat(16), "01".repeat(16)];
        assert!(matches!(told[0], (id, WitValue::Real(4.0)) if id == ids[0]), "{told:?}");
        assert!(matches!(told[1], (id, WitValue::Real(1.5)) if id == ids[1]), "{told:?}");
        // Another list may have the same point.
        let tickets = View::request(view, vec![intent("heat", "a", 2.0)]).unwrap();
        assert_eq!(tickets[0].id, "02".repeat(16));
        assert!(View::request(view, Vec::new()).unwrap().is_empty());
        let intents: Vec<_> = view
            .context
            .intents
            .iter()
            .map(|one| (one.list, one.point.as_str(), one.asked.clone(), one.value.clone(), one.time_to_live))
            .collect();
        assert_eq!(
            intents,
            [
                (0, "2/a", Value::Real(8.0), Value::Real(4.0), 10),
                (0, "2/b", Value::Real(3.0), Value::Real(1.5), 10),
                (1, "2/a", Value::Real(2.0), Value::Real(1.0), 10),
            ]
        );
    });
}

#[test]
fn a_list_of_set_points_is_taken_whole_or_not_at_all() {
    with(|view| {
        let good = || intent("heat", "a", 8.0);
        let mut refused = |one: Intent| not_requested(view, vec![good(), one]);
        assert!(matches!(refused(intent("gain", "a", 8.0)), Error::UnknownOutput(name) if name == "gain"));
        assert!(matches!(refused(intent("heat", "bad", 8.0)), Error::UnknownEntity(_)));
        assert!(matches!(refused(intent("heat", "b", 0.5)), Error::NotAllowed(_)));
        assert!(matches!(refused(intent("heat", &"x".repeat(MAX_ENTITY + 1), 8.0)), Error::UnknownEntity(_)));
        assert!(matches!(refused(good()), Error::Malformed(text) if text.contains("two set-points for 2/a")));
        let typed = Intent { value: WitValue::Integer(8), ..intent("heat", "b", 8.0) };
        assert!(matches!(refused(typed), Error::WrongType(text) if text == "`heat` is real, not integer"));
        let dead = Intent { time_to_live: 0, ..intent("heat", "b", 8.0) };
        assert!(matches!(refused(dead), Error::Malformed(text) if text.contains("time to live is zero")));
        let many = (0..1_001).map(|n| intent("heat", &n.to_string(), 8.0)).collect();
        assert!(matches!(not_requested(view, many), Error::TooMany));
        assert!(view.context.intents.is_empty() && view.context.lists == 0);
    });
}

#[test]
fn points_beyond_the_room_are_refused_with_the_limit() {
    let published = with(|view| {
        let entities = (0..10).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        let eleven = format!("{entities}\nmore\nknown");
        let all: Vec<u32> = (0..11).collect();
        assert!(matches!(refusal(view, &batch(&eleven, &[reals("gain", &all)])), Error::TooManyPoints(12)));
        view.publish(&batch(&eleven, &[reals("gain", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11])])).unwrap();
        assert!(matches!(
            refusal(view, &batch("0", &[frame("note", &[0], Values::Texts(vec![String::new()]))])),
            Error::TooManyPoints(12)
        ));
        view.publish(&batch("0", &[reals("gain", &[0])])).unwrap();
        view.context.room.site = 5;
        view.context.room.own = 11;
        let error = refusal(view, &batch("more", &[reals("gain", &[0])]));
        assert!(matches!(error, Error::Other(text) if text.contains("the site has as many points")));
    });
    assert_eq!(published.new_points.len(), 10);
}

#[test]
fn an_entity_that_no_path_can_have_is_refused_unread() {
    with(|view| {
        let long = "e".repeat(200);
        view.publish(&batch(&long, &[reals("gain", &[0])])).unwrap();
        let error = refusal(view, &batch(&"/".repeat(MAX_ENTITY + 1), &[reals("gain", &[0])]));
        let expected = "the output gain has no point for an entity of 513 bytes: it may have 512";
        assert!(matches!(error, Error::UnknownEntity(text) if text == expected));
    });
}

#[test]
fn an_app_of_many_outputs_gets_the_same_points_and_less_is_kept_for_each_entity() {
    let tables = ["a", "known", "a"];
    assert!(publish::Points::new(&tables, 3, 8).keeps_all);
    assert!(!publish::Points::new(&tables, 203, 8).keeps_all);
    // Kept for each entity, these would be 200 MB.
    assert!(!publish::Points::new(&vec!["e"; MAX_DERIVED], 256, MAX_DERIVED).keeps_all);
    let publish = |view: &mut View<'_>| {
        let texts = Values::Texts(vec!["x".to_owned(), "y".to_owned()]);
        let frames = [reals("gain", &[0, 1, 2, 0, 1, 0]), frame("note", &[0, 2], texts)];
        view.publish(&batch(&tables.join("\n"), &frames)).unwrap();
        let used = MAX_EFFECT_BYTES - view.quota.room();
        // Eight readings of 20 bytes and two texts of one; three lines of 64 bytes and their entities.
        assert_eq!(used, 8 * 20 + 2 + 3 * 64 + 1 + 5 + 1);
    };
    let (few, many) = (with(publish), with_more_outputs(200, publish));
    let (gain_a, note_a, known) = (PointNumber::pending(0), PointNumber::pending(1), PointNumber(0));
    assert_eq!(few.columns.points, [gain_a, known, gain_a, gain_a, known, gain_a, note_a, note_a]);
    assert_eq!(many.columns.points, few.columns.points);
    assert_eq!(many.new_points.len(), 2);
}

#[test]
fn a_point_counts_the_same_whether_it_is_there_or_new() {
    let used = |entity: &str| {
        let mut room = 0;
        with(|view| {
            view.publish(&batch(entity, &[reals("gain", &[0, 0])])).unwrap();
            room = view.quota.room();
        });
        MAX_EFFECT_BYTES - room
    };
    assert_eq!(used("known"), used("other"));
    // Two readings of 20 bytes, one entity of 5 and 64.
    assert_eq!(used("known"), 2 * 20 + 5 + 64);
}

#[test]
fn a_table_of_line_feeds_is_refused_and_counted() {
    let table = "\n".repeat(MAX_DERIVED);
    assert!(publish::carried(&batch(&table, &[])) > 20 * MAX_DERIVED);
    with(|view| {
        let error = refusal(view, &batch(&table, &[]));
        assert!(matches!(error, Error::Malformed(text) if text.contains("100001 entities")));
        view.publish(&batch(&table[1..], &[])).unwrap();
    });
}

#[test]
fn publishing_ends_with_the_time() {
    let mut context = Context::new(Arc::new(Bound));
    let app = AppContext { outputs: Vec::new(), ..AppContext::default() };
    let meter = Meter::new(
        &ironloom_types::limits::Limits { cpu: 0, ..Default::default() },
        crate::Interrupt::default(),
    );
    let mut view = View { context: &mut context, app: &app, quota: &mut Quota::default(), meter: &meter };
    assert!(matches!(view.publish(&batch("", &[])), Err(Failure::End(_))));
}
