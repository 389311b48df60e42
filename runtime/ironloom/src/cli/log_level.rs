//! `ironloom log-level`.

use clap::Args;

use super::failure::Outcome;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade;
use crate::api::facade::{ChosenBy, LogLines, SetLogLevel};

/// Shows the server's own log lines that are written, or asks for others until the next start.
#[derive(Args, Debug)]
pub(super) struct LogLevel {
    /// off, error, warn, info, debug or trace; with levels of parts as info,ironloom::lanes=debug
    level: Option<LogLines>,
}

impl LogLevel {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        let answer = match self.level {
            None => client.get("/v1/log-level", &[])?,
            Some(level) => {
                let body = serde_json::to_vec(&SetLogLevel { level }).map_err(anyhow::Error::from)?;
                client.put("/v1/log-level", JSON_TYPE, &body)?
            }
        };
        output::one(global, &answer, |level: facade::LogLevel| text(&level))
    }
}

fn text(level: &facade::LogLevel) -> String {
    let by = match level.by {
        ChosenBy::Configuration => "[server] log says so",
        ChosenBy::Environment => "IRONLOOM_LOG says so",
        ChosenBy::Request => "until the next start",
    };
    format!("{} ({by})\n", level.level)
}
