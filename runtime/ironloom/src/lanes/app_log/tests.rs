//! Logs of apps: what is kept, dropped and counted.

use super::*;
use ironloom_sandbox::Level;

/// A page of what was written by now.
fn page(log: &InstallationLog, after: Option<u64>, limit: usize) -> io::Result<(Vec<KeptLine>, bool)> {
    log.0.logs.queue.settle();
    log.page(after, limit)
}

struct Folder {
    _folder: tempfile::TempDir,
    logs: Arc<AppLogs>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logs = Arc::new(AppLogs::new(folder.path().join("app-logs")));
        Self { _folder: folder, logs }
    }

    fn log(&self) -> InstallationLog {
        InstallationLog::new(&self.logs, "pigs-1")
    }

    fn files(&self) -> Vec<u64> {
        self.logs.queue.settle();
        let Ok(files) = std::fs::read_dir(&self.logs.folder) else { return Vec::new() };
        files.map(|file| file.unwrap().metadata().unwrap().len()).collect()
    }
}

fn lines(count: usize) -> Vec<LogLine> {
    let line = |n| LogLine {
        level: Level::Info,
        source: LogSource::Log,
        context: String::new(),
        message: format!("{n}"),
    };
    (0..count).map(line).collect()
}

#[test]
fn a_flood_is_dropped_counted_and_told() {
    let folder = Folder::new();
    let log = folder.log();
    let start = Timestamp(1_000 * SECOND);
    log.write(lines(100), 7, Ordinal(1), 1, start);
    log.write(lines(100), 0, Ordinal(2), 1, start);
    let (kept, more) = page(&log, Some(0), 1000).unwrap();
    assert!(!more);
    assert_eq!(kept.len(), 101, "100 of the app's, and one that tells of the 7");
    assert_eq!(kept[0].message, "7 lines were dropped: an app may not write more");
    log.write(lines(1), 0, Ordinal(3), 1, start.plus(SECOND));
    let (kept, _) = page(&log, Some(101), 1000).unwrap();
    assert_eq!(kept[0].message, "100 lines were dropped: an app may not write more");
    assert_eq!(kept[1].message, "0");
}

#[test]
fn a_log_goes_on_after_a_restart_and_stays_within_two_files() {
    let folder = Folder::new();
    let log = folder.log();
    assert_eq!(folder.files().len(), 0, "no file before the first line");
    log.write(lines(3), 0, Ordinal(1), 1, Timestamp(SECOND));
    // The process ends; a crash cut the last line off.
    let path = log.0.path.clone();
    folder.logs.queue.settle();
    let folder = Folder { logs: Arc::new(AppLogs::new(folder.logs.folder.clone())), ..folder };
    let cut = std::fs::read(&path).unwrap();
    std::fs::write(&path, &cut[..cut.len() - 4]).unwrap();
    let log = folder.log();
    log.write(lines(1), 0, Ordinal(2), 1, Timestamp(2 * SECOND));
    let (kept, _) = page(&log, Some(0), 10).unwrap();
    let told: Vec<_> = kept.iter().map(|line| (line.number, line.message.as_str(), line.ordinal)).collect();
    assert_eq!(told, [(1, "0", Ordinal(1)), (2, "1", Ordinal(1)), (3, "0", Ordinal(2))]);

    let long = |n: u64| {
        let mut line = lines(1);
        line[0].message = format!("{n} ").repeat(2_000);
        log.write(line, 0, Ordinal(n), 1, Timestamp(n * 10 * SECOND));
        folder.logs.queue.settle();
    };
    (3..1_000).for_each(long);
    let sizes = folder.files();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|size| *size <= 1 << 20), "{sizes:?}");
    let last = page(&folder.log(), None, 1).unwrap().0;
    assert_eq!(last[0].ordinal, Ordinal(999));
    log.remove();
    log.write(lines(1), 0, Ordinal(1_000), 1, Timestamp(20_000 * SECOND));
    assert_eq!(folder.files().len(), 0, "nothing comes back");
}

#[test]
fn pages_go_on_after_a_number() {
    let folder = Folder::new();
    let log = folder.log();
    assert_eq!(page(&log, None, 2).unwrap(), (Vec::new(), false));
    log.write(lines(5), 0, Ordinal(1), 1, Timestamp(SECOND));
    let numbers = |page: io::Result<(Vec<KeptLine>, bool)>| {
        let (lines, more) = page.unwrap();
        (lines.iter().map(|line| line.number).collect::<Vec<_>>(), more)
    };
    assert_eq!(numbers(page(&log, Some(1), 2)), (vec![2, 3], true));
    assert_eq!(numbers(page(&log, None, 2)), (vec![4, 5], false));
}

#[test]
fn many_logs_share_a_few_open_files() {
    let folder = Folder::new();
    let logs: Vec<_> =
        (0..OPEN * 3).map(|n| InstallationLog::new(&folder.logs, &format!("app-{n}"))).collect();
    for round in 1..=3 {
        for log in &logs {
            log.write(lines(1), 0, Ordinal(round), 1, Timestamp(round * SECOND));
        }
        folder.logs.queue.settle();
        assert_eq!(folder.logs.open.lock().len(), OPEN);
    }
    for log in &logs {
        let (kept, _) = page(log, Some(0), 10).unwrap();
        assert_eq!(kept.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3]);
    }
}

#[test]
fn whoever_writes_never_waits_for_the_files_and_what_finds_no_room_is_counted() {
    let folder = Folder::new();
    let log = folder.log();
    // The thread is held up, as by a slow disk.
    let (go, held) = std::sync::mpsc::channel::<()>();
    folder.logs.queue.add(move || held.recv().unwrap());
    let mut line = lines(1);
    line[0].message = "x".repeat(1_000);
    for n in 0..100 {
        log.write(line.clone(), 0, Ordinal(n), 1, Timestamp(SECOND));
    }
    // 64 KiB hold 49 lines of 1,000 bytes, with 64 + 256 more for each.
    assert_eq!(log.0.lost.load(Ordering::SeqCst), 51);
    go.send(()).unwrap();
    let (kept, _) = page(&log, Some(0), 1_000).unwrap();
    assert_eq!(kept.len(), 49 + 1);
    assert_eq!(kept[0].message, "51 lines were dropped: an app may not write more");
}
