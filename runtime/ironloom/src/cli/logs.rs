//! `ironloom logs`.

use std::time::Duration;

use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::{Global, follow, output};
use crate::api::facade::{KeptLine, LogPage};
use ironloom_apps::quantity::Span;
use ironloom_types::clock::{Timestamp, host_time};
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
    /// How many lines at most, 1 to 10,000; --since and --all show all there are
    #[arg(long, visible_alias = "last", default_value_t = 100, value_name = "N")]
    limit: usize,
    /// Only lines that are no older than this, such as "1 h"
    #[arg(long, value_name = "SPAN", conflicts_with = "limit")]
    since: Option<Span>,
    /// All lines that are kept
    #[arg(long, conflicts_with_all = ["after", "limit"])]
    all: bool,
}

/// Lines of one page where all are shown.
const PAGE: usize = 1_000;
/// The interval at which new lines are requested.
const EVERY: Duration = Duration::from_millis(500);

impl Logs {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        let path = format!("/v1/installations/{}/logs", segment(&self.id));
        let oldest = self.since.map(|Span(span)| Timestamp(host_time().0.saturating_sub(span)));
        let is_whole = self.all || self.since.is_some();
        let limit = if is_whole { PAGE } else { self.limit };
        let mut place = Place { generation: None, after: self.after.or(is_whole.then_some(0)) };
        let mut was_there = false;
        loop {
            let after = place.after.map(|after| after.to_string());
            let query = [("after", after), ("limit", Some(limit.to_string()))];
            let answer = match client.get(&path, &query) {
                // It may be busy, or starting again: nothing is lost by that.
                Err(failure) if self.follow && was_there => {
                    std::thread::sleep(follow::pause(failure, EVERY)?);
                    continue;
                }
                answer => answer?,
            };
            was_there = true;
            let log: LogPage = answer.read()?;
            if global.json && !self.follow && !is_whole {
                return output::json(&answer);
            }
            if !place.is_of(&log) {
                output::note(&format!("{} was installed anew: its log begins again", self.id));
                place = Place { generation: Some(log.generation), after: Some(0) };
                continue;
            }
            if let Some(lost) = place.lost(&log) {
                output::note(&format!("{lost} lines are gone: they were written faster than they were read"));
            }
            let page = log.page;
            let mut text = String::new();
            for line in page.items.iter().filter(|line| oldest.is_none_or(|oldest| line.at >= oldest)) {
                text.push_str(&if global.json { as_json(line) } else { as_text(line) });
            }
            if global.json {
                output::json_text(&text)?;
            } else {
                output::print(&text)?;
            }
            if !self.follow && (!is_whole || page.next.is_none()) {
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

    /// The lines between it and these, where there were some that nobody can read any more.
    fn lost(&self, log: &LogPage) -> Option<u64> {
        let after = self.after.filter(|_| self.generation.is_some())?;
        let first = log.page.items.first()?.number;
        first.checked_sub(after + 1).filter(|lost| *lost > 0)
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
    use ironloom_types::ids::Ordinal;

    #[test]
    fn lines_that_are_gone_are_counted() {
        let line = |number| KeptLine {
            number,
            at: Timestamp(1),
            level: "info".to_owned(),
            context: String::new(),
            message: String::new(),
            ordinal: Ordinal(1),
            attempt: 1,
        };
        let log = |first| LogPage {
            page: Page { items: vec![line(first), line(first + 1)], next: None },
            generation: Generation(3),
        };
        let place = Place { generation: Some(Generation(3)), after: Some(7) };
        assert_eq!((place.lost(&log(8)), place.lost(&log(12))), (None, Some(4)));
        assert_eq!(
            Place { generation: None, after: Some(0) }.lost(&log(12)),
            None,
            "older ones needn't be kept"
        );
    }

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
