//! `ironloom logs`.

use std::time::Duration;

use clap::Args;

use super::client::{Client, segment};
use super::failure::Outcome;
use super::{Global, output};
use crate::api::facade::{KeptLine, LogPage};
use ironloom_types::ids::Generation;
use ironloom_types::text::clean;

/// Shows an installation's log.
#[derive(Args, Debug)]
pub(super) struct Logs {
    /// The installation
    id: String,
    /// Follow the log until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Start after the line with this number; default: with the last lines
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// How many lines at most, 1 to 10,000
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// The interval at which new lines are requested.
const EVERY: Duration = Duration::from_millis(500);

impl Logs {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = Client::new(&global.url);
        let path = format!("/v1/installations/{}/logs", segment(&self.id));
        let mut place = Place { generation: None, after: self.after };
        loop {
            let after = place.after.map(|after| after.to_string());
            let query = [("after", after), ("limit", Some(self.limit.to_string()))];
            let answer = client.get(&path, &query)?;
            let log: LogPage = answer.read()?;
            if global.json && !self.follow {
                return output::json(&answer);
            }
            if !place.is_of(&log) {
                output::note(&format!("{} was installed anew: its log begins again", self.id));
                place = Place { generation: Some(log.generation), after: Some(0) };
                continue;
            }
            let page = log.page;
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
            place.generation = Some(log.generation);
            place.after = page.items.last().map(|line| line.number).or(place.after).or(Some(0));
            if page.next.is_none() {
                std::thread::sleep(EVERY);
            }
        }
    }
}

/// How far a log was read.
struct Place {
    generation: Option<Generation>,
    after: Option<u64>,
}

impl Place {
    /// Whether the numbers of these lines go on from it.
    fn is_of(&self, log: &LogPage) -> bool {
        self.generation.is_none_or(|generation| generation == log.generation)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::facade::Page;

    #[test]
    fn a_log_begins_again_with_another_generation() {
        let log = |generation| LogPage {
            page: Page { items: Vec::new(), next: None },
            generation: Generation(generation),
        };
        assert!(Place { generation: None, after: Some(7) }.is_of(&log(3)));
        assert!(Place { generation: Some(Generation(3)), after: Some(7) }.is_of(&log(3)));
        assert!(!Place { generation: Some(Generation(3)), after: Some(7) }.is_of(&log(4)));
    }
}
