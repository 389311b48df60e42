//! `ironloom outputs`.

use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::readings::Which;
use super::{Global, output};
use crate::api::facade::ReadingItem;

/// Shows what an installation's outputs gave, oldest first or, with --last and --since, newest first.
#[derive(Args, Debug)]
pub(super) struct Outputs {
    /// The installation
    id: String,
    /// Only of this output
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    #[command(flatten)]
    which: Which,
}

impl Outputs {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let header = ["sequence", "time", "entity", "value", "quality", "at", "point"];
        let path = format!("/v1/installations/{}/outputs", segment(&self.id));
        self.which.show(global, &path, vec![("output", self.output)], header, |item: ReadingItem| {
            let entity = item.entity.clone().unwrap_or_default();
            let [sequence, time, point, value, quality, at] = output::reading(item);
            [sequence, time, entity, value, quality, at, point]
        })
    }
}
