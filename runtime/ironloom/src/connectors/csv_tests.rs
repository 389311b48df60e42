//! Replay of CSV files: pacing, laps and cells.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::csv_file::{Progress, parse_time};
use super::*;
use crate::config::Config;
use ironloom_types::ids::Digest;
use ironloom_types::readings::{Quality, ValueRef};

/// Keeps what it gets as rows of text, and fails when told.
#[derive(Default)]
struct Fake {
    records: Mutex<Vec<Vec<String>>>,
    points: Mutex<BTreeMap<String, PointNumber>>,
    receipt: Mutex<Option<Vec<u8>>>,
    ticks: Mutex<Vec<Timestamp>>,
    /// Answers with `Later` before the record of this index, as often as it says.
    later: Mutex<Option<(usize, u32)>>,
    /// Stops taking after this many records, as a kill would.
    most: Option<usize>,
    latest: Option<Timestamp>,
}

impl Sink for Fake {
    fn submit<'a>(&'a self, _connector: &'a str, record: Record) -> Submitted<'a> {
        Box::pin(async move {
            let mut records = self.records.lock();
            if self.most.is_some_and(|most| records.len() >= most) {
                return Err(SinkError::Stopping);
            }
            if let Some((index, times)) = self.later.lock().as_mut()
                && *index == records.len()
                && *times > 0
            {
                *times -= 1;
                return Err(SinkError::Later("full".to_owned()));
            }
            let mut points = self.points.lock();
            let columns = &record.columns;
            assert!(columns.is_sound());
            let numbers: Vec<PointNumber> = record
                .new_points
                .iter()
                .map(|new| {
                    let next = PointNumber(u32::try_from(points.len()).unwrap());
                    *points.entry(new.path.as_str().to_owned()).or_insert(next)
                })
                .collect();
            let name = |number: PointNumber| {
                let number = number.pending_index().map_or(number, |index| numbers[index]);
                points.iter().find(|(_, known)| **known == number).unwrap().0.clone()
            };
            let rows = (0..columns.len()).map(|row| {
                let value = match columns.value(row) {
                    ValueRef::Real(real) => real.to_string(),
                    ValueRef::Missing => "-".to_owned(),
                    other => format!("{other:?}"),
                };
                let quality = match columns.quality(row) {
                    Quality::Good => "",
                    Quality::Uncertain => "?",
                    Quality::Bad => "!",
                };
                format!("{} {value}{quality} {}", name(columns.points[row]), columns.at[row].0)
            });
            records.push(rows.collect());
            *self.receipt.lock() = Some(record.receipt);
            Ok(())
        })
    }

    fn tick(&self, at: Timestamp) {
        self.ticks.lock().push(at);
    }

    fn receipt(&self, _connector: &str) -> Option<Vec<u8>> {
        self.receipt.lock().clone()
    }

    fn point(&self, path: &str) -> Option<PointNumber> {
        self.points.lock().get(path).copied()
    }

    fn latest(&self) -> Timestamp {
        self.latest.unwrap_or(Timestamp(i64::MAX as u64))
    }
}

const FILE: &str = "Pig,at,Weight,Feed\n1,100,26.5,\n2,100,27,3\n1,200,30,5.5\n2,300,NA,x\n";

const BOTH: &str = "[connectors.herd.columns.Weight]\npoint = \"b{lap}/{Pig}/weight\"\nunit = \"kg\"\n\
                    [connectors.herd.columns.Feed]\npoint = \"b{lap}/{Pig}/feed\"\n";

fn config(folder: &Path, keys: &str, columns: &str) -> ConnectorConfig {
    let text =
        format!("[connectors.herd]\nkind = \"csv\"\npath = \"herd.csv\"\nat = \"at\"\n{keys}\n{columns}");
    let mut config = Config::read(&text).unwrap().connectors.remove("herd").unwrap();
    config.resolve(folder);
    config
}

fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("herd.csv"), text).unwrap();
    folder
}

async fn run_to_end(config: ConnectorConfig, sink: &Arc<Fake>) -> ConnectorStatus {
    let (_keep, shutdown) = watch::channel(false);
    let running = start("herd", config, Arc::clone(sink) as Arc<dyn Sink>, shutdown);
    running.task.await.unwrap();
    running.status.show()
}

#[tokio::test]
async fn lines_of_one_time_are_one_record_and_cells_become_readings() {
    let folder = folder(FILE);
    let sink = Arc::new(Fake::default());
    let status = run_to_end(config(folder.path(), "", BOTH), &sink).await;
    let expected = [
        vec!["b1/1/weight 26.5 100", "b1/2/feed 3 100", "b1/2/weight 27 100"],
        vec!["b1/1/feed 5.5 200", "b1/1/weight 30 200"],
        vec!["b1/2/feed -! 300"],
    ];
    assert_eq!(*sink.records.lock(), expected);
    assert_eq!((status.state.as_str(), status.readings), ("done", 6));
    let error = status.last_error.unwrap();
    assert_eq!(error, "line 5, column Feed: \"x\" is no Real; taken as bad");
}

#[tokio::test]
async fn laps_shift_times_and_have_points_of_their_own() {
    let folder = folder("Pig,at,Weight\n1,100,1\n1,200,2\n");
    let weight = "[connectors.herd.columns.Weight]\npoint = \"b{lap}/{Pig}\"\n";
    let sink = Arc::new(Fake::default());
    run_to_end(config(folder.path(), "loop = 3\nshift = \"1 us\"", weight), &sink).await;
    let rows: Vec<String> = sink.records.lock().concat();
    assert_eq!(
        rows,
        ["b1/1 1 100", "b1/1 2 200", "b2/1 1 1100", "b2/1 2 1200", "b3/1 1 2100", "b3/1 2 2200"]
    );
}

#[tokio::test]
async fn a_kill_at_any_record_neither_skips_nor_repeats() {
    let folder = folder(FILE);
    let keys = "loop = 2\nshift = \"1 us\"";
    let whole = Arc::new(Fake::default());
    run_to_end(config(folder.path(), keys, BOTH), &whole).await;
    let whole = whole.records.lock().clone();
    for most in 0..=whole.len() {
        let first = Arc::new(Fake { most: Some(most), ..Fake::default() });
        run_to_end(config(folder.path(), keys, BOTH), &first).await;
        let second = Arc::new(Fake {
            points: Mutex::new(first.points.lock().clone()),
            receipt: Mutex::new(first.receipt.lock().clone()),
            ..Fake::default()
        });
        let status = run_to_end(config(folder.path(), keys, BOTH), &second).await;
        let both = [first.records.lock().clone(), second.records.lock().clone()].concat();
        assert_eq!(both, whole, "after {most}");
        assert_eq!(status.state, "done");
    }
}

#[tokio::test]
async fn another_file_begins_from_its_start() {
    let folder = folder(FILE);
    let sink = Arc::new(Fake::default());
    run_to_end(config(folder.path(), "", BOTH), &sink).await;
    std::fs::write(folder.path().join("herd.csv"), "Pig,at,Weight,Feed\n9,400,1,2\n").unwrap();
    run_to_end(config(folder.path(), "", BOTH), &sink).await;
    assert_eq!(sink.records.lock().last().unwrap(), &["b1/9/feed 2 400", "b1/9/weight 1 400"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_is_handed_over_again() {
    let folder = folder(FILE);
    let sink = Arc::new(Fake { later: Mutex::new(Some((1, 3))), ..Fake::default() });
    let status = run_to_end(config(folder.path(), "", BOTH), &sink).await;
    assert_eq!(sink.records.lock().len(), 3);
    assert_eq!(status.state, "done");
}

#[tokio::test(start_paused = true)]
async fn time_goes_on_between_paced_records() {
    let day = 86_400_000_000_000_u64;
    let folder = folder("Pig,at,Weight\n1,1970-01-02,1\n1,1970-01-09,2\n");
    let weight = "[connectors.herd.columns.Weight]\npoint = \"{Pig}\"\n";
    let sink = Arc::new(Fake::default());
    let begun = tokio::time::Instant::now();
    run_to_end(config(folder.path(), "speed = 604800.0", weight), &sink).await;
    let took = begun.elapsed().as_secs_f64();
    assert!((0.99..1.1).contains(&took), "a week in a second took {took} s");
    let ticks = sink.ticks.lock().clone();
    assert!(ticks.is_sorted());
    assert!(ticks.iter().all(|tick| (day..=8 * day).contains(&tick.0)));
    let days: std::collections::BTreeSet<u64> = ticks.iter().map(|tick| tick.0 / day).collect();
    assert_eq!(days, (1..8).collect(), "each day has a tick");
}

#[tokio::test]
async fn times_ahead_of_the_clock_lower_the_quality() {
    let folder = folder("Pig,at,Weight\n1,100,1\n1,200,2\n");
    let weight = "[connectors.herd.columns.Weight]\npoint = \"{Pig}\"\n";
    let sink = Arc::new(Fake { latest: Some(Timestamp(150)), ..Fake::default() });
    let status = run_to_end(config(folder.path(), "", weight), &sink).await;
    assert_eq!(sink.records.lock().concat(), ["1 1 100", "1 2? 200"]);
    assert_eq!(status.lowered, 1);
}

#[tokio::test]
async fn a_missing_file_or_column_stops_it_with_a_reason() {
    let folder = folder("Pig,time,Weight\n1,100,1\n");
    let sink = Arc::new(Fake::default());
    let status = run_to_end(config(folder.path(), "", BOTH), &sink).await;
    assert_eq!(status.state, "stopped");
    assert!(status.last_error.unwrap().contains("no column \"at\"; it has Pig, time, Weight"));
    std::fs::remove_file(folder.path().join("herd.csv")).unwrap();
    let status = run_to_end(config(folder.path(), "", BOTH), &sink).await;
    assert_eq!(status.state, "stopped");
}

#[tokio::test]
async fn it_stops_when_told() {
    let folder = folder("Pig,at,Weight\n1,1970-01-02,1\n1,1980-01-01,2\n");
    let weight = "[connectors.herd.columns.Weight]\npoint = \"{Pig}\"\n";
    let sink = Arc::new(Fake::default());
    let (stop, shutdown) = watch::channel(false);
    let config = config(folder.path(), "speed = 1.0", weight);
    let running = start("herd", config, Arc::clone(&sink) as Arc<dyn Sink>, shutdown);
    stop.send(true).unwrap();
    running.task.await.unwrap();
    assert_eq!(running.status.show().state, "stopped");
}

#[test]
fn receipts_read_back_and_others_are_ignored() {
    let progress = Progress { file: Digest([7; 32]), lap: 3, line: 1 << 40 };
    let receipt = progress.to_receipt();
    assert_eq!(receipt.len(), 49);
    assert_eq!(Progress::from_receipt(&receipt), Some(progress));
    assert_eq!(Progress::from_receipt(&receipt[..48]), None);
    assert_eq!(Progress::from_receipt(&[]), None);
}

#[test]
fn times_have_three_forms() {
    for (text, at) in [
        ("1970-01-02", Some(86_400_000_000_000)),
        ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
        (" 17 ", Some(17)),
        ("-1", None),
        ("1969-01-01", None),
        ("", None),
    ] {
        assert_eq!(parse_time(text), at.map(Timestamp), "{text}");
    }
}
