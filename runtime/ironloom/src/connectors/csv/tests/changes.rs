//! Files that are no files, that change while they are read, and cells that are half written.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

/// A connector that was started, with what it brought.
struct Started {
    running: Running,
    sink: Arc<Fake>,
    stop: watch::Sender<bool>,
}

fn start_it(config: ConnectorConfig) -> Started {
    let sink = Arc::new(Fake::default());
    let (stop, shutdown) = watch::channel(false);
    let running = start_herd(config, &sink, shutdown);
    Started { running, sink, stop }
}

impl Started {
    async fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn wait_for_records(&self, count: usize) {
        self.wait_until(|started| started.sink.records.lock().len() >= count).await;
    }

    async fn wait_for_error(&self, error: &str) {
        self.wait_until(|started| {
            started.running.status.show().last_error.is_some_and(|is| is.contains(error))
        })
        .await;
    }

    /// Waits for its end; returns its rows.
    async fn ended(&mut self) -> Vec<String> {
        (&mut self.running.task).await.unwrap();
        assert_eq!(self.running.status.show().state.name(), "done");
        self.sink.records.lock().concat()
    }
}

/// A line a second, of one pig.
fn seconds(values: std::ops::Range<u64>) -> String {
    values.enumerate().map(|(second, value)| format!("1,{second}000000000,{value}\n")).collect()
}

fn rows(values: std::ops::Range<u64>) -> Vec<String> {
    values.enumerate().map(|(second, value)| format!("1 {value} {}", second * 1_000_000_000)).collect()
}

const HEADER: &str = "Pig,at,Weight\n";

#[tokio::test(start_paused = true)]
async fn a_fifo_is_refused_and_keeps_nobody_from_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("herd.csv");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let mut started = start_it(config(folder.path(), "", WEIGHT));
    started
        .wait_for_error("herd.csv: is a FIFO, a device or a socket; only a regular file can be replayed")
        .await;
    assert_eq!(started.running.status.show().state.name(), "waiting");
    started.stop.send(true).unwrap();
    (&mut started.running.task).await.unwrap();
    assert_eq!(started.running.status.show().state.name(), "stopped");
}

#[tokio::test(start_paused = true)]
async fn a_device_is_refused_too_and_a_link_to_a_file_is_not() {
    let folder = folder("Pig,at,Weight\n1,100,1\n");
    let path = folder.path().join("herd.csv");
    std::fs::rename(&path, folder.path().join("file")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let mut started = start_it(config(folder.path(), "", WEIGHT));
    started.wait_for_error("is a FIFO, a device").await;
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("file", &path).unwrap();
    assert_eq!(started.ended().await, ["1 1 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_written_anew_while_it_is_read_is_read_from_its_beginning() {
    // Longer than what was read, shorter, and no more than its header and a line.
    for count in [400, 10, 1] {
        let folder = folder(&format!("{HEADER}{}", seconds(0..100)));
        let mut started = start_it(config(folder.path(), "speed = 1.0", WEIGHT));
        started.wait_for_records(30).await;
        std::fs::write(folder.path().join("herd.csv"), format!("{HEADER}{}", seconds(5_000..5_000 + count)))
            .unwrap();
        let all = started.ended().await;
        let old = all.len() - usize::try_from(count).unwrap();
        assert!((30..40).contains(&old), "{old} of the old file");
        assert_eq!(all[..old], rows(0..100)[..old]);
        assert_eq!(all[old..], rows(5_000..5_000 + count));
        let error = started.running.status.show().last_error.unwrap();
        assert!(error.contains("is not the file that was read before"), "{error}");
        assert_eq!(started.running.status.show().skipped, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_far_before_the_place_is_noticed_at_the_end() {
    let folder = folder(&format!("{HEADER}{}", seconds(0..1_000)));
    let path = folder.path().join("herd.csv");
    let mut started = start_it(config(folder.path(), "speed = 100.0", WEIGHT));
    started.wait_for_records(900).await;
    // An early line is another one: far from what is read now.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"7", (HEADER.len() + "1,0000000000,".len()) as u64)
        .unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(10)).unwrap();
    let all = started.ended().await;
    assert_eq!(all.len(), 2_000);
    assert_eq!(all[..1_000], rows(0..1_000));
    assert_eq!((all[1_000].as_str(), &all[1_001..]), ("1 7 0", &rows(0..1_000)[1..]));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_grows_while_it_is_read_is_read_once() {
    let folder = folder(&format!("{HEADER}{}", seconds(0..100)));
    let path = folder.path().join("herd.csv");
    let mut started = start_it(config(folder.path(), "speed = 1.0", WEIGHT));
    for count in [30, 60, 90] {
        started.wait_for_records(count).await;
        append(&path, &format!("1,{}000000000,{}\n", count / 30 + 99, count / 30 + 99));
    }
    assert_eq!(started.ended().await, rows(0..103));
    assert_eq!(started.running.status.show().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_longer_file_that_takes_the_name_while_the_old_one_is_read_is_gone_on_with() {
    let folder = folder(&format!("{HEADER}{}", seconds(0..100)));
    let mut started = start_it(config(folder.path(), "speed = 10.0", WEIGHT));
    started.wait_for_records(50).await;
    std::fs::write(folder.path().join("new"), format!("{HEADER}{}", seconds(0..120))).unwrap();
    std::fs::rename(folder.path().join("new"), folder.path().join("herd.csv")).unwrap();
    assert_eq!(started.ended().await, rows(0..120));
}

const NOTE: &str = "[connectors.herd.columns.Note]\npoint = \"{Pig}\"\ntype = \"text\"\n";

#[tokio::test(start_paused = true)]
async fn half_of_a_quoted_cell_is_never_taken() {
    let folder = folder("Pig,at,Note\n1,100,one\n1,200,\"first line of a note\n");
    let path = folder.path().join("herd.csv");
    let mut started = start_it(config(folder.path(), "", NOTE));
    started.wait_for_records(1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(started.sink.records.lock().len(), 1);
    append(&path, "and its \"\"second\"\"\n");
    tokio::time::sleep(Duration::from_secs(3)).await;
    append(&path, "\"\n1,300,two\n");
    let whole = "1 Text(\"first line of a note\\nand its \\\"second\\\"\\n\") 200";
    assert_eq!(started.ended().await, ["1 Text(\"one\") 100", whole, "1 Text(\"two\") 300"]);
    assert_eq!(started.running.status.show().skipped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_quoted_cell_without_an_end_is_skipped_once_the_file_rests() {
    let folder = folder("Pig,at,Note\n1,100,one\n1,200,\"a note\n1,300,two\n");
    let path = folder.path().join("herd.csv");
    let mut started = start_it(config(folder.path(), "", NOTE));
    assert_eq!(started.ended().await, ["1 Text(\"one\") 100"]);
    let status = started.running.status.show();
    let error = status.last_error.unwrap();
    assert_eq!(error, "line 3: has a quoted cell that doesn't end before the file does; skipped");
    assert_eq!(status.skipped, 1);
    // Its end comes after all, before a restart.
    append(&path, "\"\n");
    let status = run_to_end(config(folder.path(), "", NOTE), &started.sink).await;
    assert_eq!(started.sink.records.lock().concat()[1..], ["1 Text(\"a note\\n1,300,two\\n\") 200"]);
    assert_eq!((status.skipped, status.state.name()), (0, "done"));
}
