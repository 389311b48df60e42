//! Revisions under which nothing runs any more: replays need them for as long as there are records of their
//! invocations.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Shared;
use super::stored::encode;
use crate::records::installation::Revision;
use ironloom_storage::store::{Item, Key};
use ironloom_types::ids::{self, Digest, Generation, Sequence};

/// Past revisions of a generation that are kept.
pub(crate) const KEPT: u32 = 32;
/// Of their packages, those that are kept besides the present one.
const PACKAGES: usize = 4;

/// The past revisions of a generation, with the package of each.
#[derive(Debug, Default)]
pub(crate) struct Past(BTreeMap<ids::Revision, Digest>);

impl Past {
    /// One that the store has, by the beginning of its value: at a start nobody needs the rest.
    pub(super) fn load(&mut self, number: ids::Revision, stored: &[u8]) -> Result<(), postcard::Error> {
        type Beginning = (ids::Revision, Generation, Sequence, Digest);
        let ((_, _, _, package), _) = postcard::take_from_bytes::<Beginning>(stored)?;
        self.0.insert(number, package);
        Ok(())
    }

    /// Takes a revision that has ended. Returns what changes in the store.
    pub(super) fn add(&mut self, generation: Generation, revision: &Revision) -> Vec<(Key, Option<Bytes>)> {
        self.0.insert(revision.number, revision.package);
        let mut changes = vec![(key(generation, revision.number), Some(encode(revision)))];
        while self.0.len() > KEPT as usize
            && let Some((oldest, _)) = self.0.pop_first()
        {
            changes.push((key(generation, oldest), None));
        }
        changes
    }

    /// The number of the oldest one.
    pub(super) fn first(&self) -> Option<ids::Revision> {
        self.0.keys().next().copied()
    }

    /// The newest of their packages.
    pub(crate) fn packages(&self) -> Vec<Digest> {
        let mut newest: Vec<Digest> = Vec::new();
        for package in self.0.values().rev() {
            if newest.len() == PACKAGES {
                break;
            }
            if !newest.contains(package) {
                newest.push(*package);
            }
        }
        newest
    }
}

fn key(generation: Generation, number: ids::Revision) -> Key {
    Item::PastRevision(generation, number).key()
}

impl Shared {
    /// A past revision, if it is kept.
    pub(crate) fn past_revision(
        &self,
        generation: Generation,
        number: ids::Revision,
    ) -> Result<Option<Revision>, String> {
        self.stored(&key(generation, number))
    }
}
