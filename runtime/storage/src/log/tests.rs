//! The format to the byte, and what recovery says of damage.

use super::error::LogError;
use super::frame::{self, Header, RecordKind};
use super::model::World;
use super::reader::Record;
use super::segment::{self, BadHeader, Segment, SegmentHeader};
use crate::disk::Disk;
use crate::testing::SimDisk;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Epoch, Position, Sequence, StreamId, TenantId};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The expected bytes were put together by a few lines of Python from the tables of `frame.rs` and
/// `segment.rs`, with a bitwise CRC32C that gives the check value of RFC 3720.
#[test]
fn the_bytes_of_each_kind_never_change() {
    let golden = [
        (
            RecordKind::Readings,
            "readings",
            "3e00000024c5e0aa0700000008070605040302010007060504030201010201000000000000001817161514131211\
             282726252423222172656164696e6773",
        ),
        (
            RecordKind::Commit,
            "commit",
            "3c000000c39e1ad80700000008070605040302010007060504030201020301000000000000001817161514131211\
             2827262524232221636f6d6d6974",
        ),
        (
            RecordKind::Admin,
            "admin",
            "3b00000088ac14df0700000008070605040302010007060504030201030401000000000000001817161514131211\
             282726252423222161646d696e",
        ),
        (
            RecordKind::Mark,
            "",
            "36000000ff1284500700000008070605040302010007060504030201040100000000000000000000000000000000\
             0000000000000000",
        ),
    ];
    for (kind, body, expected) in golden {
        let mark = kind == RecordKind::Mark;
        let header = Header {
            epoch: Epoch(7),
            position: Position(0x0102_0304_0506_0708),
            durable: Position(0x0102_0304_0506_0700),
            kind,
            version: if mark { 1 } else { kind as u8 + 1 },
            tenant: TenantId(if mark { 0 } else { 1 }),
            stream: StreamId::MAIN,
            first_sequence: Sequence(if mark { 0 } else { 0x1112_1314_1516_1718 }),
            journal_time: Timestamp(if mark { 0 } else { 0x2122_2324_2526_2728 }),
        };
        let mut record = vec![0; frame::RECORD_HEADER];
        record.extend_from_slice(body.as_bytes());
        frame::seal(&mut record, &header, 0xdead_beef);
        assert_eq!(hex(&record), expected, "{kind:?}");
        assert_eq!(frame::valid(&record, 0xdead_beef), Some(&record[..]));
        assert_eq!(frame::valid(&record, 0xdead_beee), None, "another segment's salt");
        assert_eq!(frame::header(&record), Ok(header));
    }
}

#[test]
fn the_bytes_of_a_segment_header_never_change() {
    let header = SegmentHeader {
        number: 3,
        epoch: Epoch(7),
        first: Position(100),
        durable: Position(99),
        salt: 0xdead_beef,
        bytes: 64 << 20,
        log: 0x1122_3344_5566_7788,
    };
    let expected = "49524f4e4c4f4f4d0100000003000000000000000700000064000000000000006300000000000000efbeadde\
                    00000004000000008877665544332211908d7bee";
    assert_eq!(hex(&header.encode()), expected);
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
}

#[test]
fn what_a_newer_binary_wrote_is_called_newer_and_not_damaged() {
    let header = SegmentHeader {
        number: 1,
        epoch: Epoch(1),
        first: Position(1),
        durable: Position(0),
        salt: 5,
        bytes: 12 << 10,
        log: 1,
    };
    let mut bytes = header.encode();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Newer(2)));

    let mut world = World::new(1);
    world.live().unwrap();
    let record = some_records(&mut world).pop().unwrap();
    let name = name_of(&record);
    let salt = frame::u32_at(&world.disk.bytes(&name), 40).unwrap();
    let start = record.at.offset as usize;
    let mut bytes = world.disk.bytes(&name)[start..start + record.at.bytes()].to_vec();
    let before = bytes.clone();
    bytes[28] = 9;
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(salt, &bytes[..4]), &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    for (at, (old, new)) in before.iter().zip(&bytes).enumerate() {
        world.disk.flip(&name, (start + at) as u64, old ^ new);
    }
    let error = world.recover().err().unwrap();
    assert!(matches!(error, LogError::Newer { offset, .. } if offset == start as u64), "{error}");
    assert!(error.to_string().contains("records of kind 9"), "{error}");
}

/// The records behind the fold position.
fn some_records(world: &mut World) -> Vec<Record> {
    world.recover().unwrap().records().unwrap().map(Result::unwrap).collect()
}

fn name_of(record: &Record) -> String {
    super::segment::numbered(record.at.segment)
}

fn segments(world: &World) -> Vec<(String, SegmentHeader)> {
    let mut names = world.disk.list().unwrap();
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    let header = |name: &String| {
        let bytes = world.disk.bytes(name);
        SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap()
    };
    names.iter().map(|name| (name.clone(), header(name))).collect()
}

/// Worlds whose last life ended well.
fn worlds() -> impl Iterator<Item = World> {
    (0..300).map(|seed| {
        let mut world = World::new(seed);
        world.live().unwrap();
        if seed % 2 == 0 {
            world.disk.kill();
            world.live().unwrap();
        }
        world
    })
}

#[test]
fn damage_is_named_wherever_the_log_knows_that_it_was_flushed() {
    let (mut found, mut tails) = (0, 0);
    for mut world in worlds() {
        let records = some_records(&mut world);
        let of_records = records.iter().map(|record| record.header.durable);
        let of_segments = segments(&world).into_iter().map(|(_, header)| header.durable);
        let known = of_records.chain(of_segments).chain([world.fold(), world.rests_on()]);
        let witness = known.max().unwrap();
        for record in &records {
            let at = u64::from(record.at.offset) + world.random.below(record.at.bytes() as u64);
            let bits = 1 << world.random.below(8);
            world.disk.flip(&name_of(record), at, bits);
            match world.recover() {
                Err(LogError::Damaged { path, offset, .. }) => {
                    assert!(record.at.position <= witness);
                    assert_eq!(
                        (path, offset),
                        (format!("log/{}", name_of(record)), u64::from(record.at.offset))
                    );
                    found += 1;
                }
                Err(error) => panic!("{error}"),
                Ok(recovered) => {
                    assert!(record.at.position > witness, "{} of {witness}", record.at.position);
                    assert_eq!(recovered.end().next(), record.at.position);
                    tails += 1;
                }
            }
            world.disk.flip(&name_of(record), at, bits);
        }
    }
    assert!(found > 1000 && tails > 100, "both happen: {found}, {tails}");
}

#[test]
fn a_bad_header_is_damage_in_any_numbered_file() {
    for mut world in worlds().take(50) {
        for (name, _) in segments(&world) {
            let at = world.random.below(64);
            world.disk.flip(&name, at, 4);
            let error = world.recover().err().unwrap();
            let named = matches!(&error, LogError::Damaged { path, offset: 0, .. } if path.ends_with(&name));
            assert!(named, "{error}");
            world.disk.flip(&name, at, 4);
        }
    }
}

#[test]
fn the_bytes_of_the_next_segments_number_never_change() {
    let segment = &segment_of_bytes(12 << 10);
    let disk = SimDisk::new(1);
    let file = disk.create("3.free", 12 << 10).unwrap();
    let segment = Segment::new("3.free".into(), *segment, file, 12 << 10);
    segment::note_next(&disk, &segment, 4).unwrap();
    let bytes = disk.bytes("3.free");
    assert_eq!(hex(&bytes[4096..4108]), "040000000000000069e4d0aa");
    assert_eq!(segment::noted_next(&segment.header, &bytes), Some(4));
    let reused = SegmentHeader { number: 5, ..segment.header };
    assert_eq!(segment::noted_next(&reused, &bytes), None, "from an earlier use of the file");
}

#[test]
fn the_next_segments_number_outlives_a_loss_of_power() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let file = disk.create("3.log", 12 << 10).unwrap();
        disk.sync_folder().unwrap();
        let segment = Segment::new("3.log".into(), segment_of_bytes(12 << 10), file, 12 << 10);
        segment::note_next(&disk, &segment, 4).unwrap();
        disk.power_cut();
        assert_eq!(segment::noted_next(&segment.header, &disk.bytes("3.log")), Some(4));
    }
}

fn segment_of_bytes(bytes: u64) -> SegmentHeader {
    SegmentHeader {
        number: 3,
        epoch: Epoch(7),
        first: Position(100),
        durable: Position(99),
        salt: 0xdead_beef,
        bytes,
        log: 1,
    }
}

/// Every segment that holds records behind the fold position, the last one too, and the last one though it
/// holds none: where nothing else knows of it the store or the segment before it does.
#[test]
fn a_missing_segment_is_named() {
    let mut lost = 0;
    for mut world in worlds() {
        let records = some_records(&mut world);
        let last = segments(&world).pop().unwrap().0;
        let names = records.iter().map(name_of).chain([last]);
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            world.disk.lose(&name);
            let error = world.recover().err().unwrap_or_else(|| panic!("{name} isn't missed"));
            assert!(matches!(error, LogError::Damaged { .. } | LogError::Missing { .. }), "{error}");
            world.disk.find_again(&name);
            lost += 1;
        }
    }
    assert!(lost > 500, "{lost}");
}

#[test]
fn a_log_that_is_gone_is_missed_though_nothing_was_folded_yet() {
    for mut world in worlds() {
        for (name, _) in segments(&world) {
            world.disk.lose(&name);
        }
        let error = world.recover().err().unwrap();
        assert!(matches!(error, LogError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("is missing"), "{error}");
    }
}

#[test]
fn a_segment_that_was_cut_off_is_damage_wherever_it_was_cut() {
    for mut world in worlds().take(100) {
        for (name, header) in segments(&world) {
            let length = world.random.below(header.bytes);
            let whole = world.disk.cut(&name, length);
            let error = world.recover().err().unwrap();
            let named = matches!(&error, LogError::Damaged { path, .. } if path.ends_with(&name));
            assert!(named, "{error}");
            world.disk.restore(&name, whole);
        }
        world.recover().unwrap();
    }
}

#[test]
fn a_store_that_belongs_to_another_log_is_called_that() {
    let mut world = worlds().find(|world| world.fold() > Position(0)).unwrap();
    world.store_of_epoch(Epoch(0));
    let error = world.recover().err().unwrap();
    assert!(error.to_string().contains("the store is older"), "{error}");

    let mut other = World::new(7_777);
    other.live().unwrap();
    other.disk = world.disk.clone();
    let error = other.recover().err().unwrap();
    assert!(error.to_string().contains("was written with another store"), "{error}");

    world.empty_store();
    let error = world.recover().err().unwrap();
    assert!(matches!(error, LogError::OtherStore { .. }));
    assert!(error.to_string().contains("the store is empty, and the log has segments"), "{error}");
}

#[test]
fn a_log_that_ends_before_what_its_store_rests_on_is_damaged() {
    for mut world in worlds().take(20) {
        let end = world.recover().unwrap().end();
        world.store_rests_on(end);
        world.recover().unwrap();
        world.store_rests_on(end.next());
        let error = world.recover().err().unwrap();
        assert!(matches!(error, LogError::Damaged { .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("the log was flushed through record {}", end.next())),
            "{error}"
        );
    }
}
