//! The audit log as it is kept: entries and checkpoints in the store, the ends of its chains in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::RwLock;
use serde::de::DeserializeOwned;

use super::Shared;
use super::stored::decode;
use crate::records::audit::{CheckpointRecord, KeptEntry};
use ironloom_storage::store::{Item, Key, KeyKind, KeyRange};
use ironloom_trust::audit::{Chain, Head, Heads};
use ironloom_types::clock::Timestamp;

/// Entries that are read in one step.
const AT_ONCE: usize = 256;

pub(crate) fn entry_key(chain: Chain, number: u64) -> Key {
    Item::AuditEntry(chain.number(), number).key()
}

pub(crate) fn checkpoint_key(chain: Chain, number: u64) -> Key {
    Item::AuditCheckpoint(chain.number(), number).key()
}

/// The end of a chain that entries are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Oldest,
    Newest,
}

/// The part of the audit log that is in memory.
#[derive(Default)]
pub(crate) struct AuditLog(RwLock<Known>);

#[derive(Default)]
struct Known {
    heads: Heads,
    /// The first entry of each chain that is kept.
    first: BTreeMap<Chain, u64>,
    /// The last checkpoint of each chain, with its time.
    signed: BTreeMap<Chain, (u64, Timestamp)>,
}

impl AuditLog {
    pub(crate) fn heads(&self) -> Heads {
        self.0.read().heads.clone()
    }

    /// The numbers of the entries of a chain that are kept.
    pub(crate) fn kept(&self, chain: Chain) -> Range<u64> {
        let known = self.0.read();
        known.first.get(&chain).copied().unwrap_or(1)..known.heads.of(chain).number + 1
    }

    /// The last checkpoint of a chain, with its time.
    pub(crate) fn signed(&self, chain: Chain) -> Option<(u64, Timestamp)> {
        self.0.read().signed.get(&chain).copied()
    }

    /// Takes over the end of a chain. A restart may apply records again whose entries the store has.
    pub(super) fn note_head(&self, chain: Chain, head: Head) {
        let mut known = self.0.write();
        let first = known.first.entry(chain).or_insert(head.number);
        *first = head.number.min(*first);
        if head.number > known.heads.of(chain).number {
            known.heads.set(chain, head);
        }
    }

    pub(super) fn note_checkpoint(&self, chain: Chain, number: u64, time: Timestamp) {
        let mut known = self.0.write();
        let last = known.signed.entry(chain).or_insert((number, time));
        if number >= last.0 {
            *last = (number, time);
        }
    }

    /// Forgets the entries before this one, and returns the numbers that they had.
    pub(super) fn expire(&self, chain: Chain, before: u64) -> Range<u64> {
        let mut known = self.0.write();
        let first = known.first.entry(chain).or_insert(before);
        let gone = *first..before;
        *first = before.max(*first);
        gone
    }
}

impl Shared {
    /// Finds the ends of all chains at a start.
    pub(super) fn load_audit(&self) -> Result<(), String> {
        // The first of a chain, and then its last: of a long one nothing else is read.
        let mut chains = Vec::new();
        let mut behind = None;
        while let Some(first) = self.first_entry_behind(behind.take())? {
            behind = Some(entry_key(first.entry.said.chain, u64::MAX));
            chains.push(first);
        }
        for first in chains {
            let chain = first.entry.said.chain;
            let last = self.entries(chain, None, First::Newest, 1)?.pop().unwrap_or_else(|| first.clone());
            let signed = self.numbered(KeyKind::AuditCheckpoint, chain, None, First::Newest, 1)?;
            let mut known = self.audit.0.write();
            known.first.insert(chain, first.entry.number);
            known.heads.set(chain, Head { number: last.entry.number, hash: last.hash });
            known.signed.extend(
                signed
                    .into_iter()
                    .map(|CheckpointRecord { chain, number, time, .. }| (chain, (number, time))),
            );
        }
        Ok(())
    }

    fn first_entry_behind(&self, behind: Option<Key>) -> Result<Option<KeptEntry>, String> {
        let mut found = None;
        self.each_in(&KeyRange::all(KeyKind::AuditEntry), behind, |_, entry: KeptEntry| {
            found = Some(entry);
            false
        })?;
        Ok(found)
    }

    /// At most so many entries of a chain behind a number, or before it where the newest come first.
    pub(crate) fn entries(
        &self,
        chain: Chain,
        after: Option<u64>,
        first: First,
        most: usize,
    ) -> Result<Vec<KeptEntry>, String> {
        let after = after.map(|number| entry_key(chain, number));
        self.numbered(KeyKind::AuditEntry, chain, after, first, most)
    }

    /// The same of what else has numbers in a chain.
    fn numbered<T: DeserializeOwned>(
        &self,
        kind: KeyKind,
        chain: Chain,
        after: Option<Key>,
        first: First,
        most: usize,
    ) -> Result<Vec<T>, String> {
        let range = KeyRange::numbered(kind, chain.number());
        let range = match first {
            First::Oldest => range,
            First::Newest => range.reversed(),
        };
        let (found, _) =
            self.overlay.scan(&range, after.as_ref(), most).map_err(|error| error.to_string())?;
        found
            .into_iter()
            .map(|(key, value)| decode(&value).map_err(|error| format!("{key}: {error}")))
            .collect()
    }

    /// At most so many checkpoints of the chains that are wanted, behind the key of one.
    pub(crate) fn checkpoints(
        &self,
        behind: Option<(Chain, u64)>,
        most: usize,
        wanted: impl Fn(Chain) -> bool,
    ) -> Result<Vec<CheckpointRecord>, String> {
        let mut found = Vec::new();
        let behind = behind.map(|(chain, number)| checkpoint_key(chain, number));
        self.each_in(&KeyRange::all(KeyKind::AuditCheckpoint), behind, |_, one: CheckpointRecord| {
            if wanted(one.chain) {
                found.push(one);
            }
            found.len() < most
        })?;
        Ok(found)
    }

    /// The entries before this one that are too old, as the number of the first that stays; the last one always does.
    pub(crate) fn first_entry_since(
        &self,
        chain: Chain,
        before: Timestamp,
        most: usize,
    ) -> Result<u64, String> {
        let kept = self.audit.kept(chain);
        let (mut first, mut seen) = (kept.start, 0);
        while first + 1 < kept.end && seen < most {
            let page = self.entries(chain, first.checked_sub(1), First::Oldest, AT_ONCE)?;
            seen += page.len();
            match page.iter().find(|one| one.entry.time >= before || one.entry.number + 1 >= kept.end) {
                Some(stays) => return Ok(stays.entry.number),
                None => first = page.last().map_or(kept.end - 1, |last| last.entry.number + 1),
            }
        }
        Ok(first)
    }
}
