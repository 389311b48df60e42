//! `ironloom invocations`.

use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::facade::Invocation;

/// Lists an installation's invocations, oldest first.
#[derive(Args, Debug)]
pub struct Invocations {
    /// The installation
    id: String,
    #[command(flatten)]
    page: PageArgs,
}

impl Invocations {
    /// Runs it.
    pub fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/invocations", segment(&self.id));
        let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
        let header = ["ordinal", "kind", "time", "readings", "revision", "outcome", "digest"];
        output::list(global, &path, &query, &header, |item: Invocation| {
            let range = match (item.first, item.last) {
                (Some(first), Some(last)) => format!("{first}..{last}"),
                _ => String::new(),
            };
            [
                item.ordinal.to_string(),
                item.kind,
                item.time.to_string(),
                range,
                item.revision.to_string(),
                item.outcome,
                item.digest.map_or(String::new(), |digest| digest.hex()[..12].to_owned()),
            ]
        })
    }
}
