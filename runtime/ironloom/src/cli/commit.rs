//! `ironloom commit`.

use clap::Args;

use super::Global;
use super::client::segment;
use super::failure::Outcome;
use super::output;
use crate::api::JSON_TYPE;
use crate::api::facade::Installation;

/// Makes an upgrade final: it can't be rolled back any more. The server does it by itself after [copies] commit_after.
#[derive(Args, Debug)]
pub(super) struct Commit {
    /// The installation
    id: String,
}

impl Commit {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/commit", segment(&self.id));
        let answer = global.client()?.post(&path, &[], JSON_TYPE, b"{}")?;
        output::one(global, &answer, |Installation { id, version, .. }: Installation| {
            format!("the upgrade of {id} to version {version} is final\n")
        })
    }
}
