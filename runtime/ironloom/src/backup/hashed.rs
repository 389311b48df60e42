//! The digest of a part, made while its bytes pass by.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use ironloom_types::ids;

/// Hashes what is read through it.
pub(super) struct Hashed<R> {
    from: R,
    hash: Sha256,
    read: u64,
}

impl<R> Hashed<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, hash: Sha256::new(), read: 0 }
    }

    /// The number of bytes that were read, and their digest in hexadecimal digits.
    pub(super) fn finish(self) -> (u64, String) {
        (self.read, ids::Digest(self.hash.finalize().into()).hex())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.hash.update(&into[..read]);
        self.read += read as u64;
        Ok(read)
    }
}
