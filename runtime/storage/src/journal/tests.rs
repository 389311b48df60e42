//! The blocks against what went into them, whatever that was and however it was cut.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use std::sync::Arc;

use super::*;
use crate::disk::Folder;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, PointNumber, Position, Sequence, StreamId, TenantId};
use ironloom_types::limits::MAX_BLOCK_READINGS;
use ironloom_types::readings::{Columns, Quality, Value};

fn open_files(folder: &std::path::Path) -> BlockFiles {
    BlockFiles::open(Arc::new(Folder::open(folder).unwrap()), &BTreeMap::new(), FILE_BYTES).unwrap()
}

type Reading = (u32, u64, Quality, Value);

/// What one record of the log gives the journal.
#[derive(Clone, Debug)]
struct Record {
    time: u64,
    hops: u8,
    origin: u64,
    readings: Vec<Reading>,
}

/// A reading with everything that the journal keeps of it, as the model has it.
type Kept = (u64, u64, u8, u64, Reading);

fn columns(readings: &[Reading]) -> Columns {
    let mut columns = Columns::default();
    for (point, at, quality, value) in readings {
        columns.push(PointNumber(*point), Timestamp(*at), *quality, value.as_ref());
    }
    columns
}

fn model(first: u64, records: &[Record]) -> Vec<Kept> {
    let rows = records.iter().flat_map(|record| {
        record.readings.iter().map(move |reading| (record.time, record.hops, record.origin, reading.clone()))
    });
    rows.zip(first..).map(|((time, hops, origin, reading), seq)| (seq, time, hops, origin, reading)).collect()
}

fn kept(chunk: &Chunk) -> Vec<Kept> {
    let keep = |row: ReadingRow<'_>| {
        let reading = (row.point.0, row.at.0, row.quality, Value::from(row.value));
        (row.sequence.0, row.time.0, row.hops, row.origin.0, reading)
    };
    (0..chunk.len()).map(|row| keep(chunk.row(row))).collect()
}

fn selected(selection: &Selection) -> Vec<Kept> {
    let keep = |row: ReadingRow<'_>| {
        let reading = (row.point.0, row.at.0, row.quality, Value::from(row.value));
        (row.sequence.0, row.time.0, row.hops, row.origin.0, reading)
    };
    selection.readings().map(keep).collect()
}

fn chunk_of(first: u64, records: &[Record]) -> Chunk {
    let mut chunk = Chunk::empty(TenantId::MAIN, Sequence(first));
    for record in records {
        let run = Run {
            end: 0,
            time: Timestamp(record.time),
            hops: record.hops,
            origin: Generation(record.origin),
        };
        let columns = columns(&record.readings);
        chunk.extend(&columns, 0, columns.len(), run);
    }
    chunk
}

fn encode(chunk: &Chunk) -> Block {
    block::encode(StreamId::MAIN, chunk).unwrap()
}

fn fold(first: u64, records: &[Record]) -> Vec<Block> {
    let mut builder = BlockBuilder::new(TenantId::MAIN, StreamId::MAIN, Sequence(first));
    let mut blocks = Vec::new();
    for record in records {
        let (next, columns) = (builder.next_sequence(), columns(&record.readings));
        let (time, origin) = (Timestamp(record.time), Generation(record.origin));
        blocks.extend(builder.add(next, time, record.hops, origin, &columns).unwrap());
    }
    blocks.extend(builder.finish().unwrap());
    blocks
}

fn any_value() -> impl Strategy<Value = Value> {
    let special = [f64::NAN.to_bits(), 0x7ff0_0000_0000_0001, 0xfff8_dead_beef_0001, (-0.0_f64).to_bits(), 1];
    prop_oneof![
        1 => Just(Value::Missing),
        1 => any::<bool>().prop_map(Value::Boolean),
        2 => prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -5..5_i64].prop_map(Value::Integer),
        4 => prop_oneof![any::<u64>(), proptest::sample::select(special.to_vec())].prop_map(|bits| Value::Real(f64::from_bits(bits))),
        2 => (-40_000..40_000_i32).prop_map(|tenths| Value::Real(f64::from(tenths) / 10.0)),
        1 => any::<String>().prop_map(|text| Value::Text(text.into())),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Blob(bytes.into())),
    ]
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let quality =
        prop_oneof![8 => Just(Quality::Good), 1 => Just(Quality::Uncertain), 1 => Just(Quality::Bad)];
    let point = prop_oneof![8 => 0..30_u32, 1 => any::<u32>()];
    (point, prop_oneof![8 => 1_000..2_000_u64, 1 => any::<u64>()], quality, any_value())
}

/// Records whose readings are all of one type or of any, with rising journal times.
fn any_records(most: usize) -> impl Strategy<Value = Vec<Record>> {
    let readings = prop_oneof![
        vec(any_reading(), 0..most),
        vec(
            (
                0..30_u32,
                1_000..2_000_u64,
                Just(Quality::Good),
                any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits)))
            ),
            0..most
        ),
    ];
    vec((0..50_u64, 0..3_u8, 0..3_u64, readings), 1..8).prop_map(|records| {
        let mut time = 100;
        let rise = |(step, hops, origin, readings)| {
            time += step / 10;
            Record { time, hops, origin, readings }
        };
        records.into_iter().map(rise).collect()
    })
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(200))]

    #[test]
    fn a_block_gives_back_every_bit(first in 1..1_000_000_u64, records in any_records(60)) {
        let chunk = chunk_of(first, &records);
        prop_assume!(!chunk.is_empty());
        let block = encode(&chunk);
        let (header, back) = block::decode(&block.bytes).unwrap();
        prop_assert_eq!(kept(&back), model(first, &records));
        prop_assert_eq!(&back.runs, &chunk.runs);
        prop_assert_eq!(&header, &block.header);

        // The header, against a count of its own.
        let rows = model(first, &records);
        let mut counts = BTreeMap::new();
        for row in &rows {
            *counts.entry(PointNumber(row.4.0)).or_insert(0_u32) += 1;
        }
        let ats: BTreeSet<u64> = rows.iter().map(|row| row.4.1).collect();
        prop_assert_eq!(header.points, counts.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(header.first_sequence.0, rows[0].0);
        prop_assert_eq!(header.readings as usize, rows.len());
        prop_assert_eq!((header.first_time.0, header.last_time.0), (rows[0].1, rows[rows.len() - 1].1));
        prop_assert_eq!(Some(&header.least_at.0), ats.first());
        prop_assert_eq!(Some(&header.greatest_at.0), ats.last());
    }

    #[test]
    fn a_selection_is_what_a_search_through_the_block_finds(
        first in 1..1_000_000_u64,
        records in any_records(60),
        points in vec(0..30_u32, 1..4),
        (from, to) in (proptest::option::of(900..2_100_u64), proptest::option::of(900..2_100_u64)),
        after in 0..400_u64,
        most in 1..100_usize,
    ) {
        let chunk = chunk_of(first, &records);
        prop_assume!(!chunk.is_empty());
        let after = (first + after).saturating_sub(10);
        let filter = Filter::after(Sequence(after))
            .of_points(points.iter().copied().map(PointNumber))
            .between(from.map(Timestamp), to.map(Timestamp));
        let rows = model(first, &records);
        let wanted = |row: &&Kept| {
            row.0 > after
                && points.contains(&row.4.0)
                && from.is_none_or(|from| row.4.1 >= from)
                && to.is_none_or(|to| row.4.1 < to)
        };
        let expected: Vec<Kept> = rows.iter().filter(wanted).take(most).cloned().collect();
        let through = if expected.len() < most { rows[rows.len() - 1].0 } else { expected[most - 1].0 };
        let (_, of_block) = block::select(&encode(&chunk).bytes, &filter, most).unwrap();
        for selection in [of_block, Selection::of(&chunk, &filter, most)] {
            prop_assert_eq!(selected(&selection), expected.clone());
            prop_assert_eq!(selection.through.0, through);
        }
    }

    #[test]
    fn damaged_bytes_are_an_error(
        records in any_records(40),
        places in vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let chunk = chunk_of(1, &records);
        prop_assume!(!chunk.is_empty());
        let bytes = encode(&chunk).bytes;
        let mut changed = bytes.clone();
        for (place, flip) in &places {
            changed[place.index(bytes.len())] ^= flip;
        }
        prop_assert!(changed == bytes || block::decode(&changed).is_err());
        let all = Filter::default();
        prop_assert!(changed == bytes || block::select(&changed, &all, usize::MAX).is_err());
        prop_assert!(block::decode(&bytes[..cut.index(bytes.len())]).is_err());
        let longer = [&bytes[..], &[0]].concat();
        let error = BlockError::Header("that it is shorter than its bytes");
        prop_assert_eq!(block::decode(&longer).unwrap_err(), error);
    }

    /// With right checksums over wrong bytes the decoder has to cope with what they say.
    #[test]
    fn forged_bytes_are_sound_readings_or_an_error(
        records in any_records(40),
        places in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let chunk = chunk_of(1, &records);
        prop_assume!(!chunk.is_empty());
        let mut bytes = encode(&chunk).bytes;
        let (_, header_length) = BlockHeader::decode(&bytes).unwrap();
        for (place, byte) in &places {
            let place = 12 + place.index(bytes.len() - 12);
            bytes[place] = *byte;
        }
        forge(&mut bytes, header_length);
        let picked = block::select(&bytes, &Filter::default(), usize::MAX);
        if let Ok((_, selection)) = &picked {
            prop_assert_eq!(selected(selection).len(), selection.len());
        }
        if let Ok((_, chunk)) = block::decode(&bytes) {
            prop_assert!(chunk.is_sound());
            prop_assert_eq!(kept(&chunk).len(), chunk.len());
            // What is sound as a whole is the same in parts.
            prop_assert_eq!(picked.map(|(_, selection)| selected(&selection)), Ok(kept(&chunk)));
        }
    }

    #[test]
    fn any_bytes_at_all_are_an_error(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(block::decode(&bytes).is_err());
        prop_assert!(block::decode(&[b"ILJB", &bytes[..]].concat()).is_err());
        prop_assert!(StoredBlock::decode(&bytes[..bytes.len().min(100)]).is_err());
    }

    #[test]
    fn an_entry_survives_the_store(records in any_records(40), place in any::<(u64, u32, u32, u32)>()) {
        let chunk = chunk_of(1, &records);
        prop_assume!(!chunk.is_empty());
        let location = Location { file: place.1, offset: place.2, length: place.3 };
        let stored = StoredBlock {
            checkpoint: Position(place.0),
            tenant: TenantId::MAIN,
            stream: StreamId::MAIN,
            entry: Entry::new(&encode(&chunk).header, location),
        };
        let bytes = stored.encode();
        prop_assert_eq!(StoredBlock::decode(&bytes), Ok(stored));
        prop_assert!(StoredBlock::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}

#[test]
fn a_column_has_exactly_as_many_numbers_as_it_should() {
    let mut bytes = Vec::new();
    super::columns::write_numbers(&mut bytes, "test", &[7_u32, 8, 9], pco::DeltaSpec::Auto).unwrap();
    let read = |count| super::columns::Sections { bytes: &bytes }.numbers::<u32>("test", count);
    assert_eq!(read(3), Ok(vec![7, 8, 9]));
    for wrong in [0, 1, 2, 4, 300] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

/// Puts right checksums over whatever the bytes are now.
fn forge(bytes: &mut [u8], header_length: usize) {
    let columns = crc32c::crc32c(&bytes[header_length..]);
    bytes[70..74].copy_from_slice(&columns.to_le_bytes());
    let header = crc32c::crc32c(&bytes[12..header_length]);
    bytes[8..12].copy_from_slice(&header.to_le_bytes());
}

fn many(readings: usize, time: u64, value: impl Fn(usize) -> Value) -> Record {
    let reading = |row: usize| (row as u32 % 97, 5_000 + row as u64, Quality::Good, value(row));
    Record { time, hops: 0, origin: 0, readings: (0..readings).map(reading).collect() }
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(8))]

    #[test]
    fn blocks_are_full_and_follow_each_other_however_records_are_cut(
        first in 1..1_000_000_u64,
        sizes in vec(prop_oneof![1..200_usize, 5_000..20_000_usize], 1..6),
    ) {
        let records: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(n, &size)| many(size, 10 + n as u64 / 2, |row| Value::Integer((row * 7 + n) as i64)))
            .collect();
        let blocks = fold(first, &records);
        let total: usize = sizes.iter().sum();
        prop_assert_eq!(blocks.len(), total.div_ceil(MAX_BLOCK_READINGS));
        let mut back = Vec::new();
        for block in &blocks {
            let (header, chunk) = block::decode(&block.bytes).unwrap();
            prop_assert_eq!(header.first_sequence.0, first + back.len() as u64);
            back.extend(kept(&chunk));
        }
        prop_assert_eq!(back, model(first, &records));
    }
}

#[test]
#[should_panic(expected = "blocks follow each other without a hole")]
fn a_hole_in_the_sequences_is_a_bug() {
    let mut builder = BlockBuilder::new(TenantId::MAIN, StreamId::MAIN, Sequence(5));
    let columns = columns(&many(3, 1, |_| Value::Missing).readings);
    let _ = builder.add(Sequence(6), Timestamp(1), 0, Generation(0), &columns);
}

#[test]
fn a_block_ends_where_time_goes_back() {
    let records: Vec<Record> =
        [5, 5, 3, 4].map(|time| Record { time, ..many(2, 1, |_| Value::Boolean(true)) }).into();
    let blocks = fold(1, &records);
    let times = |block: &Block| (block.header.readings, block.header.first_time.0, block.header.last_time.0);
    assert_eq!(blocks.iter().map(times).collect::<Vec<_>>(), [(4, 5, 5), (4, 3, 4)]);
    let back: Vec<_> =
        blocks.iter().flat_map(|block| kept(&block::decode(&block.bytes).unwrap().1)).collect();
    assert_eq!(back, model(1, &records));
}

#[test]
fn large_texts_close_a_block_early() {
    let long = "x".repeat(60_000);
    let records =
        vec![many(200, 1, |_| Value::Text(long.as_str().into())), many(3, 2, |_| Value::Boolean(true))];
    let blocks = fold(1, &records);
    assert!(blocks.iter().all(|block| block.bytes.len() < 5 << 20));
    let back: Vec<_> =
        blocks.iter().flat_map(|block| kept(&block::decode(&block.bytes).unwrap().1)).collect();
    assert_eq!(back, model(1, &records));
}

#[test]
fn the_stores_bytes_of_a_block_never_change() {
    let readings = [(3, 5, Quality::Good, Value::Missing), (67, 30, Quality::Bad, Value::Missing)];
    let (before, after) = readings.split_at(1);
    let record =
        |time, readings: &[Reading]| Record { time, hops: 0, origin: 0, readings: readings.to_vec() };
    let header = encode(&chunk_of(77, &[record(10, before), record(20, after)])).header;
    let stored = StoredBlock {
        checkpoint: Position(0x0102_0304_0506_0708),
        tenant: TenantId::MAIN,
        stream: StreamId::MAIN,
        entry: Entry::new(&header, Location { file: 3, offset: 0x100, length: 0x2000 }),
    };
    // By Python's struct.pack("<Q6I5Q2IQ", …); 3 and 67 leave the same when divided by 64.
    let expected = concat!(
        "08070605040302010100000000000000030000000001000000200000020000004d000000000000000a00000000000000",
        "140000000000000005000000000000001e0000000000000003000000430000000800000000000000",
    );
    let bytes: String = stored.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(bytes, expected);
}

/// Blocks of few or many readings from two records each, at increasing sequences, and the model of each. Between
/// two of them time may go back.
fn small_blocks() -> impl Strategy<Value = Vec<(Block, Vec<Kept>)>> {
    let reading = (0..200_u32, 0..100_u64, Just(Quality::Good), Just(Value::Boolean(true)));
    let readings = prop_oneof![9 => vec(reading.clone(), 1..5), 1 => vec(reading, 100..200)];
    let step = prop_oneof![9 => 0..4_i64, 1 => -30..0_i64];
    vec((step, readings, 0..5_u64), 0..12).prop_map(|blocks| {
        let (mut first, mut time) = (1, 10_u64);
        let mut made = Vec::new();
        for (step, readings, later) in blocks {
            time = time.saturating_add_signed(step);
            let (before, after) = readings.split_at(readings.len() / 2);
            let record =
                |time, readings: &[Reading]| Record { time, hops: 0, origin: 0, readings: readings.to_vec() };
            let records = [record(time, before), record(time + later, after)];
            time += later;
            let rows = model(first, &records);
            made.push((encode(&chunk_of(first, &records)), rows.clone()));
            first += rows.len() as u64;
        }
        made
    })
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(150))]

    #[test]
    fn the_index_finds_what_a_search_through_everything_finds(
        blocks in small_blocks(),
        after in 0..300_u64,
        time in 0..60_u64,
        points in proptest::option::of(vec(0..200_u32, 0..3)),
        from in proptest::option::of(0..110_u64),
        to in proptest::option::of(0..110_u64),
        limit in 1..500_usize,
    ) {
        let (tenant, stream) = (TenantId::MAIN, StreamId::MAIN);
        let folder = tempfile::tempdir().unwrap();
        let files = open_files(folder.path());
        let mut index = BlockIndex::default();
        for (block, _) in &blocks {
            let location = files.append(&block.bytes).unwrap();
            index.push(tenant, stream, Entry::new(&block.header, location)).unwrap();
        }
        let all: Vec<Kept> = blocks.iter().flat_map(|(_, rows)| rows.clone()).collect();

        // By sequence.
        let mut found = Vec::new();
        for entry in index.after(tenant, stream, Sequence(after)) {
            found.extend(kept(&read(&files, tenant, entry).unwrap()));
        }
        found.retain(|row| row.0 > after);
        prop_assert_eq!(&found, &all.iter().filter(|row| row.0 > after).cloned().collect::<Vec<_>>());
        let firsts: Vec<_> = index.after(tenant, stream, Sequence(after)).iter().map(|e| e.last_sequence().0).collect();
        prop_assert!(firsts.iter().all(|&last| last > after), "no block is opened for nothing");

        // By point and time.
        let mut filter = Filter::after(Sequence(after));
        if let Some(points) = &points {
            filter = filter.of_points(points.iter().copied().map(PointNumber));
        }
        filter.from = from.map(Timestamp);
        filter.to = to.map(Timestamp);
        let mut found = Vec::new();
        for entry in index.entries(tenant, stream).iter().filter(|entry| filter.may_match(entry)) {
            let chunk = read(&files, tenant, entry).unwrap();
            let rows = kept(&chunk);
            found.extend(filter.rows(&chunk, limit - found.len()).into_iter().map(|row| rows[row].clone()));
            if found.len() == limit {
                break;
            }
        }
        let wanted = |row: &&Kept| {
            row.0 > after
                && points.as_ref().is_none_or(|points| points.contains(&row.4.0))
                && from.is_none_or(|from| row.4.1 >= from)
                && to.is_none_or(|to| row.4.1 < to)
        };
        prop_assert_eq!(&found, &all.iter().filter(wanted).take(limit).cloned().collect::<Vec<_>>());

        // By journal time.
        let found = index.last_before(tenant, stream, Timestamp(time));
        let last = all.iter().rfind(|row| row.1 < time).map(|row| row.0);
        match (found, last) {
            (None, None) => {}
            (Some(entry), Some(last)) => {
                prop_assert!((entry.first_sequence.0..=entry.last_sequence().0).contains(&last));
            }
            (found, last) => prop_assert!(false, "{found:?} and {last:?}"),
        }
    }
}

#[test]
fn a_block_with_few_points_is_not_opened_for_others() {
    let record = Record {
        readings: vec![(3, 1, Quality::Good, Value::Missing), (9, 1, Quality::Bad, Value::Missing)],
        time: 1,
        hops: 0,
        origin: 0,
    };
    let entry =
        Entry::new(&encode(&chunk_of(1, &[record])).header, Location { file: 1, offset: 0, length: 0 });
    let may = |points: &[u32]| {
        Filter::default().of_points(points.iter().copied().map(PointNumber)).may_match(&entry)
    };
    assert_eq!(
        [may(&[3]), may(&[9]), may(&[5]), may(&[]), may(&[1, 5, 9])],
        [true, true, false, false, true]
    );
}

#[test]
fn of_many_points_the_least_and_the_greatest_are_known() {
    let readings = (100..200).map(|point| (point, 1, Quality::Good, Value::Boolean(true))).collect();
    let record = Record { readings, time: 1, hops: 0, origin: 0 };
    let entry =
        Entry::new(&encode(&chunk_of(1, &[record])).header, Location { file: 1, offset: 0, length: 0 });
    let may = |points: &[u32]| {
        entry.points.may_have_any(&points.iter().copied().map(PointNumber).collect::<Vec<_>>())
    };
    assert_eq!(
        [may(&[99]), may(&[100]), may(&[199]), may(&[200]), may(&[5, 300])],
        [false, true, true, false, false]
    );
}

#[test]
fn a_block_out_of_order_is_refused() {
    let block = |first| encode(&chunk_of(first, &[many(3, 1, |_| Value::Missing)]));
    let mut index = BlockIndex::default();
    let location = Location { file: 1, offset: 0, length: 0 };
    let mut push = |first| {
        let entry = Entry::new(&block(first).header, location);
        index.push(TenantId::MAIN, StreamId::MAIN, entry)
    };
    push(4).unwrap();
    for wrong in [4, 6, 8] {
        let error = push(wrong).unwrap_err();
        assert_eq!((error.found, error.expected), (Sequence(wrong), Sequence(7)));
    }
    push(7).unwrap();
    assert_eq!(index.span(TenantId::MAIN, StreamId::MAIN), Some((Sequence(4), Sequence(9))));
}

#[test]
fn a_block_that_lies_where_another_should_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let files = open_files(folder.path());
    let block = |first| encode(&chunk_of(first, &[many(3, 1, |_| Value::Missing)]));
    let location = files.append(&block(4).bytes).unwrap();
    let other = Entry::new(&block(7).header, location);
    let own = Entry::new(&block(4).header, location);
    assert!(read(&files, TenantId::MAIN, &own).is_ok());
    for (tenant, entry) in [(TenantId::MAIN, other), (TenantId(2), own)] {
        let error = read(&files, tenant, &entry).unwrap_err().to_string();
        assert!(error.contains("offset 0") && error.contains("another block"), "{error}");
    }
}

/// One reading of each kind, by hand, so that the format can't change unseen.
fn golden_chunk() -> Chunk {
    let records = [
        Record {
            time: 1_700_000_000_000_000_000,
            hops: 0,
            origin: 0,
            readings: vec![
                (1, 1_699_999_999_000_000_000, Quality::Good, Value::Real(20.5)),
                (2, 1_699_999_999_500_000_000, Quality::Good, Value::Integer(-7)),
                (1, 1_700_000_000_000_000_000, Quality::Bad, Value::Missing),
                (300, 1_700_000_000_000_000_000, Quality::Uncertain, Value::Text("läuft".into())),
            ],
        },
        Record {
            time: 1_700_000_001_000_000_000,
            hops: 1,
            origin: 42,
            readings: vec![
                (301, 1_700_000_000_000_000_001, Quality::Good, Value::Boolean(true)),
                (302, 1_700_000_000_000_000_001, Quality::Good, Value::Blob([0, 255].into())),
                (
                    1,
                    1_700_000_000_000_000_001,
                    Quality::Good,
                    Value::Real(f64::from_bits(0x7ff8_0000_0000_0001)),
                ),
            ],
        },
    ];
    chunk_of(1_000, &records)
}

fn golden_block() -> Vec<u8> {
    let text = include_str!("golden/block-v1.hex");
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_or_refused(bytes in ironloom_mutate::mutated(vec![golden_block()])) {
        crate::fuzzing::block_header(&bytes);
    }
}

#[test]
fn golden_block_of_version_1() {
    let golden = golden_block();
    let (header, back) = block::decode(&golden).unwrap();
    assert_eq!(kept(&back), kept(&golden_chunk()));
    assert_eq!(header.points.len(), 5);
    assert_eq!(
        encode(&golden_chunk()).bytes,
        golden,
        "what is written now differs from version 1: make a new version"
    );
}
