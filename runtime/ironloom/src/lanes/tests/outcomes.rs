//! Records of invocations, good and failed.

mod alarms;
mod bill;
mod reset;

use std::time::{Duration, Instant};

use super::*;
use crate::fold::letters::Oldest;
use crate::lanes::outcome::{Before, Concluded, Ended, Used, conclude};
use crate::lanes::pace::TimerPace;
use crate::lanes::policy::{STUCK_AFTER, Verdict};
use crate::lanes::work::Work;
use crate::records::alarm::AlarmState;
use crate::records::commit::{self, InvocationKind, OutcomeKind};
use crate::records::lane::{Published, Reached};
use ironloom_sandbox::{Outcome, Report};
use ironloom_types::effects::{AlarmAct, AlarmChange, AlarmKey, Effects, Refused};
use ironloom_types::ids::{Ordinal, SlotName};
use ironloom_types::limits::{
    ALARM_BYTES, MAX_ALARM_MESSAGE, MAX_ALARMS, MAX_ALARMS_BYTES, MAX_DEAD_LETTER_BYTES, MAX_DEAD_LETTERS,
    TIMER_SOONEST,
};

const NOW: Timestamp = Timestamp(5_000);

fn report(outcome: Outcome, effects: Effects) -> Report {
    let (cpu, wall) = (Duration::from_micros(50), Duration::from_micros(60));
    Report {
        outcome,
        effects,
        cpu,
        loading: Duration::ZERO,
        wall,
        peak_memory: 0,
        log: Vec::new(),
        log_dropped: 0,
    }
}

/// So many readings of one point, beginning with this sequence, at time 1,000.
fn readings(lane: &Lane, table: &RoutingTable, first: u64, count: usize) -> Work {
    let rows = vec![(0, 7, Quality::Good, ValueRef::Real(1.5)); count];
    let chunk = chunk(first, &rows, &[(count as u32, 1_000, 4)]);
    Work::Readings(Box::new(offer(lane, vec![whole(note(table, &chunk))])))
}

/// Judges, and takes the record over as the fold does.
fn run(lane: &Lane, work: &Work, report: Report, replaced: u64) -> Concluded {
    run_with(lane, work, report, replaced, &[])
}

/// Runs it where these are the oldest dead letters.
fn run_with(lane: &Lane, work: &Work, report: Report, replaced: u64, oldest: &[Oldest]) -> Concluded {
    run_at(lane, work, report, replaced, oldest, NOW)
}

/// Dead letters with these numbers, each of which takes so much.
fn letters(numbers: impl IntoIterator<Item = u64>, cost: u64) -> Vec<Oldest> {
    numbers.into_iter().map(|number| Oldest { number, cost }).collect()
}

fn run_at(
    lane: &Lane,
    work: &Work,
    report: Report,
    replaced: u64,
    oldest: &[Oldest],
    now: Timestamp,
) -> Concluded {
    let used = Used::of(&report);
    let ended = Ended::of(report, used).unwrap();
    let mut before = Before::look(&lane.book(), &lane.pace.lock(), work, &ended.effects);
    before.replaced = replaced;
    let mut concluded = conclude(lane, &lane.newest(), &before, work, ended, Digest([0; 32]), now);
    if concluded.letters_in_excess().is_some() {
        concluded.drop_letters(oldest);
    }
    let body = {
        let (mut body, _) = concluded.encode();
        commit::encode_readings(&[], &concluded.derived, &mut body);
        commit::decode(commit::VERSION, &body).unwrap()
    };
    assert_eq!(
        (&body.head, &body.state),
        (&concluded.head, &concluded.state),
        "the record says what was concluded"
    );
    testing::apply(lane, concluded.head.clone());
    let mut pace = lane.pace.lock();
    pace.effort = concluded.next.effort.clone();
    if let Work::Timer { name, .. } = work {
        let timer = TimerPace { until: Instant::now(), effort: concluded.next.timer.clone() };
        match concluded.next.verdict {
            Verdict::BackOff(_) => pace.timers.insert(name.clone(), timer),
            _ => pace.timers.remove(name),
        };
    }
    concluded
}

fn hot() -> AlarmKey {
    (SlotName::new("hot").unwrap(), "e1".into())
}

/// An alarm that is raised with a message, or cleared.
fn changed(key: AlarmKey, message: Option<&str>, since: Option<u64>) -> AlarmChange {
    let since = since.map(Timestamp);
    let act = match message {
        Some(message) => AlarmAct::Raise { message: message.into(), since },
        None => AlarmAct::Clear { since },
    };
    AlarmChange { key, act }
}

fn alarms(change: Option<&str>) -> Effects {
    Effects { alarms: vec![changed(hot(), change, None)], ..Effects::default() }
}

/// What the lane has of the alarm: state, number, message; and how many stand.
fn alarm_of(lane: &Lane) -> (Option<(AlarmState, u64, String)>, u32) {
    let book = lane.book();
    let alarm = book.alarms().get(&hot()).map(|alarm| (alarm.state, alarm.number, alarm.message.to_string()));
    (alarm, book.meta().alarms_standing)
}

fn acknowledge(lane: &Lane) {
    let mut alarm = lane.book().alarms()[&hot()].clone();
    alarm.state = if alarm.state.stands() { AlarmState::Acknowledged } else { AlarmState::Normal };
    alarm.over = alarm.state == AlarmState::Normal;
    testing::put_alarm(lane, alarm);
}

#[test]
fn an_alarm_lives_as_isa_18_2_has_it() {
    let (lane, table) = lane();
    let change = |change| {
        let next = lane.book().meta().cursor.0 + 1;
        run(&lane, &readings(&lane, &table, next, 1), report(Outcome::Ok, alarms(change)), 0)
    };
    let is = |state, number, message: &str| Some((state, number, message.to_owned()));

    // Clearing what doesn't stand changes nothing.
    assert!(change(None).head.alarms.is_empty());
    let raised = change(Some("42"));
    assert_eq!(alarm_of(&lane), (is(AlarmState::Unacknowledged, 1, "42"), 1));
    assert_eq!(raised.head.alarms[0].raised, Timestamp(1_000), "at the invocation's time");
    // Raised again it is the same alarm with other words.
    change(Some("43"));
    assert_eq!(alarm_of(&lane), (is(AlarmState::Unacknowledged, 1, "43"), 1));
    // Cleared before anybody saw it, it waits to be seen.
    change(None);
    assert_eq!(alarm_of(&lane), (is(AlarmState::ReturnedToNormal, 1, "43"), 0));
    // The condition comes back: a new occurrence, unseen.
    change(Some("44"));
    assert_eq!(alarm_of(&lane), (is(AlarmState::Unacknowledged, 2, "44"), 1));
    acknowledge(&lane);
    change(Some("45"));
    assert_eq!(alarm_of(&lane), (is(AlarmState::Acknowledged, 2, "45"), 1), "what was seen stays seen");
    // Seen and over: gone.
    change(None);
    assert_eq!(alarm_of(&lane), (None, 0));
    change(Some("46"));
    change(None);
    acknowledge(&lane);
    assert_eq!(alarm_of(&lane), (None, 0));
    change(Some("47"));
    assert_eq!(alarm_of(&lane), (is(AlarmState::Unacknowledged, 4, "47"), 1));
}

#[test]
fn an_ok_moves_the_cursor_and_counts() {
    let (lane, table) = lane();
    let mut effects = Effects::default();
    effects.state.push("key", Some(b"value"));
    effects.state.push("old", None);
    effects.derived.push(PointNumber(3), Timestamp(1), Quality::Good, ValueRef::Real(1.0));
    testing::change(&lane, |meta| (meta.state_bytes, meta.time) = (100, Timestamp(2_000)));
    let done = run(&lane, &readings(&lane, &table, 11, 5), report(Outcome::Ok, effects), 20);
    let meta = &done.head.meta;
    assert_eq!(done.next.verdict, Verdict::Done);
    assert_eq!((meta.cursor, meta.ordinal, meta.attempts), (Sequence(15), Ordinal(1), 0));
    assert_eq!(meta.state_bytes, 100 + (128 + 3 + 5) - 20);
    assert_eq!((meta.counters.readings, meta.counters.invocations, meta.counters.derived), (5, 1, 1));
    assert_eq!(done.head.hops, 5, "one more than its readings have");
    let invocation = &done.head.invocation;
    assert_eq!(
        (invocation.ordinal, invocation.attempt, &invocation.kind),
        (Ordinal(1), 1, &InvocationKind::Readings)
    );
    assert_eq!((invocation.first, invocation.last, invocation.readings), (Sequence(11), Sequence(15), 5));
    assert_eq!(invocation.time, Timestamp(2_000), "never before the one before");
}

#[test]
fn three_traps_at_a_reading_make_it_a_dead_letter() {
    let (lane, table) = lane();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut effects = alarms(Some("never"));
        effects.state.push("never", Some(b"x"));
        let done =
            run(&lane, &readings(&lane, &table, 11, 1), report(Outcome::Trap("boom".into()), effects), 0);
        assert!(done.state.is_empty() && done.head.alarms.is_empty(), "a trap has no effects");
        let invocation = &done.head.invocation;
        seen.push((
            invocation.ordinal.0,
            invocation.attempt,
            done.head.meta.cursor.0,
            done.head.dead_letters.len(),
        ));
    }
    assert_eq!(seen, [(1, 1, 0, 0), (1, 2, 0, 0), (1, 3, 11, 1)]);
    let meta = lane.book().meta().clone();
    assert_eq!((meta.ordinal, meta.attempts, meta.cursor), (Ordinal(1), 0, Sequence(11)));
    assert_eq!((meta.counters.failures, meta.trouble.traps_in_row, meta.counters.dead_letters), (3, 1, 1));
    assert_eq!(meta.last_error.unwrap().kind, "trap");
    let next = run(&lane, &readings(&lane, &table, 12, 1), report(Outcome::Ok, Effects::default()), 0);
    assert_eq!((next.head.invocation.ordinal, next.head.invocation.attempt), (Ordinal(2), 1));
    assert_eq!(next.head.meta.last_error, None);
}

#[test]
fn a_dead_letter_says_what_it_was_and_why() {
    let (lane, table) = lane();
    let rows = [
        (0, 7, Quality::Uncertain, ValueRef::Integer(3)),
        (4, 8, Quality::Good, ValueRef::Real(0.5)),
        (1, 9, Quality::Good, ValueRef::Real(2.0)),
    ];
    let chunk = chunk(11, &rows, &[(3, 1_000, 0)]);
    let work = Work::Readings(Box::new(offer(&lane, vec![whole(note(&table, &chunk))])));
    // The second reading of the first frame is the third row.
    let refused = vec![Refused { frame: 0, reading: 1, reason: "no".into() }];
    let done = run(&lane, &work, report(Outcome::Ok, Effects { refused, ..Effects::default() }), 0);
    let letters: Vec<_> = done
        .head
        .dead_letters
        .iter()
        .map(|letter| {
            (
                letter.number,
                letter.sequence.0,
                letter.input.as_str(),
                &*letter.entity,
                &*letter.reason,
                letter.by_trap,
            )
        })
        .collect();
    assert_eq!(
        letters,
        [
            (1, 12, "count", "e0", "type: 0.5 is not a valid integer for input count", false),
            (2, 13, "weight", "e1", "refused: no", false),
        ]
    );
    assert_eq!(done.head.meta.next_dead_letter, 3);
    let reject = report(Outcome::Reject("not mine".into()), Effects::default());
    let done = run(&lane, &readings(&lane, &table, 14, 1), reject, 0);
    let letter = &done.head.dead_letters[0];
    assert_eq!((letter.number, &*letter.reason, letter.by_trap), (3, "reject: not mine", false));
    assert_eq!(done.head.meta.trouble.traps_in_row, 0);
}

#[test]
fn the_oldest_dead_letter_goes_where_there_would_be_too_many() {
    let (lane, table) = lane();
    let refuse = |count: usize| {
        let one = |reading| Refused { frame: 0, reading: reading as u32, reason: "no".into() };
        report(Outcome::Ok, Effects { refused: (0..count).map(one).collect(), ..Effects::default() })
    };
    let most = MAX_DEAD_LETTERS as usize;
    let done = run(&lane, &readings(&lane, &table, 1, most), refuse(most), 0);
    assert_eq!((done.head.dead_letters.len(), done.head.dead_letters_gone.len()), (most, 0));
    let two = readings(&lane, &table, 20_001, 2);
    // One was deleted meanwhile: one more has room, and what is dropped is the oldest that is left.
    testing::change(&lane, |meta| meta.dead_letters_kept -= 1);
    let done = run_with(&lane, &two, refuse(2), 0, &letters([5, 6], 260));
    assert_eq!(done.head.dead_letters_gone, [5]);
    assert_eq!(done.head.meta.counters.dead_letters_dropped, 1);
    assert_eq!(done.head.meta.dead_letters_kept, MAX_DEAD_LETTERS);
    // More than are kept at once: the first of them are never written.
    let many = readings(&lane, &table, 30_001, most + 3);
    let oldest: Vec<u64> = (6..=MAX_DEAD_LETTERS + 5).collect();
    let done = run_with(&lane, &many, refuse(most + 3), 0, &letters(oldest.clone(), 260));
    assert_eq!(done.head.dead_letters.len(), most);
    assert_eq!(done.head.dead_letters[0].number, MAX_DEAD_LETTERS + 2 + 3 + 1);
    assert_eq!(done.head.dead_letters_gone, oldest);
    assert_eq!(done.head.meta.counters.dead_letters, 2 * MAX_DEAD_LETTERS + 5, "ever made");
    assert_eq!(done.head.meta.counters.dead_letters_dropped, 1 + MAX_DEAD_LETTERS + 3);
    assert_eq!(done.head.meta.dead_letters_kept, MAX_DEAD_LETTERS);
}

#[test]
fn the_oldest_dead_letters_go_where_all_together_would_take_too_much() {
    let (lane, table) = lane();
    let reject = |reason: &str| report(Outcome::Reject(reason.into()), Effects::default());
    // "reject: " and a reason of 36 bytes, the entity "e0", and 256.
    let (reason, cost) = ("r".repeat(36), 256 + 2 + 8 + 36);
    let done = run(&lane, &readings(&lane, &table, 1, 1), reject(&reason), 0);
    assert_eq!(done.head.meta.dead_letter_bytes, cost);
    // What is kept takes all but what the next one takes; then all; then a byte too much.
    testing::change(&lane, |meta| {
        (meta.dead_letters_kept, meta.dead_letter_bytes) = (9_000, MAX_DEAD_LETTER_BYTES - cost);
    });
    let done = run_with(&lane, &readings(&lane, &table, 2, 1), reject(&reason), 0, &letters([1], cost));
    assert_eq!(done.head.dead_letters_gone, [0; 0]);
    assert_eq!(done.head.meta.dead_letter_bytes, MAX_DEAD_LETTER_BYTES);
    let oldest = letters([1, 4, 5, 7], 100);
    let done = run_with(&lane, &readings(&lane, &table, 3, 1), reject(&reason), 0, &oldest);
    assert_eq!(done.head.dead_letters_gone, [1, 4, 5, 7], "as many as make room, and no more");
    assert_eq!((done.head.dead_letters.len(), done.head.meta.dead_letters_kept), (1, 9_001 + 1 - 4));
    assert_eq!(done.head.meta.dead_letter_bytes, MAX_DEAD_LETTER_BYTES + cost - 400);
    assert_eq!(done.head.meta.counters.dead_letters_dropped, 4);
    assert_eq!(done.bill(0).dead_letters, 5, "each that goes is paid for");
    // One that fails again with a longer reason takes more than before.
    testing::change(&lane, |meta| meta.dead_letter_bytes = MAX_DEAD_LETTER_BYTES);
    let again = Work::Requeue(Box::new(done.head.dead_letters[0].clone()));
    let done = run_with(&lane, &again, reject(&"r".repeat(37)), 0, &letters([8, 9], 260));
    assert_eq!((&done.head.dead_letters_gone[..], done.head.dead_letters[0].number), (&[3, 8][..], 4));
    assert_eq!(done.head.meta.dead_letter_bytes, MAX_DEAD_LETTER_BYTES + 1 - 260);
    // One that is taken at last gives its bytes back.
    let ok = run(
        &lane,
        &Work::Requeue(Box::new(done.head.dead_letters[0].clone())),
        report(Outcome::Ok, Effects::default()),
        0,
    );
    assert_eq!(ok.head.meta.dead_letter_bytes, MAX_DEAD_LETTER_BYTES + 1 - 260 - (cost + 1));
}

#[test]
fn a_retry_is_no_failure_and_a_host_fault_no_record() {
    let (lane, table) = lane();
    let work = readings(&lane, &table, 1, 3);
    let done = run(&lane, &work, report(Outcome::Retry("later".into()), Effects::default()), 0);
    assert_eq!(done.next.verdict, Verdict::BackOff(Duration::from_secs(1)));
    assert_eq!(done.head.invocation.outcome, OutcomeKind::Retry);
    assert_eq!((done.head.meta.cursor, done.head.meta.counters.failures), (Sequence(0), 0));
    assert_eq!(done.head.meta.trouble.retrying_since, Some(NOW));
    let fault = report(Outcome::HostFault("the store".into()), Effects::default());
    assert_eq!(Ended::of(fault, Used::default()).unwrap_err(), "the store");
}

#[test]
fn people_hear_once_that_an_app_is_stuck() {
    let (lane, table) = lane();
    let work = readings(&lane, &table, 1, 3);
    let retry = |lane: &Lane, work: &Work, now: u64| {
        let later = report(Outcome::Retry("later".into()), Effects::default());
        let done = run_at(lane, work, later, 0, &[], Timestamp(now));
        let meta = done.head.meta;
        let error = match work {
            Work::Timer { .. } => meta.last_timer_error.map(|last| last.error),
            _ => meta.last_error,
        };
        (done.became_stuck, error.unwrap().kind)
    };
    let hour = STUCK_AFTER;
    assert_eq!(retry(&lane, &work, 5), (false, "retry".into()));
    assert_eq!(retry(&lane, &work, hour), (false, "retry".into()));
    assert_eq!(retry(&lane, &work, hour + 5), (true, "stuck".into()));
    assert_eq!(retry(&lane, &work, hour + 10), (false, "stuck".into()));
    // A timer too, by itself.
    run(&lane, &work, report(Outcome::Ok, Effects::default()), 0);
    let timer = Work::Timer { name: "once".into(), due: Timestamp(1), repeating: None };
    assert_eq!(retry(&lane, &timer, 7), (false, "retry".into()));
    assert_eq!(retry(&lane, &timer, hour + 7), (true, "stuck".into()));
    assert_eq!(retry(&lane, &timer, hour + 8), (false, "stuck".into()));
    assert!(lane.is_stuck(Timestamp(hour + 7)));
}

#[test]
fn a_failure_stays_noted_until_the_same_kind_of_work_ends_well() {
    let (lane, table) = lane();
    let end = |work: &Work, outcome, now: u64| {
        let done = run_at(&lane, work, report(outcome, Effects::default()), 0, &[], Timestamp(now));
        let meta = done.head.meta;
        let of_timer = meta.last_timer_error.map(|last| (last.timer, last.error.kind));
        (done.became_stuck, meta.last_error.map(|last| last.kind), of_timer)
    };
    let timer = |name: &str| Work::Timer { name: name.into(), due: Timestamp(1), repeating: None };
    let waiting = readings(&lane, &table, 1, 3);
    let retry = || Outcome::Retry("later".into());
    let stuck = || Some("stuck".to_owned());
    end(&waiting, retry(), 5);
    assert_eq!(end(&waiting, retry(), STUCK_AFTER + 5), (true, stuck(), None));
    // A timer that runs beside it clears nothing, and people hear of it no second time.
    assert_eq!(end(&timer("daily"), Outcome::Ok, STUCK_AFTER + 6), (false, stuck(), None));
    assert_eq!(end(&waiting, retry(), STUCK_AFTER + 7), (false, stuck(), None));
    // A run that is given up is gone: only this tells of it.
    let once = || Some(("once".to_owned(), "reject".to_owned()));
    let reject = || Outcome::Reject("no".into());
    assert_eq!(end(&timer("once"), reject(), STUCK_AFTER + 8), (false, stuck(), once()));
    assert_eq!(end(&timer("daily"), Outcome::Ok, STUCK_AFTER + 9), (false, stuck(), once()));
    assert_eq!(end(&waiting, Outcome::Ok, STUCK_AFTER + 10), (false, None, once()));
    assert_eq!(end(&timer("once"), Outcome::Ok, STUCK_AFTER + 11), (false, None, None));
}

#[test]
fn each_timer_has_attempts_of_its_own() {
    let (lane, _) = lane();
    let fire = |lane: &Lane, name: &str, outcome| {
        let work = Work::Timer { name: name.into(), due: Timestamp(50), repeating: None };
        run(lane, &work, report(outcome, Effects::default()), 0).next.verdict
    };
    let wait = |seconds| Verdict::BackOff(Duration::from_secs(seconds));
    let trap = || Outcome::Trap("boom".into());
    assert_eq!(fire(&lane, "a", trap()), wait(1));
    assert_eq!(fire(&lane, "b", trap()), wait(1));
    assert_eq!(fire(&lane, "b", Outcome::Ok), Verdict::Done);
    assert_eq!(fire(&lane, "a", trap()), wait(2));
    assert_eq!(fire(&lane, "a", trap()), Verdict::DeadLetter);
}

/// The alarm `hot` of these entities, raised with a message or cleared.
fn hot_ones(entities: std::ops::Range<usize>, change: Option<&str>) -> Effects {
    let one = |n| changed((SlotName::new("hot").unwrap(), format!("e{n:05}").into()), change, None);
    Effects { alarms: entities.map(one).collect(), ..Effects::default() }
}

/// A timer's run with these effects, each later than the one before.
fn run_later(lane: &Lane, due: &mut u64, effects: Effects) -> Concluded {
    *due += 10;
    let work = Work::Timer { name: "t".into(), due: Timestamp(*due), repeating: None };
    run(lane, &work, report(Outcome::Ok, effects), 0)
}

#[test]
fn alarms_that_were_cleared_are_bounded_and_the_oldest_goes() {
    let (lane, _) = lane();
    let mut due = 0;
    let mut change = |effects| run_later(&lane, &mut due, effects);
    let half = MAX_ALARMS / 2;
    for round in 0..3 {
        change(hot_ones(round * half..(round + 1) * half, Some("hot")));
        change(hot_ones(round * half..(round + 1) * half, None));
    }
    assert_eq!(lane.book().alarms().len(), MAX_ALARMS, "of 15,000 that were raised and cleared");
    let oldest = lane.book().alarms().keys().next().unwrap().1.clone();
    assert_eq!(&*oldest, &*format!("e{half:05}"), "the first ones went");
    let meta = lane.book().meta().clone();
    assert_eq!((meta.counters.alarms_dropped, meta.alarms_standing), (half as u64, 0));
    // One that is raised again takes its own place, and one that stands never goes.
    let again = change(hot_ones(half..half + 1, Some("again")));
    let over: Vec<_> = again.head.alarms.iter().map(|alarm| (alarm.number, alarm.over)).collect();
    assert_eq!(
        over,
        [(half as u64 + 1, true), (3 * half as u64 + 1, false)],
        "the one before is in the history"
    );
    let new = change(hot_ones(50_000..50_002, Some("new")));
    let gone: Vec<_> = new.head.alarms.iter().filter(|alarm| alarm.over).collect();
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|alarm| *alarm.entity != *format!("e{half:05}")));
    assert_eq!(lane.book().alarms().len(), MAX_ALARMS);
}

#[test]
fn alarms_that_are_kept_take_no_more_bytes_than_one_installation_may_have() {
    let (lane, _) = lane();
    let longest = "x".repeat(MAX_ALARM_MESSAGE);
    let each = ALARM_BYTES + 6 + MAX_ALARM_MESSAGE;
    let most = MAX_ALARMS_BYTES / each;
    let mut due = 0;
    let mut change = |effects| run_later(&lane, &mut due, effects);
    // How many are kept, their bytes, and how many stand.
    let kept = || {
        let book = lane.book();
        (book.alarms().len(), book.alarms_bytes(), book.meta().alarms_standing as usize)
    };
    let all = (most, most * each, most);
    change(hot_ones(0..most, Some(&longest)));
    assert_eq!(kept(), all);
    change(hot_ones(0..most, None));
    assert_eq!(kept(), (most, most * each, 0), "all wait");
    assert_eq!(lane.book().standing_alarms_bytes(), 0);
    // Two more are raised: as many of the oldest go.
    change(hot_ones(most..most + 2, Some(&longest)));
    assert_eq!(lane.book().alarms().len(), most);
    assert_eq!(&*lane.book().alarms().keys().next().unwrap().1, "e00002");
    // All that stand are cleared in the call that raises others: those go that it doesn't raise.
    change(hot_ones(most..2 * most, Some(&longest)));
    assert_eq!(kept(), all);
    let mut both = hot_ones(most..2 * most, None);
    both.alarms.extend(hot_ones(2 * most..3 * most, Some(&longest)).alarms);
    change(both);
    assert_eq!(kept(), all);
    assert_eq!(lane.book().meta().counters.alarms_dropped, 2 * most as u64);
    // A cleared one that is raised again with a longer message makes room, too.
    change(hot_ones(2 * most..3 * most, None));
    change(hot_ones(2 * most..3 * most, Some("short")));
    change(hot_ones(0..200, Some(&longest)));
    change(hot_ones(0..200, None));
    change(hot_ones(2 * most..3 * most, Some(&longest)));
    assert_eq!(kept(), all);
}

#[test]
fn a_reading_that_two_inputs_take_is_one_reading() {
    let (lane, table) = lane();
    let row = (0, 7, Quality::Good, ValueRef::Real(1.5));
    let chunk = chunk(11, &[row], &[(1, 1_000, 0)]);
    let mut note = note(&table, &chunk);
    note.rows = [note.rows[0], RowNote { input: 1, ..note.rows[0] }].into();
    let offer = offer(&lane, vec![whole(note)]);
    assert_eq!((offer.rows, offer.readings), (2, 1));
    let work = Work::Readings(Box::new(offer));
    let done = run(&lane, &work, report(Outcome::Reject("no".into()), Effects::default()), 0);
    let inputs: Vec<&str> = done.head.dead_letters.iter().map(|letter| letter.input.as_str()).collect();
    // The count input can't take 1.5 at all.
    assert_eq!((done.next.verdict, inputs), (Verdict::DeadLetter, vec!["weight", "count"]));
    assert_eq!(done.head.meta.cursor, Sequence(11));
}

#[test]
fn a_one_shot_timer_is_gone_when_it_ran_unless_it_set_itself_again() {
    let (lane, _) = lane();
    let timers = |changes: &[(&str, Option<u64>)]| Effects {
        timers: changes.iter().map(|(name, due)| ((*name).into(), due.map(Timestamp))).collect(),
        ..Effects::default()
    };
    let fire = |due| Work::Timer { name: "once".into(), due: Timestamp(due), repeating: None };
    testing::set_timer(&lane, "once", Timestamp(50));
    let later = 50 + TIMER_SOONEST + 90;
    let again = timers(&[("once", Some(later)), ("other", Some(70)), ("unknown", None)]);
    let done = run(&lane, &fire(50), report(Outcome::Ok, again), 0);
    assert_eq!(done.head.invocation.time, Timestamp(50));
    let set = |lane: &Lane| -> Vec<(String, u64)> {
        lane.book().timers().iter().map(|(name, set)| (name.to_string(), set.due.0)).collect()
    };
    let soonest = 50 + TIMER_SOONEST;
    assert_eq!(
        set(&lane),
        [("once".into(), later), ("other".into(), soonest)],
        "none before a second has passed"
    );
    let done = run(&lane, &fire(later), report(Outcome::Ok, timers(&[("other", None)])), 0);
    assert!(set(&lane).is_empty());
    assert_eq!(done.head.meta.cursor, Sequence(0), "a timer deals with no reading");
}

#[test]
fn a_timer_that_fails_is_tried_three_times_and_then_waits_for_its_next_time() {
    let (lane, _) = lane();
    let daily = SlotName::new("daily").unwrap();
    testing::change(&lane, |meta| meta.cron_due = vec![(daily.clone(), Timestamp(50))]);
    let work = Work::Timer { name: "daily".into(), due: Timestamp(50), repeating: Some(Timestamp(150)) };
    let mut seen = Vec::new();
    for _ in 0..3 {
        let done = run(&lane, &work, report(Outcome::Trap("boom".into()), Effects::default()), 0);
        seen.push((done.next.verdict, done.head.meta.cron_due[0].1.0, done.head.invocation.ordinal.0));
    }
    let wait = |seconds| Verdict::BackOff(Duration::from_secs(seconds));
    assert_eq!(seen, [(wait(1), 50, 1), (wait(2), 50, 1), (Verdict::DeadLetter, 150, 1)]);
    let work = Work::Timer { name: "daily".into(), due: Timestamp(150), repeating: Some(Timestamp(250)) };
    let done = run(&lane, &work, report(Outcome::Ok, Effects::default()), 0);
    assert_eq!((done.head.meta.cron_due[0].1, done.head.invocation.ordinal), (Timestamp(250), Ordinal(2)));
}

#[test]
fn a_requeued_letter_is_gone_and_one_that_fails_again_is_a_new_one() {
    let (lane, table) = lane();
    let refused = vec![Refused { frame: 0, reading: 0, reason: "no".into() }];
    let refuse = || report(Outcome::Ok, Effects { refused: refused.clone(), ..Effects::default() });
    let made = run(&lane, &readings(&lane, &table, 1, 1), refuse(), 0);
    let mut letter = made.head.dead_letters[0].clone();
    let again = [
        (report(Outcome::Reject("still no".into()), Effects::default()), "reject: still no"),
        (report(Outcome::Trap("boom".into()), Effects::default()), "trap: boom"),
        (refuse(), "refused: no"),
    ];
    for (report, reason) in again {
        let number = letter.number;
        let done = run(&lane, &Work::Requeue(Box::new(letter)), report, 0);
        assert_eq!(done.head.dead_letters_gone, [number]);
        assert_eq!(done.head.invocation.kind, InvocationKind::Requeue(number));
        letter = done.head.dead_letters[0].clone();
        assert_eq!((letter.number, letter.sequence, &*letter.reason), (number + 1, Sequence(1), reason));
    }
    let done = run(&lane, &Work::Requeue(Box::new(letter)), report(Outcome::Ok, Effects::default()), 0);
    assert_eq!((&done.head.dead_letters_gone[..], done.head.dead_letters.len()), (&[4][..], 0));
    assert_eq!(done.head.meta.cursor, Sequence(1), "it is no reading of the queue");
}

#[test]
fn five_traps_in_a_row_quarantine_the_lane() {
    let (lane, table) = lane();
    for n in 0..15 {
        assert!(!lane.is_stopped(), "{n}");
        let work = readings(&lane, &table, 1 + n / 3, 1);
        run(&lane, &work, report(Outcome::Trap("boom".into()), Effects::default()), 0);
    }
    assert!(lane.is_stopped() && !lane.is_enabled());
    let quarantine = lane.book().meta().quarantine.clone().unwrap();
    assert_eq!(quarantine.at, NOW);
    assert!(quarantine.reason.contains("in a row"), "{}", quarantine.reason);
}
