//! What a lane does next: readings, timers and dead letters against each other.

use std::time::{Duration, Instant};

use super::*;
use crate::lanes::pace::TimerPace;
use crate::lanes::policy::TimerEffort;
use crate::lanes::run::choose::{Choice, Moment, choose};
use crate::lanes::run::{BatchLimits, Pacing};
use crate::records::lane::{Published, Reached};
use ironloom_types::ids::SlotName;

const LIMITS: BatchLimits = BatchLimits { readings: 100, bytes: 1 << 20 };
const HOUR: u64 = 3600 * 1_000_000_000;
const DAY: u64 = 24 * HOUR;

/// Notes a reading for each of these journal times.
fn note_readings(lane: &Lane, table: &RoutingTable, first: u64, times: &[u64]) {
    for (at, time) in times.iter().enumerate() {
        let chunk = chunk(first + at as u64, &[(0, 7, Quality::Good, ValueRef::Real(1.0))], &[(1, *time, 0)]);
        testing::note(lane, &chunk, &note(table, &chunk).rows);
    }
}

/// What is chosen, in words, where the fold has come as far as the clock.
fn chosen(lane: &Lane, time: u64, now: Instant) -> String {
    chosen_at(lane, Moment { horizon: Timestamp(time), clock: Timestamp(time), now })
}

fn chosen_at(lane: &Lane, moment: Moment) -> String {
    match choose(lane, moment, LIMITS, Pacing::Measured).1 {
        Choice::Nothing => "nothing".to_owned(),
        Choice::Requeue(number) => format!("letter {number}"),
        Choice::Timer { name, due, repeating: None } => format!("{name} at {}", due.0),
        Choice::Timer { name, due, repeating: Some(next) } => format!("{name} at {}, then {}", due.0, next.0),
        Choice::Readings(slices) => {
            let rows =
                slices.iter().flat_map(|slice| slice.rows().iter().map(|row| slice.note.sequence_of(row)));
            format!("readings {:?}", rows.map(|sequence| sequence.0).collect::<Vec<_>>())
        }
    }
}

/// Deals with readings up to this one.
fn commit(lane: &Lane, cursor: u64) {
    lane.queue.lock().advance_for_test(Sequence(cursor));
}

#[test]
fn a_timer_runs_between_the_readings_of_before_and_after_its_time() {
    let (lane, table) = lane();
    let now = Instant::now();
    note_readings(&lane, &table, 1, &[10, 19, 20, 30]);
    testing::set_timer(&lane, "once", Timestamp(20));
    // A lane hears of readings before the horizon has followed their time.
    let noted = Moment { horizon: Timestamp(9), clock: Timestamp(30), now };
    assert_eq!(chosen_at(&lane, noted), "readings [1, 2]");
    assert_eq!(chosen(&lane, 30, now), "readings [1, 2]");
    commit(&lane, 2);
    assert_eq!(chosen_at(&lane, noted), "nothing", "the rest comes after the timer, which isn't due yet");
    assert_eq!(chosen(&lane, 30, now), "once at 20");
    testing::set_timer(&lane, "once", Timestamp(40));
    assert_eq!(chosen(&lane, 30, now), "readings [3, 4]");
    commit(&lane, 4);
    assert_eq!(chosen(&lane, 30, now), "nothing");
}

#[test]
fn while_readings_wait_in_back_off_timers_run() {
    let (lane, table) = lane();
    let now = Instant::now();
    note_readings(&lane, &table, 1, &[10]);
    testing::set_timer(&lane, "once", Timestamp(20));
    lane.pace.lock().back_off = Some(now + Duration::from_secs(5));
    assert_eq!(chosen(&lane, 30, now), "once at 20");
    testing::set_timer(&lane, "once", Timestamp(90));
    assert_eq!(chosen(&lane, 30, now), "nothing");
    assert_eq!(chosen(&lane, 30, now + Duration::from_secs(5)), "readings [1]");
}

#[test]
fn a_timer_that_failed_holds_up_neither_readings_nor_other_timers() {
    let (lane, table) = lane();
    let now = Instant::now();
    testing::set_timer(&lane, "bad", Timestamp(10));
    testing::set_timer(&lane, "good", Timestamp(20));
    note_readings(&lane, &table, 1, &[15]);
    let until = now + Duration::from_secs(5);
    let effort = TimerEffort { attempts: 1, ..TimerEffort::default() };
    lane.pace.lock().timers.insert("bad".into(), TimerPace { until, effort });
    assert_eq!(chosen(&lane, 30, now), "readings [1]");
    commit(&lane, 1);
    assert_eq!(chosen(&lane, 30, now), "good at 20");
    assert_eq!(chosen(&lane, 30, until), "bad at 10");
}

#[test]
fn overdue_times_of_a_repeating_timer_collapse_into_the_last() {
    let (lane, _) = lane();
    let daily = SlotName::new("daily").unwrap();
    testing::change(&lane, |meta| meta.cron_due = vec![(daily, Timestamp(DAY + 6 * HOUR))]);
    let now = Instant::now();
    assert_eq!(chosen(&lane, DAY + 6 * HOUR - 1, now), "nothing");
    let text = |due: u64| format!("daily at {due}, then {}", due + DAY);
    assert_eq!(chosen(&lane, DAY + 6 * HOUR, now), text(DAY + 6 * HOUR));
    assert_eq!(chosen(&lane, 9 * DAY + 5 * HOUR, now), text(8 * DAY + 6 * HOUR));
}

#[test]
fn dead_letters_that_run_again_take_turns_with_what_is_due() {
    let (lane, table) = lane();
    let now = Instant::now();
    note_readings(&lane, &table, 1, &[10]);
    for number in [7, 8] {
        lane.pace.lock().requeue.add(number);
    }
    assert_eq!(chosen(&lane, 30, now), "letter 7");
    {
        let mut pace = lane.pace.lock();
        pace.requeue.forget(7);
        pace.requeue.took_turn(true);
    }
    assert_eq!(chosen(&lane, 30, now), "readings [1]");
    commit(&lane, 1);
    assert_eq!(chosen(&lane, 30, now), "letter 8", "nothing else is due");
}

#[test]
fn nothing_runs_while_the_host_recovers() {
    let (lane, table) = lane();
    let now = Instant::now();
    note_readings(&lane, &table, 1, &[10]);
    testing::set_timer(&lane, "once", Timestamp(20));
    lane.pace.lock().requeue.add(7);
    let until = now + Duration::from_secs(5);
    lane.pace.lock().not_before = Some(until);
    assert_eq!(chosen(&lane, 30, now), "nothing");
    assert_eq!(chosen(&lane, 30, until), "letter 7");
}

#[test]
fn a_lane_that_is_paused_keeps_no_records_in_memory() {
    let (lane, table) = lane();
    note_readings(&lane, &table, 1, &[10, 20]);
    assert_eq!(lane.queue.lock().noted(), 2);
    testing::stand(&lane, Standing::Paused);
    assert!(lane.is_stopped());
    note_readings(&lane, &table, 3, &[30]);
    let queue = lane.queue.lock();
    assert_eq!((queue.noted(), queue.pending()), (0, Some(Sequence(1))));
}

#[test]
fn no_batch_crosses_an_edge_of_what_was_published_before() {
    let (lane, table) = lane();
    let reached = |sequence| Reached { sequence: Sequence(sequence), time: Timestamp(0) };
    testing::change(&lane, |meta| {
        meta.published = Some(Published { after: reached(2), through: reached(4) })
    });
    note_readings(&lane, &table, 1, &[10, 11, 12, 13, 14, 15]);
    for (expected, through) in [("[1, 2]", 2), ("[3, 4]", 4), ("[5, 6]", 6)] {
        assert_eq!(chosen(&lane, 30, Instant::now()), format!("readings {expected}"));
        commit(&lane, through);
    }
}
