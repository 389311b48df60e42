//! `ironloom connectors`.

use clap::Args;

use super::failure::Outcome;
use super::{Global, output};
use crate::api::facade::ConnectorStatus;

/// Lists connectors and their status.
#[derive(Args, Debug)]
pub(super) struct Connectors {}

impl Connectors {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let header = ["name", "kind", "state", "readings", "lowered", "skipped", "last error"];
        output::list(global, "/v1/connectors", &[], &header, |item: ConnectorStatus| {
            let error = item.last_error.unwrap_or_default();
            let counts = [item.readings, item.lowered, item.skipped].map(|count| count.to_string());
            let [readings, lowered, skipped] = counts;
            let error = output::shorten_last(&error);
            [item.name, item.kind, item.state, readings, lowered, skipped, error]
        })
    }
}
