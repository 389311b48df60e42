//! `ironloom copies`.

use clap::Args;

use super::Global;
use super::client::segment;
use super::failure::Outcome;
use super::{output, status};
use crate::api::facade::{Copies as Answered, CopyItem};

/// Lists the copies of an installation's state, the oldest first, with the quota.
#[derive(Args, Debug)]
pub(super) struct Copies {
    /// The installation
    id: String,
}

impl Copies {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/copies", segment(&self.id));
        let answer = global.client()?.get(&path, &[])?;
        output::one(global, &answer, |copies: Answered| text(&copies))
    }
}

fn text(copies: &Answered) -> String {
    let Answered { items, max_number, bytes, max_bytes } = copies;
    let columns = ["COPY", "AT", "REASON", "VERSION", "CURSOR", "SIZE", "ROLLBACK"];
    let rows =
        items.iter().map(|CopyItem { generation, at, reason, version, cursor, bytes, rollback, .. }| {
            vec![
                generation.to_string(),
                at.to_string(),
                reason.name().to_owned(),
                version.clone(),
                cursor.to_string(),
                status::size(*bytes),
                if *rollback { "to this".to_owned() } else { String::new() },
            ]
        });
    let table = output::table(&columns, rows);
    let (used, most) = (status::size(*bytes), status::size(*max_bytes));
    format!("{table}{} of {max_number}; those of all installations have {used} of {most}\n", items.len())
}
