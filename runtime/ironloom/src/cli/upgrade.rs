//! `ironloom upgrade`.

use clap::Args;

use super::Global;
use super::consent::Consenting;
use super::failure::Outcome;
use super::rehearse::Condition;
use super::set::{Change, To};

/// Gives an installation another version of its app: what it has stays, and so does its state. What else the
/// version needs is given by flags.
#[derive(Args, Debug)]
pub(super) struct Upgrade {
    /// The installation
    id: String,
    /// The package: a file, the digest (sha256:…) of one that the server has, or an app of a catalog, as
    /// [CATALOG/]ID[@VERSION]. May be named in the file of --with instead
    package: Option<String>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    condition: Condition,
    #[command(flatten)]
    consenting: Consenting,
}

impl Upgrade {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let condition = self.condition.is_given()?.then_some(&self.condition);
        let to = Some(To(self.package.as_deref()));
        self.change.run(global, &self.id, to, condition, Some(&self.consenting))
    }
}
