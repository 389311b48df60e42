//! `ironloom state`.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::segment;
use super::failure::Outcome;
use super::{Global, PageArgs, output};

/// Shows an installation's state, in the order of its keys.
#[derive(Args, Debug)]
pub(super) struct State {
    /// The installation
    id: String,
    /// Only keys that start with this
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    value: Base64,
    json: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Base64 {
    base64: String,
}

impl State {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let path = format!("/v1/installations/{}/state", segment(&self.id));
        let query = [
            ("prefix", self.prefix),
            ("after", self.page.after),
            ("limit", Some(self.page.limit.to_string())),
        ];
        output::list(global, &path, &query, &["key", "value"], |item: Entry| {
            let value =
                item.json.map_or(format!("base64:{}", item.value.base64), |json| json.get().to_owned());
            [item.key, output::shorten(&value)]
        })
    }
}
