//! How many streams are remembered, and for how long.

use super::*;
use ironloom_types::clock::SECOND;

const HOUR: Duration = Duration::from_secs(3600);
const BEGIN: Timestamp = Timestamp(1_800_000_000 * SECOND);

fn come(lines: u64, at: Timestamp) -> StoredStream {
    StoredStream { progress: Progress { lines, ..Progress::default() }, at }
}

fn lines(streams: &Streams, key: &str) -> Option<u64> {
    streams.find(key).map(|(_, progress)| progress.lines)
}

/// As many as are remembered, the first ten of them ten minutes before the others.
fn full() -> Streams {
    let mut streams = Streams::new();
    for number in 0..MOST {
        let at = if number < 10 { BEGIN } else { BEGIN.plus(600 * SECOND) };
        assert!(streams.take_after(format!("s{number}").into(), come(7, at), Duration::ZERO).is_empty());
    }
    streams
}

#[test]
fn only_as_many_are_forgotten_as_have_to_be_the_oldest_first() {
    let mut streams = full();
    let day = BEGIN.plus(KEPT);
    assert!(!streams.has_room_after(Kind::Named, 0, Timestamp(day.0 - 1), HOUR));
    assert!(streams.has_room_after(Kind::Named, 0, day, HOUR));
    assert!(streams.has_room_after(Kind::Named, 9, day, HOUR), "ten are a day old");
    assert!(!streams.has_room_after(Kind::Named, 10, day, HOUR));
    let forgotten = streams.take_after("another".into(), come(1, day), HOUR);
    assert_eq!(forgotten.len(), 1, "{forgotten:?}");
    assert_eq!(lines(&streams, &forgotten[0]), None);
    let left = (0..10).filter(|number| lines(&streams, &format!("s{number}")) == Some(7)).count();
    assert_eq!((left, lines(&streams, "another"), lines(&streams, "s10")), (9, Some(1), Some(7)));
    // One that goes on makes nobody be forgotten.
    assert!(streams.take_after("s10".into(), come(8, day), HOUR).is_empty());
    assert_eq!(lines(&streams, "s10"), Some(8));
}

#[test]
fn one_that_goes_on_makes_nobody_be_forgotten_where_a_start_found_too_many() {
    let mut streams = Streams::new();
    // From records of the log, with none that is known for an hour.
    for number in 0..MOST + 3 {
        assert!(streams.take_after(format!("s{number}").into(), come(7, BEGIN), Duration::ZERO).is_empty());
    }
    let day = BEGIN.plus(KEPT);
    assert!(streams.take_after("s9".into(), come(8, day), HOUR).is_empty());
    assert_eq!(streams.count(), MOST + 3);
    assert_eq!(streams.take_after("another".into(), come(1, day), HOUR).len(), 4);
}

#[test]
fn a_jump_of_journal_time_forgets_none_that_was_used_within_the_last_hour() {
    let mut streams = full();
    let week = BEGIN.plus(7 * KEPT);
    let soon = HOUR - Duration::from_secs(1);
    assert!(!streams.has_room_after(Kind::Named, 0, week, soon));
    streams.take_after("s3".into(), come(8, BEGIN), soon);
    assert!(
        streams.has_room_after(Kind::Named, MOST - 2, week, HOUR),
        "all but the one that was used just now"
    );
    assert!(!streams.has_room_after(Kind::Named, MOST - 1, week, HOUR));
    // From the disk they are known from the start on.
    let mut restored = Streams::new();
    (0..MOST).for_each(|number| restored.load(format!("s{number}").into(), come(7, BEGIN)));
    assert!(!restored.has_room_after(Kind::Named, 0, week, soon));
    assert!(restored.has_room_after(Kind::Named, 0, week, HOUR));
}

#[test]
fn one_that_a_connection_has_is_not_forgotten() {
    let mut streams = Streams::new();
    let kept: Arc<str> = "kept".into();
    streams.take_after(Arc::clone(&kept), come(7, BEGIN), Duration::ZERO);
    for number in 1..MOST {
        streams.take_after(format!("s{number}").into(), come(7, BEGIN.plus(SECOND)), Duration::ZERO);
    }
    // Later records of it come with a key of their own, as from the log.
    streams.take_after("kept".into(), come(8, BEGIN), Duration::ZERO);
    let later = BEGIN.plus(2 * KEPT);
    assert_eq!(streams.take_after("a".into(), come(1, later), HOUR).len(), 1);
    assert_eq!(lines(&streams, "kept"), Some(8), "although it is the oldest");
    let (again, _) = streams.find("kept").unwrap();
    drop(kept);
    assert_eq!(streams.take_after("b".into(), come(1, later), HOUR).len(), 1);
    assert_eq!(lines(&streams, "kept"), Some(8));
    drop(again);
    let forgotten = streams.take_after("c".into(), come(1, later), HOUR);
    assert_eq!(forgotten, ["kept".into()]);
}

#[test]
fn those_from_a_future_that_was_left_behind_are_old_a_day_later() {
    let mut streams = Streams::new();
    let future = BEGIN.plus(400 * KEPT);
    for number in 0..MOST {
        let at = if number == 0 { BEGIN } else { future };
        streams.take_after(format!("s{number}").into(), come(7, at), Duration::ZERO);
    }
    let to = BEGIN.plus(SECOND);
    let moved = streams.leave_future(to);
    assert_eq!(moved.len(), MOST - 1, "those that were ahead");
    assert!(moved.iter().all(|(_, stream)| *stream == come(7, to)));
    // Their keys are those of the map.
    drop(moved);
    assert!(!streams.has_room_after(Kind::Named, 0, Timestamp(BEGIN.plus(KEPT).0 - 1), 25 * HOUR));
    assert!(streams.has_room_after(Kind::Named, MOST - 1, to.plus(KEPT), 25 * HOUR));
    assert!(!streams.has_room_after(Kind::Named, MOST, to.plus(KEPT), 25 * HOUR));
}

#[test]
fn keys_for_once_have_room_of_their_own_and_are_old_after_an_hour() {
    let mut streams = full();
    let now = BEGIN.plus(600 * SECOND);
    assert!(!streams.has_room_after(Kind::Named, 0, now, HOUR));
    assert!(streams.has_room_after(Kind::Once, MOST - 1, now, HOUR));
    for number in 0..MOST {
        assert!(streams.take_after(format!("once-{number}").into(), come(7, now), Duration::ZERO).is_empty());
    }
    let soon = HOUR - Duration::from_secs(1);
    assert!(!streams.has_room_after(Kind::Once, 0, now, soon));
    let notes = streams.notes_after(now, soon);
    assert_eq!(notes.len(), 2, "{notes:?}");
    // No time has passed in the journal.
    assert!(streams.has_room_after(Kind::Once, MOST - 1, now, HOUR));
    let forgotten = streams.take_after("once-more".into(), come(1, now), HOUR);
    assert!(matches!(forgotten.as_slice(), [one] if one.starts_with("once-")), "{forgotten:?}");
    assert!(!streams.has_room_after(Kind::Named, 0, now, HOUR));
    let notes = streams.notes_after(now, HOUR);
    assert_eq!(notes, [format!("{MOST} of at most {MOST} keys of streams are remembered, each for a day")]);
    let day = now.plus(KEPT);
    assert!(streams.notes_after(day, HOUR).is_empty(), "all of them can be forgotten");
}

#[test]
fn the_index_by_age_has_each_stream_once_whatever_becomes_of_it() {
    let mut streams = full();
    let soon = BEGIN.plus(601 * SECOND);
    for number in 0..5 {
        streams.take_after(format!("s{number}").into(), come(8, soon.plus(number * SECOND)), Duration::ZERO);
        // Again at the same time.
        streams.take_after(format!("s{number}").into(), come(9, soon.plus(number * SECOND)), Duration::ZERO);
        streams.load(format!("once-{number}").into(), come(7, soon.plus(60 * SECOND)));
    }
    streams.forget("s2");
    streams.forget("s2");
    streams.forget("once-1");
    assert_eq!(streams.leave_future(soon).len(), 3 + 4, "all that were ahead");
    let mut expected: Vec<(Kind, Timestamp, &str)> =
        streams.by_key.iter().map(|(key, known)| (Kind::of(key), known.stream.at, &**key)).collect();
    expected.sort_unstable_by_key(|(kind, at, key)| (*kind as usize, *at, *key));
    let found = Kind::ALL
        .into_iter()
        .flat_map(|kind| streams.by_age[kind as usize].iter().map(move |(at, key)| (kind, *at, &**key)));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!((streams.of_kind(Kind::Named), streams.of_kind(Kind::Once)), (MOST - 1, 4));
    assert!(streams.by_key.keys().all(|key| Arc::strong_count(key) == OWN_KEYS));
}
