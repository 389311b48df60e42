//! The bytes of the bodies.

use super::*;
use crate::records::connector::ConnectorRecord;
use crate::records::consent::ConsentRecord;
use ironloom_types::ids::TenantId;

// Written by hand from the descriptions of the formats, not by this code.
pub(super) const READINGS: &str = concat!(
    // Its head has 45 bytes; the receipt is that of a connector.
    "2d00000001000566696c65730301020301111111111111111111111111111111112222222222222222222222222222222202ac",
    "0201076661726d2fc3a401026b67ad020101620006000000032c0100002d0100002c010000070000000700000008000000e80300",
    "0000000000d007000000000000b80b000000000000a00f000000000000881300000000000070170000000000000001020000",
    "00030200040501000000000000f83ff9ffffffffffffff000000000000000002000000000000000200000002000000010000",
    "0000000000040000006f6eff00",
);
pub(super) const PLAIN_READINGS: &str = concat!(
    "02000000000000020000000001000000020000000a000000000000000b000000000000000300000000000000800000000000",
    "00004000000000",
);
/// The bookkeeping of a lane.
macro_rules! lane_meta {
    () => {
        concat!(
            "840705028080a8b1e39fe7cb17802064650304ac0200050607080a090a0b0c0902e807010602ac02ac0201056461696c79",
            "80a3050102014d03024647015009746f6f206f6674656e0151047472617004626f6f6d06",
            // The last error of a timer: "daily", at 82, "reject", "no", invocation 6.
            "01056461696c79520672656a656374026e6f06",
            // One gap: weight, 90 to 300, 2 readings.
            "01067765696768745aac0202",
            // It began at 400, time 500. Published: behind 401, 501 through 402, 502.
            "9003f403019103f5039203f603",
            // A person changed its state behind invocation 4; summaries through invocation 3 are gone; it was moved over what is
            // behind 700 through 750.
            "01040301bc05ee05",
        )
    };
}
/// An alarm: what and of what, number, high, acknowledged, not over, message, since, raised; acknowledged; shelved; one
/// comment.
macro_rules! alarm {
    () => {
        concat!(
            "07746f6f2d686f74057069672d31060201000634322043656ce707e807",
            "0001e9070103616e6e00",
            "01eb07000103647279d00f",
            "01ec070001026f6b",
        )
    };
}
pub(super) const COMMIT: &str = concat!(
    "9102000001047069677303060202056461696c79f00684070bd209010000477368613235363a61626162616261626162616261",
    "6261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261",
    "62",
    lane_meta!(),
    "02046f6e636501f403ac02056f7468657200",
    // One episode of an alarm: what and of what, number, high, returned to normal, not over, message, since, raised.
    "0107746f6f2d686f74057069672d31060202000634322043656ce707e807",
    // Cleared at 1002 since its installation is gone; acknowledged; shelved; one comment.
    "01ea0701",
    "01e9070103616e6e00",
    "01eb07000103647279d00f",
    "01ec070001026f6b",
    // One that the history no longer has: since 77, number 3.
    "014d03",
    "060806776569676874057069672d31ac02fa06e807e707010000000b72",
    "6566757365643a206e6f0006010906776569676874057069672d31ac02fa06e807e70701010100000b726566757365643a206e6f",
    "0006010a06776569676874057069672d31ac02fa06e807e70701020500000b726566757365643a206e6f0006010b067765696768",
    // This one has a conversion (× 1000, 0x408f400000000000, and 0) to kg.
    "74057069672d31ac02fa06e807e7070103000000000000f83f010000000000408f40000000000000000001026b67",
    "0b726566757365643a206e6f0106010c0677656967687405",
    "7069672d31ac02fa06e807e7070104026f6e00000b726566757365643a206e6f0006010d06776569676874057069672d31ac02fa",
    "06e807e707010502ff0000000b726566757365643a206e6f00060102010203",
    // One set-point: list 1, limit of pig-1, point, 40 asked for and 32 sent (reals), 60 s.
    "0101056c696d6974057069672d31010d706c616e742f372f6c696d697403000000000000444003000000000000404080b09dc2df01",
    "04000b616e696d616c2f312fc3a40301020a01b601",
    "07013200000162c9017878787878787878787878787878787878787878787878787878787878787878787878787878787878",
    "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
    "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
    "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
    "78787878787878787801ae020110617070732f706967732f6761696e2f310001000000002e010000581b000000000000030000",
    "00000000d03f00000000",
);
pub(super) const PACKAGE_ADDED: &str = concat!(
    "ca0100000001477368613235363a30343034303430343034303430343034303430343034303430343034303430343034303430",
    "3430343034303430343034303430343034303430343034303430340c6d616e6966657374203d2031477368613235363a3035",
    "3035303530353035303530353035303530353035303530353035303530353035303530353035303530353035303530353035",
    "303530353035303530353035",
    // One key has signed it.
    "0133656432353531393a5f46484e6a6d49596f614f4e70483751416a44775741675737524f364d774f735865755246556951674355",
    "0115776173693a696f2f73747265616d7340302e322e330105302e312e30477368613235363a",
    "3031303130313031303130313031303130313031303130313031303130313031303130313031303130313031303130313031",
    "3031303130313031303130313031477368613235363a30323032303230323032303230323032303230323032303230323032",
    "303230323032303230323032303230323032303230323032303230323032303230323032477368613235363a303330333033",
    "3033303330333033303330333033303330333033303330333033303330333033303330333033303330333033303330333033",
    "3033303330333033",
);
pub(super) const PACKAGE_REMOVED: &str = concat!(
    "4900000001477368613235363a30343034303430343034303430343034303430343034303430343034303430343034303430",
    "343034303430343034303430343034303430343034303430343034",
);
pub(super) const COMPILED: &str = concat!(
    "2101000002477368613235363a30343034303430343034303430343034303430343034303430343034303430343034303430",
    "343034303430343034303430343034303430343034303430343034477368613235363a303130313031303130313031303130",
    "3130313031303130313031303130313031303130313031303130313031303130313031303130313031303130313031303147",
    "7368613235363a30323032303230323032303230323032303230323032303230323032303230323032303230323032303230",
    "323032303230323032303230323032303230323032477368613235363a303330333033303330333033303330333033303330",
    "33303330333033303330333033303330333033303330333033303330333033303330333033303330333033",
);
/// An installation: its tenant and id, generation, the number that it was given, app, version, package, paused, revision; it may be
/// rolled back to copy 4 until 1234, and went back at 1234 from another version; the key of its publisher.
macro_rules! installation {
    () => {
        concat!(
            "010470696773030510636f6d2e6578616d706c652e7069677305302e312e30477368613235363a303430343034303430343034",
            "3034303430343034303430343034303430343034303430343034303430343034303430343034303430343034303430343034",
            "30340101",
            "0104d209",
            "01d20905302e322e30010178",
            "0133656432353531393a5f46484e6a6d49596f614f4e70483751416a44775741675737524f364d774f735865755246556951674355",
        )
    };
}
/// The bookkeeping of a lane that has begun nothing.
macro_rules! no_meta {
    () => {
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    };
}
/// A revision.
macro_rules! revision {
    () => {
        concat!(
            // Its number, that of the installation, from where, package, bindings.
            "01058507477368613235363a3034303430343034303430343034303430343034303430343034303430343034303430343034",
            "303430343034303430343034303430343034303430343034303401067765696768740201026b67000101116661726d2f7b7069",
            "677d2f77656967687401046761696e000201046b672f6401010e617070732f706967732f6761696e",
            // The mode is advise. One grant: limit, "0, 6..32", low, 60 s, safe "6", not strict, once in 10 s.
            "01",
            "01056c696d697408302c20362e2e3332000180b09dc2df01010136000180c8afa025",
            // One setting, the limits, the time zone, sources are slowed.
            "01056272656564056475726f63808080108084af5f8080802080cab5ee01904e0d4575726f70652f4265726c696e01",
        )
    };
}
/// An installation, a revision and the bookkeeping of a lane.
macro_rules! new_installation {
    () => {
        concat!(installation!(), revision!(), no_meta!(),)
    };
}
/// One alarm, acknowledged and not cleared; two timers, of which one is gone.
macro_rules! alarm_and_timers {
    () => {
        concat!("01", alarm!(), "0203656767000368616d01e8078407",)
    };
}
/// A list of one, which adopts its generation.
pub(super) const INSTALLED: &str =
    concat!("070200000301", new_installation!(), "01", alarm_and_timers!(), "00");
pub(super) const REVISED: &str = concat!(
    "5b0200000d",
    new_installation!(),
    alarm_and_timers!(),
    // Two keys, of which one is deleted.
    "0201610001620102ff00",
    // From 1234 on the app's id belongs to a key, by the word of catalog 300, in the tenant 1.
    "010110636f6d2e6578616d706c652e706967730133656432353531393a5f46484e6a6d49596f614f4e70483751416a44775741675737524f364d774f73586575524655695167435501ac02d209",
);
/// Ended at 1234; the new one adopts nothing.
pub(super) const RESET: &str =
    concat!("980200000e", installation!(), no_meta!(), "d209", new_installation!(), "0000");
pub(super) const STANDING: &str = concat!("92000000040104706967730301", lane_meta!());
/// At 1234, and purged.
pub(super) const UNINSTALLED: &str = concat!("de00000005", installation!(), no_meta!(), "d20901");
pub(super) const ALARM: &str = concat!(
    "3f0000000603",
    // An episode, acknowledged and not cleared.
    alarm!(),
    // The history has two of 300 bytes.
    "02ac02",
);
pub(super) const DEAD_LETTER_DELETED: &str = "0600000007030c03e807";
pub(super) const PURGED: &str = "0c0000000a0104706967730203800201";
// Sequence 300, one gap.
pub(super) const MISSED: &str = "160000000b01047069677303ac0201067765696768745aac0202";
pub(super) const DROPPED: &str = "040000000c01ad02";
pub(super) const TIME_SET: &str = "1600000009d209010301056461696c7980a3050103656767e807";
// "pigs", generation 3, "animal/ä", two bytes, 300 bytes in all, behind invocation 4.
pub(super) const STATE_CHANGED: &str = "190000000f0104706967730309616e696d616c2fc3a40102ff00ac0204";
pub(super) const EXPIRED: &str = concat!(
    // "pigs", generation 3, summaries through invocation 2 were gone before.
    "d3000000100104706967730302",
    // One alarm; one episode that the history no longer has, since 77, number 3; dead letters 7 and 8.
    "01",
    alarm!(),
    "014d03",
    "020708",
    lane_meta!(),
);
// Point 300, "kg", "Ä".
pub(super) const POINT_SET: &str = "0b00000011ac0201026b670102c384";
// Points 3 and 300, whose readings stay; generation 3 has made 200 more.
pub(super) const POINTS_RETIRED: &str = "0a000000120203ac02010103c801";
// Point 3, with 1 before it, is 300: "a/ä", "kg", no words; its latest reading 300, at 7, good, -2.
pub(super) const POINT_RENAMED: &str = "1800000013030101ac020104612fc3a401026b670001ac0207000203";
pub(super) const UNITS_GIVEN: &str = "0c000000080203026b67ac020343656c";
// "pigs", generation 3, ordinal 5, index 2, time 1234, number 300; the intent; the safe value 6; confirmed.
pub(super) const INTENT_CONFIRMED: &str = concat!(
    "4e00000014010470696773030502d209ac0201056c696d6974057069672d31010d706c616e742f372f6c696d697403000000",
    "000000444003000000000000404080b09dc2df01010300000000000018400001",
);
// "gate", its table, stopped.
pub(super) const CONNECTOR_SET: &str = "13000000150467617465010a7b2261223a22c3a4227d01";
// "gate", of the file, not stopped.
pub(super) const CONNECTOR_SET_OF_FILE: &str = "080000001504676174650000";
pub(super) const CONNECTOR_REMOVED: &str = "06000000160467617465";

/// The set-point of the bodies.
pub(super) fn intent() -> Intent {
    Intent {
        list: 1,
        output: slot("limit"),
        entity: "pig-1".into(),
        point: PointPath::new(TenantId::MAIN, "plant/7/limit").unwrap(),
        asked: Value::Real(40.0),
        value: Value::Real(32.0),
        time_to_live: 60_000_000_000,
    }
}
/// Catalog 300, seen at 1234, with an index.
pub(super) const CATALOG_SET: &str = concat!(
    "600000001705706c616e74ac0201022f630103636f6d027b7d01477368613235363a30343034303430343034303430343034303430",
    "343034303430343034303430343034303430343034303430343034303430343034303430343034303430343034d209",
);
pub(super) const CATALOG_REMOVED: &str = "070000001805706c616e74";
/// An operator's, made at 1234, valid until 5678.
pub(super) const TOKEN_MADE: &str = concat!(
    "35000000190004616e6e6101010505050505050505050505050505050505050505050505050505050505050505d209062d6c",
    "6f63616c01ae2c",
);
pub(super) const TOKEN_REMOVED: &str = "07000000190104616e6e61";
pub(super) const CONSENT_ASKED: &str = concat!(
    "fd0000001a010470696773027b7d477368613235363a3034303430343034303430343034303430343034303430343034303430",
    "343034303430343034303430343034303430343034303430343034303430343034303405302e322e3005302e312e30010d72",
    "616973657320616c61726d73477368613235363a303430343034303430343034303430343034303430343034303430343034",
    "30343034303430343034303430343034303430343034303430343034303430343034d209",
    // The app, and the key that it belongs to.
    "10636f6d2e6578616d706c652e70696773",
    "0133656432353531393a5f46484e6a6d49596f614f4e70483751416a44775741675737524f364d774f735865755246556951674355",
);
pub(super) const CONSENT_REFUSED: &str = "070000001b010470696773";

pub(super) fn consent_asked(package: Digest) -> AdminRecord {
    AdminRecord::ConsentAsked(Box::new(ConsentRecord {
        id: pigs(),
        request: "{}".into(),
        package,
        version: "0.2.0".into(),
        before: "0.1.0".into(),
        wider: vec!["raises alarms".into()],
        consent: package,
        asked: Timestamp(1234),
        app: AppId::new("com.example.pigs").unwrap(),
        publisher: Some(KEY.parse().unwrap()),
    }))
}

pub(super) fn connector_set(table: Option<&str>, stopped: bool) -> AdminRecord {
    let (name, table) = ("gate".into(), table.map(Box::from));
    AdminRecord::ConnectorSet(Box::new(ConnectorRecord { name, table, stopped }))
}
/// Generation 3, as 5, at 1234.
pub(super) const COPY_BEGUN: &str = "0b0000001c0104706967730305d209";
/// For an upgrade.
pub(super) const COPIED: &str = concat!("be0100001d05", installation!(), no_meta!(), revision!(), "d20900");
pub(super) const COMMITTED: &str = "090000001e0104706967730301";
pub(super) const ROLLED_BACK: &str = concat!(
    "1d0300001f",
    installation!(),
    no_meta!(),
    "d209",
    new_installation!(),
    "01",
    alarm_and_timers!(),
    "0001",
    alarm!(),
);
/// "pigs", generations 3 and 256.
pub(super) const COPIES_DROPPED: &str = "0b0000002101047069677302038002";
