//! `ironloom show`.

use std::fmt::Write as _;

use clap::Args;

use super::client::segment;
use super::failure::Outcome;
use super::{Global, grants, install, output, status};
use crate::api::facade::{
    Installation, InstallationState, Lag, LastError, NeverUsed, PartialLimits, PendingRevision, RefusedRight,
    TimerError, Trial, WentBack,
};
use ironloom_apps::grants::{Mode, OutputGrant};
use ironloom_types::ids::InstallationId;
use ironloom_types::text::clean;

/// Shows one installation.
#[derive(Args, Debug)]
pub(super) struct Show {
    /// The installation
    id: String,
    /// Print it as the file that `install --with` and `set --with` take
    #[arg(long)]
    install_file: bool,
}

impl Show {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        let path = format!("/v1/installations/{}", segment(&self.id));
        let answer = client.get(&path, &[])?;
        if self.install_file {
            return output::print(&install::file::write(&answer.read()?));
        }
        if global.json {
            return output::json(&answer);
        }
        let unused: NeverUsed = client.get(&format!("{path}/never-used"), &[])?.read()?;
        output::one(global, &answer, |item: Installation| text(&item) + &grants::lines(&unused))
    }
}

/// The word for a state, or all of one that is quarantined and paused, or held by the kill switch.
pub(super) fn state(item: &Installation) -> String {
    let both = item.paused && item.state != InstallationState::Paused;
    let paused = if both { ", paused" } else { "" };
    format!("{}{paused}{}", item.state.name(), if item.halted { ", halted" } else { "" })
}

/// The version that runs, whether nobody vouches for it, and whether a catalog is against it.
pub(super) fn version(item: &Installation) -> String {
    let unsigned = if item.signers.is_empty() { ", unsigned" } else { "" };
    let waits = if item.waits_for_consent.is_some() { ", upgrade waits" } else { "" };
    let against = if item.against.is_some() { ", blocked" } else { "" };
    format!("{}{unsigned}{against}{waits}", item.version)
}

/// How many readings wait.
pub(super) fn behind(lag: &Lag) -> String {
    format!("{}{}", if lag.at_most { "at most " } else { "" }, lag.readings)
}

/// An installation, a fact on each line.
pub(super) fn text(item: &Installation) -> String {
    let mut out = String::new();
    // Writing into a String doesn't fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<14}{}", clean(&value));
    };
    line("id", item.id.to_string());
    line("app", format!("{} {}", item.app, version(item)));
    line("package", item.package.to_string());
    item.against.iter().for_each(|against| line("blocked", against.clone()));
    item.waits_for_consent.iter().for_each(|version| line("upgrade", waiting(version, &item.id)));
    item.signers.iter().for_each(|key| line("signed by", key.to_string()));
    line("state", format!("{}, revision {}, generation {}", state(item), item.revision, item.generation));
    for PendingRevision { revision, from, version } in &item.pending_revisions {
        let with = version.as_ref().map_or_else(String::new, |version| format!(" with version {version}"));
        line("", format!("readings wait for revision {revision}{with}, which holds from sequence {from} on"));
    }
    let lag = &item.lag;
    let readings = if lag.readings == 1 { "reading" } else { "readings" };
    line("cursor", format!("{}, {} {readings} and {:.1} s behind", item.cursor, behind(lag), lag.seconds));
    upgraded(item, &mut line);
    if let Some(through) = item.holds_back_through {
        line(
            "",
            format!(
                "what it derives through sequence {through} was published before it was reset or rolled back, and isn't again"
            ),
        );
    }
    if let Some(expires) = lag.expires {
        line("", format!("the oldest waiting reading is past the journal's retention at {expires}"));
    }
    if let Some(room) = &item.waits_for {
        line("waits for", room.clone());
    }
    if let Some(error) = &item.last_error {
        line(
            "last error",
            format!("{} at {}: {} (invocation {})", error.kind, error.at, error.message, error.ordinal),
        );
    }
    if item.state == InstallationState::Quarantined {
        line("", format!("it runs nothing until `ironloom resume {}`", item.id));
    }
    if let Some(TimerError { timer, error }) = &item.last_timer_error {
        let LastError { kind, at, message, ordinal } = error;
        line("timer error", format!("{timer}: {kind} at {at}: {message} (invocation {ordinal})"));
    }
    uses(item, &mut line);
    work(item, &mut line);
    for (name, patterns) in &item.bindings {
        line("binding", format!("{name} = {}", patterns.as_slice().join(", ")));
    }
    if item.grants.mode != Mode::default() {
        line("mode", item.grants.mode.to_string());
    }
    for (name, grant) in &item.grants.outputs {
        line("grant", format!("{name} = {}", granted(grant)));
    }
    for (name, value) in &item.settings {
        line("setting", format!("{name} = {value}"));
    }
    line("limits", limits(item.limits));
    item.refused.iter().for_each(|one| line(if one.held { "still has" } else { "refused" }, not_given(one)));
    line("time zone", item.timezone.clone());
    if item.keep_up {
        line("keep up", "sources are slowed where it is behind by more than ingest.max_lag".to_owned());
    }
    out
}

/// A right that it doesn't have, and why.
fn not_given(refused: &RefusedRight) -> String {
    format!("{}: {}", refused.text, refused.by.words())
}

/// An upgrade that waits.
fn waiting(version: &str, id: &InstallationId) -> String {
    format!("to version {version} waits for consent: `ironloom consents show {id}`")
}

/// An upgrade that may be rolled back, or was.
fn upgraded(item: &Installation, line: &mut impl FnMut(&str, String)) {
    if let Some(Trial { version, until, cursor, .. }) = &item.trial {
        let id = &item.id;
        line(
            "upgraded",
            format!("from version {version}, at sequence {}; final from {until} on", cursor.next()),
        );
        line(
            "",
            format!(
                "until then `ironloom rollback {id}` goes back, and `ironloom commit {id}` makes it final"
            ),
        );
    }
    if let Some(WentBack { at, from, reason }) = &item.went_back {
        let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        line("rolled back", format!("from version {from} at {at}{reason}"));
    }
}

/// The part of the machine that it takes, once it has run.
fn uses(item: &Installation, line: &mut impl FnMut(&str, String)) {
    let (rate, counters) = (&item.rate, &item.counters);
    if counters.invocations == 0 {
        return;
    }
    if rate.over > 0.0 {
        let (readings, cpu) = (rate.readings, rate.cpu * 100.0);
        line("rate", format!("{readings:.1} readings and {cpu:.1} % of a processor over {:.0} s", rate.over));
    }
    let cpu = counters.cpu_nanos as f64 / 1e9;
    line(
        "cpu",
        format!("{cpu:.1} s, and at most {} of memory for a call", status::size(counters.peak_memory)),
    );
    let (points, derived) = (output::counted(item.points, "point"), status::size(counters.derived_bytes));
    line("derives", format!("{points}, {derived} of readings"));
}

/// Its work so far, the size of its state, and points that it doesn't get.
fn work(item: &Installation, line: &mut impl FnMut(&str, String)) {
    let counters = &item.counters;
    let left_out = &item.left_out;
    if left_out.points > 0 {
        line("left out", format!("{}, which match an input", output::counted(left_out.points, "point")));
        for sample in &left_out.samples {
            line("", format!("{} of input {}: {}", sample.point, sample.input, sample.reason));
        }
    }
    line("invocations", format!("{}, {} failed", counters.invocations, counters.failures));
    let kept = match item.dead_letters_kept {
        kept if kept == counters.dead_letters => String::new(),
        kept => format!(", {kept} of these kept"),
    };
    let dropped = match counters.dead_letters_dropped {
        0 => String::new(),
        dropped => format!(", {dropped} of these dropped: there were too many, or too large or too old ones"),
    };
    let (readings, set_aside) = (counters.readings, counters.dead_letters);
    line("readings", format!("{readings} taken, {set_aside} set aside{kept}{dropped}"));
    if counters.missed > 0 {
        let missed = counters.missed;
        line("missed", format!("{missed} past the journal's retention before it got to them"));
    }
    line("derived", counters.derived.to_string());
    if counters.held_back > 0 {
        let held_back = counters.held_back;
        line("held back", format!("{held_back}, of readings that were dealt with before it was reset"));
    }
    let limit = item.limits.state.unwrap_or_default();
    line("state size", format!("{} of {limit}", status::size(item.state_bytes)));
    if counters.alarms_dropped > 0 {
        let dropped = output::counted(counters.alarms_dropped, "alarm");
        line(
            "alarms",
            format!("{dropped} left to the history before anybody acknowledged: there were too many"),
        );
    }
    if counters.episodes_dropped > 0 {
        let dropped = output::counted(counters.episodes_dropped, "episode");
        line(
            "history",
            format!("{dropped} of alarms dropped, the oldest first: there were too many, or too old ones"),
        );
    }
}

fn granted(grant: &OutputGrant) -> String {
    let mut text = format!("{}, toward {}", grant.allow, grant.toward);
    if grant.strict {
        text.push_str(", strict");
    }
    if let Some(every) = grant.every {
        text.push_str(&format!(", once in {every}"));
    }
    if let Some(ttl) = grant.ttl {
        text.push_str(&format!(", at most {ttl}"));
    }
    if let Some(safe) = grant.safe {
        text.push_str(&format!(", safe {safe}"));
    }
    text
}

fn limits(limits: PartialLimits) -> String {
    let PartialLimits { memory, cpu, state, share, points } = limits;
    let (memory, cpu, state) =
        (memory.unwrap_or_default(), cpu.unwrap_or_default(), state.unwrap_or_default());
    let (share, points) = (share.unwrap_or_default(), points.unwrap_or_default());
    format!("memory {memory}, cpu {cpu}, state {state}, share {share} a second, points {points}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::cli::tests::installation;
    use ironloom_types::work::Counters;

    /// An installation as it is shown, with these fields.
    fn shown(fields: Json) -> String {
        let mut item = installation(&json!({}));
        item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        text(&serde_json::from_value(item).unwrap())
    }

    fn line<'t>(text: &'t str, name: &str) -> Option<&'t str> {
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }

    #[test]
    fn what_one_has_derived_again_and_what_it_stores_is_shown() {
        let counters = Counters { derived: 2, held_back: 3, ..Counters::default() };
        let fields = json!({
            "counters": counters, "state_bytes": 162 * 1024, "limits": {"state": "64 MiB"},
        });
        let text = shown(fields);
        assert_eq!(line(&text, "derived"), Some("2"));
        assert_eq!(line(&text, "held back"), Some("3, of readings that were dealt with before it was reset"));
        assert_eq!(line(&text, "state size"), Some("162.0 KiB of 64 MiB"));
        let text = shown(json!({"limits": {"state": "1 MiB"}}));
        assert_eq!((line(&text, "held back"), line(&text, "state size")), (None, Some("0 B of 1 MiB")));
    }

    #[test]
    fn dead_letters_that_are_gone_by_now_are_told_apart() {
        let shown = |kept| {
            let counters = Counters { readings: 9, dead_letters: 2, ..Counters::default() };
            shown(json!({"counters": counters, "dead_letters_kept": kept}))
        };
        assert_eq!(line(&shown(2), "readings"), Some("9 taken, 2 set aside"));
        assert_eq!(line(&shown(1), "readings"), Some("9 taken, 2 set aside, 1 of these kept"));
    }

    #[test]
    fn one_that_is_held_by_the_kill_switch_says_so() {
        assert!(
            line(&shown(json!({"halted": true})), "state").unwrap().starts_with("running, halted, revision")
        );
        assert!(!shown(json!({})).contains("halted"));
    }

    #[test]
    fn one_in_quarantine_says_how_it_goes_on() {
        let at = "2026-12-01T08:30:00Z";
        let error = json!({"kind": "quarantine", "at": at, "message": "20 failures", "ordinal": 7});
        let told = "it runs nothing until `ironloom resume pigs`";
        let text = shown(json!({"state": "quarantined", "last_error": error}));
        let (_, behind) = text.split_once("last error").unwrap();
        assert_eq!(behind.lines().nth(1).map(str::trim), Some(told), "{text}");
        assert!(!shown(json!({"state": "waiting", "last_error": error})).contains(told));
    }
}
