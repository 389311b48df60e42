//! `ironloom pause`.

use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::{Global, output};
use crate::api::JSON_TYPE;

/// Pauses an installation: its readings wait.
#[derive(Args, Debug)]
pub(super) struct Pause {
    /// The installation
    id: String,
}

impl Pause {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/pause", segment(&self.id));
        let answer = global.client()?.post(&path, &[], JSON_TYPE, b"{}")?;
        output::done_with(global, &answer, &format!("{} is paused", self.id))
    }
}
