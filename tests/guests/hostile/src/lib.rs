//! A guest with every bad habit. Each reading of the input `command` is a text that says what to do;
//! what came of it stands in the state under `result/<command>`, if the invocation took effect.

use std::hint::black_box;
use std::time::Duration;

use ironloom_sdk::prelude::*;

pub struct Hostile;
ironloom_sdk::app!(Hostile: readings, timers, lifecycle);

impl Readings for Hostile {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        for reading in batch.readings() {
            let command = reading.text()?;
            let result = match command {
                "refuse" => {
                    reading.refuse("this one is refused");
                    continue;
                }
                "odd-refuse" => {
                    reading.refuse(ODD);
                    continue;
                }
                "wrong-refuse" => {
                    batch.refuse(77, 3, "there is no such reading");
                    continue;
                }
                _ => obey(command)?,
            };
            state::set(&format!("result/{command}"), result.as_bytes())?;
        }
        Ok(())
    }
}

impl Timers for Hostile {
    fn fire(timer: &str, _due: Timestamp) -> Result<(), Failure> {
        match timer {
            "again" => {
                flood()?;
                Ok(schedule::set("again", invocation::now())?)
            }
            "reject" => Err(Failure::reject("rejected in fire, as told")),
            // For a reading that says `ok`.
            "wait" => match state::get("result/ok")? {
                Some(_) => publish(),
                None => Err(Failure::retry("no ok yet")),
            },
            _ => panic!("a panic in fire, for {timer}"),
        }
    }
}

/// What it does hangs on the version before.
impl Lifecycle for Hostile {
    fn migrate(previous: &str, resume: Option<&[u8]>) -> Result<Migration, Failure> {
        match previous {
            "0.0.1" => move_state(resume),
            "0.0.2" => Err(Failure::reject("this state can't be understood")),
            "0.0.3" => {
                move_state(None)?;
                Ok(Migration::Continue(b"on and on".to_vec()))
            }
            "0.0.4" => Ok(alarms::raise("noise", "a", "loud").map(|()| Migration::Done)?),
            "0.0.6" => add_keys(resume),
            _ => panic!("a panic in migrate"),
        }
    }
}

/// Moves two entries with each step.
fn move_state(resume: Option<&[u8]>) -> Result<Migration, Failure> {
    let after = resume.map(|after| String::from_utf8_lossy(after).into_owned());
    let page = state::scan("", after.as_deref(), 2)?;
    for (key, value) in page.entries.iter().filter(|(key, _)| !key.starts_with("moved/")) {
        state::delete(key)?;
        state::set(&format!("moved/{key}"), value)?;
    }
    let last = page.entries.last().map(|(key, _)| key.clone().into_bytes());
    Ok(match (page.next, last) {
        (Some(_), Some(last)) => Migration::Continue(last),
        _ => Migration::Done,
    })
}

/// Sets other keys with each step and deletes those of the one before, without an end.
fn add_keys(resume: Option<&[u8]>) -> Result<Migration, Failure> {
    let step = resume.map_or(0, <[u8]>::len);
    let keys_of = |step: usize| (0..5_000).map(move |n| format!("{step}/{n}"));
    for key in step.checked_sub(1).into_iter().flat_map(keys_of) {
        state::delete(&key)?;
    }
    let keys: Vec<String> = keys_of(step).collect();
    let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (&key[..], &b""[..])).collect();
    state::set_many(&entries)?;
    Ok(Migration::Continue(vec![0; step + 1]))
}

/// What would steer a terminal: its title, its screen in both ways of writing, and the direction of letters.
const ODD: &str = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}2J\u{202e}txet\u{2066}";

fn obey(command: &str) -> Result<String, Failure> {
    match command {
        "ok" => {}
        "loop" => loop {
            black_box(0);
        },
        "spin" => {
            for n in 0..50_000_000_u64 {
                black_box(n);
            }
        }
        "recurse" => return Ok(recurse(0).to_string()),
        "grow" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 64 << 10]);
                black_box(&all);
            }
        }
        "grow-politely" => return Ok(grow_politely().to_string()),
        "panic" => panic!("a panic, as told"),
        "abort" => give_up(),
        "odd-panic" => panic!("{ODD}"),
        "odd-words" => write_odd_words()?,
        "half" => {
            state::set("half/first", b"written")?;
            alarms::raise("noise", "half", "raised before the trap")?;
            schedule::set("half", invocation::now())?;
            panic!("a trap after half of the writes");
        }
        "sleep" => std::thread::sleep(Duration::from_secs(5)),
        "exit" => std::process::exit(0),
        "reject" => return Err(Failure::reject("rejected, as told")),
        "retry" => return Err(Failure::retry("not now, as told")),
        "log-flood" => {
            for line in 0..5_000 {
                log::warn!("line {line} of a flood");
            }
        }
        "print-flood" => {
            for line in 0..2_000 {
                println!("line {line} on stdout");
                eprintln!("line {line} on stderr");
            }
        }
        "long-line" => log::info!("{}", "x".repeat(4 << 20)),
        "publish" => publish()?,
        "flood" => flood()?,
        "key-flood" => flood_keys()?,
        "value-flood" => flood_values()?,
        "new-keys" => set_new_keys()?,
        "fill" => fill()?,
        "new-points" => publish_new_points()?,
        "gaps" => {
            let gap =
                |gap: &invocation::Gap| format!("{} {} {} {}", gap.slot, gap.count, gap.first, gap.last);
            return Ok(invocation::gaps().iter().map(gap).collect::<Vec<_>>().join(", "));
        }
        "timer" => schedule::set("boom", invocation::now())?,
        "timer-later" => schedule::set("boom", invocation::now() + Duration::from_secs(86_400))?,
        "noise" => alarms::raise("noise", "a", "loud")?,
        "timer-again" => schedule::set("again", invocation::now())?,
        "timer-reject" => schedule::set("reject", invocation::now())?,
        "timer-wait" => schedule::set("wait", invocation::now())?,
        _ => return Ok(ask(command)),
    }
    Ok("done".to_owned())
}

fn publish() -> Result<(), Failure> {
    let mut out = Outputs::new();
    out.push("echo", "somebody", invocation::now(), "hello")?;
    out.publish()?;
    Ok(())
}

/// Derives 3.6 MB, in a few milliseconds.
fn flood() -> Result<(), Failure> {
    let (text, mut out) = ("x".repeat(60_000), Outputs::new());
    for _ in 0..60 {
        out.push("echo", "somebody", invocation::now(), text.as_str())?;
    }
    out.publish()?;
    Ok(())
}

/// Writes 750 KiB of state in three values.
fn flood_values() -> Result<(), Failure> {
    let value = vec![7; 250 << 10];
    let entries = ["value-1", "value-2", "value-3"].map(|key| (key, &value[..]));
    state::set_many(&entries)?;
    Ok(())
}

/// Sets always the same keys: the quota holds them.
fn flood_keys() -> Result<(), Failure> {
    let keys: Vec<String> = (0..4_000).map(|n| format!("flood/{n:04}")).collect();
    let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (&key[..], &b""[..])).collect();
    state::set_many(&entries)?;
    Ok(())
}

/// Numbers what nothing has been called before.
fn next(count: u32) -> Result<std::ops::Range<u32>, Failure> {
    let begin =
        state::get("next")?.and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?))).unwrap_or(0);
    state::set("next", &(begin + count).to_le_bytes())?;
    Ok(begin..begin + count)
}

/// Sets keys that are new and as small as can be, and deletes as many that are old: the quota never ends it, and most of
/// them get to the store in between.
fn set_new_keys() -> Result<(), Failure> {
    // With the number of the next key and the result that is as much as a call may change.
    const KEYS: u32 = 9_999;
    // Of these the default quota holds some 480,000.
    const KEPT: u32 = 400_000;
    let numbers = next(KEYS)?;
    let keys: Vec<String> = numbers.clone().map(|n| format!("{n:x}")).collect();
    let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (&key[..], &b""[..])).collect();
    state::set_many(&entries)?;
    let old: Vec<String> = numbers.filter_map(|n| Some(format!("{:x}", n.checked_sub(KEPT)?))).collect();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    state::delete_many(&old)?;
    Ok(())
}

/// Writes 4 MB under new keys, until the quota is full.
fn fill() -> Result<(), Failure> {
    let (value, keys) = ([7; 20_000], next(200)?.map(|n| format!("fill/{n:06}")).collect::<Vec<_>>());
    let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (&key[..], &value[..])).collect();
    state::set_many(&entries)?;
    Ok(())
}

/// Derives readings of points that don't exist yet until it may make no more, and from then on of those it made.
fn publish_new_points() -> Result<(), Failure> {
    let mut out = Outputs::new();
    for n in next(5_000)? {
        out.push("echo", &format!("p{}", n % 10_000), invocation::now(), "x")?;
    }
    out.publish()?;
    Ok(())
}

/// Says [`ODD`] wherever an app says something.
fn write_odd_words() -> Result<(), Failure> {
    log::warn!("{ODD}");
    alarms::raise("noise", "somebody", ODD)?;
    state::set(ODD, ODD.as_bytes())?;
    let mut out = Outputs::new();
    out.push("echo", "somebody", invocation::now(), ODD)?;
    out.publish()?;
    Ok(())
}

/// Asks the host for something that it must refuse with an error, and gives the error's text.
fn ask(command: &str) -> String {
    fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
        result.map_or_else(|error| format!("refused: {error}"), |_| "allowed".to_owned())
    }
    let publish = |slot: &str, entity: &str, count: usize| {
        let mut out = Outputs::new();
        for _ in 0..count {
            out.push(slot, entity, Timestamp::EPOCH, "x")?;
        }
        out.publish()
    };
    match command {
        "unknown-output" => told(publish("nonsense", "", 1)),
        "odd-entity" => told(publish("echo", "../../etc", 1)),
        "many-outputs" => told(publish("echo", "a", 100_001)),
        "long-output" => {
            let mut out = Outputs::new();
            let long = "x".repeat((64 << 10) + 1);
            told(out.push("echo", "a", Timestamp::EPOCH, long.as_str()).and_then(|()| out.publish()))
        }
        "unknown-alarm" => told(alarms::raise("nonsense", "", "")),
        "long-alarm" => told(alarms::raise("noise", "", &"x".repeat(1_025))),
        "many-alarms" => {
            told((0..10_001).try_for_each(|n| alarms::raise("noise", &n.to_string(), "one of many")))
        }
        "odd-timer" => told(schedule::set("", Timestamp::EPOCH)),
        "manifest-timer" => told(schedule::set("never", Timestamp::EPOCH)),
        "many-timers" => {
            told((0..1_001).try_for_each(|n| schedule::set(&n.to_string(), Timestamp::from_nanos(u64::MAX))))
        }
        "empty-key" => told(state::set("", b"")),
        "long-key" => told(state::set(&"k".repeat(513), b"")),
        "long-value" => told(state::set("long", &vec![0; (256 << 10) + 1])),
        "quota" => told((0..20).try_for_each(|n| state::set(&format!("quota/{n}"), &vec![0; 256 << 10]))),
        "many-keys" => {
            let keys: Vec<String> = (0..200_000).map(|n| n.to_string()).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            told(state::get_many(&keys))
        }
        "huge-list" => {
            // Within the guest's memory, and beyond what one call may carry.
            let value = vec![0; 200 << 10];
            let entries: Vec<(&str, &[u8])> = (0..90).map(|_| ("same", &value[..])).collect();
            told(state::set_many(&entries))
        }
        "unknown-setting" => told(settings::get::<String>("nonsense")),
        "read-file" => told(std::fs::read("/etc/passwd")),
        "write-file" => told(std::fs::write("/tmp/ironloom-was-here", "no")),
        "connect" => told(std::net::TcpStream::connect("127.0.0.1:7420")),
        "environment" => format!("{} {}", std::env::vars().count(), std::env::args().count()),
        _ => "unknown command".to_owned(),
    }
}

/// Ends without a word.
#[inline(never)]
fn give_up() -> ! {
    std::process::abort()
}

#[allow(unconditional_recursion, reason = "that is the habit")]
fn recurse(depth: u64) -> u64 {
    black_box([depth; 64]);
    black_box(recurse(black_box(depth + 1))) + 1
}

fn grow_politely() -> usize {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut page = Vec::new();
        if page.try_reserve_exact(1 << 20).is_err() {
            return all.len();
        }
        page.resize(1 << 20, 1);
        all.push(page);
    }
}
