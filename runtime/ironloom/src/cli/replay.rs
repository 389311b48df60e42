//! `ironloom replay`.

use anyhow::Context as _;
use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::{Global, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{Invocation, Replay as Answer, ReplayDifference, ReplayRequest};
use ironloom_types::ids::Ordinal;
use ironloom_types::text::clean;

/// Runs an installation's recorded invocations again, on state of their own, and compares digests of what they do.
/// Nothing of it is written. Invocations that ended with cpu-limit, wall-limit or commit-limit took no effect and aren't
/// run. Exit code 1 if something differs
#[derive(Args, Debug)]
pub(super) struct Replay {
    /// The installation
    id: String,
    /// Compare from this invocation on (its ordinal); all before it run, too
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Run no further than this one
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Compare, which is all that a replay does so far
    #[arg(long)]
    check: bool,
}

impl Replay {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let request = ReplayRequest { from: self.from.map(Ordinal), to: self.to.map(Ordinal) };
        let body = serde_json::to_string(&request).context("the request can't be written")?;
        let path = format!("/v1/installations/{}/replay", segment(&self.id));
        if output::is_watched() {
            output::note("running its invocations again: this may take as long as they took, and more");
        }
        let answer = global.client()?.post(&path, &[], JSON_TYPE, body.as_bytes())?;
        output::one(global, &answer, |replay: Answer| text(&replay))?;
        let replay: Answer = answer.read()?;
        match replay.difference {
            None => Ok(()),
            Some(difference) => {
                let ordinal = difference.recorded.ordinal;
                Err(anyhow::anyhow!("invocation {ordinal} did something else this time").into())
            }
        }
    }
}

fn text(replay: &Answer) -> String {
    let mut out = format!(
        "{} of {} ran again, {} compared, through ordinal {}\n",
        output::counted(replay.invocations, "invocation"),
        output::counted(replay.readings, "reading"),
        replay.compared,
        replay.through
    );
    if replay.left_out > 0 {
        let attempts = output::counted(replay.left_out, "attempt");
        out.push_str(&format!(
            "{attempts} that a limit of time or the log ended: without effect, and not run again\n"
        ));
    }
    if let Some(repaired) = replay.repaired {
        out.push_str(&format!(
            "a person changed the state before invocation {repaired}: from there on it can't run again\n"
        ));
    }
    match &replay.difference {
        None => out.push_str("no difference\n"),
        Some(difference) => out.push_str(&differs(difference)),
    }
    out
}

fn differs(difference: &ReplayDifference) -> String {
    let ReplayDifference { recorded, outcome, message, digest, effects } = difference;
    let Invocation { ordinal, attempt, kind, time, .. } = recorded;
    let row = |name: &str, outcome: &str, message: &Option<String>, digest: Option<String>| {
        [name.to_owned(), outcome.to_owned(), digest.unwrap_or_default(), message.clone().unwrap_or_default()]
    };
    let rows = [
        row(
            "recorded",
            &recorded.outcome,
            &recorded.message,
            recorded.digest.map(|digest| digest.to_string()),
        ),
        row("this time", outcome, message, digest.map(|digest| digest.to_string())),
    ];
    format!(
        "invocation {ordinal}, attempt {attempt} ({}), at {time}:\n{}this time it changed {} of its state, derived {}, changed \
         {} and {}, and refused {}\n",
        clean(kind),
        output::table(&["", "outcome", "digest", "message"], rows),
        output::counted(effects.state as u64, "key"),
        output::counted(effects.derived as u64, "reading"),
        output::counted(effects.timers as u64, "timer"),
        output::counted(effects.alarms as u64, "alarm"),
        output::counted(effects.refused as u64, "reading")
    )
}
