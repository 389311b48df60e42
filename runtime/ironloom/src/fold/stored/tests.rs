//! Golden bytes, derived by hand: numbers are LEB128, texts and lists have their length before them, an option begins
//! with 0 or 1, variants are numbered, and fields come in the order of their types.

use std::fmt::Debug;

use super::*;
use crate::fold::points::Points;
use crate::fold::requests::Remembered;
use crate::records::commit::{AlarmRecord, AlarmState};
use ironloom_types::ids::{PointNumber, PointPath, SlotName};
use ironloom_types::readings::{Columns, NewPoint, Quality, ValueRef};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, expected: &str) {
    let bytes = encode(&value);
    assert_eq!(hex(&bytes), expected, "{value:?}");
    assert_eq!(decode::<T>(&bytes), Ok(value));
}

#[test]
fn points() {
    golden::<StoredPoint>(None, "00");
    golden::<StoredPoint>(Some(("a/b".to_owned(), None)), "0103612f6200");
    golden::<StoredPoint>(Some(("a/b".to_owned(), Some("kg".to_owned()))), "0103612f6201026b67");
}

#[test]
fn a_generation() {
    let removed = Removed { at: Timestamp(1234), purge: true };
    let installation = InstallationId::new("pigs").unwrap();
    let lane = StoredLane { installation, meta: LaneMeta::default(), removed: Some(removed) };
    // Five numbers, eight counters, six numbers, no timer, five of the failure rules, no quarantine, no error, none of a timer.
    let meta = "00".repeat(5 + 8 + 6 + 1 + 5 + 1 + 1 + 1);
    golden(lane, &format!("0470696773{meta}01d20901"));
}

#[test]
fn the_fold_position() {
    let fold = FoldPosition {
        position: Position(300),
        witness: Position(305),
        folded_through: Sequence(200),
        routed_through: Sequence(201),
        time: Timestamp(1234),
        points: 7,
        generation: Generation(3),
        pending: vec![(Generation(3), Sequence(150))],
    };
    golden(fold, "ac02b102c801c901d209070301039601");
}

#[test]
fn requests_and_timers() {
    let request = Remembered { request: [9; 16], time: Timestamp(1234), accepted: 5, through: Sequence(300) };
    golden(request, &format!("{}d20905ac02", "09".repeat(16)));
    golden(Timestamp(1234).0, "d209");
}

#[test]
fn alarms() {
    let alarm = AlarmRecord {
        code: SlotName::new("too-hot").unwrap(),
        entity: "pig-1".into(),
        number: 6,
        state: AlarmState::Acknowledged,
        message: "42 Cel".into(),
        raised: Timestamp(1000),
        acknowledged: Some(Timestamp(1001)),
        cleared: None,
    };
    golden(alarm, "07746f6f2d686f74057069672d3106010634322043656ce80701e90700");
}

#[test]
fn a_page_of_latest_values() {
    let points = Points::default();
    let new = |path| Some(NewPoint { path: PointPath::new(path).unwrap(), unit: None });
    points.add([(PointNumber(0), new("a")), (PointNumber(1), new("b"))]);
    let mut columns = Columns::default();
    columns.push(PointNumber(0), Timestamp(1234), Quality::Good, ValueRef::Real(1.0));
    columns.push(PointNumber(1), Timestamp(5), Quality::Uncertain, ValueRef::Text("hi"));
    points.observe(Sequence(300), &columns);
    let page = points.page(0);
    // 1.0 is 0x3ff0000000000000. The word of a text is its place in its record (offset << 32, length); its bytes
    // stand behind the list.
    let expected = concat!("02", "ac02d2090003", "80808080808080f83f", "ad020501", "0402", "01", "01026869");
    assert_eq!(hex(&page), expected);
}
