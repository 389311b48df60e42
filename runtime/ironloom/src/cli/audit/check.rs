//! Checks an audit log, from a server or from a file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::failure::{Failure, Outcome};
use super::super::{Global, output};
use crate::api::facade::{AuditCheckpoint, AuditEntry};
use ironloom_trust::audit::{Checkpoint, Verified, Verifier};
use ironloom_trust::key::PublicKey;
use ironloom_types::text::{clean, listed};

/// The longest line of an export.
const MAX_LINE: u64 = 64 << 10;

/// A line of an export.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    Checkpoint(AuditCheckpoint),
    Entry(Box<AuditEntry>),
}

/// Shows `take` the lines of an export.
pub(super) fn each_line(path: &Path, mut take: impl FnMut(Line) -> Outcome) -> Outcome {
    let wrong = |number: u64, problem: String| {
        Failure::File(format!("{}:{number}: {}", path.display(), clean(&problem)))
    };
    let file = File::open(path).map_err(|error| Failure::File(format!("{}: {error}", path.display())))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| wrong(number, error.to_string()))? == 0 {
            break;
        }
        if !line.ends_with(b"\n") {
            let problem = format!("the line is cut off, or longer than {MAX_LINE} bytes");
            return Err(wrong(number, problem));
        }
        let parsed: Line = serde_json::from_slice(&line).map_err(|error| {
            wrong(number, format!("it is not a line of `ironloom audit export`: {error}"))
        })?;
        take(parsed)?;
    }
    Ok(())
}

/// An audit log that is being checked: checkpoints first, then entries.
pub(super) struct Exported {
    key: Option<PublicKey>,
    /// Whoever has signed checkpoints.
    keys: BTreeSet<PublicKey>,
    verifier: Verifier,
}

impl Exported {
    pub(super) fn new(key: Option<PublicKey>) -> Self {
        Self { key, keys: BTreeSet::new(), verifier: Verifier::new() }
    }

    /// Takes a checkpoint in; entries are for later.
    pub(super) fn checkpoint_of(&mut self, line: Line) -> Outcome {
        let Line::Checkpoint(checkpoint) = line else { return Ok(()) };
        let read = Checkpoint::read(&checkpoint.envelope, self.key).map_err(|error| {
            let which = format!("checkpoint {} of {}", checkpoint.number, checkpoint.chain);
            Failure::File(clean(&format!("{which}: {error}")).into())
        })?;
        self.keys.insert(read.key);
        self.verifier.checkpoint(&read);
        Ok(())
    }

    /// Takes an entry in.
    pub(super) fn entry_of(&mut self, line: Line) -> Outcome {
        let Line::Entry(entry) = line else { return Ok(()) };
        let read = entry.entry().map_err(|error| {
            Failure::File(clean(&format!("entry {} of {}: {error}", entry.number, entry.chain)).into())
        })?;
        self.verifier.entry(&read, entry.hash);
        Ok(())
    }

    /// Says what was found; fails where something is wrong.
    /// `of` is the file or the server that it is of.
    pub(super) fn show(self, global: &Global, of: &str) -> Outcome {
        if self.keys.is_empty() {
            let problem = format!("{of} has no checkpoint, so there is nothing to verify it by");
            return Err(Failure::File(problem));
        }
        let Verified { spans, faults, more_faults } = self.verifier.finish();
        let words: Vec<String> = spans.iter().map(|span| format!("{span}\n")).collect();
        let text = format!("{}checkpoints are signed by {}\n", words.concat(), listed(&self.keys));
        let shown: Vec<_> = spans
            .iter()
            .map(|span| {
                let (number, time) = span.signed.unzip();
                json!({"chain": span.chain.to_string(), "first": span.first, "last": span.last,
                    "complete_up_to": number, "signed": time})
            })
            .collect();
        let mut named: Vec<String> = faults.iter().map(ToString::to_string).collect();
        // Where somebody says whose signature counts, entries without one don't pass.
        let unsigned =
            spans.iter().filter(|span| self.key.is_some() && span.signed.is_none() && !span.is_faulty);
        named.extend(unsigned.map(|span| format!("{}: no checkpoint vouches for its entries", span.chain)));
        output::print_or_json(
            global,
            &text,
            || json!({"chains": shown, "keys": self.keys, "faults": named, "more_faults": more_faults}),
        )?;
        if named.is_empty() {
            if self.key.is_none() {
                output::note(
                    "this doesn't prove whose key it is: compare it with the one you noted, by --key KEY",
                );
            }
            return Ok(());
        }
        let mut lines = named.join("\n");
        if more_faults > 0 {
            lines.push_str(&format!("\nand {more_faults} more"));
        }
        Err(Failure::File(lines))
    }
}
