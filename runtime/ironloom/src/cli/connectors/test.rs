//! `ironloom connectors test`: what a connector sees, without a server.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use crate::api::facade::{Fate, Seen, SeenReading};
use crate::api::value::JsonValue;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{Global, output};
use crate::config::{Source, SourceError};
use ironloom_apps::quantity::Span;
use ironloom_types::readings::Quality;
use ironloom_types::text::clean;

#[derive(Args, Debug)]
pub(super) struct Test {
    /// The connector's name in the configuration
    name: String,
    /// The configuration, as `ironloom serve` takes it
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// For how long to listen
    #[arg(long = "for", value_name = "SPAN", default_value = "5 s")]
    span: Span,
}

/// Messages by what would become of them, and filters that are refused.
#[derive(Default)]
struct Sum {
    read: u64,
    set_aside: u64,
    passed_over: u64,
    refused: usize,
}

impl Test {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let source = Source { file: Some(self.config), ..Source::default() };
        let config = source.read().map_err(|error| match error {
            SourceError::Wrong { .. } => Failure::File(error.to_string()),
            SourceError::Unreadable { .. } => Failure::Other(error.into()),
        })?;
        let Some(connector) = config.connectors.get(&self.name) else {
            let names: Vec<&str> = config.connectors.keys().map(String::as_str).collect();
            let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Failure::Misuse(format!("there is no connector {}; the file has {has}", self.name)));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut sum, mut printed) = (Sum::default(), Ok(()));
        let span = self.span.duration();
        let tried = runtime.block_on(connector.try_out(span, |seen| {
            sum.add(&seen);
            let line = if global.json { format!("{}\n", as_json(&seen)) } else { as_text(&seen, self.span) };
            printed = if global.json { output::json_text(&line) } else { output::print(&line) };
            printed.is_ok()
        }));
        printed?;
        tried.map_err(Failure::File)?;
        if !global.json {
            let Sum { read, set_aside, passed_over, .. } = sum;
            output::note(&format!("{read} read, {set_aside} set aside, {passed_over} passed over"));
        }
        match sum.refused {
            0 => Ok(()),
            refused => {
                Err(Failure::File(format!("of the broker's answers, {refused} bring less than they should")))
            }
        }
    }
}

impl Sum {
    fn add(&mut self, seen: &Seen) {
        match seen {
            Seen::Connected { .. } => {}
            Seen::Subscribed { refused, .. } => self.refused = refused.len(),
            Seen::Message { fate: Fate::Read(_), .. } => self.read += 1,
            Seen::Message { fate: Fate::SetAside(_), .. } => self.set_aside += 1,
            Seen::Message { fate: Fate::PassedOver, .. } => self.passed_over += 1,
        }
    }
}

fn as_json(seen: &Seen) -> Json {
    match seen {
        Seen::Connected { broker, client_id, version, reported } => json!({
            "event": "connected", "broker": broker, "client_id": client_id, "version": version, "reported": reported,
        }),
        Seen::Subscribed { filters, refused } => {
            json!({"event": "subscribed", "filters": filters, "refused": refused})
        }
        Seen::Message { topic, bytes, retained, fate } => {
            let mut all = json!({"event": "message", "topic": topic, "bytes": bytes, "retained": retained});
            match fate {
                Fate::Read(readings) => all["readings"] = readings.iter().map(reading_as_json).collect(),
                Fate::SetAside(reason) => all["set_aside"] = json!(reason),
                Fate::PassedOver => all["passed_over"] = json!(true),
            }
            all
        }
    }
}

fn reading_as_json(reading: &SeenReading) -> Json {
    let SeenReading { point, value, unit, at, quality } = reading;
    let value = JsonValue(value.clone());
    json!({"point": point, "value": value, "unit": unit, "at": at, "quality": quality})
}

fn as_text(seen: &Seen, span: Span) -> String {
    let mut out = String::new();
    // Writing into a String doesn't fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{}", clean(&text));
    };
    match seen {
        Seen::Connected { broker, client_id, version, reported } => {
            line(format!("connected to {broker} by MQTT {version}, as {client_id}"));
            reported.facts().into_iter().for_each(|fact| line(format!("the broker reports: {fact}")));
        }
        Seen::Subscribed { filters, refused } => {
            line(format!("listens for {span} to {}", output::counted(*filters as u64, "pattern")));
            refused.iter().for_each(|one| line(format!("{}: {}", one.filter, one.reason)));
        }
        Seen::Message { topic, retained, fate, .. } => {
            let topic = format!("{}{}", output::shorten(topic), if *retained { " (retained)" } else { "" });
            match fate {
                Fate::Read(readings) => {
                    readings.iter().for_each(|one| line(format!("{topic} → {}", shown(one))))
                }
                Fate::SetAside(reason) => line(format!("{topic}: would be set aside: {reason}")),
                Fate::PassedOver => line(format!("{topic}: passed over, since retained = \"none\"")),
            }
        }
    }
    out
}

fn shown(reading: &SeenReading) -> String {
    let SeenReading { point, value, unit, at, quality } = reading;
    let mut text = format!("{point} = {}", output::shorten(&JsonValue(value.clone()).to_string()));
    if let Some(unit) = unit {
        text.push_str(&format!(" {unit}"));
    }
    if *quality != Quality::Good {
        text.push_str(&format!(", {}", quality.name()));
    }
    if let Some(at) = at {
        text.push_str(&format!(", at {at}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_reads_well() {
        let reading = SeenReading {
            point: "plant/7/temp".to_owned(),
            value: ironloom_types::readings::Value::Real(21.5),
            unit: Some("Cel".into()),
            at: None,
            quality: Quality::Uncertain,
        };
        let message = |fate| Seen::Message { topic: "a\u{1b}".to_owned(), bytes: 4, retained: true, fate };
        let span: Span = "5s".parse().unwrap();
        let text = |fate| as_text(&message(fate), span);
        assert_eq!(
            text(Fate::Read(vec![reading])),
            "a\\u{1b} (retained) → plant/7/temp = 21.5 Cel, uncertain\n"
        );
        assert_eq!(
            text(Fate::SetAside("it is no real".to_owned())),
            "a\\u{1b} (retained): would be set aside: it is no real\n"
        );
        let json = as_json(&message(Fate::PassedOver));
        assert_eq!(
            (&json["event"], &json["passed_over"], &json["bytes"]),
            (&json!("message"), &json!(true), &json!(4))
        );
    }
}
