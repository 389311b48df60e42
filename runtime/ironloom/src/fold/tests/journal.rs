//! The journal while checkpoints move its readings from the log into blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::history::{Row, installed, prepared};
use super::world::{World, journal};
use crate::fold::queue::Slice;
use crate::records::admin::AdminRecord;
use ironloom_storage::journal::Filter;
use ironloom_storage::store::EngineKind;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, Sequence, TenantId};
use ironloom_types::readings::Value;

/// The value of each reading is its sequence.
fn push(world: &mut World, count: u64) {
    let first = world.model.journal.len() as u64 + 1;
    let row = |n: u64| Row { path: (n % 7) as u8, value: Value::Real((first + n) as f64), at: 51 };
    let rows: Vec<Row> = (0..count).map(row).collect();
    world.push(&rows, None, None);
    world.pump();
}

#[test]
fn a_reader_sees_each_reading_once_whatever_checkpoints_do() {
    let mut world = World::new(EngineKind::Redb);
    push(&mut world, 10);
    let shared = world.shared();
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
            std::thread::spawn(move || {
                let (mut rounds, mut seen) = (0, 0);
                while !stop.load(Ordering::Relaxed) || rounds < 3 {
                    let readings = journal(&shared);
                    assert!(readings.len() >= seen, "what was there stays");
                    seen = readings.len();
                    for (index, reading) in readings.iter().enumerate() {
                        assert_eq!(reading.value, Value::Real((index + 1) as f64));
                    }
                    rounds += 1;
                }
            })
        })
        .collect();
    for round in 0..30 {
        // Records of which some pass the end of a block, and enough of them that segments are freed.
        push(&mut world, [40, 3_000, 1, 700][round % 4]);
        if round % 3 == 2 {
            world.checkpoint(None);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    drop(shared);
    world.check();
    world.restart();
}

#[test]
fn a_place_in_the_journal_is_found_by_time_and_by_point_in_blocks_and_log() {
    let mut world = World::new(EngineKind::Redb);
    for round in 0..12 {
        push(&mut world, 5);
        if round == 4 || round == 8 {
            world.checkpoint(None);
        }
    }
    let shared = world.shared();
    let model = &world.model.journal;
    for since in model.iter().map(|reading| reading.time).flat_map(|time| [time - 1, time, time + 1]) {
        let expected =
            model.iter().position(|reading| reading.time >= since).unwrap_or(model.len()) as u64 + 1;
        assert_eq!(
            shared.journal.of(TenantId::MAIN).first_since(Timestamp(since)).unwrap(),
            Sequence(expected)
        );
    }
    assert_eq!(shared.journal.of(TenantId::MAIN).first(), Sequence(1));
    for (sequence, reading) in (1..).zip(model) {
        let time = shared.journal.of(TenantId::MAIN).time_from(Sequence(sequence)).unwrap();
        assert_eq!(time, Some(Timestamp(reading.time)), "{sequence}");
    }
    assert_eq!(
        shared.journal.of(TenantId::MAIN).time_from(shared.journal.of(TenantId::MAIN).last().next()).unwrap(),
        None
    );
    for point in 0..shared.points.names().given() {
        let path = shared.points.names().point(PointNumber(point as u32)).unwrap().path.to_string();
        let expected: Vec<u64> =
            (1..).zip(model).filter(|(_, reading)| reading.path == path).map(|(n, _)| n).collect();
        let (mut found, mut filter) =
            (Vec::new(), Filter::after(Sequence(0)).of_points([PointNumber(point as u32)]));
        while let Some(chunk) = shared.journal.of(TenantId::MAIN).find(&filter).unwrap() {
            found.extend(filter.rows(&chunk, usize::MAX).into_iter().map(|row| chunk.sequence(row).0));
            filter.after = Sequence(chunk.next_sequence().0 - 1);
        }
        assert_eq!(found, expected, "{path}");
        found.clear();
        filter.after = Sequence(0);
        while let Some(selection) = shared.journal.of(TenantId::MAIN).select(&filter, 2).unwrap() {
            found.extend(selection.readings().map(|reading| reading.sequence.0));
            filter.after = selection.through;
        }
        assert_eq!(found, expected, "{path}");
    }
}

/// The longest text of a reading below.
const TEXT: usize = 20_000;

#[test]
fn rows_of_long_texts_come_in_parts_of_bounded_bytes() {
    let mut world = World::new(EngineKind::Redb);
    for round in 0..30 {
        let row = |n: u8| Row { path: n % 7, value: Value::Text("x".repeat(TEXT).into()), at: 51 };
        world.push(&(0..12).map(row).collect::<Vec<_>>(), None, None);
        world.pump();
        if round == 19 {
            world.checkpoint(None);
        }
    }
    let shared = world.shared();
    let AdminRecord::Installed(new) = installed("one", 1, &["a"]) else { panic!("another record") };
    let routes = prepared(&shared, &new[0].revision.bindings.inputs).routes;
    let (first, last) = (shared.journal.of(TenantId::MAIN).first(), shared.journal.of(TenantId::MAIN).last());
    let sequences = |slices: &[Slice]| -> Vec<u64> {
        let of = |slice: &Slice| slice.rows().iter().map(|row| slice.note.sequence_of(row).0).collect();
        slices.iter().flat_map(|slice| -> Vec<u64> { of(slice) }).collect()
    };
    let all = sequences(&shared.rows_between(TenantId::MAIN, &routes, first, last).unwrap());
    assert!(all.len() > 100, "{} readings", all.len());

    for most in [1, 5 * TEXT, 50 * TEXT] {
        let (mut found, mut from, mut parts) = (Vec::new(), first, 0);
        while from <= last {
            let (slices, through) = shared.rows_within(TenantId::MAIN, &routes, (from, last), most).unwrap();
            let part = sequences(&slices);
            assert!(part.len() * TEXT <= most + TEXT, "{} readings in at most {most} bytes", part.len());
            assert!(through >= from && part.iter().all(|row| (from.0..=through.0).contains(row)));
            found.extend(part);
            (from, parts) = (through.next(), parts + 1);
        }
        assert_eq!(found, all);
        assert!(parts >= all.len() * TEXT / (most + TEXT), "{parts} parts");
    }
}
