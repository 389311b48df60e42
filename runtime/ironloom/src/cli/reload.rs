//! `ironloom reload`.

use clap::Args;

use super::client::flag;
use super::failure::Outcome;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{ConfigChange, Reloaded};
use ironloom_types::text::clean;

/// Has the server read its configuration again and take what has changed, all of it or nothing.
#[derive(Args, Debug)]
pub(super) struct Reload {
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

impl Reload {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let query = [flag("dry-run", self.dry_run)];
        let answer = global.client()?.post("/v1/reload", &query, JSON_TYPE, b"{}")?;
        output::one(global, &answer, |reloaded: Reloaded| text(&reloaded))
    }
}

fn text(reloaded: &Reloaded) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let change =
        |ConfigChange { key, from, to }: &ConfigChange| format!("{key}: {} to {}", shown(from), shown(to));
    let mut lines: Vec<String> = reloaded.changes.iter().map(change).collect();
    if lines.is_empty() {
        lines.push("nothing has changed".to_owned());
    }
    lines.extend(reloaded.notes.iter().map(|note| format!("note: {note}")));
    lines.iter().map(|line| format!("{}\n", clean(line))).collect()
}
