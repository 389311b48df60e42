//! Texts for people, and lines that are kept until they are acknowledged.

use super::backlog::{Backlog, Odd};
use super::run::Stopped;
use super::source::Lines;
use super::*;
use crate::api::StreamMark;
use crate::api::facade::{Detail, Place, Problem};
use crate::cli::failure::Failure;
use std::time::Duration;

/// So many lines with numbers from this one on.
fn lines(from: u64, count: u64) -> Lines {
    let bytes = (from..from + count).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    Lines { bytes, count }
}

fn all(backlog: &mut Backlog) -> String {
    let parts = std::iter::from_fn(|| backlog.next());
    parts.map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
}

#[test]
fn what_is_not_acknowledged_is_sent_again_from_the_line_that_the_server_names() {
    let mut backlog = Backlog::default();
    backlog.begin(0, None).unwrap();
    backlog.add(lines(1, 3)).unwrap();
    backlog.add(lines(4, 2)).unwrap();
    assert_eq!(backlog.next().unwrap(), "line 1\nline 2\nline 3\n");
    backlog.taken(2).unwrap();
    assert_eq!((backlog.acknowledged(), backlog.sent()), (2, 3));
    assert_eq!(all(&mut backlog), "line 4\nline 5\n");
    assert!(!backlog.has_unsent());
    // The server had one more than it could say.
    backlog.begin(3, None).unwrap();
    assert_eq!(all(&mut backlog), "line 4\nline 5\n");
    backlog.begin(4, None).unwrap();
    assert_eq!(all(&mut backlog), "line 5\n");
    backlog.taken(5).unwrap();
    assert!(backlog.is_empty());
    assert_eq!(backlog.begin(4, None), Err(Odd::Forgotten { said: 4, acknowledged: 5 }));
    assert_eq!(backlog.begin(6, None), Err(Odd::Ahead { said: 6, read: 5 }));
}

#[test]
fn a_server_that_has_forgotten_an_earlier_run_gets_all_lines() {
    let mut backlog = Backlog::default();
    backlog.begin(3, None).unwrap();
    backlog.begin(0, None).unwrap();
    backlog.add(lines(1, 4)).unwrap();
    assert_eq!(all(&mut backlog), "line 1\nline 2\nline 3\nline 4\n");
    backlog.taken(4).unwrap();
    assert!(backlog.is_empty());
}

#[test]
fn lines_of_an_earlier_run_are_skipped_if_they_are_the_same() {
    let mark = || Some(StreamMark::default().with(&lines(1, 3).bytes).shown());
    let mut backlog = Backlog::default();
    backlog.begin(3, mark()).unwrap();
    backlog.add(lines(1, 2)).unwrap();
    // Another connection meanwhile.
    backlog.begin(3, mark()).unwrap();
    assert!(backlog.is_empty());
    assert_eq!(backlog.ended(), Err(Odd::Short { said: 3, read: 2 }));
    backlog.add(lines(3, 2)).unwrap();
    assert_eq!(all(&mut backlog), "line 4\n");
    backlog.ended().unwrap();
    backlog.taken(4).unwrap();
    assert_eq!(backlog.acknowledged(), 4);

    let mut other = Backlog::default();
    other.begin(3, mark()).unwrap();
    assert_eq!(other.add(lines(2, 4)), Err(Odd::Other { through: 3 }));
    // The last of them is the same.
    let mut other = Backlog::default();
    other.begin(3, mark()).unwrap();
    other.add(lines(2, 1)).unwrap();
    other.add(lines(2, 1)).unwrap();
    assert_eq!(other.add(lines(3, 4)), Err(Odd::Other { through: 3 }));
}

#[test]
fn no_more_is_read_than_may_be_kept() {
    let mut backlog = Backlog::default();
    backlog.begin(0, None).unwrap();
    backlog.add(lines(1, 199_999)).unwrap();
    assert!(!backlog.is_full());
    backlog.add(lines(200_000, 1)).unwrap();
    assert!(backlog.is_full(), "200,000 lines");
    backlog.taken(1).unwrap();
    assert!(!backlog.is_full());
    let mut backlog = Backlog::default();
    backlog.add(Lines { bytes: vec![b'\n'; 8 << 20], count: 1 }).unwrap();
    assert!(backlog.is_full(), "8 MiB");
}

fn text(failure: Failure, total: Total, unknown: Option<u64>) -> String {
    placed(Stopped { failure, total, unknown, unsent: 0 }, "http://x", "k").to_string()
}

fn through(through: u64, taken: u64) -> Total {
    Total { through, taken, ..Total::default() }
}

fn bad_line(line: u64) -> Failure {
    let detail = Detail {
        kind: "not-json".to_owned(),
        detail: "the line is not valid JSON".to_owned(),
        place: Some(Place { line: Some(line), column: Some(1), ..Place::default() }),
    };
    let problem = Problem::malformed("bad-lines", "nothing was accepted")
        .hint("With ?partial=true the valid lines are accepted.")
        .with(vec![detail]);
    Failure::Refused(problem)
}

#[test]
fn a_bad_line_is_named_with_what_was_taken_before_it() {
    insta::assert_snapshot!(text(bad_line(10_003), through(10_002, 9_999), None), @r"
    error: nothing from line 10003 on was accepted; line 10003, column 1: the line is not valid JSON
    hint: With --partial the valid lines are accepted.
    hint: The 10002 lines before were taken (9999 readings).
    hint: Send the same lines again with --key k: nothing is taken twice.
    ");
    insta::assert_snapshot!(text(bad_line(1), Total::default(), None), @r"
    error: nothing was accepted; line 1, column 1: the line is not valid JSON
    hint: With --partial the valid lines are accepted.
    ");
}

#[test]
fn a_server_that_is_gone_leaves_a_way_on() {
    let lost = |sent| Failure::NotReached { url: "http://x".to_owned(), reason: "reset".to_owned(), sent };
    insta::assert_snapshot!(text(lost(true), Total::default(), Some(5)), @r"
    error: http://x doesn't answer any more: reset
    hint: It is not known whether the lines 1 to 5 were taken.
    hint: Send the same lines again with --key k: nothing is taken twice.
    ");
    insta::assert_snapshot!(text(lost(false), through(10_000, 9_999), Some(10_001)), @r"
    error: http://x doesn't answer any more: reset
    hint: The 10000 lines before were taken (9999 readings).
    hint: It is not known whether line 10001 was taken.
    hint: Send the same lines again with --key k: nothing is taken twice.
    ");
    insta::assert_snapshot!(text(lost(false), Total::default(), None), @r"
    error: no server answers at http://x: reset
    hint: `ironloom serve` starts one; --url or IRONLOOM_URL names another one.
    ");
}

#[test]
fn a_push_that_is_interrupted_says_what_was_not_sent() {
    let interrupted = Failure::Interrupted("interrupted".to_owned());
    let stopped = Stopped { failure: interrupted, total: through(1, 1), unknown: Some(3), unsent: 2 };
    insta::assert_snapshot!(placed(stopped, "http://x", "k").to_string(), @r"
    error: interrupted
    hint: The line before was taken (1 reading).
    hint: It is not known whether the lines 2 to 3 were taken.
    hint: 2 lines behind them were read and not taken.
    hint: Send the same lines again with --key k: nothing is taken twice.
    ");
}

#[test]
fn a_push_of_which_nothing_was_taken_says_so_of_all_lines() {
    let failure = Failure::Refused(Problem::unavailable("clock", "readings need an `at`", Duration::ZERO));
    let stopped = Stopped { failure, total: Total::default(), unknown: None, unsent: 1 };
    insta::assert_snapshot!(placed(stopped, "http://x", "k").to_string(), @r"
    error: readings need an `at`
    hint: 1 line was read and not taken.
    ");
}

#[test]
fn a_server_is_tried_for_a_while_or_forever() {
    assert_eq!("1 min".parse(), Ok(Retry::For(Duration::from_secs(60))));
    assert_eq!("forever".parse(), Ok(Retry::Forever));
    assert!("always".parse::<Retry>().is_err());
}

#[test]
fn the_summary_says_what_was_taken_before() {
    let total = |taken, before, sequence: Option<u64>| Total {
        taken,
        before,
        sequence: sequence.map(ironloom_types::ids::Sequence),
        ..Total::default()
    };
    assert_eq!(summary(&total(1, 0, Some(7))), "1 reading taken, the last as 7");
    assert_eq!(summary(&total(5, 2, Some(9))), "5 readings taken, 2 of them before, the last as 9");
    assert_eq!(summary(&total(2, 2, None)), "2 readings taken, all of them before");
    assert_eq!(summary(&total(0, 0, None)), "0 readings taken");
}

#[test]
fn keys_are_visible_and_no_two_runs_have_the_same() {
    assert!(key(&"k".repeat(64)).is_ok());
    for wrong in ["", "a b", "ä", &"k".repeat(65)] {
        assert!(key(wrong).is_err(), "{wrong}");
    }
    assert!(key(&new_key()).is_ok());
    assert_ne!(new_key(), new_key());
}

#[test]
fn only_http_urls_of_a_server_are_taken() {
    let address =
        |url: &str| Address::new(url, "k", false, super::super::credentials::Credentials::default());
    for right in ["http://127.0.0.1:7420/", "http://[::1]:7420", "https://loom.plant"] {
        assert!(address(right).is_ok(), "{right}");
    }
    for wrong in ["not a url", "ftp://127.0.0.1:1", "127.0.0.1:1", ""] {
        assert!(matches!(address(wrong), Err(Failure::Misuse(_))), "{wrong}");
    }
}
