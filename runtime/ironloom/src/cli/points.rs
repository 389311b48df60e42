//! `ironloom points`.

use clap::Args;

use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::facade::PointItem;

/// Lists points with their latest readings.
#[derive(Args, Debug)]
pub(super) struct Points {
    /// Only points whose path starts with this
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl Points {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let query = [
            ("prefix", self.prefix),
            ("after", self.page.after),
            ("limit", Some(self.page.limit.to_string())),
        ];
        let header = ["point", "value", "unit", "quality", "at", "sequence"];
        output::list(global, "/v1/points", &query, &header, |item: PointItem| {
            [
                item.point.to_string(),
                output::shorten(&item.value.to_string()),
                item.unit.map_or(String::new(), |unit| unit.to_string()),
                item.quality.name().to_owned(),
                item.at.to_string(),
                item.sequence.to_string(),
            ]
        })
    }
}
