//! `ironloom usage`.

use clap::Args;

use super::client::Client;
use super::failure::Outcome;
use super::status::size;
use super::{Global, output};
use crate::api::facade::{InstallationUsage, PointsUsage, SourceUsage, Usage as Answer, UsageKey};

/// Shows who and what takes how much: installations, sources and points, the largest first.
#[derive(Args, Debug)]
pub(super) struct Usage {
    /// Sort installations by name, rate, lag, cpu, memory, state, points, journal or log
    #[arg(long, value_name = "KEY", default_value = "journal", value_parser = str::parse::<UsageKey>)]
    sort: UsageKey,
    /// How many of each, 1 to 10,000
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

/// The columns of installations, each with what it is sorted by, and the letter that does so in `ironloom top`.
pub(super) const COLUMNS: [(&str, UsageKey, char); 9] = [
    ("installation", UsageKey::Name, 'n'),
    ("readings/s", UsageKey::Rate, 'r'),
    ("behind", UsageKey::Lag, 'b'),
    ("cpu", UsageKey::Cpu, 'c'),
    ("peak memory", UsageKey::Memory, 'm'),
    ("state", UsageKey::State, 's'),
    ("points", UsageKey::Points, 'p'),
    ("journal", UsageKey::Journal, 'j'),
    ("log lines", UsageKey::Log, 'l'),
];

impl Usage {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let answer = fetch(&global.client()?, self.sort, self.limit)?;
        output::one(global, &answer, |usage: Answer| text(&usage))
    }
}

/// Asks for the usage.
pub(super) fn fetch(
    client: &Client,
    sort: UsageKey,
    limit: usize,
) -> Result<super::client::Answer, super::failure::Failure> {
    let query = [("sort", Some(sort.name().to_owned())), ("limit", Some(limit.to_string()))];
    client.get("/v1/usage", &query)
}

/// An installation as a row.
pub(super) fn row(usage: &InstallationUsage) -> [String; 9] {
    [
        usage.installation.to_string(),
        format!("{:.1}", usage.rate.readings),
        usage.lag.to_string(),
        format!("{:.1} %", usage.rate.cpu * 100.0),
        size(usage.peak_memory),
        size(usage.state_bytes),
        usage.points.to_string(),
        size(usage.derived_bytes),
        usage.log_lines.to_string(),
    ]
}

fn text(usage: &Answer) -> String {
    let mut out = output::table(&COLUMNS.map(|(name, ..)| name), usage.installations.iter().map(row));
    let more = usage.installations_total.saturating_sub(usage.installations.len() as u64);
    if more > 0 {
        out.push_str(&format!("and {more} more\n"));
    }
    if !usage.sources.is_empty() {
        let rows = usage.sources.iter().map(|source: &SourceUsage| {
            let name = source.name.as_deref().map_or_else(String::new, |name| format!(" {name}"));
            [format!("{}{name}", source.kind), source.readings.to_string(), size(source.bytes)]
        });
        out.push('\n');
        out.push_str(&output::table(&["source, since the start", "readings", "journal"], rows));
    }
    if !usage.points.is_empty() {
        let rows = usage
            .points
            .iter()
            .map(|PointsUsage { prefix, points }| [format!("{prefix}/"), points.to_string()]);
        out.push('\n');
        out.push_str(&output::table(&["points below", "points"], rows));
    }
    out
}
