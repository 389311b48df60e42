//! `ironloom alarms history`.

use clap::Args;

use crate::api::facade::{Alarm, Page};
use crate::api::{CSV_TYPE, JSON_TYPE};
use crate::cli::failure::Outcome;
use crate::cli::{Global, listing, output};
use ironloom_apps::quantity::Span;

const PATH: &str = "/v1/alarms/history";
/// Episodes of one page where all are asked for.
const PAGE: usize = 1_000;

#[derive(Args, Debug)]
pub(super) struct History {
    /// Only of this installation, even if it is gone by now
    #[arg(long, value_name = "ID")]
    installation: Option<String>,
    /// Only of this alarm, by its name in the manifest
    #[arg(long, value_name = "ALARM")]
    code: Option<String>,
    /// Only of this entity
    #[arg(long, value_name = "ENTITY")]
    entity: Option<String>,
    /// Only of this severity or a higher one: low, medium, high or critical
    #[arg(long, value_name = "SEVERITY")]
    severity: Option<String>,
    /// Only since this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only since an earlier time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only what began no longer ago than this, such as "1 h"
    #[arg(long, value_name = "SPAN", conflicts_with = "from")]
    since: Option<Span>,
    /// All of it, page after page; --json prints one object on each line then
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Begin with the oldest
    #[arg(long)]
    oldest: bool,
    /// Continue after this cursor (`next` of the previous page)
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
    /// How many at most, 1 to 10,000
    #[arg(long, visible_alias = "last", default_value_t = 100, value_name = "N")]
    limit: usize,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

impl History {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let order = if self.oldest { "oldest" } else { "newest" };
        let from = self.since.map(|span| listing::ago(global, span)).transpose()?;
        let limit = if self.all { PAGE } else { self.limit };
        let query = vec![
            ("installation", self.installation),
            ("code", self.code),
            ("entity", self.entity),
            ("severity", self.severity),
            ("from", from.map(|from| from.to_string()).or(self.from)),
            ("to", self.to),
            ("order", Some(order.to_owned())),
            ("limit", Some(limit.to_string())),
        ];
        if self.csv || self.all && global.json {
            let csv = |text: &str| if self.csv { output::lines(text) } else { json_lines(text) };
            let form = if self.csv { CSV_TYPE } else { JSON_TYPE };
            return listing::each_text(global, PATH, &query, form, (self.after, self.all), csv);
        }
        let header =
            ["id", "since", "cleared", "acknowledged", "state", "installation", "alarm", "entity", "message"];
        let row = |item: Alarm| {
            let acknowledged = acknowledged(&item);
            [
                item.id,
                item.since.to_string(),
                item.cleared.map_or_else(String::new, |cleared| cleared.at.to_string()),
                acknowledged,
                item.state.name().to_owned(),
                item.installation.to_string(),
                item.code.to_string(),
                item.entity,
                output::shorten(&item.message),
            ]
        };
        if self.all {
            return listing::all_pages(global, PATH, &query, self.after, &header, row);
        }
        let mut query = query;
        query.push(("after", self.after));
        output::list(global, PATH, &query, &header, row)
    }
}

/// The last acknowledgement, and how many were before it.
fn acknowledged(item: &Alarm) -> String {
    match (&item.acknowledged, item.acknowledged_before.len()) {
        (None, _) => String::new(),
        (Some(note), 0) => note.at.to_string(),
        (Some(note), before) => format!("{}, {before} before", note.at),
    }
}

/// The items of a page, one on each line.
fn json_lines(text: &str) -> Outcome {
    let page: Page<serde_json::Value> = serde_json::from_str(text).map_err(anyhow::Error::from)?;
    output::json_text(&page.items.iter().map(|item| format!("{item}\n")).collect::<String>())
}
