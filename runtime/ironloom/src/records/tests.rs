//! Golden bytes of the bodies.

mod copies;
mod golden;
mod random;
mod refused;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ironloom_mutate::mutated;
use proptest::prelude::*;

use self::golden::*;
use super::admin::{
    AdminRecord, Adopted, CarriedReading, Ended, Expired, LaneDue, NewInstallation, PackageRecord,
    PointRenamed, PointSet, PointsRetired, Reset, Revised, StateChanged,
};
use super::alarm::{AlarmRecord, AlarmState, Cleared, ClearedBy, EpisodePlace, Note, Shelved};
use super::catalog::CatalogRecord;
use super::commit::{
    CommitHead, CommitRecord, DeadLetter, Invocation, InvocationKind, OutcomeKind, StateChanges,
};
use super::readings::{Idempotency, ReadingsHead, ReadingsRecord, Receipt};
use super::token::{TokenChange, TokenRecord};
use super::{NumberedPoint, admin, commit, readings};
use crate::access::{Role, TokenHash, TokenName};
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::intent::{Asked, IntentPlace};
use crate::records::lane::{Episodes, LaneMeta, Published, Quarantine, Reached, Skipped, Trouble};
use crate::records::owner::AppOwner;
use ironloom_apps::binding::{Bindings, InputBinding, OutputBinding, Target};
use ironloom_apps::grants::{Grants, OutputGrant, Safe};
use ironloom_apps::manifest::{OutputKind, Severity, ValueType};
use ironloom_apps::pattern::Pattern;
use ironloom_apps::quantity::Span;
use ironloom_apps::unit::Conversion;
use ironloom_types::CompiledRef;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{Intent, OneShot};
use ironloom_types::ids::{
    self, AppId, CatalogNumber, Digest, Generation, InstallationId, Ordinal, PointNumber, PointPath,
    Sequence, SlotName, TenantId,
};
use ironloom_types::limits::Limits;
use ironloom_types::readings::{Columns, NewPoint, Progress, Quality, Value, ValueRef};
use ironloom_types::work::{Counters, Gap, LastError, TimerError};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn slot(name: &str) -> SlotName {
    SlotName::new(name).unwrap()
}

fn numbered(number: u32, path: &str, unit: Option<&str>) -> NumberedPoint {
    let point = NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: unit.map(Into::into) };
    NumberedPoint { number: PointNumber(number), point }
}

fn columns(rows: &[(u32, u64, Quality, ValueRef<'_>)]) -> Columns {
    let mut columns = Columns::default();
    for &(point, at, quality, value) in rows {
        columns.push(PointNumber(point), Timestamp(at), quality, value);
    }
    columns
}

fn meta() -> LaneMeta {
    LaneMeta {
        cursor: Sequence(900),
        ordinal: Ordinal(5),
        attempts: 2,
        time: Timestamp(1_700_000_000_000_000_000),
        state_bytes: 4096,
        counters: Counters {
            readings: 100,
            invocations: 101,
            failures: 3,
            dead_letters: 4,
            derived: 300,
            intents: 0,
            dead_letters_dropped: 5,
            alarms_dropped: 6,
            episodes_dropped: 7,
            missed: 8,
            held_back: 10,
            derived_bytes: 9,
            cpu_nanos: 10,
            peak_memory: 11,
            log_lines: 12,
        },
        next_dead_letter: 9,
        dead_letters_kept: 2,
        dead_letter_bytes: 1000,
        alarms_standing: 1,
        next_alarm: 6,
        episodes: Episodes { kept: 2, bytes: 300 },
        points: 300,
        cron_due: vec![(slot("daily"), Timestamp(86400))],
        trouble: Trouble {
            attempts: 1,
            retries: 2,
            retrying_since: Some(Timestamp(77)),
            traps_in_row: 3,
            failures: vec![Timestamp(70), Timestamp(71)],
        },
        quarantine: Some(Quarantine { at: Timestamp(80), reason: "too often".into() }),
        last_error: Some(LastError {
            at: Timestamp(81),
            kind: "trap".into(),
            message: "boom".into(),
            ordinal: Ordinal(6),
        }),
        last_timer_error: Some(TimerError {
            timer: "daily".into(),
            error: LastError {
                at: Timestamp(82),
                kind: "reject".into(),
                message: "no".into(),
                ordinal: Ordinal(6),
            },
        }),
        gaps: vec![gap()],
        began: reached(400),
        published: Some(Published { after: reached(401), through: reached(402) }),
        repaired: Some(Ordinal(4)),
        invocations_gone: Ordinal(3),
        skipped: vec![Skipped { after: Sequence(700), through: Sequence(750) }],
    }
}

/// A place, and the time 100 ns later than its number.
fn reached(sequence: u64) -> Reached {
    Reached { sequence: Sequence(sequence), time: Timestamp(sequence + 100) }
}

fn gap() -> Gap {
    Gap { slot: slot("weight"), first: Timestamp(90), last: Timestamp(300), count: 2 }
}

fn note(at: u64, by: Option<&str>, comment: Option<&str>) -> Note {
    Note { at: Timestamp(at), by: by.map(Into::into), comment: comment.map(Into::into) }
}

fn alarm(state: AlarmState, cleared: Option<u64>) -> AlarmRecord {
    AlarmRecord {
        code: slot("too-hot"),
        entity: "pig-1".into(),
        number: 6,
        severity: Severity::High,
        state,
        over: false,
        message: "42 Cel".into(),
        since: Timestamp(999),
        raised: Timestamp(1000),
        cleared: cleared.map(|at| Cleared { at: Timestamp(at), by: ClearedBy::Removed }),
        acknowledged: vec![note(1001, Some("ann"), None)],
        shelved: Some(Shelved { note: note(1003, None, Some("dry")), until: Timestamp(2000) }),
        comments: vec![note(1004, None, Some("ok"))],
    }
}

fn letter(number: u64, value: Value, by_trap: bool) -> DeadLetter {
    DeadLetter {
        number,
        input: slot("weight"),
        entity: "pig-1".into(),
        point: PointNumber(300),
        sequence: Sequence(890),
        time: Timestamp(1000),
        at: Timestamp(999),
        quality: Quality::Uncertain,
        value,
        conversion: by_trap.then_some(Conversion { factor: 1_000.0, offset: 0.0 }),
        unit: by_trap.then(|| "kg".into()),
        reason: "refused: no".into(),
        by_trap,
        ordinal: Ordinal(6),
        revision: ids::Revision(1),
    }
}

fn pigs() -> InstallationId {
    InstallationId::new(TenantId::MAIN, "pigs").unwrap()
}

fn commit_record() -> CommitRecord {
    let invocation = Invocation {
        ordinal: Ordinal(6),
        attempt: 2,
        kind: InvocationKind::Timer("daily".into()),
        first: Sequence(880),
        last: Sequence(900),
        readings: 11,
        time: Timestamp(1234),
        revision: ids::Revision(1),
        outcome: OutcomeKind::Ok,
        message: None,
        digest: Digest([0xab; 32]),
    };
    let head = CommitHead {
        installation: pigs(),
        generation: Generation(3),
        invocation,
        meta: meta(),
        timers: vec![
            ("once".into(), Some(OneShot { due: Timestamp(500), asked: Timestamp(300) })),
            ("other".into(), None),
        ],
        alarms: vec![alarm(AlarmState::ReturnedToNormal, Some(1002))],
        episodes_gone: vec![EpisodePlace { since: Timestamp(77), number: 3 }],
        dead_letters: vec![
            letter(8, Value::Missing, false),
            letter(9, Value::Boolean(true), false),
            letter(10, Value::Integer(-3), false),
            letter(11, Value::Real(1.5), true),
            letter(12, Value::Text("on".into()), false),
            letter(13, Value::Blob([0xff, 0].into()), false),
        ],
        dead_letters_gone: vec![1, 2],
        hops: 3,
        intents: vec![intent()],
    };
    CommitRecord {
        head,
        state: [
            ("animal/1/ä", Some(Bytes::from_static(&[1, 2]))),
            // The first byte of both last letters is the same: keys are coded as bytes.
            ("animal/1/ö", Some(Bytes::new())),
            ("animal/2", None),
            ("b", Some(Bytes::from(vec![b'x'; 200]))),
        ]
        .into_iter()
        .collect(),
        new_points: vec![numbered(302, "apps/pigs/gain/1", None)],
        derived: columns(&[(302, 7000, Quality::Good, ValueRef::Real(0.25))]),
        entry: None,
    }
}

fn unnumbered(points: &[NumberedPoint]) -> Vec<NewPoint> {
    points.iter().map(|numbered| numbered.point.clone()).collect()
}

fn encode_commit(record: &CommitRecord) -> Vec<u8> {
    let mut body = Vec::new();
    commit::encode_effects(&record.head, &record.state, &mut body);
    let effects = body.len();
    commit::encode_readings(&record.new_points, &record.derived, &mut body);
    assert!(
        body.len() - effects <= commit::readings_max_len(&unnumbered(&record.new_points), &record.derived)
    );
    body
}

fn encode_readings(record: &ReadingsRecord) -> Vec<u8> {
    let mut body = Vec::new();
    readings::encode(&record.head, &record.new_points, &record.columns, &mut body);
    assert!(body.len() <= readings::max_len(&record.head, &unnumbered(&record.new_points), &record.columns));
    body
}

fn encode_admin(record: &AdminRecord) -> Vec<u8> {
    let mut body = Vec::new();
    admin::encode(record, &mut body);
    match record {
        // The committer puts a number into them.
        AdminRecord::Revised(_) | AdminRecord::PointRenamed(_) => {
            assert!(body.len() <= admin::encoded_len(record))
        }
        _ => assert_eq!(body.len(), admin::encoded_len(record)),
    }
    body
}

fn readings_records() -> [(ReadingsRecord, &'static str); 2] {
    let full = ReadingsRecord {
        head: ReadingsHead {
            receipt: Some(Receipt::Connector { name: "files".into(), note: vec![1, 2, 3] }),
            idempotency: Some(Idempotency { key: [0x11; 16], request: [0x22; 16] }),
        },
        new_points: vec![numbered(300, "farm/ä", Some("kg")), numbered(301, "b", None)],
        columns: columns(&[
            (300, 1000, Quality::Good, ValueRef::Real(1.5)),
            (301, 2000, Quality::Uncertain, ValueRef::Integer(-7)),
            (300, 3000, Quality::Bad, ValueRef::Missing),
            (7, 4000, Quality::Good, ValueRef::Text("on")),
            (7, 5000, Quality::Good, ValueRef::Blob(&[0xff, 0])),
            (8, 6000, Quality::Good, ValueRef::Boolean(true)),
        ]),
        entry: None,
    };
    let plain = ReadingsRecord {
        head: ReadingsHead::default(),
        new_points: Vec::new(),
        columns: columns(&[
            (1, 10, Quality::Good, ValueRef::Real(-0.0)),
            (2, 11, Quality::Good, ValueRef::Real(2.0)),
        ]),
        entry: None,
    };
    [(full, READINGS), (plain, PLAIN_READINGS)]
}

fn compiled() -> CompiledRef {
    CompiledRef { wasm: Digest([1; 32]), engine: Digest([2; 32]), code: Digest([3; 32]) }
}

fn catalog_set(index: Digest) -> AdminRecord {
    AdminRecord::CatalogSet(Box::new(CatalogRecord {
        name: "plant".into(),
        number: CatalogNumber(300),
        source: Some("/c".into()),
        ids: vec!["com".into()],
        floor: "{}".into(),
        index: Some(index),
        refreshed: Timestamp(1234),
    }))
}

fn token_made() -> AdminRecord {
    AdminRecord::Token(TokenChange::Made(Box::new(TokenRecord {
        tenant: TenantId::MAIN,
        name: TokenName::new("anna").unwrap(),
        role: Role::Operator,
        hash: TokenHash::of_bytes([5; 32]),
        made: Timestamp(1234),
        made_by: "-local".into(),
        expires: Some(Timestamp(5678)),
    })))
}

/// The public key of the third test of RFC 8032, section 7.1.
const KEY: &str = "ed25519:_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU";

fn admin_records() -> Vec<(AdminRecord, &'static str)> {
    let package = Digest([4; 32]);
    let record = PackageRecord {
        digest: package,
        manifest: "manifest = 1".into(),
        file: Digest([5; 32]),
        signers: vec![KEY.parse().unwrap()],
        imports: vec!["wasi:io/streams@0.2.3".into()],
        sdk_version: Some("0.1.0".into()),
        compiled: compiled(),
    };
    let installation = Installation {
        id: pigs(),
        generation: Generation(3),
        begun: Generation(5),
        app: AppId::new("com.example.pigs").unwrap(),
        version: "0.1.0".into(),
        package,
        standing: Standing::Paused,
        revision: ids::Revision(1),
        trial: Some(copies::trial()),
        went_back: Some(copies::went_back()),
        publisher: Some(KEY.parse().unwrap()),
    };
    let input = InputBinding {
        name: slot("weight"),
        value_type: ValueType::Real,
        unit: Some("kg".into()),
        conversions: Vec::new(),
        patterns: vec![Pattern::new(TenantId::MAIN, "farm/{pig}/weight").unwrap()],
    };
    let output = OutputBinding {
        name: slot("gain"),
        kind: OutputKind::Derived,
        value_type: ValueType::Real,
        unit: Some("kg/d".into()),
        target: Target::Default { prefix: PointPath::new(TenantId::MAIN, "apps/pigs/gain").unwrap() },
    };
    let limit = OutputGrant {
        ttl: Some(Span(60_000_000_000)),
        every: Some(Span(10_000_000_000)),
        safe: Some(Safe::Number(6.0)),
        ..OutputGrant::of("0, 6..32".parse().unwrap())
    };
    let revision = Revision {
        number: ids::Revision(1),
        begun: Generation(5),
        from: Sequence(901),
        package,
        bindings: Arc::new(Bindings { inputs: vec![input], outputs: vec![output] }),
        grants: Grants {
            mode: ironloom_apps::grants::Mode::Advise,
            outputs: BTreeMap::from([(slot("limit"), limit)]),
        },
        settings: Arc::new(BTreeMap::from([("breed".into(), "duroc".into())])),
        limits: Limits {
            memory: 32 << 20,
            cpu: 200_000_000,
            state: 64 << 20,
            share: 500_000_000,
            points: 10_000,
        },
        timezone: "Europe/Berlin".into(),
        keep_up: true,
    };
    let begins = LaneMeta::default();
    let app = installation.app.clone();
    let (of, new, meta_of) = (installation.clone(), revision.clone(), begins.clone());
    let timers = vec![
        ("egg".into(), None),
        ("ham".into(), Some(OneShot { due: Timestamp(1000), asked: Timestamp(900) })),
    ];
    let revised = AdminRecord::Revised(Box::new(Revised {
        installation: of,
        revision: new,
        meta: meta_of,
        alarms: vec![alarm(AlarmState::Acknowledged, None)],
        timers: timers.clone(),
        state: vec![("a".into(), None), ("b".into(), Some(vec![0xff, 0]))],
        owner: Some(Box::new(AppOwner {
            tenant: TenantId::MAIN,
            app,
            key: Some(KEY.parse().unwrap()),
            catalog: Some(CatalogNumber(300)),
            since: Timestamp(1234),
        })),
    }));
    let ended = Ended { installation: installation.clone(), meta: begins.clone() };
    let new = NewInstallation { installation, revision, meta: begins, adopted: None, owner: None };
    let reset = Reset { ended: ended.clone(), at: Timestamp(1234), new: new.clone() };
    let adopted = Adopted { alarms: vec![alarm(AlarmState::Acknowledged, None)], timers };
    let adopting = NewInstallation { adopted: Some(Box::new(adopted)), ..new };
    let of_copies = copies::records(ended.clone(), adopting.clone());
    let installed = AdminRecord::Installed(vec![adopting]);
    let uninstalled = AdminRecord::Uninstalled { ended: Box::new(ended), at: Timestamp(1234), purge: true };
    let (id, generation) = (pigs(), Generation(3));
    let mut all = vec![
        (AdminRecord::PackageAdded { tenant: TenantId::MAIN, package: Box::new(record) }, PACKAGE_ADDED),
        (AdminRecord::PackageRemoved(package), PACKAGE_REMOVED),
        (AdminRecord::Compiled { package, compiled: compiled() }, COMPILED),
        (installed, INSTALLED),
        (
            AdminRecord::Standing { id, generation, standing: Standing::Paused, meta: Box::new(meta()) },
            STANDING,
        ),
        (uninstalled, UNINSTALLED),
        (
            AdminRecord::Alarm {
                generation,
                alarm: Box::new(alarm(AlarmState::Acknowledged, None)),
                episodes: Episodes { kept: 2, bytes: 300 },
            },
            ALARM,
        ),
        (
            AdminRecord::DeadLetterDeleted { generation, number: 12, kept: 3, bytes: 1000 },
            DEAD_LETTER_DELETED,
        ),
        (
            AdminRecord::UnitsGiven(vec![(PointNumber(3), "kg".into()), (PointNumber(300), "Cel".into())]),
            UNITS_GIVEN,
        ),
        (
            AdminRecord::TimeSet {
                to: Timestamp(1234),
                due: vec![LaneDue {
                    generation,
                    cron: vec![(slot("daily"), Timestamp(86400))],
                    timers: vec![("egg".into(), Timestamp(1000))],
                }],
            },
            TIME_SET,
        ),
        (
            AdminRecord::Purged { id: pigs(), generations: vec![generation, Generation(256)], points: true },
            PURGED,
        ),
        (AdminRecord::Missed { id: pigs(), generation, through: Sequence(300), gaps: vec![gap()] }, MISSED),
        (AdminRecord::Dropped { tenant: TenantId::MAIN, before: Sequence(301) }, DROPPED),
        (revised, REVISED),
        (AdminRecord::Reset(Box::new(reset)), RESET),
        (
            AdminRecord::IntentConfirmed(Box::new(Asked {
                installation: pigs(),
                place: IntentPlace { generation, ordinal: Ordinal(5), index: 2 },
                at: Timestamp(1234),
                number: 300,
                intent: intent(),
                safe: Some(Value::Real(6.0)),
                acts: false,
                confirmed: true,
            })),
            INTENT_CONFIRMED,
        ),
        (connector_set(Some("{\"a\":\"ä\"}"), true), CONNECTOR_SET),
        (connector_set(None, false), CONNECTOR_SET_OF_FILE),
        (AdminRecord::ConnectorRemoved { name: "gate".into() }, CONNECTOR_REMOVED),
        (catalog_set(package), CATALOG_SET),
        (AdminRecord::CatalogRemoved { name: "plant".into() }, CATALOG_REMOVED),
        (token_made(), TOKEN_MADE),
        (AdminRecord::Token(TokenChange::Removed(TokenName::new("anna").unwrap())), TOKEN_REMOVED),
        (consent_asked(package), CONSENT_ASKED),
        (AdminRecord::ConsentRefused { id: pigs() }, CONSENT_REFUSED),
        (
            AdminRecord::StateChanged(Box::new(StateChanged {
                id: pigs(),
                generation,
                key: "animal/ä".into(),
                value: Some(vec![0xff, 0]),
                bytes: 300,
                repaired: Ordinal(4),
            })),
            STATE_CHANGED,
        ),
        (
            AdminRecord::Expired(Box::new(Expired {
                id: pigs(),
                generation: Generation(3),
                invocations_gone_before: Ordinal(2),
                alarms: vec![alarm(AlarmState::Acknowledged, None)],
                episodes_gone: vec![EpisodePlace { since: Timestamp(77), number: 3 }],
                dead_letters_gone: vec![7, 8],
                meta: meta(),
            })),
            EXPIRED,
        ),
        (
            AdminRecord::PointSet(Box::new(PointSet {
                number: PointNumber(300),
                unit: Some("kg".into()),
                description: Some("Ä".into()),
            })),
            POINT_SET,
        ),
        (
            AdminRecord::PointsRetired(PointsRetired {
                numbers: vec![PointNumber(3), PointNumber(300)],
                readings: true,
                made: vec![(generation, 200)],
            }),
            POINTS_RETIRED,
        ),
        (
            AdminRecord::PointRenamed(Box::new(PointRenamed {
                from: PointNumber(3),
                earlier: vec![PointNumber(1)],
                number: PointNumber(300),
                path: PointPath::new(TenantId::MAIN, "a/ä").unwrap(),
                unit: Some("kg".into()),
                description: None,
                latest: Some(CarriedReading {
                    sequence: Sequence(300),
                    at: Timestamp(7),
                    quality: Quality::Good,
                    value: Value::Integer(-2),
                }),
            })),
            POINT_RENAMED,
        ),
    ];
    all.extend(of_copies);
    all
}

/// Holds all of them against their bytes, and names each that is written otherwise.
fn are_written_so<R: std::fmt::Debug>(
    records: impl IntoIterator<Item = (R, &'static str)>,
    encode: fn(&R) -> Vec<u8>,
) {
    let otherwise = records.into_iter().filter_map(|(record, golden)| {
        let written = hex(&encode(&record));
        (written != golden).then(|| format!("{record:?}\n written {written}\nexpected {golden}"))
    });
    let otherwise: Vec<String> = otherwise.collect();
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
}

#[test]
fn the_bytes_of_readings_never_change() {
    are_written_so(readings_records(), encode_readings);
    for (record, golden) in readings_records() {
        assert_eq!(readings::decode(readings::VERSION, &unhex(golden)), Ok(record));
    }
}

#[test]
fn the_bytes_of_a_commit_never_change() {
    assert_eq!(hex(&encode_commit(&commit_record())), COMMIT);
    assert_eq!(commit::decode(commit::VERSION, &unhex(COMMIT)), Ok(commit_record()));
}

#[test]
fn the_bytes_of_an_admins_changes_never_change() {
    are_written_so(admin_records(), encode_admin);
    for (record, golden) in admin_records() {
        assert_eq!(admin::decode(admin::VERSION, &unhex(golden)), Ok((record, None)));
    }
}
