//! A file that knows how far it was read, the digest of everything before, and whether all of that still
//! stands in it.
//!
//! The reader above reads ahead in blocks; bytes that it has read but not yet submitted are kept here until
//! they are, so that the digest covers exactly the bytes before the place that a receipt names.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::progress::Progress;
use super::regular::{hash_on, open_file};
use super::tail::Seen;
use ironloom_types::ids::Digest;

/// The longest line, in bytes. Beyond: the connector stops.
const MAX_LINE: usize = 1 << 20;
/// Bytes before the place that are held against the file again, at least, once it was written to.
const RECENT: usize = 4 << 10;

/// By which a file shows that it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    length: u64,
    at: SystemTime,
}

impl Written {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { length: metadata.len(), at: metadata.modified()? })
    }
}

/// The file, with what was read of it and not yet passed.
#[derive(Debug)]
pub(super) struct Tracked {
    file: File,
    hash: Sha256,
    /// Bytes that are in the hash.
    passed: u64,
    /// The last of these bytes: at most twice [`RECENT`].
    recent: Vec<u8>,
    /// The bytes that come after them, as far as they were read.
    ahead: Vec<u8>,
    /// Whether there was nothing more to read. It stays so: what is appended later is a matter of the next look.
    ended: bool,
    /// As the file was when it was opened.
    opened: Written,
    /// As it was when it was last known to hold what was read of it.
    known: Written,
}

impl Tracked {
    /// Opens a file at its beginning.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open_file(path)?;
        let opened = Written::of(&file)?;
        let (hash, recent, ahead) = (Sha256::new(), Vec::new(), Vec::new());
        Ok(Self { file, hash, passed: 0, recent, ahead, ended: false, opened, known: opened })
    }

    /// After a seek to the place that a receipt names: what lies before it is in this hash.
    pub(super) fn go_on_with(&mut self, hash: Sha256) {
        self.hash = hash;
    }

    /// Tells that everything before this offset is done.
    pub(super) fn pass(&mut self, offset: u64) {
        let length = usize::try_from(offset.saturating_sub(self.passed)).unwrap_or(usize::MAX);
        assert!(length <= self.ahead.len(), "only what was read is passed");
        self.hash.update(&self.ahead[..length]);
        self.recent.extend(self.ahead.drain(..length));
        if self.recent.len() > 2 * RECENT {
            self.recent.drain(..self.recent.len() - RECENT);
        }
        self.passed = offset;
    }

    /// Bytes that were read and not yet passed.
    pub(super) fn between(&self, begin: u64, end: u64) -> &[u8] {
        let index = |offset: u64| usize::try_from(offset.saturating_sub(self.passed)).unwrap_or(usize::MAX);
        self.ahead.get(index(begin)..index(end)).unwrap_or_default()
    }

    /// The first byte that wasn't passed.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether reading has come to the end of the file.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The file as it is now.
    pub(super) fn seen(&self) -> io::Result<Seen> {
        Ok(Seen::of(&self.file.metadata()?))
    }

    /// Whether the file still has what was read of it last, at the same place. Compares bytes only if the file was
    /// written to.
    pub(super) fn is_as_read(&mut self) -> io::Result<bool> {
        let written = Written::of(&self.file)?;
        if written == self.known {
            return Ok(true);
        }
        if written.length < self.passed + self.ahead.len() as u64 {
            return Ok(false);
        }
        let mut bytes = vec![0; self.recent.len() + self.ahead.len()];
        match self.file.read_exact_at(&mut bytes, self.passed - self.recent.len() as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        let same = bytes.starts_with(&self.recent) && bytes.ends_with(&self.ahead);
        if same {
            self.known = written;
        }
        Ok(same)
    }

    /// Whether the file still has all that was passed of it. Reads it once more, if it was written to since it was
    /// opened, until `stop` says no more. Nothing can be read after that.
    pub(super) fn is_all_as_read(&mut self, stop: impl Fn() -> bool) -> io::Result<bool> {
        if Written::of(&self.file)? == self.opened {
            return Ok(true);
        }
        let mut hash = Sha256::new();
        self.file.seek(SeekFrom::Start(0))?;
        let is_there = hash_on(&mut self.file, &mut hash, self.passed, &stop)?;
        Ok(is_there && hash.finalize() == self.hash.clone().finalize())
    }

    /// How far it has come in this lap; `line` begins there.
    pub(super) fn place(&self, lap: u64, line: u64, skipped: u64) -> Progress {
        let prefix = Digest(self.hash.clone().finalize().into());
        Progress { lap, offset: self.passed, line, unended: None, skipped, prefix }
    }
}

impl Read for Tracked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        if self.ahead.len() > MAX_LINE {
            let text = format!("a line is longer than {MAX_LINE} bytes; is a quote not closed?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let read = self.file.read(buffer)?;
        self.ended = read == 0 && !buffer.is_empty();
        self.ahead.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

impl Seek for Tracked {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let offset = self.file.seek(to)?;
        if offset != self.passed {
            self.recent.clear();
        }
        self.ahead.clear();
        (self.passed, self.ended) = (offset, false);
        Ok(offset)
    }
}
