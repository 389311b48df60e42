//! The failure rules.

use super::*;

const NOW: Timestamp = Timestamp(1_000 * SECOND);

fn of(outcome: OutcomeKind, readings: usize) -> Run {
    Run { outcome, readings, cpu: Duration::from_micros(readings as u64), now: NOW }
}

/// Runs a feed of readings, of which some are bad, through the rules, and returns the dead letters,
/// the runs, and the back-offs.
fn run(bad: &[usize], total: usize, outcome: OutcomeKind) -> (Vec<usize>, usize, usize, Trouble) {
    let (mut effort, mut trouble) = (Effort::default(), Trouble::default());
    let (mut at, mut dead, mut runs, mut back_offs) = (0, Vec::new(), 0, 0);
    while at < total {
        runs += 1;
        assert!(runs < 10_000, "the feed goes on");
        let rows = effort.readings(&Limits::default(), 16_384).min(total - at);
        let fails = bad.iter().any(|&bad| (at..at + rows).contains(&bad));
        let outcome = if fails { outcome } else { OutcomeKind::Ok };
        let judged = judge(&effort, &trouble, of(outcome, rows));
        (effort, trouble) = (judged.effort, judged.trouble);
        match judged.verdict {
            Verdict::Done => at += rows,
            Verdict::DeadLetter => {
                assert_eq!(rows, 1);
                dead.push(at);
                at += 1;
            }
            Verdict::Again => {}
            Verdict::BackOff(_) => back_offs += 1,
        }
    }
    (dead, runs, back_offs, trouble)
}

proptest::proptest! {
    #[test]
    fn exactly_the_bad_readings_become_dead_letters(
        bad in proptest::collection::btree_set(0usize..600, 0..6),
        trap: bool,
    ) {
        let bad: Vec<usize> = bad.into_iter().collect();
        let outcome = if trap { OutcomeKind::Trap } else { OutcomeKind::Reject };
        let (dead, runs, back_offs, _) = run(&bad, 600, outcome);
        proptest::prop_assert_eq!(&dead, &bad);
        // Each is found by halving: at most 2 log2(600) runs and two back-offs before.
        proptest::prop_assert!(runs <= 20 + bad.len() * 24, "{} runs", runs);
        proptest::prop_assert_eq!(back_offs, if trap { 2 * bad.len() } else { 0 });
    }
}

#[test]
fn a_reject_is_no_failure_and_a_bisection_by_trap_counts_once() {
    assert_eq!(run(&[300], 600, OutcomeKind::Reject).3.failures.len(), 0);
    // Three attempts failed; the runs that searched are part of the third.
    assert_eq!(run(&[300], 600, OutcomeKind::Trap).3.failures.len(), 3);
}

#[test]
fn a_limit_hit_by_many_readings_halves_the_offer_and_counts_nothing() {
    let judged = judge(&Effort::default(), &Trouble::default(), of(OutcomeKind::CpuLimit, 256));
    assert_eq!((judged.verdict, judged.counted), (Verdict::Again, false));
    assert_eq!(judged.effort.readings(&Limits::default(), 16_384), 128);
    assert_eq!(judged.trouble, Trouble::default());
    let judged = judge(&judged.effort, &judged.trouble, of(OutcomeKind::CpuLimit, 1));
    assert_eq!((judged.verdict, judged.counted), (Verdict::BackOff(Duration::from_secs(1)), true));
    assert_eq!(judged.trouble.failures.len(), 1);
}

#[test]
fn what_the_log_cannot_take_is_a_limit_like_any_other() {
    let limits = Limits::default();
    let mut judged = judge(&Effort::default(), &Trouble::default(), of(OutcomeKind::CommitLimit, 4));
    assert_eq!((judged.verdict, judged.effort.readings(&limits, 16_384)), (Verdict::Again, 2));
    judged = judge(&judged.effort, &judged.trouble, of(OutcomeKind::CommitLimit, 2));
    let mut verdicts = Vec::new();
    for _ in 0..3 {
        judged = judge(&judged.effort, &judged.trouble, of(OutcomeKind::CommitLimit, 1));
        verdicts.push(judged.verdict);
    }
    let wait = |seconds| Verdict::BackOff(Duration::from_secs(seconds));
    assert_eq!(verdicts, [wait(1), wait(2), Verdict::DeadLetter]);
}

#[test]
fn an_offer_is_what_fits_half_of_the_cpu_budget() {
    let limits = Limits { cpu: 200_000_000, ..Limits::default() };
    let effort = |nanos_each| Effort { nanos_each, cap: usize::MAX, ..Effort::default() };
    assert_eq!(effort(10_000.0).readings(&limits, 16_384), 10_000, "100 ms at 10 us each");
    assert_eq!(effort(1_000.0).readings(&limits, 16_384), 16_384, "no more than may be");
    assert_eq!(effort(1e12).readings(&limits, 16_384), 1, "at least one");
    let twice = Limits { cpu: 400_000_000, ..limits };
    assert_eq!(effort(50_000.0).readings(&twice, 16_384), 4_000);
}

#[test]
fn the_estimate_follows_what_readings_cost() {
    let limits = Limits { cpu: 200_000_000, ..Limits::default() };
    let (mut effort, mut offered) = (Effort::default(), 0);
    // Each reading takes 20 us: after a while an offer takes half of the 200 ms.
    for _ in 0..60 {
        offered = effort.readings(&limits, 16_384);
        let cpu = Duration::from_micros(20 * offered as u64);
        let run = Run { outcome: OutcomeKind::Ok, readings: offered, cpu, now: NOW };
        effort = judge(&effort, &Trouble::default(), run).effort;
    }
    assert!((4_900..=5_100).contains(&offered), "{offered}");
}

#[test]
fn a_trap_while_a_rejected_reading_is_searched_is_a_failure_like_any_other() {
    let limits = Limits::default();
    let mut judged = judge(&Effort::default(), &Trouble::default(), of(OutcomeKind::Reject, 2));
    assert_eq!(judged.effort.readings(&limits, 16_384), 1);
    let mut verdicts = Vec::new();
    for outcome in [OutcomeKind::Trap, OutcomeKind::WallLimit, OutcomeKind::Ok] {
        judged = judge(&judged.effort, &judged.trouble, of(outcome, 1));
        verdicts.push((judged.verdict, judged.counted));
    }
    let wait = |seconds| Verdict::BackOff(Duration::from_secs(seconds));
    assert_eq!(verdicts, [(wait(1), true), (wait(2), true), (Verdict::Done, false)]);
    assert_eq!(judged.trouble.traps_in_row, 0);
    // The other of the two is still suspected, and rejected at once.
    judged = judge(&judged.effort, &judged.trouble, of(OutcomeKind::Reject, 1));
    assert_eq!(judged.verdict, Verdict::DeadLetter);
}

proptest::proptest! {
    /// Whatever the outcomes, mixed within one search too: the feed goes on, only single readings become dead letters,
    /// none without three failures of its own search or a reject, and readings that are never touched by a failure
    /// pass.
    #[test]
    fn mixed_outcomes_neither_stop_the_feed_nor_cost_good_readings(
        bad in proptest::collection::btree_map(0usize..200, 0..5u8, 0..5),
        moody in proptest::collection::vec(proptest::bool::weighted(0.2), 64),
    ) {
        let (mut effort, mut trouble) = (Effort::default(), Trouble::default());
        let (mut at, mut dead, mut runs) = (0, Vec::new(), 0);
        let mut retries: std::collections::BTreeMap<usize, u8> = Default::default();
        while at < 200 {
            runs += 1;
            proptest::prop_assert!(runs < 2_000, "the feed goes on");
            let readings = effort.readings(&Limits::default(), 16_384).min(200 - at);
            // One that asks for patience is fine once it had it.
            let is_fine = |place: &usize| retries.get(place).is_some_and(|asked| *asked >= 2);
            let first_bad = bad.range(at..at + readings).find(|(place, _)| !is_fine(place));
            let outcome = match first_bad {
                None => OutcomeKind::Ok,
                Some((_, 0)) => OutcomeKind::Reject,
                Some((_, 1)) => OutcomeKind::Trap,
                Some((_, 2)) => OutcomeKind::WallLimit,
                Some((place, 3)) => {
                    *retries.entry(*place).or_default() += 1;
                    OutcomeKind::Retry
                }
                // Now this, now that.
                Some(_) if moody[runs % moody.len()] => OutcomeKind::Trap,
                Some(_) => OutcomeKind::Reject,
            };
            let judged = judge(&effort, &trouble, of(outcome, readings));
            match judged.verdict {
                Verdict::Done => at += readings,
                Verdict::DeadLetter => {
                    proptest::prop_assert_eq!(readings, 1);
                    dead.push(at);
                    at += 1;
                }
                Verdict::Again | Verdict::BackOff(_) => {}
            }
            (effort, trouble) = (judged.effort, judged.trouble);
        }
        let expected: Vec<usize> = bad.iter().filter(|(_, kind)| **kind != 3).map(|(place, _)| *place).collect();
        proptest::prop_assert_eq!(dead, expected);
    }
}

#[test]
fn five_traps_in_a_row_or_twenty_failures_stop_the_lane() {
    let (dead, _, _, trouble) = run(&[0, 1, 2, 3, 4], 5, OutcomeKind::Trap);
    assert_eq!(dead.len(), 5);
    assert!(quarantine(&trouble).is_some_and(|reason| reason.contains("in a row")));
    let mut trouble = Trouble::default();
    for n in 0..20 {
        assert_eq!(quarantine(&trouble), None, "after {n}");
        remember_failure(&mut trouble, NOW);
    }
    assert!(
        quarantine(&trouble)
            .is_some_and(|reason| reason.contains("20 failed attempts") && reason.contains("up to 3 times"))
    );
    remember_failure(&mut trouble, Timestamp(NOW.0 + FAILURE_WINDOW));
    assert_eq!(quarantine(&trouble), None, "the window moved on");
}

#[test]
fn failures_of_a_time_to_come_count_no_longer_once_the_clock_is_set_back() {
    let mut trouble = Trouble::default();
    for _ in 0..20 {
        remember_failure(&mut trouble, NOW.plus(1_000 * FAILURE_WINDOW));
    }
    remember_failure(&mut trouble, NOW);
    assert_eq!((quarantine(&trouble), trouble.failures.len()), (None, 1));
}

#[test]
fn retries_count_no_failure_and_are_stuck_after_an_hour() {
    let (mut effort, mut trouble) = (Effort::default(), Trouble::default());
    for attempt in 1..5 {
        let judged = judge(&effort, &trouble, of(OutcomeKind::Retry, 8));
        assert_eq!(judged.verdict, Verdict::BackOff(back_off(attempt)));
        (effort, trouble) = (judged.effort, judged.trouble);
    }
    assert!(trouble.failures.is_empty());
    assert!(!is_stuck(trouble.retrying_since, NOW.plus(STUCK_AFTER - 1)));
    assert!(is_stuck(trouble.retrying_since, NOW.plus(STUCK_AFTER)));
    let judged = judge(&effort, &trouble, of(OutcomeKind::Ok, 8));
    assert!(!is_stuck(judged.trouble.retrying_since, NOW.plus(STUCK_AFTER)), "it went on");
}

#[test]
fn a_timer_that_asks_for_retries_is_stuck_after_an_hour_too() {
    let first = judge_timer(&TimerEffort::default(), &Trouble::default(), OutcomeKind::Retry, NOW);
    let later = NOW.plus(STUCK_AFTER);
    let second = judge_timer(&first.effort, &first.trouble, OutcomeKind::Retry, later);
    assert_eq!(second.verdict, Verdict::BackOff(back_off(2)));
    assert!(is_stuck(second.effort.retrying_since, later) && !is_stuck(first.effort.retrying_since, NOW));
    assert!(!second.counted && second.trouble.failures.is_empty());
}

#[test]
fn back_off_doubles_from_a_second_to_five_minutes() {
    let seconds: Vec<u64> = (1..=11).map(|attempt| back_off(attempt).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn a_step_is_offered_whole_unless_that_was_too_much() {
    let (mut effort, mut trouble) = (Effort { nanos_each: 1e9, ..Effort::default() }, Trouble::default());
    let mut after = |outcome, readings: usize| {
        let judged = judge(&effort, &trouble, of(outcome, readings));
        (effort, trouble) = (judged.effort, judged.trouble);
        effort.of_a_step(16_384)
    };
    assert_eq!(after(OutcomeKind::Ok, 1), 16_384, "whatever it costs, from the first on");
    assert_eq!(after(OutcomeKind::CpuLimit, 10_000), 5_000);
    assert_eq!(after(OutcomeKind::CpuLimit, 5_000), 2_500);
    assert_eq!(after(OutcomeKind::Ok, 2_500), 16_384);
    assert_eq!(after(OutcomeKind::Reject, 10), 5, "a bad one is searched");
}
