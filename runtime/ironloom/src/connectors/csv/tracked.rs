//! A file that knows how far it was read, and the digest of everything before.
//!
//! The reader above reads ahead in blocks; bytes that it has read but not yet submitted are kept here until
//! they are, so that the digest covers exactly the bytes before the place that a receipt names.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::tail::Seen;
use crate::connectors::MAX_RECEIPT;
use ironloom_types::ids::Digest;

/// The longest line, in bytes. Beyond: the connector stops.
const MAX_LINE: usize = 1 << 20;

/// The progress in a file: the contents of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Counted from 1.
    pub lap: u64,
    /// The first byte of the lap that was not handed over.
    pub offset: u64,
    /// The line that begins there, counted from 1; only for what people are told.
    pub line: u64,
    /// Where the last line before `offset` begins, if it has no line feed: it may go on.
    pub unended: Option<u64>,
    /// Of the bytes before `offset`: a file that begins otherwise is another one. A file that has
    /// only grown is the same.
    pub prefix: Digest,
}

/// **Format**: stands in the log's records, as the first byte of a receipt.
const RECEIPT_VERSION: u8 = 3;
/// Version, lap, offset, line, begin of a line that may go on, digest.
const RECEIPT_BYTES: usize = 1 + 4 * 8 + 32;
const _: () = assert!(RECEIPT_BYTES <= MAX_RECEIPT);

impl Progress {
    /// Returns the beginning of a lap.
    pub(super) fn begin(lap: u64) -> Self {
        Self { lap, offset: 0, line: 1, unended: None, prefix: Digest::of(b"") }
    }

    /// Encodes a receipt: version, lap, offset, line, begin of a line that may go on (otherwise the offset),
    /// digest; numbers big-endian.
    pub(super) fn to_receipt(self) -> Vec<u8> {
        let mut bytes = vec![RECEIPT_VERSION];
        for number in [self.lap, self.offset, self.line, self.unended.unwrap_or(self.offset)] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.prefix.0);
        assert!(bytes.len() == RECEIPT_BYTES, "the fields above are all there are");
        bytes
    }

    /// Decodes a receipt; `None` if it isn't one of this version.
    pub(super) fn from_receipt(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (lap, rest) = rest.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (line, rest) = rest.split_first_chunk::<8>()?;
        let (unended, rest) = rest.split_first_chunk::<8>()?;
        let (offset, unended) = (u64::from_be_bytes(*offset), u64::from_be_bytes(*unended));
        let prefix: [u8; 32] = rest.try_into().ok()?;
        (*version == RECEIPT_VERSION).then_some(Self {
            lap: u64::from_be_bytes(*lap).max(1),
            offset,
            line: u64::from_be_bytes(*line),
            unended: (unended < offset).then_some(unended),
            prefix: Digest(prefix),
        })
    }

    /// Where to go on and the hash over all before it, where the file begins as it did; `None` where it
    /// is another one. That is the begin of the last line where it had no line feed and went on since.
    /// Reads all of that, until `stop` says no more.
    pub(super) fn verify(
        mut self,
        path: &Path,
        stop: impl Fn() -> bool,
    ) -> io::Result<Option<(Self, Sha256)>> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let begin = self.unended.unwrap_or(self.offset);
        if !hash_on(&mut file, &mut hash, begin, &stop)? {
            return Ok(None);
        }
        let before = hash.clone();
        if !hash_on(&mut file, &mut hash, self.offset.saturating_sub(begin), &stop)? {
            return Ok(None);
        }
        if Digest(hash.clone().finalize().into()) != self.prefix {
            return Ok(None);
        }
        let mut next = [0];
        let goes_on = self.offset > 0 && file.read(&mut next)? == 1;
        if goes_on && next == *b"\n" {
            // The end of the last line, which it hadn't when it was read.
            hash.update(b"\n");
            self.offset += 1;
            self.line += 1;
        } else if goes_on && next != *b"\r" && self.unended.is_some() {
            (self.offset, hash) = (begin, before);
        }
        self.unended = None;
        self.prefix = Digest(hash.clone().finalize().into());
        Ok(Some((self, hash)))
    }
}

/// Hashes so many bytes; `false` where the file hasn't as many.
fn hash_on(file: &mut File, hash: &mut Sha256, mut left: u64, stop: &impl Fn() -> bool) -> io::Result<bool> {
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        if stop() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the server stops"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..most])? {
            0 => return Ok(false),
            read => {
                hash.update(&buffer[..read]);
                left -= read as u64;
            }
        }
    }
    Ok(true)
}

/// The file, with what was read of it and not yet passed.
#[derive(Debug)]
pub(super) struct Tracked {
    file: File,
    hash: Sha256,
    /// Bytes that are in the hash.
    passed: u64,
    /// The bytes that come after them, as far as they were read.
    ahead: Vec<u8>,
}

impl Tracked {
    /// Opens a file at its beginning.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, hash: Sha256::new(), passed: 0, ahead: Vec::new() })
    }

    /// After a seek to this offset: what lies before it is in this hash.
    pub(super) fn go_on_from(&mut self, offset: u64, hash: Sha256) {
        self.ahead.clear();
        self.passed = offset;
        self.hash = hash;
    }

    /// Tells that everything before this offset is done.
    pub(super) fn pass(&mut self, offset: u64) {
        let length = usize::try_from(offset.saturating_sub(self.passed)).unwrap_or(usize::MAX);
        assert!(length <= self.ahead.len(), "only what was read is passed");
        self.hash.update(&self.ahead[..length]);
        self.ahead.drain(..length);
        self.passed = offset;
    }

    /// Whether a line ends right before this offset, or the next one begins with its line feed.
    pub(super) fn ends_line(&self, offset: u64) -> bool {
        let Some(length) = offset.checked_sub(self.passed).and_then(|length| usize::try_from(length).ok())
        else {
            return true;
        };
        let before = length.checked_sub(1).and_then(|last| self.ahead.get(last));
        let is_end = |byte: Option<&u8>| matches!(byte, Some(b'\n' | b'\r'));
        length == 0 || is_end(before) || is_end(self.ahead.get(length))
    }

    /// The file as it is now.
    pub(super) fn seen(&self) -> io::Result<Seen> {
        Ok(Seen::of(&self.file.metadata()?))
    }

    /// How far it has come in this lap, and the hash over all before; `line` begins there.
    pub(super) fn place(&self, lap: u64, line: u64) -> (Progress, Sha256) {
        let prefix = Digest(self.hash.clone().finalize().into());
        (Progress { lap, offset: self.passed, line, unended: None, prefix }, self.hash.clone())
    }
}

impl Read for Tracked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.len() > MAX_LINE {
            let text = format!("a line is longer than {MAX_LINE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let read = self.file.read(buffer)?;
        self.ahead.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

impl Seek for Tracked {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let offset = self.file.seek(to)?;
        self.ahead.clear();
        self.passed = offset;
        Ok(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_read_back_and_others_are_ignored() {
        for unended in [None, Some((1 << 40) - 5)] {
            let progress = Progress { lap: 3, offset: 1 << 40, line: 7, unended, prefix: Digest([7; 32]) };
            let receipt = progress.to_receipt();
            assert_eq!(receipt.len(), 65);
            assert_eq!(Progress::from_receipt(&receipt), Some(progress));
            assert_eq!(Progress::from_receipt(&receipt[..64]), None);
        }
        assert_eq!(Progress::from_receipt(&[]), None);
    }

    #[test]
    fn a_file_that_grew_is_the_same_and_one_that_changed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut progress = Progress { lap: 1, offset: 3, line: 2, unended: None, prefix: Digest::of(b"abc") };
        let goes_on = |progress: Progress, bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let (on, hash) = progress.verify(&path, || false).unwrap()?;
            assert_eq!(Digest(hash.finalize().into()), Digest::of(&bytes[..on.offset as usize]));
            Some((on.offset, on.line))
        };
        assert_eq!(goes_on(progress, b"abc"), Some((3, 2)));
        assert_eq!(goes_on(progress, b"abcdef"), Some((3, 2)));
        assert_eq!(goes_on(progress, b"abc\ndef"), Some((4, 3)));
        assert_eq!(goes_on(progress, b"abx"), None);
        assert_eq!(goes_on(progress, b"ab"), None);
        // A last line that began at 1 and had no line feed: whole, or half written.
        progress.unended = Some(1);
        assert_eq!(goes_on(progress, b"abc"), Some((3, 2)));
        assert_eq!(goes_on(progress, b"abc\ndef"), Some((4, 3)));
        assert_eq!(goes_on(progress, b"abc\r\ndef"), Some((3, 2)));
        assert_eq!(goes_on(progress, b"abcd\n"), Some((1, 2)));
        assert!(progress.verify(&path, || true).is_err());
    }
}
