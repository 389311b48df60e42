//! Replay of CSV files: pacing, laps, growth and cells.

mod changes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::api::facade::ConnectorStatus;
use crate::config::Config;
use crate::connectors::{
    ConnectorConfig, Kept, KnownPoint, Record, Running, Sink, SinkError, Site, Submitted, start,
};
use crate::telemetry::Metrics;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::{Quality, Value, ValueRef};

/// Keeps what it gets as rows of text, and fails when told.
#[derive(Default)]
struct Fake {
    records: Mutex<Vec<Vec<String>>>,
    points: Mutex<BTreeMap<String, PointNumber>>,
    /// Units of points that have one.
    units: Mutex<BTreeMap<PointNumber, Arc<str>>>,
    receipt: Mutex<Option<Vec<u8>>>,
    ticks: Mutex<Vec<Timestamp>>,
    /// Answers with `Later` before the record of this index, as often as it says.
    later: Mutex<Option<(usize, u32)>>,
    /// Stops taking after this many records, as a kill would.
    most: Option<usize>,
    latest: Option<Timestamp>,
    /// The time until a record is durable.
    takes: Duration,
    way: Arc<Mutex<Way>>,
}

/// Records on their way.
#[derive(Default)]
struct Way {
    now: usize,
    most: usize,
}

impl Way {
    fn begin(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }
}

impl Sink for Fake {
    fn has(&self, _: &str, _: &Value) -> bool {
        false
    }

    fn now(&self) -> Option<Timestamp> {
        None
    }

    fn submit(&self, _connector: &str, record: Record) -> Result<Submitted, SinkError> {
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
        self.units.lock().extend(record.units);
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
        let (way, until) = (Arc::clone(&self.way), tokio::time::Instant::now() + self.takes);
        way.lock().begin();
        Ok(Box::pin(async move {
            tokio::time::sleep_until(until).await;
            way.lock().now -= 1;
            Ok(())
        }))
    }

    fn tick(&self, at: Timestamp) {
        self.ticks.lock().push(at);
    }

    fn receipt(&self, _connector: &str) -> Option<Vec<u8>> {
        self.receipt.lock().clone()
    }

    fn point(&self, path: &str) -> Option<KnownPoint> {
        let number = self.points.lock().get(path).copied()?;
        Some(KnownPoint { number, unit: self.units.lock().get(&number).cloned() })
    }

    fn latest(&self) -> Timestamp {
        self.latest.unwrap_or(Timestamp(i64::MAX as u64))
    }
}

const FILE: &str = "Pig,at,Weight,Feed\n1,100,26.5,\n2,100,27,3\n1,200,30,5.5\n2,300,NA,x\n";

const BOTH: &str = "[connectors.herd.columns.Weight]\npoint = \"b{lap}/{Pig}/weight\"\nunit = \"kg\"\n\
                    [connectors.herd.columns.Feed]\npoint = \"b{lap}/{Pig}/feed\"\n";

fn config(folder: &Path, keys: &str, columns: &str) -> ConnectorConfig {
    let text = format!(
        "[connectors.herd]\nkind = \"csv\"\npath = \"herd.csv\"\nat = \"at\"\nat_unit = \"ns\"\n{keys}\n{columns}"
    );
    let mut config = Config::read(&text).unwrap().connectors.remove("herd").unwrap();
    config.resolve(folder);
    config
}

fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("herd.csv"), text).unwrap();
    folder
}

fn start_herd(config: ConnectorConfig, sink: &Arc<Fake>, shutdown: watch::Receiver<bool>) -> Running {
    let sink = Arc::clone(sink) as Arc<dyn Sink>;
    start("herd", config, Site::of_sink(sink), &Kept::default(), &Metrics::default(), shutdown)
}

async fn run_to_end(config: ConnectorConfig, sink: &Arc<Fake>) -> ConnectorStatus {
    let (_keep, shutdown) = watch::channel(false);
    let running = start_herd(config, sink, shutdown);
    running.task.await.unwrap();
    running.status.show()
}

#[tokio::test]
async fn lines_of_one_time_are_one_record_and_cells_become_readings() {
    let folder = folder(FILE);
    let sink = Arc::new(Fake::default());
    let status = run_to_end(config(folder.path(), "", BOTH), &sink).await;
    let expected = [
        vec!["b1/1/weight 26.5 100", "b1/2/weight 27 100", "b1/2/feed 3 100"],
        vec!["b1/1/weight 30 200", "b1/1/feed 5.5 200"],
        vec!["b1/2/feed -! 300"],
    ];
    assert_eq!(*sink.records.lock(), expected);
    assert_eq!((status.state.name(), status.readings), ("done", 6));
    let error = status.last_error.unwrap();
    assert_eq!(error, "line 5, column Feed: \"x\" is not a valid real; recorded as bad");
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
        assert_eq!(status.state.name(), "done");
    }
}

#[tokio::test]
async fn another_file_begins_from_its_start() {
    let folder = folder(FILE);
    let sink = Arc::new(Fake::default());
    run_to_end(config(folder.path(), "", BOTH), &sink).await;
    std::fs::write(folder.path().join("herd.csv"), "Pig,at,Weight,Feed\n9,400,1,2\n").unwrap();
    run_to_end(config(folder.path(), "", BOTH), &sink).await;
    assert_eq!(sink.records.lock().last().unwrap(), &["b1/9/weight 1 400", "b1/9/feed 2 400"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_is_handed_over_again() {
    let folder = folder(FILE);
    let sink = Arc::new(Fake { later: Mutex::new(Some((1, 3))), ..Fake::default() });
    let status = run_to_end(config(folder.path(), "", BOTH), &sink).await;
    assert_eq!(sink.records.lock().len(), 3);
    assert_eq!(status.state.name(), "done");
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
async fn a_missing_column_stops_it_with_a_reason() {
    for (header, reason) in [
        ("Pig,time,Weight", "no column \"at\"; it has Pig, time, Weight"),
        ("Pig,at,at,Weight,Feed", "has the column \"at\" twice"),
    ] {
        let folder = folder(&format!("{header}\n1,100,1\n"));
        let status = run_to_end(config(folder.path(), "", BOTH), &Arc::new(Fake::default())).await;
        assert_eq!(status.state.name(), "stopped");
        let error = status.last_error.unwrap();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cant_be_read_now_is_tried_again_and_is_never_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("herd.csv");
    let sink = Arc::new(Fake::default());
    let (_keep, shutdown) = watch::channel(false);
    let config = config(folder.path(), "", BOTH);
    let running = start_herd(config, &sink, shutdown);
    let waits = async |reason: &str| loop {
        let status = running.status.show();
        if status.state.name() == "waiting"
            && status.last_error.as_ref().is_some_and(|error| error.contains(reason))
        {
            assert!(!status.state.is_well());
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    waits("No such file").await;
    std::fs::create_dir(&path).unwrap();
    waits("herd.csv: is a directory").await;
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(folder.path().join("new"), FILE).unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    running.task.await.unwrap();
    assert_eq!(running.status.show().state.name(), "done");
    assert_eq!(sink.records.lock().len(), 3);
}

/// The weights of a file under these further keys, with its status.
async fn weights(text: &str, keys: &str) -> (Vec<String>, ConnectorStatus) {
    let folder = folder(text);
    let text = format!(
        "[site]\ntimezone = \"Europe/Berlin\"\n[connectors.herd]\nkind = \"csv\"\npath = \"herd.csv\"\n\
         at = \"at\"\n{keys}\n[connectors.herd.columns.Weight]\npoint = \"{{Pig}}\"\n"
    );
    let mut config = Config::read(&text).unwrap().connectors.remove("herd").unwrap();
    config.resolve(folder.path());
    let sink = Arc::new(Fake::default());
    let status = run_to_end(config, &sink).await;
    let rows = sink.records.lock().concat();
    (rows, status)
}

fn nanoseconds(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().0
}

#[tokio::test]
async fn times_without_an_offset_are_of_the_sites_zone_or_the_files() {
    let text = "Pig,at,Weight\n1,2024-06-19 15:22:45,1\n1,2024-06-20,2\n";
    let (rows, status) = weights(text, "").await;
    let [first, second] = ["2024-06-19T13:22:45Z", "2024-06-19T22:00:00Z"].map(nanoseconds);
    assert_eq!(rows, [format!("1 1 {first}"), format!("1 2 {second}")]);
    assert_eq!((status.skipped, status.last_error), (0, None));
    let (rows, _) = weights(text, "timezone = \"America/New_York\"").await;
    assert_eq!(rows[0], format!("1 1 {}", nanoseconds("2024-06-19T19:22:45Z")));
}

#[tokio::test]
async fn lines_that_cant_be_read_are_counted_and_named() {
    let text = "Pig,at,Weight\n1,1718810565,1\n1,yesterday,2\n1,2024-06-19,3,4\n,2024-06-19,5\n\
                apps,2024-06-19,6\n1,2024-06-19,7\n";
    let (rows, status) = weights(text, "").await;
    assert_eq!(rows, [format!("1 7 {}", nanoseconds("2024-06-18T22:00:00Z"))]);
    assert_eq!((status.state.name(), status.skipped, status.readings), ("done", 5, 1));
    let error = status.last_error.unwrap();
    assert_eq!(error, "line 6, column Weight: points under `apps/` belong to the runtime: apps; skipped");
    let (rows, _) = weights("Pig,at,Weight\n1,1718810565,1\n", "at_unit = \"s\"").await;
    assert_eq!(rows, ["1 1 1718810565000000000"]);
}

#[tokio::test]
async fn what_is_no_finite_number_is_bad_and_a_time_before_1970_is_not_trusted() {
    let text = "Pig,at,Weight\n1,2024-06-19,nan\n2,2024-06-19,inf\n3,2024-06-19,1e999\n4,2024-06-19, 5 \n\
                5,1969-07-20,6\n";
    let (rows, status) = weights(text, "").await;
    let at = nanoseconds("2024-06-18T22:00:00Z");
    let bad = |pig: u32| format!("{pig} -! {at}");
    assert_eq!(rows, [bad(1), bad(2), bad(3), format!("4 5 {at}"), "5 6? 0".to_owned()]);
    assert_eq!((status.lowered, status.skipped), (1, 0));
}

#[tokio::test]
async fn files_of_a_german_spreadsheet_are_read() {
    let text = "\u{feff}Pig;at;Weight\n1;2024-06-19 15:22:45;26,5\n2;2024-06-19 15:22:45;1.026,5\n";
    let (rows, status) = weights(text, "delimiter = \";\"\ndecimal = \",\"").await;
    let at = nanoseconds("2024-06-19T13:22:45Z");
    assert_eq!(rows, [format!("1 26.5 {at}"), format!("2 -! {at}")]);
    assert!(status.last_error.unwrap().contains("line 3, column Weight"));
}

#[tokio::test]
async fn points_of_apps_are_never_written_even_where_they_are_known() {
    let folder = folder("Pig,at,Weight\napps/pigs/gain,100,1\n");
    let weight = "[connectors.herd.columns.Weight]\npoint = \"{Pig}\"\n";
    let points = BTreeMap::from([("apps/pigs/gain".to_owned(), PointNumber(0))]);
    let sink = Arc::new(Fake { points: Mutex::new(points), ..Fake::default() });
    let status = run_to_end(config(folder.path(), "", weight), &sink).await;
    assert!(sink.records.lock().concat().is_empty());
    assert_eq!(status.skipped, 1);
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

const WEIGHT: &str = "[connectors.herd.columns.Weight]\npoint = \"{Pig}\"\n";

#[tokio::test(start_paused = true)]
async fn a_file_that_grew_goes_on_where_it_was() {
    let folder = folder("Pig,at,Weight\n1,100,1\n1,200,2\n1,300,3");
    let path = folder.path().join("herd.csv");
    let sink = Arc::new(Fake::default());
    run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
    assert_eq!(sink.records.lock().concat(), ["1 1 100", "1 2 200", "1 3 300"]);
    append(&path, "\nsoon,what,4\n1,500,5\n");
    let status = run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
    assert_eq!(sink.records.lock().concat()[3..], ["1 5 500"]);
    assert!(status.last_error.unwrap().starts_with("line 5: \"what\" is not a time"));
    let status = run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
    assert_eq!((status.state.name(), status.readings), ("done", 0));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_went_on_after_it_was_taken_is_read_again_from_its_begin() {
    let folder = folder("Pig,at,Weight\n1,500,5\n1,600,6");
    let path = folder.path().join("herd.csv");
    let sink = Arc::new(Fake::default());
    run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
    append(&path, "7\n1,700,7\n");
    let status = run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
    assert_eq!(sink.records.lock().concat(), ["1 5 500", "1 6 600", "1 67 600", "1 7 700"]);
    assert_eq!(status.skipped, 0);
    let error = status.last_error.unwrap();
    assert_eq!(error, "line 3 was taken before it was whole: it went on since, and is read again");
}

#[tokio::test(start_paused = true)]
async fn a_last_line_without_a_line_feed_waits_while_the_file_is_written() {
    let folder = folder("Pig,at,Weight\n1,100,1\n1,200,2");
    let path = folder.path().join("herd.csv");
    let sink = Arc::new(Fake::default());
    let (_keep, shutdown) = watch::channel(false);
    let config = config(folder.path(), "", WEIGHT);
    let running = start_herd(config, &sink, shutdown);
    let second = std::time::Duration::from_secs(1);
    while sink.records.lock().is_empty() {
        tokio::time::sleep(second / 100).await;
    }
    tokio::time::sleep(3 * second).await;
    append(&path, "6");
    tokio::time::sleep(9 * second).await;
    assert_eq!(sink.records.lock().concat(), ["1 1 100"]);
    append(&path, ".5\n1,300,3\n");
    running.task.await.unwrap();
    assert_eq!(sink.records.lock().concat(), ["1 1 100", "1 26.5 200", "1 3 300"]);
    assert_eq!(running.status.show().last_error, None);
}

#[tokio::test]
async fn lines_with_carriage_returns_are_whole() {
    let folder = folder("Pig,at,Weight\r\n1,100,1\r\n1,200,2\r\n");
    let sink = Arc::new(Fake::default());
    let begun = std::time::Instant::now();
    run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
    assert_eq!(sink.records.lock().concat(), ["1 1 100", "1 2 200"]);
    assert!(begun.elapsed().as_secs() < 9, "nothing was waited for");
}

#[tokio::test(start_paused = true)]
async fn a_file_with_only_its_header_is_waited_for() {
    for begin in ["", "Pig,at,Wei", "Pig,at,Weight\n"] {
        let folder = folder(begin);
        let path = folder.path().join("herd.csv");
        let sink = Arc::new(Fake::default());
        let (_keep, shutdown) = watch::channel(false);
        let config = config(folder.path(), "", WEIGHT);
        let running = start_herd(config, &sink, shutdown);
        while running.status.show().state.name() != "waiting" {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        append(&path, &"Pig,at,Weight\n1,100,1\n"[begin.len()..]);
        running.task.await.unwrap();
        assert_eq!(sink.records.lock().concat(), ["1 1 100"], "{begin:?}");
    }
}

#[tokio::test]
async fn units_of_points_that_are_known_are_held_against_the_columns() {
    let folder = folder("Pig,at,Weight\n1,100,1\n2,100,2\n3,100,3\n1,200,4\n2,200,5\n");
    let weight = format!("{WEIGHT}unit = \"kg\"\n");
    let points = ["1", "2", "3"].map(str::to_owned).into_iter().zip((0..).map(PointNumber)).collect();
    let units = BTreeMap::from([(PointNumber(0), "g".into()), (PointNumber(1), "kg".into())]);
    let sink = Arc::new(Fake { points: Mutex::new(points), units: Mutex::new(units), ..Fake::default() });
    let status = run_to_end(config(folder.path(), "", &weight), &sink).await;
    assert_eq!(sink.records.lock().concat(), ["2 2 100", "3 3 100", "2 5 200"]);
    assert_eq!(status.skipped, 2);
    let error = status.last_error.unwrap();
    assert_eq!(error, "line 5, column Weight: the point 1 has the unit g, not kg; skipped");
    // A point without a unit gets the column's.
    assert_eq!(sink.units.lock().get(&PointNumber(2)).map(|unit| &**unit), Some("kg"));
}

#[tokio::test]
async fn records_are_bounded_in_bytes_and_a_line_as_well() {
    let cells = 200;
    let names: Vec<String> = (0..cells).map(|n| format!("c{n}")).collect();
    let columns: String = names
        .iter()
        .map(|name| {
            format!("[connectors.herd.columns.{name}]\npoint = \"{{Pig}}/{name}\"\ntype = \"text\"\n")
        })
        .collect();
    let row = |pig: u32| format!("{pig},100{}\n", format!(",{}", "x".repeat(500)).repeat(cells));
    let text = format!("Pig,at,{}\n{}", names.join(","), (0..40).map(row).collect::<String>());
    let folder = folder(&text);
    let sink = Arc::new(Fake::default());
    let status = run_to_end(config(folder.path(), "", &columns), &sink).await;
    assert_eq!((status.state.name(), status.readings), ("done", 40 * 200));
    // 40 lines of 200 texts of 500 bytes are 4 MB.
    let most = sink.records.lock().iter().map(Vec::len).max().unwrap();
    assert!(most * 500 <= (1 << 20) + cells * 500, "{most} readings in one record");

    std::fs::write(folder.path().join("herd.csv"), format!("Pig,at,c0\n1,100,{}", "x".repeat(2 << 20)))
        .unwrap();
    let one = "[connectors.herd.columns.c0]\npoint = \"{Pig}/c0\"\ntype = \"text\"\n";
    let status = run_to_end(config(folder.path(), "", one), &Arc::new(Fake::default())).await;
    assert_eq!(status.state.name(), "stopped");
    let error = status.last_error.unwrap();
    assert!(
        error.ends_with("herd.csv, line 2: a line is longer than 1048576 bytes; is a quote not closed?"),
        "{error}"
    );
}

#[tokio::test]
async fn it_stops_when_told() {
    let folder = folder("Pig,at,Weight\n1,1970-01-02,1\n1,1980-01-01,2\n");
    let weight = "[connectors.herd.columns.Weight]\npoint = \"{Pig}\"\n";
    let sink = Arc::new(Fake::default());
    let (stop, shutdown) = watch::channel(false);
    let config = config(folder.path(), "speed = 1.0", weight);
    let running = start_herd(config, &sink, shutdown);
    stop.send(true).unwrap();
    running.task.await.unwrap();
    assert_eq!(running.status.show().state.name(), "stopped");
}

#[tokio::test]
async fn a_cell_with_a_slash_makes_no_further_segment() {
    let folder = folder("Pig,at,Weight\nb,100,1\nb/c,200,2\n,300,3\nd,400,4\n");
    let weight = "[connectors.herd.columns.Weight]\npoint = \"m/{Pig}/v\"\n";
    let sink = Arc::new(Fake::default());
    let status = run_to_end(config(folder.path(), "", weight), &sink).await;
    assert_eq!(sink.records.lock().concat(), ["m/b/v 1 100", "m/d/v 4 400"]);
    assert_eq!(status.skipped, 2);
    let error = status.last_error.unwrap();
    assert_eq!(error, "line 4, column Weight: Pig is empty and makes no point path; skipped");
    // A whole path may come from a cell.
    let sink = Arc::new(Fake::default());
    run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
    assert_eq!(sink.records.lock().concat(), ["b 1 100", "b/c 2 200", "d 4 400"]);
}

#[tokio::test]
async fn bad_lines_are_named_by_their_number_and_still_counted_after_a_restart() {
    for end in ["\n", "\r\n"] {
        let text = "Pig,at,Weight\n1,x,1\n\n1,100,3\n\n\n1,y,2\n".replace('\n', end);
        let folder = folder(&text);
        let sink = Arc::new(Fake::default());
        let status = run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
        assert_eq!((status.skipped, status.readings), (2, 1));
        assert!(status.last_error.unwrap().starts_with("line 7: \"y\" is not a time"));
        let status = run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
        assert_eq!((status.skipped, status.readings), (2, 0));
        // Of another file, only its own.
        std::fs::write(folder.path().join("herd.csv"), "Pig,at,Weight\n1,z,1\n1,100,3\n").unwrap();
        let status = run_to_end(config(folder.path(), "", WEIGHT), &sink).await;
        assert_eq!((status.skipped, status.readings), (1, 1));
    }
}

/// A line a nanosecond, of one pig.
fn lines(from: u64, to: u64) -> String {
    (from..to).map(|n| format!("1,{n},{n}\n")).collect()
}

#[tokio::test(start_paused = true)]
async fn as_fast_as_possible_many_records_are_on_their_way_in_their_order() {
    let folder = folder(&format!("Pig,at,Weight\n{}", lines(0, 1_000)));
    let expected: Vec<String> = (0..1_000).map(|n| format!("1 {n} {n}")).collect();
    let takes = Duration::from_millis(10);
    for (keys, most) in [("", 64), ("speed = 1.0", 1)] {
        let sink = Arc::new(Fake { takes, ..Fake::default() });
        let status = run_to_end(config(folder.path(), keys, WEIGHT), &sink).await;
        assert_eq!((status.state.name(), status.readings), ("done", 1_000));
        assert_eq!(sink.records.lock().concat(), expected);
        let way = sink.way.lock();
        assert_eq!((way.now, way.most), (0, most));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_a_record_that_is_not_taken_or_brings_new_points() {
    let folder = folder("Pig,at,Weight\n1,100,1\n1,200,2\n1,300,3\n2,400,4\n1,500,5\n");
    let later = Mutex::new(Some((2, 3)));
    let sink = Arc::new(Fake { later, takes: Duration::from_secs(60), ..Fake::default() });
    let (_keep, shutdown) = watch::channel(false);
    let herd = config(folder.path(), "", WEIGHT);
    let running = start_herd(herd, &sink, shutdown);
    let second = Duration::from_secs(1);
    let mut now = 0;
    // The first and the fourth have a new point; the third is taken after 1.5 s.
    for (after, handed_over) in [(59, 1), (61, 2), (64, 4), (119, 4), (130, 5)] {
        tokio::time::sleep((after - now) * second).await;
        assert_eq!(sink.records.lock().len(), handed_over, "after {after} s");
        now = after;
    }
    running.task.await.unwrap();
    assert_eq!(sink.records.lock().concat(), ["1 1 100", "1 2 200", "1 3 300", "2 4 400", "1 5 500"]);
}
