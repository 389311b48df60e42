//! `ironloom readings`.

use clap::Args;

use super::client::Client;
use super::failure::Outcome;
use super::{Global, output};
use crate::api::NDJSON_TYPE;

/// Reads the journal back, oldest first.
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
    /// Only after this sequence
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<String>,
    /// How many at most, 1 to 10,000
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

impl Which {
    /// Returns the parameters of a query.
    pub(super) fn query(self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("point", self.point),
            ("from", self.from),
            ("to", self.to),
            ("after", self.after),
            ("limit", Some(self.limit.to_string())),
        ]
    }
}

impl Readings {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = Client::new(&global.url);
        let query = self.which.query();
        let (form, csv) = (if self.csv { "text/csv" } else { NDJSON_TYPE }, self.csv);
        if csv || global.json {
            let answer = client.get_as("/v1/readings", &query, form)?;
            if let Some(next) = &answer.next {
                output::note(&format!("there is more: --after {next}"));
            }
            return if csv { output::lines(&answer.text) } else { output::json(&answer) };
        }
        output::list(global, "/v1/readings", &query, &output::READING, output::reading)
    }
}
