//! Writes a backup, part by part, in memory that doesn't grow with it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use lz4_flex::frame::{FrameEncoder, FrameInfo};

use super::hashed::Hashed;
use super::{BackupError, FAILED, HEAD, Head, JOURNAL, LOG, PACKAGES, PARTS, Part, STORE, STORE_ENTRY};
use ironloom_storage::store::Key;

/// Writes the archive of a backup.
pub(crate) struct Writer<W: Write> {
    tar: tar::Builder<FrameEncoder<W>>,
    parts: Vec<Part>,
    /// Keys and values that aren't written yet.
    pub(super) keys: Vec<u8>,
    /// Entries of the store so far.
    pub(super) of_store: u64,
}

impl<W: Write> Writer<W> {
    /// Begins with what is known of the whole.
    pub(crate) fn begin(to: W, head: &Head) -> Result<Self, BackupError> {
        // Of the blocks too: a match that is copied from elsewhere may give the same bytes, and is damage all the same.
        let info = FrameInfo::new().block_checksums(true).content_checksum(true);
        let tar = tar::Builder::new(FrameEncoder::with_frame_info(info, to));
        let mut writer = Self { tar, parts: Vec::new(), keys: Vec::new(), of_store: 0 };
        writer.whole(HEAD, &json(head)?)?;
        Ok(writer)
    }

    /// A segment of the log.
    pub(crate) fn segment(&mut self, name: &str, bytes: u64, from: impl Read) -> Result<(), BackupError> {
        self.entry(&format!("{LOG}{name}"), bytes, from)
    }

    /// A key of the store with its value. They come in the order of the keys.
    pub(crate) fn key(&mut self, key: &Key, value: &Bytes) -> Result<(), BackupError> {
        let too_long =
            || BackupError::damaged(format!("the key {key} or its value is too long for a backup"));
        let key_length = u16::try_from(key.as_bytes().len()).map_err(|_| too_long())?;
        let value_length = u32::try_from(value.len()).map_err(|_| too_long())?;
        self.keys.extend_from_slice(&key_length.to_le_bytes());
        self.keys.extend_from_slice(&value_length.to_le_bytes());
        self.keys.extend_from_slice(key.as_bytes());
        self.keys.extend_from_slice(value);
        if self.keys.len() >= STORE_ENTRY { self.end_keys() } else { Ok(()) }
    }

    /// Writes the keys that are left over. After the last one.
    pub(crate) fn end_keys(&mut self) -> Result<(), BackupError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let keys = std::mem::take(&mut self.keys);
        self.of_store += 1;
        self.whole(&format!("{STORE}{:010}.keys", self.of_store), &keys)?;
        // Its memory is used again.
        self.keys = keys;
        self.keys.clear();
        Ok(())
    }

    /// A package's file.
    pub(crate) fn package(&mut self, name: &str, bytes: u64, from: impl Read) -> Result<(), BackupError> {
        self.entry(&format!("{PACKAGES}{name}"), bytes, from)
    }

    /// A block file.
    pub(crate) fn blocks(&mut self, name: &str, bytes: u64, from: impl Read) -> Result<(), BackupError> {
        self.entry(&format!("{JOURNAL}{name}"), bytes, from)
    }

    /// Ends it: from now on it is whole.
    pub(crate) fn finish(mut self) -> Result<W, BackupError> {
        assert!(self.keys.is_empty(), "the last keys were written before other parts");
        let parts = json(&self.parts)?;
        self.whole(PARTS, &parts)?;
        Ok(self.tar.into_inner()?.finish().map_err(io::Error::from)?)
    }

    /// Ends it where it can't be made whole, with the reason for whoever reads it.
    pub(crate) fn fail(mut self, reason: &str) -> Result<W, BackupError> {
        self.whole(FAILED, reason.as_bytes())?;
        Ok(self.tar.into_inner()?.finish().map_err(io::Error::from)?)
    }

    fn whole(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    pub(super) fn entry(&mut self, name: &str, bytes: u64, from: impl Read) -> Result<(), BackupError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        let mut whole = Whole { from, left: bytes, broken: None };
        let mut hashed = Hashed::new(&mut whole);
        self.tar.append_data(&mut header, name, &mut hashed)?;
        let (_, sha256) = hashed.finish();
        if let Some(source) = whole.broken {
            return Err(BackupError::Part { name: name.to_owned(), source });
        }
        self.parts.push(Part { name: name.to_owned(), bytes, sha256 });
        Ok(())
    }
}

/// As many bytes as were promised, whatever becomes of their source: what follows them in the archive can still be read.
struct Whole<R> {
    from: R,
    left: u64,
    broken: Option<io::Error>,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let into = &mut into[..most];
        if self.broken.is_none() && most > 0 {
            match self.from.read(into) {
                Ok(0) => self.broken = Some(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.left -= read as u64;
                    return Ok(read);
                }
                Err(error) => self.broken = Some(error),
            }
        }
        into.fill(0);
        self.left -= most as u64;
        Ok(most)
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, BackupError> {
    serde_json::to_vec_pretty(value).map_err(|error| BackupError::Io(error.into()))
}
