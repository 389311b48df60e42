//! `ironloom connectors`.

use clap::Args;

use super::failure::Outcome;
use super::{Global, output};
use crate::api::facade::ConnectorStatus;

/// Lists connectors and how they go.
#[derive(Args, Debug)]
pub struct Connectors {}

impl Connectors {
    /// Runs it.
    pub fn run(self, global: &Global) -> Outcome {
        let header = ["name", "kind", "state", "readings", "last error"];
        output::list(global, "/v1/connectors", &[], &header, |item: ConnectorStatus| {
            let error = item.last_error.unwrap_or_default();
            [item.name, item.kind, item.state, item.readings.to_string(), output::shorten(&error)]
        })
    }
}
