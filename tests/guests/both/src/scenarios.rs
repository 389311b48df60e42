//! Questions, and the answers that every platform must give.

use std::time::Duration;

use ironloom_sdk::prelude::*;

/// One thing to ask, in an invocation of its own.
pub struct Scenario {
    pub name: &'static str,
    pub ask: Ask,
    /// The answer, on the host and natively.
    pub expected: &'static str,
}

/// What is asked, and of what.
pub enum Ask {
    Alone(fn() -> String),
    /// About the entities of the batch, of which there is one, the empty text.
    OfBatch(fn(&Batch<'_>) -> String),
}

const fn of_batch(name: &'static str, ask: fn(&Batch<'_>) -> String, expected: &'static str) -> Scenario {
    Scenario { name, ask: Ask::OfBatch(ask), expected }
}

const fn scenario(name: &'static str, ask: fn() -> String, expected: &'static str) -> Scenario {
    Scenario { name, ask: Ask::Alone(ask), expected }
}

/// Far enough in the future that no timer of a test fires.
const LATER: Timestamp = Timestamp::from_nanos(9_000_000_000_000_000_000);
const NOON: Timestamp = Timestamp::from_nanos(1_767_268_800_000_000_000);
/// Before any invocation, natively, too: within the first second of 1970.
const EARLY: Timestamp = Timestamp::from_nanos(100_000_000);

fn told<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| format!("refused: {error}"), |value| format!("{value:?}"))
}

fn text(value: Option<Vec<u8>>) -> Option<String> {
    value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn texts(values: state::Values) -> Vec<Option<String>> {
    values.iter().map(|value| text(value.map(<[u8]>::to_vec))).collect()
}

fn publish<'v>(output: &str, entity: &str, at: Timestamp, value: impl Into<Value<'v>>) -> String {
    let mut out = Outputs::new();
    told(out.push(output, entity, at, value).and_then(|()| out.publish()))
}

fn publish_with(quality: Quality, value: f64) -> String {
    let mut out = Outputs::new();
    told(out.push_with("number", "a", NOON, quality, value).and_then(|()| out.publish()))
}

/// Every one, for iteration.
pub const SCENARIOS: &[Scenario] = &[
    scenario("get-nothing", || told(state::get("nothing").map(text)), "None"),
    scenario(
        "get-own-write",
        || {
            let first = told(state::set("own", b"one"));
            format!("{first} {} {}", told(state::get("own").map(text)), told(state::delete("own")))
        },
        "() Some(\"one\") ()",
    ),
    scenario(
        "get-many",
        || {
            told(state::set_many(&[("many/b", b"2"), ("many/a", b"1"), ("many/b", b"3")]));
            let got = state::get_many(&["many/b", "many/x", "many/a"]);
            told(got.map(texts))
        },
        "[Some(\"3\"), None, Some(\"1\")]",
    ),
    scenario(
        "delete-many",
        || {
            told(state::set_many(&[("some/a", b"1"), ("some/b", b"2")]));
            told(state::delete_many(&["some/a", "some/c"]));
            let got = state::get_many(&["some/a", "some/b"]);
            told(got.map(texts))
        },
        "[None, Some(\"2\")]",
    ),
    scenario("get-none", || told(state::get_many(&[]).map(|values| values.len())), "0"),
    of_batch(
        "rows",
        |batch| {
            let rows = [(0, Some(&b"1"[..])), (0, Some(b"22")), (0, Some(b"3"))];
            let set = told(state::set_rows(batch, "row/", rows));
            let got = told(state::get_rows(batch, "row/").map(texts));
            let one = told(state::get("row/").map(text));
            let deleted = told(state::set_rows(batch, "row/", [(0, None)]));
            format!("{set} {got} {one} {deleted} {}", told(state::get_rows(batch, "row/").map(texts)))
        },
        "() [Some(\"3\")] Some(\"3\") () [None]",
    ),
    of_batch(
        "rows-all-or-none",
        |batch| {
            let set = told(state::set_rows(batch, "row/", [(0, Some(&b"1"[..])), (1, Some(b"2"))]));
            format!("{set}; {}", told(state::get("row/").map(text)))
        },
        "refused: state: there is no line 1: the batch has 1 entities; None",
    ),
    of_batch(
        "rows-without-a-key",
        |batch| {
            format!(
                "{}; {}",
                told(state::get_rows(batch, "").map(texts)),
                told(state::set_rows(batch, "a\n", [(0, None)]))
            )
        },
        "refused: a key of the state can't be used: a key must not be empty; \
         refused: a key of the state can't be used: a key must not contain a line feed",
    ),
    of_batch(
        "rows-too-many",
        |batch| told(state::set_rows(batch, "row/", vec![(0, None); 20_001])),
        "refused: state: a call names 20001 keys; at most 20000 are allowed",
    ),
    scenario(
        "two-lines-in-a-key",
        || format!("{}; {}", told(state::set("a\nb", b"x")), told(state::get_many(&["a\nb"]).map(|_| ()))),
        "refused: a key of the state can't be used: a key must not contain a line feed; \
         refused: a key of the state can't be used: a key must not contain a line feed",
    ),
    scenario(
        "empty-key",
        || told(state::set("", b"x")),
        "refused: a key of the state can't be used: a key must not be empty",
    ),
    scenario(
        "long-key",
        || told(state::get(&"k".repeat(513))),
        "refused: a key of the state can't be used: a key has 513 bytes; at most 512 are allowed",
    ),
    scenario("longest-key", || told(state::set(&"k".repeat(512), b"x")), "()"),
    scenario(
        "long-value",
        || told(state::set("long", &vec![0; (256 << 10) + 1])),
        "refused: a value is longer than the 262144 bytes that the host allows: split it over several keys",
    ),
    scenario("longest-value", || told(state::set("long", &vec![0; 256 << 10])), "()"),
    scenario(
        "all-or-none",
        || {
            let set = told(state::set_many(&[("whole/a", b"1"), ("", b"2")]));
            format!("{set}; {}", told(state::get("whole/a").map(text)))
        },
        "refused: a key of the state can't be used: a key must not be empty; None",
    ),
    scenario(
        "quota",
        || {
            let value = vec![0; 256 << 10];
            told((0..9).try_for_each(|n| state::set(&format!("quota/{n}"), &value)))
        },
        "refused: the state would grow over the 2097152 bytes that were granted: delete some, or ask the admin for more",
    ),
    scenario(
        "quota-of-small-keys",
        || {
            // 128 bytes for each, six of the key, one of the value: 2 MiB are 15,534 of them.
            let keys: Vec<String> = (0..15_535).map(|n| format!("{n:06}")).collect();
            let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b"v"[..])).collect();
            format!("{}; {}", told(state::set_many(&entries[..15_000])), told(state::set_many(&entries)))
        },
        "(); refused: the state would grow over the 2097152 bytes that were granted: delete some, or ask the admin for more",
    ),
    scenario(
        "set-too-many-at-once",
        || told(state::set_many(&vec![("same", &b"v"[..]); 20_001])),
        "refused: state: a call names 20001 keys; at most 20000 are allowed",
    ),
    scenario(
        "get-too-many-at-once",
        || told(state::get_many(&["nothing"; 20_001]).map(|values| values.len())),
        "refused: state: a call names 20001 keys; at most 20000 are allowed",
    ),
    scenario(
        "delete-too-many-at-once",
        || told(state::delete_many(&["nothing"; 20_001])),
        "refused: state: a call names 20001 keys; at most 20000 are allowed",
    ),
    scenario(
        "change-too-many-keys",
        || {
            // Deleting what isn't there is a change, too. The answer is one more key, for which a place is left.
            let keys: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let first = told(state::delete_many(&keys[..19_000]));
            let more = told(state::delete_many(&keys[1_000..19_999]));
            let beyond = told(state::set_many(&[("one", &b"v"[..]), ("two", b"v")]));
            format!("{first} {more}; {beyond}; {}", told(state::delete_many(&keys[..19_999])))
        },
        "() (); refused: state: one invocation may change 20000 keys; with this call it would be 20001; ()",
    ),
    scenario(
        "set-one-key-twice",
        || {
            // What a write replaces in the same invocation counts once.
            let value = vec![7; 200 << 10];
            told((0..200).try_for_each(|_| state::set("same", &value)))
        },
        "()",
    ),
    scenario(
        "effects-too-many",
        || {
            // 64 KiB of text, the entity `a` and its 64 bytes, and 20 for the reading: 255 of them are 16,733,355 bytes.
            let text = "x".repeat(64 << 10);
            let publish = || publish("words", "a", NOON, text.as_str());
            let full: Vec<String> = (0..255).map(|_| publish()).filter(|answer| answer != "()").collect();
            let beyond = publish();
            // 43,861 bytes are left: the alarm of a byte, its name and message, and 64 for it; then the answer.
            let alarm = told(alarms::raise("noise", "a", "loud"));
            let key = told(state::set("key", &vec![0; 45_000]));
            format!("{full:?} {beyond}; {alarm}; {key}; {}", told(schedule::set("never-mind", LATER)))
        },
        "[] refused: outputs: all effects of one invocation together are limited to 16777216 bytes; with this call they \
         would be 16798976; (); refused: state: all effects of one invocation together are limited to 16777216 bytes; \
         with this call they would be 16778560; ()",
    ),
    scenario(
        "scan-of-large-values",
        || {
            // Five of 256 KiB: a page ends with the entry that makes it more than 1 MiB.
            let value = vec![0; 256 << 10];
            for n in 0..5 {
                told(state::set(&format!("large/{n}"), &value));
            }
            told(state::scan("large/", None, 100).map(|page| (page.entries.len(), page.next)))
        },
        "(4, Some(\"large/3\"))",
    ),
    scenario(
        "scan-of-many",
        || {
            let keys: Vec<String> = (0..1_001).map(|n| format!("many/{n:04}")).collect();
            let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b"v"[..])).collect();
            told(state::set_many(&entries));
            told(state::scan("many/", None, 2_000).map(|page| (page.entries.len(), page.next)))
        },
        "(1000, Some(\"many/0999\"))",
    ),
    scenario(
        "scan-of-none",
        || told(state::scan("", None, 0)),
        "refused: state: the limit of a scan must be at least 1",
    ),
    scenario(
        "scan",
        || {
            let entries: Vec<String> = (0..5).map(|n| format!("scan/{n}")).collect();
            let entries: Vec<(&str, &[u8])> = entries.iter().map(|key| (key.as_str(), &b"v"[..])).collect();
            told(state::set_many(&entries));
            told(state::delete("scan/3"));
            let mut keys = Vec::new();
            let mut after: Option<String> = Some("scan/0".to_owned());
            while let Some(from) = after {
                match state::scan("scan/", Some(&from), 2) {
                    Ok(page) => {
                        keys.extend(page.entries.into_iter().map(|(key, _)| key));
                        after = page.next;
                    }
                    Err(error) => return error.to_string(),
                }
            }
            keys.join(" ")
        },
        "scan/1 scan/2 scan/4",
    ),
    scenario("publish", || publish("number", "a/b", NOON, 1.5), "()"),
    scenario("publish-for-the-whole", || publish("number", "", NOON, 1.5), "()"),
    scenario(
        "publish-far-ahead",
        || publish("number", "a", Timestamp::from_nanos(i64::MAX as u64), 1.5),
        "()",
    ),
    scenario(
        "publish-past-time",
        || publish("number", "a", Timestamp::from_nanos(i64::MAX as u64 + 1), 1.5),
        "refused: malformed: `number`: the time 9223372036854775808 is after the year 2262",
    ),
    scenario(
        "publish-nan",
        || publish("number", "a", NOON, f64::NAN),
        "refused: malformed: `number`: NaN is not a finite number; give such a reading the quality `bad`",
    ),
    scenario(
        "publish-infinite",
        || publish_with(Quality::Uncertain, f64::NEG_INFINITY),
        "refused: malformed: `number`: -inf is not a finite number; give such a reading the quality `bad`",
    ),
    scenario("publish-bad-nan", || publish_with(Quality::Bad, f64::NAN), "()"),
    scenario(
        "publish-unknown",
        || publish("nonsense", "a", NOON, 1.5),
        "refused: the manifest declares no output \"nonsense\" of this kind: add a section [outputs.nonsense]",
    ),
    scenario(
        "publish-other-type",
        || publish("number", "a", NOON, "one and a half"),
        "refused: a value is not of the type that the manifest declares: `number` has type real, and text was published",
    ),
    scenario("publish-longest", || publish("words", "a", NOON, "x".repeat(64 << 10).as_str()), "()"),
    scenario(
        "publish-too-long",
        || publish("words", "a", NOON, "x".repeat((64 << 10) + 1).as_str()),
        "refused: malformed: `words`: a value has 65537 bytes; at most 65536 are allowed",
    ),
    scenario(
        "publish-odd-entity",
        || publish("number", "../../etc", NOON, 1.5),
        "refused: the output number has no point for the entity \"../../etc\": it has a segment `.` or `..`",
    ),
    scenario(
        "publish-empty-segment",
        || publish("number", "a//b", NOON, 1.5),
        "refused: the output number has no point for the entity \"a//b\": it has an empty segment",
    ),
    scenario(
        "publish-wildcard",
        || publish("number", "a/#", NOON, 1.5),
        "refused: the output number has no point for the entity \"a/#\": it has a control character or one of `+ # { }`",
    ),
    scenario(
        "publish-long-entity",
        || publish("number", &"a/".repeat(300), NOON, 1.5),
        "refused: the output number has no point for an entity of 600 bytes: it may have 512",
    ),
    // The SDK refuses this one itself: its table has an entity on each line, so no platform ever sees two in one.
    scenario(
        "publish-two-lines",
        || publish("number", "a\nb", NOON, 1.5),
        "refused: malformed: the entity \"a\\nb\" contains a line feed",
    ),
    scenario(
        "publish-too-many-points",
        || {
            // The limit is 10,000, and each output has a point of its own for an entity.
            let publish = |output: &str, numbers: std::ops::Range<usize>| {
                let mut out = Outputs::new();
                let all = numbers.map(|n| n.to_string()).try_for_each(|entity| match output {
                    "words" => out.push(output, &entity, NOON, "x"),
                    _ => out.push(output, &entity, NOON, 1.5),
                });
                told(all.and_then(|()| out.publish()))
            };
            let most = publish("number", 0..9_999);
            let beyond = publish("words", 0..2);
            format!("{most}; {beyond}; {} {}", publish("words", 0..1), publish("number", 0..10_000))
        },
        "(); refused: the app's outputs have as many points as it may make, 10000 (`limits.points`): an admin can grant more with `ironloom set ID --limit points=…`; () refused: the app's outputs have as many points as it may make, 10000 (`limits.points`): an admin can grant more with `ironloom set ID --limit points=…`",
    ),
    scenario(
        "publish-too-many-entities",
        || {
            let mut out = Outputs::new();
            let all = (0..100_001)
                .try_for_each(|n| out.push("number", if n % 2 == 0 { "a" } else { "b" }, NOON, 1.5));
            told(all.and_then(|()| out.publish()))
        },
        "refused: malformed: the table has 100001 entities; at most 100000 are allowed",
    ),
    scenario(
        "publish-too-many",
        || {
            let mut out = Outputs::new();
            told(
                (0..100_001)
                    .try_for_each(|_| out.push("number", "a", NOON, 1.5))
                    .and_then(|()| out.publish()),
            )
        },
        "refused: the app has sent as much as one invocation may: 100,000 derived readings, 1,000 intents",
    ),
    scenario(
        "publish-too-many-in-two",
        || {
            let publish = |count: usize| {
                let mut out = Outputs::new();
                told(
                    (0..count)
                        .try_for_each(|_| out.push("number", "a", NOON, 1.5))
                        .and_then(|()| out.publish()),
                )
            };
            format!("{} {}", publish(100_000), publish(1))
        },
        "() refused: the app has sent as much as one invocation may: 100,000 derived readings, 1,000 intents",
    ),
    scenario("raise", || told(alarms::raise("noise", "a", "loud")), "()"),
    scenario("clear-what-does-not-stand", || told(alarms::clear("noise", "never")), "()"),
    scenario(
        "raise-unknown",
        || told(alarms::raise("nonsense", "", "")),
        "refused: the manifest declares no alarm \"nonsense\": add a section [alarms.nonsense]",
    ),
    scenario(
        "clear-unknown",
        || told(alarms::clear("nonsense", "")),
        "refused: the manifest declares no alarm \"nonsense\": add a section [alarms.nonsense]",
    ),
    scenario("raise-longest", || told(alarms::raise("noise", &"e".repeat(512), &"m".repeat(1_024))), "()"),
    scenario(
        "raise-long-message",
        || told(alarms::raise("noise", "", &"m".repeat(1_025))),
        "refused: the alarm's message is longer than 1,024 bytes, or its entity than 512: shorten it",
    ),
    scenario(
        "raise-long-entity",
        || told(alarms::raise("noise", &"e".repeat(513), "")),
        "refused: the alarm's message is longer than 1,024 bytes, or its entity than 512: shorten it",
    ),
    scenario(
        "raise-control-character",
        || told(alarms::raise("noise", "a\u{7}", "")),
        "refused: alarms: the entity \"a\\u{7}\" has a control character",
    ),
    scenario(
        "raise-too-many",
        || told((0..10_001).try_for_each(|n| alarms::raise("noise", &n.to_string(), ""))),
        "refused: the app has as many active alarms as it may have, 10,000 or 4 MiB of them: clear some",
    ),
    scenario(
        "long-alarms",
        || {
            // Each counts 256 bytes, 4 of its entity and 1,024: 3,266 of them have 4,193,544 bytes of 4,194,304.
            let message = "m".repeat(1_024);
            let raise = |n: u32| alarms::raise("noise", &format!("{n:04}"), &message);
            let raised = (0..10_000).take_while(|n| raise(*n).is_ok()).count();
            let last = told(alarms::raise("noise", "last", &"m".repeat(500)));
            let more = told(alarms::raise("noise", "0000", &"m".repeat(1_024)));
            format!("{raised} {last} {more} {}", told(alarms::raise("noise", "one more", "")))
        },
        "3266 () () refused: the app has as many active alarms as it may have, 10,000 or 4 MiB of them: clear some",
    ),
    scenario(
        "timers",
        || {
            let set = told(schedule::set("once", LATER));
            format!("{set} {} {}", told(schedule::cancel("once")), told(schedule::cancel("once")))
        },
        "() true false",
    ),
    scenario(
        "timer-too-soon",
        || {
            // The answer follows when it fires.
            let (now, soon) = (invocation::now().nanos(), invocation::now() + Duration::from_millis(1));
            told(state::set("asked/timer-too-soon", now.to_string().as_bytes()));
            told(schedule::set("timer-too-soon", soon))
        },
        "1s later, set for 1ms",
    ),
    scenario(
        "timers-that-fire",
        || {
            let now = invocation::now();
            told(schedule::set("moved", LATER));
            told(schedule::set("cancelled", now));
            told(schedule::set("never", now));
            told(schedule::cancel("cancelled"));
            format!("{} {}", told(schedule::set("moved", now)), told(schedule::set("early", now)))
        },
        "() ()",
    ),
    scenario(
        "alarms",
        || {
            for (entity, message) in [("a", "loud"), ("b", "loud"), ("c", "loud"), ("a", "louder")] {
                told(alarms::raise("noise", entity, message));
            }
            format!("{} {}", told(alarms::clear("noise", "b")), told(alarms::raise("noise", "d", "")))
        },
        "() ()",
    ),
    scenario(
        "episodes",
        || {
            // Each is kept: those that end in the call in which they began, too.
            let later = EARLY + Duration::from_millis(100);
            told(alarms::raise_since("noise", "a", "loud", EARLY));
            told(alarms::clear_since("noise", "a", later));
            told(alarms::raise_since("noise", "a", "louder", later));
            told(alarms::raise_since("noise", "b", "loud", later));
            // Only the words of an active one change. What can't be is as near as possible.
            told(alarms::raise_since("noise", "b", "louder", EARLY));
            told(alarms::clear_since("noise", "b", EARLY));
            told(alarms::raise_since("noise", "c", "", LATER));
            told(alarms::clear_since("noise", "c", LATER))
        },
        "()",
    ),
    scenario(
        "alarms-changed-too-often",
        || {
            let both = |_| alarms::raise("noise", "a", "").and_then(|()| alarms::clear("noise", "a"));
            told((0..10_001).try_for_each(both))
        },
        "refused: alarms: one invocation may change alarms 20000 times",
    ),
    scenario(
        "timer-without-name",
        || told(schedule::set("", LATER)),
        "refused: this can't be a timer's name: it is empty, longer than 256 bytes, or a timer of the manifest",
    ),
    scenario(
        "timer-with-long-name",
        || told(schedule::set(&"t".repeat(257), LATER)),
        "refused: this can't be a timer's name: it is empty, longer than 256 bytes, or a timer of the manifest",
    ),
    scenario(
        "timer-of-the-manifest",
        || told(schedule::set("never", LATER)),
        "refused: this can't be a timer's name: it is empty, longer than 256 bytes, or a timer of the manifest",
    ),
    scenario(
        "timers-too-many",
        || told((0..1_001).try_for_each(|n| schedule::set(&n.to_string(), LATER))),
        "refused: the app has as many timers as it was granted: cancel some",
    ),
    scenario("setting", || told(settings::get::<String>("text")), "\"hello\""),
    scenario("setting-of-a-number", || told(settings::get::<f64>("ratio")), "0.5"),
    scenario("no-gaps", || invocation::gaps().len().to_string(), "0"),
];
