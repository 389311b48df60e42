//! Parts of the journal at rest that can't be read, for people: until they can be again, each is named.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use ironloom_storage::journal::{FileError, Location, ReadError};

/// The most parts that are named; there may be more.
const MOST: usize = 10;

/// What is known to be damaged or missing.
#[derive(Debug, Default)]
pub(super) struct Damage(Mutex<BTreeMap<Part, String>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// A whole file.
    File(u32),
    Block(Location),
}

impl Damage {
    /// A block was read, or couldn't be.
    pub(super) fn read<T>(&self, location: Location, result: &Result<T, ReadError>) {
        match result {
            Ok(_) => self.mended(Part::Block(location)),
            Err(error @ ReadError::File(FileError::Missing { .. } | FileError::Short { .. })) => {
                self.note(Part::File(location.file), error);
            }
            Err(error) => self.note(Part::Block(location), error),
        }
    }

    /// A file was looked at.
    pub(super) fn looked(&self, file: u32, result: &Result<(), FileError>) {
        match result {
            Ok(()) => self.mended(Part::File(file)),
            Err(error) => self.note(Part::File(file), error),
        }
    }

    /// Files before this one are gone on purpose.
    pub(super) fn forget_before(&self, file: u32) {
        self.0.lock().retain(|part, _| match part {
            Part::File(damaged) => *damaged >= file,
            Part::Block(location) => location.file >= file,
        });
    }

    /// The sentences for people.
    pub(super) fn told(&self) -> Vec<String> {
        self.0.lock().values().cloned().collect()
    }

    fn note(&self, part: Part, error: &dyn std::fmt::Display) {
        {
            let mut parts = self.0.lock();
            if parts.len() == MOST || parts.contains_key(&part) {
                return;
            }
            parts.insert(part, error.to_string());
        }
        tracing::error!(%error, "a part of the journal can't be read; everything else can");
    }

    fn mended(&self, part: Part) {
        self.0.lock().remove(&part);
    }
}
