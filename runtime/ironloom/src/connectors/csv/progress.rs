//! How far a file was read: what a receipt says, and whether the file still begins so.

use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::regular::{hash_on, open_file};
use crate::connectors::MAX_RECEIPT;
use ironloom_types::ids::Digest;

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
    /// Lines and cells before `offset` that gave no reading, of all laps.
    pub skipped: u64,
    /// Of the bytes before `offset`: a file that begins otherwise is another one. A file that has
    /// only grown is the same.
    pub prefix: Digest,
}

/// **Format**: stands in the log's records, as the first byte of a receipt.
const RECEIPT_VERSION: u8 = 4;
/// Version, lap, offset, line, begin of a line that may go on, skipped, digest.
const RECEIPT_BYTES: usize = 1 + 5 * 8 + 32;
const _: () = assert!(RECEIPT_BYTES <= MAX_RECEIPT);

impl Progress {
    /// Returns the beginning of a lap.
    pub(super) fn begin(lap: u64) -> Self {
        Self { lap, offset: 0, line: 1, unended: None, skipped: 0, prefix: Digest::of(b"") }
    }

    /// Encodes a receipt: version, lap, offset, line, begin of a line that may go on (otherwise the offset),
    /// skipped, digest; numbers big-endian.
    pub(super) fn to_receipt(self) -> Vec<u8> {
        let mut bytes = vec![RECEIPT_VERSION];
        let unended = self.unended.unwrap_or(self.offset);
        for number in [self.lap, self.offset, self.line, unended, self.skipped] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.prefix.0);
        assert!(bytes.len() == RECEIPT_BYTES, "the fields above are all there are");
        bytes
    }

    /// Decodes a receipt; `None` if it isn't one of this version.
    pub(super) fn from_receipt(bytes: &[u8]) -> Option<Self> {
        let (version, mut rest) = bytes.split_first()?;
        let mut numbers = [0; 5];
        for number in &mut numbers {
            let (first, others) = rest.split_first_chunk::<8>()?;
            (*number, rest) = (u64::from_be_bytes(*first), others);
        }
        let [lap, offset, line, unended, skipped] = numbers;
        let prefix: [u8; 32] = rest.try_into().ok()?;
        (*version == RECEIPT_VERSION).then_some(Self {
            lap: lap.max(1),
            offset,
            line,
            unended: (unended < offset).then_some(unended),
            skipped,
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
        let mut file = open_file(path)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_read_back_and_others_are_ignored() {
        for unended in [None, Some((1 << 40) - 5)] {
            let prefix = Digest([7; 32]);
            let progress = Progress { lap: 3, offset: 1 << 40, line: 7, unended, skipped: 9, prefix };
            let receipt = progress.to_receipt();
            assert_eq!(receipt.len(), 73);
            assert_eq!(Progress::from_receipt(&receipt), Some(progress));
            assert_eq!(Progress::from_receipt(&receipt[..72]), None);
        }
        assert_eq!(Progress::from_receipt(&[]), None);
    }

    #[test]
    fn a_receipt_is_these_bytes() {
        let prefix = Digest([0xab; 32]);
        let progress = Progress { lap: 1, offset: 0x102, line: 3, unended: Some(0x101), skipped: 5, prefix };
        let mut expected = vec![4];
        for [high, low] in [[0, 1], [1, 2], [0, 3], [1, 1], [0, 5]] {
            expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, high, low]);
        }
        expected.extend_from_slice(&[0xab; 32]);
        assert_eq!(progress.to_receipt(), expected);
    }

    #[test]
    fn a_file_that_grew_is_the_same_and_one_that_changed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut progress = Progress { offset: 3, line: 2, prefix: Digest::of(b"abc"), ..Progress::begin(1) };
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
