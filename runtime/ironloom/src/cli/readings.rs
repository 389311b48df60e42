//! `ironloom readings`.

use clap::Args;

use super::failure::Outcome;
use super::listing::{List, Listing};
use super::{Global, output};
use crate::api::NDJSON_TYPE;
use crate::api::facade::ReadingItem;

/// Reads the journal back, oldest first or, with --last and --since, newest first.
#[derive(Args, Debug)]
pub(super) struct Readings {
    #[command(flatten)]
    which: Which,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// The readings to show.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// Only of this point
    #[arg(long, value_name = "PATH")]
    point: Option<String>,
    /// Only with this `at` or a later one (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only with an earlier `at`
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

impl Which {
    /// Shows a list of readings; `query` is what is asked for besides.
    pub(super) fn show<const N: usize>(
        self,
        global: &Global,
        path: &str,
        mut query: Vec<(&'static str, Option<String>)>,
        header: [&str; N],
        row: fn(ReadingItem) -> [String; N],
    ) -> Outcome {
        query.extend([("point", self.point), ("from", self.from), ("to", self.to)]);
        let list = List {
            path,
            query,
            header,
            place: |item: &ReadingItem| (item.sequence.0, 0),
            time: |item| item.time,
            row,
        };
        self.listing.show(global, &list)
    }
}

impl Readings {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = "/v1/readings";
        if !self.csv && !(global.json && self.which.listing.is_page()) {
            return self.which.show(global, path, Vec::new(), output::READING, output::reading);
        }
        // As the server writes them.
        let form = if self.csv { "text/csv" } else { NDJSON_TYPE };
        let Which { point, from, to, listing } = self.which;
        let query = vec![("point", point), ("from", from), ("to", to)];
        listing.each_text(global, path, query, form, |answer| {
            if self.csv { output::lines(answer) } else { output::json_text(answer) }
        })
    }
}
