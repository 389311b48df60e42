//! `ironloom timers`.

use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::facade::Timer;

/// Lists an installation's timers by their names: those of its manifest, and those that it has set.
#[derive(Args, Debug)]
pub(super) struct Timers {
    /// The installation
    id: String,
    #[command(flatten)]
    page: PageArgs,
}

impl Timers {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/timers", segment(&self.id));
        let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
        output::list(global, &path, &query, &["timer", "due", "set for", "repeats"], |timer: Timer| {
            let asked = timer.asked.map_or_else(String::new, |asked| asked.to_string());
            let repeats = if timer.repeats { "yes" } else { "no" };
            [timer.name, timer.due.to_string(), asked, repeats.to_owned()]
        })
    }
}
