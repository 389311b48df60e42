//! Golden bytes, derived by hand: numbers are LEB128, texts and lists have their length before them, an option begins
//! with 0 or 1, variants are numbered, and fields come in the order of their types.

use std::fmt::Debug;

use super::*;
use crate::fold::points::Points;
use crate::fold::requests::Remembered;
use crate::records::admin::PackageRecord;
use crate::records::alarm::{AlarmRecord, AlarmState, Cleared, ClearedBy, Note};
use crate::records::commit::DeadLetter;
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::intent::{self, Asked, Driven, IntentPlace, Outcome, Told};
use ironloom_apps::binding::{Bindings, InputBinding, Known, OutputBinding, Target};
use ironloom_apps::grants::{Grants, OutputGrant, Safe, Toward};
use ironloom_apps::manifest::Severity;
use ironloom_apps::manifest::{OutputKind, ValueType};
use ironloom_apps::pattern::Pattern;
use ironloom_apps::quantity::Span;
use ironloom_apps::unit::Conversion;
use ironloom_types::CompiledRef;
use ironloom_types::effects::{Intent, OneShot};
use ironloom_types::ids::{self, AppId, Digest, Ordinal, PointNumber, PointPath, SlotName};
use ironloom_types::limits::Limits;
use ironloom_types::readings::{Columns, NewPoint, Quality, Value, ValueRef};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, expected: &str) {
    let bytes = encode(&value);
    assert_eq!(hex(&bytes), expected, "{value:?}");
    assert_eq!(decode::<T>(&bytes), Ok(value));
}

/// A digest, and its bytes: it stands as text, `sha256:` and two digits for each of 32 bytes, 71 (0x47) in all.
fn digest(byte: u8) -> (Digest, String) {
    let digits = format!("{byte:02x}").repeat(32);
    (Digest([byte; 32]), format!("477368613235363a{}", hex(digits.as_bytes())))
}

fn slot(name: &str) -> SlotName {
    SlotName::new(name).unwrap()
}

#[test]
fn installations() {
    let (package, package_bytes) = digest(0xab);
    let installation = |standing| Installation {
        id: InstallationId::new(TenantId::MAIN, "pigs").unwrap(),
        generation: Generation(300),
        begun: Generation(301),
        app: AppId::new("com.example.pigs").unwrap(),
        version: "0.1.0".to_owned(),
        package,
        standing,
        revision: ids::Revision(2),
        trial: None,
        went_back: None,
        publisher: None,
    };
    for (standing, standing_byte) in [(Standing::Running, "00"), (Standing::Paused, "01")] {
        let expected = [
            // The id, of the tenant `main`.
            "010470696773",
            // The generation: 300 is 0b10_0101100.
            "ac02",
            // The number that it was given: one more.
            "ad02",
            // The app: 16 bytes.
            "10636f6d2e6578616d706c652e70696773",
            // Its version.
            "05302e312e30",
            // The package.
            &package_bytes,
            // Whether it runs.
            standing_byte,
            // The revision.
            "02",
            // Nothing to roll back, nor was it.
            "0000",
            // No publisher.
            "00",
        ];
        golden(installation(standing), &expected.concat());
    }
}

/// Bindings with each kind of output, and their bytes.
fn bindings() -> (Bindings, String) {
    let pattern = |text| Pattern::new(TenantId::MAIN, text).unwrap();
    let output = |name, kind, value_type, target| OutputBinding {
        name: slot(name),
        kind,
        value_type,
        unit: None,
        target,
    };
    let input = InputBinding {
        name: slot("weight"),
        value_type: ValueType::Real,
        unit: Some("kg".into()),
        conversions: vec![Known { unit: "g".into(), conversion: Conversion { factor: 0.001, offset: 0.0 } }],
        patterns: vec![pattern("a/{x}"), pattern("b")],
    };
    let own = Target::Default { prefix: PointPath::new(TenantId::MAIN, "apps/pigs/gain").unwrap() };
    let to = Target::Pattern { pattern: pattern("b/{x}"), order: vec![0] };
    let outputs = vec![
        output("gain", OutputKind::Derived, ValueType::Text, own),
        output("gate", OutputKind::SetPoint, ValueType::Boolean, Target::Unbound),
        output("feed", OutputKind::SetPoint, ValueType::Integer, to),
    ];
    let expected = [
        // One input: its name, a real, its unit, one unit that becomes it (times 0.001, plus 0), and two patterns.
        "01",
        "06776569676874",
        "02",
        "01026b67",
        "010167fca9f1d24d62503f0000000000000000",
        "020105612f7b787d010162",
        // Three outputs, each with name, kind, type, no unit, target. Derived, a text, to `apps/pigs/gain`.
        "03",
        "046761696e",
        "00",
        "03",
        "00",
        "01010e617070732f706967732f6761696e",
        // A set-point, a boolean, not bound.
        "0467617465",
        "01",
        "00",
        "00",
        "00",
        // A set-point, an integer, to `b/{x}`, with the entity's first segment.
        "0466656564",
        "01",
        "01",
        "00",
        "020105622f7b787d0100",
    ];
    (Bindings { inputs: vec![input], outputs }, expected.concat())
}

#[test]
fn a_revision() {
    let (package, package_bytes) = digest(1);
    let (bindings, bindings_bytes) = bindings();
    let grant = OutputGrant {
        allow: "0, 6..32".parse().unwrap(),
        toward: Toward::High,
        ttl: Some(Span(300)),
        safe: Some(Safe::Hold),
        strict: true,
        every: None,
    };
    let revision = Revision {
        number: ids::Revision(2),
        begun: Generation(300),
        from: Sequence(200),
        package,
        bindings: bindings.into(),
        grants: Grants { mode: ironloom_apps::grants::Mode::Act, outputs: [(slot("feed"), grant)].into() },
        settings: std::sync::Arc::new(
            [("age".to_owned(), "28".to_owned()), ("breed".to_owned(), String::new())].into(),
        ),
        limits: Limits { memory: 1, cpu: 2, state: 3, share: 4, points: 300 },
        timezone: "UTC".to_owned(),
        keep_up: false,
    };
    let expected = [
        // Its number.
        "02",
        // The installation's number: 300 is 0b10_0101100.
        "ac02",
        // From which sequence on: 200 is 0b1_1001000.
        "c801",
        // The package.
        &package_bytes,
        // The bindings.
        &bindings_bytes,
        // The mode: act.
        "02",
        // One grant: its output, the values as text, toward high, 300 ns, `hold`, strict.
        "01",
        "0466656564",
        "08302c20362e2e3332",
        "01",
        "01ac02",
        "0104686f6c64",
        "01",
        // As often as it asks.
        "00",
        // Two settings, in the order of their names.
        "02",
        "03616765",
        "023238",
        "056272656564",
        "00",
        // The limits: memory, CPU time, state, share, points.
        "01",
        "02",
        "03",
        "04",
        "ac02",
        // The time zone.
        "03555443",
        // Nobody is slowed for it.
        "00",
    ];
    golden(revision, &expected.concat());
}

#[test]
fn packages() {
    let ([image, file, wasm], [image_bytes, file_bytes, wasm_bytes]) = {
        let [image, file, wasm] = [1, 2, 3].map(digest);
        ([image.0, file.0, wasm.0], [image.1, file.1, wasm.1])
    };
    let ((engine, engine_bytes), (code, code_bytes)) = (digest(4), digest(5));
    let package = |sdk_version: Option<&str>| PackageRecord {
        digest: image,
        manifest: "manifest = 1\n".to_owned(),
        file,
        // The public key of the third test of RFC 8032, section 7.1.
        signers: vec!["ed25519:_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU".parse().unwrap()],
        imports: vec!["a".to_owned(), "bc".to_owned()],
        sdk_version: sdk_version.map(str::to_owned),
        compiled: CompiledRef { wasm, engine, code },
    };
    for (sdk_version, sdk_bytes) in [(None, "00"), (Some("0.1.0"), "0105302e312e30")] {
        let expected = [
            // The digest of its image.
            &*image_bytes,
            // The manifest: 13 bytes.
            "0d6d616e6966657374203d20310a",
            // The digest of its file.
            &file_bytes,
            // One key has signed it: 51 bytes of text.
            "0133656432353531393a5f46484e6a6d49596f614f4e70483751416a44775741675737524f364d774f735865755246556951674355",
            // Two imports.
            "020161026263",
            // The SDK's version, if it was built with it.
            sdk_bytes,
            // Its compiled code: component, engine, code.
            &wasm_bytes,
            &engine_bytes,
            &code_bytes,
        ];
        golden(package(sdk_version), &expected.concat());
    }
}

#[test]
fn dead_letters() {
    let letter = |value| DeadLetter {
        number: 300,
        input: slot("weight"),
        entity: "pig-1".into(),
        point: PointNumber(7),
        sequence: Sequence(200),
        time: Timestamp(1234),
        at: Timestamp(5),
        quality: Quality::Uncertain,
        value,
        conversion: None,
        unit: None,
        reason: "trap: x".into(),
        by_trap: true,
        ordinal: Ordinal(9),
        revision: ids::Revision(2),
    };
    for (value, value_bytes) in [
        (Value::Missing, "00"),
        (Value::Boolean(true), "0101"),
        // Zigzag: -1 is 1, 1 is 2.
        (Value::Integer(-1), "0201"),
        // 1.0 is 0x3ff0000000000000, little-endian.
        (Value::Real(1.0), "03000000000000f03f"),
        (Value::Text("hi".into()), "04026869"),
        (Value::Blob([0xff].into()), "0501ff"),
    ] {
        let expected = [
            // Its number.
            "ac02",
            // The input, and the entity.
            "06776569676874",
            "057069672d31",
            // The point, and the reading's place in the stream.
            "07",
            "c801",
            // The journal time 1234 is 0b1001_1010010; the time at the source.
            "d209",
            "05",
            // The quality: uncertain.
            "01",
            value_bytes,
            // Neither a conversion nor a unit.
            "00",
            "00",
            // The reason, and that a trap was it.
            "07747261703a2078",
            "01",
            // The invocation, and its revision.
            "09",
            "02",
        ];
        golden(letter(value), &expected.concat());
    }
}

#[test]
fn points() {
    let page: StoredPoints<'_> = vec![
        StoredPoint::Removed,
        StoredPoint::There { tenant: TenantId::MAIN, path: "a/b", unit: None, description: None },
        StoredPoint::There { tenant: TenantId::MAIN, path: "a/b", unit: Some("kg"), description: Some("Ä") },
        StoredPoint::Retired { tenant: TenantId::MAIN, path: "a/b", was: None, unit: None },
        StoredPoint::Retired { tenant: TenantId::MAIN, path: "a/b", was: Some("a/c"), unit: Some("kg") },
    ];
    let bytes = encode(&page);
    let expected = [
        "05",
        "00",
        "010103612f620000",
        "010103612f6201026b670102c384",
        "020103612f620000",
        "020103612f620103612f6301026b67",
    ];
    assert_eq!(hex(&bytes), expected.concat());
    assert_eq!(postcard::from_bytes(&bytes), Ok(page));
}

#[test]
fn a_generation() {
    let removed = Removed { at: Timestamp(1234), purge: true };
    let installation = InstallationId::new(TenantId::MAIN, "pigs").unwrap();
    let (package, package_bytes) = digest(1);
    let ended = Installation {
        id: installation.clone(),
        generation: Generation(3),
        begun: Generation(4),
        app: AppId::new("com.example.pigs").unwrap(),
        version: "0.1.0".to_owned(),
        package,
        standing: Standing::Running,
        revision: ids::Revision(2),
        trial: None,
        went_back: None,
        publisher: None,
    };
    let removed_only = StoredLane {
        installation,
        meta: LaneMeta::default(),
        removed: Some(removed),
        ended: None,
        copy: None,
    };
    let kept = StoredLane { ended: Some(ended), ..removed_only.clone() };
    // Five numbers, fifteen counters, eight numbers, no timer, five of the failure rules, no quarantine, no error, none of a
    // timer, no gap, where it began, nothing published, no change by a person, no invocation gone, nothing skipped.
    let meta = "00".repeat(5 + 15 + 8 + 1 + 5 + 1 + 1 + 1 + 1 + 2 + 1 + 1 + 1 + 1);
    golden(removed_only, &format!("010470696773{meta}01d209010000"));
    // As one that may be adopted: id, generation, number, app, version, package, running, revision, nothing to roll back, nor was it, no publisher.
    let ended =
        format!("010470696773030410636f6d2e6578616d706c652e7069677305302e312e30{package_bytes}0002000000");
    golden(kept, &format!("010470696773{meta}01d2090101{ended}00"));
}

#[test]
fn the_fold_position() {
    let (package, package_bytes) = digest(7);
    let mut generations = LastGenerations::default();
    generations.note(Generation(3));
    let fold = FoldPosition {
        position: Position(300),
        witness: Position(305),
        folded_through: [(TenantId::MAIN, Sequence(200)), (TenantId(7), Sequence(1))].into_iter().collect(),
        time: Timestamp(1234),
        points: 7,
        generations,
        pending: vec![(Generation(3), Sequence(150))],
        packages_gone: vec![package],
    };
    golden(fold, &format!("ac02b1020201c8010701d209070101030103960101{package_bytes}"));
}

#[test]
fn requests_and_timers() {
    let request = Remembered { request: [9; 16], time: Timestamp(1234), accepted: 5, through: Sequence(300) };
    golden(request, &format!("{}d20905ac02", "09".repeat(16)));
    // 1234 is 0b1001_1010010, 200 is 0b1_1001000.
    golden(OneShot { due: Timestamp(1234), asked: Timestamp(200) }, "d209c801");
}

#[test]
fn streams() {
    let progress = Progress { lines: 300, taken: 200, refused: 2, mark: [1, 2, 3, 4, 5, 6, 7, 8] };
    // 300 is 0b10_0101100, 200 is 0b1_1001000; the mark stands as it is; the time.
    golden(StoredStream { progress, at: Timestamp(1234) }, "ac02c801020102030405060708d209");
}

#[test]
fn alarms() {
    let note =
        |at, comment: Option<&str>| Note { at: Timestamp(at), by: None, comment: comment.map(Into::into) };
    let alarm = AlarmRecord {
        code: SlotName::new("too-hot").unwrap(),
        entity: "pig-1".into(),
        number: 6,
        severity: Severity::Low,
        state: AlarmState::Acknowledged,
        over: true,
        message: "42 Cel".into(),
        since: Timestamp(999),
        raised: Timestamp(1000),
        cleared: Some(Cleared { at: Timestamp(1002), by: ClearedBy::App }),
        acknowledged: vec![note(1001, None)],
        shelved: None,
        comments: vec![note(1004, Some("ok"))],
    };
    let what = "07746f6f2d686f74057069672d3106";
    let how = "000101";
    let times = "e707e80701ea0700";
    let people = "01e90700000001ec070001026f6b";
    golden(alarm, &format!("{what}{how}0634322043656c{times}{people}"));
}

#[test]
fn a_page_of_latest_values() {
    let points = Points::default();
    let new = |path| Some(NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: None });
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

#[test]
fn set_points_on_their_way() {
    let intent = Intent {
        list: 1,
        output: slot("limit"),
        entity: "pig-1".into(),
        point: PointPath::new(TenantId::MAIN, "plant/7/limit").unwrap(),
        asked: Value::Real(40.0),
        value: Value::Real(32.0),
        time_to_live: 60_000_000_000,
    };
    let asked = Asked {
        installation: InstallationId::new(TenantId::MAIN, "pigs").unwrap(),
        place: IntentPlace { generation: Generation(3), ordinal: Ordinal(5), index: 2 },
        at: Timestamp(1234),
        number: 300,
        intent,
        safe: Some(Value::Real(6.0)),
        acts: false,
        confirmed: true,
    };
    let expected = [
        // The installation.
        "010470696773",
        // Its place: generation 3, ordinal 5, index 2.
        "030502",
        // The time of its invocation, and its number.
        "d209ac02",
        // List 1, output, entity, point, 40 asked for and 32 sent (reals), 60 s.
        "01056c696d6974057069672d31010d706c616e742f372f6c696d697403000000000000444003000000000000404080b09dc2df01",
        // The safe value, 6; it was only advised, and is confirmed.
        "010300000000000018400001",
    ];
    golden(asked, &expected.concat());
}

#[test]
fn a_point_that_is_driven() {
    let driven = Driven {
        point: PointPath::new(TenantId::MAIN, "plant/7/limit").unwrap(),
        installation: InstallationId::new(TenantId::MAIN, "pigs").unwrap(),
        generation: Generation(3),
        output: slot("limit"),
        entity: "pig-1".into(),
        told: Some(Told {
            value: Value::Real(32.0),
            number: 300,
            until: Some(Timestamp(1234)),
            safe: Some(Value::Real(6.0)),
        }),
        passed: 200,
        last: intent::Ended {
            id: Some("00112233445566778899aabbccddeeff".parse().unwrap()),
            asked: Value::Real(40.0),
            value: Value::Real(32.0),
            outcome: Outcome::Accepted,
            reason: None,
            at: Timestamp(1000),
        },
    };
    let expected = [
        // The point.
        "010d706c616e742f372f6c696d6974",
        // The installation and its generation.
        "01047069677303",
        // The output and the entity.
        "056c696d6974057069672d31",
        // Told: 32 as a real, number 300, until 1234, and 6 then.
        "01030000000000004040ac0201d20901030000000000001840",
        // Intents up to number 200 were overtaken.
        "c801",
        // The last end: its id as 32 digits, 40 asked for and 32 sent, accepted, no reason, at 1000.
        "012030303131323233333434353536363737383839396161626263636464656566660300000000000044400300000000000040400100e807",
    ];
    golden(driven, &expected.concat());
}
