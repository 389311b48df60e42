//! `ironloom intents`.

use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::JSON_TYPE;
use crate::api::facade::DrivenPoint;

/// Lists the points that an installation's set-points go to, with what waits, what was told and what became of it.
#[derive(Args, Debug)]
pub(super) struct Intents {
    /// The installation
    id: String,
    /// Confirm these set-points, which wait for it in the mode advise
    #[arg(long, value_name = "INTENT")]
    confirm: Vec<String>,
    /// Dismiss these
    #[arg(long, value_name = "INTENT")]
    dismiss: Vec<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl Intents {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let of_id = format!("/v1/installations/{}/intents", segment(&self.id));
        if !self.confirm.is_empty() || !self.dismiss.is_empty() {
            let confirm = self.confirm.into_iter().map(|intent| (intent, "confirm", "confirmed"));
            let dismiss = self.dismiss.into_iter().map(|intent| (intent, "dismiss", "dismissed"));
            let client = global.client()?;
            return output::each(confirm.chain(dismiss).collect(), |(intent, deed, done)| {
                let path = format!("{of_id}/{}/{deed}", segment(intent));
                client.post(&path, &[], JSON_TYPE, b"{}")?;
                if global.json { Ok(()) } else { output::done(global, &format!("{intent} is {done}")) }
            });
        }
        let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
        let header =
            ["point", "told", "until", "intent", "state", "value", "expires", "last outcome", "reason"];
        output::list(global, &of_id, &query, &header, |item: DrivenPoint| {
            let told = item.told.as_ref();
            let newest = item.intents.last();
            let state = match newest {
                Some(intent) => intent.state.clone(),
                None if item.goes_safe => "goes safe".to_owned(),
                None => String::new(),
            };
            let text = |text: Option<String>| text.unwrap_or_default();
            [
                item.point,
                text(told.map(|told| told.value.to_string())),
                text(told.and_then(|told| told.until).map(|until| until.to_string())),
                text(newest.map(|intent| intent.id.to_string())),
                state,
                text(newest.map(|intent| intent.value.to_string())),
                text(newest.map(|intent| intent.expires.to_string())),
                text(item.last.as_ref().map(|last| last.outcome.clone())),
                output::shorten_last(&text(item.last.and_then(|last| last.reason))),
            ]
        })
    }
}
