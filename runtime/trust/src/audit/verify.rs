//! Checks chains, entry by entry, and names what was changed, removed or put elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Chain, Checkpoint, Entry, Head};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Digest;

/// Faults that are named; more of them say nothing more.
const MOST_FAULTS: usize = 100;

/// A place where a chain isn't as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{chain}: entry {number} was changed: its hash doesn't match its contents")]
    Changed { chain: Chain, number: u64 },
    #[error("{chain}: {} missing", numbers(*.from, *.to))]
    Missing { chain: Chain, from: u64, to: u64 },
    #[error("{chain}: entry {number} stands behind entry {after}: it was moved, or is there twice")]
    OutOfPlace { chain: Chain, number: u64, after: u64 },
    #[error(
        "{chain}: entry {number} doesn't follow entry {}: one of the two was replaced", number - 1
    )]
    NotLinked { chain: Chain, number: u64 },
    #[error(
        "{chain}: entry {number} isn't the one that the checkpoint of {time} is about: the entries up to it were written anew"
    )]
    Rewritten { chain: Chain, number: u64, time: Timestamp },
    #[error("{chain}: the end is cut off: {} missing, which the checkpoint of {time} has", numbers(*.from, *.to))]
    CutOff { chain: Chain, from: u64, to: u64, time: Timestamp },
    #[error("{chain}: two checkpoints disagree about entry {number}")]
    Contradiction { chain: Chain, number: u64 },
}

fn numbers(from: u64, to: u64) -> String {
    if from == to { format!("entry {from} is") } else { format!("entries {from} to {to} are") }
}

/// The entries of a chain that were seen, and how far checkpoints vouch for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub chain: Chain,
    /// The first entry; those before it are past their retention, or were left out.
    pub first: u64,
    pub last: u64,
    /// The last entry that a checkpoint is about, with its time, as far as nothing before it is wrong.
    pub signed: Option<(u64, Timestamp)>,
    /// Something is wrong behind that.
    pub is_faulty: bool,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, first, last, signed, is_faulty } = self;
        write!(f, "{chain}: entries {first} to {last}")?;
        match signed {
            Some((number, time)) => write!(f, ", complete up to checkpoint {number} of {time}")?,
            None if *is_faulty => f.write_str(", complete up to no checkpoint")?,
            None => f.write_str(", without a checkpoint")?,
        }
        if *is_faulty {
            return f.write_str("; something is wrong behind that");
        }
        let behind = last - signed.map_or(first - 1, |(number, _)| number);
        if behind > 0 { write!(f, "; {behind} later ones have no checkpoint yet") } else { Ok(()) }
    }
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub spans: Vec<Span>,
    pub faults: Vec<Fault>,
    /// Faults beyond those that are named.
    pub more_faults: usize,
}

/// The chain that is being read.
struct Reading {
    first: u64,
    last: Head,
    /// The last entry that a checkpoint is about, before anything that is wrong.
    signed: Option<(u64, Timestamp)>,
}

impl Fault {
    fn chain(&self) -> Chain {
        match self {
            Self::Changed { chain, .. }
            | Self::Missing { chain, .. }
            | Self::OutOfPlace { chain, .. }
            | Self::NotLinked { chain, .. }
            | Self::Rewritten { chain, .. }
            | Self::CutOff { chain, .. }
            | Self::Contradiction { chain, .. } => *chain,
        }
    }
}

/// Checks entries in the order in which they were exported: each chain from its beginning.
#[derive(Default)]
pub struct Verifier {
    checkpoints: BTreeMap<Chain, BTreeMap<u64, (Digest, Timestamp)>>,
    chains: BTreeMap<Chain, Reading>,
    /// Those with a fault.
    faulty: BTreeSet<Chain>,
    found: Verified,
}

impl Verifier {
    pub fn new() -> Self {
        Self::default()
    }

    fn fault(&mut self, fault: Fault) {
        self.faulty.insert(fault.chain());
        if self.found.faults.len() < MOST_FAULTS {
            self.found.faults.push(fault);
        } else {
            self.found.more_faults += 1;
        }
    }

    /// Takes a checkpoint; all of them come before the entries.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let Checkpoint { chain, head, time, .. } = checkpoint;
        let of_chain = self.checkpoints.entry(*chain).or_default();
        let known = of_chain.entry(head.number).or_insert((head.hash, *time));
        if known.0 != head.hash {
            self.fault(Fault::Contradiction { chain: *chain, number: head.number });
        }
    }

    /// Takes the next entry, with the hash that is written beside it.
    pub fn entry(&mut self, entry: &Entry, hash: Digest) {
        let (chain, number) = (entry.said.chain, entry.number);
        let is_as_written = entry.hash() == hash;
        if !is_as_written {
            self.fault(Fault::Changed { chain, number });
        }
        let before = self.chains.get(&chain).map(|reading| reading.last);
        if let Some(before) = before {
            if number <= before.number {
                self.fault(Fault::OutOfPlace { chain, number, after: before.number });
                return;
            }
            if number > before.number + 1 {
                self.fault(Fault::Missing { chain, from: before.number + 1, to: number - 1 });
            } else if entry.previous != before.hash {
                self.fault(Fault::NotLinked { chain, number });
            }
        } else {
            self.begins(entry);
        }
        let signed = self.checkpoints.get(&chain).and_then(|all| all.get(&number)).copied();
        if let Some((head, time)) = signed
            && head != hash
        {
            self.fault(Fault::Rewritten { chain, number, time });
        }
        let last = Head { number, hash };
        let reading = self.chains.entry(chain).or_insert(Reading { first: number, last, signed: None });
        reading.last = last;
        if let Some((_, time)) = signed
            && !self.faulty.contains(&chain)
        {
            reading.signed = Some((number, time));
        }
    }

    /// Holds the first entry that is there against the beginning of its chain, or a checkpoint right before it.
    fn begins(&mut self, entry: &Entry) {
        let (chain, number) = (entry.said.chain, entry.number);
        let Some(before) = number.checked_sub(1) else {
            self.fault(Fault::Changed { chain, number });
            return;
        };
        let known = self.checkpoints.get(&chain).and_then(|all| all.get(&before));
        let expected = if before == 0 { Some(Head::NONE.hash) } else { known.map(|(head, _)| *head) };
        if expected.is_some_and(|expected| expected != entry.previous) {
            self.fault(Fault::NotLinked { chain, number });
        }
    }

    /// Ends the check: every checkpoint must be about an entry that was there, or that is before the first one.
    pub fn finish(mut self) -> Verified {
        for (chain, all) in std::mem::take(&mut self.checkpoints) {
            let last = self.chains.get(&chain).map_or(0, |reading| reading.last.number);
            if let Some((number, (_, time))) =
                all.into_iter().next_back().filter(|(number, _)| *number > last)
            {
                self.fault(Fault::CutOff { chain, from: last + 1, to: number, time });
            }
        }
        let faulty = self.faulty;
        let spans = self.chains.into_iter().map(|(chain, reading)| Span {
            is_faulty: faulty.contains(&chain),
            chain,
            first: reading.first,
            last: reading.last.number,
            signed: reading.signed,
        });
        Verified { spans: spans.collect(), ..self.found }
    }
}
