//! What people do with alarms, and what is refused.

use super::*;
use crate::records::alarm::testing;
use ironloom_types::clock::SECOND;
use ironloom_types::limits::MAX_ACKNOWLEDGEMENTS;

const NOW: Timestamp = Timestamp(1_000 * SECOND);

fn active() -> AlarmRecord {
    testing::alarm("attic", 1, "31 °C", None)
}

fn returned() -> AlarmRecord {
    testing::alarm("attic", 1, "31 °C", Some(5))
}

fn of(by: &str, comment: &str) -> NoteRequest {
    NoteRequest { by: Some(by.to_owned()), comment: Some(comment.to_owned()) }
}

fn for_hours(hours: u64) -> AlarmDeed {
    let span = Some(Span(hours * 3_600 * SECOND));
    AlarmDeed::Shelve(ShelveRequest { span, ..ShelveRequest::default() })
}

fn done(mut alarm: AlarmRecord, deed: &AlarmDeed) -> AlarmRecord {
    carry_out(&mut alarm, deed, NOW).unwrap();
    alarm
}

fn refused(mut alarm: AlarmRecord, deed: &AlarmDeed) -> (u16, String) {
    let problem = carry_out(&mut alarm, deed, NOW).unwrap_err();
    (problem.status, problem.kind.clone())
}

#[test]
fn an_acknowledgement_has_its_time_name_and_comment() {
    let deed = AlarmDeed::Acknowledge(of(" Ann ", "looks\nfine\u{1b}[2J"));
    let alarm = done(active(), &deed);
    assert_eq!((alarm.state, alarm.over), (AlarmState::Acknowledged, false));
    let [note] = &alarm.acknowledged[..] else { panic!("{alarm:?}") };
    let note = note.clone();
    assert_eq!((note.at, note.by.as_deref()), (NOW, Some("Ann")));
    let comment = note.comment.unwrap();
    assert!(comment.contains("fine") && !comment.contains(['\n', '\u{1b}']), "{comment}");
    assert_eq!(
        done(alarm.clone(), &AlarmDeed::Acknowledge(of("Ben", "me too"))),
        alarm,
        "the first one counts"
    );
    let alarm = done(returned(), &AlarmDeed::Acknowledge(NoteRequest::default()));
    assert_eq!((alarm.state, alarm.over), (AlarmState::Normal, true));
}

#[test]
fn texts_are_bounded_in_bytes() {
    let comment = |length: usize| AlarmDeed::Comment(of("", &"x".repeat(length)));
    assert_eq!(done(active(), &comment(MAX_COMMENT)).comments.len(), 1);
    assert_eq!(refused(active(), &comment(MAX_COMMENT + 1)), (422, "bad-field".to_owned()));
    assert_eq!(refused(active(), &comment(0)), (422, "bad-field".to_owned()), "nothing is said");
    let by = |length: usize| AlarmDeed::Acknowledge(of(&"x".repeat(length), ""));
    assert!(done(active(), &by(MAX_SIGNATURE)).acknowledged.len() == 1);
    assert_eq!(refused(active(), &by(MAX_SIGNATURE + 1)), (422, "bad-field".to_owned()));
    let full = (0..MAX_COMMENTS).fold(returned(), |alarm, _| done(alarm, &comment(1)));
    assert_eq!(refused(full, &comment(1)), (409, "too-many-comments".to_owned()));
}

#[test]
fn a_shelf_ends_by_itself_or_by_a_person() {
    let alarm = done(done(active(), &AlarmDeed::Acknowledge(NoteRequest::default())), &for_hours(8));
    let end = NOW.plus(8 * 3_600 * SECOND);
    assert!(alarm.is_shelved(NOW) && alarm.is_shelved(Timestamp(end.0 - 1)) && !alarm.is_shelved(end));
    assert_eq!(alarm.state, AlarmState::Unacknowledged, "it is to be seen again when the shelf ends");
    let (status, kind) = refused(alarm.clone(), &AlarmDeed::Acknowledge(NoteRequest::default()));
    assert_eq!((status, kind.as_str()), (409, "alarm-shelved"));
    let alarm = done(alarm, &AlarmDeed::Unshelve(of("Ann", "repaired")));
    assert!(!alarm.is_shelved(NOW) && !alarm.over);
    assert_eq!(alarm.comments[0].comment.as_deref(), Some("repaired"));
    // What isn't active is normal while it is shelved, and over after it.
    let alarm = done(returned(), &for_hours(1));
    assert_eq!((alarm.state, alarm.over), (AlarmState::Normal, false));
    assert!(done(alarm, &AlarmDeed::Unshelve(NoteRequest::default())).over);
    assert_eq!(done(active(), &AlarmDeed::Unshelve(of("", "not shelved"))), active());
}

#[test]
fn each_acknowledgement_of_an_episode_is_kept_up_to_a_number() {
    let again = |alarm: AlarmRecord, by: &str| {
        let alarm = done(done(alarm, &for_hours(1)), &AlarmDeed::Unshelve(NoteRequest::default()));
        done(alarm, &AlarmDeed::Acknowledge(of(by, "seen")))
    };
    let names = |alarm: &AlarmRecord| -> Vec<String> {
        alarm.acknowledged.iter().map(|note| note.by.as_deref().unwrap_or_default().to_owned()).collect()
    };
    let first = done(active(), &AlarmDeed::Acknowledge(of("Ann", "seen")));
    let second = again(first.clone(), "Ben");
    assert_eq!(names(&second), ["Ann", "Ben"]);
    let shelf = second.cost() - first.cost() - "Benseen".len();
    assert_eq!(shelf, size_of::<Note>(), "each takes memory");
    let all = (0..30).fold(second, |alarm, n| again(alarm, &format!("n{n}")));
    let expected: Vec<_> = ["Ann".to_owned()].into_iter().chain((11..30).map(|n| format!("n{n}"))).collect();
    assert_eq!((names(&all).len(), names(&all)), (MAX_ACKNOWLEDGEMENTS, expected));
}

#[test]
fn a_shelf_has_one_end_within_thirty_days() {
    let until = |until| AlarmDeed::Shelve(ShelveRequest { until: Some(until), ..ShelveRequest::default() });
    let most = NOW.plus(MAX_SHELVED);
    assert!(done(active(), &until(most)).is_shelved(NOW));
    let both = AlarmDeed::Shelve(ShelveRequest {
        until: Some(most),
        span: Some(Span(SECOND)),
        ..ShelveRequest::default()
    });
    let none = AlarmDeed::Shelve(ShelveRequest::default());
    for deed in [until(NOW), until(most.plus(1)), for_hours(0), for_hours(30 * 24 + 1), both, none] {
        assert_eq!(refused(active(), &deed), (422, "bad-field".to_owned()), "{deed:?}");
    }
    let over = AlarmRecord { over: true, ..returned() };
    assert_eq!(refused(over, &for_hours(1)), (409, "alarm-over".to_owned()));
}

#[test]
fn the_history_counts_what_is_over() {
    let before = Episodes { kept: 3, bytes: 1_000 };
    let alarm = returned();
    let over = AlarmRecord { over: true, ..alarm.clone() };
    let cost = alarm.cost() as u64;
    assert_eq!(episodes(before, &alarm, &alarm), before);
    assert_eq!(episodes(before, &alarm, &over), Episodes { kept: 4, bytes: 1_000 + cost });
    let longer = done(over.clone(), &AlarmDeed::Comment(of("Ann", "12345")));
    assert_eq!(episodes(before, &over, &longer), Episodes { kept: 3, bytes: 1_008 });
}
