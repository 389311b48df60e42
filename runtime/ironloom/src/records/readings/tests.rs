//! Golden bytes of records that say how far a stream has come, or make points alone. The other records are in `records/tests.rs`.

use crate::records::intent::IntentPlace;
use ironloom_types::ids::{Ordinal, PointNumber, PointPath, Sequence, TenantId};

use super::*;

#[test]
fn the_place_of_a_stream_stands_in_a_record_with_or_without_readings() {
    let progress = Progress { lines: 300, taken: 200, refused: 2, mark: [1, 2, 3, 4, 5, 6, 7, 8] };
    // No new point, no reading, no flags, the type of none, and no heap.
    let nothing = "0000000000000300000000";
    for (progress, head) in [
        // 25 bytes: a receipt, that of a stream, "scale-7", which goes on behind 300 lines, 200 readings, 2 bad ones, and this
        // mark; no request.
        (Some(progress), "190000000101077363616c652d3701ac02c80102010203040506070800"),
        // 12 bytes: the stream has no place any more.
        (None, "0c0000000101077363616c652d370000"),
    ] {
        let receipt = Some(Receipt::Stream { key: "scale-7".into(), progress });
        let head_of = ReadingsHead { receipt, idempotency: None };
        let mut body = Vec::new();
        encode(&head_of, &[], &Columns::default(), &mut body);
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, format!("{head}{nothing}"));
        assert!(body.len() <= max_len(&head_of, &[], &Columns::default()));
        let read = decode(VERSION, &body).unwrap();
        assert_eq!(
            read,
            ReadingsRecord {
                head: head_of,
                new_points: Vec::new(),
                columns: Columns::default(),
                entry: None
            }
        );
    }
}

#[test]
fn points_of_outputs_stand_in_a_record_without_readings() {
    let receipt = Some(Receipt::Outputs { generation: Generation(3), points: 300 });
    let head = ReadingsHead { receipt, idempotency: None };
    let point = NewPoint { path: PointPath::new(TenantId::MAIN, "apps/a/b").unwrap(), unit: None };
    let numbered = NumberedPoint { number: PointNumber(7), point: point.clone() };
    let mut body = Vec::new();
    encode(&head, std::slice::from_ref(&numbered), &Columns::default(), &mut body);
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    // 6 bytes: a receipt, that of outputs, generation 3, 300 points; no request. One point: 7, of the tenant 1, 8 bytes of "apps/a/b", no unit.
    // No reading, no flags, the type of none, and no heap.
    assert_eq!(
        hex,
        "06000000010203ac0200".to_owned() + "0107" + "0108617070732f612f6200" + "00000000000300000000"
    );
    assert!(body.len() <= max_len(&head, &[point], &Columns::default()));
    let record =
        ReadingsRecord { head, new_points: vec![numbered], columns: Columns::default(), entry: None };
    assert_eq!(decode(VERSION, &body).unwrap(), record);
}

#[test]
fn ends_of_set_points_stand_in_a_record_with_or_without_readings() {
    let place = IntentPlace { generation: Generation(3), ordinal: Ordinal(5), index: 2 };
    let settled = vec![Settled { place: Some(place), driven: None }, Settled { place: None, driven: None }];
    let head = ReadingsHead { receipt: Some(Receipt::Outbox(settled)), idempotency: None };
    let mut body = Vec::new();
    encode(&head, &[], &Columns::default(), &mut body);
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    // 11 bytes: a receipt, that of the outbox, with two ends: generation 3, ordinal 5, index 2, and a safe value; neither
    // says more of its point. No request.
    assert_eq!(hex, "0b0000000103020103050200000000".to_owned() + "0000000000000300000000");
    assert!(body.len() <= max_len(&head, &[], &Columns::default()));
    let record = ReadingsRecord { head, new_points: Vec::new(), columns: Columns::default(), entry: None };
    assert_eq!(decode(VERSION, &body).unwrap(), record);
}

#[test]
fn what_is_published_stands_in_a_record_without_readings() {
    let through = Published { readings: Sequence(300), alarms: 7 };
    let receipt = Some(Receipt::Published { name: "plant".into(), through });
    let head = ReadingsHead { receipt, idempotency: None };
    let mut body = Vec::new();
    encode(&head, &[], &Columns::default(), &mut body);
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    // 12 bytes: a receipt, that of what is published, by "plant", 300 readings and 7 changes of alarms; no request.
    assert_eq!(hex, "0c000000010405706c616e74ac020700".to_owned() + "0000000000000300000000");
    assert!(body.len() <= max_len(&head, &[], &Columns::default()));
    let record = ReadingsRecord { head, new_points: Vec::new(), columns: Columns::default(), entry: None };
    assert_eq!(decode(VERSION, &body).unwrap(), record);
}
