//! `ironloom reset`.

use clap::Args;

use super::client::{flag, segment};
use super::failure::Outcome;
use super::{Global, install, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{Reset as Answered, StartFrom};
use ironloom_types::text::clean;

/// Starts an installation over, with nothing in its state. What it makes of readings that it has dealt with before isn't
/// published again; the state before is kept for a week.
#[derive(Args, Debug)]
pub(super) struct Reset {
    /// The installation
    id: String,
    /// Where to start in the journal: now, beginning, or an RFC 3339 time
    #[arg(long, value_name = "WHERE")]
    from: String,
    /// Only show how many readings it would begin with
    #[arg(long)]
    dry_run: bool,
}

impl Reset {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let from: StartFrom =
            self.from.parse().map_err(|error| install::misuse(format!("--from: {error}")))?;
        let path = format!("/v1/installations/{}/reset", segment(&self.id));
        let query = [("from", Some(from.to_string())), flag("dry-run", self.dry_run)];
        let answer = global.client()?.post(&path, &query, JSON_TYPE, b"{}")?;
        output::one(global, &answer, |reset: Answered| text(&reset, self.dry_run))
    }
}

fn text(reset: &Answered, dry_run: bool) -> String {
    let mut out: String =
        reset.warnings.iter().map(|warning| format!("warning: {}\n", clean(warning))).collect();
    let at_least = if reset.backlog_at_least { "at least " } else { "" };
    let (id, backlog) = (&reset.installation.id, output::counted(reset.backlog, "reading"));
    let begins = format!("begins with {at_least}{backlog} of the journal");
    out += &if dry_run {
        format!("nothing is reset; {id} {begins}\n")
    } else {
        format!("{id} is reset, to generation {}; it {begins}\n", reset.installation.generation)
    };
    out
}
