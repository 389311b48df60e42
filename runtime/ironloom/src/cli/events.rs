//! `ironloom events`.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::failure::Outcome;
use super::{Global, follow, output};
use ironloom_types::text::clean;

/// Shows what happens on the site, as it happens, until interrupted.
#[derive(Args, Debug)]
pub(super) struct Events {
    /// Only events of these kinds, such as alarm,installation
    #[arg(long, value_name = "KINDS")]
    kinds: Option<String>,
    /// Only events of this installation
    #[arg(long, value_name = "ID")]
    installation: Option<String>,
}

/// The time after which a server is asked again that has gone, unless it says a longer one.
const AGAIN: Duration = Duration::from_secs(1);

impl Events {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        let query = [("kinds", self.kinds), ("installation", self.installation)];
        let (mut last, mut was_there) = (None, false);
        loop {
            let mut pause = AGAIN;
            match client.listen("/v1/events", &query, last.as_deref()) {
                Ok(answer) => {
                    was_there = true;
                    listen(global, answer, &mut last)?;
                }
                Err(failure) if was_there => pause = follow::pause(failure, AGAIN)?,
                Err(failure) => return Err(failure),
            }
            std::thread::sleep(pause);
        }
    }
}

/// Prints what comes until the connection ends; `last` is the id of the last event.
fn listen(global: &Global, answer: impl std::io::Read, last: &mut Option<String>) -> Outcome {
    for line in BufReader::new(answer).lines() {
        // The server stops, or makes room: the next connection goes on from the last event.
        let Ok(line) = line else { return Ok(()) };
        if let Some(id) = line.strip_prefix("id: ") {
            *last = Some(id.to_owned());
        }
        if let Some(data) = line.strip_prefix("data: ") {
            if global.json {
                output::json_text(&format!("{data}\n"))?;
            } else {
                output::print(&shown(data))?;
            }
        }
    }
    Ok(())
}

/// An event in one line: its time, its kind, and what there is of it.
fn shown(data: &str) -> String {
    let Ok(Value::Object(event)) = serde_json::from_str::<Value>(data) else { return String::new() };
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (at, kind) = (text("at"), text("kind"));
    if kind == "gap" {
        let lost = event.get("lost").and_then(Value::as_u64);
        let lost =
            lost.map_or_else(|| "events are missing".to_owned(), |lost| format!("{lost} events are missing"));
        return format!("{:<30}  {kind:<16}{lost}\n", "");
    }
    let rest = event.iter().filter(|(name, _)| !matches!(name.as_str(), "id" | "at" | "kind"));
    let rest = rest.map(|(name, value)| match value {
        Value::String(text) => format!("{name}={}", clean(text)),
        other => format!("{name}={other}"),
    });
    format!("{:<30}  {:<16}{}\n", clean(&at), clean(&kind), rest.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_steers_nothing() {
        let event = r#"{"id":"a-1","at":"2026-07-01T12:00:00Z","kind":"alarm","change":"raised","message":"a\nb\u001b[2J"}"#;
        let line = shown(event);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.starts_with("2026-07-01T12:00:00Z") && line.contains("change=raised"), "{line}");
        assert!(!line.contains('\u{1b}') && !line.contains("a-1"), "{line}");
        assert!(shown(r#"{"id":"a-1","kind":"gap","lost":7}"#).contains("7 events are missing"));
        assert!(shown(r#"{"id":"a-1","kind":"gap","lost":null}"#).contains(" events are missing"));
    }
}
