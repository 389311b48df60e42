//! Shows outputs, alarms, log lines and dead letters as they come.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::super::client::Client;
use super::super::failure::{Failure, Outcome};
use super::super::output;
use super::ID;
use ironloom_types::text::clean;

/// Lines of one kind that are shown at once; the others are counted.
const LINES: usize = 12;
/// Items that are asked for at once.
const PAGE: usize = 1_000;

/// The place up to which each of them was shown.
#[derive(Default)]
pub(super) struct Shown {
    output: u64,
    log: u64,
    letter: u64,
    /// State and message of each alarm.
    alarms: BTreeMap<String, (String, String)>,
    /// The latest failure of the app, as people see it.
    failure: String,
}

impl Shown {
    /// After an install log lines and dead letters are counted from 1 again.
    pub(super) fn begin_anew(&mut self) {
        self.log = 0;
        self.letter = 0;
        self.alarms.clear();
        self.failure.clear();
    }

    /// Shows what is new.
    pub(super) fn step(&mut self, client: &Client) -> Outcome {
        let outcome = self.lines(client);
        match outcome {
            // There is no installation before the first build that succeeds.
            Err(Failure::Refused(problem)) if problem.status == 404 => Ok(()),
            other => other,
        }
    }

    fn lines(&mut self, client: &Client) -> Outcome {
        let logged = news(client, "logs", "number", &mut self.log)?;
        show(&logged, "log", |line| format!("{:<5} {}", text(&line["level"]), text(&line["message"])))?;
        let outputs = news(client, "outputs", "sequence", &mut self.output)?;
        show(&outputs, "output", |item| format!("{} = {}", text(&item["point"]), text(&item["value"])))?;
        let letters = news(client, "dead-letters", "number", &mut self.letter)?;
        show(&letters, "dead letter", |letter| {
            let reading = &letter["reading"];
            let (point, value) = (text(&reading["point"]), text(&reading["value"]));
            format!("{point} = {value}: {}", text(&letter["reason"]))
        })?;
        self.show_alarms(client)?;
        let installation: Json = client.get(&format!("/v1/installations/{ID}"), &[])?.read()?;
        let error = &installation["last_error"];
        let mut failure = match error["message"].as_str() {
            Some(message) => format!("{}: {}", text(&error["kind"]), clean(message)),
            None => String::new(),
        };
        if installation["state"] == "quarantined" {
            failure.push_str(
                " The app is quarantined: change it, and it runs again. If it can't read its state, --fresh begins anew.",
            );
        }
        if failure != self.failure && !failure.is_empty() {
            output::note(&format!("failed: {failure}"));
        }
        self.failure = failure;
        Ok(())
    }

    fn show_alarms(&mut self, client: &Client) -> Outcome {
        let answer: Json = client.get("/v1/alarms", &[("limit", Some(PAGE.to_string()))])?.read()?;
        let mut new = Vec::new();
        for alarm in items(&answer) {
            let (state, message) = (text(&alarm["state"]), text(&alarm["message"]));
            let known = self.alarms.insert(text(&alarm["id"]), (state.clone(), message.clone()));
            if known.is_none_or(|(before, _)| before != state) {
                new.push(alarm.clone());
            }
        }
        show(&new, "alarm", |alarm| {
            let (code, entity) = (text(&alarm["code"]), text(&alarm["entity"]));
            format!("{code} {entity} ({}): {}", text(&alarm["state"]), text(&alarm["message"]))
        })
    }
}

/// Items of a list of the installation that come after the last ones.
fn news(client: &Client, list: &str, number: &str, last: &mut u64) -> Result<Vec<Json>, Failure> {
    let query = [("after", Some(last.to_string())), ("limit", Some(PAGE.to_string()))];
    let answer: Json = client.get(&format!("/v1/installations/{ID}/{list}"), &query)?.read()?;
    let new: Vec<Json> =
        items(&answer).filter(|item| item[number].as_u64().is_some_and(|one| one > *last)).cloned().collect();
    *last = new.iter().filter_map(|item| item[number].as_u64()).max().unwrap_or(*last);
    Ok(new)
}

fn items(answer: &Json) -> impl Iterator<Item = &Json> {
    answer["items"].as_array().into_iter().flatten()
}

/// A value without the quotes of a string.
fn text(value: &Json) -> String {
    match value {
        Json::String(text) => clean(text).into_owned(),
        Json::Null => String::new(),
        other => output::shorten(&other.to_string()),
    }
}

/// Prints the last of these items, a line each, and counts those before.
fn show(items: &[Json], what: &str, line: impl Fn(&Json) -> String) -> Outcome {
    let left_out = items.len().saturating_sub(LINES);
    let mut lines = String::new();
    if left_out > 0 {
        lines.push_str(&format!("{what:<12}… {left_out} before\n"));
    }
    for item in &items[left_out..] {
        lines.push_str(&format!("{what:<12}{}\n", line(item)));
    }
    output::print(&lines)
}
