//! `ironloom rehearse`.

mod text;

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use self::text::text;
use super::client::{Client, segment};
use super::failure::{Failure, Outcome};
use super::install::misuse;
use super::set::{Change, To};
use super::{Global, output, progress};
use crate::api::JSON_TYPE;
use crate::api::facade::{
    Page, Rehearsal, RehearsalProgress, RehearsalRequest, RehearsalState, RehearseFrom, RevisionRequest,
};
use ironloom_types::rehearsal::RehearsalReport;
use ironloom_types::text::clean;

/// The interval at which it looks how far the server has come.
const LOOK: Duration = Duration::from_millis(250);

/// Runs an installation as it is, and as a change would make it, beside each other over the recorded journal, and shows
/// what differs, the first difference first. All effects are held back. Exit code 1 if more differs than
/// --max-difference allows
#[derive(Args, Debug)]
pub(super) struct Rehearse {
    /// The installation
    id: String,
    /// The package to try, as for `upgrade`. Without it, the one that it has, with other settings, say
    package: Option<String>,
    /// From when on both run: an RFC 3339 time, a span back from now, such as 24h, or beginning
    #[arg(long, value_name = "TIME", required_unless_present_any = ["list", "show", "cancel"])]
    from: Option<RehearseFrom>,
    #[command(flatten)]
    accepted: Accepted,
    #[command(flatten)]
    change: Change,
    /// Begin it, print its number, and leave it to the server
    #[arg(long)]
    detach: bool,
    /// List the rehearsals that the server knows
    #[arg(long, conflicts_with_all = ["package", "from", "show", "cancel"])]
    list: bool,
    /// Show one of them
    #[arg(long, value_name = "N", conflicts_with_all = ["package", "from", "cancel"])]
    show: Option<u64>,
    /// Cancel one of them, or forget it
    #[arg(long, value_name = "N", conflicts_with_all = ["package", "from"])]
    cancel: Option<u64>,
}

/// The differences that are accepted.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Accepted {
    /// The part of all derived readings, set-points, alarms, dead letters and timers that may differ, such as 0.5%; without it,
    /// none. The state isn't counted
    #[arg(long, value_name = "SHARE")]
    max_difference: Option<Share>,
    /// Numbers that differ by no more than this share of the larger one count as the same, such as 0.1%; without it, equal
    /// ones alone
    #[arg(long, value_name = "SHARE")]
    tolerance: Option<Share>,
}

/// A part of the whole, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share(f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, has_sign) = match text.trim_end().strip_suffix('%') {
            Some(number) => (number.trim_end(), true),
            None => (text.trim_end(), false),
        };
        let percent = number.parse::<f64>().map_err(|error| format!("{text:?}: {error}"))?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("{text:?} is not from 0 to 100 %"));
        }
        // 0.5 may be meant as half a percent, or as half of all.
        if !has_sign && percent != 0.0 {
            return Err(format!(
                "write {number}% if that many percent are meant: {text:?} doesn't say of what"
            ));
        }
        Ok(Self(percent / 100.0))
    }
}

impl Rehearse {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        let path = format!("/v1/installations/{}/rehearsals", segment(&self.id));
        if self.list {
            return list(global, &path);
        }
        if let Some(number) = self.cancel {
            client.delete(&format!("{path}/{number}"), &[])?;
            return output::done(global, &format!("rehearsal {number} of {} is cancelled", self.id));
        }
        if let Some(number) = self.show {
            let answer = client.get(&format!("{path}/{number}"), &[])?;
            return output::one(global, &answer, |one: Rehearsal| shown(&one));
        }
        let from = self.from.ok_or_else(|| misuse("--from says from when on both run"))?;
        let to = self.package.as_deref().map(|package| To(Some(package)));
        let change = self.change.request_of(&client, &self.id, to)?;
        let begun = start(&client, &path, from, change, self.accepted.tolerance)?;
        if self.detach {
            return if global.json {
                let text = serde_json::to_string(&begun).context("the answer can't be written")?;
                output::json_text(&format!("{text}\n"))
            } else {
                output::print(&format!("{}\n", begun.number))
            };
        }
        let report = self.accepted.finish(&client, &path, &begun, |text| {
            if global.json { output::json_text(&text.0) } else { output::print(&text.1) }
        })?;
        self.accepted.check(&report)
    }
}

fn list(global: &Global, path: &str) -> Outcome {
    let answer = global.client()?.get(path, &[])?;
    output::one(global, &answer, |page: Page<Rehearsal>| {
        let rows = page.items.iter().map(|one| {
            let done = format!("{} of {}", one.progress.ordinal, one.progress.of);
            let state = state(one).to_owned();
            let package = one.package.to_string();
            [one.number.to_string(), state, done, one.progress.different.to_string(), package]
        });
        output::table(&["number", "state", "invocations", "differences", "package"], rows)
    })
}

fn state(one: &Rehearsal) -> &'static str {
    match one.state {
        RehearsalState::Running => "running",
        RehearsalState::Done => "done",
        RehearsalState::Failed => "failed",
    }
}

/// A rehearsal for people, over or not.
fn shown(one: &Rehearsal) -> String {
    match (&one.report, &one.error) {
        (Some(report), _) => text(report),
        (None, Some(error)) => format!("it failed: {}\n", clean(error)),
        (None, None) => {
            let RehearsalProgress { ordinal, of, readings, different, .. } = one.progress;
            format!(
                "{}, invocation {ordinal} of {of}, {}, {} so far\n",
                state(one),
                output::counted(readings, "reading"),
                output::counted(different, "difference")
            )
        }
    }
}

fn start(
    client: &Client,
    path: &str,
    from: RehearseFrom,
    change: RevisionRequest,
    tolerance: Option<Share>,
) -> Result<Rehearsal, Failure> {
    let request = RehearsalRequest { from, change, tolerance: tolerance.map_or(0.0, |share| share.0) };
    let body = serde_json::to_string(&request).context("the request can't be written")?;
    let begun: Rehearsal = client.post(path, &[], JSON_TYPE, body.as_bytes())?.read()?;
    begun.warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
    Ok(begun)
}

impl Accepted {
    /// Waits for the end of a rehearsal, and shows its report, as JSON and as text.
    fn finish(
        self,
        client: &Client,
        path: &str,
        begun: &Rehearsal,
        show: impl FnOnce((String, String)) -> Outcome,
    ) -> Result<RehearsalReport, Failure> {
        let number = begun.number;
        if output::is_watched() {
            let id = &begun.installation;
            output::note(&format!(
                "rehearsal {number} is under way; `ironloom rehearse {id} --cancel {number}` ends it"
            ));
        }
        let bar = progress::stages();
        let one = loop {
            let one: Rehearsal = client.get(&format!("{path}/{number}"), &[])?.read()?;
            if one.state != RehearsalState::Running {
                break one;
            }
            bar.set_message(shown(&one).trim_end().to_owned());
            std::thread::sleep(LOOK);
        };
        bar.finish_and_clear();
        match one.report {
            Some(report) => {
                let json = serde_json::to_string(&report).context("the report can't be written")?;
                show((format!("{json}\n"), text(&report)))?;
                Ok(report)
            }
            None => {
                let error = one.error.unwrap_or_default();
                Err(anyhow::anyhow!("rehearsal {number} failed: {}", clean(&error)).into())
            }
        }
    }

    /// The share that may differ.
    fn most(self) -> f64 {
        self.max_difference.map_or(0.0, |share| share.0)
    }

    /// Fails where more differs than is accepted.
    fn check(self, report: &RehearsalReport) -> Outcome {
        let (share, most) = (report.share(), self.most());
        if let Some(ended) = &report.ended {
            return Err(anyhow::anyhow!("the new version went no further: {}", clean(ended)).into());
        }
        if report.new.waiting > report.old.waiting {
            let waiting = output::counted(report.new.waiting, "reading");
            return Err(anyhow::anyhow!("the new version asked for {waiting} again until the end").into());
        }
        if share > most {
            let (share, most) = (text::percent(share), text::percent(most));
            return Err(
                anyhow::anyhow!("{share} of what the versions do differs, and {most} is allowed").into()
            );
        }
        Ok(())
    }
}

/// The condition of an upgrade.
#[derive(Args, Debug)]
pub(super) struct Condition {
    /// Only if a rehearsal from this time on shows no more differences than --max-difference allows: an RFC 3339 time, a
    /// span back from now, such as 24h, or beginning
    #[arg(long, value_name = "TIME")]
    rehearse: Option<RehearseFrom>,
    #[command(flatten)]
    accepted: Accepted,
}

impl Condition {
    /// Says whether there is one.
    ///
    /// # Errors
    /// Flags that mean nothing without a rehearsal: whoever gives one counts on it.
    pub(super) fn is_given(&self) -> Result<bool, Failure> {
        let Accepted { max_difference, tolerance } = self.accepted;
        let flags = [("--max-difference", max_difference), ("--tolerance", tolerance)];
        match flags.into_iter().find(|(_, given)| given.is_some() && self.rehearse.is_none()) {
            Some((flag, _)) => Err(misuse(format!("{flag} is for a rehearsal; --rehearse TIME has one run"))),
            None => Ok(self.rehearse.is_some()),
        }
    }

    /// Rehearses a change, and fails where it does too much otherwise. The report goes to stderr: the change's answer is
    /// what the command prints.
    pub(super) fn check(&self, client: &Client, id: &str, change: &RevisionRequest) -> Outcome {
        let Some(from) = self.rehearse else { return Ok(()) };
        let path = format!("/v1/installations/{}/rehearsals", segment(id));
        let begun = start(client, &path, from, change.clone(), self.accepted.tolerance)?;
        let report = self.accepted.finish(client, &path, &begun, |(_, text)| {
            text.lines().for_each(output::note);
            Ok(())
        })?;
        self.accepted.check(&report)?;
        if report.share() > 0.0 {
            let (share, most) = (text::percent(report.share()), text::percent(self.accepted.most()));
            output::note(&format!(
                "{share} of what the versions do differs, and {most} is allowed: it goes on"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests;

    #[test]
    fn what_a_rehearsal_may_show_is_no_condition_without_one() {
        for flag in ["--max-difference", "--tolerance"] {
            let (failure, asked) = tests::run(&["upgrade", "pigs", "x.app.tar", flag, "1%"], Vec::new());
            assert_eq!((failure.status(), asked.len()), (2, 0), "{failure}");
            assert!(failure.to_string().contains("--rehearse TIME"), "{failure}");
        }
    }

    #[test]
    fn a_share_is_a_percentage() {
        let share = |text: &str| text.parse::<Share>().map(|share| share.0);
        assert_eq!(share("0"), Ok(0.0));
        assert_eq!(share("0.5%"), Ok(0.005));
        assert_eq!(share("25 %"), Ok(0.25));
        for wrong in ["", "%", "101%", "-1", "-1%", "NaN", "NaN%", "101"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        for bare in ["0.5", "1", "50"] {
            let said = share(bare).unwrap_err();
            assert!(said.contains(&format!("write {bare}%")), "{said}");
        }
    }
}
