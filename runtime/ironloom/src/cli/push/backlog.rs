//! Lines that were read and aren't acknowledged: kept to be sent again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::source::Lines;
use crate::api::StreamMark;

/// Lines and bytes that are kept; more by what is read at once. Beyond, no further ones are read.
const MAX_LINES: u64 = 200_000;
const MAX_BYTES: usize = 8 << 20;

/// The server's count of lines, where it can't be right for this source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Odd {
    /// What it has acknowledged is gone.
    #[error(
        "{acknowledged} lines were acknowledged, but this server has {said} of them; is it the same data folder?"
    )]
    Forgotten { said: u64, acknowledged: u64 },
    #[error("the server says that {said} lines are taken, and {read} were read")]
    Ahead { said: u64, read: u64 },
    /// Another source was sent under the same key.
    #[error("lines 1 to {through} aren't those that were taken under this key")]
    Other { through: u64 },
    /// The source ends before the last line that was taken.
    #[error("{said} lines were taken under this key, and the source has {read}")]
    Short { said: u64, read: u64 },
}

/// Lines that come first and were taken earlier.
#[derive(Debug)]
struct Skip {
    through: u64,
    mark: Option<String>,
    /// The mark of those that were skipped.
    so_far: StreamMark,
}

#[derive(Default)]
pub(super) struct Backlog {
    parts: VecDeque<Lines>,
    /// Of the parts, so many were sent over this connection.
    sent: usize,
    /// The lines before the first part, all of them acknowledged, and those through the last one.
    begin: u64,
    end: u64,
    bytes: usize,
    skip: Option<Skip>,
}

impl Backlog {
    /// The lines that are acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.begin
    }

    /// The lines through the last one that was sent.
    pub(super) fn sent(&self) -> u64 {
        self.begin + self.parts.iter().take(self.sent).map(|part| part.count).sum::<u64>()
    }

    /// The lines through the last one that was read.
    pub(super) fn read(&self) -> u64 {
        self.end
    }

    pub(super) fn is_full(&self) -> bool {
        self.end - self.begin >= MAX_LINES || self.bytes >= MAX_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.parts.len()
    }

    /// Adds lines that were read, but for those that are to be skipped.
    pub(super) fn add(&mut self, mut lines: Lines) -> Result<(), Odd> {
        if let Some(skip) = &mut self.skip {
            let left = skip.through - self.end;
            let skipped = left.min(lines.count);
            let rest = cut(&mut lines.bytes, skipped);
            lines.count -= skipped;
            self.end += skipped;
            self.begin = self.end;
            skip.so_far = skip.so_far.with(&lines.bytes);
            if skipped == left {
                if skip.mark.as_ref().is_some_and(|mark| *mark != skip.so_far.shown()) {
                    return Err(Odd::Other { through: self.end });
                }
                self.skip = None;
            }
            lines.bytes = rest;
        }
        if lines.count > 0 {
            self.end += lines.count;
            self.bytes += lines.bytes.len();
            self.parts.push_back(lines);
        }
        Ok(())
    }

    /// The source has no more lines.
    pub(super) fn ended(&self) -> Result<(), Odd> {
        match &self.skip {
            Some(skip) => Err(Odd::Short { said: skip.through, read: self.end }),
            None => Ok(()),
        }
    }

    /// A connection begins: these lines are taken, and what is behind them is to be sent. Before the first line was
    /// read they are the ones of an earlier run, with this mark.
    pub(super) fn begin(&mut self, through: u64, mark: Option<String>) -> Result<(), Odd> {
        self.sent = 0;
        if self.end == 0 {
            // The server may know less than at the last connection.
            self.skip = (through > 0).then(|| Skip { through, mark, so_far: StreamMark::default() });
        }
        if self.skip.as_ref().is_some_and(|skip| skip.through == through) {
            return Ok(());
        }
        if through < self.begin {
            return Err(Odd::Forgotten { said: through, acknowledged: self.begin });
        }
        self.drop_through(through)
    }

    /// These lines are taken.
    pub(super) fn taken(&mut self, through: u64) -> Result<(), Odd> {
        if through <= self.begin || self.skip.is_some() { Ok(()) } else { self.drop_through(through) }
    }

    fn drop_through(&mut self, through: u64) -> Result<(), Odd> {
        if through > self.end {
            return Err(Odd::Ahead { said: through, read: self.end });
        }
        while let Some(first) = self.parts.front_mut() {
            let taken = (through - self.begin).min(first.count);
            self.begin += taken;
            if taken < first.count {
                self.bytes -= first.bytes.len();
                first.bytes = cut(&mut first.bytes, taken);
                self.bytes += first.bytes.len();
                first.count -= taken;
                break;
            }
            self.bytes -= first.bytes.len();
            self.parts.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        Ok(())
    }

    /// The next lines to be sent.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let part = self.parts.get(self.sent)?;
        self.sent += 1;
        Some(Bytes::copy_from_slice(&part.bytes))
    }
}

/// Cuts lines off behind so many, and returns the rest.
fn cut(bytes: &mut Vec<u8>, lines: u64) -> Vec<u8> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let end = ends.take(lines as usize).last().unwrap_or(0);
    bytes.split_off(end)
}
