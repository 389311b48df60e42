//! Replays a CSV file: paced by its own times, lap after lap, and after a restart from where it was.

use std::time::Duration;

use tokio::time::Instant;

use super::Run;
use super::csv_config::CsvConfig;
use super::csv_file::{self, Lap, Progress};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Digest;

/// How often time goes on between two records: fine enough for daily timers at a week a second.
const TICK: Duration = Duration::from_millis(20);

/// Runs until there is nothing more to read, or it shall stop.
pub(super) async fn run(config: CsvConfig, mut run: Run) {
    match replay(&config, &mut run).await {
        Ok(true) => run.status.set("done"),
        Ok(false) => {
            // `stopped` with an error of its own stays.
            if run.stopping() {
                run.status.set("stopped");
            }
        }
        Err(error) => run.status.failed("stopped", error),
    }
}

/// Whether it came to its end.
async fn replay(config: &CsvConfig, run: &mut Run) -> Result<bool, String> {
    let path = config.path.clone();
    let digest = tokio::task::spawn_blocking(move || csv_file::digest(&path)).await;
    let file = digest
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("{}: {error}", config.path.display()))?;
    let mut progress = begin(run, file);
    let mut pace = Pace::new(config.speed);
    while config.laps.is_none_or(|laps| progress.lap <= laps) {
        let status = run.status.clone();
        let mut lap = Lap::open(config, progress.lap, progress.line, &status)?;
        if progress.line == 0 && lap.next_at().is_none() {
            return Err(format!("{} has no line with a time", config.path.display()));
        }
        while let Some(at) = lap.next_at() {
            if !pace.wait(at, run).await {
                return Ok(false);
            }
            let sink = run.sink.clone();
            if let Some(record) = lap.record(file, &*sink, &status)
                && !run.submit(&record).await
            {
                return Ok(false);
            }
        }
        progress = Progress { lap: progress.lap + 1, line: 0, file };
    }
    Ok(true)
}

/// Where the receipt says, or at the beginning for another file.
fn begin(run: &Run, file: Digest) -> Progress {
    let start = Progress { file, lap: 1, line: 0 };
    match run.sink.receipt(&run.status.name).as_deref().and_then(Progress::from_receipt) {
        Some(progress) if progress.file == file => {
            tracing::info!(connector = run.status.name, lap = progress.lap, line = progress.line, "goes on");
            progress
        }
        Some(_) => {
            tracing::info!(
                connector = run.status.name,
                "the file is another one than before: from its beginning"
            );
            start
        }
        None => start,
    }
}

/// Holds records back until their time has come.
struct Pace {
    speed: f64,
    /// When the first record was due, by the wall's clock and by its own.
    start: Option<(Instant, Timestamp)>,
}

impl Pace {
    fn new(speed: f64) -> Self {
        Self { speed, start: None }
    }

    /// Waits until `at`, with ticks; `false` where the connector shall stop.
    async fn wait(&mut self, at: Timestamp, run: &mut Run) -> bool {
        if self.speed == 0.0 {
            // Without a pause others would starve on a machine with one core.
            tokio::task::yield_now().await;
            return !run.stopping();
        }
        let (start, first) = *self.start.get_or_insert_with(|| (Instant::now(), at));
        loop {
            let passed = start.elapsed().as_secs_f64() * self.speed;
            let due = at.0.saturating_sub(first.0) as f64 / 1e9;
            if passed >= due {
                return !run.stopping();
            }
            run.sink.tick(first.plus((passed * 1e9) as u64));
            let left = Duration::try_from_secs_f64((due - passed) / self.speed).unwrap_or(TICK);
            if !run.sleep(left.clamp(Duration::from_millis(1), TICK)).await {
                return false;
            }
        }
    }
}
