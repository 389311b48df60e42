//! Asking for consent: what an app gets is shown, and somebody says yes, or has said so in a file.

mod pins;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;

use self::pins::Pins;
use super::failure::{Failure, Outcome};
use super::output;
use crate::api::facade::Consent;
use ironloom_types::ids::InstallationId;
use ironloom_types::text::clean;

/// Installations that are shown one by one before somebody is asked.
const MOST_SHOWN: usize = 20;

/// The ways to consent.
#[derive(Args, Debug)]
pub(super) struct Consenting {
    /// Don't ask: the file of --grants says what it may get
    #[arg(long, requires = "grants")]
    yes: bool,
    /// Refuse what goes beyond the rights in this file, which --dry-run --write-grants has written
    #[arg(long, value_name = "FILE")]
    grants: Option<PathBuf>,
    /// Write what it would get into a new file, for --grants
    #[arg(long, value_name = "FILE", requires = "dry_run", conflicts_with = "grants")]
    write_grants: Option<PathBuf>,
}

impl Consenting {
    /// Keeps what a dry run has shown, where that is wanted.
    pub(super) fn keep<'c>(&self, all: impl Iterator<Item = (&'c InstallationId, &'c Consent)>) -> Outcome {
        let Some(path) = &self.write_grants else { return Ok(()) };
        output::check_new(path)?;
        Pins::of(all).write(path)
    }

    /// Has somebody consent to all of it, or says why nobody does. Each warning is a line that stands before the question.
    pub(super) fn ask(
        &self,
        all: &[(&InstallationId, &Consent)],
        warnings: &[String],
        question: &str,
    ) -> Outcome {
        if let Some(path) = &self.grants {
            Pins::read(path)?.check(all, path)?;
        }
        if self.yes {
            return Ok(());
        }
        let mut shown = String::new();
        for (id, consent) in all.iter().take(MOST_SHOWN) {
            let Consent { version, package, rights, .. } = *consent;
            let (app, publisher) = (&rights.app, &rights.publisher);
            shown.push_str(&format!(
                "{id}: {app} {}, {package}, publisher {publisher}\n{}",
                clean(version),
                lines(consent)
            ));
        }
        if all.len() > MOST_SHOWN {
            let more = all.len() - MOST_SHOWN;
            shown.push_str(&format!("and {more} more: --dry-run --json shows all of them\n"));
        }
        warnings.iter().for_each(|line| shown.push_str(&format!("{line}\n")));
        confirm(
            &shown,
            question,
            "Look at what it gets, keep it in a file with --dry-run --write-grants FILE, and do this again with --yes \
             --grants FILE",
        )
    }

    /// Says if a file pins the rights.
    pub(super) fn has_file(&self) -> bool {
        self.grants.is_some()
    }

    /// Says whether somebody can consent: at a terminal, or by a file.
    pub(super) fn can_ask(&self) -> bool {
        self.yes || io::stdin().is_terminal()
    }
}

/// Shows something beside the result, which is on stdout, and has somebody say yes to it. `otherwise` says what to do
/// where nobody is at a terminal.
pub(super) fn confirm(shown: &str, question: &str, otherwise: &str) -> Outcome {
    let mut out = io::stderr().lock();
    let _ = out.write_all(shown.as_bytes());
    if !io::stdin().is_terminal() {
        return Err(Failure::Misuse(format!("nobody is here to be asked. {otherwise}")));
    }
    let _ = write!(out, "{question} [y/N] ").and_then(|()| out.flush());
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Other(anyhow::anyhow!("nobody has consented, and nothing is changed"))),
    }
}

/// Warnings, a line for each.
pub(super) fn warnings(all: &[String]) -> Vec<String> {
    all.iter().map(|warning| format!("warning: {}", clean(warning))).collect()
}

/// The rights that it gets, a fact on each line, as `show` has them.
pub(super) fn lines(consent: &Consent) -> String {
    let gets = consent.gets.iter().map(|text| ("gets", text.clone()));
    let refused = consent.refused.iter().map(|one| ("refused", format!("{}: {}", one.text, one.by.words())));
    let mut out = String::new();
    for (name, text) in gets.chain(refused) {
        out.push_str(&format!("{name:<14}{}\n", clean(&text)));
    }
    warnings(&consent.warnings).iter().for_each(|line| out.push_str(&format!("{line}\n")));
    out
}
