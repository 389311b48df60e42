//! `ironloom grants`: rights that an app doesn't need.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::client::{flag, segment};
use super::consent::confirm;
use super::failure::Outcome;
use super::{Global, output, set};
use crate::api::JSON_TYPE;
use crate::api::facade::{Installation, NeverUsed, Patterns, Revised, RevisionRequest};
use ironloom_types::ids::SlotName;
use ironloom_types::text::clean;

/// Takes rights away that an app has never used.
#[derive(Args, Debug)]
pub(super) struct Grants {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take away patterns without a point that ever gave a reading, and grants of set-points that were never asked for:
    /// what `ironloom show` lists. Asks, unless --yes
    Trim {
        /// The installation
        id: String,
        /// Don't ask: an app only loses by it
        #[arg(long)]
        yes: bool,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
}

impl Grants {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let What::Trim { id, yes, dry_run } = self.what;
        let client = global.client()?;
        let path = format!("/v1/installations/{}", segment(&id));
        let now: Installation = client.get(&path, &[])?.read()?;
        let unused: NeverUsed = client.get(&format!("{path}/never-used"), &[])?.read()?;
        if unused.invocations == 0 {
            return output::done(
                global,
                &format!("{id} hasn't run yet, so nobody knows what it doesn't use"),
            );
        }
        let request = trimmed(&now, &unused);
        if request.bindings.is_empty() && request.grants.outputs.is_empty() {
            return output::done(
                global,
                &format!("{id} has no pattern and no grant that could be taken away"),
            );
        }
        let body = serde_json::to_string(&request).context("the request can't be written")?;
        let send = |dry_run| client.patch(&path, &[flag("dry-run", dry_run)], JSON_TYPE, body.as_bytes());
        if !dry_run && !yes {
            let shown: Revised = send(true)?.read()?;
            confirm(&set::text(&shown, true), "Take it away?", "--yes takes it away all the same")?;
        }
        output::one(global, &send(dry_run)?, |revised: Revised| set::text(&revised, dry_run))
    }
}

/// The change to rights without those that were never used. An input keeps one pattern: whether it is needed at all says
/// its app.
fn trimmed(now: &Installation, unused: &NeverUsed) -> RevisionRequest {
    let mut bindings = BTreeMap::new();
    for (name, patterns) in &now.bindings {
        let is_unused = |pattern: &String| {
            unused
                .inputs
                .iter()
                .any(|one| one.input == name.as_str() && one.pattern == *pattern && one.unused == one.points)
        };
        let left: Vec<String> =
            patterns.as_slice().iter().filter(|pattern| !is_unused(pattern)).cloned().collect();
        if !left.is_empty() && left.len() < patterns.as_slice().len() {
            bindings.insert(name.clone(), Some(Patterns::Many(left)));
        }
    }
    let granted =
        now.grants.outputs.keys().filter(|name| unused.outputs.iter().any(|one| one == name.as_str()));
    let outputs: BTreeMap<SlotName, _> = granted.map(|name| (name.clone(), None)).collect();
    let mut request =
        RevisionRequest { bindings, revision: Some(unused.revision), ..RevisionRequest::default() };
    request.grants.outputs = outputs;
    request
}

/// Rights that were never used, a fact on each line, as `show` has them; nothing where it says little yet.
pub(super) fn lines(unused: &NeverUsed) -> String {
    let mut out = String::new();
    if unused.invocations == 0 {
        return out;
    }
    let mut line = |text: String| out.push_str(&format!("{:<14}{}\n", "never used", clean(&text)));
    for one in &unused.inputs {
        let (input, pattern, points) = (&one.input, &one.pattern, output::counted(one.points, "point"));
        line(match (one.points, one.unused) {
            (0, _) => format!("{input} = {pattern}, which no point matches"),
            (all, unused) if all == unused => format!("{input} = {pattern}: none of {points} gave a reading"),
            (_, unused) => {
                format!(
                    "{input} = {pattern}: {unused} of {points} gave no reading, such as {}",
                    one.samples.join(", ")
                )
            }
        });
    }
    unused.outputs.iter().for_each(|name| line(format!("output {name}")));
    unused.capabilities.iter().for_each(|one| line(format!("capability {}", one.name())));
    out
}
