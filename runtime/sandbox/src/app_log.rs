//! What an app says in one invocation: bounded, and outside the transaction, so that the lines of a
//! failed invocation are kept.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::budget::HostCallBytes;
use ironloom_types::limits::{MAX_HOST_CALL_BYTES, MAX_LOG_BYTES, MAX_LOG_LINES};

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Step by step.
    Trace,
    /// For the app's developer.
    Debug,
    /// What somebody who watches the app wants to know.
    Info,
    /// Something is odd.
    Warn,
    /// A part of the app's work failed.
    Error,
    /// The app can't do its work.
    Critical,
}

impl Level {
    /// Its name, as `wasi:logging` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// The origin of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// Logged through `wasi:logging`.
    Log,
    /// Printed to the standard output.
    Stdout,
    /// Printed as an error; a panic is told here.
    Stderr,
}

/// A line of an app's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its severity: `Info` and `Error` for printed text.
    pub level: Level,
    pub source: LogSource,
    /// The app's name for the part that writes the line; empty for printed text.
    pub context: String,
    /// The text, without line feed.
    pub message: String,
}

/// The log of one invocation.
#[derive(Debug, Default)]
pub(crate) struct AppLog {
    lines: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
    /// Printed, and not yet ended by a line feed: of stdout and stderr.
    open: [Vec<u8>; 2],
    /// Printed in all, kept or not.
    printed: usize,
}

impl AppLog {
    /// Adds a line, or what fits of it, or counts it as dropped.
    pub(crate) fn add(&mut self, level: Level, source: LogSource, context: &str, message: &str) {
        let room = MAX_LOG_BYTES.saturating_sub(self.bytes);
        if self.lines.len() >= MAX_LOG_LINES || room == 0 {
            self.dropped += 1;
            return;
        }
        // Copied, so that what is cut off isn't kept in memory either.
        let context = beginning(context, room).to_owned();
        let message = beginning(message, room - context.len()).to_owned();
        // An empty line takes no room otherwise.
        self.bytes += context.len() + message.len() + 1;
        self.lines.push(LogLine { level, source, context, message });
    }

    fn print(&mut self, source: LogSource, bytes: &[u8]) -> Result<(), HostCallBytes> {
        self.printed = self.printed.saturating_add(bytes.len());
        if self.printed > MAX_HOST_CALL_BYTES {
            return Err(HostCallBytes);
        }
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.open(source, &rest[..end]);
            self.end(source);
            rest = &rest[end + 1..];
        }
        self.open(source, rest);
        Ok(())
    }

    fn open(&mut self, source: LogSource, bytes: &[u8]) {
        let open = &mut self.open[usize::from(source == LogSource::Stderr)];
        let room = MAX_LOG_BYTES.saturating_sub(open.len());
        open.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end(&mut self, source: LogSource) {
        let line = std::mem::take(&mut self.open[usize::from(source == LogSource::Stderr)]);
        let level = if source == LogSource::Stderr { Level::Error } else { Level::Info };
        self.add(level, source, "", &String::from_utf8_lossy(&line));
    }

    /// Ends the log: the lines, and how many were dropped.
    pub(crate) fn finish(&mut self) -> (Vec<LogLine>, u64) {
        for source in [LogSource::Stdout, LogSource::Stderr] {
            if !self.open[usize::from(source == LogSource::Stderr)].is_empty() {
                self.end(source);
            }
        }
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.dropped))
    }
}

/// Returns at most so many bytes of a text, up to the end of a character.
pub(super) fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// An app's stdout or stderr. It never closes and never blocks: a full log drops what more comes,
/// since a closed stream makes `println!` panic.
pub(super) struct Printer {
    pub log: Arc<Mutex<AppLog>>,
    pub source: LogSource,
}

#[async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let printed = self.log.lock().print(self.source, &bytes);
        printed.map_err(|error| wasmtime_wasi::p2::StreamError::Trap(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(log: &mut AppLog) -> Vec<String> {
        log.finish().0.into_iter().map(|line| line.message).collect()
    }

    #[test]
    fn what_is_printed_becomes_lines() {
        let mut log = AppLog::default();
        log.print(LogSource::Stdout, b"a\nb").unwrap();
        log.print(LogSource::Stderr, b"oops\n").unwrap();
        log.print(LogSource::Stdout, b"c\n\nd").unwrap();
        assert_eq!(
            messages(&mut log),
            ["a", "oops", "bc", "", "", "d"][..]
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != 4)
                .map(|(_, s)| (*s).to_owned())
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_flood_of_lines_is_counted() {
        let mut log = AppLog::default();
        for i in 0..1_000 {
            log.add(Level::Info, LogSource::Log, "", &format!("{i}"));
        }
        let (lines, dropped) = log.finish();
        assert_eq!((lines.len(), dropped), (MAX_LOG_LINES, 900));
    }

    #[test]
    fn a_huge_line_is_cut_at_a_character() {
        let mut log = AppLog::default();
        log.add(Level::Info, LogSource::Log, "x", &"ä".repeat(MAX_LOG_BYTES));
        log.add(Level::Info, LogSource::Log, "", "more");
        let (lines, dropped) = log.finish();
        assert_eq!(lines.len(), 1);
        assert_eq!(dropped, 1);
        assert!(lines[0].message.len() < MAX_LOG_BYTES && lines[0].message.chars().all(|c| c == 'ä'));
        assert!(lines[0].message.capacity() <= MAX_LOG_BYTES, "what was cut off is not kept");
    }

    #[test]
    fn an_endless_line_takes_bounded_memory() {
        let mut log = AppLog::default();
        for _ in 0..100 {
            log.print(LogSource::Stdout, &[b'x'; 4096]).unwrap();
        }
        assert!(log.open[0].capacity() <= 2 * MAX_LOG_BYTES);
    }
}
