//! A generation that comes through what an earlier one has published.

use super::*;

#[test]
fn what_an_earlier_generation_has_published_is_held_back() {
    let (lane, table) = lane();
    let reached = |sequence, time| Reached { sequence: Sequence(sequence), time: Timestamp(time) };
    let published = Published { after: reached(1, 0), through: reached(3, 1_000) };
    testing::change(&lane, |meta| meta.published = Some(published));
    let run_of = |work: &Work, message| {
        let mut effects = alarms(message);
        effects.derived.push(PointNumber(9), NOW, Quality::Good, ValueRef::Real(1.0));
        effects.state = [("key", Some(&b"x"[..]))].into_iter().collect();
        let concluded = run(&lane, work, report(Outcome::Ok, effects), 0);
        assert_eq!(concluded.state.len(), 1, "the state is its own");
        (concluded.derived.len(), concluded.head.alarms.len(), concluded.head.episodes_gone.len())
    };
    let at = |sequence| readings(&lane, &table, sequence, 1);
    assert_eq!(run_of(&at(1), None), (1, 0, 0), "nobody had dealt with it");
    assert_eq!(run_of(&at(2), Some("42")), (0, 1, 0));
    assert!(lane.book().meta().is_catching_up());
    // An episode that ends leaves no trace.
    assert_eq!(run_of(&at(3), None), (0, 1, 1));
    assert_eq!(alarm_of(&lane), (None, 0));
    let counted = |lane: &Lane| {
        let book = lane.book();
        let meta = book.meta();
        (meta.counters.derived, meta.counters.held_back, meta.episodes.kept)
    };
    assert_eq!(counted(&lane), (1, 2, 0));
    assert!(!lane.book().meta().is_catching_up());
    let timer = |due| Work::Timer { name: "once".into(), due: Timestamp(due), repeating: None };
    assert_eq!(run_of(&timer(1_000), Some("43")), (0, 1, 0));
    assert_eq!(run_of(&timer(1_001), Some("44")), (1, 1, 0));
    assert_eq!(run_of(&at(4), None), (1, 1, 0), "from here on it is as ever");
    assert_eq!(counted(&lane), (3, 3, 0));
    assert_eq!(alarm_of(&lane).0.map(|(state, ..)| state), Some(AlarmState::ReturnedToNormal));
}
