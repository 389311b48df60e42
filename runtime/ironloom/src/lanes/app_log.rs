//! The log of one installation's app: lines for people, outside every transaction.
//!
//! The newest lines are kept in memory, and in files (`log_file.rs`) for the next start. A call may write 100 lines or
//! 16 KiB (the sandbox sees to that); sustained, ten lines a second are kept, and then one line
//! counts what was dropped.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use std::path::Path;

use super::log_file::LogFile;
use ironloom_sandbox::{Level, LogLine, LogSource};
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::Ordinal;
use ironloom_types::limits::{LOG_LINES_PER_SECOND, MAX_LOG_LINES};

/// Lines that are kept in memory.
const KEPT: usize = 2_000;
/// Bytes of lines that are kept in memory.
const KEPT_BYTES: usize = 256 << 10;

/// A line as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptLine {
    /// Counts the lines of the installation, from 1.
    pub number: u64,
    /// The machine's time.
    pub at: Timestamp,
    /// How much it matters.
    pub level: String,
    /// What the app gave as context, `stdout`, `stderr` or `ironloom`.
    pub context: String,
    /// The line.
    pub message: String,
    /// The invocation that wrote it.
    pub ordinal: Ordinal,
    /// The attempt at it.
    pub attempt: u32,
}

#[derive(Debug)]
struct Inner {
    lines: VecDeque<KeptLine>,
    bytes: usize,
    next: u64,
    /// Lines that may be written now: refilled with time, never above the burst.
    tokens: f64,
    refilled: Timestamp,
    dropped: u64,
    /// `None` where there is none, or the disk refused it.
    file: Option<LogFile>,
}

/// The log of one installation.
#[derive(Debug)]
pub struct AppLog(Mutex<Inner>);

impl Default for AppLog {
    fn default() -> Self {
        let tokens = MAX_LOG_LINES as f64;
        Self(Mutex::new(Inner {
            lines: VecDeque::new(),
            bytes: 0,
            next: 1,
            tokens,
            refilled: Timestamp(0),
            dropped: 0,
            file: None,
        }))
    }
}

impl AppLog {
    /// The log that this file holds; a new one where there is none.
    pub fn open(path: &Path) -> Self {
        let log = Self::default();
        match LogFile::open(path) {
            Ok((file, lines)) => {
                let mut inner = log.0.lock();
                inner.file = Some(file);
                for line in lines {
                    inner.next = line.number + 1;
                    inner.keep(line);
                }
            }
            Err(error) => tracing::warn!(file = %path.display(), %error, "an app's log has no file"),
        }
        log
    }

    /// Takes the lines of one call; `dropped` is what the call wrote beyond its limit.
    pub fn write(&self, lines: Vec<LogLine>, dropped: u64, ordinal: Ordinal, attempt: u32, at: Timestamp) {
        if lines.is_empty() && dropped == 0 {
            return;
        }
        let mut inner = self.0.lock();
        let seconds = at.0.saturating_sub(inner.refilled.0) as f64 / SECOND as f64;
        inner.tokens = (inner.tokens + seconds * f64::from(LOG_LINES_PER_SECOND)).min(MAX_LOG_LINES as f64);
        inner.refilled = at;
        inner.dropped += dropped;
        for line in lines {
            if inner.tokens < 1.0 {
                inner.dropped += 1;
                continue;
            }
            if inner.dropped > 0 {
                inner.tell_dropped(ordinal, attempt, at);
            }
            inner.tokens -= 1.0;
            let context = match line.source {
                LogSource::Log => line.context,
                LogSource::Stdout => "stdout".to_owned(),
                LogSource::Stderr => "stderr".to_owned(),
            };
            inner.push(level_name(line.level), context, line.message, ordinal, attempt, at);
        }
        if inner.dropped > 0 && inner.tokens >= 1.0 {
            inner.tell_dropped(ordinal, attempt, at);
        }
    }

    /// Lines with a number above `after`, oldest first; without it the last ones. Also says whether there are more.
    pub fn page(&self, after: Option<u64>, limit: usize) -> (Vec<KeptLine>, bool) {
        let inner = self.0.lock();
        let first = match after {
            Some(after) => inner.lines.partition_point(|line| line.number <= after),
            None => inner.lines.len().saturating_sub(limit),
        };
        let lines: Vec<KeptLine> = inner.lines.iter().skip(first).take(limit).cloned().collect();
        let more = first + lines.len() < inner.lines.len();
        (lines, more)
    }
}

impl Inner {
    fn tell_dropped(&mut self, ordinal: Ordinal, attempt: u32, at: Timestamp) {
        let message =
            format!("{} lines were dropped: more than an app may write", std::mem::take(&mut self.dropped));
        self.push("warn", "ironloom".to_owned(), message, ordinal, attempt, at);
    }

    fn push(
        &mut self,
        level: &str,
        context: String,
        message: String,
        ordinal: Ordinal,
        attempt: u32,
        at: Timestamp,
    ) {
        let level = level.to_owned();
        let line = KeptLine { number: self.next, at, level, context, message, ordinal, attempt };
        self.next += 1;
        if let Some(file) = &mut self.file
            && let Err(error) = file.write(&line)
        {
            tracing::warn!(%error, "an app's log goes on in memory alone");
            self.file = None;
        }
        self.keep(line);
    }

    fn keep(&mut self, line: KeptLine) {
        self.bytes += line.context.len() + line.message.len();
        self.lines.push_back(line);
        while self.lines.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.context.len() + oldest.message.len();
        }
    }
}

/// The name of a level, as `wasi:logging` names it.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
        Level::Critical => "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let log = AppLog::default();
        let start = Timestamp(1_000 * SECOND);
        log.write(lines(100), 7, Ordinal(1), 1, start);
        log.write(lines(100), 0, Ordinal(2), 1, start);
        let (kept, more) = log.page(Some(0), 1000);
        assert!(!more);
        assert_eq!(kept.len(), 101, "100 of the app's, and one that tells of the 7");
        assert_eq!(kept[0].message, "7 lines were dropped: more than an app may write");
        log.write(lines(1), 0, Ordinal(3), 1, start.plus(SECOND));
        let (kept, _) = log.page(Some(101), 1000);
        assert_eq!(kept[0].message, "100 lines were dropped: more than an app may write");
        assert_eq!(kept[1].message, "0");
    }

    #[test]
    fn a_log_goes_on_after_a_restart_and_stays_within_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = super::super::log_file::path(folder.path(), "pigs-1");
        let log = AppLog::open(&path);
        log.write(lines(3), 0, Ordinal(1), 1, Timestamp(SECOND));
        drop(log);
        // A crash cut the last line off.
        let cut = std::fs::read(&path).unwrap();
        std::fs::write(&path, &cut[..cut.len() - 4]).unwrap();
        let log = AppLog::open(&path);
        log.write(lines(1), 0, Ordinal(2), 1, Timestamp(2 * SECOND));
        let (kept, _) = log.page(Some(0), 10);
        let told: Vec<_> =
            kept.iter().map(|line| (line.number, line.message.as_str(), line.ordinal)).collect();
        assert_eq!(told, [(1, "0", Ordinal(1)), (2, "1", Ordinal(1)), (3, "0", Ordinal(2))]);

        let long = |n: u64| {
            let mut line = lines(1);
            line[0].message = format!("{n} ").repeat(2_000);
            log.write(line, 0, Ordinal(n), 1, Timestamp(n * 10 * SECOND));
        };
        (3..1_000).for_each(long);
        let sizes: Vec<u64> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= 1 << 20), "{sizes:?}");
        let last = AppLog::open(&path).page(None, 1).0;
        assert_eq!(last[0].ordinal, Ordinal(999));
        super::super::log_file::remove(&path);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn pages_go_on_after_a_number() {
        let log = AppLog::default();
        log.write(lines(5), 0, Ordinal(1), 1, Timestamp(SECOND));
        let numbers =
            |page: (Vec<KeptLine>, bool)| (page.0.iter().map(|line| line.number).collect::<Vec<_>>(), page.1);
        assert_eq!(numbers(log.page(Some(1), 2)), (vec![2, 3], true));
        assert_eq!(numbers(log.page(None, 2)), (vec![4, 5], false));
    }
}
