//! `kill -9` at random moments: what a store reported as done is there when it is opened again.
//!
//! The child is this test binary once more. It folds rounds as a checkpoint does, keys first and then the
//! position, and says on stdout what was done.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use ironloom_types::ids::{Epoch, Generation};

const FOLDER: &str = "IRONLOOM_TEST_KILL_FOLDER";
const ENGINE: &str = "IRONLOOM_TEST_KILL_ENGINE";
const KILLS: u64 = 10;

type Map = BTreeMap<Key, Bytes>;

/// What round `number` folds: more than one batch, some values in parts, some deletions.
fn round(number: u64) -> Vec<Change> {
    let change = |n: u64| {
        let which = (number * 7_919 + n * 31) % 2_500;
        let key = Item::State(Generation(1), &format!("{which:04}")).key();
        let length = if which.is_multiple_of(100) { 30_000 + number as usize % 3 * 30_000 } else { 60 };
        match (which + number) % 11 {
            0 => Change::delete(key),
            _ => Change::set(key, bytes(number << 16 | which, length)),
        }
    };
    let mut changes: Vec<Change> = (0..1_500).map(change).collect();
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

fn make(changes: Vec<Change>, map: &mut Map) {
    for Change { key, value } in changes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

/// The position in the store.
fn position(store: &dyn Storage) -> u64 {
    let values = store.get_many(&[Key::folded()]).unwrap();
    values[0].as_ref().map_or(0, |value| u64::from_le_bytes(value.as_ref().try_into().unwrap()))
}

#[test]
fn child() {
    let (Ok(folder), Ok(engine)) = (std::env::var(FOLDER), std::env::var(ENGINE)) else { return };
    let kind: EngineKind = engine.parse().unwrap();
    let store = open_in(kind, Path::new(&folder));
    let apply = |changes| assert_eq!(store.apply(changes, Epoch(1)).unwrap(), Applied::Done);
    for number in position(&*store) + 1.. {
        println!("begun {number}");
        apply(round(number));
        println!("keys {number}");
        apply(vec![Change::set(Key::folded(), number.to_le_bytes().to_vec())]);
        println!("position {number}");
    }
}

/// What the child said was done last: keys and position.
struct Reported {
    keys: u64,
    position: u64,
}

fn run_and_kill(kind: EngineKind, folder: &Path, after: Duration) -> Reported {
    let module = module_path!().split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&format!("{module}::child"), "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(ENGINE, kind.name())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // From the time that it is at work.
    assert!(lines.any(|line| line.starts_with("begun")), "the child did not begin");
    let reader = std::thread::spawn(move || {
        let mut reported = Reported { keys: 0, position: 0 };
        for line in lines {
            match line.split_once(' ') {
                Some(("keys", number)) => reported.keys = number.parse().unwrap(),
                Some(("position", number)) => reported.position = number.parse().unwrap(),
                _ => {}
            }
        }
        reported
    });
    std::thread::sleep(after);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "the child ended by itself: {status}");
    reader.join().unwrap()
}

fn check(kind: EngineKind, folder: &Path, reported: &Reported, before: u64) -> u64 {
    let store = open_in(kind, folder);
    let position = position(&*store);
    assert!(
        position >= reported.position.max(before),
        "{kind:?}: position {position} after {}",
        reported.position
    );
    let mut folded = Map::new();
    (1..=position).for_each(|number| make(round(number), &mut folded));
    let mut next = folded.clone();
    make(round(position + 1), &mut next);

    let range = KeyRange::all(KeyKind::State);
    let mut found = Map::new();
    loop {
        let after = found.last_key_value().map(|(key, _)| key);
        let page = store.scan(&range, after, 500).unwrap();
        found.extend(page.entries);
        if !page.more {
            break;
        }
    }
    let all_keys: std::collections::BTreeSet<&Key> =
        found.keys().chain(folded.keys()).chain(next.keys()).collect();
    for key in all_keys {
        let (value, old, new) = (found.get(key), folded.get(key), next.get(key));
        // The round after the position may be there in part; if its keys were reported, wholly.
        let is_right = value == new || (value == old && reported.keys <= position);
        assert!(is_right, "{kind:?}: {key} is neither as of {position} nor as of the round after");
    }
    position
}

fn kill_many_times(kind: EngineKind) {
    let folder = tempfile::tempdir().unwrap();
    let mut position = 0;
    for kill in 0..KILLS {
        let after = Duration::from_micros(u64::from(bytes(kill + 40, 1)[0]) * 400);
        let reported = run_and_kill(kind, folder.path(), after);
        position = check(kind, folder.path(), &reported, position);
    }
    assert!(position > 0, "no round was ever folded: the kills come too early to show anything");
}

#[test]
fn sled_keeps_what_it_reported() {
    kill_many_times(EngineKind::Sled);
}

#[test]
fn redb_keeps_what_it_reported() {
    kill_many_times(EngineKind::Redb);
}
