//! Round trips of any bodies, and damaged ones.

use super::*;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Missing),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        ".{0,8}".prop_map(|text| Value::Text(text.into())),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Value::Blob(bytes.into())),
    ]
}

fn any_columns() -> impl Strategy<Value = Columns> {
    let row = (0..1u32 << 31, any::<u64>(), 0..3u8, value());
    let rows = prop::collection::vec(row, 0..20);
    let same = prop::collection::vec(
        (
            0..1u32 << 31,
            any::<u64>(),
            Just(0),
            any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        ),
        0..20,
    );
    prop_oneof![rows, same].prop_map(|rows| {
        let mut columns = Columns::default();
        for (point, at, quality, value) in &rows {
            columns.push(
                PointNumber(*point),
                Timestamp(*at),
                Quality::from_u8(*quality).unwrap(),
                value.as_ref(),
            );
        }
        columns
    })
}

fn any_points() -> impl Strategy<Value = Vec<NumberedPoint>> {
    let point = (any::<u32>(), "[a-zä]{1,9}/[a-z]{1,9}", prop::option::of("[a-zA-Z./]{1,6}"));
    let numbered =
        |(number, path, unit): (u32, String, Option<String>)| numbered(number, &path, unit.as_deref());
    prop::collection::vec(point.prop_map(numbered), 0..5)
}

fn any_state() -> impl Strategy<Value = StateChanges> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from));
    prop::collection::btree_map(".{0,3}[aäö]{0,6}", value, 0..12).prop_map(|map| map.into_iter().collect())
}

fn any_receipt() -> impl Strategy<Value = Receipt> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9)
            .prop_map(|note| Receipt::Connector { name: "files".into(), note }),
        ("[!-~]{1,64}", prop::option::of(any::<(u64, u64, u64, [u8; 8])>())).prop_map(|(key, come)| {
            let progress = |(lines, taken, refused, mark)| Progress { lines, taken, refused, mark };
            Receipt::Stream { key: key.into(), progress: come.map(progress) }
        }),
    ]
}

proptest! {
    #[test]
    fn readings_come_back_as_they_were(
        columns in any_columns(),
        new_points in any_points(),
        receipt in prop::option::of(any_receipt()),
        keys in prop::option::of(any::<([u8; 16], [u8; 16])>()),
    ) {
        let idempotency = keys.map(|(key, request)| Idempotency { key, request });
        let record = ReadingsRecord { head: ReadingsHead { receipt, idempotency }, new_points, columns, entry: None };
        prop_assert_eq!(readings::decode(readings::VERSION, &encode_readings(&record)), Ok(record));
    }

    #[test]
    fn commits_come_back_as_they_were(
        state in any_state(),
        derived in any_columns(),
        new_points in any_points(),
        letters in prop::collection::vec((any::<u64>(), value()), 0..3),
        hops: u8,
    ) {
        let mut record = CommitRecord { state, derived, new_points, ..commit_record() };
        record.head.dead_letters = letters.into_iter().map(|(number, value)| letter(number, value, false)).collect();
        record.head.hops = hops;
        prop_assert_eq!(commit::decode(commit::VERSION, &encode_commit(&record)), Ok(record));
    }

    #[test]
    fn damaged_bodies_are_refused_or_read_as_something_sound(
        bytes in mutated(
            [
                (readings::VERSION, READINGS),
                (readings::VERSION, PLAIN_READINGS),
                (commit::VERSION, COMMIT),
                (admin::VERSION, INSTALLED),
                (admin::VERSION, STANDING),
                (admin::VERSION, PACKAGE_ADDED),
            ]
            .map(|(version, golden)| [vec![version], unhex(golden)].concat())
            .to_vec()
        )
    ) {
        crate::fuzzing::record(&bytes);
    }
}

#[test]
fn an_admins_change_has_room_for_what_the_committer_puts_into_it() {
    let mut filled = 0;
    for (mut record, _) in admin_records() {
        match &mut record {
            AdminRecord::Revised(revised) => revised.revision.from = Sequence(0),
            AdminRecord::PointRenamed(renamed) => renamed.number = PointNumber(0),
            _ => continue,
        }
        let room = admin::encoded_len(&record);
        match &mut record {
            AdminRecord::Revised(revised) => revised.revision.from = Sequence(u64::MAX),
            AdminRecord::PointRenamed(renamed) => renamed.number = PointNumber(u32::MAX),
            _ => {}
        }
        let mut body = Vec::new();
        admin::encode(&record, &mut body);
        assert!(body.len() <= room, "{} bytes of {room}: {record:?}", body.len());
        filled += 1;
    }
    assert_eq!(filled, 2);
}
