//! `ironloom resume`.

use clap::{Args, ValueEnum};

use super::client::segment;
use super::failure::Outcome;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::Resumed;

/// Resumes an installation that is paused or quarantined.
#[derive(Args, Debug)]
pub(super) struct Resume {
    /// The installation
    id: String,
    /// What to do with the readings that came in the meantime
    #[arg(long, value_enum, default_value = "keep")]
    backlog: Backlog,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backlog {
    /// Work them off
    Keep,
    /// Pass over them
    Drop,
}

impl Resume {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/resume", segment(&self.id));
        let body: &[u8] = match self.backlog {
            Backlog::Keep => b"{\"backlog\":\"keep\"}",
            Backlog::Drop => b"{\"backlog\":\"drop\"}",
        };
        let answer = global.client()?.post(&path, &[], JSON_TYPE, body)?;
        if global.json {
            return output::json(&answer);
        }
        let resumed: Resumed = answer.read()?;
        if resumed.was_running {
            // It waits for no back-off any more, so that this had an effect all the same.
            return output::done(global, &format!("{} was running already; it tries again at once", self.id));
        }
        let dropped = output::counted(resumed.dropped, "reading");
        let at_least = if resumed.dropped_at_least { "at least " } else { "" };
        let dropped = match self.backlog {
            Backlog::Keep => String::new(),
            Backlog::Drop => format!("; {at_least}{dropped} dropped"),
        };
        output::done(global, &format!("{} is resumed{dropped}", self.id))
    }
}
