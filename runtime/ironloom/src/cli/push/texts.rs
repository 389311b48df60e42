//! What is said where a push ends early.

use anyhow::anyhow;

use super::run::{Stopped, lines};
use crate::api::facade::{Detail, Place};
use crate::cli::failure::{Failure, Line};
use crate::cli::output::counted;

/// Says what was taken, what is unknown and how to go on.
pub(super) fn placed(stopped: Stopped, url: &str, key: &str) -> Failure {
    let Stopped { failure, total, unknown, unsent } = stopped;
    let mut hints = Vec::new();
    if total.through > 0 {
        let taken = counted(total.taken, "reading");
        hints.push(match total.through {
            1 => format!("The line before was taken ({taken})."),
            through => format!("The {through} lines before were taken ({taken})."),
        });
    }
    if let Some(last) = unknown {
        hints.push(match total.through + 1 {
            first if first == last => format!("It is not known whether line {last} was taken."),
            first => format!("It is not known whether the lines {first} to {last} were taken."),
        });
    }
    // Behind a line that is refused, all the others aren't taken either.
    if unsent > 0 && !matches!(&failure, Failure::Refused(problem) if problem.status < 500) {
        let verb = if unsent == 1 { "was" } else { "were" };
        let behind = if total.through > 0 || unknown.is_some() { " behind them" } else { "" };
        hints.push(format!("{}{behind} {verb} read and not taken.", lines(unsent)));
    }
    if unknown.is_some() || total.through > 0 {
        hints.push(format!("Send the same lines again with --key {key}: nothing is taken twice."));
    }
    let with_hints = |text: String| {
        let hints: String = hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
        format!("{text}{hints}")
    };
    match failure {
        Failure::Refused(mut problem) => {
            if let [only] = problem.errors.as_slice()
                && let Some(place) = &only.place
                && let Some(at) = place.line
            {
                // The text names the field.
                let place = Some(Place { field: None, ..place.clone() });
                let only = Detail { place, ..only.clone() };
                let from = if at == 1 { String::new() } else { format!(" from line {at} on") };
                problem.detail = format!("nothing{from} was accepted; {}", Line(&only));
            }
            for hint in &mut problem.hints {
                *hint = hint.replace("?partial=true", "--partial");
            }
            problem.hints.extend(hints);
            Failure::Refused(problem)
        }
        Failure::NotReached { reason, .. } if !hints.is_empty() => {
            Failure::Lost { text: with_hints(format!("{url} doesn't answer any more: {reason}")) }
        }
        Failure::Interrupted(text) => Failure::Interrupted(with_hints(text)),
        Failure::Other(error) => Failure::Other(anyhow!("{}", with_hints(format!("{error:#}")))),
        other => other,
    }
}
