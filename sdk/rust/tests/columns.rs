//! Batches, views of tables and gathered outputs against plain models.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by them")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use ironloom_sdk::prelude::*;
use ironloom_sdk::testing::{self, BatchBuilder, Datum, Output, Platform, Type};
use proptest::collection::vec;
use proptest::prelude::*;

/// A reading or a derived reading: slot, entity, time, quality, value.
type Row = (String, String, u64, Quality, Datum);

thread_local! {
    static SEEN: RefCell<Vec<Row>> = const { RefCell::new(Vec::new()) };
    static TO_PUBLISH: RefCell<Vec<Row>> = const { RefCell::new(Vec::new()) };
}

/// Notes what it sees.
struct Notes;

impl Readings for Notes {
    fn reading(reading: &Reading) -> Result<(), Failure> {
        let row = (
            reading.slot().to_owned(),
            reading.entity().to_owned(),
            reading.at().nanos(),
            reading.quality(),
            reading.value().into(),
        );
        SEEN.with_borrow_mut(|seen| seen.push(row));
        Ok(())
    }
}

/// Publishes what the test laid out: by way of the reading whose entity and time it has, or else as it is.
struct Publishes;

impl Readings for Publishes {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        let mut out = Outputs::new();
        for (output, entity, at, quality, value) in TO_PUBLISH.take() {
            let value = match &value {
                Datum::Real(value) => Value::from(*value),
                Datum::Text(value) => Value::from(value),
                other => panic!("{other:?}"),
            };
            let reading =
                batch.readings().find(|reading| reading.entity() == entity && reading.at().nanos() == at);
            match reading {
                Some(reading) if quality == Quality::Good => out.derive(&reading, &output, value)?,
                _ => out.push_with(&output, &entity, Timestamp::from_nanos(at), quality, value)?,
            }
        }
        Ok(())
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let quality =
        prop_oneof![4 => Just(Quality::Good), 1 => Just(Quality::Uncertain), 1 => Just(Quality::Bad)];
    let row = (0..4_usize, 0..5_usize, 0..9_u64, quality, 0..100_i32).prop_map(
        |(slot, entity, at, quality, value)| {
            let slot = ["a", "b", "c", "texts"][slot];
            let value =
                if slot == "texts" { Datum::Text(value.to_string()) } else { Datum::Real(value.into()) };
            (slot.to_owned(), ["", "1", "2", "barn/3", "ä"][entity].to_owned(), at, quality, value)
        },
    );
    vec(row, 1..40)
}

fn batch_of(rows: &[Row]) -> testing::RawBatch {
    let mut builder = BatchBuilder::new();
    for (slot, entity, at, quality, value) in rows {
        let at = Timestamp::from_nanos(*at);
        match value {
            Datum::Real(value) => builder.push_with(slot, entity, at, *quality, *value),
            Datum::Text(value) => builder.push_with(slot, entity, at, *quality, value),
            other => panic!("{other:?}"),
        };
    }
    builder.build()
}

fn platform() -> Platform {
    let mut platform = Platform::new().input("texts", Type::Text).output("texts", Type::Text);
    for slot in ["a", "b", "c"] {
        platform = platform.input(slot, Type::Real).output(slot, Type::Real);
    }
    platform
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize, u32),
    Insert(usize, u32),
    Remove(usize),
    Double(usize),
    Save,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_usize, 0..9_u32).prop_map(|(line, n)| Step::Add(line, n)),
        (0..4_usize, 0..9_u32).prop_map(|(line, n)| Step::Insert(line, n)),
        (0..4_usize).prop_map(Step::Remove),
        (0..4_usize).prop_map(Step::Double),
        Just(Step::Save),
    ];
    vec(step, 0..20)
}

const NAMES: [&str; 4] = ["p", "q", "r", "s"];
const NUMBERS: Table<str, u32> = Table::new("n/");

thread_local! {
    static STEPS: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
}

/// Does the test's steps on a view by line.
struct ByLine;

impl Readings for ByLine {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        assert_eq!(batch.entities(), NAMES);
        let mut rows = NUMBERS.of(batch)?;
        for step in STEPS.take() {
            match step {
                Step::Add(line, n) => *rows.or_default(line) += n,
                Step::Insert(line, n) => drop(rows.insert(line, n)),
                Step::Remove(line) => drop(rows.remove(line)),
                Step::Double(line) => rows.get_mut(line).into_iter().for_each(|n| *n *= 2),
                Step::Save => rows.save()?,
            }
        }
        Ok(())
    }
}

fn by_key(steps: &[Step]) -> Result<(), Failure> {
    let mut rows = NUMBERS.rows();
    rows.prefetch(&NAMES[..2])?;
    for step in steps {
        match *step {
            Step::Add(line, n) => *rows.or_default(NAMES[line])? += n,
            Step::Insert(line, n) => drop(rows.insert(NAMES[line], n)?),
            Step::Remove(line) => drop(rows.remove(NAMES[line])?),
            Step::Double(line) => rows.get_mut(NAMES[line])?.into_iter().for_each(|n| *n *= 2),
            Step::Save => rows.save()?,
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn readings_come_in_the_order_of_the_journal(rows in rows()) {
        SEEN.take();
        platform().consume::<Notes>(&batch_of(&rows)).expect_ok();
        prop_assert_eq!(SEEN.take(), rows);
    }

    #[test]
    fn outputs_arrive_as_gathered(input in rows(), rows in rows()) {
        let mut platform = platform();
        TO_PUBLISH.set(rows.clone());
        platform.consume::<Publishes>(&batch_of(&input)).expect_ok();
        let got = platform.outputs();
        prop_assert_eq!(got.len(), rows.len());
        // Columns keep the order within an output.
        for output in ["a", "b", "c", "texts"] {
            let got: Vec<&Output> = got.iter().filter(|row| row.output == output).collect();
            let want: Vec<Output> = rows.iter().filter(|row| row.0 == output).cloned().map(
                |(output, entity, at, quality, value)| Output { output, entity, at: Timestamp::from_nanos(at), quality, value }
            ).collect();
            prop_assert_eq!(got, want.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn views_do_what_a_map_does(before in vec(proptest::option::of(0..9_u32), 4), steps in steps()) {
        let mut model: BTreeMap<String, u32> = BTreeMap::new();
        for (name, n) in NAMES.iter().zip(&before) {
            model.extend(n.map(|n| (name.to_string(), n)));
        }
        let prepared = || {
            let mut platform = Platform::new().input("x", Type::Real);
            let set = |(name, n): (&String, &u32)| NUMBERS.set(name, n).unwrap();
            platform.run(|| model.iter().for_each(set));
            platform
        };
        let (mut line_platform, mut key_platform) = (prepared(), prepared());
        STEPS.set(steps.clone());
        line_platform.consume::<ByLine>(&testing::batch(NAMES.map(|name| ("x", name, Timestamp::EPOCH, 0.0)))).expect_ok();
        key_platform.run(|| by_key(&steps)).unwrap();
        for step in steps {
            match step {
                Step::Add(line, n) => *model.entry(NAMES[line].to_owned()).or_default() += n,
                Step::Insert(line, n) => drop(model.insert(NAMES[line].to_owned(), n)),
                Step::Remove(line) => drop(model.remove(NAMES[line])),
                Step::Double(line) => model.get_mut(NAMES[line]).into_iter().for_each(|n| *n *= 2),
                Step::Save => {}
            }
        }
        for mut platform in [line_platform, key_platform] {
            let stored: BTreeMap<String, u32> = platform.run(|| NUMBERS.scan().collect::<Result<_, _>>()).unwrap();
            prop_assert_eq!(&stored, &model);
        }
    }
}

#[test]
fn a_scan_goes_through_all_pages_in_order() {
    const LOG: Table<(String, Timestamp), u64, Compact> = Table::new("log/");
    const OTHER: Table<str, u64> = Table::new("other/");
    let mut platform = Platform::new();
    platform.run(|| {
        for n in (0..2_500_u64).rev() {
            LOG.set(&("a", Timestamp::from_nanos(n * 7)), &n).unwrap();
        }
        OTHER.set("x", &1).unwrap();
        assert_eq!(LOG.get(&("a", Timestamp::from_nanos(14))), Ok(Some(2)));
        LOG.delete(&("a", Timestamp::from_nanos(14))).unwrap();
        let all: Vec<_> = LOG.scan().map(Result::unwrap).collect();
        let want =
            (0..2_500).filter(|&n| n != 2).map(|n| (("a".to_owned(), Timestamp::from_nanos(n * 7)), n));
        assert!(all.into_iter().eq(want));
    });
}

#[test]
fn what_cant_be_read_names_its_key() {
    let mut platform = Platform::new().input("x", Type::Real);
    platform.run(|| state::set("n/p", b"nonsense")).unwrap();
    let batch = testing::batch(NAMES.map(|name| ("x", name, Timestamp::EPOCH, 0.0)));
    let failure = platform.consume::<ByLine>(&batch).failure();
    assert!(failure.reason().contains("\"n/p\""), "{failure}");
}

#[test]
fn asking_for_another_type_says_what_it_is() {
    struct AsText;
    impl Readings for AsText {
        fn consume(batch: &Batch) -> Result<(), Failure> {
            let reading = batch.readings().next().ok_or(Failure::reject("empty"))?;
            assert!(batch.frame("a").is_some_and(|frame| frame.reals().is_ok() && frame.integers().is_err()));
            assert!(batch.frame("b").is_none());
            reading.text()?;
            Ok(())
        }
    }
    let failure = platform().consume::<AsText>(&testing::batch([("a", "", Timestamp::EPOCH, 1.0)])).failure();
    assert_eq!(failure.reason(), "the values of \"a\" are of type real, not text");
}

#[test]
fn a_table_makes_one_call_for_all_entities_of_a_batch() {
    struct Counts;
    impl Readings for Counts {
        fn consume(batch: &Batch) -> Result<(), Failure> {
            let mut numbers = NUMBERS.of(batch)?;
            for reading in batch.readings() {
                *numbers.or_default(&reading) += 1;
            }
            Ok(numbers.save()?)
        }
    }
    let mut platform = Platform::new().input("x", Type::Real);
    let entities: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let batch = testing::batch(entities.iter().map(|entity| ("x", entity.as_str(), Timestamp::EPOCH, 0.0)));
    platform.consume::<Counts>(&batch).expect_ok();
    assert_eq!(platform.host_calls(), 2, "one to get, one to store");
    assert_eq!(platform.state().len(), 100);
}

#[test]
fn rows_by_key_make_one_call_to_get_and_one_to_store_and_delete() {
    let mut platform = Platform::new();
    let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    platform.run(|| {
        let mut rows = NUMBERS.rows();
        rows.prefetch(names.iter().map(String::as_str)).unwrap();
        for name in &names {
            rows.insert(name.as_str(), 1).unwrap();
        }
        rows.save().unwrap();
    });
    assert_eq!(platform.host_calls(), 2);
    platform.run(|| {
        let mut rows = NUMBERS.rows();
        rows.prefetch(names.iter().map(String::as_str)).unwrap();
        for (n, name) in names.iter().enumerate() {
            if n % 2 == 0 {
                rows.remove(name.as_str()).unwrap()
            } else {
                rows.insert(name.as_str(), 2).unwrap()
            };
        }
        rows.save().unwrap();
    });
    assert_eq!(platform.host_calls(), 2);
    assert_eq!(platform.state().len(), 50);
    // Without it there is one for each key.
    platform.run(|| {
        let mut rows = NUMBERS.rows();
        for name in &names {
            rows.get(name.as_str()).unwrap();
        }
    });
    assert_eq!(platform.host_calls(), 100);
}

/// Notes the inputs of the frames, and refuses the readings of one.
struct Frames;

thread_local! {
    static FRAMES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl Readings for Frames {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        FRAMES.set(batch.frames().map(|frame| frame.slot().to_owned()).collect());
        for reading in batch.readings().filter(|reading| reading.slot() == "feed") {
            reading.refuse(format!("the reading of {}", reading.entity()));
        }
        let order: Vec<&str> = batch.readings().map(|reading| reading.entity()).collect();
        assert_eq!(order, ["1", "2", "3", "4"], "the order of the readings is another");
        Ok(())
    }
}

#[test]
fn frames_come_in_the_order_of_the_manifest() {
    let manifest = "manifest = 1\nid = \"com.example.x\"\nname = \"X\"\nversion = \"0.1.0\"\n\
                    [inputs.weight]\ntype = \"real\"\n[inputs.feed]\ntype = \"real\"\n[inputs.breed]\ntype = \"text\"\n";
    let at = Timestamp::from_seconds(1);
    let batch = testing::batch([
        ("breed", "1", at, Datum::from("duroc")),
        ("feed", "2", at, Datum::from(1.0)),
        ("weight", "3", at, Datum::from(2.0)),
        ("feed", "4", at, Datum::from(3.0)),
    ]);
    let declared =
        Platform::new().input("weight", Type::Real).input("feed", Type::Real).input("breed", Type::Text);
    for mut platform in [Platform::from_manifest(manifest), declared] {
        let outcome = platform.consume::<Frames>(&batch).expect_ok();
        assert_eq!(FRAMES.take(), ["weight", "feed", "breed"]);
        let refused: Vec<_> =
            outcome.refused.iter().map(|one| (&*one.slot, &*one.entity, &*one.reason)).collect();
        assert_eq!(refused, [("feed", "2", "the reading of 2"), ("feed", "4", "the reading of 4")]);
    }
}
