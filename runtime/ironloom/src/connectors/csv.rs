//! Replays a CSV file: paced by its own times, lap after lap, and after a restart from the place where it was.
//!
//! The file is read on threads that may block; between two records nothing of it is on a tokio worker.

mod cells;
mod config;
mod error;
mod file;
mod tail;
#[cfg(test)]
mod tests;
mod tracked;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

pub(crate) use self::config::CsvConfig;
use self::error::FileError;
use self::file::Lap;
use self::tail::Tail;
use self::tracked::Progress;
use super::{RETRY, Run};
use crate::aside::aside;
use ironloom_types::clock::Timestamp;

/// The interval of ticks between two records: fine enough for daily timers at a week a second.
const TICK: Duration = Duration::from_millis(20);

/// Runs until there is nothing more to read, or shutdown is requested.
pub(super) async fn run(config: CsvConfig, mut run: Run) {
    let config = Arc::new(config);
    loop {
        match replay(&config, &mut run).await {
            Ok(true) => return run.status.end("done"),
            Ok(false) => {
                // `stopped` with an error of its own stays.
                if run.stopping() {
                    run.status.end("stopped");
                }
                return;
            }
            Err(FileError::Wrong(error)) => return run.status.failed("stopped", error),
            Err(FileError::Io(error)) => run.status.failed("waiting", error),
        }
        if !run.sleep(RETRY).await {
            return run.status.end("stopped");
        }
    }
}

/// Reads the file where that may block.
async fn read_aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    aside(read).await.unwrap_or_else(|error| Err(FileError::Wrong(error.to_string())))
}

/// Whether it reached its end.
async fn replay(config: &Arc<CsvConfig>, run: &mut Run) -> Result<bool, FileError> {
    let (mut progress, mut hash) = begin(config, run).await?;
    let mut pace = Pace::new(config.speed);
    let mut settled = None;
    while config.laps.is_none_or(|laps| progress.lap <= laps) {
        let (opened, status) = (Arc::clone(config), Arc::clone(&run.status));
        let mut lap = read_aside(move || Lap::open(&opened, progress, hash, settled, &status)).await?;
        run.status.set("running");
        if progress.offset == 0 && lap.next_at().is_none() && lap.unfinished().is_none() {
            return Err(lap.failure().unwrap_or_else(|| lap.empty()));
        }
        while let Some(at) = lap.next_at() {
            if !pace.wait(at, run).await {
                return Ok(false);
            }
            let (sink, status) = (Arc::clone(&run.sink), Arc::clone(&run.status));
            let read = move || {
                let record = lap.record(&*sink, &status);
                Ok((lap, record))
            };
            let (read_on, record) = read_aside(read).await?;
            lap = read_on;
            if let Some(record) = record
                && !run.submit(&record).await
            {
                return Ok(false);
            }
        }
        if let Some(failure) = lap.failure() {
            return Err(failure);
        }
        if let Some(read) = lap.unfinished() {
            settled = match tail::wait(config, read, run).await? {
                Tail::Stopping => return Ok(false),
                Tail::Settled => Some(read.length),
                Tail::Grew => None,
            };
            (progress, hash) = lap.place();
            continue;
        }
        settled = None;
        (progress, hash) = (Progress::begin(progress.lap + 1), Sha256::new());
    }
    Ok(true)
}

/// Opens the file at the receipt's place, or at the beginning if it is a different file.
async fn begin(config: &Arc<CsvConfig>, run: &Run) -> Result<(Progress, Sha256), FileError> {
    let start = (Progress::begin(1), Sha256::new());
    let Some(progress) = run.sink.receipt(&run.status.name).as_deref().and_then(Progress::from_receipt)
    else {
        return Ok(start);
    };
    let (config, shutdown) = (Arc::clone(config), run.shutdown.clone());
    let verified = read_aside(move || {
        let verified = progress.verify(&config.path, || *shutdown.borrow());
        verified.map_err(|error| FileError::Io(format!("{}: {error}", config.path.display())))
    });
    let connector = &run.status.name;
    match verified.await? {
        Some((verified, hash)) => {
            let line = verified.line;
            if verified.offset < progress.offset {
                run.status.noticed(format!(
                    "line {line} was taken before it was whole: it went on since, and is read again"
                ));
            }
            tracing::info!(connector, lap = verified.lap, line, "goes on");
            Ok((verified, hash))
        }
        None => {
            tracing::info!(connector, "the file is not the same as before: starting from its beginning");
            Ok(start)
        }
    }
}

/// Holds records back until their time has come.
struct Pace {
    speed: f64,
    /// The due time of the first record, by the wall clock and by its own times.
    start: Option<(Instant, Timestamp)>,
}

impl Pace {
    fn new(speed: f64) -> Self {
        Self { speed, start: None }
    }

    /// Waits until `at`, with ticks; `false` where the connector shall stop.
    async fn wait(&mut self, at: Timestamp, run: &mut Run) -> bool {
        if self.speed == 0.0 {
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
