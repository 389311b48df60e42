//! `ironloom invocations`.

use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::listing::{List, Listing};
use super::{Global, output};
use crate::api::facade::Invocation;

/// Lists an installation's invocations, oldest first or, with --last and --since, newest first.
#[derive(Args, Debug)]
pub(super) struct Invocations {
    /// The installation
    id: String,
    #[command(flatten)]
    listing: Listing,
}

impl Invocations {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/invocations", segment(&self.id));
        let header = ["ordinal", "attempt", "kind", "of", "time", "revision", "outcome", "digest", "message"];
        let row = |item: Invocation| {
            let of = match (item.first, item.last, item.timer, item.dead_letter) {
                (Some(first), Some(last), ..) => format!("{first}..{last}"),
                (_, _, Some(timer), _) => timer,
                (_, _, _, Some(number)) => number.to_string(),
                _ => String::new(),
            };
            [
                item.ordinal.to_string(),
                item.attempt.to_string(),
                item.kind,
                of,
                item.time.to_string(),
                item.revision.to_string(),
                item.outcome,
                item.digest.map_or(String::new(), |digest| digest.hex()[..12].to_owned()),
                output::shorten_last(&item.message.unwrap_or_default()),
            ]
        };
        let list = List {
            path: &path,
            query: Vec::new(),
            header,
            place: |item: &Invocation| (item.ordinal.0, item.attempt),
            time: |item| item.time,
            row,
        };
        self.listing.show(global, &list)
    }
}
