//! `ironloom dead-letters`.

use clap::{Args, Subcommand};

use super::client::segment;
use super::failure::{Failure, Outcome};
use super::listing::{List, Listing};
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::DeadLetter;

/// Lists readings that were set aside, runs them again, or deletes them.
#[derive(Args, Debug)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them. They have no time of their own, so --since doesn't go with them: --last does
    List {
        /// The installation
        id: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Run some of them again, each by itself
    Requeue(Chosen),
    /// Delete some of them
    Delete(Chosen),
}

#[derive(Args, Debug)]
struct Chosen {
    /// The installation
    id: String,
    /// Numbers of the dead letters
    #[arg(required = true)]
    numbers: Vec<u64>,
}

impl DeadLetters {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        match self.what {
            What::List { id, listing } => {
                if listing.is_since() {
                    return Err(Failure::Misuse(
                        "dead letters have no time of their own, only that of the reading; use --last N"
                            .to_owned(),
                    ));
                }
                let path = format!("/v1/installations/{}/dead-letters", segment(&id));
                let row = |item: DeadLetter| {
                    [
                        item.number.to_string(),
                        item.reading.point.to_string(),
                        output::shorten(&item.reading.value.to_string()),
                        item.reading.at.to_string(),
                        item.ordinal.to_string(),
                        output::shorten(&item.reason),
                    ]
                };
                let list = List {
                    path: &path,
                    query: Vec::new(),
                    header: ["number", "point", "value", "at", "invocation", "reason"],
                    place: |item: &DeadLetter| (item.number, 0),
                    time: |item| item.reading.time,
                    row,
                };
                listing.show(global, &list)
            }
            What::Requeue(Chosen { id, numbers }) => output::each(numbers, |number| {
                let path = format!("/v1/installations/{}/dead-letters/{number}/requeue", segment(&id));
                client.post(&path, &[], JSON_TYPE, b"{}")?;
                output::done(global, &format!("{number} will run again"))
            }),
            What::Delete(Chosen { id, numbers }) => output::each(numbers, |number| {
                client.delete(&format!("/v1/installations/{}/dead-letters/{number}", segment(&id)), &[])?;
                output::done(global, &format!("{number} is deleted"))
            }),
        }
    }
}
