//! Replays a CSV file: paced by its own times, lap after lap, and after a restart from the place where it was.
//!
//! The file is read on threads that may block; between two records nothing of it is on a tokio worker.

mod config;
mod error;
mod file;
mod progress;
mod regular;
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
use self::progress::Progress;
use self::tail::Tail;
use super::{Part, RETRY, Run, State};
use crate::aside::aside;
use ironloom_types::clock::Timestamp;

/// The interval of ticks between two records: fine enough for daily timers at a week a second.
const TICK: Duration = Duration::from_millis(20);
/// Records of a file that is read as fast as possible may be on their way to the disk up to this number; each sync
/// of the log takes many.
const MANY: usize = 64;

/// Runs until there is nothing more to read, or shutdown is requested.
pub(super) async fn run(config: CsvConfig, mut run: Run) {
    let config = Arc::new(config);
    loop {
        let replayed = replay(&config, &mut run).await;
        // Before the receipt is looked at again, and before anybody is told that it is done.
        if !run.settle().await || matches!(replayed, Ok(false)) {
            // `stopped` with an error of its own stays.
            if run.stopping() {
                run.status.end(State::Stopped);
            }
            return;
        }
        match replayed {
            Ok(_) => return run.status.end(State::Done),
            Err(FileError::Wrong(error)) => return run.status.failed(Part::Readings, State::Stopped, &error),
            Err(FileError::Io(error)) => run.status.failed(Part::Readings, State::Waiting, &error),
        }
        if !run.sleep(RETRY).await {
            return run.status.end(State::Stopped);
        }
    }
}

/// Says what keeps the file from being read now.
pub(super) fn check(config: &CsvConfig) -> Result<(), String> {
    match file::open_header(config) {
        Ok(_) => Ok(()),
        Err(FileError::Io(problem) | FileError::Wrong(problem)) => Err(problem),
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
    let (mut progress, mut hash, mut notice) = begin(config, run).await?;
    let mut pace = Pace::new(config.speed);
    while config.laps.is_none_or(|laps| progress.lap <= laps) {
        let (opened, status) = (Arc::clone(config), Arc::clone(&run.status));
        let mut lap = read_aside(move || Lap::open(&opened, progress, hash, &status)).await?;
        run.status.set(Part::Readings, State::Running);
        if progress.offset == 0 && lap.next_at().is_none() && lap.unfinished().is_none() {
            return Err(lap.failure().unwrap_or_else(|| lap.empty()));
        }
        // Not before: a file that is just being written again may be empty for a while, and is tried often.
        if let Some(notice) = notice.take() {
            run.status.noticed(Part::Readings, &notice);
        }
        let Some(mut lap) = read_lap(config, lap, &mut pace, run).await? else { return Ok(false) };
        let shutdown = run.shutdown.clone();
        read_aside(move || lap.check_end(|| *shutdown.borrow())).await?;
        (progress, hash) = (Progress::begin(progress.lap + 1), Sha256::new());
    }
    Ok(true)
}

/// Hands over all lines of a lap; `None` where the connector shall stop.
async fn read_lap(
    config: &Arc<CsvConfig>,
    mut lap: Lap,
    pace: &mut Pace,
    run: &mut Run,
) -> Result<Option<Lap>, FileError> {
    let most = pace.records_at_once();
    loop {
        while let Some(at) = lap.next_at() {
            if !pace.wait(at, run).await {
                return Ok(None);
            }
            let (sink, status) = (Arc::clone(&run.sink), Arc::clone(&run.status));
            let read = move || {
                let records = lap.records(most, &*sink, &status);
                Ok((lap, records))
            };
            let (read_on, records) = read_aside(read).await?;
            lap = read_on;
            for record in records {
                if !run.submit(&record, most).await {
                    return Ok(None);
                }
            }
        }
        if let Some(failure) = lap.failure() {
            return Err(failure);
        }
        let Some(read) = lap.unfinished() else { return Ok(Some(lap)) };
        if !run.settle().await {
            return Ok(None);
        }
        let settled = match tail::wait(config, read, run).await? {
            Tail::Stopping => return Ok(None),
            Tail::Settled => Some(read.length),
            Tail::Grew => None,
        };
        let status = Arc::clone(&run.status);
        lap = read_aside(move || lap.go_on(settled, &status).map(|()| lap)).await?;
    }
}

/// Returns the receipt's place, or the beginning if it is a different file, with the hash over all before and what
/// people should know of that.
async fn begin(
    config: &Arc<CsvConfig>,
    run: &mut Run,
) -> Result<(Progress, Sha256, Option<String>), FileError> {
    let start = |notice| (Progress::begin(1), Sha256::new(), notice);
    let Some(progress) = run.sink.receipt(&run.status.name).as_deref().and_then(Progress::from_receipt)
    else {
        run.status.set_skipped(0);
        return Ok(start(None));
    };
    let (path, shutdown) = (&config.path, run.shutdown.clone());
    let config = Arc::clone(config);
    let verified = read_aside(move || {
        let verified = progress.verify(&config.path, || *shutdown.borrow());
        verified.map_err(|error| FileError::Io(format!("{}: {error}", config.path.display())))
    });
    let connector = &run.status.name;
    let Some((verified, hash)) = verified.await? else {
        run.status.set_skipped(0);
        let path = path.display();
        return Ok(start(Some(format!(
            "{path} is not the file that was read before: it is read from its beginning"
        ))));
    };
    run.status.set_skipped(verified.skipped);
    let line = verified.line;
    let notice = (verified.offset < progress.offset)
        .then(|| format!("line {line} was taken before it was whole: it went on since, and is read again"));
    tracing::info!(connector, lap = verified.lap, line, "goes on");
    Ok((verified, hash, notice))
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

    /// The number of records that may be on their way at once. A paced one is durable before the next is due.
    fn records_at_once(&self) -> usize {
        if self.speed == 0.0 { MANY } else { 1 }
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
