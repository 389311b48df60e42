//! `ironloom rollback`.

use clap::Args;

use super::Global;
use super::client::{flag, segment};
use super::failure::Outcome;
use super::output;
use crate::api::JSON_TYPE;
use crate::api::facade::{RollbackRequest, RolledBack};
use ironloom_types::ids::Digest;
use ironloom_types::text::clean;

/// Goes back to the version and the state from before an upgrade, and takes the readings since then again. What it makes of
/// them isn't published again. The state until now is kept for a week.
#[derive(Args, Debug)]
pub(super) struct Rollback {
    /// The installation
    id: String,
    /// Take no readings again: the old version goes on from here, without what came since the upgrade
    #[arg(long)]
    keep_cursor: bool,
    /// Give back the rights that were taken away since, as a dry run has shown them with this digest
    #[arg(long, value_name = "DIGEST")]
    consent: Option<Digest>,
    /// Only show how many readings it would take again, and which rights come back
    #[arg(long)]
    dry_run: bool,
}

impl Rollback {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/rollback", segment(&self.id));
        let query = [flag("keep-cursor", self.keep_cursor), flag("dry-run", self.dry_run)];
        let body = serde_json::to_vec(&RollbackRequest { consent: self.consent });
        let body = body.map_err(anyhow::Error::from)?;
        let answer = global.client()?.post(&path, &query, JSON_TYPE, &body)?;
        output::one(global, &answer, |rolled_back: RolledBack| text(&rolled_back, self.dry_run))
    }
}

fn text(rolled_back: &RolledBack, dry_run: bool) -> String {
    let RolledBack { installation, to, again, again_at_least, warnings, wider, consent } = rolled_back;
    let mut out: String = warnings.iter().map(|warning| format!("warning: {}\n", clean(warning))).collect();
    if dry_run && !wider.is_empty() {
        out += "these rights were taken away, and come back:\n";
        wider.iter().for_each(|right| out += &format!("  {}\n", clean(right)));
        out += &format!("--consent {consent} gives them back\n");
    }
    let at_least = if *again_at_least { "at least " } else { "" };
    let (id, again) = (&installation.id, output::counted(*again, "reading"));
    let takes = format!("takes {at_least}{again} again");
    let to = clean(to);
    out += &if dry_run {
        format!("nothing is rolled back; {id} goes back to version {to} and {takes}\n")
    } else {
        let generation = installation.generation;
        format!("{id} is rolled back to version {to}, generation {generation}; it {takes}\n")
    };
    out
}
