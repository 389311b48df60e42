//! `ironloom list`.

use clap::Args;

use super::failure::Outcome;
use super::{Global, PageArgs, output, show};
use crate::api::facade::{Installation, KeptState};

/// Lists installations, or what is kept of those that are gone.
#[derive(Args, Debug)]
pub(super) struct List {
    /// List the states that are kept of installations that were uninstalled or reset: `install --adopt` goes on with one,
    /// `uninstall --purge` removes it
    #[arg(long)]
    gone: bool,
    #[command(flatten)]
    page: PageArgs,
}

impl List {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
        if self.gone {
            return gone(global, &query);
        }
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
                show::version(&item),
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

fn gone(global: &Global, query: super::client::Query<'_>) -> Outcome {
    let header = ["id", "generation", "state", "app", "version", "bytes", "ended", "kept until"];
    output::list(global, "/v1/kept", query, &header, |item: KeptState| {
        let shown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            item.id.to_string(),
            item.generation.to_string(),
            item.state.name().to_owned(),
            shown(item.app.map(|app| app.to_string())),
            shown(item.version),
            shown(item.bytes.map(|bytes| bytes.to_string())),
            item.ended.to_string(),
            shown(item.until.map(|until| until.to_string())),
        ]
    })
}
