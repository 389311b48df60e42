//! A package in words, for `inspect` and `packages show`.

use std::fmt::Write as _;

use super::output::{self, shorten};
use crate::api::facade::{PackageInfo, SlotInfo, TimerInfo};
use ironloom_apps::cron::Cron;
use ironloom_types::interfaces::{BASELINE, Capability, TYPES, split};
use ironloom_types::text::{clean, listed};

/// All that an app asks for, and further lines about its package, each with a name.
pub(super) fn text(package: &PackageInfo, further: &[(&str, String)]) -> String {
    let mut out = String::new();
    let imports: Vec<String> = package.imports.iter().map(|import| split(import).0.to_owned()).collect();
    let lines = [
        ("app", format!("{} {}", package.id, package.version)),
        ("name", package.name.clone()),
        ("publisher", package.publisher.clone()),
        ("description", package.description.clone()),
        ("licence", package.license.clone()),
        ("package", package.digest.to_string()),
        ("signed by", signers(package)),
        ("SDK", package.sdk.clone().unwrap_or_default()),
        ("limits", limits(package)),
        ("uses", uses(&imports)),
        ("can't reach", "files, network, environment, other processes".to_owned()),
    ];
    for (name, value) in lines.iter().chain(further) {
        if !value.is_empty() {
            // Writing into a String doesn't fail.
            let _ = writeln!(out, "{name:<14}{}", clean(value));
        }
    }
    slots(package, &mut out);
    more(package, &mut out);
    out
}

fn signers(package: &PackageInfo) -> String {
    if package.signers.is_empty() {
        return "nobody".to_owned();
    }
    listed(&package.signers)
}

/// A table under a line that says what it is; nothing without rows.
fn section<R: IntoIterator<Item = String>>(
    out: &mut String,
    title: &str,
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_some() {
        let _ = write!(out, "\n{title}\n{}", output::table(header, rows));
    }
}

fn slots(package: &PackageInfo, out: &mut String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let row = |name: &String, slot: &SlotInfo| {
        [name.clone(), slot.r#type.clone(), text(&slot.unit), text(&slot.description)]
    };
    let inputs = package.inputs.iter().map(|(name, slot)| {
        let [name, kind, unit, description] = row(name, slot);
        let bound = if slot.optional == Some(true) { "may be" } else { "must be" };
        [name, kind, unit, bound.to_owned(), description]
    });
    section(
        out,
        "Data in: the points that an admin binds to it, and no others",
        &["input", "type", "unit", "bound", "description"],
        inputs,
    );
    let is_set_point = |slot: &SlotInfo| slot.kind.as_deref() == Some("set-point");
    let outputs = |set_points: bool| {
        let of_kind = package.outputs.iter().filter(move |(_, slot)| is_set_point(slot) == set_points);
        of_kind.map(|(name, slot)| row(name, slot))
    };
    let header = ["output", "type", "unit", "description"];
    section(out, "Data out: readings that it derives", &header, outputs(false));
    section(
        out,
        "Set-points that it asks for: each needs a binding and an admin's grant",
        &header,
        outputs(true),
    );
}

fn more(package: &PackageInfo, out: &mut String) {
    let description = |text: &Option<String>| text.clone().unwrap_or_default();
    let alarms = package
        .alarms
        .iter()
        .map(|(name, alarm)| [name.clone(), alarm.severity.clone(), description(&alarm.description)]);
    section(out, "Alarms that it may raise", &["alarm", "severity", "description"], alarms);
    let timers = package.timers.iter().map(|(name, timer)| {
        [name.clone(), when(timer), timer.cron.clone(), description(&timer.description)]
    });
    section(
        out,
        "Timers, in the installation's time zone",
        &["timer", "runs", "cron", "description"],
        timers,
    );
    if package.schedule {
        let _ = writeln!(out, "\nIt sets further timers by itself, each of which runs once.");
    }
    let settings = package.settings.iter().map(|(name, setting)| {
        let default = setting.default.as_ref().map_or("must be set".to_owned(), ToString::to_string);
        [name.clone(), setting.r#type.clone(), shorten(&default), description(&setting.description)]
    });
    section(out, "Settings", &["setting", "type", "default", "description"], settings);
}

fn when(timer: &TimerInfo) -> String {
    timer.cron.parse::<Cron>().ok().and_then(|cron| cron.words()).unwrap_or_default()
}

fn limits(package: &PackageInfo) -> String {
    if package.limits.is_empty() {
        return "the defaults".to_owned();
    }
    let asked: Vec<_> = package.limits.iter().map(|(name, value)| format!("{name} {value}")).collect();
    asked.join(", ")
}

/// Its imports in words; a name that has none as it is.
fn uses(imports: &[String]) -> String {
    let known = |import: &String| Capability::ALL.into_iter().find(|one| one.interface() == import);
    let is_baseline = |import: &str| BASELINE.iter().any(|prefix| import.starts_with(prefix));
    let mut uses: Vec<String> = Vec::new();
    for import in imports.iter().filter(|import| *import != TYPES && !is_baseline(import)) {
        uses.push(known(import).map_or_else(|| import.clone(), |one| in_words(one).to_owned()));
    }
    if uses.is_empty() {
        return "nothing but its readings".to_owned();
    }
    uses.join(", ")
}

fn in_words(capability: Capability) -> &'static str {
    match capability {
        Capability::Invocation => "the time and number of its call",
        Capability::State => "state of its own",
        Capability::Outputs => "its outputs",
        Capability::Alarms => "alarms",
        Capability::Schedule => "timers that it sets itself",
        Capability::Settings => "its settings",
        Capability::Logging => "a log of its own",
    }
}
