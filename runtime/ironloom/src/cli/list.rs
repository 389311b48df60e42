//! `ironloom list`.

use clap::Args;

use super::failure::Outcome;
use super::{Global, PageArgs, output, show};
use crate::api::facade::Installation;

/// Lists installations.
#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    page: PageArgs,
}

impl List {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
        let header = [
            "id",
            "app",
            "version",
            "state",
            "readings",
            "behind",
            "failures",
            "dead letters",
            "left out",
            "derived",
        ];
        output::list(global, "/v1/installations", &query, &header, |item: Installation| {
            [
                item.id.to_string(),
                item.app.to_string(),
                item.version.clone(),
                show::state(&item),
                item.counters.readings.to_string(),
                show::behind(&item.lag),
                item.counters.failures.to_string(),
                item.dead_letters_kept.to_string(),
                item.left_out.points.to_string(),
                item.counters.derived.to_string(),
            ]
        })
    }
}
