//! `ironloom alarms`.

mod history;

use clap::{Args, Subcommand};

use self::history::History;
use super::client::segment;
use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{Alarm, NoteRequest, ShelveRequest};
use ironloom_apps::quantity::Span;
use ironloom_types::clock::Timestamp;

/// Lists alarms that are active or not acknowledged, shows their history, acknowledges or shelves them.
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
    /// Show the episodes of alarms, those that go on and those that are over, newest first
    History(History),
    /// Acknowledge alarms
    Ack {
        /// Ids of the alarms
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        note: Note,
    },
    /// Shelve alarms: nobody wants to see them until a time, whatever becomes of them
    Shelve {
        /// Ids of the alarms
        #[arg(required = true)]
        ids: Vec<String>,
        /// For how long, such as "8 h": 30 days at most
        #[arg(long = "for", value_name = "SPAN", required_unless_present = "until")]
        span: Option<Span>,
        /// Until when (RFC 3339)
        #[arg(long, value_name = "TIME", conflicts_with = "span")]
        until: Option<Timestamp>,
        #[command(flatten)]
        note: Note,
    },
    /// End the shelving of alarms
    Unshelve {
        /// Ids of the alarms
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        note: Note,
    },
    /// Say something about an episode of an alarm
    Comment {
        /// Id of the alarm
        id: String,
        /// What is to be said
        #[arg(value_name = "TEXT", required_unless_present = "said")]
        comment: Option<String>,
        /// The same, as `ack` and `shelve` take it
        #[arg(id = "said", long = "comment", value_name = "TEXT", conflicts_with = "comment")]
        said: Option<String>,
        /// Who says it
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

#[derive(Args, Clone, Debug)]
struct Note {
    /// What to remember about it
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Who does it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Note {
    fn request(self) -> NoteRequest {
        NoteRequest { by: self.by, comment: self.comment }
    }
}

impl Alarms {
    pub(super) fn run(self, global: &Global) -> Outcome {
        if let Some(what) = self.what {
            return what.run(global);
        }
        let query = [
            ("installation", self.installation),
            ("after", self.page.after),
            ("limit", Some(self.page.limit.to_string())),
        ];
        let header = ["id", "since", "severity", "state", "installation", "alarm", "entity", "message"];
        output::list(global, "/v1/alarms", &query, &header, |item: Alarm| {
            [
                item.id,
                item.since.to_string(),
                item.severity,
                item.state.name().to_owned(),
                item.installation.to_string(),
                item.code.to_string(),
                item.entity,
                output::shorten(&item.message),
            ]
        })
    }
}

impl What {
    fn run(self, global: &Global) -> Outcome {
        match self {
            Self::History(history) => history.run(global),
            Self::Ack { ids, note } => change(global, ids, "ack", "acknowledged", &note.request()),
            Self::Unshelve { ids, note } => change(global, ids, "unshelve", "not shelved", &note.request()),
            Self::Shelve { ids, span, until, note } => {
                let request = ShelveRequest { until, span, by: note.by, comment: note.comment };
                change(global, ids, "shelve", "shelved", &request)
            }
            Self::Comment { id, comment, said, by } => {
                let request = NoteRequest { by, comment: comment.or(said) };
                change(global, vec![id], "comment", "commented on", &request)
            }
        }
    }
}

/// Does something with each of these alarms.
fn change(
    global: &Global,
    ids: Vec<String>,
    deed: &str,
    done: &str,
    request: &impl serde::Serialize,
) -> Outcome {
    let client = global.client()?;
    let body = serde_json::to_vec(request).map_err(anyhow::Error::from)?;
    output::each(ids, |id| {
        let path = format!("/v1/alarms/{}/{deed}", segment(id));
        let answer = client.post(&path, &[], JSON_TYPE, &body)?;
        output::done_with(global, &answer, &format!("{id} is {done}"))
    })
}
