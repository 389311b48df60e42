//! `ironloom logs`.

use std::time::Duration;

use clap::Args;

use super::client::{Client, segment};
use super::failure::Outcome;
use super::{Global, output};
use crate::api::facade::{KeptLine, Page};
use ironloom_types::text::clean;

/// Shows an installation's log.
#[derive(Args, Debug)]
pub(super) struct Logs {
    /// The installation
    id: String,
    /// Go on with new lines until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Begin after the line of this number; without it, with the last lines
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// How many lines at most, 1 to 10,000
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// How often new lines are asked for.
const EVERY: Duration = Duration::from_millis(500);

impl Logs {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = Client::new(&global.url);
        let path = format!("/v1/installations/{}/logs", segment(&self.id));
        let mut after = self.after;
        loop {
            let query =
                [("after", after.map(|after| after.to_string())), ("limit", Some(self.limit.to_string()))];
            let answer = client.get(&path, &query)?;
            let page: Page<KeptLine> = answer.read()?;
            if global.json && !self.follow {
                return output::json(&answer);
            }
            let mut text = String::new();
            for line in &page.items {
                text.push_str(&if global.json { as_json(line) } else { as_text(line) });
            }
            if global.json {
                output::json_text(&text)?;
            } else {
                output::print(&text)?;
            }
            if !self.follow {
                return Ok(());
            }
            after = page.items.last().map(|line| line.number).or(after).or(Some(0));
            if page.next.is_none() {
                std::thread::sleep(EVERY);
            }
        }
    }
}

fn as_json(line: &KeptLine) -> String {
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

fn as_text(line: &KeptLine) -> String {
    let context = if line.context.is_empty() { String::new() } else { format!(" {}:", clean(&line.context)) };
    let attempt = if line.attempt > 1 { format!(" (attempt {})", line.attempt) } else { String::new() };
    let message = clean(&line.message);
    format!("{} {:<5} [{}{attempt}]{context} {message}\n", line.at, line.level, line.ordinal)
}
