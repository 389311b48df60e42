//! Episodes of alarms: each is kept, a shelf holds them, and their history is bounded.

use super::*;
use crate::fold::episodes::OldEpisode;
use crate::records::alarm::{AlarmRecord, ClearedBy, EpisodePlace, Note, Shelved};
use crate::records::commit::CommitHead;
use ironloom_types::limits::MAX_EPISODES;

#[test]
fn each_episode_of_one_invocation_is_kept_in_its_order() {
    let (lane, _) = lane();
    let mut due = 1_000;
    let mut change = |changes: Vec<AlarmChange>| {
        run_later(&lane, &mut due, Effects { alarms: changes, ..Effects::default() }).head
    };
    let other = || (SlotName::new("hot").unwrap(), "e2".into());
    // At 1,010: raised and cleared, raised again; another one meanwhile.
    let head = change(vec![
        changed(hot(), Some("41"), Some(900)),
        changed(other(), Some("50"), None),
        changed(hot(), None, Some(950)),
        changed(hot(), Some("42"), Some(5_000)),
        changed(hot(), Some("43"), None),
    ]);
    let seen = |alarm: &AlarmRecord| {
        let cleared = alarm.cleared.map(|cleared| cleared.at.0);
        (alarm.number, alarm.message.to_string(), alarm.since.0, alarm.raised.0, cleared, alarm.over)
    };
    let expected = [
        (1, "41".to_owned(), 900, 1_010, Some(950), true),
        (2, "50".to_owned(), 1_010, 1_010, None, false),
        // What is said to be later than the invocation is at its time.
        (3, "43".to_owned(), 1_010, 1_010, None, false),
    ];
    assert_eq!(head.alarms.iter().map(seen).collect::<Vec<_>>(), expected);
    assert_eq!(head.alarms[0].state, AlarmState::ReturnedToNormal, "nobody has acknowledged it");
    assert_eq!((head.meta.alarms_standing, head.meta.episodes.kept), (2, 1));
    // What is said to be earlier than the raising is at that time.
    let head = change(vec![changed(hot(), None, Some(7))]);
    let cleared = head.alarms[0].cleared.unwrap();
    assert_eq!((cleared.at, cleared.by), (Timestamp(1_010), ClearedBy::App));
    // One that was raised and cleared within a call waits for somebody, like any other.
    let head = change(vec![changed(hot(), Some("44"), None), changed(hot(), None, None)]);
    assert_eq!(
        head.alarms.iter().map(|alarm| (alarm.number, alarm.over)).collect::<Vec<_>>(),
        [(3, true), (4, false)]
    );
    assert_eq!(alarm_of(&lane), (Some((AlarmState::ReturnedToNormal, 4, "44".to_owned())), 1));
}

#[test]
fn a_shelf_holds_all_episodes_until_it_ends() {
    let (lane, _) = lane();
    let mut due = 1_000;
    let mut change = |message: Option<&str>| run_later(&lane, &mut due, super::alarms(message)).head;
    change(Some("41"));
    // At 1,010. Somebody shelves it for two more invocations.
    let mut alarm = lane.book().alarms()[&hot()].clone();
    let note = Note { at: Timestamp(1_011), by: None, comment: None };
    alarm.shelved = Some(Shelved { note, until: Timestamp(1_031) });
    testing::put_alarm(&lane, alarm);
    let head = change(None);
    assert_eq!(
        (head.alarms[0].state, head.alarms[0].over),
        (AlarmState::Normal, false),
        "kept for its shelf"
    );
    let head = change(Some("42"));
    assert!(head.alarms[0].over && head.alarms[1].is_shelved(Timestamp(1_030)));
    assert_eq!(head.alarms[1].state, AlarmState::Unacknowledged);
    // At 1,040 it has ended.
    let head = change(None);
    assert_eq!((head.alarms[0].state, head.alarms[0].over), (AlarmState::ReturnedToNormal, false));
    let head = change(Some("43"));
    assert!(head.alarms[1].shelved.is_none(), "the next one isn't shelved");
}

#[test]
fn the_history_is_bounded_and_the_oldest_goes() {
    let (lane, _) = lane();
    let mut due = 0;
    let both =
        |count| (0..count).flat_map(|_| [changed(hot(), Some("hot"), None), changed(hot(), None, None)]);
    let mut all = Effects { alarms: both(MAX_EPISODES).collect(), ..Effects::default() };
    let done = run_later(&lane, &mut due, all.clone());
    // The last one waits for somebody.
    assert_eq!(done.head.meta.episodes.kept, MAX_EPISODES - 1);
    assert!(done.episodes_in_excess().is_none());
    all.alarms.truncate(4);
    let mut done = run_later(&lane, &mut due, all);
    assert_eq!(done.episodes_in_excess().unwrap().kept, MAX_EPISODES + 1);
    let oldest =
        OldEpisode { place: EpisodePlace { since: Timestamp(10), number: 1 }, cost: ALARM_BYTES + 5 };
    let before = done.head.meta.episodes.bytes;
    done.drop_episodes(&[oldest]);
    let CommitHead { meta, episodes_gone, .. } = &done.head;
    assert_eq!((&episodes_gone[..], meta.counters.episodes_dropped), (&[oldest.place][..], 1));
    assert_eq!((meta.episodes.kept, meta.episodes.bytes), (MAX_EPISODES, before - oldest.cost as u64));
}
