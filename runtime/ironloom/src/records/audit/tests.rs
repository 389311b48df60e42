//! Entries in records, and in words.

use super::*;
use crate::records::admin::{self, AdminRecord};
use crate::records::intent::{Driven, Ended, Outcome as End};
use ironloom_trust::audit::Heads;
use ironloom_types::ids::{Generation, InstallationId, IntentId, Ordinal, PointPath, SlotName};

fn settled(value: Option<f64>) -> Settled {
    let place = IntentPlace { generation: Generation(3), ordinal: Ordinal(7), index: 0 };
    let driven = value.map(|value| {
        Box::new(Driven {
            point: PointPath::new(TenantId::MAIN, "plant/7/limit").unwrap(),
            installation: InstallationId::new(TenantId::MAIN, "driver").unwrap(),
            generation: Generation(3),
            output: SlotName::new("limit").unwrap(),
            entity: "7".into(),
            told: None,
            passed: 0,
            last: Ended {
                id: None::<IntentId>,
                asked: Value::Real(value),
                value: Value::Real(value),
                outcome: End::Rejected,
                reason: Some("nobody has subscribed".into()),
                at: Timestamp(1),
            },
        })
    });
    Settled { place: Some(place), driven }
}

#[test]
fn ends_of_set_points_are_told_in_words_with_the_digest_of_all_of_them() {
    assert_eq!(ended(TenantId::MAIN, &[]), None);
    let id = settled(None).place.unwrap().id();
    let said = ended(TenantId::MAIN, &[settled(Some(16.5)), settled(None)]).unwrap();
    let lines = format!("{id}: plant/7/limit = 16.5, rejected (nobody has subscribed)\n{id}: ended\n");
    assert_eq!((&*said.who, &*said.action, &*said.detail), ("-host", "endSetPoints", &*lines));
    assert_eq!(said.digest, Some(Digest::of(lines.as_bytes())));
    // Of many, the beginning is told, and the digest is still that of all.
    let many: Vec<Settled> = (0..1_000).map(|_| settled(Some(1.0))).collect();
    let said = ended(TenantId::MAIN, &many).unwrap();
    let all = said.detail.clone();
    let bounded = said.bounded();
    assert!(bounded.detail.len() <= 1_024);
    assert_eq!(bounded.digest, Some(Digest::of(all.as_bytes())));
}

#[test]
fn an_entry_comes_back_with_its_record_and_has_room_in_it() {
    let mut heads = Heads::default();
    let long: Box<str> = "ä".repeat(3_000).into();
    let said = Said {
        who: long.clone(),
        role: long.clone(),
        action: long.clone(),
        resource: long.clone(),
        problem: long.clone(),
        detail: long,
        ..of_lines(TenantId::MAIN, "", "", String::new(), "x")
    };
    let entry = heads.append(said, Timestamp(u64::MAX));
    let mut body = Vec::new();
    admin::encode(&AdminRecord::Audit(AuditChange::Entry), &mut body);
    let alone = body.len();
    put_entry(Some(&entry), &mut body);
    assert!(body.len() - alone <= Entry::MAX_LEN, "{}", body.len() - alone);
    let read = admin::decode(admin::VERSION, &body).unwrap();
    assert_eq!(read, (AdminRecord::Audit(AuditChange::Entry), Some(Box::new(entry))));
    let read = admin::decode(admin::VERSION, &body[..alone]).unwrap();
    assert_eq!(read, (AdminRecord::Audit(AuditChange::Entry), None));
    assert!((alone + 1..body.len()).all(|end| admin::decode(admin::VERSION, &body[..end]).is_err()));
}

/// Derived by hand: the length of the head, the number of the kind of change and that of the change of the audit log, and
/// what it has.
#[test]
fn the_bytes_of_a_change_of_the_audit_log_never_change() {
    let signed =
        CheckpointRecord { chain: Chain::Platform, number: 300, time: Timestamp(7), envelope: "{}".into() };
    for (change, golden) in [
        (AuditChange::Entry, &[2, 0, 0, 0, 32, 0][..]),
        (AuditChange::Signed(Box::new(signed)), &[9, 0, 0, 0, 32, 1, 0, 0xac, 2, 7, 2, b'{', b'}']),
        (
            AuditChange::Expired { chain: Chain::Tenant(TenantId(1)), before: 300 },
            &[6, 0, 0, 0, 32, 2, 1, 1, 0xac, 2],
        ),
    ] {
        let (record, mut body) = (AdminRecord::Audit(change), Vec::new());
        admin::encode(&record, &mut body);
        assert_eq!(body, golden, "{record:?}");
        assert_eq!(admin::decode(admin::VERSION, golden), Ok((record, None)));
    }
}
