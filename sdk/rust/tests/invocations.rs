//! What a call of an app leaves behind on the platform for tests, as on the host.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by them")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ironloom_sdk::outputs::Intent;
use ironloom_sdk::prelude::*;
use ironloom_sdk::testing::{self, Datum, Outcome, Platform, Type};

/// Does one of everything, and then what the reading says.
struct Everything;
ironloom_sdk::app!(Everything: readings, timers, lifecycle);

const COUNTS: Table<str, u32> = Table::new("count/");
const TEXTS: Table<str, String> = Table::new("text/");
const VERSION: Cell<String> = Cell::new("version");

impl Readings for Everything {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        log::info!("in {}", invocation::id());
        let mut counts = COUNTS.of(batch)?;
        let mut out = Outputs::new();
        for reading in batch.readings() {
            *counts.or_default(&reading) += 1;
            out.derive(&reading, "seen", 1.0)?;
            alarms::raise("there", reading.entity(), "it is there")?;
            alarms::clear("gone", reading.entity())?;
            schedule::set(reading.entity(), reading.at() + Duration::from_secs(60))?;
            outputs::request(&[Intent::new("lamp", reading.entity(), true, Duration::from_secs(1))])?;
        }
        for reading in batch.readings() {
            match reading.text()? {
                "reject" => return Err(Failure::reject("as told")),
                "retry" => return Err(Failure::retry("as told")),
                "panic" => panic!("as told"),
                "refuse" => reading.refuse("as told"),
                "too-large" => TEXTS.rows().insert(reading.entity(), "x".repeat(300_000)).map(drop)?,
                "unknown-output" => Outputs::new().derive(&reading, "nonsense", 1.0)?,
                "wrong-type" => out.push("seen", "x", reading.at(), "a text")?,
                "wrong-declared-type" => Outputs::new().derive(&reading, "seen", "a text")?,
                "unknown-alarm" => alarms::raise("nonsense", "", "")?,
                "cancel" => drop(schedule::cancel("a")?),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Timers for Everything {
    fn fire(timer: &str, due: Timestamp) -> Result<(), Failure> {
        log::info!("{timer} at {due}, now {}", invocation::now());
        match timer {
            "again" => Ok(schedule::set("again", due + Duration::from_secs(5))?),
            "later" => Err(Failure::retry("not yet")),
            "never" => Err(Failure::reject("never")),
            _ => Ok(()),
        }
    }
}

impl Lifecycle for Everything {
    fn migrate(previous: &str, resume: Option<&[u8]>) -> Result<Migration, Failure> {
        VERSION.set(&format!("after {previous}"))?;
        match resume {
            None => Ok(Migration::Continue(vec![1])),
            Some([1]) if previous == "0.1.0" => Ok(Migration::Done),
            Some(other) => Err(Failure::reject(format!("can't go on with {other:?}"))),
        }
    }
}

fn noon() -> Timestamp {
    "2026-07-01T12:00:00Z".parse().unwrap()
}

fn platform() -> Platform {
    let platform = Platform::new().input("say", Type::Text).output("seen", Type::Real);
    platform.set_point("lamp", Type::Boolean).alarm("there").alarm("gone").schedule()
}

fn say(platform: &mut Platform, entity: &str, text: &str) -> Outcome {
    platform.consume::<Everything>(&testing::batch([("say", entity, noon(), text)]))
}

/// All that lasts, for comparison.
fn lasting(platform: &Platform) -> String {
    let (state, outputs, alarms) = (platform.state(), platform.outputs(), platform.alarms());
    format!("{state:?} {outputs:?} {alarms:?} {:?} {:?}", platform.timers(), platform.intents())
}

#[test]
fn a_call_that_returns_ok_takes_effect() {
    let mut platform = platform();
    let done = say(&mut platform, "a", "").expect_ok();
    assert_eq!(platform.state()["count/a"], b"1");
    assert_eq!(platform.outputs(), platform.outputs_since(&done));
    assert_eq!(platform.outputs()[0].value, Datum::Real(1.0));
    assert_eq!(platform.alarm_standing("there", "a"), Some("it is there"));
    assert_eq!(platform.timers()["a"].due, noon() + Duration::from_secs(60));
    assert_eq!(platform.intents()[0].value, Datum::Boolean(true));
    assert_eq!(platform.now(), noon());

    let again = say(&mut platform, "a", "").expect_ok();
    assert_eq!(platform.state()["count/a"], b"2");
    assert_eq!((platform.outputs().len(), platform.outputs_since(&again).len()), (2, 1));
}

#[test]
fn set_points_show_with_which_others_they_go_out() {
    let mut platform = platform();
    platform.set_now(noon());
    let ask = |lamps: &[&str]| {
        let life = Duration::from_secs(60);
        let intents: Vec<_> =
            lamps.iter().map(|lamp| outputs::Intent::new("lamp", lamp, true, life)).collect();
        outputs::request(&intents).unwrap()
    };
    platform.run(|| (ask(&["a", "b"]), ask(&["c"])));
    platform.forget();
    platform.run(|| ask(&["a"]));
    platform.run(|| ask(&["b", "c"]));
    let lists: Vec<_> = platform.intents().iter().map(|one| (one.entity.as_str(), one.list)).collect();
    assert_eq!(lists, [("a", 2), ("b", 3), ("c", 3)]);
    assert!(platform.intents().iter().all(|one| one.at == noon()));
}

#[test]
fn a_call_that_fails_leaves_nothing_but_its_logs() {
    let mut platform = platform();
    say(&mut platform, "a", "").expect_ok();
    let before = lasting(&platform);
    for (text, reason) in [
        ("reject", "as told"),
        ("retry", "as told"),
        ("too-large", "longer than the 262144 bytes"),
        ("unknown-output", "[outputs.nonsense]"),
        ("wrong-type", "\"seen\" got values of type real and text"),
        ("wrong-declared-type", "`seen` has type real, and text was published"),
        ("unknown-alarm", "[alarms.nonsense]"),
    ] {
        for entity in ["a", "b"] {
            let logs = platform.logs().len();
            let failure = say(&mut platform, entity, text).failure();
            assert!(failure.reason().contains(reason), "{text}: {failure}");
            assert_eq!(failure.is_retry(), text == "retry");
            assert_eq!(lasting(&platform), before, "{text}");
            // The id of a call that took no effect goes to the next.
            assert_eq!(platform.logs()[logs].message, "in test-2");
        }
    }
}

#[test]
fn a_panic_leaves_nothing_and_the_platform_works_on() {
    let mut platform = platform();
    say(&mut platform, "a", "").expect_ok();
    let before = lasting(&platform);
    let panicked = catch_unwind(AssertUnwindSafe(|| say(&mut platform, "b", "panic")));
    assert!(panicked.is_err());
    assert_eq!(lasting(&platform), before);
    say(&mut platform, "b", "").expect_ok();
    assert_eq!(platform.state()["count/b"], b"1");
}

#[test]
fn single_readings_are_refused_while_the_rest_takes_effect() {
    let mut platform = platform();
    let batch =
        testing::batch([("say", "a", noon(), ""), ("say", "b", noon(), "refuse"), ("say", "c", noon(), "")]);
    let done = platform.consume::<Everything>(&batch).expect_ok();
    assert_eq!(done.refused.len(), 1);
    let refused = &done.refused[0];
    assert_eq!(
        (refused.slot.as_str(), refused.entity.as_str(), refused.reason.as_str()),
        ("say", "b", "as told")
    );
    assert_eq!(platform.outputs().len(), 3);
}

#[test]
fn changes_are_taken_back_in_the_right_order() {
    let mut platform = platform();
    say(&mut platform, "a", "").expect_ok();
    let before = lasting(&platform);
    let batch = testing::batch([
        ("say", "a", noon() + Duration::from_secs(9), "cancel"),
        ("say", "a", noon() + Duration::from_secs(10), "reject"),
    ]);
    let _ = platform.consume::<Everything>(&batch).failure();
    assert_eq!(lasting(&platform), before);
}

#[test]
fn timers_fire_in_the_order_of_their_times_and_a_retry_stays() {
    let mut platform = platform();
    platform.set_now(noon());
    let at = |seconds| noon() + Duration::from_secs(seconds);
    platform.run(|| {
        for (name, due) in [("again", at(3)), ("never", at(1)), ("later", at(2)), ("after", at(11))] {
            schedule::set(name, due).unwrap();
        }
    });
    let outcomes = platform.fire_due::<Everything>(at(10));
    let fired: Vec<&str> = platform.logs().iter().map(|log| log.message.split(' ').next().unwrap()).collect();
    assert_eq!(fired, ["never", "later", "again", "again"]);
    let failed: Vec<bool> = outcomes.iter().map(|outcome| outcome.result.is_err()).collect();
    assert_eq!(failed, [true, true, false, false]);
    let left: Vec<_> = platform.timers().iter().map(|(name, set)| (name.as_str(), set.due)).collect();
    assert_eq!(left, [("after", at(11)), ("again", at(13)), ("later", at(2))]);
    assert_eq!(platform.now(), at(8));
}

#[test]
fn a_migration_counts_as_a_whole() {
    let mut platform = platform();
    platform.run(|| VERSION.set(&"before".to_owned())).unwrap();
    let error = platform.migrate::<Everything>("0.0.9").unwrap_err();
    assert!(error.contains("can't go on with [1]"), "{error}");
    assert_eq!(platform.run(|| VERSION.get()).unwrap().as_deref(), Some("before"));
    platform.migrate::<Everything>("0.1.0").unwrap();
    assert_eq!(platform.run(|| VERSION.get()).unwrap().as_deref(), Some("after 0.1.0"));
}

#[test]
fn a_gap_is_told_once() {
    let mut platform = platform();
    let gap = invocation::Gap { slot: "say".to_owned(), first: noon(), last: noon(), count: 3 };
    platform.add_gap(gap.clone());
    let _ = say(&mut platform, "a", "reject").failure();
    assert_eq!(platform.run(invocation::gaps), [gap]);
    assert_eq!(platform.run(invocation::gaps), []);
}

#[test]
fn the_traits_defaults_say_what_is_missing() {
    struct Empty;
    impl Readings for Empty {}
    impl Timers for Empty {}
    let mut platform = platform();
    let failure = platform.consume::<Empty>(&testing::batch([("say", "a", noon(), "")])).failure();
    assert!(failure.reason().contains("\"say\"") && !failure.is_retry(), "{failure}");
    let failure = platform.fire::<Empty>("morning", noon()).failure();
    assert!(failure.reason().contains("\"morning\""), "{failure}");
}

#[test]
#[should_panic(expected = "the batch has an input \"nonsense\"")]
fn an_input_that_is_not_declared_fails_the_test() {
    let _ = platform().consume::<Everything>(&testing::batch([("nonsense", "a", noon(), "")]));
}

#[test]
#[should_panic(expected = "there is no platform here")]
fn outside_of_a_platform_nothing_works() {
    let _ = state::get("x");
}

const MANIFEST: &str = r#"
manifest = 1
id = "com.example.test"
schedule = true

[inputs.say]
type = "text"
optional = true

[outputs.seen]
kind = "derived"
type = "real"
unit = "1"

[outputs.lamp]
kind = "set-point"
type = "boolean"

[alarms.there]
severity = "low"

[alarms.gone]
severity = "low"

[timers.morning]
cron = "0 6 * * *"

[settings.age]
type = "real"
default = 7

[settings.herd]
type = "integer"

[settings.breed]
type = "text"
default = "duroc"
"#;

#[test]
fn a_manifest_declares_all() {
    // As on the host, no set-point is granted.
    let refused = say(&mut Platform::from_manifest(MANIFEST), "a", "").failure();
    assert!(refused.reason().contains("lamp"), "{refused}");
    let mut platform = Platform::from_manifest(MANIFEST).set_point("lamp", Type::Boolean);
    say(&mut platform, "a", "").expect_ok();
    let settings = |platform: &mut Platform| {
        platform.run(|| {
            (settings::get::<String>("age"), settings::get::<String>("breed"), settings::find::<i64>("herd"))
        })
    };
    assert_eq!(settings(&mut platform), (Ok("7.0".to_owned()), Ok("duroc".to_owned()), Ok(None)));
    platform.set("age", "1e1");
    platform.set("herd", "12");
    platform.unset("breed");
    let missing = Err(settings::Error::NotSet("breed".to_owned()));
    assert_eq!(settings(&mut platform), (Ok("10.0".to_owned()), missing, Ok(Some(12))));
    // A timer of the manifest can't be set.
    let invalid = platform.run(|| schedule::set("morning", noon()));
    assert_eq!(invalid, Err(ironloom_sdk::schedule::Error::InvalidName));
}

#[test]
fn settings_must_be_declared_and_of_their_type() {
    for (name, text) in [("nonsense", "1"), ("herd", "many"), ("age", "NaN")] {
        let set = catch_unwind(|| Platform::from_manifest(MANIFEST).set(name, text));
        assert!(set.is_err(), "{name} = {text}");
    }
}
