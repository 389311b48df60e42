//! The logs of apps: lines for people, outside every transaction.
//!
//! They are kept in files alone (`log_file.rs`), so that however many apps write, they take no memory; the files that
//! were written last stay open. A call may write 100 lines or 16 KiB (the sandbox sees to that); sustained, ten
//! lines a second are kept, and then one line counts what was dropped. A thread of its own writes them (`queue`).

mod queue;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use self::queue::Queue;
use super::log_file::{self, LogFile};
use ironloom_sandbox::{LogLine, LogSource};
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::ids::Ordinal;
use ironloom_types::limits::{LOG_LINES_PER_SECOND, MAX_LOG_LINES};
use ironloom_types::work::KeptLine;

/// Files that are open at once, whatever the number of installations.
const OPEN: usize = 64;

/// What a line takes in memory besides its text.
const LINE_BYTES: usize = 64;

/// The folder of all logs, and those of its files that are open.
pub(crate) struct AppLogs {
    folder: PathBuf,
    queue: Arc<Queue>,
    /// The one that was written last is at the end.
    open: Mutex<VecDeque<LogFile>>,
}

impl AppLogs {
    /// The logs in this folder, which is made when the first line comes.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, queue: Arc::default(), open: Mutex::default() }
    }

    /// Appends lines to a log. Its owner holds a lock of its own, so that no other thread has the same file.
    fn append(&self, path: &Path, lines: &[KeptLine]) -> io::Result<()> {
        let known = self.take(path);
        let mut file = match known {
            Some(file) => file,
            None => {
                std::fs::create_dir_all(&self.folder)?;
                LogFile::open(path)?
            }
        };
        for line in lines {
            file.write(line)?;
        }
        let mut open = self.open.lock();
        open.push_back(file);
        let oldest = if open.len() > OPEN { open.pop_front() } else { None };
        drop(open);
        // Closed without the lock.
        drop(oldest);
        Ok(())
    }

    fn take(&self, path: &Path) -> Option<LogFile> {
        let mut open = self.open.lock();
        let at = open.iter().rposition(|file| file.path() == path)?;
        open.remove(at)
    }
}

impl Drop for AppLogs {
    fn drop(&mut self) {
        self.queue.end();
    }
}

struct Inner {
    /// The number of the next line, once the first was written.
    next: Option<u64>,
    /// Lines that may be written now: refilled with time, never above the burst.
    tokens: f64,
    refilled: Timestamp,
    dropped: u64,
    /// The disk refused lines, and people have heard of it.
    has_failed: bool,
    /// The installation is gone: lines of an invocation that was under way make no file again.
    is_removed: bool,
}

/// The log of one installation.
pub(crate) struct InstallationLog(Arc<Log>);

struct Log {
    logs: Arc<AppLogs>,
    path: PathBuf,
    /// Lines for which the queue had no room, as far as the file doesn't tell of them yet.
    lost: AtomicU64,
    inner: Mutex<Inner>,
}

impl InstallationLog {
    /// The log of this name. No file is opened or made before its first line.
    pub(crate) fn new(logs: &Arc<AppLogs>, name: &str) -> Self {
        let inner = Inner {
            next: None,
            tokens: MAX_LOG_LINES as f64,
            refilled: Timestamp(0),
            dropped: 0,
            has_failed: false,
            is_removed: false,
        };
        let path = log_file::path(&logs.folder, name);
        let (lost, inner) = (AtomicU64::new(0), Mutex::new(inner));
        Self(Arc::new(Log { logs: Arc::clone(logs), path, lost, inner }))
    }

    /// Takes the lines of one call; `dropped` is what the call wrote beyond its limit. They are written soon.
    pub(crate) fn write(
        &self,
        lines: Vec<LogLine>,
        dropped: u64,
        ordinal: Ordinal,
        attempt: u32,
        at: Timestamp,
    ) {
        if lines.is_empty() && dropped == 0 {
            return;
        }
        let bytes = lines.iter().map(|line| line.context.len() + line.message.len() + LINE_BYTES).sum();
        let (log, all) = (Arc::clone(&self.0), lines.len() as u64 + dropped);
        let write = move || log.write(lines, dropped, ordinal, attempt, at);
        if !self.0.logs.queue.offer(bytes, write) {
            self.0.lost.fetch_add(all, Ordering::Relaxed);
        }
    }

    /// Lines with a number above `after`, oldest first; without it the last ones. Also says whether there are
    /// more. Reads the files.
    pub(crate) fn page(&self, after: Option<u64>, limit: usize) -> io::Result<(Vec<KeptLine>, bool)> {
        self.0.page(after, limit)
    }

    /// Lines with a number below `before`, from the last one back, and whether there are more.
    pub(crate) fn newest(&self, before: Option<u64>, limit: usize) -> io::Result<(Vec<KeptLine>, bool)> {
        self.0.newest(before, limit)
    }

    /// Removes its files: the installation is gone. What waits for being written makes no file again.
    pub(crate) fn remove(&self) {
        let log = Arc::clone(&self.0);
        self.0.logs.queue.add(move || log.remove());
    }
}

impl Log {
    fn write(&self, lines: Vec<LogLine>, dropped: u64, ordinal: Ordinal, attempt: u32, at: Timestamp) {
        let dropped = dropped + self.lost.swap(0, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        let mut kept = inner.keep(lines, dropped, ordinal, attempt, at);
        if kept.is_empty() || inner.is_removed {
            return;
        }
        let written = self.number(&mut inner, &mut kept).and_then(|()| self.logs.append(&self.path, &kept));
        match written {
            Ok(()) => inner.has_failed = false,
            Err(_) if inner.has_failed => {}
            Err(error) => {
                inner.has_failed = true;
                tracing::warn!(file = %self.path.display(), %error, "lines of an app's log are lost");
            }
        }
    }

    /// Numbers lines behind those that the file has.
    fn number(&self, inner: &mut Inner, lines: &mut [KeptLine]) -> io::Result<()> {
        let mut next = match inner.next {
            Some(next) => next,
            None => log_file::last_number(&self.path)? + 1,
        };
        for line in lines {
            line.number = next;
            next += 1;
        }
        inner.next = Some(next);
        Ok(())
    }

    fn lines(&self) -> io::Result<Vec<KeptLine>> {
        // Nobody renames the files meanwhile.
        let _inner = self.inner.lock();
        log_file::read(&self.path)
    }

    fn newest(&self, before: Option<u64>, limit: usize) -> io::Result<(Vec<KeptLine>, bool)> {
        let mut lines = self.lines()?;
        if let Some(before) = before {
            lines.truncate(lines.partition_point(|line| line.number < before));
        }
        let more = lines.len() > limit;
        Ok((lines.into_iter().rev().take(limit).collect(), more))
    }

    fn page(&self, after: Option<u64>, limit: usize) -> io::Result<(Vec<KeptLine>, bool)> {
        let mut lines = self.lines()?;
        let first = match after {
            Some(after) => lines.partition_point(|line| line.number <= after),
            None => lines.len().saturating_sub(limit),
        };
        let mut page = lines.split_off(first);
        let more = page.len() > limit;
        page.truncate(limit);
        Ok((page, more))
    }

    fn remove(&self) {
        let mut inner = self.inner.lock();
        inner.is_removed = true;
        drop(self.logs.take(&self.path));
        log_file::remove(&self.path);
    }
}

impl Inner {
    /// The lines that are kept, with one that tells of those that aren't.
    fn keep(
        &mut self,
        lines: Vec<LogLine>,
        dropped: u64,
        ordinal: Ordinal,
        attempt: u32,
        at: Timestamp,
    ) -> Vec<KeptLine> {
        let seconds = at.0.saturating_sub(self.refilled.0) as f64 / SECOND as f64;
        self.tokens = (self.tokens + seconds * f64::from(LOG_LINES_PER_SECOND)).min(MAX_LOG_LINES as f64);
        self.refilled = at;
        self.dropped += dropped;
        let line = |level: &str, context: String, message: String| {
            let level = level.to_owned();
            KeptLine { number: 0, at, level, context, message, ordinal, attempt }
        };
        let told = |dropped: &mut u64| {
            let message =
                format!("{} lines were dropped: an app may not write more", std::mem::take(dropped));
            line("warn", "ironloom".to_owned(), message)
        };
        let mut kept = Vec::with_capacity(lines.len() + 1);
        for own in lines {
            if self.tokens < 1.0 {
                self.dropped += 1;
                continue;
            }
            if self.dropped > 0 {
                kept.push(told(&mut self.dropped));
            }
            self.tokens -= 1.0;
            let context = match own.source {
                LogSource::Log => own.context,
                LogSource::Stdout => "stdout".to_owned(),
                LogSource::Stderr => "stderr".to_owned(),
            };
            kept.push(line(own.level.name(), context, own.message));
        }
        if self.dropped > 0 && self.tokens >= 1.0 {
            kept.push(told(&mut self.dropped));
        }
        kept
    }
}

#[cfg(test)]
mod tests;
