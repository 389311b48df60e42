//! `ironloom uninstall`.

use clap::Args;

use super::client::{flag, segment};
use super::failure::Outcome;
use super::{Global, output};

/// Removes an installation. Its state and the points of its outputs are kept for a week, unless purged.
#[derive(Args, Debug)]
pub(super) struct Uninstall {
    /// The installation
    id: String,
    /// Delete its state and the points of its outputs at once, also after it was uninstalled
    #[arg(long)]
    purge: bool,
}

impl Uninstall {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}", segment(&self.id));
        global.client()?.delete(&path, &[flag("purge", self.purge)])?;
        output::done(global, &format!("{} is removed", self.id))
    }
}
