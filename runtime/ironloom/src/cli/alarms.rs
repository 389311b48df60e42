//! `ironloom alarms`.

use clap::{Args, Subcommand};

use super::client::{Client, segment};
use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{Alarm, AlarmState};

/// Lists alarms, or acknowledges them.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Alarms {
    #[command(subcommand)]
    what: Option<What>,
    /// Only of this installation
    #[arg(long, value_name = "ID")]
    installation: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Acknowledge alarms
    Ack {
        /// Ids of the alarms
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

impl Alarms {
    pub(super) fn run(self, global: &Global) -> Outcome {
        if let Some(What::Ack { ids }) = self.what {
            let client = Client::new(&global.url);
            return output::each(ids, |id| {
                let answer =
                    client.post(&format!("/v1/alarms/{}/ack", segment(id)), &[], JSON_TYPE, b"{}")?;
                if global.json {
                    output::json(&answer)
                } else {
                    output::done(global, &format!("{id} is acknowledged"))
                }
            });
        }
        let query = [
            ("installation", self.installation),
            ("after", self.page.after),
            ("limit", Some(self.page.limit.to_string())),
        ];
        let header = ["id", "raised", "severity", "state", "installation", "alarm", "entity", "message"];
        output::list(global, "/v1/alarms", &query, &header, |item: Alarm| {
            [
                item.id,
                item.raised.to_string(),
                item.severity,
                state(item.state).to_owned(),
                item.installation.to_string(),
                item.code.to_string(),
                item.entity,
                output::shorten(&item.message),
            ]
        })
    }
}

fn state(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Unacknowledged => "unacknowledged",
        AlarmState::Acknowledged => "acknowledged",
        AlarmState::ReturnedUnacknowledged => "returned",
        AlarmState::Normal => "normal",
    }
}
